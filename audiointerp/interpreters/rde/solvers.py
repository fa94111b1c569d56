"""Three ways to find the parts that matter: by the concrete relaxation, by a relaxed mask, and by matching pursuit.

What they minimise stands in `audiointerp.interpreters.rde`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args

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
    """What looks for the parts that matter; subclasses are frozen dataclasses, made from a recipe as they are.

    Attributes:
        samples: fillers drawn for an expectation. Where the filler is always the same, 1 is drawn.
        weight: lambda as a share of D(nothing kept), or in the deletion game of the fall of the score there.
        penalty: lambda itself, instead.
        game: "sufficient" or "deletion".
        seed: of everything drawn.
    """

    samples: int
    weight: float
    penalty: float | None
    game: Game
    seed: int

    def solve(self, problem: Problem, update: Update | None = None) -> Solution:
        """The parts that matter. Where removing everything changes nothing, none does, and nothing is searched.

        Args:
            problem: what is explained.
            update: called with the number of passes done since it was last called, for a progress bar.

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
        """Forward passes for so many parts, at most; a backward pass counts as two more."""

    @abstractmethod
    def _search(self, query: Query) -> tuple[Tensor, list[int], list[Tensor]]:
        """keep (count,), order and history of a solution."""

    def _ends(self, deterministic: bool) -> int:
        """Passes for D(nothing kept), D(everything kept) and the end's."""
        return 2 * (1 if deterministic else self.samples) + 1


@dataclass(frozen=True)
class Concrete(Solver):
    """Each part is kept with a probability theta, found by gradients through the concrete relaxation.

    As section 2 of Heiss et al.; the relaxation: Maddison et al. (2017), https://arxiv.org/abs/1611.00712:
    s = sigmoid((logit theta + log u - log(1 - u)) / t). Ours, not theirs: the price is on theta, not on the sampled s,
    which has almost the same mean and less variance; logit theta starts at 0, and stays within `limit` of it, as
    beyond there is no gradient that leads back. Their 10^6 steps at 10^-5 become 300 at 0.1.

    Args:
        steps, lr: of Adam on logit theta.
        samples: masks and fillers a step, heard together unless the problem says how many may be.
        temperature: t.
        weight, penalty, game, seed: see `Solver`.
        limit: of |logit theta|.
    Raises:
        ValueError: for settings that make no sense.
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
        """Three a step and sample, and the ends'. Masks are random even where the filler is not."""
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
    """s itself, relaxed to [0, 1], by gradients: MacDonald et al.'s relaxation of equation 1.

    Starts with every part chosen (kept; in the deletion game, taken away), as in CartoonX
    (https://arxiv.org/abs/2110.03485): the price alone then pulls at first, and what is missed pulls back.

    Args:
        steps, lr: of Adam, after each step of which s is clamped.
        samples, weight, penalty, game, seed: see `Solver`.
    Raises:
        ValueError: for settings that make no sense.
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
        """Three a step and sample, and the ends'."""
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
    """Part by part, always the one that helps most, over a fixed set of fillers (common random numbers).

    Every part that is left is tried each time: for few parts. It stops at `picks` parts, at `tolerance`, or when the
    best part helps less than it costs, lambda / count. No gradient is needed.

    Args:
        samples, weight, penalty, game, seed: see `Solver`.
        picks: most parts chosen; None: as many as are worth their price.
        tolerance: share of D(nothing kept) that is good enough (deletion: of the fall that may be missing).
        backward: start with all parts chosen and drop, each time, the one that is missed least: better where no part
            suffices by itself. Drops while that costs less than lambda / count and stays within `tolerance` (if above
            0), and in any case until `picks` are left.
        max_batch: versions heard at once.
    Raises:
        ValueError: for settings that make no sense.
    """

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
        """One a part left and sample at each step, and the ends'."""
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
        """Whether the best step is not worth making, `left` parts being free to be picked (backward: still chosen)."""
        price = query.penalty / query.count
        if not self.backward:
            return cost - best < price
        enough = self.picks is None or left <= self.picks
        return enough and (best - cost > price or 0 < self.tolerance < query.missing(best))

    @staticmethod
    def _loss(query: Query, cost: float, chosen: Tensor) -> Tensor:
        return torch.tensor(cost + query.penalty * float(chosen.mean()))


def _check(solver: Solver, whole: Sequence[str], positive: Sequence[str]) -> None:
    """Raises ValueError for settings that make no sense: `whole` at least 1, `positive` above 0."""
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
            raise ValueError(f"{name} has {each} {value}; what a part costs is 0 or more")


def rate_distortion_curve(
    problem: Problem,
    solver: Concrete | Relaxed | MatchingPursuit,
    weights: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    update: Update | None = None,
) -> list[Solution]:
    """A solution at each price, lambda = weight * D(nothing kept): what distortion each rate buys.

    Raises:
        ValueError: as `Solver.solve`; for a negative weight.
    """
    return [replace(solver, weight=weight, penalty=None).solve(problem, update) for weight in weights]


@torch.no_grad()
def corners(
    problem: Problem, samples: int = 16, seed: int = 0, drawn: Draw | None = None, max_batch: int | None = None
) -> dict[Corner, float]:
    """D of all four ways to keep two parts, {(0, 0): D(nothing), (1, 0): ..., (0, 1): ..., (1, 1): D(everything)}.

    With two parts enumeration is exact: the expected loss is linear in each probability, so its minimum is a corner
    (see `best_corner`). All four share their draws.

    Args:
        problem: of two parts.
        samples, seed: of the draws.
        drawn: draws to use instead.
        max_batch: versions heard at once.
    Raises:
        ValueError: if there are not two parts, or no sample.
    """
    if problem.count != 2 or samples < 1:
        raise ValueError(f"corners of {problem.count} parts over {samples} samples; there must be 2 parts, 1 sample")
    if drawn is None:
        drawn = problem.draw(1 if problem.deterministic else samples, torch.Generator().manual_seed(seed))
    rows = torch.arange(len(drawn[0] if isinstance(drawn, tuple) else drawn))
    pieces = [take(drawn, some) for some in rows.split(max_batch or len(rows))]
    first = [take(drawn, rows[:1])]  # where everything is kept, no filler shows
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
    """The corner of least D + penalty * share kept.

    >>> best_corner({(0, 0): 10.0, (1, 0): 9.0, (0, 1): 1.0, (1, 1): 0.0}, penalty=5.0)
    (0, 1)
    """
    return min(values, key=lambda corner: values[corner] + penalty * sum(corner) / 2)
