"""Front ends of published audio networks, in torch, so that gradients reach the waveform.

Each computes the values of the implementation that it names; `audio_spectrogram_transformer.py` and `efficientat.py`
have those of their networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.sound.mel import hertz_bank

FLOOR = 1e-10  # smallest mel power whose logarithm is taken

__all__ = ["DecibelMel", "UnitVariance", "WhisperFeatures"]


class DecibelMel(nn.Module):
    """10 log10(max(mel power, 1e-10)): torchlibrosa's Spectrogram and LogmelFilterBank with reference 1 and no top_db.

    STFT with a periodic Hann window as long as the transform, centred with reflection; power; the filters of `bank`.
    Below 1e-10 the gradient is 0. A sound of at most half a window is padded with silence.

    Args:
        n_fft: length in samples of window and transform.
        hop_length: in samples.
        bank: filters (freq, bands), such as `hertz_bank` gives.
    Shape:
        waveform (batch, samples) -> (batch, 1, band, time), in dB.

    >>> DecibelMel(1024, 320, hertz_bank(32000, 1024, 64, 50.0, 14000.0))(torch.randn(2, 32000)).shape
    torch.Size([2, 1, 64, 101])
    """

    window: Tensor
    bank: Tensor

    def __init__(self, n_fft: int, hop_length: int, bank: Tensor):
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Mel picture in dB."""
        # Reflection needs more samples than it adds at each side.
        waveform = functional.pad(waveform, (0, max(0, self.n_fft // 2 + 1 - waveform.shape[1])))
        stft = torch.stft(waveform, self.n_fft, self.hop_length, window=self.window, return_complex=True)
        power = stft.real.square() + stft.imag.square()
        return 10 * (self.bank @ power).clamp(min=FLOOR).log10()[:, None]


class UnitVariance(nn.Module):
    """(waveform - mean) / sqrt(variance + 1e-7) of each clip, as transformers' Wav2Vec2FeatureExtractor.

    Args:
        normalize: False leaves the waveform as it is, as the extractor's `do_normalize=False`.
        shortest: a shorter clip is followed by zeros, after normalisation, up to this number of samples.
    Shape:
        waveform (batch, samples) -> (batch, samples), at least `shortest` samples.

    >>> UnitVariance()(torch.tensor([[1.0, -1.0, 1.0, -1.0]])).round(decimals=3)
    tensor([[ 1., -1.,  1., -1.]])
    """

    def __init__(self, normalize: bool = True, shortest: int = 1):
        super().__init__()
        self.normalize, self.shortest = normalize, shortest

    def forward(self, waveform: Tensor) -> Tensor:
        """Normalised waveform."""
        if self.normalize:
            centred = waveform - waveform.mean(1, keepdim=True)
            waveform = centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()
        return functional.pad(waveform, (0, max(0, self.shortest - waveform.shape[1])))


class WhisperFeatures(nn.Module):
    """Whisper's log-mel spectrogram as transformers' WhisperFeatureExtractor makes it; differentiable, no dither.

    The sound is followed by zeros up to `max_samples`; log10 of the power in Slaney's mel bands from 0 to 8000 Hz,
    raised to at least 8 below the clip's largest value; then (x + 4) / 4.

    Args:
        sample_rate: in Hz.
        bands: number of mel bands.
        n_fft, hop_length: in samples.
        max_samples: length of sound that the model takes; what follows is cut off.
    Shape:
        waveform (batch, samples) -> (batch, band, time).

    >>> WhisperFeatures(max_samples=16000)(torch.randn(2, 8000)).shape
    torch.Size([2, 80, 100])
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        bands: int = 80,
        n_fft: int = 400,
        hop_length: int = 160,
        max_samples: int = 480_000,
    ):
        super().__init__()
        self.n_fft, self.hop_length, self.max_samples = n_fft, hop_length, max_samples
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        bank = hertz_bank(sample_rate, n_fft, bands, 0.0, 8000.0)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrogram."""
        waveform = functional.pad(waveform[:, : self.max_samples], (0, max(0, self.max_samples - waveform.shape[1])))
        stft = torch.stft(waveform, self.n_fft, self.hop_length, window=self.window, return_complex=True)[..., :-1]
        logs = (self.bank @ (stft.real.square() + stft.imag.square())).clamp(min=FLOOR).log10()
        return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8) + 4) / 4
