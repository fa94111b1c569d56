"""Classifiers of a few log-frequency bands whose answers can be worked out by hand."""

import torch
from torch import Tensor

from audiointerp.contracts import BandClassifier, Prediction
from audiointerp.sound.logfrequency import LogFrequency
from audiointerp.sound.spectrogram import STFT

BANDS = 16


class LinearBands(BandClassifier):
    """Logits = sum over channels and bands of weight (classes, 3, band) times features, plus a bias (classes,)."""

    multilabel = False
    sample_rate = 16000

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.labels = tuple(f"class {each}" for each in range(len(weight)))
        self.spectrogram, self.log_frequency = STFT(), LogFrequency(bands=weight.shape[2], n_fft=8192)
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(torch.zeros(len(weight)) if bias is None else bias)

    def classify(self, features: Tensor) -> Prediction:
        logits = torch.einsum("bcf,kcf->bk", features, self.weight) + self.bias
        return Prediction.from_logits(logits, self.multilabel)


def reads(part: str, scale: float = 3.0) -> LinearBands:
    """Three classes, told apart by the magnitudes alone or by the phases alone."""
    weight = scale * torch.randn(3, 3, BANDS, generator=torch.Generator().manual_seed(5))
    weight[:, {"magnitude": slice(1, 3), "phase": slice(0, 1)}[part]] = 0
    return LinearBands(weight)


def random_features(notes: int, seed: int = 0, bands: int = BANDS) -> Tensor:
    """Levels between 0 and 3 and unit phasors, (notes, 3, band)."""
    generator = torch.Generator().manual_seed(seed)
    level = 3 * torch.rand(notes, bands, generator=generator)
    angle = 2 * torch.pi * torch.rand(notes, bands, generator=generator)
    return torch.stack([level, angle.cos(), angle.sin()], 1)
