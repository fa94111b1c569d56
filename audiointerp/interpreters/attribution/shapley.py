"""Shapley values of a clip's parts: each part's fair share of the difference between the whole clip and nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from audiointerp.interpreters.attribution.base import Details, Removed, Score, ToMask, check_filler
from audiointerp.interpreters.attribution.parts import OverParts, game_of, weighted_shares
from audiointerp.interpreters.base import Scene
from audiointerp.sound.components import Parts
from audiointerp.sound.masking import AttributionMask

Worth = Callable[[Tensor], Tensor]  # parts kept (n, count), 0 or 1 -> values (n,)
Estimator = Literal["kernel", "permutation"]

LEAST_ORDERS = 4  # two pairs, so that their spread tells the standard error

__all__ = ["Shapley", "all_selections", "exact_values", "kernel_values", "permutation_values"]


@dataclass(eq=False, repr=False)
class Shapley(OverParts):
    """Shapley values of the parts in the game "the target's logit when only these parts are kept".

    Shapley (1953), "A value for n-person games": the only shares that add up to y(clip) - y(nothing) (efficiency), are
    equal for parts that always act alike (symmetry), are 0 for parts that never change anything (dummy), and add up for
    sums of logits. Up to `exact_parts` parts, every selection of parts is classified and the values are exact; for
    more, they are estimated from `n_samples` selections by one of

    - "kernel": KernelSHAP, Lundberg & Lee (2017), https://arxiv.org/abs/1705.07874, theorem 2: the linear model of the
      logit with the Shapley kernel's weights, under the constraint of efficiency. The smallest and largest selections
      are enumerated as far as `n_samples` goes; the others are drawn together with their complements, as in Covert &
      Lee (2021), https://arxiv.org/abs/2012.01536;
    - "permutation": the mean gain of a part over random orders of all parts, Castro et al. (2009),
      https://doi.org/10.1016/j.cor.2008.04.004, each order together with its reverse, Mitchell et al. (2022),
      https://arxiv.org/abs/2104.12199.

    Both keep efficiency exactly. The mask keeps the parts with positive values, in proportion to them.

    `details`: "values" (batch, parts); "standard_error" (batch, parts) of the estimate by permutations, 0 where values
    are exact (not given by "kernel"); "completeness" (batch,), |sum of values - (y(clip) - y(nothing))| over
    |y(clip) - y(nothing)|, which is 0 up to rounding.

    Args:
        classifier, domain, max_batch: see `Attribution`.
        to_mask: attribution -> mask; by default without smoothing, since parts are larger than single bins.
        parts, tiles, n_components, dictionary, n_segments, margin: see `OverParts`.
        exact_parts: largest number of parts for which every selection is classified, at most 16.
        estimator: for more parts, "kernel" or "permutation".
        n_samples: number of selections classified if there are more parts. "permutation" takes whole pairs of orders,
            at least two pairs.
        filler: magnitude of a part that is left out, "silence" or "noise_floor".
        seed: of the draws and of the NMF's start; the same for each clip.
    Raises:
        ValueError: for unknown parts, an unknown estimator or filler, no sample, or more than 16 parts exactly.
    """

    same_versions: ClassVar[bool] = True
    to_mask: ToMask = field(default_factory=lambda: AttributionMask(smooth=1))
    parts: Parts = "nmf"
    exact_parts: int = 12
    estimator: Estimator = "kernel"
    n_samples: int = 512
    filler: Removed = "silence"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        if not 0 <= self.exact_parts <= 16:
            raise ValueError(f"exact_parts is {self.exact_parts}; 2^parts selections are classified: give 0 to 16")
        if self.estimator not in get_args(Estimator) or self.n_samples < 1:
            raise ValueError(
                f"estimator is {self.estimator!r}, n_samples {self.n_samples}; choose 'kernel' or 'permutation' and at "
                "least 1 sample"
            )
        check_filler(self.filler)

    @property
    def passes(self) -> int:
        """One per selection."""
        count = self.split.count
        if count <= max(self.exact_parts, 1):
            return 2**count
        if self.estimator == "permutation":
            return 2 + _orders(count, self.n_samples) * (count - 1)
        enumerated, drawn = _plan(count, self.n_samples)
        return 2 + sum(math.comb(count, size) for size in enumerated) + 2 * drawn

    @torch.no_grad()
    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Sum over the parts of the part's share of each bin times the part's value."""
        components = self.once(clip, "parts", lambda: self.split(clip.stft, self.seed))
        count, whole = components.count, game_of(components, score, self.filler)

        def game(kept: Tensor) -> Tensor:
            pieces = kept.to(clip.stft.device).split(self.max_batch)
            return torch.cat([whole(some) for some in pieces]).double().cpu()

        generator, details = torch.Generator().manual_seed(self.seed), {}
        if count <= max(self.exact_parts, 1):
            heard = game(all_selections(count))
            nothing, everything, values = heard[0], heard[-1], exact_values(heard)
            details["standard_error"] = torch.zeros_like(values)
        else:
            nothing, everything = game(torch.tensor([[0.0], [1.0]]).expand(2, count))
            if self.estimator == "kernel":
                values = kernel_values(game, nothing, everything, count, self.n_samples, generator)
            else:
                made = permutation_values(game, nothing, everything, count, self.n_samples, generator)
                values, details["standard_error"] = made
        change = everything - nothing
        details |= {"values": values, "completeness": (values.sum() - change).abs() / change.abs().clamp(min=1e-6)}
        attribution = weighted_shares(components, values)
        return attribution, {name: each.to(attribution)[None] for name, each in details.items()}


