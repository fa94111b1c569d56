"""Gradients of the asked logit with respect to the linear magnitude: saliency, and its averages over noise or a path.

All through captum (extra `attribution`), a few versions of the clip at a time, so that memory stays bounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from audiointerp.contracts import Classifier
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
from audiointerp.sound.masking import AttributionMask, Domain

Path = Literal["log_spaced", "linear"]

# Steps of the log-spaced path turn from equal to equal in ratio where this share of the logit's change has come about,
# looked for at these shares of the magnitude (-140 to -20 dB).
HEARD, KNEES = 0.03, (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

__all__ = ["GradientSHAP", "IntegratedGradients", "Saliency", "SmoothGrad"]


class Saliency(Attribution):
    """|dy/d|X||: how much the asked logit y changes with a bin's magnitude.

    Simonyan et al. (2013), https://arxiv.org/abs/1312.6034. Ours, not theirs: of the STFT's linear magnitude.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        absolute: |gradient|; else the signed one, of which the mask keeps what would make the class likelier if louder.
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time), in [0, 1], 1 = keep.
    Raises:
        ValueError: without captum.
    """

    def __init__(
        self,
        classifier: Classifier,
        to_mask: AttributionMask | None = None,
        domain: Domain = "magnitude",
        max_batch: int = 8,
        absolute: bool = True,
    ):
        super().__init__(classifier, to_mask, domain, max_batch)
        require("captum", self)
        self.absolute = absolute

    @property
    def passes(self) -> int:
        """One there, two back."""
        return 3

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The gradient, or its absolute value."""
        return self._signed(_gradient(score, clip.stft.abs())), {}

    def _signed(self, gradient: Tensor) -> Tensor:
        return gradient.abs() if self.absolute else gradient


class SmoothGrad(Saliency):
    """Saliency averaged over noisy versions of the clip: E[dy/d|X| at max(|X| + noise, 0)].

    Smilkov et al. (2017), https://arxiv.org/abs/1706.03825. Noise that would take a magnitude below 0 is cut there.

    Args:
        classifier, to_mask, domain, max_batch, absolute: see `Saliency`; the average is taken with signs.
        n_samples: noisy versions.
        noise: standard deviation as a share of the range of the clip's magnitude (captum's own is absolute). The
            authors' 0.1 to 0.2 is for images; a sound's loudest bin is a thousand times its median.
        seed: of the noise; each clip draws alike. They come `max_batch` at a time: another batch, another draw.
    Raises:
        ValueError: without captum; for no sample or negative noise.
    """

    def __init__(
        self,
        classifier: Classifier,
        to_mask: AttributionMask | None = None,
        domain: Domain = "magnitude",
        max_batch: int = 8,
        absolute: bool = True,
        n_samples: int = 25,
        noise: float = 0.01,
        seed: int = 0,
    ):
        super().__init__(classifier, to_mask, domain, max_batch, absolute)
        if n_samples < 1 or not 0 <= noise < math.inf:
            raise ValueError(
                f"n_samples is {n_samples}, noise {noise}; give at least 1 sample, and noise as a share of the "
                "magnitude's range, 0 or more"
            )
        self.n_samples, self.noise, self.seed = n_samples, noise, seed

    @property
    def passes(self) -> int:
        """Three a sample."""
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


class IntegratedGradients(Attribution):
    """|X| integral of dy/d|X| at a |X| over a from 0 to 1: each bin's share of y(clip) - y(silence).

    Sundararajan, Taly & Yan (2017), https://arxiv.org/abs/1703.01365. Ours, not theirs: steps of equal ratio. Behind a
    logarithm much of the change happens near silence, where equal steps hardly look: at 50 steps through a dB front end
    they miss half of it.

    `details["completeness"]`, (batch,), tells by how much the bins' sum misses the theorem, as a share of the change.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        steps: points on the path.
        path: "log_spaced", Gauss-Legendre points in ln(a + k), the knee k being where the clip begins to be heard (3 %
            of the change); or "linear", Gauss-Legendre points in a, captum's default.
    Raises:
        ValueError: without captum, without a step, or for an unknown path.
    """

    def __init__(
        self,
        classifier: Classifier,
        to_mask: AttributionMask | None = None,
        domain: Domain = "magnitude",
        max_batch: int = 8,
        steps: int = 50,
        path: Path = "log_spaced",
    ):
        super().__init__(classifier, to_mask, domain, max_batch)
        require("captum", self)
        if steps < 1 or path not in get_args(Path):
            raise ValueError(f"steps is {steps}, path {path!r}; give 1 step or more, 'log_spaced' or 'linear'")
        self.steps, self.path = steps, path

    @property
    def passes(self) -> int:
        """Three a step, two for the ends of the path, and what it takes to find its knee."""
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
            heard = ((each - silent).abs() > HEARD * change.abs() for each in early)
            knee = next((knee for knee, loud in zip(KNEES, heard) if loud), KNEES[-1])
            attribution = self._log_spaced(magnitude, score, knee)
        missed = (attribution.double().sum() - change).abs()
        return attribution, {"completeness": (missed / change.abs().clamp(min=1e-6)).view(1)}

    def _log_spaced(self, magnitude: Tensor, score: Score, knee: float) -> Tensor:
        points, weights = np.polynomial.legendre.leggauss(self.steps)
        # a = exp(u) - k, so da = exp(u) du, for u from ln k to ln(1 + k).
        half = math.log1p(1 / knee) / 2
        shifted = knee * np.exp(half * (points + 1))
        both = magnitude.new_tensor(np.stack([shifted - knee, half * weights * shifted]))[..., None, None]
        total = torch.zeros_like(magnitude)
        for alpha, weight in zip(*(each.split(self.max_batch) for each in both)):
            total += (weight * _gradient(score, alpha * magnitude)).sum(0, keepdim=True)
        return total * magnitude

    def _linear(self, magnitude: Tensor, score: Score) -> Tensor:
        from captum import attr

        method = attr.IntegratedGradients(score)
        return method.attribute(magnitude.requires_grad_(), n_steps=self.steps, internal_batch_size=self.max_batch)


