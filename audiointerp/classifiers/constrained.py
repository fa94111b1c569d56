"""Copies of a classifier with a fact about its decisions that is known without any training.

`deaf` cannot use a band of frequencies, `first_seconds` hears only the beginning of a sound, and `swapped` exchanges
labels. The copies have the classifier's own class as a base, so that layers, feature maps, gradients and the places of
feature maps on the STFT grid are used as those of the classifier itself.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Prediction
from audiointerp.recipe.signatures import nearest

__all__ = ["PartlyDeaf", "check_pairs", "deaf", "first_seconds", "swapped"]


class PartlyDeaf(Classifier):
    """A classifier that is given only a part of each sound, see `audible`; the rest cannot change its logits.

    A masked spectrogram is classified through its waveform, of which the same part is taken: the window of an STFT
    spreads each frequency over neighbouring bins and each moment over neighbouring frames.
    """

    reads_magnitude = False

    @abstractmethod
    def audible(self, waveform: Tensor) -> Tensor:
        """The part of (batch, samples) that the classifier is given, of the same shape; linear, and idempotent."""

    def features(self, waveform: Tensor) -> Tensor:
        """Features of the audible part."""
        return super().features(self.audible(waveform))

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        """Prediction of the audible part of the waveform of a complex STFT."""
        return self(self.spectrogram.inverse(stft, samples))


class _DeafToBand(PartlyDeaf):
    low_hz: float
    high_hz: float

    def audible(self, waveform: Tensor) -> Tensor:
        samples = waveform.shape[-1]
        hertz = torch.fft.rfftfreq(samples, 1 / self.sample_rate, device=waveform.device)
        kept = (hertz < self.low_hz) | (hertz > self.high_hz)
        return torch.fft.irfft(torch.fft.rfft(waveform) * kept, samples)


class _FirstSeconds(PartlyDeaf):
    seconds: float

    def audible(self, waveform: Tensor) -> Tensor:
        kept = torch.arange(waveform.shape[-1], device=waveform.device) < round(self.seconds * self.sample_rate)
        return torch.where(kept, waveform, 0.0)


class _Swapped(Classifier):
    original: type[Classifier]
    order: list[int]

    def classify(self, features: Tensor) -> Prediction:
        return self._reordered(self._as_it_was.classify(features))

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        return self._reordered(self._as_it_was.classify_stft(stft, samples))

    def classify_maps(self, feature_maps: tuple[Tensor, ...]) -> Prediction:
        return self._reordered(self._as_it_was.classify_maps(feature_maps))

    @property
    def _as_it_was(self) -> Classifier:
        """The same object with the classifier's own class, so that its methods call one another unchanged."""
        same = object.__new__(self.original)
        same.__dict__ = self.__dict__  # pyright: ignore[reportAttributeAccessIssue]
        return same

    def _reordered(self, made: Prediction) -> Prediction:
        return replace(made, logits=made.logits[:, self.order], probabilities=made.probabilities[:, self.order])


def deaf(classifier: Classifier, low_hz: float, high_hz: float) -> PartlyDeaf:
    """A copy of a classifier that is given each sound without a band of frequencies.

    The band's coefficients of the Fourier transform of the whole sound are set to 0, so that nothing in the band can
    change a logit.

    Args:
        classifier: any; it is not changed.
        low_hz, high_hz: ends of the band, in Hz, both within it.

    Raises:
        ValueError: unless 0 <= low_hz < high_hz and the band begins below half the sample rate; for a classifier
            that is such a copy already.
    """
    if not 0 <= low_hz < high_hz or low_hz >= classifier.sample_rate / 2:
        raise ValueError(
            f"the band is from {low_hz:g} to {high_hz:g} Hz; its lower end comes first, is not below 0, and is below "
            f"half the sample rate, {classifier.sample_rate / 2:g} Hz"
        )
    return _variant(classifier, _DeafToBand, low_hz=low_hz, high_hz=high_hz)


def first_seconds(classifier: Classifier, seconds: float = 1.0) -> PartlyDeaf:
    """A copy of a classifier that is given the beginning of each sound, followed by silence up to the sound's length.

    Args:
        classifier: any; it is not changed.
        seconds: length of the beginning.

    Raises:
        ValueError: if the beginning is shorter than a sample; for a classifier that is such a copy already.
    """
    if not round(seconds * classifier.sample_rate) >= 1:
        raise ValueError(f"seconds is {seconds:g}; the beginning that the classifier hears must have a sample")
    return _variant(classifier, _FirstSeconds, seconds=seconds)


def swapped(classifier: Classifier, pairs: Sequence[Sequence[str]]) -> Classifier:
    """A copy of a classifier in which the labels of each pair have exchanged their logits.

    Args:
        classifier: any; it is not changed.
        pairs: two labels each.

    Raises:
        ValueError: if there is no pair, the classifier has no such label, or a label is named twice; for a
            classifier that is such a copy already.
    """
    names, labels = check_pairs(pairs), list(classifier.labels)
    if unknown := [name for name in names if name not in labels]:
        raise ValueError(f"pairs names {unknown[0]!r}, which is no label{nearest(unknown[0], labels)}")
    order = list(range(len(labels)))
    for first, second in pairs:
        one, two = labels.index(first), labels.index(second)
        order[one], order[two] = two, one
    return _variant(classifier, _Swapped, original=type(classifier), order=order)


def check_pairs(pairs: Sequence[Sequence[str]]) -> list[str]:
    """The labels of all pairs.

    Raises:
        ValueError: if there is no pair, a pair has not two labels, or a label is named twice.
    """
    if not pairs or any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"pairs is {pairs}; give a list of pairs, two labels each, such as [[dog, rain]]")
    names = [name for pair in pairs for name in pair]
    if len(set(names)) < len(names):
        raise ValueError(f"pairs names {', '.join(names)}; each label can be exchanged once")
    return names


def _variant(classifier: Classifier, kind: type, **facts: Any) -> Any:
    """A copy whose class is derived from `kind` and the classifier's class; no bundle with it can be loaded."""
    if isinstance(classifier, PartlyDeaf if issubclass(kind, PartlyDeaf) else kind):
        raise ValueError(f"{type(classifier).__name__} is such a copy already; give the classifier that it was made of")
    twin = copy.deepcopy(classifier)
    name = f"{kind.__name__.strip('_')}{type(classifier).__name__}"
    twin.__class__ = type(name, (kind, type(classifier)), {"__module__": __name__})
    twin.source = twin.source_labels = None
    for each, value in facts.items():
        object.__setattr__(twin, each, value)
    return twin
