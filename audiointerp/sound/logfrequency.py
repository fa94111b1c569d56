"""A note's magnitude and phase on a logarithmic frequency axis, and two exact ways back to its waveform.

The representation of Heiss et al. (2020), "In-Distribution Interpretability for Challenging Modalities",
https://arxiv.org/abs/2007.00758: one Fourier transform of the whole note from 20 to 8000 Hz, its magnitude
power-normalised, and its phase. The paper states neither the number of bands nor how it pools; here, for band centres
f_k = low (high / low)^(k / (bands - 1)) and B_k the bins nearer to f_k than to any other centre on the log axis:

- m_k = sqrt(sum of |X|^2 over B_k), then m / sqrt(sum m^2). |X| at f_k alone would miss most partials: partials of a
  4 s note are about 0.25 Hz wide, and from 50 Hz on the centres are further apart than that;
- phi_k = phase of the strongest bin of B_k, as cosine and sine, with time 0 at the note's onset, because a delay
  changes the phase of each band by a different angle; both are 0 for a band so far below the clip's level that its
  phase would be the transform's rounding error. Between two equally strong bins rounding decides;
- the clip is padded with zeros, so that the lowest bands have bins of their own; a band without bins takes the nearest.

The features describe each band as a whole, not its single bins. Both ways back therefore start from the clip's own
spectrum and change all bins of a band alike; unchanged features give the clip back.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

LEVEL_SCALE = 1000.0  # level = log(1 + 1000 m), which resolves partials down to 60 dB below the note
SILENCE = 1e-8  # peak at or below which a clip is silent
MAGNITUDE_FLOOR = 1e-6  # normalised magnitudes below it (-120 dB) are treated as this value
# The error of a float32 transform is about EPSILON times the root mean square of its spectrum in every bin, and differs
# between processors. The phase of a bin that small is the error's, so phasors fade out from 300 to 30 times the error
# (for notes of 4 s about -140 to -160 dB below the note), where it changes a phase by 1 / 200 to 1 / 20 of a radian.
EPSILON, CERTAIN, UNKNOWN = torch.finfo(torch.float32).eps, 300.0, 30.0

__all__ = ["LogFrequency", "level_to_magnitude", "magnitude_to_level"]


class LogFrequency(nn.Module):
    """Level and phase of a clip in bands from `low` to `high` Hz; formulas in the module's docstring.

    Args:
        sample_rate: in Hz.
        bands: number of bands.
        low, high: centres of the lowest and highest band, in Hz.
        n_fft: length that clips are padded to, in samples; longer clips take the next power of two.
        onset: share of a clip's peak; the note begins at the first sample that reaches it.
    Attributes:
        config: the constructor's arguments.
        frequencies: (bands,) float64, centres in Hz.
    Shape:
        waveform (batch, samples) -> features (batch, 3, band): log(1 + 1000 m), cos(phi), sin(phi).
    Raises:
        ValueError: for fewer than two bands, or frequencies that are not 0 < low < high <= sample_rate / 2.

    A clip's gain does not change the level; a negative gain changes the phase by pi. Silence gives zeros.

    >>> front_end = LogFrequency(bands=64)
    >>> tone = torch.sin(6.2832 * 500 * torch.arange(16000) / 16000)[None]
    >>> features = front_end(tone)
    >>> features.shape, round(front_end.frequencies[features[0, 0].argmax()].item())
    (torch.Size([1, 3, 64]), 507)
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        bands: int = 512,
        low: float = 20.0,
        high: float = 8000.0,
        n_fft: int = 131072,
        onset: float = 0.01,
    ):
        super().__init__()
        if bands < 2:
            raise ValueError(f"bands is {bands}; an axis from low to high needs at least two")
        if not 0 < low < high <= sample_rate / 2:
            raise ValueError(
                f"low is {low} Hz, high {high} Hz; at {sample_rate} Hz, 0 < low < high <= {sample_rate / 2:g} must hold"
            )
        if n_fft < 2:
            raise ValueError(f"n_fft is {n_fft}; a transform needs at least two samples")
        if not 0 <= onset <= 1:
            raise ValueError(f"onset is {onset}; it is a share of the peak, from 0 to 1")
        self.sample_rate, self.n_fft, self._onset = sample_rate, n_fft, onset
        self._axis = _Axis(sample_rate, bands, low, high)
        self.config = {
            "sample_rate": sample_rate,
            "bands": bands,
            "low": low,
            "high": high,
            "n_fft": n_fft,
            "onset": onset,
        }

    @property
    def frequencies(self) -> Tensor:
        """Centres of the bands in Hz, (bands,) float64."""
        return self._axis.centres()

    def forward(self, waveform: Tensor) -> Tensor:
        """Features (batch, 3, band) of (batch, samples); gradients are finite everywhere, also at silence."""
        magnitude, phasor = self._analyse(waveform)
        return torch.stack([magnitude_to_level(magnitude), phasor.real, phasor.imag], 1)

    def onset(self, waveform: Tensor) -> Tensor:
        """Index of each note's first sample, (batch,): the first of at least `onset` times the clip's peak."""
        level = waveform.detach().abs()
        return (level >= self._onset * level.amax(1, keepdim=True)).byte().argmax(1)

    def masked_waveform(self, waveform: Tensor, keep: Tensor, generator: torch.Generator) -> Tensor:
        """Way back 1: each band scaled by `keep`, with its own phases or random ones.

        A bin whose phase is dropped keeps its magnitude (the two bins that must be real get a random sign), which
        smears the note over the clip. A `keep` of ones gives the clip. Bins below the lowest band belong to it, so that
        the sounds of a mask and of its complement add up to the clip.

        Args:
            waveform: (batch, samples), at any level.
            keep: (batch, 2, band) in [0, 1]: the factor on the magnitude, and a value below 0.5 to drop the phase.
            generator: of the random phases; one is drawn for each bin, used or not.
        Returns:
            (batch, samples).
        Raises:
            ValueError: if the shapes do not fit.
        """
        self._check(waveform, keep, 2, "keep")
        stft, band = torch.fft.rfft(waveform), self._band_of_bins(waveform)
        drawn = torch.rand(stft.shape, generator=generator, device=generator.device).to(waveform)
        angle = 2 * math.pi * drawn
        real = _real_bins(waveform.shape[1], waveform.device)
        angle = torch.where(real, math.pi * (drawn < 0.5), angle)
        dropped = torch.polar(stft.abs(), angle)
        stft = torch.where(keep[:, 1, band] < 0.5, dropped, stft) * keep[:, 0, band]
        return torch.fft.irfft(stft, waveform.shape[1])

    def morphed_waveform(self, waveform: Tensor, features: Tensor) -> Tensor:
        """Way back 2: each band of a clip changed to other features, by one gain and one rotation of the phase.

        The clip's own features give the clip. Other features are reproduced only roughly when the sound is
        analysed again: bands leak into their neighbours, and the note's onset may move. Normalised magnitudes below
        1e-6 (-120 dB) are treated as 1e-6. Of a phasor only the angle is used; length 0 means angle 0.

        Args:
            waveform: (batch, samples), at any level.
            features: (batch, 3, band), the wanted features.
        Returns:
            (batch, samples), at the level of the waveform.
        Raises:
            ValueError: if the shapes do not fit.
        """
        self._check(waveform, features, 3, "features")
        magnitude, phasor = self._analyse(waveform)
        wanted = level_to_magnitude(features[:, 0]).clamp(min=MAGNITUDE_FLOOR)
        gain = wanted / magnitude.clamp(min=MAGNITUDE_FLOOR)
        turn = _direction(torch.complex(features[:, 1], features[:, 2])) * _direction(phasor).conj()
        change = (gain * turn)[:, self._band_of_bins(waveform)]
        return torch.fft.irfft(torch.fft.rfft(waveform) * change, waveform.shape[1])

    def _analyse(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised magnitudes and phasors of the bands, both (batch, band).

        Phasors have length 1, falling to 0 where a band's phase is only rounding error.
        """
        self._check(waveform)
        # The result does not depend on the level, so the gradient through the peak is 0 and the peak may be a constant.
        peak = waveform.detach().abs().amax(1, keepdim=True)
        n_fft = max(self.n_fft, 1 << (waveform.shape[1] - 1).bit_length())
        spectrum = torch.fft.rfft(waveform / peak.where(peak > SILENCE, torch.inf), n_fft)
        bins, band = _pooled_bins(self._axis, n_fft, waveform.device)
        power = (spectrum.real.square() + spectrum.imag.square())[:, bins]
        energy = power.new_zeros(len(power), self._axis.bands).scatter_add(1, band.expand_as(power), power)
        strongest = bins[_strongest(power.detach(), band, self._axis.bands)]
        # x[n + onset] has the spectrum X[f] exp(2 pi i f onset / n_fft); the product of integers is exact.
        cycles = (strongest * self.onset(waveform)[:, None] % n_fft).to(waveform) / n_fft
        aligned = spectrum.gather(1, strongest) * torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)
        total = energy.sum(1, keepdim=True)
        error = EPSILON * spectrum.detach().abs().square().mean(1, keepdim=True).sqrt()
        phasor = _unit(aligned) * _certainty(aligned.detach().abs(), error)
        return _root(energy / total.where(total > 0, torch.inf)), phasor

    def _band_of_bins(self, waveform: Tensor) -> Tensor:
        """The band of each bin of the unpadded clip's spectrum."""
        return _assigned(self._axis, waveform.shape[1], waveform.device)

    def _check(self, waveform: Tensor, bands: Tensor | None = None, channels: int = 0, name: str = "") -> None:
        if waveform.ndim != 2 or not waveform.shape[1]:
            raise ValueError(f"waveform has shape {tuple(waveform.shape)}; give (batch, samples), at least one sample")
        expected = (len(waveform), channels, self._axis.bands)
        if bands is not None and bands.shape != expected:
            raise ValueError(f"{name} has shape {tuple(bands.shape)}; this clip and these bands need {expected}")


def magnitude_to_level(magnitude: Tensor) -> Tensor:
    """The level log(1 + 1000 m) of a normalised magnitude m, linear amplitude; input of the classifiers."""
    return (LEVEL_SCALE * magnitude).log1p()


def level_to_magnitude(level: Tensor) -> Tensor:
    """The magnitude of a level, linear amplitude.

    >>> level_to_magnitude(magnitude_to_level(torch.tensor([0., 0.5])))
    tensor([0.0000, 0.5000])
    """
    return level.expm1() / LEVEL_SCALE


class _Axis(NamedTuple):
    """Centres and borders of the bands; hashable, so that the tables below can be cached."""

    sample_rate: int
    bands: int
    low: float
    high: float

    def at(self, steps: Tensor) -> Tensor:
        """Frequencies in Hz, `steps` bands above the lowest centre."""
        return self.low * (self.high / self.low) ** (steps.double() / (self.bands - 1))

    def centres(self) -> Tensor:
        return self.at(torch.arange(self.bands, device="cpu"))

    def borders(self) -> Tensor:
        """Borders in Hz, (bands + 1,): geometric means of neighbouring centres; outside, half a band further."""
        return self.at(torch.arange(self.bands + 1, device="cpu") - 0.5)

    def band_of(self, n_fft: int) -> Tensor:
        """The band of each rfft bin, from -1 below the lowest border to `bands` above the highest."""
        frequency = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device="cpu") * self.sample_rate / n_fft
        return torch.bucketize(frequency, self.borders(), right=True) - 1


