"""Where a sound divides by itself: into harmonic and percussive layers, and in time at its onsets."""

from __future__ import annotations

import torch
from torch import Tensor

LAYERS = ("harmonic", "percussive", "rest")
KERNEL = 31  # frames and bins of the median filters, librosa's
POWER = 2.0  # of the soft masks

__all__ = ["LAYERS", "harmonic_percussive_masks", "onset_borders", "onset_strength"]


def harmonic_percussive_masks(magnitude: Tensor, margin: float = 2.0, kernel: int = KERNEL) -> Tensor:
    """Soft masks of the harmonic layer, the percussive layer and the rest, (3, freq, time); at margin 1, of two.

    Fitzgerald (2010), "Harmonic/percussive separation using median filtering": h is the magnitude's median over
    neighbouring frames, p the median over neighbouring bins. Driedger, Mueller & Disch (2014), "Extending
    harmonic-percussive separation of audio signals": the harmonic mask is h^2 / (h^2 + (margin p)^2), the percussive
    mask p^2 / (p^2 + (margin h)^2), and the rest is 1 minus both, so that the three always add up to 1. As librosa's
    `hpss`, which leaves the rest out.

    Args:
        magnitude: (freq, time).
        margin: 1 or more; at 1 the first two masks add up to 1.
        kernel: number of frames and of bins of the medians; odd.

    Raises:
        ValueError: for a margin below 1 or an even kernel.
    """
    if not 1 <= margin < float("inf") or kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"margin is {margin}, kernel {kernel}; give a margin of 1 or more and an odd kernel")
    harmonic = _running_median(magnitude, kernel)
    percussive = _running_median(magnitude.T, kernel).T
    if margin == 1:
        share = _soft_mask(harmonic, percussive, equal=0.5)
        return torch.stack([share, 1 - share])
    first, second = _soft_mask(harmonic, margin * percussive), _soft_mask(percussive, margin * harmonic)
    return torch.stack([first, second, (1 - first - second).clamp(min=0)])


def onset_strength(magnitude: Tensor) -> Tensor:
    """Spectral flux, (time,): the mean rise of log1p magnitude from the frame before, falls counted as 0; first 0.

    >>> onset_strength(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    tensor([0.0000, 0.0000, 0.6931, 0.0000])
    """
    rise = magnitude.log1p().diff(dim=1, prepend=magnitude[:, :1].log1p()).clamp(min=0)
    return rise.mean(0)


def onset_borders(magnitude: Tensor, segments: int) -> list[int]:
    """First frames of all segments but the first, rising: the strongest onsets of a clip.

    An onset is a local maximum of `onset_strength`; its segment begins at the minimum before it, so that the attack
    belongs to the segment. If the clip has fewer onsets than are needed, the longest segments are halved, so that a
    steady sound is divided in time, too.

    Args:
        magnitude: (freq, time).
        segments: number of segments.

    Raises:
        ValueError: if there are more segments than frames, or none.
    """
    strength = onset_strength(magnitude).tolist()
    if not 1 <= segments <= len(strength):
        raise ValueError(f"{segments} segments of {len(strength)} frames; each needs a frame")
    # Compared with a ten-thousandth of the strongest onset: the flux of a steady sound is rounding error.
    least = 1e-4 * max(strength)
    peaks = [
        each
        for each in range(1, len(strength))
        if strength[each] > least
        and strength[each] > strength[each - 1]
        and strength[each] >= (strength[each + 1] if each + 1 < len(strength) else 0.0)
    ]
    borders: set[int] = set()
    for peak in sorted(peaks, key=lambda each: (-strength[each], each)):
        if len(borders) == segments - 1:
            break
        start = peak
        while start > 1 and strength[start - 1] < strength[start]:
            start -= 1
        borders.add(start)
    return _filled(sorted(borders), segments, len(strength))


def _filled(borders: list[int], segments: int, frames: int) -> list[int]:
    """Borders between as many segments as wanted: the longest segment (the first of several) is halved repeatedly."""
    while len(borders) < segments - 1:
        ends = [0, *borders, frames]
        longest = max(range(len(ends) - 1), key=lambda each: ends[each + 1] - ends[each])
        borders = sorted([*borders, (ends[longest] + ends[longest + 1]) // 2])
    return borders


def _running_median(values: Tensor, kernel: int) -> Tensor:
    """Median over the last axis in a window of `kernel`; mirrored at the ends, the last value twice, as scipy does."""
    length, half = values.shape[-1], kernel // 2
    place = torch.arange(-half, length + half, device=values.device) % (2 * length)
    mirrored = torch.where(place < length, place, 2 * length - 1 - place)
    return values[..., mirrored].unfold(-1, kernel, 1).median(-1).values


def _soft_mask(wanted: Tensor, other: Tensor, equal: float = 0.0) -> Tensor:
    """wanted^2 / (wanted^2 + other^2); `equal` where both are 0."""
    top = torch.maximum(wanted, other)
    silent = top < torch.finfo(top.dtype).tiny
    # Divided by the larger one first: squares of small magnitudes would vanish.
    top = top.masked_fill(silent, 1.0)
    first, second = (wanted / top).pow(POWER), (other / top).pow(POWER)
    return (first / (first + second).masked_fill(silent, 1.0)).masked_fill(silent, equal)
