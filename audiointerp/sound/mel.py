"""Kaldi's mel scale and filter bank, which taggers trained on AudioSet use."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["kaldi_bank", "mel"]


def mel(hertz: Tensor) -> Tensor:
    """1127 ln(1 + f / 700), the mel scale of Kaldi and HTK."""
    return 1127 * (hertz / 700).log1p()


def kaldi_bank(sample_rate: int, n_fft: int, bands: int, low: float, high: float) -> Tensor:
    """Filters (freq, bands): triangles in mel, each from the centre of the band below to that of the band above.

    Args:
        sample_rate: in Hz.
        n_fft: length in samples of the transform behind the power spectrum that the filters weigh.
        bands: number of filters, their centres evenly spaced in mel.
        low, high: where the lowest triangle begins and the highest one ends, in Hz.

    >>> kaldi_bank(16000, 512, 128, 20.0, 8000.0).shape
    torch.Size([257, 128])
    """
    first, last = mel(torch.tensor([low, high], dtype=torch.float64))
    width = (last - first) / (bands + 1)
    bins = mel(torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft)[:, None]
    centres = first + width * torch.arange(1, bands + 1, dtype=torch.float64)
    bank = (1 - (bins - centres).abs() / width).clamp(min=0)
    bank[-1] = 0  # Kaldi's filters have no bin at half the rate
    return bank.float()
