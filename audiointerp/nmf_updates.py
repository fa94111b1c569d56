"""The updates behind `nmf.NMF`, one class a loss: activations, dictionary, objective, as plain functions of tensors.

Shapes: frames X (freq, frames), dictionary W (freq, components) with columns of unit L2 norm, activations H
(components, frames). Statistics are sums over frames, all that the dictionary's update needs of the data; those of
blocks of frames, and of batches, are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Statistics = tuple[Tensor, Tensor]

FLOOR = 1e-12  # least model value in a quotient
VANISHED = 2.2e-16  # activations below it are set to 0 by multiplicative updates: denormal numbers are slow

__all__ = ["FLOOR", "UPDATES", "Frobenius", "KullbackLeibler", "Statistics", "coordinate_sweeps", "unit_columns"]


@dataclass(frozen=True)
class Frobenius:
    """Exact updates of one row of H, or one column of W, at a time. Statistics: X H^T and H H^T."""

    sparsity: float

    def start(self, frames: Tensor, dictionary: Tensor) -> Tensor:
        """Activations to begin with, (components, frames), each frame's its own."""
        return frames.new_zeros(dictionary.shape[1], frames.shape[1])

    def encode(self, frames: Tensor, dictionary: Tensor, activations: Tensor, sweeps: int) -> None:
        """Updates the activations in place."""
        # H_k = [w_k^T (X - sum_{j != k} w_j H_j) - sparsity / 2]_+ / |w_k|^2
        cross = dictionary.T @ frames
        coordinate_sweeps(activations, dictionary.T @ dictionary, cross.sub_(self.sparsity / 2), sweeps)

    def judge(self, frames: Tensor, dictionary: Tensor, activations: Tensor) -> tuple[Tensor, Statistics]:
        """The objective, a float64 scalar, and the statistics of these frames."""
        residual = torch.addmm(frames, dictionary, activations, alpha=-1)
        # Summed per frequency first: precise enough in float32, and faster than in float64.
        loss = torch.linalg.vector_norm(residual, dim=1).double().square().sum()
        if self.sparsity:
            loss = loss + self.sparsity * activations.sum(1).double().sum()
        return loss, (frames @ activations.T, activations @ activations.T)

    def learn(self, dictionary: Tensor, statistics: Statistics, sweeps: int) -> tuple[Tensor, Tensor]:
        """The next dictionary, and the factor (components, 1) by which activations keep the model."""
        cross, gram = statistics
        rows = dictionary.T.clone()
        coordinate_sweeps(rows, gram, cross.T.contiguous(), sweeps, unit=self.sparsity > 0)
        new = rows.T.contiguous()
        return (new, new.new_ones(new.shape[1], 1)) if self.sparsity else unit_columns(new, dictionary)

    def rescale(self, statistics: Statistics, scale: Tensor) -> Statistics:
        """Statistics as they would be, had the activations been multiplied by `scale`."""
        return statistics[0] * scale.T, statistics[1] * scale * scale.T


@dataclass(frozen=True)
class KullbackLeibler:
    """Multiplicative updates. Statistics: W * ((X / WH) H^T) and the sums of H over time."""

    sparsity: float

    def start(self, frames: Tensor, dictionary: Tensor) -> Tensor:
        """Activations to begin with, (components, frames), each frame's its own."""
        level = frames.sum(0) / dictionary.sum().clamp(min=FLOOR)
        return level.expand(dictionary.shape[1], -1).clone()

    def encode(self, frames: Tensor, dictionary: Tensor, activations: Tensor, sweeps: int) -> None:
        """Updates the activations in place."""
        weight = (dictionary.sum(0) + self.sparsity).clamp(min=FLOOR)[:, None]
        for _ in range(sweeps):
            model = (dictionary @ activations).clamp_(min=FLOOR)
            activations.mul_((dictionary.T @ torch.div(frames, model, out=model)).div_(weight))
            torch.threshold_(activations, VANISHED, 0.0)

    def judge(self, frames: Tensor, dictionary: Tensor, activations: Tensor) -> tuple[Tensor, Statistics]:
        """The objective, a float64 scalar, and the statistics of these frames."""
        total = activations.sum(1)
        model = (dictionary @ activations).clamp_(min=FLOOR)
        quotient = frames / model
        loss = model.sub_(frames).add_(torch.xlogy(frames, quotient)).sum(1).double().sum()
        if self.sparsity:
            loss = loss + self.sparsity * total.double().sum()
        return loss, ((quotient @ activations.T).mul_(dictionary), total)

    def learn(self, dictionary: Tensor, statistics: Statistics, sweeps: int) -> tuple[Tensor, Tensor]:
        """The next dictionary, and the factor (components, 1) by which activations keep the model."""
        pull, push = statistics
        if not self.sparsity:
            return unit_columns(pull / push.clamp(min=FLOOR), dictionary)
        # Le Roux et al. (2015), beta = 1: the gradient through W / |W|, split into its positive parts.
        grown = pull + dictionary.square() * (dictionary * push).sum(0)
        new = grown / (push + dictionary * pull.sum(0)).clamp(min=FLOOR)
        return unit_columns(new, dictionary)[0], new.new_ones(new.shape[1], 1)

    def rescale(self, statistics: Statistics, scale: Tensor) -> Statistics:
        """Statistics as they would be, had the activations been multiplied by `scale`."""
        return statistics[0], statistics[1] * scale[:, 0]


UPDATES = {"frobenius": Frobenius, "kl": KullbackLeibler}


def coordinate_sweeps(rows: Tensor, gram: Tensor, cross: Tensor, sweeps: int, unit: bool = False) -> None:
    """In turn, each row is set to what minimises tr(rows^T gram rows) - 2 tr(rows^T cross) over rows >= 0.

    With `unit` over non-negative rows of unit norm, where only the direction of cross_k - sum_{j != k} gram_kj row_j
    matters; a row for which it has no positive entry stays.
    """
    diagonal = gram.diagonal()[:, None]
    # A row of zero weight is 0, not 0 / 0.
    inverse = torch.where(diagonal > 1e-30, 1 / diagonal, 0.0)
    others, cross = (gram * inverse).fill_diagonal_(0), cross.mul_(inverse)
    flipped, row = rows.T, torch.empty_like(rows[0])
    for _ in range(sweeps):
        for k in range(len(rows)):
            torch.addmv(cross[k], flipped, others[k], alpha=-1, out=row)
            if unit:
                norm = torch.linalg.vector_norm(row.clamp_(min=0))
                row = torch.where(norm > 0, row / norm, rows[k])
                rows[k] = row
            else:
                torch.clamp(row, min=0, out=rows[k])


def unit_columns(dictionary: Tensor, fallback: Tensor) -> tuple[Tensor, Tensor]:
    """Columns at unit norm and the norms (components, 1); a vanished column takes the fallback's direction, norm 0."""
    norm = torch.linalg.vector_norm(dictionary, dim=0)
    return torch.where(norm > 0, dictionary / norm.clamp(min=torch.finfo(norm.dtype).tiny), fallback), norm[:, None]
