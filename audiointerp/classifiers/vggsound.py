"""The PIQ paper's audio classifier: four strided convolutions, a residual block, mean pooling, a linear head.

Encoder of Paissan et al. (2023), "Posthoc Interpretation via Quantization", https://arxiv.org/abs/2303.12659,
appendix F, as released in SpeechBrain (`Conv2dEncoder_v2`). Axes here are frequency before time: kernels copied from
there have their last two axes swapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.encoding import HalvingConv2d, ImageStage, Stage
from audiointerp.contracts import Classifier, Prediction, label_names
from audiointerp.sound.spectrogram import STFT, log_magnitude

MIN_FRAMES = 16

__all__ = ["Encoder", "ResidualBlock", "VGGSound"]


class ResidualBlock(nn.Module):
    """x + f(x), where f is conv 3 x 3, batch norm, ReLU, conv 1 x 1, batch norm; no ReLU after the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, freq, time) -> the same shape."""
        return x + self.block(x)


class Encoder(nn.Module):
    """Log-magnitude (batch, freq, time) -> five feature maps, each half as fine as the last; 4 and 5 have one shape.

    >>> [tuple(each.shape) for each in Encoder(8)(torch.zeros(1, 513, 431))][-1]
    (1, 8, 32, 26)
    """

    def __init__(self, channels: int):
        super().__init__()
        later = (Stage(HalvingConv2d(channels, channels)) for _ in range(3))
        self.stages = nn.ModuleList([ImageStage(channels), *later])
        self.residual = ResidualBlock(channels)
        # Channels last in memory: training on a CPU is 1.7 times as fast, and GPUs prefer this layout.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Feature maps (batch, channel, freq, time), earliest first. Fewer than 16 frames are padded with silence."""
        short = MIN_FRAMES - features.shape[-1]
        x = functional.pad(features, (0, short)) if short > 0 else features
        x = x.unsqueeze(1).to(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return (*maps, self.residual(x))


class VGGSound(Classifier):
    """The PIQ paper's CNN on log-magnitude, named after the data its encoder is pretrained on.

    Args:
        labels: class names.
        channels: width of every convolution; 256 in the paper.
        hidden: width between the head's two linear layers; None: as wide as `channels` (the paper's 256).
        relu: a ReLU between the two layers. The paper lists no ReLU.
        dropout: probability before the last layer; 0 in the paper.
        multilabel: sigmoid instead of softmax.
        spectrogram: front end; None: the paper's.
    Shape:
        waveform (batch, samples) -> logits (batch, classes).
    Raises:
        ValueError: if there are no labels.
    """

    reads_magnitude = True

    def __init__(
        self,
        labels: Sequence[str],
        channels: int = 256,
        hidden: int | None = None,
        relu: bool = True,
        dropout: float = 0.2,
        multilabel: bool = False,
        spectrogram: STFT | None = None,
    ):
        super().__init__()
        labels = label_names(labels) if isinstance(labels, Mapping) else labels
        if isinstance(labels, str) or not labels:
            raise ValueError(f"labels is {labels!r}; give a list of class names")
        hidden = hidden or channels
        self.config = {
            "labels": list(labels),
            "channels": channels,
            "hidden": hidden,
            "relu": relu,
            "dropout": dropout,
            "multilabel": multilabel,
        }
        self.labels, self.multilabel = tuple(labels), multilabel
        self.spectrogram = spectrogram or STFT()
        self.sample_rate = self.spectrogram.sample_rate
        self.encoder = Encoder(channels)
        between = [nn.ReLU()] if relu else []
        self.head = nn.Sequential(
            nn.BatchNorm1d(channels),
            nn.Linear(channels, hidden),
            *between,
            nn.Dropout(dropout),
            nn.Linear(hidden, len(self.labels)),
        )

    def features(self, waveform: Tensor) -> Tensor:
        """log_magnitude (batch, freq, time)."""
        return log_magnitude(self.spectrogram(waveform))

    def classify(self, features: Tensor) -> Prediction:
        """Prediction of log-magnitudes (batch, freq, time)."""
        return self.classify_maps(self.encoder(features))

    def classify_maps(self, feature_maps: tuple[Tensor, ...]) -> Prediction:
        """Prediction from the encoder's feature maps, so that cached maps need no second pass."""
        embedding = feature_maps[-1].mean((2, 3))
        logits = self.head(embedding)
        return Prediction.from_logits(logits, self.multilabel, embedding=embedding, feature_maps=feature_maps)

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        """Prediction of a complex STFT, read directly: no inverse transform in between."""
        return self.classify(log_magnitude(stft))
