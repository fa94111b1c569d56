"""How close an interpretation is to the true sound, where that is known: pure functions, one value per clip."""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

SILENCE_DB = -80.0

__all__ = ["is_silent", "si_sdr", "si_sdr_improvement"]


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, (batch, samples) -> (batch,).

    Le Roux et al. (2019), https://arxiv.org/abs/1811.02508, without removing the mean. A silent estimate or reference
    scores NaN, because 0 dB would rank it above other estimates with negative scores. Scores are limited to -156.5 to
    156.5 dB, the range of double precision, so that a mean over clips stays finite.

    Raises:
        ValueError: if the shapes differ.

    >>> si_sdr(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.], dtype=torch.float64)
    """
    check_alike(2, estimate=estimate, reference=reference)
    estimate, reference = estimate.double(), reference.double()
    energy = reference.square().sum(1)
    scale = (estimate * reference).sum(1) / energy.clamp(min=1e-300)
    wanted = scale[:, None] * reference
    error = (estimate - wanted).square().sum(1)
    eps = torch.finfo(torch.float64).eps
    signal = wanted.square().sum(1)
    ratio = 10 * torch.log10(torch.maximum(signal, eps * error) / torch.maximum(error, eps * signal))
    void = (energy == 0) | (estimate.abs().amax(1) == 0)
    return ratio.masked_fill(void, torch.nan)


def si_sdr_improvement(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """SI-SDR of the estimate minus that of the untouched mixture, in dB; NaN where either is NaN."""
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def is_silent(interpretation: Tensor, waveform: Tensor) -> Tensor:
    """Whether an interpretation's peak is at least 80 dB below its input's, (batch,) bool."""
    check_alike(2, interpretation=interpretation, waveform=waveform)
    bound = waveform.abs().amax(1) * 10 ** (SILENCE_DB / 20)
    return interpretation.abs().amax(1) <= bound