# Autograd could not use tables that were first made in inference mode.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _pooled_bins(axis: _Axis, n_fft: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of the bins that are pooled, and the band of each, in the order of the bands."""
    band_of = axis.band_of(n_fft)
    bins = ((band_of >= 0) & (band_of < axis.bands)).nonzero()[:, 0]
    band = band_of[bins]
    empty = (torch.bincount(band, minlength=axis.bands) == 0).nonzero()[:, 0]
    # The nearest bin, but never 0 Hz, which is infinitely far from every frequency on a log axis.
    nearest = (axis.centres()[empty] * n_fft / axis.sample_rate).round().long().clamp(1, n_fft // 2)
    bins, band = torch.cat([bins, nearest]), torch.cat([band, empty])
    order = band.argsort(stable=True)
    return bins[order].to(device), band[order].to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _assigned(axis: _Axis, samples: int, device: torch.device) -> Tensor:
    """The band of every rfft bin of a clip; bins beyond the outermost borders belong to the outermost bands."""
    return axis.band_of(samples).clamp(0, axis.bands - 1).to(device)


def _strongest(power: Tensor, band: Tensor, bands: int) -> Tensor:
    """Index of the largest power of each band, the first of equal ones, (batch, band); `power` is (batch, index).

    Non-negative floats have the order of their bits, so the largest (bits, -index) is found in one pass; padding all
    bands to the widest takes ten times as long.
    """
    last = 2**31 - 1
    index = torch.arange(power.shape[1], device=power.device)
    ranked = (power.float().view(torch.int32).long() << 31) | (last - index)
    empty = ranked.new_zeros(len(power), bands)
    return last - (empty.scatter_reduce(1, band.expand_as(ranked), ranked, "amax") & last)


def _real_bins(samples: int, device: torch.device) -> Tensor:
    """Whether each bin of a real signal's spectrum is real: at 0 Hz, and at half the rate if the length is even."""
    index = torch.arange(samples // 2 + 1, device=device)
    return (index == 0) | (2 * index == samples)


def _root(x: Tensor) -> Tensor:
    """sqrt(x), with the gradient 0 at 0."""
    return torch.where(x > 0, x, 1.0).sqrt() * (x > 0)


def _unit(z: Tensor) -> Tensor:
    """z / |z|, or 0 (without gradient) where z is 0."""
    power = z.real.square() + z.imag.square()
    return z * power.where(power > torch.finfo(power.dtype).tiny, torch.inf).rsqrt()


def _certainty(magnitude: Tensor, error: Tensor) -> Tensor:
    """0 up to UNKNOWN times the error, 1 from CERTAIN times it on, and a smooth step over the logarithm in between."""
    decades = math.log10(CERTAIN / UNKNOWN)
    above = (magnitude / (UNKNOWN * error).where(error > 0, torch.inf)).clamp(min=1).log10() / decades
    step = above.clamp(max=1)
    return step.square() * (3 - 2 * step)


def _direction(z: Tensor) -> Tensor:
    """z / |z|, or 1 where z is 0."""
    unit = _unit(z)
    return torch.where(unit == 0, 1.0, unit)