def all_selections(count: int) -> Tensor:
    """Every selection of parts, (2^count, count) of 0 and 1; in row s, part k is kept if bit k of s is set.

    >>> all_selections(2)
    tensor([[0., 0.],
            [1., 0.],
            [0., 1.],
            [1., 1.]])
    """
    return (torch.arange(2**count)[:, None] >> torch.arange(count) & 1).float()


def exact_values(values: Tensor) -> Tensor:
    """Shapley values, (count,), of a game given by the value of every selection in the order of `all_selections`.

    phi_k = sum over the selections S without k of |S|! (n - |S| - 1)! / n! times (v(S and k) - v(S)).

    Args:
        values: (2^count,).

    >>> exact_values(torch.tensor([0.0, 1.0, 2.0, 7.0]))  # together two parts are worth 4 more than alone
    tensor([3., 4.], dtype=torch.float64)
    """
    count = len(values).bit_length() - 1
    index, values = torch.arange(len(values)), values.double().cpu()
    size = all_selections(count).sum(1).long()
    weight = torch.tensor([1 / (count * math.comb(count - 1, each)) for each in range(count)], dtype=torch.float64)
    made = []
    for part in range(count):
        without = index[(index >> part & 1) == 0]
        made.append((weight[size[without]] * (values[without + 2**part] - values[without])).sum())
    return torch.stack(made)


