"""Masks: target masks computed from a spectrogram, and the multiplication of a spectrogram by a mask.

A mask is (batch, freq, time) in [0, 1], 1 = keep. It acts in one of two domains:

- "log_magnitude": kept magnitude = expm1(m log1p|X|), as PIQ and L2I do. Kept and left-out parts add up in log1p only.
- "magnitude": kept magnitude = m|X|. Kept and left-out waveforms add up to the input.

The phase is always the mixture's. The log domain attenuates more: m = 0.5 is -20.9 dB at |X| = 100, not -6 dB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Domain = Literal["log_magnitude", "magnitude"]
TargetMask = Callable[[Tensor, Tensor | None], Tensor]

__all__ = [
    "AttributionMask",
    "Domain",
    "EnergyMask",
    "StemMask",
    "TargetMask",
    "ThresholdMask",
    "apply_mask",
    "attribution_mask",
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
    """The complex STFT multiplied by a mask in the given domain, with the phase of `stft`.

    In the log domain the magnitude is expm1(m log1p|X|) = (1 + |X|)^m - 1, so the bin is scaled by that over |X|;
    where |X| vanishes the scale tends to m. Binary masks give bit-identical results in both domains.

    Raises:
        ValueError: if the domain does not exist.

    >>> float(apply_mask(torch.tensor([[[100.0 + 0j]]]), torch.tensor([[[0.5]]]), "log_magnitude").abs())
    9.04...
    """
    if domain == "magnitude":
        return stft * mask
    if domain != "log_magnitude":
        raise ValueError(f"domain {domain!r} does not exist; choose log_magnitude or magnitude")
    magnitude = stft.abs()
    # At m = 1 the rounding of expm1(log1p) alone could raise a class's probability on an unchanged sound.
    plain = (magnitude < 1e-6) | (mask == 1)
    kept = torch.expm1(mask * magnitude.log1p())
    return stft * torch.where(plain, mask, kept / magnitude.masked_fill(plain, 1.0))


def binary_mask(mask: Tensor, threshold: float = 0.5) -> Tensor:
    """1 where the mask exceeds the threshold, else 0: the PIQ paper's binary-masking mode."""
    return (mask > threshold).to(mask.dtype)


def threshold_mask(magnitude: Tensor, threshold: float = 0.35, domain: Domain = "log_magnitude") -> Tensor:
    """1 where the (log-)magnitude exceeds `threshold` times the clip's maximum; the PIQ paper's training target.

    The paper's text thresholds the magnitude; its released code thresholds log1p of it, which keeps far more bins.
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
    power = _sorted(above).flip(1)
    # A bin is kept as long as the louder bins before it hold less than the share.
    before = power.cumsum(1) - power
    count = ((before < share * power.sum(1, keepdim=True)) & (power > 0)).sum(1, keepdim=True)
    least = power.gather(1, (count - 1).clamp(min=0))
    louder, equal = above > least, (above == least) & (count > 0)
    room = count - louder.sum(1, keepdim=True)
    if (equal.sum(1, keepdim=True) > room).any():  # of equally loud bins the first ones are kept
        equal &= equal.cumsum(1) <= room
    return (louder | equal).to(magnitude.dtype).view_as(magnitude)


def noise_floor(magnitude: Tensor, quantile: float = 0.1) -> Tensor:
    """A clip's steady background, (batch, freq, 1): a low quantile of the magnitude over time, per frequency."""
    values, place = _sorted(magnitude), quantile * (magnitude.shape[2] - 1)
    below = int(place)
    above = min(below + 1, magnitude.shape[2] - 1)
    return torch.lerp(values[..., below], values[..., above], place - below).unsqueeze(-1)


def _sorted(values: Tensor) -> Tensor:
    """Values in ascending order along the last axis; on a CPU by NumPy, several times as fast as torch's sort."""
    if values.device.type == "cpu" and not values.requires_grad:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(-1).values


def fill_with_noise_floor(mask: Tensor, magnitude: Tensor, domain: Domain, quantile: float = 0.1) -> Tensor:
    """The mask that leaves removed bins at the clip's noise floor instead of at silence.

    m + (1 - m) floor / |X| in the mask's own domain, so that the filled sound is again a masked input.
    Classifiers are trained on sounds with background noise, not on sounds with silent bins.
    """
    floor = torch.minimum(noise_floor(magnitude, quantile), magnitude)
    if domain == "log_magnitude":
        floor, magnitude = floor.log1p(), magnitude.log1p()
    return mask + (1 - mask) * floor / magnitude.clamp(min=1e-8)


def ideal_ratio_mask(stem: Tensor, rest: Tensor) -> Tensor:
    """|S| / (|S| + |R|) from the magnitudes of the stem and of the rest of the mixture; 0 where both are silent."""
    return stem / (stem + rest).clamp(min=1e-8)


def ideal_binary_mask(stem: Tensor, rest: Tensor) -> Tensor:
    """1 where the stem's magnitude exceeds the rest's."""
    return (stem > rest).to(stem.dtype)


def attribution_mask(attribution: Tensor, quantile: float = 0.99, smooth: int = 3, absolute: bool = False) -> Tensor:
    """Soft mask of signed scores: a_+ divided by its quantile, limited to 1; bins with negative scores are not kept.

    Args:
        attribution: (batch, freq, time), any range.
        quantile: of the positive part over the clip; bins above it are kept whole. If it is 0, the maximum is used.
        smooth: number of bins and frames over which scores are averaged first (odd; 1: no averaging), because isolated
            bins sound like musical noise.
        absolute: |a| instead of the positive part.

    >>> attribution_mask(torch.tensor([[[-1.0, 0.0, 1.0, 2.0]]]), quantile=1.0, smooth=1)
    tensor([[[0.0000, 0.0000, 0.5000, 1.0000]]])
    """
    values = attribution.abs() if absolute else attribution
    if smooth > 1:
        # At the edges, only existing bins are averaged, without padded zeros.
        pool = torch.nn.functional.avg_pool2d
        values = pool(values.unsqueeze(1), smooth, 1, smooth // 2, count_include_pad=False)[:, 0]
    positive = values.clamp(min=0)
    flat = positive.flatten(1)
    top = flat.quantile(quantile, dim=1)
    top = torch.where(top > 0, top, flat.amax(1))[:, None, None]
    return (positive / top.clamp(min=torch.finfo(positive.dtype).tiny)).clamp(max=1)


@dataclass(frozen=True)
class AttributionMask:
    """Turns an attribution into a mask; see `attribution_mask`."""

    quantile: float = 0.99
    smooth: int = 3
    absolute: bool = False

    def __post_init__(self):
        if not 0 < self.quantile <= 1 or self.smooth < 1 or self.smooth % 2 == 0:
            raise ValueError(
                f"AttributionMask has quantile {self.quantile}, smooth {self.smooth}; give a quantile in (0, 1] and an "
                "odd number of bins"
            )

    def __call__(self, attribution: Tensor) -> Tensor:
        """Mask of (batch, freq, time)."""
        return attribution_mask(attribution, self.quantile, self.smooth, self.absolute)


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
            (see `energy_mask`), so that the faintest bins need not be explained.
    """

    kind: Literal["ratio", "binary"] = "ratio"
    share: float = 1.0

    def __post_init__(self):
        if self.kind not in ("ratio", "binary"):
            raise ValueError(f"StemMask has no kind {self.kind!r}; choose ratio or binary")

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
