"""A learned waveform basis: frames of the sound <-> coefficients, with an exact inverse whatever was learned.

Conv-TasNet (Luo and Mesgarani, 2018, https://arxiv.org/abs/1809.07454) and SepFormer learn an encoder and a decoder
that give back the sound only after training, and only nearly. Here the filters are a matrix with orthonormal columns,
so that the decoder is the encoder's transpose, and all coefficients give back the sound before, during and after
training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Basis", "real_fourier"]


class Basis(nn.Module):
    """Waveform (batch, samples) <-> coefficients (batch, channels, frames); learned by its `directions`.

    Frame n, weighted by the root of a Hann window w, is x_n (kernel,); its coefficients are c_n = Q x_n, where Q
    (channels, kernel) has orthonormal columns: Q' Q = 1. Q' c_n, weighted by the root of w once more, overlaps and adds
    up to the sound, since the shifted w add up to a constant. Q is the orthonormal factor of the learned matrix
    (Gram-Schmidt by QR); it starts as the sines and cosines of `real_fourier`.

    Args:
        channels: number of filters, at least as many as `kernel`.
        kernel: samples of a filter, an even number.
        stride: samples between frames; `kernel` is a multiple of it, at least twice.
    Raises:
        ValueError: for sizes that do not fit.
    """

    window: Tensor

    def __init__(self, channels: int, kernel: int, stride: int):
        super().__init__()
        if stride < 1 or kernel < 2 * stride or kernel % stride or channels < kernel:
            raise ValueError(
                f"a basis of {channels} channels, kernel {kernel} and stride {stride} has no exact inverse; the kernel "
                "is a multiple of the stride, at least twice, and there are at least as many channels as its samples"
            )
        self.channels, self.kernel, self.stride = channels, kernel, stride
        self.directions = nn.Parameter(real_fourier(channels)[:, :kernel].contiguous())
        window = (math.pi * torch.arange(kernel) / kernel).sin()  # the root of the periodic Hann window
        self.register_buffer("window", window, persistent=False)

    def filters(self) -> Tensor:
        """Q, (channels, kernel)."""
        factors = torch.linalg.qr(self.directions)
        # QR is unique up to the signs of the columns; these make Q equal a matrix that is orthonormal already.
        return factors.Q * factors.R.diagonal().sign()

    def frames(self, samples: int) -> int:
        """Number of frames of a sound: those that contain one of its samples."""
        return (samples - 1 + self.kernel - self.stride) // self.stride + 1

    def centres(self, samples: int) -> Tensor:
        """Where each frame's window is largest, in samples from the beginning of the sound, (frames,)."""
        number = torch.arange(self.frames(samples), device=self.window.device)
        return number * self.stride - (self.kernel - self.stride) + self.kernel / 2

    def forward(self, waveform: Tensor) -> Tensor:
        """Coefficients (batch, channels, frames) of (batch, samples); silence surrounds the sound."""
        samples, before = waveform.shape[1], self.kernel - self.stride
        length = (self.frames(samples) - 1) * self.stride + self.kernel
        padded = functional.pad(waveform, (before, length - before - samples))
        with torch.autocast(waveform.device.type, enabled=False):
            return functional.conv1d(padded[:, None], (self.filters() * self.window)[:, None], stride=self.stride)

    def inverse(self, coefficients: Tensor, samples: int) -> Tensor:
        """The sound (batch, samples) of coefficients (batch, channels, frames)."""
        before = self.kernel - self.stride
        scale = 2 * self.stride / self.kernel  # one over the sum of the shifted Hann windows
        with torch.autocast(coefficients.device.type, enabled=False):
            filters = (self.filters() * self.window * scale)[:, None]
            made = functional.conv_transpose1d(coefficients, filters, stride=self.stride)
        return made[:, 0, before : before + samples]


def real_fourier(size: int) -> Tensor:
    """The real discrete Fourier basis, (size, size), orthonormal: a constant, then cosine and sine of each frequency.

    Row i has the frequency ceil(i / 2) / size, in cycles per sample.

    >>> real_fourier(2)
    tensor([[ 0.7071,  0.7071],
            [ 0.7071, -0.7071]])
    """
    row, time = torch.arange(size)[:, None], torch.arange(size, dtype=torch.float64)
    angle = 2 * math.pi / size * ((row + 1) // 2) * time
    made = torch.where(row % 2 == 1, angle.cos(), angle.sin()) * math.sqrt(2 / size)
    made[0] = 1 / math.sqrt(size)
    if size % 2 == 0:
        made[-1] /= math.sqrt(2)
    return made.float()
