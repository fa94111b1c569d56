"""Batches for tests of trained interpreters: noise that fades, at peak 1."""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.contracts import Batch

SAMPLES = 4800


def noise(rows: int = 3, samples: int = SAMPLES) -> Tensor:
    """White noise (rows, samples) that fades to a tenth of its amplitude."""
    waveform = torch.randn(rows, samples, generator=torch.Generator().manual_seed(5)) * torch.linspace(1, 0.1, samples)
    return waveform / waveform.abs().amax(1, keepdim=True)


def batch_of(waveform: Tensor, label: Tensor | None = None, **rest) -> Batch:
    """A batch of these waveforms, by default all of class 0."""
    label = torch.zeros(len(waveform), dtype=torch.long) if label is None else label
    return Batch(waveform, label, torch.arange(len(waveform)), **rest)
