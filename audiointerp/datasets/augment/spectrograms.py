"""Augmentation of log-magnitudes (batch, freq, time): parts of them silenced at random.

Everything random comes from the torch.Generator passed in, as in `waveforms`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

__all__ = ["FrequencyMask", "TimeMask", "WeakBinMask"]


class FrequencyMask:
    """Silences a random band of each log-magnitude (batch, freq, time), 0 to `max_bins` bins high.

    Park et al. (2019), "SpecAugment", https://arxiv.org/abs/1904.08779. Silence is 0, the log1p of magnitude 0.
    """

    def __init__(self, max_bins: int):
        self.max_bins = _check_width("FrequencyMask", max_bins)

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A masked copy."""
        return features.masked_fill(_stripe(features, features.shape[1], self.max_bins, generator)[:, :, None], 0)


class TimeMask:
    """Silences a random stretch of each log-magnitude (batch, freq, time), 0 to `max_frames` frames long.

    Park et al. (2019), as `FrequencyMask`.
    """

    def __init__(self, max_frames: int):
        self.max_frames = _check_width("TimeMask", max_frames)

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A masked copy."""
        return features.masked_fill(_stripe(features, features.shape[2], self.max_frames, generator)[:, None, :], 0)


class WeakBinMask:
    """Silences a random part of the weaker bins of each log-magnitude (batch, freq, time).

    Per clip: q is uniform in [0, max_quantile] and p in [0, 1]; bins below the clip's q-quantile are silenced with
    probability p each. A classifier trained with it learns sounds like those that masks leave: loud parts on silence.

    Args:
        max_quantile: in [0, 1].
    Raises:
        ValueError: if max_quantile is outside [0, 1].
    """

    def __init__(self, max_quantile: float = 0.9):
        if not 0 <= max_quantile <= 1:
            raise ValueError(f"WeakBinMask's max_quantile is {max_quantile}; it must be in [0, 1]")
        self.max_quantile = max_quantile

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A masked copy."""
        quantile = self.max_quantile * torch.rand(len(features), generator=generator)
        share = torch.rand(len(features), generator=generator)
        # One number per bin is slow to draw on the CPU and move, so a generator on the features' device draws them.
        nearby = Generator(features.device).manual_seed(int(torch.randint(2**31, (), generator=generator)))
        uniform = torch.rand(features.shape, generator=nearby, device=features.device)
        chosen = uniform < share.to(features.device)[:, None, None]
        flat = features.flatten(1)
        rank = (quantile * (flat.shape[1] - 1)).long() + 1
        level = torch.stack([_smallest(row, int(k)) for row, k in zip(flat, rank)])
        return features.masked_fill(chosen & (features < level[:, None, None]), 0)


def _smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value, k from 1; on a CPU by NumPy, several times as fast as torch's kthvalue."""
    if values.device.type == "cpu" and not values.requires_grad:
        return torch.as_tensor(np.partition(values.numpy(), k - 1)[k - 1])
    return values.kthvalue(k).values


def _stripe(features: Tensor, size: int, widest: int, generator: Generator) -> Tensor:
    """(batch, size) bool: one run of random width and place per row."""
    uniform = torch.rand(2, len(features), generator=generator)
    width = (uniform[0] * (min(widest, size) + 1)).long()
    start = (uniform[1] * (size - width + 1)).long()
    place = torch.arange(size)
    return ((place >= start[:, None]) & (place < (start + width)[:, None])).to(features.device)


def _check_width(name: str, width: int) -> int:
    if width < 0:
        raise ValueError(f"{name}'s width is {width}; it must be 0 or more")
    return width
