"""SpeechBrain's PIQ: its weights into ours, and what its recipe writes out without a module of its own.

Nothing here imports speechbrain; its modules come as arguments. Its tensors are time before frequency.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from audiointerp.classifiers import VGGSound
from audiointerp.interpreters import PIQ

# recipes/ESC50/interpret/hparams/piq.yaml: milliseconds at 16 kHz, 372 and 186 samples once rounded
WINDOW = {"sample_rate": 16000, "win_length": 23.2199, "hop_length": 11.6099}
N_FFT = 1024


def official_offsets(codes: int, classes: int) -> Tensor:
    """The released partition: code i belongs to class round(-0.5 + i (C - 0.01) / (K - 1)), half to even."""
    owner = torch.linspace(-0.5, classes - 0.51, codes, dtype=torch.float64).round().long().clamp(0, classes - 1)
    return torch.searchsorted(owner, torch.arange(classes + 1))


@torch.no_grad()
def copy_weights(source: nn.Module, destination: nn.Module) -> None:
    """Weights and running statistics in the order of registration; kernels with their last two axes swapped."""
    for old, new in zip(source.state_dict().values(), destination.state_dict().values(), strict=True):
        new.copy_(old.transpose(2, 3) if old.ndim == 4 else old)


@torch.no_grad()
def copy_piq(encoder: nn.Module, psi: Any, classifier: VGGSound, interpreter: PIQ) -> None:
    """`Conv2dEncoder_v2` and `VectorQuantizedPSI_Audio`, its partition of the codebook included."""
    copy_weights(encoder, classifier.encoder)
    copy_weights(nn.ModuleList([psi.adapter, psi.down]), interpreter.adapter)
    copy_weights(nn.ModuleList([psi.up, psi.decoder]), interpreter.decoder)
    codebook = interpreter.codebook
    codebook.weight.copy_(psi.codebook.embedding.weight)
    codebook.offsets.copy_(official_offsets(len(codebook.weight), codebook.classes))


def target_mask(log_magnitude: Tensor) -> Tensor:
    """1 where log1p|X| exceeds 0.35 times the clip's largest, (batch, time, freq)."""
    return (log_magnitude > 0.35 * log_magnitude.amax((1, 2), keepdim=True)).float()


def average_drop(interpretation: Tensor, original: Tensor) -> Tensor:
    """The recipe's average drop of probabilities (batch, classes), of which it takes the softmax a second time."""
    drops = []
    for on_interpretation, on_input in zip(interpretation.softmax(1), original.softmax(1)):
        label = on_input.argmax()
        fall = max(0.0, float(on_input[label] - on_interpretation[label]))
        drops.append(100 * fall / (float(on_input[label]) + 1e-10))
    return torch.tensor(drops)
