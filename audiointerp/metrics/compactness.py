"""How small an interpretation is: pure functions of masks and waveforms, one value per clip.

Sparseness: Chalasani et al. (2020), https://arxiv.org/abs/1810.06583; complexity: Bhatt et al. (2020),
https://arxiv.org/abs/2005.00631; both as Quantus computes them, on the mask itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

__all__ = ["complexity", "kept_energy", "mean_mask", "sparseness"]


def sparseness(mask: Tensor) -> Tensor:
    """Gini index of |mask|, (batch, ...) -> (batch,): 0 for a uniform (or empty) mask, near 1 for a single bin.

    A binary mask that keeps the share r of its bins has sparseness 1 - r. As in Quantus, a mask is first scaled to a
    largest value of 1, so that its level does not matter, and 1e-7 is added.

    >>> sparseness(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).round(decimals=3)
    tensor([0.7500], dtype=torch.float64)
    """
    values = _sorted(mask.flatten(1).abs()).double()
    values = values / values[:, -1:].clamp(min=1e-300) + 1e-7
    n = values.shape[1]
    rank = 2 * torch.arange(1, n + 1, device=mask.device, dtype=torch.float64) - n - 1
    return (rank * values).sum(1) / (n * values.sum(1))


def _sorted(values: Tensor) -> Tensor:
    """Rows in rising order; numpy sorts numbers several times as fast as torch, which also gives their places."""
    if values.device.type != "cpu":
        return values.sort(1).values
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=1))


def complexity(mask: Tensor) -> Tensor:
    """Entropy in nats of |mask| as a distribution over bins, (batch, ...) -> (batch,); largest if the mask is empty.

    >>> complexity(torch.tensor([[1.0, 1.0, 0.0, 0.0]])).exp().round(decimals=6)
    tensor([2.], dtype=torch.float64)
    """
    values = mask.flatten(1).abs().double()
    total = values.sum(1, keepdim=True)
    entropy = torch.special.entr(values / total.clamp(min=1e-300)).sum(1)
    return torch.where(total[:, 0] > 0, entropy, torch.full_like(entropy, math.log(values.shape[1])))


def mean_mask(mask: Tensor) -> Tensor:
    """Mean of the mask over frequency and time, (batch, freq, time) -> (batch,)."""
    return mask.flatten(1).mean(1)


def kept_energy(waveform: Tensor, interpretation: Tensor) -> Tensor:
    """Energy of the interpretation over the input's, both (batch, samples); NaN for a silent input."""
    check_alike(2, waveform=waveform, interpretation=interpretation)
    whole = waveform.double().square().sum(1)
    kept = interpretation.double().square().sum(1)
    return torch.where(whole > 0, kept / whole.clamp(min=1e-300), torch.full_like(whole, torch.nan))
