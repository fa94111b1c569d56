"""Methods that optimise masks by gradients, all clips of a batch at once: the game that they play, and smooth masks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.contracts import check_gradient
from audiointerp.interpreters.attribution.base import (
    Attribution,
    Details,
    Score,
    ToMask,
    Update,
    asked_logit,
    hear_rows,
    noise_like,
    what_remains,
    without_denormals,
)
from audiointerp.interpreters.base import Scene

Perturbation = Literal["silence", "noise_floor", "noise"]
Reward = Literal["logit", "margin"]

__all__ = ["Masked", "OptimisedMask", "Perturbation", "Reward", "SmoothCells"]


class Masked:
    """Versions of a scene's clips under masks: what the classifier says of them, relative to the clip and the filler.

    The share of a version is (y - y(filler)) / |y(clip) - y(filler)|, y the target's logit (or margin): 1 for the clip,
    0 for the filler alone. Logits have no fixed scale; shares have.

    Args:
        method: the method, for its classifier, filler, reward and `max_batch`.
        scene: of any number of rows.
        update: called with the number of passes since its last call.
    Attributes:
        clip, filled: y of each clip and of its filler, (rows,).
    Raises:
        ValueError: if no gradient of the logits reaches the waveform.
    """

    def __init__(self, method: OptimisedMask, scene: Scene, update: Update):
        self.method, self.scene, self.update = method, scene, update
        self.magnitude, self._heard = scene.stft.abs(), hear_rows(method.classifier, scene)
        # Drawn alike for each clip, so that its explanation does not depend on the others.
        self._generator = torch.Generator().manual_seed(method.seed)
        self.draw()
        rows = torch.arange(len(self.magnitude), device=self.magnitude.device)
        with torch.no_grad():
            ends = [self.rewards(torch.full_like(self.magnitude[:, :1, :1], each), rows) for each in (1.0, 0.0)]
        self.clip, self.filled = ends
        change = (self.clip - self.filled).abs()
        self.scale = torch.where(change > 1e-6, change, 1.0)

    def draw(self) -> None:
        """Sets the filler that replaces removed bins; noise is drawn anew."""
        if self.method.filler == "noise":
            self.filler = noise_like(self.scene.stft, 1, self._generator)
        elif not hasattr(self, "filler"):
            self.filler = what_remains(self.magnitude, self.method.filler)

    @torch.no_grad()
    def rewards(self, mask: Tensor, rows: Tensor) -> Tensor:
        """y of versions m x + (1 - m) filler, (n,), `max_batch` at a time; without gradients.

        Args:
            mask: (n, freq, time), or broadcast to it.
            rows: the clip of each version, (n,).
        """
        return torch.cat([self._reward(mask[some], rows[some]) for some in self._batches(len(rows))])

    def shares(self, mask: Tensor, rows: Tensor) -> Tensor:
        """The share of each version, (n,); see the class."""
        return (self.rewards(mask, rows) - self.filled[rows]) / self.scale[rows]

    def descend(
        self, parameter: Tensor, mask_of: Callable[[Tensor, Tensor], Tensor], rows: Tensor, sign: Tensor | float
    ) -> Tensor:
        """Gradient of the sum of sign * share over the versions, with respect to the parameter (n, ...).

        Args:
            parameter: of which row i makes version i.
            mask_of: m rows of the parameter, and their numbers (m,) -> masks (m, freq, time).
            rows: the clip of each version, (n,).
            sign: -1 to raise the shares, 1 to lower them; one number, or (n,).
        """
        gradients, signs = [], torch.as_tensor(sign, device=rows.device).expand(len(rows))
        for some in self._batches(len(rows)):
            piece = parameter[some].detach().requires_grad_()
            with torch.enable_grad():
                share = self._reward(mask_of(piece, some), rows[some]) / self.scale[rows[some]]
                check_gradient(self.method.classifier, type(self.method).__name__, share)
                gradients.append(torch.autograd.grad((signs[some] * share).sum(), piece)[0])
            self.update(2 * len(some))
        return torch.cat(gradients)

    def _reward(self, mask: Tensor, rows: Tensor) -> Tensor:
        heard = self._heard(self._versions(mask, rows), rows)
        self.update(len(rows))
        target = self.scene.target[rows]
        wanted = asked_logit(heard, target)
        if self.method.reward == "logit":
            return wanted
        best = heard.logits.masked_fill(target, -torch.inf).amax(1)
        return wanted - torch.where(target.all(1), 0.0, best)

    def _versions(self, mask: Tensor, rows: Tensor) -> Tensor:
        """m x + (1 - m) filler, (n, freq, time), complex where the filler has phases of its own."""
        if self.method.filler == "silence":  # the filler is 0: this saves half of the time outside of the classifier
            return mask * self.magnitude[rows]
        filler = self.filler if len(self.filler) == 1 else self.filler[rows]
        if not filler.is_complex():
            return filler + mask * (self.magnitude[rows] - filler)
        return without_denormals(filler + mask * (self.scene.stft[rows] - filler))

    def _batches(self, count: int) -> tuple[Tensor, ...]:
        return torch.arange(count, device=self.magnitude.device).split(self.method.max_batch)


@dataclass(eq=False, repr=False)
class OptimisedMask(Attribution):
    """A method whose mask is found by gradients, for all clips of a batch at once; the mask is used as it is.

    Args:
        classifier, domain, max_batch: see `Attribution`.
        filler: replaces removed bins: "silence" (the bins fade), "noise_floor" (they fade to the clip's steady
            background) or "noise", Gaussian magnitude with each frequency's mean and deviation and random phase, drawn
            anew at each step.
        reward: "logit", the target's (the mean of several), or "margin", the target's minus the best other class's.
        cells: cells of the mask's grid along frequency and along time; fewer where the clip has fewer bins.
        seed: of the noise.
    Raises:
        ValueError: for an unknown filler or reward, a grid without cells, or a classifier without gradients.
    """

    needs_gradient = True
    to_mask: ToMask = field(default_factory=lambda: lambda mask: mask, init=False)
    filler: Perturbation = "silence"
    reward: Reward = "logit"
    cells: tuple[int, int] = (32, 32)
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        name = type(self).__name__
        if self.filler not in get_args(Perturbation):
            raise ValueError(f"filler is {self.filler!r}; choose from {', '.join(get_args(Perturbation))}")
        if self.reward not in get_args(Reward):
            raise ValueError(f"reward is {self.reward!r}; choose 'logit' or 'margin'")
        if min(self.cells) < 1:
            raise ValueError(f"{name} has cells {tuple(self.cells)}; at least 1 along frequency and along time")

    @abstractmethod
    def optimise(self, masked: Masked) -> tuple[Tensor, Details]:
        """Masks (rows, freq, time) of the clips of `masked.scene`, and further details, each (rows, ...)."""

    def attribute_all(self, scene: Scene, update: Update) -> tuple[Tensor, Details]:
        """The masks, all clips at once."""
        return self.optimise(Masked(self, scene, update))

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The mask of one clip; `score` is not used, since `Masked` computes the reward."""
        return self.attribute_all(clip, lambda passes: None)

    def grid(self, stft: Tensor) -> tuple[int, int]:
        """Number of cells along frequency and along time for spectrograms (batch, freq, time)."""
        return min(self.cells[0], stft.shape[1]), min(self.cells[1], stft.shape[2])


