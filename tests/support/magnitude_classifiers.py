"""Classifiers whose logits are a formula of the magnitude spectrogram, so that what they listen to is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Prediction
from audiointerp.sound.spectrogram import STFT

RATE, SAMPLES = 16000, 9600
HIGH_BINS, LOW_BINS = slice(186, 199), slice(43, 47)  # around 3,000 and 700 Hz


class OfMagnitude(Classifier):
    """Logits (batch, classes) by a function of the magnitudes (batch, freq, time)."""

    sample_rate, multilabel, reads_magnitude = RATE, False, True

    def __init__(self, logits: Callable[[Tensor], Sequence[Tensor]], labels: Sequence[str]):
        super().__init__()
        self.spectrogram, self.logits = STFT(), logits
        self.labels = tuple(labels)

    def features(self, waveform):
        return self.spectrogram(waveform).abs()

    def classify(self, features):
        return Prediction.from_logits(torch.stack(list(self.logits(features)), 1), False)

    def classify_stft(self, stft, samples):
        return self.classify(stft.abs())


def band_level(magnitude: Tensor, bins: slice) -> Tensor:
    """Mean log1p of the magnitudes in the bins, (batch,)."""
    return magnitude[:, bins].log1p().mean((1, 2))


def hears(bins: slice = HIGH_BINS) -> OfMagnitude:
    """The first logit is the level of the bins, by default around 3,000 Hz; the other is 0."""
    return OfMagnitude(lambda it: (band_level(it, bins), 0 * band_level(it, bins)), ("heard", "nothing"))


def tone(hertz: float, start: float, stop: float) -> Tensor:
    """A sine from `start` to `stop` seconds in a clip of 0.6 s, (1, samples)."""
    time = torch.arange(SAMPLES) / RATE
    return torch.where((time >= start) & (time < stop), torch.sin(2 * torch.pi * hertz * time), 0.0)[None]
