"""Augmentation of notes on a logarithmic frequency axis: (batch, 3, band), level, cosine and sine of the phase.

Everything random comes from the torch.Generator passed in, as in `waveforms`; each note has its own draws.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from audiointerp.sound.logfrequency import level_to_magnitude, magnitude_to_level

__all__ = ["BlankChannel", "Equalize", "Polarity", "Transpose"]


class Transpose:
    """Moves each note up or down the axis by a normally distributed number of bands: another pitch, other formants.

    Bands that move in from beyond the axis are silent and have the outermost band's phase.

    Args:
        std: in bands.
    Raises:
        ValueError: if std is negative.
    """

    def __init__(self, std: float):
        self.std = _at_least_zero("Transpose's std", std)

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A moved copy."""
        bands = features.shape[2]
        moved = (self.std * torch.randn(len(features), 1, generator=generator)).round().long()
        source = torch.arange(bands) - moved
        inside = ((source >= 0) & (source < bands)).to(features.device)
        index = source.clamp(0, bands - 1).to(features.device)[:, None].expand(-1, 3, -1)
        made = features.gather(2, index)
        level = made[:, :1] * inside[:, None]
        return torch.cat([level, made[:, 1:]], 1)


class Equalize:
    """Applies a smooth random gain over the axis, as another microphone would; then power-normalises the magnitudes.

    Args:
        std: standard deviation in dB of the gain at each of `points` places; in between, the gain is interpolated.
        points: number of places, evenly spaced on the axis.
    Raises:
        ValueError: if std is negative or there are fewer than two points.
    """

    def __init__(self, std: float, points: int = 8):
        if points < 2:
            raise ValueError(f"Equalize's points are {points}; a gain over an axis needs at least 2")
        self.std, self.points = _at_least_zero("Equalize's std", std), points

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A copy with other magnitudes and the same phases."""
        decibels = self.std * torch.randn(len(features), 1, self.points, generator=generator)
        gain = functional.interpolate(decibels, size=features.shape[2], mode="linear", align_corners=True)[:, 0]
        magnitude = level_to_magnitude(features[:, 0]) * 10 ** (gain.to(features) / 20)
        total = magnitude.square().sum(1, keepdim=True).sqrt()
        level = magnitude_to_level(magnitude / total.where(total > 0, torch.inf))
        return torch.cat([level[:, None], features[:, 1:]], 1)


class Polarity:
    """Inverts the polarity of each note with probability 1/2, that is, adds pi to all its phases; this is inaudible."""

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A copy in which the phases of some notes are inverted."""
        sign = 1.0 - 2.0 * torch.randint(2, (len(features), 1, 1), generator=generator)
        return torch.cat([features[:, :1], features[:, 1:] * sign.to(features)], 1)


class BlankChannel:
    """Removes all magnitudes of a note, or all its phases (sets them to 0).

    A classifier trained with it recognises the instrument from either of the two alone, and does not rely only on the
    one that distinguishes the training notes more easily.

    Args:
        probability: of losing the magnitudes, and of losing the phases.
    Raises:
        ValueError: if it is not in [0, 0.5].
    """

    def __init__(self, probability: float):
        if not 0 <= probability <= 0.5:
            raise ValueError(
                f"BlankChannel's probability is {probability}; magnitudes and phases each have it; give 0 to 0.5"
            )
        self.probability = probability

    def __call__(self, features: Tensor, generator: Generator) -> Tensor:
        """A copy in which some notes lack one of the two."""
        drawn = torch.rand(len(features), 1, 1, generator=generator).to(features.device)
        no_level, no_phase = drawn < self.probability, drawn >= 1 - self.probability
        return torch.cat([features[:, :1] * ~no_level, features[:, 1:] * ~no_phase], 1)


def _at_least_zero(what: str, value: float) -> float:
    if value < 0:
        raise ValueError(f"{what} is {value}; it must be 0 or more")
    return value
