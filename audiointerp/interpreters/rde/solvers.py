"""Three solvers of rate-distortion problems: the concrete relaxation, a relaxed mask, and matching pursuit.

For the objective that they minimise see `audiointerp.interpreters.rde`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, get_args

import torch
from torch import Tensor

from audiointerp.interpreters.rde.problem import (
    Draw,
    Game,
    Problem,
    Query,
    Solution,
    Update,
    distortion,
    take,
)

Corner = tuple[int, int]

__all__ = [
    "Concrete",
    "Corner",
    "MatchingPursuit",
    "Relaxed",
    "Solver",
    "best_corner",
    "corners",
    "rate_distortion_curve",
]


class Solver(ABC):
    """Finds the parts that matter; subclasses are frozen dataclasses, so that recipes can construct them.

    Attributes:
        samples: fillers drawn for an expectation; only 1 is drawn if the filler is always the same.
        weight: lambda as a share of D(nothing kept), or in the deletion game of the fall of the score there.
        penalty: lambda itself, instead of `weight`.
        game: "sufficient" or "deletion".
        seed: of all draws.
        needs_gradient: whether the search follows gradients of the scores.
    """

    needs_gradient: ClassVar[bool] = True
    samples: int
    weight: float
    penalty: float | None
    game: Game
    seed: int

    def solve(self, problem: Problem, update: Update | None = None) -> Solution:
        """Finds the parts that matter. If removing all parts changes nothing, none matters and there is no search.

        Args:
            problem: the problem to solve.
            update: called with the number of passes since its last call, for a progress bar.

        Raises:
            ValueError: if the model's scores or their gradients are not finite.
        """
        query = Query(
            problem,
            self.game,
            self.samples,
            self.seed,
            self.weight,
            self.penalty,
            update,
            getattr(self, "max_batch", None),
        )
        if query.settled:
            return query.solution(query.keep(torch.zeros(problem.count, device=problem.device)), [], [])
        return query.solution(*self._search(query))

    @abstractmethod
    def passes(self, count: int, deterministic: bool = False) -> int:
        """Largest number of forward passes for `count` parts; a backward pass counts as two more."""

    @abstractmethod
    def _search(self, query: Query) -> tuple[Tensor, list[int], list[Tensor]]:
        """The fields keep (count,), order and history of a solution."""

    def _ends(self, deterministic: bool) -> int:
        """Passes for D(nothing kept), D(everything kept) and D of the solution."""
        return 2 * (1 if deterministic else self.samples) + 1


@dataclass(frozen=True)
class Concrete(Solver):
    """Each part is kept with a probability theta, found by gradients through the concrete relaxation.

    As section 2 of Heiss et al., with the relaxation of Maddison et al. (2017), https://arxiv.org/abs/1611.00712:
    s = sigmoid((logit theta + log u - log(1 - u)) / t). Ours, not theirs: the penalty is on theta instead of the
    sampled s, with almost the same mean and less variance; logit theta starts at 0 and is clamped to [-limit, limit],
    since beyond it the gradient vanishes. Their 10^6 steps at a learning rate of 10^-5 become 300 at 0.1.

    Args:
        steps, lr: of Adam on logit theta.
        samples: masks and fillers per step, classified in one batch unless the problem has a smaller `max_batch`.
        temperature: t.
        weight, penalty, game, seed: see `Solver`.
        limit: largest |logit theta|.
    Raises:
        ValueError: for a setting outside its range.
    """

    steps: int = 300
    lr: float = 0.1
    samples: int = 16
    temperature: float = 0.1
    weight: float = 0.5
    penalty: float | None = None
    game: Game = "sufficient"
    limit: float = 6.0
    seed: int = 0

    def __post_init__(self):
        _check(self, ("steps", "samples"), ("lr", "temperature", "limit"))

    def passes(self, count: int, deterministic: bool = False) -> int:
        """Three per step and sample, and those of `_ends`. Masks are random even if the filler is always the same."""
        return 3 * self.steps * self.samples + self._ends(deterministic)

    def _search(self, query: Query) -> tuple[Tensor, list[int], list[Tensor]]:
        logit = torch.zeros(query.count, device=query.problem.device, requires_grad=True)
        adam = torch.optim.Adam([logit], lr=self.lr)
        history = []
        for _ in range(self.steps):
            u = torch.rand(self.samples, query.count, generator=query.generator).clamp(1e-6, 1 - 1e-6)
            noise = u.log() - (-u).log1p()
            with torch.enable_grad():
                theta = logit.sigmoid()
                loss = query.descend(
                    logit, theta, self.samples, lambda rows, noise=noise: self._mask(logit, noise[rows])
                )
            adam.step()
            with torch.no_grad():
                logit.clamp_(-self.limit, self.limit)
            history.append(loss)
        return logit.detach().sigmoid(), [], history

    def _mask(self, logit: Tensor, noise: Tensor) -> Tensor:
        return ((logit + noise.to(logit.device)) / self.temperature).sigmoid()


@dataclass(frozen=True)
class Relaxed(Solver):
    """Optimises s itself, relaxed to [0, 1], by gradients: MacDonald et al.'s relaxation of equation 1.

    Starts with every part chosen (kept; in the deletion game, removed), as CartoonX does
    (https://arxiv.org/abs/2110.03485): at first only the penalty has a gradient, which reduces s, then the distortion
    opposes it at the parts that matter.

    Args:
        steps, lr: of Adam; s is clamped to [0, 1] after each step.
        samples, weight, penalty, game, seed: see `Solver`.
    Raises:
        ValueError: for a setting outside its range.
    """

    steps: int = 300
    lr: float = 0.02
    samples: int = 16
    weight: float = 0.5
    penalty: float | None = None
    game: Game = "sufficient"
    seed: int = 0

    def __post_init__(self):
        _check(self, ("steps", "samples"), ("lr",))

    def passes(self, count: int, deterministic: bool = False) -> int:
        """Three per step and sample, and those of `_ends`."""
        return 3 * self.steps * (1 if deterministic else self.samples) + self._ends(deterministic)

    def _search(self, query: Query) -> tuple[Tensor, list[int], list[Tensor]]:
        start = query.keep(torch.ones(query.count, device=query.problem.device))
        keep = start.requires_grad_()
        adam = torch.optim.Adam([keep], lr=self.lr)
        history = []
        for _ in range(self.steps):
            with torch.enable_grad():
                loss = query.descend(keep, keep, query.samples, lambda rows: keep.expand(len(rows), -1))
            adam.step()
            with torch.no_grad():
                keep.clamp_(0, 1)
            history.append(loss)
        return keep.detach(), [], history


@dataclass(frozen=True)
class MatchingPursuit(Solver):
    """Chooses parts one by one, each time the part that reduces the cost most, with the same filler draws throughout.

    Each step tries every part that is left, which is feasible for few parts only. The search stops after `picks` parts,
    at `tolerance`, or when the best part reduces the cost by less than its penalty, lambda / count. It needs no
    gradient.

    Args:
        samples, weight, penalty, game, seed: see `Solver`.
        picks: largest number of parts chosen; None: all that reduce the cost by more than their penalty.
        tolerance: stop when the distortion is at most this share of D(nothing kept) (deletion: when at most this share
            of the largest fall is missing).
        backward: start with all parts chosen and drop, at each step, the part whose loss increases the cost least;
            better if no single part suffices. Parts are dropped while that costs less than lambda / count and stays
            within `tolerance` (if above 0), and in any case until `picks` parts are left.
        max_batch: versions classified at once.
    Raises:
        ValueError: for a setting outside its range.
    """

    needs_gradient = False
    samples: int = 16
    weight: float = 0.5
    penalty: float | None = None
    picks: int | None = None
    tolerance: float = 0.0
    game: Game = "sufficient"
    backward: bool = False
    max_batch: int = 64
    seed: int = 0

    def __post_init__(self):
        _check(self, ("samples", "max_batch") if self.picks is None else ("samples", "max_batch", "picks"), ())
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"MatchingPursuit has tolerance {self.tolerance}; it is a share, from 0 to below 1")

    def passes(self, count: int, deterministic: bool = False) -> int:
        """At each step one per part left and sample, and those of `_ends`."""
        steps = count if self.picks is None else min(self.picks, count)
        tried = range(steps + 1, count + 1) if self.backward and self.picks is not None else range(1, count + 1)
        if not self.backward:
            tried = range(count - steps + 1, count + 1)
        return sum(tried) * (1 if deterministic else self.samples) + self._ends(deterministic)

    def _search(self, query: Query) -> tuple[Tensor, list[int], list[Tensor]]:
        chosen = torch.full((query.count,), float(self.backward), device=query.problem.device)
        cost = query.cost_all if self.backward else query.cost_none
        order: list[int] = []
        history = [self._loss(query, cost, chosen)]
        while (left := (chosen == float(self.backward)).nonzero()[:, 0]).numel():
            if not self.backward and len(order) == self.picks:
                break
            tried = chosen.repeat(len(left), 1)
            tried[torch.arange(len(left), device=tried.device), left] = float(not self.backward)
            worst, fallen = query.measure(query.keep(tried))
            costs = worst if self.game == "sufficient" else -fallen
            best = int(costs.argmin())
            if self._stops(query, cost, float(costs[best]), len(left)):
                break
            cost, chosen = float(costs[best]), tried[best]
            order.append(int(left[best]))
            history.append(self._loss(query, cost, chosen))
            if not self.backward and self.tolerance > 0 and query.missing(cost) <= self.tolerance:
                break
        return query.keep(chosen), order, history

    def _stops(self, query: Query, cost: float, best: float, left: int) -> bool:
        """Whether to stop before the best step; `left` parts are not chosen yet (backward: still chosen)."""
        price = query.penalty / query.count
        if not self.backward:
            return cost - best < price
        enough = self.picks is None or left <= self.picks
        return enough and (best - cost > price or 0 < self.tolerance < query.missing(best))

    @staticmethod
    def _loss(query: Query, cost: float, chosen: Tensor) -> Tensor:
        return torch.tensor(cost + query.penalty * float(chosen.mean()))


def _check(solver: Solver, whole: Sequence[str], positive: Sequence[str]) -> None:
    """Raises ValueError for a setting outside its range: `whole` are integers of at least 1, `positive` above 0."""
    name = type(solver).__name__
    if solver.game not in get_args(Game):
        raise ValueError(f"{name} has game {solver.game!r}; choose 'sufficient' or 'deletion'")
    for each in whole:
        value = getattr(solver, each)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} has {each} {value}; give a whole number, 1 or more")
    for each in positive:
        if not 0 < getattr(solver, each) < math.inf:
            raise ValueError(f"{name} has {each} {getattr(solver, each)}; give a number above 0")
    for each, value in (("weight", solver.weight), ("penalty", solver.penalty)):
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} has {each} {value}; give 0 or more")


def rate_distortion_curve(
    problem: Problem,
    solver: Concrete | Relaxed | MatchingPursuit,
    weights: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    update: Update | None = None,
) -> list[Solution]:
    """Solutions at several penalties lambda = weight * D(nothing kept): points (rate, distortion) of a curve.

    Raises:
        ValueError: as `Solver.solve`; for a negative weight.
    """
    return [replace(solver, weight=weight, penalty=None).solve(problem, update) for weight in weights]


@torch.no_grad()
def corners(
    problem: Problem, samples: int = 16, seed: int = 0, drawn: Draw | None = None, max_batch: int | None = None
) -> dict[Corner, float]:
    """D of all four ways to keep two parts, {(0, 0): D(nothing), (1, 0): ..., (0, 1): ..., (1, 1): D(everything)}.

    With two parts, enumeration is exact: the expected loss is linear in each probability to keep a part, so its minimum
    is at a corner (see `best_corner`). All four corners use the same draws.

    Args:
        problem: of two parts.
        samples, seed: of the draws.
        drawn: draws to use instead.
        max_batch: versions classified at once.
    Raises:
        ValueError: if there are not two parts, or no sample.
    """
    if problem.count != 2 or samples < 1:
        raise ValueError(f"corners of {problem.count} parts with {samples} samples; give 2 parts and at least 1 sample")
    if drawn is None:
        drawn = problem.draw(1 if problem.deterministic else samples, torch.Generator().manual_seed(seed))
    rows = torch.arange(len(drawn[0] if isinstance(drawn, tuple) else drawn))
    pieces = [take(drawn, some) for some in rows.split(max_batch or len(rows))]
    first = [take(drawn, rows[:1])]  # if everything is kept, the filler has no effect
    made = {}
    for corner in product((0, 1), repeat=2):
        keep = torch.tensor([corner], dtype=torch.float32, device=problem.device)
        costs = [
            distortion(problem.change(keep.expand(len(some[0] if isinstance(some, tuple) else some), 2), some))
            for some in (first if all(corner) else pieces)
        ]
        made[corner] = float(torch.cat(costs).double().mean())
    return made


def best_corner(values: dict[Corner, float], penalty: float) -> Corner:
    """The corner with the smallest D + penalty * share of parts kept.

    >>> best_corner({(0, 0): 10.0, (1, 0): 9.0, (0, 1): 1.0, (1, 1): 0.0}, penalty=5.0)
    (0, 1)
    """
    return min(values, key=lambda corner: values[corner] + penalty * sum(corner) / 2)
