"""Rectangles of a spectrogram, in Hz and seconds, that a person mutes or keeps, and the mask that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiointerp.contracts import Classifier
from audiointerp.interpreters import MaskInterpreter
from audiointerp.interpreters.base import Scene
from audiointerp.sound.spectrogram import STFT

MOST_REGIONS = 100

__all__ = ["MOST_REGIONS", "Brush", "Region", "read_regions", "region_mask"]


@dataclass(frozen=True)
class Region:
    """A rectangle of a spectrogram, its edges included.

    Attributes:
        low_hz, high_hz: lowest and highest frequency, in Hz.
        start_s, end_s: in seconds.
        keep: whether the rectangle is kept (and all outside of kept rectangles muted) instead of muted.

    Raises:
        ValueError: unless the edges are finite numbers and in order.
    """

    low_hz: float
    high_hz: float
    start_s: float
    end_s: float
    keep: bool = False

    def __post_init__(self):
        edges = (self.low_hz, self.high_hz, self.start_s, self.end_s)
        if not all(math.isfinite(edge) for edge in edges) or self.low_hz > self.high_hz or self.start_s > self.end_s:
            raise ValueError(
                f"a region from {self.low_hz:g} to {self.high_hz:g} Hz and {self.start_s:g} to {self.end_s:g} s is no "
                "rectangle; give the lower number first"
            )


def read_regions(given: Any) -> tuple[Region, ...]:
    """The regions of a request, each `{"low_hz", "high_hz", "start_s", "end_s", "keep"}`.

    Raises:
        ValueError: for anything else, or more than `MOST_REGIONS`.
    """
    if not isinstance(given, list) or not 0 < len(given) <= MOST_REGIONS:
        raise ValueError(f"give 1 to {MOST_REGIONS} regions")
    names = ("low_hz", "high_hz", "start_s", "end_s")
    regions = []
    for each in given:
        if not isinstance(each, dict) or {*each} != {*names, "keep"} or not isinstance(each["keep"], bool):
            raise ValueError(f"a region has the keys {', '.join(names)} (numbers) and keep (true or false)")
        edges = [each[name] for name in names]
        if not all(isinstance(edge, (int, float)) and not isinstance(edge, bool) for edge in edges):
            raise ValueError("the edges of a region are numbers, in Hz and seconds")
        try:
            regions.append(Region(*map(float, edges), keep=each["keep"]))
        except OverflowError:
            raise ValueError("an edge of a region is beyond every number of Hz or seconds") from None
    return tuple(regions)


def region_mask(regions: Sequence[Region], spectrogram: STFT, frames: int) -> Tensor:
    """Binary mask of regions on an STFT's grid: 1 where kept.

    Bin k lies at k * sample_rate / n_fft Hz, frame t at t * hop_length / sample_rate s. If there are kept regions,
    everything outside all of them is muted; muted regions are then taken away.

    Args:
        regions: at least one, in any order.
        spectrogram: the STFT.
        frames: number of frames of the spectrogram.
    Shape:
        -> (1, freq, time).

    >>> one = Region(0, 8000, 0.0, 0.02)
    >>> region_mask([one], STFT(16000, 512, 512, 160), 4)[0, 0]
    tensor([0., 0., 0., 1.])
    """
    rate = spectrogram.sample_rate
    hertz = torch.arange(spectrogram.n_fft // 2 + 1, dtype=torch.float64) * rate / spectrogram.n_fft
    seconds = torch.arange(frames, dtype=torch.float64) * spectrogram.hop_length / rate

    def within(region: Region) -> Tensor:
        rows = (hertz >= region.low_hz) & (hertz <= region.high_hz)
        columns = (seconds >= region.start_s) & (seconds <= region.end_s)
        return rows[:, None] & columns

    kept, muted = ([within(each) for each in regions if each.keep is keep] for keep in (True, False))
    nothing = torch.zeros(len(hertz), frames, dtype=torch.bool)
    mask = torch.stack(kept).any(0) if kept else ~nothing
    return (mask & ~torch.stack([nothing, *muted]).any(0)).float()[None]


class Brush(MaskInterpreter):
    """Keeps or mutes regions that a person drew: a question to the classifier instead of an explanation by a method.

    The mask multiplies magnitudes, so that what is left and what was muted add up to the sound.

    Args:
        classifier: the classifier to question.
        regions: at least one.
    """

    only_binary = True

    def __init__(self, classifier: Classifier, regions: Sequence[Region]):
        super().__init__(classifier)
        self.regions = tuple(regions)

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the regions, (batch, freq, time); no further details."""
        mask = region_mask(self.regions, self.classifier.spectrogram, scene.stft.shape[-1])
        return mask.to(scene.stft.device).expand(scene.stft.shape), {}
