"""How well an interpretation is the true sound, where it is known: pure functions of waveforms, one value a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

SILENCE_DB = -80.0

__all__ = ["is_silent", "si_sdr", "si_sdr_improvement"]


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, (batch, samples) -> (batch,).

    Le Roux et al. (2019), https://arxiv.org/abs/1811.02508, without removing the mean. A silent estimate or reference
    has no score: NaN, never the 0 dB that would beat any real estimate below it. Scores end at -156.5 and 156.5 dB,
    where double precision does, so that a mean over clips stays finite.

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
    """SI-SDR of the estimate minus that of the untouched mixture, in dB; NaN where either has none."""
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def is_silent(interpretation: Tensor, waveform: Tensor) -> Tensor:
    """Whether an interpretation's peak lies over 80 dB below its input's, (batch,) bool."""
    check_alike(2, interpretation=interpretation, waveform=waveform)
    bound = waveform.abs().amax(1) * 10 ** (SILENCE_DB / 20)
    return interpretation.abs().amax(1) <= bound
