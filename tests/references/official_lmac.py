"""SpeechBrain's L-MAC: its classifier and decoder behind our contracts, and the loss that its recipe writes out.

Nothing here imports speechbrain; its modules come as arguments. Its tensors are time before frequency.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters import LMAC
from audiointerp.sound.spectrogram import STFT

CLASSES = 50
# recipes/ESC50/interpret/hparams/lmac_cnn14.yaml
WEIGHTS = {"masked_in": 4.0, "masked_out": 0.2, "area": 0.4}
HOP = 186


def samples_for(blocks: int) -> int:
    """Clip length of 32 `blocks` + 9 frames, the lengths whose every frame the released decoder gives a mask for."""
    return (32 * blocks + 8) * HOP


class OfficialClassifier(Classifier):
    """`Cnn14` and `Classifier` on the log of 80 mel bands of the magnitude, as a classifier of this package.

    Args:
        fbank: (batch, time, freq) magnitudes -> (batch, time, band).
        embedding: `Cnn14(..., return_reps=True)`.
        head: embedding -> logits.
    """

    reads_magnitude = True

    def __init__(self, fbank: Callable[[Tensor], Tensor], embedding: nn.Module, head: nn.Module):
        super().__init__()
        self.labels, self.sample_rate, self.multilabel = tuple(map(str, range(CLASSES))), 16_000, False
        self.spectrogram = STFT(n_fft=1024, win_length=2 * HOP, hop_length=HOP)
        self.fbank, self.embedding, self.head = fbank, embedding, head

    def features(self, waveform: Tensor) -> Tensor:
        return self._mel(self.spectrogram(waveform))

    def classify(self, features: Tensor) -> Prediction:
        embedded, maps = self.embedding(features)
        coarsest_last = tuple(each.transpose(2, 3) for each in reversed(maps))
        return Prediction.from_logits(self.head(embedded).squeeze(1), False, feature_maps=coarsest_last)

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        return self.classify(self._mel(stft))

    def _mel(self, stft: Tensor) -> Tensor:
        magnitude = stft.abs() if stft.is_complex() else stft
        return self.fbank(magnitude.transpose(1, 2)).log1p()


class OfficialDecoder(LMAC):
    """Our L-MAC with `CNN14PSI_stft` as its decoder, which is not told the class."""

    def use(self, psi: nn.Module) -> OfficialDecoder:
        self.decoder = psi
        return self

    def mask_logits(self, prediction: Prediction, target: Tensor, stft: Tensor, samples: int) -> Tensor:
        maps = [each.transpose(2, 3) for each in reversed(prediction.feature_maps)]
        return self.decoder(maps).squeeze(1).transpose(1, 2)


def official_loss(
    classify: Callable[[Tensor], Tensor],
    fbank: Callable[[Tensor], Tensor],
    mask: Tensor,
    log_magnitude: Tensor,
    predicted: Tensor,
) -> Tensor:
    """`compute_objectives` of train_lmac.py without fine-tuning: the area is summed over the batch.

    Args:
        classify: log-mel (batch, time, band) -> logits.
        fbank: magnitudes -> mel.
        mask: (batch, time, freq).
        log_magnitude: log1p of the clip's magnitude, at least as many frames as the mask has.
        predicted: (batch,), the classifier's class for the clip.
    """
    log_magnitude = log_magnitude[:, : mask.shape[1]]
    kept, left = (classify(fbank(torch.expm1(each * log_magnitude)).log1p()) for each in (mask, 1 - mask))
    masked_in = functional.nll_loss(kept.log_softmax(1), predicted)
    masked_out = -functional.nll_loss(left.log_softmax(1), predicted)
    area = mask.abs().mean((-1, -2)).sum()
    return WEIGHTS["masked_in"] * masked_in + WEIGHTS["masked_out"] * masked_out + WEIGHTS["area"] * area