def permutation_values(
    game: Worth, nothing: Tensor, everything: Tensor, count: int, n_samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Shapley values (count,) as mean gains over random orders and their reverses, and their standard errors (count,).

    Args:
        game: parts kept -> values.
        nothing, everything: its values with no part and with all parts, scalars.
        count: number of parts, at least 2.
        n_samples: number of selections to evaluate; at least two pairs of orders are drawn.
        generator: of the orders.
    """
    half = torch.stack([torch.randperm(count, generator=generator) for _ in range(_orders(count, n_samples) // 2)])
    orders = torch.stack([half, half.flip(1)], 1).flatten(0, 1)
    # place[i, k]: how many parts precede part k in order i; the selection after m parts keeps those with place below m.
    place = orders.argsort(1)
    steps = torch.arange(1, count)[None, :, None]
    kept = (place[:, None, :] < steps).float()
    between = game(kept.flatten(0, 1)).view(len(orders), count - 1)
    ends = torch.stack([nothing, everything]).to(between).expand(len(orders), 2)
    gains = torch.cat([ends[:, :1], between, ends[:, 1:]], 1).diff(dim=1)
    pairs = gains.gather(1, place).view(-1, 2, count).mean(1)
    return pairs.mean(0), pairs.std(0) / len(pairs) ** 0.5


def kernel_values(
    game: Worth, nothing: Tensor, everything: Tensor, count: int, n_samples: int, generator: torch.Generator
) -> Tensor:
    """Shapley values (count,) by KernelSHAP; exact if `n_samples` covers all 2^count selections.

    Minimises sum_i w_i (v(z_i) - v(nothing) - phi z_i)^2 over phi with sum(phi) = v(everything) - v(nothing), with the
    Shapley kernel's weights (n - 1) / (C(n, s) s (n - s)) for a selection of s of n parts.

    Args:
        game, nothing, everything, count, n_samples: see `permutation_values`.
        generator: of the selections that are drawn.
    """
    sizes = torch.arange(1, count, dtype=torch.float64)
    share = 1 / (sizes * (count - sizes))
    share = share / share.sum()  # the kernel's weight of all selections of each size
    enumerated, drawn = _plan(count, n_samples)
    rows = [_members(count, each) for size in enumerated for each in combinations(range(count), size)]
    weights = [float(share[int(row.sum()) - 1]) / math.comb(count, int(row.sum())) for row in rows]
    if drawn:
        left = [size for size in range(1, count) if size not in enumerated]
        rest = share[[size - 1 for size in left]]
        of_size = torch.tensor(left)[torch.multinomial(rest, drawn, replacement=True, generator=generator)]
        place = torch.rand(drawn, count, generator=generator).argsort(1).argsort(1)
        some = (place < of_size[:, None]).float()
        rows += [*some, *(1 - some)]
        weights += [float(rest.sum()) / (2 * drawn)] * (2 * drawn)
    kept = torch.stack(rows)
    return _constrained(kept.double(), game(kept) - nothing, torch.tensor(weights).double(), everything - nothing)


def _constrained(z: Tensor, gain: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    """Weighted least squares of gain ~ z phi with sum(phi) = total: the last part is what the others leave."""
    design = (z[:, :-1] - z[:, -1:]) * weight.sqrt()[:, None]
    wanted = (gain - z[:, -1] * total) * weight.sqrt()
    first = torch.linalg.lstsq(design, wanted[:, None], driver="gelsd").solution[:, 0]
    return torch.cat([first, (total - first.sum())[None]])


def _plan(count: int, n_samples: int) -> tuple[list[int], int]:
    """The sizes of which every selection is evaluated, and the number of pairs drawn of the other sizes.

    From the outermost sizes inwards, as long as a size's selections are fewer than its share of what is left, as in the
    authors' code: these selections have the largest weights.
    """
    budget, left = n_samples - 2, list(range(1, count))
    enumerated: list[int] = []
    while left:
        outer = sorted({left[0], left[-1]})
        number = sum(math.comb(count, size) for size in outer)
        weight = {size: 1 / (size * (count - size)) for size in left}
        if number > budget * sum(weight[size] for size in outer) / sum(weight.values()) * (1 + 1e-9):
            break
        enumerated += outer
        budget -= number
        left = [size for size in left if size not in outer]
    return sorted(enumerated), max(budget // 2, 1) if left else 0


def _members(count: int, chosen: tuple[int, ...]) -> Tensor:
    row = torch.zeros(count)
    row[list(chosen)] = 1
    return row


def _orders(count: int, n_samples: int) -> int:
    """Number of orders, even: each costs count - 1 selections beside the two that all share."""
    return max(2 * ((n_samples - 2) // (2 * (count - 1))), LEAST_ORDERS)
