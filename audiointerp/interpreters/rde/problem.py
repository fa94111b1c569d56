"""Rate-distortion problems (`Problem`), their solutions (`Solution`), and the measurement of both (`Query`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from audiointerp.interpreters.attribution.base import Update

Game = Literal["sufficient", "deletion"]
Outputs = Literal["target", "all"]  # the distortion is the change of the target's mean logit, or of every logit
Draw: TypeAlias = Tensor | tuple[Tensor, ...]

NOTHING = 1e-10  # a distortion this small may be rounding error

__all__ = ["Draw", "Game", "Outputs", "Problem", "Query", "Solution", "Update", "distortion", "fall"]


class Problem(ABC):
    """An input x divided into parts, each of which is kept or filled, and the scores Phi that a model gives it.

    The obfuscation is z = x * keep + filler * (1 - keep). Subclasses set `count` and write `draw` and `change`.

    Attributes:
        count: number of parts.
        device: the device of `keep`.
        deterministic: whether the filler is always the same, so that one draw suffices.
        max_batch: versions of the input that the model classifies at once; None: as many as the solver asks for.
    """

    count: int
    device: torch.device = torch.device("cpu")
    deterministic: bool = False
    max_batch: int | None = None

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Draw:
        """n random draws of the filler: a tensor or several, each (n, ...), from a generator on the CPU."""

    @abstractmethod
    def change(self, keep: Tensor, drawn: Any) -> Tensor:
        """Phi(x) - Phi(z), (n, outputs), with Phi the scores before the softmax.

        Args:
            keep: (n, count) in [0, 1]; the result is differentiable in it.
            drawn: n draws of `draw`.
        """


@dataclass(frozen=True)
class Solution:
    """The parts to keep (or, in the deletion game, to remove), and measurements of that choice.

    Attributes:
        keep: (count,) in [0, 1]: the probability to keep each part, or 0 and 1.
        order: parts in the order in which a pursuit picked (backward: dropped) them; empty for other solvers.
        empty: D(nothing kept), D the distortion 1/2 E |Phi(x) - Phi(z)|^2.
        full: D(everything kept), 0 unless the problem is ill-posed.
        end: D of `keep` rounded, over fresh draws.
        fall: E of the mean of Phi(x) - Phi(z), for `keep` rounded, over the same draws.
        rate: the mean of `chosen`, to which the penalty applies.
        saturated: share of `keep` outside [0.1, 0.9].
        penalty: lambda, the penalty at rate 1.
        history: loss at each step.
        game: "sufficient" or "deletion".
    """

    keep: Tensor
    order: Tensor
    empty: float
    full: float
    end: float
    fall: float
    rate: float
    saturated: float
    penalty: float
    history: Tensor
    game: Game = "sufficient"

    @property
    def chosen(self) -> Tensor:
        """The parts that matter: the kept parts, or in the deletion game the removed ones."""
        return self.keep if self.game == "sufficient" else 1 - self.keep


def distortion(change: Tensor) -> Tensor:
    """D of each version, 1/2 |Phi(x) - Phi(z)|^2; change (n, outputs) -> (n,)."""
    return 0.5 * change.square().sum(1)


def fall(change: Tensor) -> Tensor:
    """Fall of the score, the mean over several outputs; (n, outputs) -> (n,)."""
    return change.mean(1)


class Query:
    """The measurements of a problem that solvers use. All random numbers come from one generator on the CPU.

    Attributes:
        samples: draws over which an expectation is taken; 1 if the filler is always the same.
        drawn: the draws of the first measurement, `samples` rows.
        empty: distortion if nothing is kept; `full`: if everything is kept.
        cost_none, cost_all: cost (distortion, or the negative fall) if nothing or everything is chosen.
        penalty: lambda.
        settled: whether removing all parts changes nothing, so that no search is needed.

    Raises:
        ValueError: if the model's scores are not finite.
    """

    def __init__(
        self,
        problem: Problem,
        game: Game,
        samples: int,
        seed: int,
        weight: float,
        penalty: float | None = None,
        update: Update | None = None,
        max_batch: int | None = None,
    ):
        self.problem, self.count = problem, problem.count
        self.game: Game = game
        self.samples = 1 if problem.deterministic else samples
        self.update = update or (lambda passes: None)
        limits = [limit for limit in (problem.max_batch, max_batch) if limit is not None]
        self.max_batch = min(limits, default=None)
        self.generator = torch.Generator().manual_seed(seed)
        self.drawn = problem.draw(self.samples, self.generator)
        nothing, everything = torch.tensor([[0.0], [1.0]], device=problem.device).expand(2, self.count).split(1)
        empty, fallen = self.measure(nothing)
        # If everything is kept, nothing is filled, and one draw suffices.
        full, _ = self.measure(everything, take(self.drawn, torch.zeros(1, dtype=torch.long)))
        self.empty, self.full = float(empty), float(full)
        self.cost_none, self.cost_all = (self.empty, 0.0) if game == "sufficient" else (0.0, -float(fallen))
        self.penalty = weight * abs(self.cost_none - self.cost_all) if penalty is None else penalty
        # If removing everything changes nothing, choosing no part is the best solution at any penalty. In the deletion
        # game with a given penalty the search is still made.
        self.settled = self.empty <= NOTHING and (penalty is None or game == "sufficient")

    def keep(self, chosen: Tensor) -> Tensor:
        """Converts chosen parts to kept parts, or kept to chosen: equal, or 1 minus it in the deletion game."""
        return chosen if self.game == "sufficient" else 1 - chosen

    def cost(self, change: Tensor) -> Tensor:
        """The solver's cost without the penalty: the distortion, or the negative fall of the score; (n,)."""
        return distortion(change) if self.game == "sufficient" else -fall(change)

    @torch.no_grad()
    def measure(self, keep: Tensor, drawn: Draw | None = None) -> tuple[Tensor, Tensor]:
        """Mean distortion and fall over draws (by default the first ones) of each row of keep (n, count); each (n,)."""
        drawn = self.drawn if drawn is None else drawn
        draws = len(drawn[0] if isinstance(drawn, tuple) else drawn)
        rows = torch.arange(len(keep) * draws)
        found = []
        for some in rows.split(self.max_batch or len(rows)):
            change = self.problem.change(keep[(some // draws).to(keep.device)], take(drawn, some % draws))
            found.append(torch.stack([distortion(change), fall(change)]))
            self.update(len(some))
        both = torch.cat(found, 1).view(2, len(keep), draws).mean(2)
        if not bool(torch.isfinite(both).all()):
            raise ValueError(
                "the model gives NaN or infinite scores where parts are filled; correct the model or the filler"
            )
        return both[0], both[1]

    def missing(self, cost: float) -> float:
        """(cost - cost_all) / (cost_none - cost_all): 1 if nothing is chosen, 0 if everything is."""
        return (cost - self.cost_all) / ((self.cost_none - self.cost_all) or 1.0)

    def descend(self, parameter: Tensor, keep: Tensor, samples: int, sampled: Callable[[Tensor], Tensor]) -> Tensor:
        """Sets the parameter's gradient from fresh draws and returns the loss, mean cost + lambda * mean chosen.

        Args:
            parameter: (count,), a leaf.
            keep: (count,), to which the penalty applies.
            samples: number of draws.
            sampled: row numbers (m,) of the draws -> parts kept in each, (m, count).
        """
        drawn = self.problem.draw(samples, self.generator)
        # The scale of scores is arbitrary: gradients are divided by it, so that Adam's epsilon has the same effect.
        scale = max(abs(self.cost_none - self.cost_all), self.penalty, NOTHING)
        price = self.penalty * self.keep(keep).mean()
        gradient, total = torch.autograd.grad(price / scale, parameter)[0], price.detach()
        for rows in torch.arange(samples).split(self.max_batch or samples):
            change = self.problem.change(sampled(rows), take(drawn, rows))
            cost = self.cost(change).sum() / samples
            if not cost.requires_grad:
                raise ValueError("no gradient of the model's scores reaches its input; take the solver MatchingPursuit")
            gradient = gradient + torch.autograd.grad(cost / scale, parameter)[0]
            total = total + cost.detach()
            self.update(3 * len(rows))
        parameter.grad = gradient
        return total

    def solution(self, keep: Tensor, order: list[int], history: list[Tensor]) -> Solution:
        """The solution, measured on fresh draws."""
        if not bool(torch.isfinite(keep).all()):
            raise ValueError("a gradient of the model's scores is NaN or infinite; is there a root or logarithm of 0?")
        rounded = (keep > 0.5).to(keep.dtype)
        end, fallen = self.measure(rounded[None], self.problem.draw(self.samples, self.generator))
        return Solution(
            keep=keep,
            order=torch.tensor(order, dtype=torch.long, device=keep.device),
            empty=self.empty,
            full=self.full,
            end=float(end),
            fall=float(fallen),
            rate=float(self.keep(keep).mean()),
            saturated=float(((keep < 0.1) | (keep > 0.9)).float().mean()),
            penalty=self.penalty,
            history=torch.stack(history).cpu() if history else torch.zeros(0),
            game=self.game,
        )


def take(drawn: Draw, rows: Tensor) -> Draw:
    """The draws of the given row numbers."""
    if isinstance(drawn, tuple):
        return tuple(each[rows.to(each.device)] for each in drawn)
    return drawn[rows.to(drawn.device)]
