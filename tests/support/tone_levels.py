"""A classifier whose answer is known from the levels of two tones, and clips of both tones in noise."""

from __future__ import annotations

import torch
from torch.nn import functional
from training_batches import batch_of

from audiointerp.contracts import Batch, Classifier, Prediction
from audiointerp.sound.spectrogram import STFT, log_magnitude

LOW, HIGH = 40, 168  # bins of the two tones: 625 Hz and 2,625 Hz


class TwoTones(Classifier):
    """Says "low" by the level around 625 Hz and "high" by the level around 2,625 Hz, whatever else sounds."""

    labels, sample_rate, multilabel = ("low", "high"), 16000, False
    reads_magnitude = True

    def __init__(self):
        super().__init__()
        self.spectrogram = STFT()

    def features(self, waveform):
        return log_magnitude(self.spectrogram(waveform))

    def classify_stft(self, stft, samples):
        return self.classify(log_magnitude(stft))

    def classify(self, features):
        pooled = functional.avg_pool2d(features.unsqueeze(1), 4, ceil_mode=True)[:, :, :128]
        # As in a trained network, a channel answers to what speaks for a class.
        below = (torch.arange(128) < 26).float()[:, None]
        maps = torch.cat([pooled * below, pooled * (1 - below)], 1)
        level = torch.stack([features[:, each - 4 : each + 5].mean((1, 2)) for each in (LOW, HIGH)], 1)
        return Prediction.from_logits(3 * level, False, embedding=maps.mean((2, 3)), feature_maps=(maps,))


def two_tones(rows: int, generator: torch.Generator) -> Batch:
    """Both tones at levels of their own, and a bed of noise over all bins."""
    time = torch.arange(3720) / 16000
    waveform = 0.05 * torch.randn(rows, 3720, generator=generator)
    for bin_ in (LOW, HIGH):
        phase, level = torch.rand(rows, 1, generator=generator), 0.5 + torch.rand(rows, 1, generator=generator)
        waveform = waveform + level * torch.sin(2 * torch.pi * (bin_ * 15.625 * time + phase))
    return batch_of(waveform / waveform.abs().amax(1, keepdim=True))
