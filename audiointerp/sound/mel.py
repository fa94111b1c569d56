"""Mel scales and filter banks of published audio networks: Kaldi's, librosa's and torchaudio's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["hertz_bank", "kaldi_bank", "mel", "slaney_mel"]

BREAK, LINEAR = 1000.0, 200 / 3  # Slaney's scale: below 1000 Hz, a mel is 200 / 3 Hz wide
STEP = math.log(6.4) / 27  # above 1000 Hz, a mel multiplies the frequency by 6.4 ** (1 / 27)


def mel(hertz: Tensor) -> Tensor:
    """1127 ln(1 + f / 700), the mel scale of Kaldi and HTK."""
    return 1127 * (hertz / 700).log1p()


def slaney_mel(hertz: Tensor) -> Tensor:
    """Slaney's mel scale, librosa's default: linear below 1000 Hz, logarithmic above.

    >>> slaney_mel(torch.tensor([0.0, 500.0, 1000.0, 6400.0]))
    tensor([ 0.0000,  7.5000, 15.0000, 42.0000])
    """
    above = BREAK / LINEAR + (hertz / BREAK).clamp(min=1).log() / STEP
    return torch.where(hertz < BREAK, hertz / LINEAR, above)


def _mel_hertz(mels: Tensor) -> Tensor:
    return 700 * (mels / 1127).expm1()


def _slaney_hertz(mels: Tensor) -> Tensor:
    knee = BREAK / LINEAR
    return torch.where(mels < knee, LINEAR * mels, BREAK * ((mels - knee).clamp(min=0) * STEP).exp())


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


def hertz_bank(
    sample_rate: int, n_fft: int, bands: int, low: float, high: float, htk: bool = False, area: bool = True
) -> Tensor:
    """Filters (freq, bands): triangles in Hz whose corners are evenly spaced in mel.

    The default is that of librosa (Slaney's scale, area 1 Hz); `htk=True, area=False` is that of torchaudio.

    Args:
        sample_rate, n_fft, bands, low, high: see `kaldi_bank`.
        htk: HTK's mel scale instead of Slaney's.
        area: every triangle has the same area; False: the same height, 1.

    >>> hertz_bank(32000, 1024, 64, 50.0, 14000.0).shape
    torch.Size([513, 64])
    """
    to_mel, to_hertz = (mel, _mel_hertz) if htk else (slaney_mel, _slaney_hertz)
    first, last = to_mel(torch.tensor([low, high], dtype=torch.float64)).tolist()
    corners = to_hertz(torch.linspace(first, last, bands + 2, dtype=torch.float64))
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * (sample_rate / n_fft)
    below, centre, above = corners[:-2], corners[1:-1], corners[2:]
    bank = torch.minimum((bins - below) / (centre - below), (above - bins) / (above - centre)).clamp(min=0)
    return (bank * (2 / (above - below)) if area else bank).float()
