"""The discrete wavelet transform of waveforms and its inverse, as convolutions in torch, so that gradients pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pywt
import torch
from torch import Tensor
from torch.nn import functional

INEXACT = "dmey"  # its filters are cut off, so that its inverse is wrong by about 1 %
LOWEST_HZ = 100.0  # by default, levels are added until the coarsest band ends below this frequency

__all__ = ["WaveletTransform", "default_levels"]


class WaveletTransform:
    """Discrete wavelet transform of (batch, samples) with zero padding, after Mallat (1989).

    The coefficients are [A_J, D_J, ..., D_1]: approximation of the coarsest level J, then details from coarse to fine.
    Filters, lengths and values are PyWavelets' (`pywt.wavedec(..., mode="zero")`). The inverse of all coefficients is
    the waveform. For orthogonal wavelets (Haar, Daubechies, symlets, coiflets) the inverse is also the transpose, so
    that the gradient of any function with respect to the coefficients is the transform of its gradient with respect to
    the waveform.

    Args:
        wavelet: a discrete wavelet's name, such as "haar", "db4" or "sym8".
        levels: J.

    Raises:
        ValueError: for an unknown wavelet, "dmey", whose inverse is not exact, or fewer than one level.

    >>> transform = WaveletTransform("haar", 1)
    >>> transform(torch.tensor([[3.0, 1.0]]))
    [tensor([[2.8284]]), tensor([[1.4142]])]
    """

    def __init__(self, wavelet: str = "db4", levels: int = 1):
        # The package exports the names of compiled modules, which type checkers do not see.
        if wavelet not in pywt.wavelist(kind="discrete") or wavelet == INEXACT:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                f"wavelet is {wavelet!r}; choose a discrete wavelet of PyWavelets, such as haar, db4 or sym8"
            )
        if not isinstance(levels, int) or levels < 1:
            raise ValueError(f"levels is {levels}; give a whole number, 1 or more")
        filters = pywt.Wavelet(wavelet)  # pyright: ignore[reportAttributeAccessIssue]
        self.wavelet, self.levels, self.orthogonal = wavelet, levels, bool(filters.orthogonal)
        # (2, 1, length): low pass and high pass; a convolution of torch does not flip its kernel.
        self._decompose = torch.tensor([filters.dec_lo, filters.dec_hi], dtype=torch.float64).flip(1)[:, None]
        self._reconstruct = torch.tensor([filters.rec_lo, filters.rec_hi], dtype=torch.float64)[:, None]

    def __call__(self, waveform: Tensor) -> list[Tensor]:
        """Coefficients of (batch, samples), each (batch, coefficients of the level)."""
        length, kernel = self._decompose.shape[2], self._decompose.to(waveform)
        rest, made = waveform, []
        for _ in range(self.levels):
            samples = rest.shape[1]
            half = (samples + length - 1) // 2
            padded = functional.pad(rest[:, None], (length - 2, 2 * half - samples))
            both = functional.conv1d(padded, kernel, stride=2)
            rest = both[:, 0]
            made.append(both[:, 1])
        return [rest, *made[::-1]]

    def inverse(self, coefficients: Sequence[Tensor], samples: int) -> Tensor:
        """Waveform (batch, samples) of coefficients in the order of `__call__`.

        Raises:
            ValueError: if the levels' lengths are not those of a waveform of so many samples.
        """
        lengths, given = self.lengths(samples), [each.shape[-1] for each in coefficients]
        if given != lengths:
            raise ValueError(f"levels have {given} coefficients; those of {samples} samples have {lengths}")
        length, kernel = self._reconstruct.shape[2], self._reconstruct.to(coefficients[0])
        rest = coefficients[0]
        for number, details in enumerate(coefficients[1:], 2):
            wanted = lengths[number] if number < len(lengths) else samples
            whole = functional.conv_transpose1d(torch.stack([rest, details], 1), kernel, stride=2)[:, 0]
            rest = whole[:, length - 2 : length - 2 + wanted]
        return rest

    def lengths(self, samples: int) -> list[int]:
        """Number of coefficients of each level, in the order of `__call__`; they add up to at least `samples`.

        >>> WaveletTransform("haar", 3).lengths(220500)
        [27563, 27563, 55125, 110250]
        """
        made = []
        for _ in range(self.levels):
            samples = (samples + self._decompose.shape[2] - 1) // 2
            made.append(samples)
        return [made[-1], *made[::-1]]

    def bands(self, sample_rate: int) -> list[tuple[float, float]]:
        """Frequencies in Hz, lowest and highest, of each level, in the order of `__call__`.

        >>> WaveletTransform("haar", 2).bands(16000)
        [(0.0, 2000.0), (2000.0, 4000.0), (4000.0, 8000.0)]
        """
        borders = [sample_rate / 2 ** (level + 1) for level in range(self.levels, -1, -1)]
        return list(zip([0.0, *borders[:-1]], borders))

    def times(self, sample_rate: int) -> list[tuple[float, float]]:
        """Start of the first coefficient and distance between coefficients in seconds, by level as in `__call__`.

        Coefficient k is about the time from start + k step to start + (k + 1) step. Starts are negative for wavelets
        longer than Haar, whose first coefficients are about the zeros before the sound.

        >>> WaveletTransform("haar", 2).times(8)
        [(0.0, 0.5), (0.0, 0.5), (0.0, 0.25)]
        """
        length = self._decompose.shape[2]
        scales = [2**level for level in (self.levels, *range(self.levels, 0, -1))]
        return [((1 - length / 2) * (scale - 1) / sample_rate + 0.0, scale / sample_rate) for scale in scales]


def default_levels(sample_rate: int) -> int:
    """The fewest levels whose approximation ends below `LOWEST_HZ`.

    >>> default_levels(16000), default_levels(44100)
    (7, 8)
    """
    return max(1, math.ceil(math.log2(sample_rate / 2 / LOWEST_HZ)))
