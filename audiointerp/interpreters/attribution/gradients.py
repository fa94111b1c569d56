"""Gradients of the target's logit with respect to the linear magnitude: saliency, and its means over noise or a path.

All methods call captum with `max_batch` versions of the clip at a time, to bound memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from audiointerp.contracts import Interpretation, Interpreter
from audiointerp.interpreters.attribution.base import (
    Attribution,
    Details,
    Removed,
    Score,
    require,
    seeded,
    what_remains,
)
from audiointerp.interpreters.base import Scene
from audiointerp.sound.files import normalize_peak

PathKind = Literal["log_spaced", "linear"]

# The log-spaced path has nearly equal steps in the scale a below a knee k and steps of equal ratio above it. The knee
# is the smallest of KNEES (-140 to -20 dB) at which the logit has made more than the share HEARD of its change.
HEARD, KNEES = 0.03, (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

__all__ = ["KNEES", "GradientSHAP", "IntegratedGradients", "Saliency", "SmoothGrad", "knee_of", "log_spaced"]


@dataclass(eq=False, repr=False)
class Saliency(Attribution):
    """|dy/d|X||: how much the target's logit y changes with a bin's magnitude.

    Simonyan et al. (2013), https://arxiv.org/abs/1312.6034. Ours, not theirs: the gradient is with respect to the
    STFT's linear magnitude.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        absolute: use |gradient|; if False the signed gradient, of which the mask keeps the bins that would raise the
            logit if they were louder.
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time), in [0, 1], 1 = keep.
    Raises:
        ValueError: without captum.
    """

    needs_gradient = True
    absolute: bool = True

    def __post_init__(self) -> None:
        """Checks that captum is installed."""
        super().__post_init__()
        require("captum", self)

    @property
    def passes(self) -> int:
        """One forward pass, and a backward pass, which counts as two."""
        return 3

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The gradient, or its absolute value."""
        return self._signed(_gradient(score, clip.stft.abs())), {}

    def over_time(self, made: Interpretation) -> Tensor:
        """The energy of the explanation's sound, (batch, frames).

        Not the gradients' sum over a frame: they are per unit of magnitude, and largest where the clip is quiet.
        """
        return Interpreter.over_time(self, made)

    def _signed(self, gradient: Tensor) -> Tensor:
        return gradient.abs() if self.absolute else gradient


@dataclass(eq=False, repr=False)
class SmoothGrad(Saliency):
    """Saliency averaged over noisy versions of the clip: E[dy/d|X| at max(|X| + noise, 0)].

    Smilkov et al. (2017), https://arxiv.org/abs/1706.03825. Noisy magnitudes below 0 are set to 0.

    Args:
        classifier, to_mask, domain, max_batch, absolute: see `Saliency`; the signed gradients are averaged, then the
            absolute value is taken.
        n_samples: number of noisy versions.
        noise: standard deviation as a share of the range of the clip's magnitude (captum's own is absolute). The
            authors' 0.1 to 0.2 is for images; a sound's loudest bin is a thousand times its median.
        seed: of the noise; the same for each clip. The noise is drawn `max_batch` versions at a time, so it also
            depends on `max_batch`.
    Raises:
        ValueError: without captum; if `n_samples` is below 1 or the noise is negative.
    """

    n_samples: int = 25
    noise: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks `n_samples` and `noise`."""
        super().__post_init__()
        if self.n_samples < 1 or not 0 <= self.noise < math.inf:
            given = f"n_samples is {self.n_samples}, noise {self.noise}"
            raise ValueError(
                f"{given}; give at least 1 sample, and noise as a share of the magnitude's range, 0 or more"
            )

    @property
    def passes(self) -> int:
        """Three per sample."""
        return 3 * self.n_samples

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The averaged gradient, or its absolute value."""
        from captum import attr

        magnitude = clip.stft.abs().requires_grad_()
        spread = self.noise * float(magnitude.detach().max() - magnitude.detach().min())
        method = attr.NoiseTunnel(attr.Saliency(lambda noisy: score(noisy.clamp(min=0))))
        with seeded(self.seed, magnitude.device):
            average = method.attribute(
                magnitude,
                nt_samples=self.n_samples,
                nt_samples_batch_size=min(self.max_batch, self.n_samples),
                stdevs=spread,
                abs=False,
            )
        return self._signed(torch.as_tensor(average)), {}


