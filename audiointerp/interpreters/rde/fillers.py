"""Fillers: the features that replace removed parts of a note's spectrum (zeros, noise, another note).

Chang et al. (2019), https://arxiv.org/abs/1807.08024; Heiss et al. (2020), https://arxiv.org/abs/2007.00758: the
obfuscation is `z = x * s + filler * (1 - s)`. Features are (batch, 3, band): level log1p(1000 m), then cosine and sine
of the phase. A mask `keep` is (batch, 2, band), 1 = keep: row 0 is for the level, row 1 for the phase.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from math import pi

import torch
from torch import Tensor, nn

__all__ = ["Donors", "Filler", "GaussianNoise", "Zeros", "compose", "fit_fillers"]

_NOTES = 1024  # notes summed at once


class Filler(nn.Module, ABC):
    """Draws random values first and fills with them later, so that the same draws can be used with many masks."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` independent draws, (count, ...); all randomness comes from `generator`, which may stay on the CPU."""

    @abstractmethod
    def fill(self, features: Tensor, keep: Tensor, drawn: Tensor) -> Tensor:
        """The filler's features (batch, 3, band) for notes (batch, 3, band), masks (batch, 2, band) and draws."""


class Zeros(Filler):
    """Level 0 and phasor 0 in every band; nothing is random, so a draw is empty.

    >>> Zeros().fill(torch.ones(1, 3, 4), torch.ones(1, 2, 4), Zeros().draw(1, torch.Generator())).sum()
    tensor(0.)
    """

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 0)."""
        return torch.empty(count, 0, device=generator.device)

    def fill(self, features: Tensor, keep: Tensor, drawn: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(features)


class GaussianNoise(Filler):
    """In each band a level from a normal distribution, clamped at 0, and a uniformly distributed phase.

    Args:
        mean: (band,), mean level.
        std: (band,), standard deviation of the level.

    Raises:
        ValueError: if the shapes differ, or a standard deviation is negative.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ValueError(f"mean is {tuple(mean.shape)} and std {tuple(std.shape)}; both are (band,)")
        if (std < 0).any():
            raise ValueError(f"std contains {float(std.min()):g}; a standard deviation is at least 0")
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The filler's features themselves, (count, 3, band)."""
        shape, device = (count, len(self.mean)), self.mean.device
        normal = torch.randn(shape, generator=generator, device=generator.device).to(device)
        angle = 2 * pi * torch.rand(shape, generator=generator, device=generator.device).to(device)
        level = (self.mean + self.std * normal).clamp(min=0)
        return torch.stack([level, angle.cos(), angle.sin()], 1)

    def fill(self, features: Tensor, keep: Tensor, drawn: Tensor) -> Tensor:
        """The features that were drawn."""
        return _fitting(drawn, features)


class Donors(Filler):
    """Another note, chosen at random from a bank of real notes; needs no training.

    Args:
        bank: features of notes, (notes, 3, band).

    Raises:
        ValueError: if the bank has another shape or is empty.
    """

    bank: Tensor

    def __init__(self, bank: Tensor):
        super().__init__()
        if bank.ndim != 3 or bank.shape[1] != 3 or len(bank) == 0:
            raise ValueError(f"the bank is {tuple(bank.shape)}; it needs (notes, 3, band) with at least 1 note")
        self.register_buffer("bank", bank)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Notes of the bank, (count, 3, band)."""
        chosen = torch.randint(len(self.bank), (count,), generator=generator, device=generator.device)
        return self.bank[chosen.to(self.bank.device)].float()

    def fill(self, features: Tensor, keep: Tensor, drawn: Tensor) -> Tensor:
        """The features that were drawn."""
        return _fitting(drawn, features)


def _fitting(drawn: Tensor, features: Tensor) -> Tensor:
    if drawn.shape != features.shape:
        raise ValueError(
            f"the filler drew {tuple(drawn.shape)} for features {tuple(features.shape)}; fit it on the same bands"
        )
    return drawn.to(features)


def compose(features: Tensor, keep: Tensor, filled: Tensor) -> Tensor:
    """The note where it is kept, the filler elsewhere: `features * keep + filled * (1 - keep)`, (batch, 3, band).

    Where `keep` is between 0 and 1, phasors become shorter than 1; they are not renormalised, neither in training nor
    in explaining.

    >>> compose(torch.ones(1, 3, 1), torch.tensor([[[1.0], [0.25]]]), torch.zeros(1, 3, 1)).flatten()
    tensor([1.0000, 0.2500, 0.2500])
    """
    each = keep[:, [0, 1, 1]]
    return features * each + filled * (1 - each)


@torch.no_grad()
def fit_fillers(features: Tensor | Iterable[Tensor], donors: int = 256, seed: int = 0) -> dict[str, Filler]:
    """The fillers that need no training: "zeros", "noise" and "donor".

    Args:
        features: of the training notes, (notes, 3, band), or batches of them, each read once. Silent notes are left
            out.
        donors: largest number of notes in the bank, chosen at random.
        seed: of that choice.

    Raises:
        ValueError: if the features have another shape, all notes are silent, or `donors` is below 1.
    """
    if donors < 1:
        raise ValueError(f"donors is {donors}; the bank needs at least 1 note")
    generator = torch.Generator().manual_seed(seed)
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    bank, order = torch.empty(0), torch.empty(0)
    for batch in features.split(_NOTES) if isinstance(features, Tensor) else features:
        if batch.ndim != 3 or batch.shape[1] != 3:
            raise ValueError(f"the features are {tuple(batch.shape)}; fillers are fitted on (notes, 3, band)")
        batch = batch[batch[:, 0].amax(1) > 0].float().cpu()
        level = batch[:, 0].double()
        count, total, square = count + len(batch), total + level.sum(0), square + level.square().sum(0)
        # Every note gets a random number; the bank keeps the notes with the smallest numbers seen so far.
        bank = torch.cat([bank, batch]) if bank.numel() else batch
        order = torch.cat([order, torch.rand(len(batch), generator=generator)])
        first = order.argsort()[:donors]
        bank, order = bank[first], order[first]
    if count == 0:
        raise ValueError("all notes are silent; fillers are fitted on the features of training notes")
    mean = total / count
    std = (square / count - mean.square()).clamp(min=0).sqrt()
    return {"zeros": Zeros(), "noise": GaussianNoise(mean, std), "donor": Donors(bank)}
