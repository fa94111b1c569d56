"""The STFT, its inverse, and log-magnitudes.

The default is the front end of the PIQ paper's audio experiments as released (SpeechBrain, recipes/ESC50): 16 kHz,
1024-point FFT, a periodic Hamming window of 372 samples every 186, centred, zero padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAX_FFT = 1 << 16
MAX_VALUES = 2_000_000  # of each second of sound; 30 s are half a gigabyte. The default has 44,000

__all__ = ["STFT", "log_magnitude"]


class STFT(nn.Module):
    """Complex short-time Fourier transform with an exact inverse.

    `frames = 1 + samples // hop_length`; 80,000 samples <-> 513 x 431. Bin k is at k * sample_rate / n_fft Hz, frame
    t is centred on sample t * hop_length.

    Args:
        sample_rate: in Hz (kept for axes; the transform does not use it).
        n_fft, win_length, hop_length: in samples.
    Shape:
        waveform (batch, samples) -> (batch, freq, time), complex.

    >>> stft = STFT()
    >>> waveform = torch.randn(1, 80000)
    >>> stft(waveform).shape
    torch.Size([1, 513, 431])
    >>> bool((stft.inverse(stft(waveform), 80000) - waveform).abs().max() < 1e-5)
    True
    """

    window: Tensor

    def __init__(self, sample_rate: int = 16000, n_fft: int = 1024, win_length: int = 372, hop_length: int = 186):
        super().__init__()
        if not sample_rate > 0:
            raise ValueError(f"STFT needs a sample_rate above 0 Hz, got {sample_rate}")
        if not 0 < hop_length <= win_length <= n_fft:
            raise ValueError(
                f"STFT needs 0 < hop_length <= win_length <= n_fft, got {hop_length}, {win_length}, {n_fft}"
            )
        if n_fft > MAX_FFT or sample_rate / hop_length * (n_fft // 2 + 1) > MAX_VALUES:
            raise ValueError(
                f"STFT of n_fft {n_fft} every {hop_length} samples at {sample_rate} Hz has more than {MAX_VALUES} "
                f"values for each second of sound, or n_fft is above {MAX_FFT}; take a longer hop_length or a smaller "
                "n_fft"
            )
        self.sample_rate, self.n_fft, self.win_length, self.hop_length = sample_rate, n_fft, win_length, hop_length
        self.register_buffer("window", torch.hamming_window(win_length), persistent=False)

    @property
    def config(self) -> dict[str, int]:
        """The constructor's arguments, for a bundle."""
        names = ("sample_rate", "n_fft", "win_length", "hop_length")
        return {name: getattr(self, name) for name in names}

    def forward(self, waveform: Tensor) -> Tensor:
        """Complex spectrogram of (batch, samples)."""
        return torch.stft(
            waveform,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window,
            pad_mode="constant",
            return_complex=True,
        )

    def inverse(self, stft: Tensor, samples: int) -> Tensor:
        """Waveform (batch, samples) of a complex spectrogram."""
        return torch.istft(stft, self.n_fft, self.hop_length, self.win_length, self.window, length=samples)


def log_magnitude(stft: Tensor) -> Tensor:
    """log(1 + |stft|): linear amplitude, natural logarithm, 0 at silence."""
    return stft.abs().log1p()