@dataclass(eq=False, repr=False)
class IntegratedGradients(Attribution):
    """|X| integral of dy/d|X| at a |X| over a from 0 to 1: each bin's share of y(clip) - y(silence).

    Sundararajan, Taly & Yan (2017), https://arxiv.org/abs/1703.01365. Ours, not theirs: steps of equal ratio. If the
    front end takes a logarithm, the logit changes much near silence, where a path of equal steps has few points: with
    a dB front end and 50 equal steps, half of the change is missed.

    `details["completeness"]`, (batch,): |sum of the attribution - (y(clip) - y(silence))| / |y(clip) - y(silence)|,
    which is 0 by the theorem of completeness if the integral is exact.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        steps: points on the path.
        path: "log_spaced", Gauss-Legendre points in ln(a + k), with the knee k at the scale a where the logit has made
            3 % of its change; or "linear", Gauss-Legendre points in a, captum's default.
    Raises:
        ValueError: without captum, if `steps` is below 1, or for an unknown path.
    """

    needs_gradient = True
    steps: int = 50
    path: PathKind = "log_spaced"

    def __post_init__(self) -> None:
        """Checks `steps` and `path`."""
        super().__post_init__()
        require("captum", self)
        if self.steps < 1 or self.path not in get_args(PathKind):
            raise ValueError(
                f"steps is {self.steps}, path {self.path!r}; give 1 step or more, 'log_spaced' or 'linear'"
            )

    @property
    def passes(self) -> int:
        """Three per step, two for the ends of the path, and one per candidate for its knee."""
        return 3 * self.steps + 2 + (len(KNEES) if self.path == "log_spaced" else 0)

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Attribution whose sum is y(clip) - y(silence)."""
        magnitude = clip.stft.abs()
        shares = magnitude.new_tensor((0.0, 1.0, *(KNEES if self.path == "log_spaced" else ())))[:, None, None]
        with torch.no_grad():
            silent, whole, *early = torch.cat([score(some * magnitude) for some in shares.split(self.max_batch)])
        change = whole - silent
        if self.path == "linear":
            attribution = self._linear(magnitude, score)
        else:
            knee = knee_of(silent[None], whole[None], torch.stack(early)[None])
            attribution = self._log_spaced(magnitude, score, knee)
        missed = (attribution.double().sum() - change).abs()
        return attribution, {"completeness": (missed / change.abs().clamp(min=1e-6)).view(1)}

    def _log_spaced(self, magnitude: Tensor, score: Score, knee: Tensor) -> Tensor:
        both = torch.cat(log_spaced(self.steps, knee)).to(magnitude)[..., None, None]
        total = torch.zeros_like(magnitude)
        for alpha, weight in zip(*(each.split(self.max_batch) for each in both)):
            total += (weight * _gradient(score, alpha * magnitude)).sum(0, keepdim=True)
        return total * magnitude

    def _linear(self, magnitude: Tensor, score: Score) -> Tensor:
        from captum import attr

        method = attr.IntegratedGradients(score)
        return method.attribute(magnitude.requires_grad_(), n_steps=self.steps, internal_batch_size=self.max_batch)


@dataclass(eq=False, repr=False)
class GradientSHAP(Attribution):
    """E[(|X| - b) dy/d|X| at b + a (|X| - b)] over baselines b and a in [0, 1]: integrated gradients, averaged.

    Lundberg & Lee (2017), https://arxiv.org/abs/1705.07874 (expected gradients).

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        n_samples: number of samples, each a random baseline and a random point a on the path from it to the clip.
        baselines: any of "silence" and "noise_floor", the clip's steady background.
        donors: (clips, samples) of other sounds, each an additional baseline; brought to peak 1 and repeated or cut to
            the length of the clip.
        seed: of the draws; the same for each clip. Samples are drawn `max_batch` at a time, so they also depend on
            `max_batch`.
    Raises:
        ValueError: without captum, if `n_samples` is below 1, if there is no baseline or an unknown one, or if the
            donors have another shape.
    """

    needs_gradient = True
    n_samples: int = 20
    baselines: Sequence[Removed] = ("silence", "noise_floor")
    donors: Tensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks `n_samples`, `baselines` and `donors`."""
        super().__post_init__()
        require("captum", self)
        if isinstance(self.baselines, str) or not set(self.baselines) <= set(get_args(Removed)):
            raise ValueError(f"baselines are {self.baselines!r}; give a list of 'silence' and 'noise_floor'")
        if self.donors is not None and (self.donors.ndim != 2 or not self.donors.numel()):
            raise ValueError(f"donors have shape {tuple(self.donors.shape)}; expected (clips, samples)")
        if self.n_samples < 1 or not (self.baselines or self.donors is not None):
            given = f"n_samples is {self.n_samples}, baselines {list(self.baselines)}"
            raise ValueError(f"{given}; give at least one sample and one baseline or donor")

    @property
    def passes(self) -> int:
        """Three per sample."""
        return 3 * self.n_samples

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Averaged attribution; its sum estimates y(clip) - mean of y(baseline)."""
        from captum import attr

        magnitude = clip.stft.abs()
        baselines = self._baselines(magnitude, clip.waveform.shape[1])
        method, total = attr.GradientShap(score), torch.zeros_like(magnitude)
        with seeded(self.seed, magnitude.device):
            # captum classifies all its samples at once: passing `max_batch` of them at a time bounds memory.
            for start in range(0, self.n_samples, self.max_batch):
                count = min(self.max_batch, self.n_samples - start)
                part = method.attribute(magnitude.requires_grad_(), baselines, n_samples=count, stdevs=0.0)
                total += count * part.detach()
        return total / self.n_samples, {}

    def _baselines(self, magnitude: Tensor, samples: int) -> Tensor:
        """Magnitudes of all baselines, (baselines, freq, time)."""
        made = [what_remains(magnitude, each) for each in self.baselines]
        if self.donors is not None:
            donors = normalize_peak(self.donors.to(magnitude.device))[0]
            repeated = donors.repeat(1, -(-samples // donors.shape[1]))[:, :samples]
            made.append(self.classifier.spectrogram(repeated).abs())
        return torch.cat(made)


def knee_of(silent: Tensor, whole: Tensor, early: Tensor) -> Tensor:
    """The knee k of the log-spaced path of each clip, (rows,), float64.

    Args:
        silent, whole: the logit of silence and of the clip, (rows,).
        early: the logit of the clip scaled by each of `KNEES`, (rows, knees).
    """
    loud = (early - silent[:, None]).abs() > HEARD * (whole - silent).abs()[:, None]
    loud[:, -1] = True
    return torch.tensor(KNEES, dtype=torch.float64)[loud.int().argmax(1).cpu()]


def log_spaced(steps: int, knee: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the path from 0 to 1 and their weights, each (rows, steps), float64: Gauss-Legendre in ln(a + knee).

    Args:
        steps: number of points.
        knee: (rows,).
    """
    points, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(steps))
    # a = exp(u) - k, so da = exp(u) du, for u from ln k to ln(1 + k).
    half, knee = torch.log1p(1 / knee)[:, None] / 2, knee[:, None]
    shifted = knee * torch.exp(half * (points + 1))
    return shifted - knee, half * weights * shifted


def _gradient(score: Score, magnitude: Tensor) -> Tensor:
    """Gradient of each version's own score, (versions, freq, time)."""
    from captum import attr

    return attr.Saliency(score).attribute(magnitude.detach().requires_grad_(), abs=False)
