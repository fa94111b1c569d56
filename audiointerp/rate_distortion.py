"""Rate-distortion explanations: the fewest parts of an input that must stay for a model's scores to stay.

MacDonald et al. (2019), https://arxiv.org/abs/1905.11092; with plausible fillers, Heiss et al. (2020),
https://arxiv.org/abs/2007.00758, equation 1: min over s of 1/2 E |Phi(x) - Phi(z)|^2 + lambda |s|, z = x s + n (1 - s).
A `Problem` says what the parts are; `Concrete`, `Relaxed` and `MatchingPursuit` look for those that matter.

Two games (Chang et al., 2019, https://arxiv.org/abs/1807.08024): "sufficient", the fewest parts that, kept, keep the
scores; "deletion", the fewest that, taken away, bring the asked score down: min of lambda |1 - s| - E[Phi(x) - Phi(z)].

|s| is the mean over the parts (a sum of a thousand would dwarf any distortion), and lambda = `weight` times what is at
stake, D(nothing kept) or the fall of the score there, for logits have no fixed scale.

>>> class Weighted(Problem):
...     count = 3
...     def draw(self, n, generator):
...         return torch.randn(n, 3, generator=generator)
...     def change(self, keep, drawn):
...         return ((1 - keep) * drawn * torch.tensor([0.1, 5.0, 0.2])).sum(1, keepdim=True)
>>> MatchingPursuit().solve(Weighted()).order
tensor([1])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch

from audiointerp.interpreters.rde.problem import (
    Draw,
    Game,
    Problem,
    Solution,
    Update,
    distortion,
    fall,
    take,
)
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed, Solver

Corner = tuple[int, int]

__all__ = [
    "Concrete",
    "Draw",
    "Game",
    "MatchingPursuit",
    "Problem",
    "Relaxed",
    "Solution",
    "Solver",
    "Update",
    "best_corner",
    "corners",
    "distortion",
    "fall",
    "rate_distortion_curve",
]


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
