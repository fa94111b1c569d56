"""Masks: from a spectrogram to the mask a method should learn, from a mask to the sound it keeps.

A mask is (batch, freq, time) in [0, 1], 1 = keep. It acts in one of two domains:

- "log_magnitude": kept magnitude = expm1(m log1p|X|), as PIQ and L2I do. Kept and left-out parts add up in log1p only.
- "magnitude": kept magnitude = m|X|. Kept and left-out waveforms add up to the input.

The phase is always the mixture's. The log domain attenuates more: m = 0.5 is -20.9 dB at |X| = 100, not -6 dB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from audiointerp.contracts import Domain

TargetMask = Callable[[Tensor, Tensor | None], Tensor]

__all__ = [
    "EnergyMask",
    "StemMask",
    "TargetMask",
    "ThresholdMask",
    "apply_mask",
    "binary_mask",
    "energy_mask",
    "fill_with_noise_floor",
    "ideal_binary_mask",
    "ideal_ratio_mask",
    "loudest_mask",
    "noise_floor",
    "threshold_mask",
]


def apply_mask(stft: Tensor, mask: Tensor, domain: Domain) -> Tensor:
    """The complex STFT that a mask keeps, with the phase of `stft`.

    In the log domain the magnitude is expm1(m log1p|X|) = (1 + |X|)^m - 1, so the bin is scaled by that over |X|;
    where |X| vanishes the scale tends to m. Binary masks act alike in both domains, to the last bit.

    >>> float(apply_mask(torch.tensor([[[100.0 + 0j]]]), torch.tensor([[[0.5]]]), "log_magnitude").abs())
    9.04...
    """
    if domain == "magnitude":
        return stft * mask
    magnitude = stft.abs()
    # At m = 1 the rounding of expm1(log1p) alone would let a classifier be surer of the same sound.
    plain = (magnitude < 1e-6) | (mask == 1)
    kept = torch.expm1(mask * magnitude.log1p())
    return stft * torch.where(plain, mask, kept / magnitude.masked_fill(plain, 1.0))


def binary_mask(mask: Tensor, threshold: float = 0.5) -> Tensor:
    """1 where the mask exceeds the threshold, else 0: the PIQ paper's binary-masking mode."""
    return (mask > threshold).to(mask.dtype)


def threshold_mask(magnitude: Tensor, threshold: float = 0.35, domain: Domain = "log_magnitude") -> Tensor:
    """1 where the (log-)magnitude exceeds `threshold` times the clip's maximum; the PIQ paper's training target.

    The paper's text thresholds the magnitude; its released code log1p of it, which keeps far more.
    """
    level = magnitude.log1p() if domain == "log_magnitude" else magnitude
    return (level > threshold * level.amax((1, 2), keepdim=True)).to(magnitude.dtype)


def loudest_mask(magnitude: Tensor, share: float | Tensor) -> Tensor:
    """1 on the loudest bins that make up `share` of the clip's area (a number, or one per clip)."""
    flat = magnitude.flatten(1)
    rank = flat.argsort(1, descending=True).argsort(1)
    count = torch.as_tensor(share, device=flat.device).expand(len(flat)) * flat.shape[1]
    return (rank < count.round()[:, None]).to(magnitude.dtype).view_as(magnitude)


def energy_mask(magnitude: Tensor, share: float = 0.9, quantile: float = 0.1) -> Tensor:
    """1 on the fewest bins that hold `share` of the clip's energy above its noise floor (power, per frequency)."""
    above = (magnitude.square() - noise_floor(magnitude, quantile).square()).clamp(min=0).flatten(1)
    power, order = above.sort(1, descending=True)
    # A bin belongs as long as the louder ones before it hold less than the share.
    before = power.cumsum(1) - power
    keep = (before < share * power.sum(1, keepdim=True)) & (power > 0)
    return torch.zeros_like(above).scatter(1, order, keep.to(above.dtype)).view_as(magnitude)


def noise_floor(magnitude: Tensor, quantile: float = 0.1) -> Tensor:
    """A clip's steady background, (batch, freq, 1): a low quantile of the magnitude over time, per frequency."""
    return magnitude.quantile(quantile, dim=2, keepdim=True)


def fill_with_noise_floor(mask: Tensor, magnitude: Tensor, domain: Domain, quantile: float = 0.1) -> Tensor:
    """The mask that leaves removed bins at the clip's noise floor instead of at silence.

    m + (1 - m) floor / |X| in the mask's own domain, so that the filled sound is again a masked input. A classifier has
    heard background noise; it has never heard holes.
    """
    floor = torch.minimum(noise_floor(magnitude, quantile), magnitude)
    if domain == "log_magnitude":
        floor, magnitude = floor.log1p(), magnitude.log1p()
    return mask + (1 - mask) * floor / magnitude.clamp(min=1e-8)


def ideal_ratio_mask(stem: Tensor, rest: Tensor) -> Tensor:
    """|S| / (|S| + |R|) from the magnitudes of the wanted stem and of everything else; 0 where both are silent."""
    return stem / (stem + rest).clamp(min=1e-8)


def ideal_binary_mask(stem: Tensor, rest: Tensor) -> Tensor:
    """1 where the stem's magnitude exceeds the rest's."""
    return (stem > rest).to(stem.dtype)


@dataclass(frozen=True)
class ThresholdMask:
    """Target mask of the PIQ paper; see `threshold_mask`."""

    threshold: float = 0.35
    domain: Domain = "log_magnitude"

    def __call__(self, stft: Tensor, stem: Tensor | None = None) -> Tensor:
        """Mask of a complex STFT (batch, freq, time)."""
        return threshold_mask(stft.abs(), self.threshold, self.domain)


@dataclass(frozen=True)
class EnergyMask:
    """Target mask that keeps a stated share of the clip's energy above its noise floor; see `energy_mask`."""

    share: float = 0.9
    quantile: float = 0.1

    def __call__(self, stft: Tensor, stem: Tensor | None = None) -> Tensor:
        """Mask of a complex STFT (batch, freq, time)."""
        return energy_mask(stft.abs(), self.share, self.quantile)


@dataclass(frozen=True)
class StemMask:
    """Ideal mask of the known stem within its mixture, "ratio" or "binary".

    Args:
        kind: of the mask.
        share: below 1, only the fewest bins that hold this share of the mixture's energy above its noise floor are kept
            (see `energy_mask`): what is too faint to matter need not be explained.
    """

    kind: Literal["ratio", "binary"] = "ratio"
    share: float = 1.0

    def __call__(self, stft: Tensor, stem: Tensor | None = None) -> Tensor:
        """Mask of the mixture's complex STFT and its stem's, each (batch, freq, time).

        Raises:
            ValueError: when no stem is known.
        """
        if stem is None:
            raise ValueError("target_mask StemMask needs known stems; train on mixtures (augment with Remix)")
        ideal = ideal_ratio_mask if self.kind == "ratio" else ideal_binary_mask
        mask = ideal(stem.abs(), (stft - stem).abs())
        return mask if self.share == 1.0 else mask * energy_mask(stft.abs(), self.share)