class GradientSHAP(Attribution):
    """E[(|X| - b) dy/d|X| at b + a (|X| - b)] over baselines b and a in [0, 1]: integrated gradients from several ends.

    Lundberg & Lee (2017), https://arxiv.org/abs/1705.07874 (expected gradients).

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        n_samples: pairs of a baseline and a place on its path.
        baselines: any of "silence" and "noise_floor", the clip's steady background.
        donors: (clips, samples) of other sounds, each one more baseline; brought to peak 1 and repeated or cut to the
            length of the clip.
        seed: of the draws; each clip draws alike. They come `max_batch` at a time.
    Raises:
        ValueError: without captum, a sample or a baseline; for unknown baselines, or donors of another shape.
    """

    def __init__(
        self,
        classifier: Classifier,
        to_mask: AttributionMask | None = None,
        domain: Domain = "magnitude",
        max_batch: int = 8,
        n_samples: int = 20,
        baselines: Sequence[Removed] = ("silence", "noise_floor"),
        donors: Tensor | None = None,
        seed: int = 0,
    ):
        super().__init__(classifier, to_mask, domain, max_batch)
        require("captum", self)
        if isinstance(baselines, str) or not set(baselines) <= set(get_args(Removed)):
            raise ValueError(f"baselines are {baselines!r}; give a list of 'silence' and 'noise_floor'")
        if donors is not None and (donors.ndim != 2 or not donors.numel()):
            raise ValueError(f"donors have shape {tuple(donors.shape)}; expected (clips, samples)")
        if n_samples < 1 or not (baselines or donors is not None):
            raise ValueError(f"n_samples is {n_samples}, baselines {list(baselines)}; give at least one of each")
        self.n_samples, self.baselines, self.donors, self.seed = n_samples, tuple(baselines), donors, seed

    @property
    def passes(self) -> int:
        """Three a sample."""
        return 3 * self.n_samples

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Averaged attribution; its sum estimates y(clip) - mean of y(baseline)."""
        from captum import attr

        magnitude = clip.stft.abs()
        baselines = self._baselines(magnitude, clip.waveform.shape[1])
        method, total = attr.GradientShap(score), torch.zeros_like(magnitude)
        with seeded(self.seed, magnitude.device):
            # captum hears all samples at once: given a few at a time, memory stays bounded.
            for start in range(0, self.n_samples, self.max_batch):
                count = min(self.max_batch, self.n_samples - start)
                part = method.attribute(magnitude.requires_grad_(), baselines, n_samples=count, stdevs=0.0)
                total += count * part.detach()
        return total / self.n_samples, {}

    def _baselines(self, magnitude: Tensor, samples: int) -> Tensor:
        """(baselines, freq, time)."""
        made = [what_remains(magnitude, each) for each in self.baselines]
        if self.donors is not None:
            donors = normalize_peak(self.donors.to(magnitude.device))[0]
            repeated = donors.repeat(1, -(-samples // donors.shape[1]))[:, :samples]
            made.append(self.classifier.spectrogram(repeated).abs())
        return torch.cat(made)


def _gradient(score: Score, magnitude: Tensor) -> Tensor:
    """Gradient of each version's own score, (versions, freq, time)."""
    from captum import attr

    return attr.Saliency(score).attribute(magnitude.detach().requires_grad_(), abs=False)
