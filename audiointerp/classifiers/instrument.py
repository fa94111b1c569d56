"""A classifier of a note's instrument family: convolutions along the log-frequency axis over level and phase.

The paper that asks whether magnitude or phase identifies an instrument (Heiss et al., 2020,
https://arxiv.org/abs/2007.00758) gives neither the classifier's layers nor its accuracy; the architecture is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from audiointerp.contracts import BandClassifier, Classifier, Prediction
from audiointerp.sound.logfrequency import LogFrequency
from audiointerp.sound.spectrogram import STFT

Reads = Literal["both", "magnitude", "phase"]

__all__ = ["InstrumentClassifier", "check_bands"]


class InstrumentClassifier(BandClassifier):
    """1-D CNN on the level, cosine and sine of a note's log-frequency bands.

    Five convolutions of width 9 and stride 2, each with batch norm and ReLU; mean over the bands; dropout; a linear
    layer. A note's level does not change the prediction.

    Args:
        labels: class names.
        spectrogram: STFT that masks live on, and the sample rate; None: the default at 16 kHz. The network itself
            does not use it.
        multilabel: sigmoid instead of softmax.
        bands: number of bands of the log-frequency axis, up to 8 kHz or half the rate.
        channels: width of the first convolution; the others are 2, 4, 8 and 8 times as wide.
        reads: "both", or "magnitude" or "phase" alone; the others are set to 0, in training too.
        dropout: probability before the linear layer.
    Attributes:
        log_frequency: the front end.
    Shape:
        waveform (batch, samples) -> features (batch, 3, band) -> logits (batch, classes).
    Raises:
        ValueError: without labels or channels, or for another `reads`.

    >>> classifier = InstrumentClassifier(["flute", "organ"], bands=64, channels=4).eval()
    >>> prediction = classifier(torch.randn(3, 16000))
    >>> prediction.logits.shape, prediction.embedding.shape
    (torch.Size([3, 2]), torch.Size([3, 32]))
    """

    _read: Tensor

    def __init__(
        self,
        labels: Sequence[str],
        spectrogram: STFT | None = None,
        multilabel: bool = False,
        bands: int = 512,
        channels: int = 32,
        reads: Reads = "both",
        dropout: float = 0.2,
    ):
        super().__init__()
        if isinstance(labels, str) or not labels:
            raise ValueError(f"labels is {labels!r}; give a list of class names")
        if channels < 1:
            raise ValueError(f"channels is {channels}; the first convolution needs at least one")
        if reads not in get_args(Reads):
            raise ValueError(f"reads is {reads!r}; choose one of {', '.join(map(repr, get_args(Reads)))}")
        self.config: dict[str, Any] = {
            "labels": list(labels),
            "multilabel": multilabel,
            "bands": bands,
            "channels": channels,
            "reads": reads,
            "dropout": dropout,
        }
        self.labels, self.multilabel, self.reads = tuple(labels), multilabel, reads
        self.spectrogram = spectrogram or STFT()
        self.sample_rate = self.spectrogram.sample_rate
        self.log_frequency = LogFrequency(self.sample_rate, bands, high=min(8000.0, self.sample_rate / 2))
        self.encoder = _Encoder(channels)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.encoder.size, len(self.labels)))
        read = [reads != "phase", reads != "magnitude", reads != "magnitude"]
        self.register_buffer("_read", torch.tensor(read)[:, None], persistent=False)

    def classify(self, features: Tensor) -> Prediction:
        """Prediction of features (batch, 3, band), which need not be those of a sound; differentiable.

        Raises:
            ValueError: for features of another number of bands, such as those cached for another classifier.
        """
        if features.shape[1:] != (3, self.config["bands"]):
            raise ValueError(
                f"features have shape {tuple(features.shape)}; this classifier reads (batch, 3, {self.config['bands']})"
            )
        embedding = self.encoder(features.where(self._read, 0.0))
        return Prediction.from_logits(self.head(embedding), self.multilabel, embedding=embedding)


class _Encoder(nn.Module):
    """Features (batch, 3, band) -> embedding (batch, size): mean over the bands of five convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        widths = (3, *(times * channels for times in (1, 2, 4, 8, 8)))
        self.size = widths[-1]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(before, after, 9, stride=2, padding=4, bias=False), nn.BatchNorm1d(after), nn.ReLU()
                )
                for before, after in pairwise(widths)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.stages(features).mean(2)


def check_bands(classifier: Classifier) -> BandClassifier:
    """The classifier itself, if it reads log-frequency bands.

    Raises:
        ValueError: if its features are no log-frequency bands.
    """
    if not isinstance(classifier, BandClassifier):
        raise ValueError(
            f"{type(classifier).__name__} does not read log-frequency bands; give a BandClassifier, such as "
            "InstrumentClassifier, or explain this one with RDE, on its STFT"
        )
    return classifier
