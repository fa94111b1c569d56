"""RISE: the clip is classified under random soft masks; a bin's score is high if the masks that keep it score high."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.interpreters.attribution.base import Attribution, Details, Removed, Score, check_filler, what_remains
from audiointerp.interpreters.attribution.occlusion import patch_bins
from audiointerp.interpreters.base import Scene

__all__ = ["RISE"]


@dataclass(eq=False, repr=False)
class RISE(Attribution):
    """sum_i (y(M_i) - mean y) (M_i - 1/2) / (N / 4) over N random masks M_i: a bin's effect on the logit y.

    Petsiuk et al. (2018), https://arxiv.org/abs/1806.07421: each cell of a coarse grid is kept with probability 1/2,
    and the grid is bilinearly enlarged and randomly shifted. Ours, not theirs: masks come in pairs M, 1 - M and the
    mean is subtracted (they sum y M / (N p)), so that the mean logit over all masks adds nothing to any bin's score;
    and y is the logit, not the probability.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        n_masks: N, even; the authors take thousands.
        cells: cells of the grid along frequency and along time; fewer where the clip has fewer bins.
        patch: height in Hz and width in seconds of a cell, instead of `cells`.
        filler: magnitude left where a mask is 0, "silence" or "noise_floor".
        seed: of the masks; clips of equal length get the same masks.
    Raises:
        ValueError: for an odd number of masks, a grid without cells, a patch smaller than a bin or an unknown filler.
    """

    same_versions: ClassVar[bool] = True
    n_masks: int = 400
    cells: tuple[int, int] = (8, 12)
    patch: tuple[float, float] | None = None
    filler: Removed = "silence"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks `n_masks`, `cells`, `filler` and `patch`."""
        super().__post_init__()
        if self.n_masks < 2 or self.n_masks % 2 or min(self.cells) < 1:
            given = f"n_masks is {self.n_masks}, cells {tuple(self.cells)}"
            raise ValueError(f"{given}; n_masks must be even and at least 2, cells at least 1 each")
        check_filler(self.filler)
        self._cell_bins = None if self.patch is None else patch_bins(self.classifier, self.patch)

    @property
    def passes(self) -> int:
        """One per mask."""
        return self.n_masks

    @torch.no_grad()
    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The sum in the class docstring."""
        magnitude = clip.stft.abs()
        left = what_remains(magnitude, self.filler)
        total = torch.zeros_like(magnitude)
        for masks in self._masks(magnitude):
            heard = score(left + torch.cat([masks, 1 - masks]) * (magnitude - left))
            kept, removed = heard.chunk(2)
            # Both masks of a pair at once: (y+ - mean) (M - 1/2) + (y- - mean) (1/2 - M), where the mean cancels.
            total += torch.einsum("n,nft->ft", kept - removed, masks - 0.5)
        return total / (self.n_masks / 4), {}

    def _masks(self, magnitude: Tensor) -> Iterator[Tensor]:
        """The first mask of each pair, half of `max_batch` masks at a time."""
        shape = magnitude.shape[1:]
        size = self._cell_bins or tuple(-(-whole // count) for whole, count in zip(shape, self.cells))
        size = [min(each, whole) for each, whole in zip(size, shape)]
        # One more cell than fits, so that a shifted grid still covers the spectrogram.
        count = [-(-whole // each) + 1 for each, whole in zip(size, shape)]
        generator, pairs = torch.Generator().manual_seed(self.seed), self.n_masks // 2
        cells = torch.randint(2, (pairs, 1, *count), generator=generator).float()
        shifts = torch.stack([torch.randint(each, (pairs,), generator=generator) for each in size], 1).tolist()
        enlarged = [each * many for each, many in zip(size, count)]
        step = max(1, self.max_batch // 2)
        for start in range(0, pairs, step):
            some = cells[start : start + step].to(magnitude.device)
            whole = functional.interpolate(some, enlarged, mode="bilinear", align_corners=False)[:, 0]
            yield torch.stack(
                [
                    mask[down : down + shape[0], right : right + shape[1]]
                    for mask, (down, right) in zip(whole, shifts[start : start + step])
                ]
            )
