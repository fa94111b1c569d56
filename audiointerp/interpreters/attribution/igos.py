"""iGOS++: a mask whose removal destroys the logit and whose bins alone restore it, found by integrated gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.interpreters.attribution.base import Details
from audiointerp.interpreters.attribution.batched import Masked, OptimisedMask

TERMS = 4  # deletion and insertion, each of one mask and of both together

__all__ = ["IGOSPlusPlus"]


@dataclass(eq=False, repr=False)
class IGOSPlusPlus(OptimisedMask):
    """Two masks on a coarse grid, one to delete and one to insert, whose union explains.

    Khorram, Lawson & Li (2021), https://arxiv.org/abs/2012.15783 (iGOS++), after Qi, Khorram & Li (2020),
    https://arxiv.org/abs/1905.00954: minimises D(s_1) - I(s_2) + D(s) - I(s), the penalty l1 mean(s_i) and the
    bilateral total variation of each s_i, where s = 1 - (1 - s_1)(1 - s_2), D(s) is the logit when the share s of each
    bin is removed, and I(s) the logit when only s is kept. The direction of each step is an integrated gradient: of D
    along the path that removes the rest as well, of I along the path from the whole clip; a line search finds the
    step's length.

    Ours, not theirs: s is 1 minus their mask; the logits are shares of y(clip) - y(filler), since logits have no fixed
    scale (they have probabilities); of `tries` step lengths, all measured together, the best is taken, or none if each
    is worse than no step; the image of the bilateral weights is the log-magnitude, averaged in each cell.

    `details`: "kept" (batch,), the share I of the interpretation, and "removed" (batch,), the share D of the residual;
    "loss" (batch, steps).

    Args:
        classifier, domain, max_batch, filler, reward, cells, seed: see `OptimisedMask`.
        steps: of the descent.
        points: of the integrated gradients; the authors' code has 20.
        l1, variation: weights of the penalties.
        power: of the differences between neighbouring cells.
        edges: difference of level, as a share of the clip's largest, at which neighbouring cells may differ.
        longest: first step length of the line search; each next one is a quarter.
        tries: number of step lengths.
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time), in [0, 1], 1 = keep.
    Raises:
        ValueError: for a setting outside its range, or a classifier without gradients.
    """

    cells: tuple[int, int] = (28, 28)
    steps: int = 15
    points: int = 15
    l1: float = 1.0
    variation: float = 20.0
    power: float = 2.0
    edges: float = 0.1
    longest: float = 1000.0
    tries: int = 6

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        for name in ("steps", "points", "tries"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a whole number, 1 or more")
        for name, least in (("l1", 0.0), ("variation", 0.0), ("power", 1.0)):
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least:g} or more")
        for name in ("edges", "longest"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")

    @property
    def passes(self) -> int:
        """At each step three per term and point, and one per term and step length; for the rest, one each."""
        return self.steps * TERMS * (3 * self.points + self.tries) + TERMS + 4

    @torch.no_grad()
    def optimise(self, masked: Masked) -> tuple[Tensor, Details]:
        """The union of both masks of each clip."""
        stft = masked.scene.stft
        rows = torch.arange(len(stft), device=stft.device)
        smoothness = self._smoothness(masked)
        cells = torch.zeros(len(stft), 2, *self.grid(stft), device=stft.device)
        loss, history = self._loss(masked, cells, rows, smoothness), []
        for _ in range(self.steps):
            masked.draw()
            direction = self._direction(masked, cells, smoothness)
            tried = [(cells - self.longest / 4**number * direction).clamp(0, 1) for number in range(self.tries)]
            losses = torch.stack([loss, *(self._loss(masked, each, rows, smoothness) for each in tried)])
            best = losses.argmin(0)
            cells = torch.stack([cells, *tried])[best, rows]
            loss = losses[best, rows]
            history.append(loss)
        mask = self._enlarge(_union(cells), stft)
        details = {
            "kept": masked.shares(mask, rows),
            "removed": masked.shares(1 - mask, rows),
            "loss": torch.stack(history, 1),
        }
        return mask, details

    def _direction(self, masked: Masked, cells: Tensor, smoothness: tuple[Tensor, Tensor]) -> Tensor:
        """Gradient of the loss in the cells, integrated along the paths, (rows, 2, freq cells, time cells)."""
        clips, device = len(cells), cells.device
        each = TERMS * self.points
        rows = torch.arange(clips, device=device).repeat_interleave(each)
        term = torch.arange(TERMS, device=device).repeat_interleave(self.points).repeat(clips)
        scale = (torch.arange(1, self.points + 1, device=device) / self.points).repeat(TERMS * clips)
        made = masked.descend(
            cells[rows], lambda piece, some: self._version(masked, piece, term[some], scale[some]), rows, _sign(term)
        )
        gradient = made.view(clips, each, *cells.shape[1:]).sum(1) / self.points
        values = cells.detach().requires_grad_()
        with torch.enable_grad():
            penalty = self._penalty(values, smoothness).sum()
            return gradient + torch.autograd.grad(penalty, values)[0]

    def _loss(self, masked: Masked, cells: Tensor, rows: Tensor, smoothness: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of each clip, (rows,)."""
        total = self._penalty(cells, smoothness)
        for number in range(TERMS):
            term = torch.full_like(rows, number)
            for some in rows.split(self.max_batch):
                mask = self._version(masked, cells[some], term[some], torch.ones_like(some).float())
                total[some] += _sign(term[some]) * masked.shares(mask, some)
        return total

    def _version(self, masked: Masked, cells: Tensor, term: Tensor, scale: Tensor) -> Tensor:
        """The share of each bin that is kept, (n, freq, time).

        Args:
            cells: both masks, (n, 2, freq cells, time cells).
            term: 0: delete by the first mask; 1: insert by the second; 2, 3: delete and insert by both; (n,).
            scale: place on the path, (n,); 1: the masks themselves.
        """
        which = term[:, None, None]
        chosen = torch.where(which == 0, cells[:, 0], torch.where(which == 1, cells[:, 1], _union(cells)))
        rest = scale[:, None, None] * (1 - chosen)
        # Enlarged last: interpolation keeps sums, and the grid is small.
        return self._enlarge(torch.where(which % 2 == 1, 1 - rest, rest), masked.scene.stft)

    def _enlarge(self, cells: Tensor, stft: Tensor) -> Tensor:
        shape = (stft.shape[1], stft.shape[2])
        return functional.interpolate(cells[:, None], shape, mode="bilinear", align_corners=False)[:, 0]

    def _smoothness(self, masked: Masked) -> tuple[Tensor, Tensor]:
        """Weights of the differences along frequency and along time, exp(-(difference of level / edges)^2)."""
        level = functional.adaptive_avg_pool2d(masked.magnitude.log1p()[:, None], self.grid(masked.scene.stft))
        level = level / level.amax((2, 3), keepdim=True).clamp(min=1e-12)
        along = level.diff(dim=2), level.diff(dim=3)
        freq, time = ((-(each / self.edges).square()).exp() for each in along)
        return freq, time

    def _penalty(self, cells: Tensor, smoothness: tuple[Tensor, Tensor]) -> Tensor:
        """l1 times the area, and the bilateral total variation, of both masks, (rows,)."""
        total = self.l1 * cells.mean((2, 3)).sum(1)
        for weight, difference in zip(smoothness, (cells.diff(dim=2), cells.diff(dim=3))):
            varied = (weight * difference.abs().pow(self.power)).sum((1, 2, 3)) / cells[0, 0].numel()
            total = total + self.variation * varied
        return total


def _union(cells: Tensor) -> Tensor:
    """1 - (1 - s_1)(1 - s_2) of (n, 2, freq cells, time cells)."""
    return 1 - (1 - cells[:, 0]) * (1 - cells[:, 1])


def _sign(term: Tensor) -> Tensor:
    """1 for deletion, -1 for insertion."""
    return 1.0 - 2.0 * (term % 2)
