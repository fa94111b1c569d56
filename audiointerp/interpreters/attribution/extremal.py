"""Extremal perturbation: for each of several areas, the smooth mask of this area that raises the logit most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from audiointerp.interpreters.attribution.base import Details
from audiointerp.interpreters.attribution.batched import Masked, OptimisedMask, SmoothCells

NEGLIGIBLE = 1e-4  # Adam's epsilon: gradients far below it, of a reward of about 1, are rounding errors
TIE = 1e-4  # step to which points are rounded before they are ranked
RAMP = 1000.0  # the penalty's weight at the last step over that at the first

__all__ = ["ExtremalPerturbation", "smallest_sufficient"]


@dataclass(eq=False, repr=False)
class ExtremalPerturbation(OptimisedMask):
    """The smooth mask with the smallest of several areas that is enough for the target's logit.

    Fong, Patrick & Vedaldi (2019), https://arxiv.org/abs/1910.08485: for each area a, the mask m maximises
    y(m x + (1 - m) filler) - weight |sorted(m) - r_a|^2, where r_a has a share a of ones and zeros otherwise (equation
    4); the explanation is the mask of the smallest area that reaches the wanted share of the logit (equation 2). Masks
    are smooth by construction, see `SmoothCells`.

    Ours, not theirs: the reward is the share of y(clip) - y(filler), since logits have no fixed scale; the clip's
    silence, background or noise instead of a blurred image; Adam with the weight rising from a thousandth, so that the
    reward orders the cells before the penalty divides them; no jitter, as a mirrored spectrogram is a sound backwards.

    `details`: "area" (batch,), the area chosen; "sufficient" (batch,), whether its mask reaches the wanted share (if no
    area does, the largest is chosen); "shares" (batch, areas), the share that each area's mask reaches ("deletion": the
    share that is lost when the mask's bins are removed); "mean_masks" (batch, areas), the areas of the masks found.

    Args:
        classifier, domain, max_batch, filler, reward, cells, seed: see `OptimisedMask`.
        areas: shares of the spectrogram, rising.
        enough: the share of y(clip) - y(filler) that a mask must reach.
        game: "sufficient", the mask's bins are kept, or "deletion", they are removed.
        sigma: width of the masks' edges, in cells.
        steps, lr: of Adam on the cells, which start at 1/2 and are clamped to [0, 1].
        weight: of the mean squared distance of the sorted mask from r_a, at the last step.
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time), in [0, 1], 1 = keep.
    Raises:
        ValueError: for areas that do not rise within (0, 1), another setting outside its range, or a classifier without
            gradients.
    """

    areas: Sequence[float] = (0.05, 0.1, 0.2, 0.3)
    enough: float = 0.9
    game: Literal["sufficient", "deletion"] = "sufficient"
    sigma: float = 1.5
    steps: int = 200
    lr: float = 0.05
    weight: float = 300.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        self.areas = tuple(self.areas)
        ends = (0.0, *self.areas, 1.0)
        if not self.areas or any(not before < after for before, after in pairwise(ends)):
            raise ValueError(f"areas are {list(self.areas)}; they are shares that rise, above 0 and below 1")
        if self.game not in ("sufficient", "deletion"):
            raise ValueError(f"game is {self.game!r}; choose 'sufficient' or 'deletion'")
        if self.steps < 1 or not isinstance(self.steps, int):
            raise ValueError(f"steps is {self.steps}; give a whole number, 1 or more")
        for name in ("enough", "sigma", "lr", "weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")

    @property
    def passes(self) -> int:
        """Three per area and step, one per area, and two for the clip and the filler."""
        return len(self.areas) * (3 * self.steps + 1) + 2

    @torch.no_grad()
    def optimise(self, masked: Masked) -> tuple[Tensor, Details]:
        """The mask of the smallest sufficient area of each clip."""
        stft = masked.scene.stft
        clips, areas = len(stft), len(self.areas)
        # Versions area by area within each clip.
        rows = torch.arange(clips, device=stft.device).repeat_interleave(areas)
        smooth = SmoothCells(self.grid(stft), self.sigma, stft.device)
        points = self._search(masked, smooth, rows)
        shape = (stft.shape[1], stft.shape[2])
        # In pieces of `max_batch`, so that masks of all versions are never in memory at once.
        pieces = zip(points.split(self.max_batch), rows.split(self.max_batch))
        found = [self._share(masked, smooth.enlarge(some, shape), row) for some, row in pieces]
        shares = torch.cat(found).view(clips, areas)
        wanted = self.enough * torch.sign(masked.clip - masked.filled)
        chosen, sufficient = smallest_sufficient(shares, wanted)
        best = points.view(clips, areas, *points.shape[1:])[torch.arange(clips, device=stft.device), chosen]
        details = {
            "area": shares.new_tensor(self.areas)[chosen],
            "sufficient": sufficient,
            "shares": shares,
            "mean_masks": points.mean((1, 2)).view(clips, areas),
        }
        return smooth.enlarge(best, shape), details

    def _search(self, masked: Masked, smooth: SmoothCells, rows: Tensor) -> Tensor:
        """The masks at all points, (versions, freq points, time points), after `steps` steps of Adam."""
        shape = (masked.scene.stft.shape[1], masked.scene.stft.shape[2])
        cells = torch.full((len(rows), *smooth.cells), 0.5, device=rows.device)
        wanted = self._templates(cells, smooth, len(rows) // len(self.areas))
        adam = torch.optim.Adam([cells], lr=self.lr, eps=NEGLIGIBLE / cells[0].numel())
        removed = self.game == "deletion"

        def mask_of(values: Tensor, _: Tensor) -> Tensor:
            mask = smooth.enlarge(smooth.points(values), shape)
            return 1 - mask if removed else mask

        for step in range(self.steps):
            masked.draw()
            cells.grad = masked.descend(cells, mask_of, rows, 1.0 if removed else -1.0)
            weight = self.weight * RAMP ** ((step + 1) / self.steps - 1)
            cells.grad += weight * self._penalty_gradient(cells, smooth, wanted)
            adam.step()
            cells.clamp_(0, 1)
        return smooth.points(cells)

    def _templates(self, cells: Tensor, smooth: SmoothCells, clips: int) -> Tensor:
        """r_a for each version, (versions, points): zeros, then a share a of ones."""
        count = smooth.points(cells[:1])[0].numel()
        place = torch.arange(count, device=cells.device)
        return torch.stack([(place >= round(count * (1 - area))).float() for area in self.areas]).repeat(clips, 1)

    def _penalty_gradient(self, cells: Tensor, smooth: SmoothCells, wanted: Tensor) -> Tensor:
        """Gradient of the mean squared distance between a version's sorted mask and r_a, summed over versions."""
        values = cells.detach().requires_grad_()
        with torch.enable_grad():
            points = smooth.points(values).flatten(1)
            # Points that differ by rounding errors, as all do at the first step, are ranked by their place.
            order = (points.detach() / TIE).round().sort(dim=1, stable=True).indices
            ranked = points.gather(1, order)
            return torch.autograd.grad((ranked - wanted).square().mean(1).sum(), values)[0]

    def _share(self, masked: Masked, mask: Tensor, rows: Tensor) -> Tensor:
        """The share that a mask reaches; "deletion": the share that removing its bins costs."""
        if self.game == "sufficient":
            return masked.shares(mask, rows)
        whole = (masked.clip - masked.filled)[rows] / masked.scale[rows]
        return whole - masked.shares(1 - mask, rows)


def smallest_sufficient(shares: Tensor, wanted: Tensor | float) -> tuple[Tensor, Tensor]:
    """Index (rows,) of the first (smallest) area whose share is at least the wanted one; and whether there is one.

    Where there is none, the last (largest) area is chosen.

    Args:
        shares: (rows, areas), the areas rising.
        wanted: (rows,), or one number.

    >>> smallest_sufficient(torch.tensor([[0.2, 0.95, 1.0], [0.1, 0.2, 0.3]]), 0.9)
    (tensor([1, 2]), tensor([ True, False]))
    """
    reached = shares >= torch.as_tensor(wanted, device=shares.device).expand(len(shares))[:, None]
    sufficient = reached.any(1)
    first = reached.int().argmax(1)
    return torch.where(sufficient, first, shares.shape[1] - 1), sufficient
