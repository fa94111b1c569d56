"""A clip split into audible parts behind one `render(selection, filler)`: tiles, bands, layers, segments, components.

Explanations by perturbation need the clip with some of its parts left out. A part is a share m_k (freq, time) of the
clip's magnitude; shares add up to 1 in every bin, so that all parts together are the clip. Kept parts have the clip's
phase.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.sound.layers import LAYERS, harmonic_percussive_masks, onset_borders
from audiointerp.sound.masking import Domain, apply_mask, noise_floor
from audiointerp.sound.nmf import NMF
from audiointerp.sound.spectrogram import STFT, log_magnitude

Background: TypeAlias = Literal["silence", "noise_floor"] | Tensor
Part = Literal["tiles", "bands", "nmf", "harmonic_percussive", "segments", "onsets"]
Parts = Part | tuple[Part, ...]

EPSILON = 1e-10  # added to W H, for bins where every component is 0
ITERATIONS = 100  # of the NMF fitted to a clip

__all__ = ["Background", "Components", "Part", "Parts", "Splitter", "component_waveforms"]


class Components:
    """Parts of one clip; made by `tiles`, `bands`, `nmf`, `harmonic_percussive`, `segments`, `onsets` or `product`.

    Tiles, bands and segments are stored as one index per bin, NMF components as their two factors, not as `count` full
    masks.

    Attributes:
        stft: (freq, time), the clip's complex spectrogram.
        count: number of parts.
    Shape:
        selection (batch, count), in [0, 1]: the share of each part that is kept -> (batch, freq, time).

    >>> components = Components.tiles(torch.randn(5, 8, dtype=torch.complex64), freq_parts=1, time_parts=2)
    >>> components.mask(torch.tensor([[1.0, 0.0]]))[0, 0]
    tensor([1., 1., 1., 1., 0., 0., 0., 0.])
    """

    def __init__(self, stft: Tensor, parts: _Shares):
        self.stft, self._parts, self.count = _one_clip(stft), parts, parts.count

    @classmethod
    def tiles(cls, stft: Tensor, freq_parts: int, time_parts: int) -> Components:
        """A grid of equal tiles (up to one bin); part `f * time_parts + t` is tile f from below, t from the left.

        Raises:
            ValueError: if there are more parts than bins or frames, or none.
        """
        freq, time = _one_clip(stft).shape
        if not (1 <= freq_parts <= freq and 1 <= time_parts <= time):
            raise ValueError(f"{freq_parts} x {time_parts} tiles of a {freq} x {time} spectrogram; each needs a bin")
        low = torch.arange(freq, device=stft.device) * freq_parts // freq
        early = torch.arange(time, device=stft.device) * time_parts // time
        return cls(stft, _Indexed(low[:, None] * time_parts + early, freq_parts * time_parts))

    @classmethod
    def bands(
        cls, stft: Tensor, bands: int | Sequence[float], sample_rate: int, scale: Literal["mel", "linear"] = "mel"
    ) -> Components:
        """Frequency bands over the whole clip, the lowest first.

        Args:
            stft: complex, (freq, time), from 0 Hz to half the rate.
            bands: number of bands, of equal width on the scale; or the rising borders between them in Hz (two borders
                make three bands). A border belongs to the band above it.
            sample_rate: in Hz.
            scale: "mel" (2595 log10(1 + f / 700)) or "linear".

        Raises:
            ValueError: if a band holds no bin, borders do not rise or leave the spectrum, or the scale is unknown.
        """
        freq = len(_one_clip(stft))
        hertz = torch.linspace(0, sample_rate / 2, freq, dtype=torch.float64, device=stft.device)
        borders = _borders(bands, sample_rate, scale).to(hertz)
        index = torch.bucketize(hertz, borders, right=True)
        empty = (index.bincount(minlength=len(borders) + 1) == 0).nonzero()[:, 0].tolist()
        if empty:
            raise ValueError(
                f"of {len(borders) + 1} bands, {len(empty)} hold no bin (the first: {empty[0]}); bins are "
                f"{sample_rate / 2 / max(freq - 1, 1):g} Hz apart, up to {sample_rate / 2:g} Hz: take fewer bands"
            )
        return cls(stft, _Indexed(index[:, None], len(borders) + 1))

    @classmethod
    def nmf(
        cls, stft: Tensor, dictionary: NMF | Tensor, activations: Tensor | None = None, domain: Domain = "log_magnitude"
    ) -> Components:
        """The components of a factorisation; the share of component k is w_k h_k / (W H).

        Bins where every component is 0 (W H = 0) are shared in proportion to the components' total levels.

        Args:
            stft: complex, (freq, time).
            dictionary: an NMF, or (freq, components).
            activations: (components, time), e.g. L2I's; by default the NMF's own for this clip.
            domain: of the magnitudes that the NMF was fitted to; used only without `activations`.

        Raises:
            ValueError: if shapes do not fit, or a plain dictionary comes without activations.
        """
        clip = _one_clip(stft)
        spectra = dictionary.dictionary if isinstance(dictionary, NMF) else dictionary
        if activations is None:
            if not isinstance(dictionary, NMF):
                raise ValueError("a plain dictionary needs activations (components, time); or give an NMF")
            magnitude = clip.abs()
            activations = dictionary.activations((magnitude.log1p() if domain == "log_magnitude" else magnitude)[None])[
                0
            ]
        _check_factors(spectra, activations, clip)
        return cls(stft, _Factored(spectra, activations))

    @classmethod
    def harmonic_percussive(cls, stft: Tensor, margin: float = 2.0) -> Components:
        """The harmonic layer, the percussive layer and, for a margin above 1, the rest, which is neither.

        See `sound.layers.harmonic_percussive_masks`, also for its errors.
        """
        return cls(stft, _Layered(harmonic_percussive_masks(_one_clip(stft).abs(), margin)))

    @classmethod
    def segments(cls, stft: Tensor, segments: int | Sequence[int]) -> Components:
        """Segments of time, the earliest first.

        Args:
            stft: complex, (freq, time).
            segments: their number, for segments of equal length (up to one frame); or the rising first frames of all
                segments but the first.

        Raises:
            ValueError: if a segment holds no frame.
        """
        time = _one_clip(stft).shape[1]
        if isinstance(segments, int):
            if not 1 <= segments <= time:
                raise ValueError(f"{segments} segments of {time} frames; each needs a frame")
            index = torch.arange(time, device=stft.device) * segments // time
            return cls(stft, _Indexed(index[None], segments))
        first = [0, *segments, time]
        if any(after <= before for before, after in pairwise(first)):
            raise ValueError(f"segments begin at frames {list(segments)} of {time}; they must rise, from 1")
        lengths = torch.tensor(first, device=stft.device).diff()
        index = torch.arange(len(lengths), device=stft.device).repeat_interleave(lengths)
        return cls(stft, _Indexed(index[None], len(lengths)))

    @classmethod
    def onsets(cls, stft: Tensor, segments: int) -> Components:
        """Segments of time that begin at the strongest onsets; for errors too, see `sound.layers.onset_borders`."""
        return cls.segments(stft, onset_borders(_one_clip(stft).abs(), segments))

    @classmethod
    def product(cls, first: Components, second: Components) -> Components:
        """Every part of `first` within every part of `second`, such as sources within segments of time.

        Part `i * second.count + j` is part i of the first and part j of the second; its share is the product of both.

        Raises:
            ValueError: if the two have spectrograms of different shapes.
        """
        if first.stft.shape != second.stft.shape:
            raise ValueError(
                f"spectrograms of {tuple(first.stft.shape)} and {tuple(second.stft.shape)}; a product is of one clip"
            )
        return cls(first.stft, _Product(first.shares(), second._parts))

    def shares(self) -> Tensor:
        """The share of each part in each bin, (count, freq, time); they add up to 1."""
        return self._parts.mask(torch.eye(self.count, device=self.stft.device)).expand(-1, *self.stft.shape)

    def waveforms(self, spectrogram: STFT, samples: int) -> Tensor:
        """Each part as a sound, (count, samples), with the clip's phase; the sounds add up to the clip.

        Args:
            spectrogram: the transform that made the clip's STFT.
            samples: length of the clip.
        """
        one_each = torch.eye(self.count, device=self.stft.device).split(1)
        # One at a time: a hundred complex spectrograms of a clip would fill memory.
        return torch.cat([spectrogram.inverse(self.render(one), samples) for one in one_each])

    def mask(self, selection: Tensor) -> Tensor:
        """The share of each bin that a selection keeps, (batch, freq, time), in [0, 1].

        Raises:
            ValueError: if a selection is not (batch, count) or not in [0, 1].
        """
        selection = self._checked(selection)
        mask = self._parts.mask(selection).expand(-1, *self.stft.shape)
        # Rounding must not change the clip where everything is kept.
        return mask.masked_fill((selection == 1).all(1)[:, None, None], 1.0)

    def render(self, selection: Tensor, filler: Background = "silence") -> Tensor:
        """The clip with the selected shares of its parts, and the filler in place of the rest: m X + (1 - m) filler.

        Args:
            selection: (batch, count) in [0, 1].
            filler: "silence"; "noise_floor", the clip with magnitudes limited to each frequency's steady background; or
                a donor's complex STFT, (freq, time) or (batch, freq, time).
        Returns:
            Complex STFT (batch, freq, time): the clip itself for all ones, the filler for all zeros.

        Raises:
            ValueError: if a selection or a donor does not fit, or the filler is unknown.
        """
        mask = self.mask(selection)
        if isinstance(filler, str) and filler == "silence":
            return self.stft * mask
        return self.stft * mask + self._fill(filler, len(mask)) * (1 - mask)

    def energy(self) -> Tensor:
        """Energy of each part alone, the sum of |m_k X|^2 over its bins, (count,); 0 for a silent part."""
        return self._parts.energy(self.stft.abs().square())

    def _fill(self, filler: Background, batch: int) -> Tensor:
        if isinstance(filler, Tensor):
            if filler.shape not in (self.stft.shape, (batch, *self.stft.shape), (1, *self.stft.shape)):
                raise ValueError(
                    f"filler has shape {tuple(filler.shape)}; a donor's STFT is {tuple(self.stft.shape)}, "
                    f"or one for each of {batch} selections"
                )
            return filler.to(self.stft)
        if filler != "noise_floor":
            raise ValueError(f"filler is {filler!r}; choose 'silence', 'noise_floor' or give a donor's STFT")
        magnitude = self.stft.abs()
        floor = torch.minimum(noise_floor(magnitude[None])[0], magnitude)
        return self.stft * (floor / magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny))

    def _checked(self, selection: Tensor) -> Tensor:
        if selection.ndim != 2 or selection.shape[1] != self.count:
            raise ValueError(f"selection has shape {tuple(selection.shape)}; expected (batch, {self.count})")
        selection = selection.to(self.stft.real)
        if not bool(((selection >= 0) & (selection <= 1)).all()):
            raise ValueError("selection is not in [0, 1]; it is the share of each part that is kept")
        return selection


class _Shares(Protocol):
    """How the shares of a clip's parts are stored."""

    @property
    def count(self) -> int: ...

    def mask(self, selection: Tensor) -> Tensor: ...

    def energy(self, power: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class _Indexed:
    """Each bin belongs to one part: `index` (freq, time), or (freq, 1) for all of time, or (1, time)."""

    index: Tensor
    count: int

    def mask(self, selection: Tensor) -> Tensor:
        return selection[:, self.index]

    def energy(self, power: Tensor) -> Tensor:
        index = self.index.expand_as(power).flatten()
        return power.new_zeros(self.count).index_add_(0, index, power.flatten())


@dataclass(frozen=True)
class _Layered:
    """Few parts with a full mask each, `shares` (count, freq, time)."""

    shares: Tensor

    @property
    def count(self) -> int:
        return len(self.shares)

    def mask(self, selection: Tensor) -> Tensor:
        return torch.einsum("bk,kft->bft", selection, self.shares).clamp_(0, 1)

    def energy(self, power: Tensor) -> Tensor:
        return (self.shares.square() * power).sum((1, 2))


@dataclass(frozen=True)
class _Product:
    """Products of the `first` parts' shares (count, freq, time) with each of the second's."""

    first: Tensor
    second: _Shares

    @property
    def count(self) -> int:
        return len(self.first) * self.second.count

    def mask(self, selection: Tensor) -> Tensor:
        by_first = selection.unflatten(1, (len(self.first), self.second.count)).unbind(1)
        # Summed over the first parts, so that no mask per product is made.
        total = sum(share * self.second.mask(some) for share, some in zip(self.first, by_first))
        return torch.as_tensor(total).clamp(0, 1)

    def energy(self, power: Tensor) -> Tensor:
        return torch.cat([self.second.energy(power * share.square()) for share in self.first])


@dataclass(frozen=True)
class _Factored:
    """Each bin is shared in proportion to w_k h_k or, where their sum is 0, to the components' total levels."""

    spectra: Tensor
    activations: Tensor

    @property
    def count(self) -> int:
        return len(self.activations)

    @property
    def remainder(self) -> Tensor:
        """Added to each w_k h_k, (count,): EPSILON, divided among the components by level; 0 for a silent component."""
        level = self.spectra.sum(0) * self.activations.sum(1)
        total = level.sum()
        return EPSILON * torch.where(total > 0, level / total.clamp(min=EPSILON), 1 / self.count)

    def mask(self, selection: Tensor) -> Tensor:
        # (w_k s_k) H, one matrix product per selection, so that no mask per component is made.
        kept = (self.spectra * selection[:, None]) @ self.activations + (selection @ self.remainder)[:, None, None]
        return (kept / (self.spectra @ self.activations + EPSILON)).clamp_(0, 1)

    def energy(self, power: Tensor) -> Tensor:
        # sum over f, t of (w_fk h_kt + r_k)^2 weight_ft, the square written out.
        weight = power / (self.spectra @ self.activations + EPSILON).square()
        square = ((self.spectra.square().T @ weight) * self.activations.square()).sum(1)
        cross = ((self.spectra.T @ weight) * self.activations).sum(1)
        return square + 2 * self.remainder * cross + self.remainder.square() * weight.sum()


def component_waveforms(
    dictionary: Tensor,
    activations: Tensor,
    stft: Tensor,
    spectrogram: STFT,
    samples: int | None = None,
    domain: Domain = "log_magnitude",
) -> Tensor:
    """Each NMF component of a clip as a sound, (components, samples), with the mixture's phase.

    Args:
        dictionary: (freq, components).
        activations: (components, time).
        stft: the clip's complex spectrogram, (freq, time).
        spectrogram: the transform that made it.
        samples: length of the clip; by default the shortest with as many frames.
        domain: of the magnitude that the share w_k h_k / (W H) multiplies. "log_magnitude" is L2I's, for an NMF of
            log1p magnitudes: the sounds add up to the clip in log1p only. In "magnitude" their waveforms add up to it.

    Raises:
        ValueError: if shapes do not fit.
    """
    clip = _one_clip(stft)
    components = Components.nmf(clip, dictionary, activations)
    samples = (clip.shape[1] - 1) * spectrogram.hop_length if samples is None else samples
    one_each = torch.eye(components.count, device=clip.device)
    # One at a time: a hundred complex spectrograms of a clip would fill memory.
    parts = (apply_mask(clip[None], components.mask(one[None]), domain) for one in one_each)
    return torch.cat([spectrogram.inverse(part, samples) for part in parts])


def _one_clip(stft: Tensor) -> Tensor:
    clip = stft[0] if stft.ndim == 3 and len(stft) == 1 else stft
    if clip.ndim != 2 or not clip.is_complex() or not clip.numel():
        raise ValueError(f"stft has shape {tuple(stft.shape)}, {stft.dtype}; expected one clip's complex (freq, time)")
    return clip


def _check_factors(spectra: Tensor, activations: Tensor, clip: Tensor) -> None:
    if spectra.ndim != 2 or (len(spectra), activations.shape) != (len(clip), (spectra.shape[1], clip.shape[1])):
        raise ValueError(
            f"dictionary {tuple(spectra.shape)} and activations {tuple(activations.shape)} do not make up a "
            f"{tuple(clip.shape)} spectrogram; expected (freq, components) and (components, time)"
        )
    if not bool((spectra >= 0).all() and (activations >= 0).all()):
        raise ValueError("dictionary or activations have negative or NaN entries; shares of a clip are non-negative")


def _borders(bands: int | Sequence[float], sample_rate: int, scale: str) -> Tensor:
    """Borders between bands in Hz, rising; half the rate itself belongs to the last band."""
    if scale not in ("mel", "linear"):
        raise ValueError(f"scale is {scale!r}; choose 'mel' or 'linear'")
    if isinstance(bands, int):
        if bands < 1:
            raise ValueError(f"bands is {bands}; give at least one band")
        inner = torch.arange(1, bands, dtype=torch.float64) / bands
        if scale == "linear":
            return inner * sample_rate / 2
        # The scale's constant factor cancels.
        return 700 * ((1 + sample_rate / 2 / 700) ** inner - 1)
    borders = torch.tensor(list(bands), dtype=torch.float64)
    inside = bool(((borders > 0) & (borders <= sample_rate / 2)).all())
    if not inside or not bool((borders.diff() > 0).all()):
        raise ValueError(f"bands {list(bands)} must rise, above 0 and up to {sample_rate / 2:g} Hz")
    return borders


@dataclass(frozen=True)
class Splitter:
    """Splits a clip into `Components`.

    Attributes:
        parts: a kind of parts, or several: then every part of the first kind within every part of the second, and so
            on. "tiles" of a grid, "bands" of equal width in mel, "nmf" for NMF components, "harmonic_percussive" for
            the layers of `Components.harmonic_percussive`, "segments" of equal length in time, or "onsets" for segments
            that begin at onsets.
        tiles: number of tiles along frequency and along time; fewer where the clip has fewer bins.
        n_components: number of bands, or of components of the NMF that is fitted to each clip's log-magnitude.
        dictionary: an NMF learnt before, instead of fitting one to each clip.
        n_segments: number of segments in time, equal or from onsets; fewer where the clip has fewer frames.
        margin: by how much a bin of the harmonic (percussive) layer must exceed the other; 1: there is no third layer.
        sample_rate: of the clips, in Hz.
    """

    parts: tuple[Part, ...]
    tiles: tuple[int, int]
    n_components: int
    dictionary: NMF | None
    n_segments: int
    margin: float
    sample_rate: int

    @classmethod
    def checked(
        cls,
        parts: Parts,
        tiles: tuple[int, int],
        n_components: int,
        dictionary: NMF | Tensor | None,
        spectrogram: STFT,
        n_segments: int = 1,
        margin: float = 2.0,
    ) -> Splitter:
        """A splitter from a method's arguments, checked.

        Raises:
            ValueError: for unknown parts, the same parts twice, no part, a margin below 1, or a dictionary with another
                number of bins.
        """
        given = (parts,) if isinstance(parts, str) else tuple(parts)
        if not given or not set(given) <= set(get_args(Part)):
            raise ValueError(f"parts are {parts!r}; choose from {', '.join(get_args(Part))}, or a list of these")
        if len({*given}) < len(given) or {"segments", "onsets"} <= {*given}:
            raise ValueError(f"parts are {list(given)}; a product is of different kinds, of which one divides time")
        if min(*tiles, n_components, n_segments) < 1:
            raise ValueError(
                f"tiles are {tuple(tiles)}, n_components {n_components}, n_segments {n_segments}; at least 1 each"
            )
        if not 1 <= margin < float("inf"):
            raise ValueError(f"margin is {margin}; give 1, for two layers that add up to the clip, or more")
        learnt = None if dictionary is None else _nmf(dictionary, spectrogram.n_fft // 2 + 1)
        count = n_components if learnt is None else learnt.dictionary.shape[1]
        return cls(given, tiles, count, learnt, n_segments, margin, spectrogram.sample_rate)

    @property
    def count(self) -> int:
        """Number of parts of a clip that has enough bins."""
        counts = {
            "tiles": self.tiles[0] * self.tiles[1],
            "harmonic_percussive": len(LAYERS) if self.margin > 1 else len(LAYERS) - 1,
            "segments": self.n_segments,
            "onsets": self.n_segments,
        }
        return math.prod(counts.get(part, self.n_components) for part in self.parts)

    def __call__(self, stft: Tensor, seed: int) -> Components:
        """Parts of one clip's complex STFT (1, freq, time); `seed` is the random start of an NMF fitted to it."""
        return reduce(Components.product, [self._split(part, stft, seed) for part in self.parts])

    def _split(self, part: Part, stft: Tensor, seed: int) -> Components:
        freq, time = stft.shape[1:]
        if part == "tiles":
            return Components.tiles(stft, min(self.tiles[0], freq), min(self.tiles[1], time))
        if part == "bands":
            return Components.bands(stft, self.n_components, self.sample_rate)
        if part == "harmonic_percussive":
            return Components.harmonic_percussive(stft, self.margin)
        if part == "segments":
            return Components.segments(stft, min(self.n_segments, time))
        if part == "onsets":
            return Components.onsets(stft, min(self.n_segments, time))
        learnt = self.dictionary
        if learnt is None:
            learnt = NMF(self.n_components, bins=freq, seed=seed).to(stft.device)
            learnt.fit(log_magnitude(stft), ITERATIONS)
        return Components.nmf(stft, learnt.to(stft.device))


def _nmf(dictionary: NMF | Tensor, bins: int) -> NMF:
    given = dictionary.dictionary if isinstance(dictionary, NMF) else dictionary
    if given.ndim != 2 or len(given) != bins or not bool((given >= 0).all()):
        raise ValueError(f"dictionary has shape {tuple(given.shape)}; expected ({bins}, components), all 0 or more")
    if isinstance(dictionary, NMF):
        return copy.deepcopy(dictionary)
    made = NMF(given.shape[1], bins=bins)
    made.dictionary = functional.normalize(given.detach().float(), dim=0)
    return made