class SmoothCells:
    """A coarse grid of cells, enlarged to smooth masks by a maximum of kernels.

    Fong, Patrick & Vedaldi (2019), https://arxiv.org/abs/1910.08485, equation 5: m(u) is the smooth maximum over the
    cells v of k(u - v) m(v), k(d) = exp(-2 max(d / sigma - 1/2, 0)^2), where the smooth maximum of values x is
    sum(x e^(20 x)) / sum(e^(20 x)). Ours, not theirs: m is divided by its value for a grid of ones, so that a grid of
    ones keeps everything; it is computed at `POINTS` points a cell along each axis, and linear in between.

    Args:
        cells: cells along frequency and along time.
        sigma: width of the kernel, in cells.
    """

    POINTS, COLDNESS = 2, 20.0

    def __init__(self, cells: tuple[int, int], sigma: float, device: torch.device):
        self.cells, reach = cells, math.ceil(2 * sigma)
        side = torch.arange(-reach, reach + 1, device=device)
        offset = (torch.arange(self.POINTS, device=device) + 0.5) / self.POINTS - 0.5
        along = side[None, :] - offset[:, None]  # (points, neighbours): cells from each point to each neighbouring cell
        distance = (along[:, None, :, None].square() + along[None, :, None, :].square()).sqrt()
        kernel = torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0).square())
        self._reach, self._kernel = reach, kernel.reshape(self.POINTS**2, -1, 1)
        ones = torch.ones(1, *cells, device=device)
        self._inside = self._neighbours(ones)[:, None]
        self._top = self._smooth_maximum(ones)

    def points(self, values: Tensor) -> Tensor:
        """Cells (n, freq cells, time cells) in [0, 1] -> the mask at all points, (n, freq points, time points)."""
        made = (self._smooth_maximum(values) / self._top).clamp(max=1)
        # (n, points^2, cells) -> (n, freq cells, points, time cells, points)
        made = made.view(len(values), self.POINTS, self.POINTS, *self.cells).permute(0, 3, 1, 4, 2)
        return made.reshape(len(values), self.POINTS * self.cells[0], self.POINTS * self.cells[1])

    def enlarge(self, points: Tensor, shape: tuple[int, int]) -> Tensor:
        """The mask at all points -> masks (n, *shape)."""
        return functional.interpolate(points[:, None], shape, mode="bilinear", align_corners=False)[:, 0]

    def _neighbours(self, values: Tensor) -> Tensor:
        """Values of the cells around each cell, 0 outside of the grid: (n, neighbours, cells)."""
        return functional.unfold(values[:, None], 2 * self._reach + 1, padding=self._reach)

    def _smooth_maximum(self, values: Tensor) -> Tensor:
        """(n, points^2, cells): the smooth maximum over the cells inside the grid."""
        near = self._kernel * self._neighbours(values)[:, None]
        weight = (self.COLDNESS * (near - 1)).exp() * self._inside
        return (near * weight).sum(2) / weight.sum(2)
