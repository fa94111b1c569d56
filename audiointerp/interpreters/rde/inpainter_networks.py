"""The inpainter's networks: a residual generator with noise in every block, and a discriminator that scores patches.

Heiss et al. (2020), https://arxiv.org/abs/2007.00758, section 3.1, state only "a residual CNN with added noise in the
input and deep features". Ours: every block adds a mean over all bands, since a note's harmonics are further apart than
the receptive field of the convolutions; one of the two noise inputs is the same in all bands; and the generator may
start from a donor, another note, to which it adds a correction (0 before training) that depends on the kept features.
Trained on a few hundred notes from noise alone, the generator made the same filling for all notes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

DILATIONS = (1, 2, 4, 8, 4, 1)
_KERNEL = 9
_EPS = 1e-3  # shorter phasors are not brought to length 1, so that gradients stay finite
_BEND = 5.0  # beta of the softplus that keeps levels above 0

__all__ = ["Discriminator", "Generator"]


class Generator(nn.Module):
    """Makes features for the places that a mask removes.

    Args:
        bands: number of bands of the features.
        width: number of channels.
        blocks: number of residual blocks, with dilations 1, 2, 4, 8, 4, 1, repeated.
    Shape:
        features (batch, 3, band), keep (batch, 2, band) of 0 and 1, noise (batch, 2 + blocks + 3, band) -> level at
        least 0 and unit phasor, (batch, 3, band). The last three channels of the noise are the donor's features.
    Raises:
        ValueError: if a size is below 1.

    >>> generator = Generator(bands=32, width=8, blocks=2)
    >>> generator(torch.zeros(1, 3, 32), torch.zeros(1, 2, 32), generator.draw(1)).shape
    torch.Size([1, 3, 32])
    """

    def __init__(self, bands: int = 512, width: int = 48, blocks: int = 6):
        super().__init__()
        if min(bands, width, blocks) < 1:
            raise ValueError(f"bands is {bands}, width {width}, blocks {blocks}; a generator needs at least 1 of each")
        self.bands = bands
        self.first = nn.Conv1d(10, width, _KERNEL, padding="same")
        self.blocks = nn.ModuleList(_Block(width, DILATIONS[number % len(DILATIONS)]) for number in range(blocks))
        self.last = nn.Conv1d(width, 3, _KERNEL, padding="same")
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(torch.as_tensor(self.last.bias))

    def draw(self, count: int, generator: torch.Generator | None = None, donor: Tensor | None = None) -> Tensor:
        """Normally distributed noise and the donors' features or zeros: (count, 2 + blocks + 3, band).

        The second channel of the noise is the same in all bands.
        """
        place = self.first.weight
        device = place.device if generator is None else generator.device
        noise = torch.randn(count, 2 + len(self.blocks), self.bands, generator=generator, device=device).to(place)
        noise[:, 1] = noise[:, 1, :1]
        return torch.cat([noise, noise.new_zeros(count, 3, self.bands) if donor is None else donor.to(noise)], 1)

    def forward(self, features: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
        """Features (batch, 3, band) for the places where `keep` is 0; at the other places they are not trained."""
        donor = noise[:, -3:]
        hidden = self.first(torch.cat([features * keep[:, [0, 1, 1]], keep, noise[:, :2], donor], 1))
        for number, block in enumerate(self.blocks, start=2):
            hidden = block(hidden, noise[:, number : number + 1])
        correction = self.last(functional.leaky_relu(hidden, 0.2))
        level = functional.softplus(_unbent(donor[:, 0]) + correction[:, 0], beta=_BEND)
        return torch.cat([level[:, None], functional.normalize(donor[:, 1:] + correction[:, 1:], dim=1, eps=_EPS)], 1)


def _unbent(level: Tensor) -> Tensor:
    """The inverse of the softplus; levels below 0.05 (-86 dB), where its slope vanishes, are raised to 0.05."""
    return (_BEND * level.clamp(min=0.05)).expm1().log() / _BEND


class _Block(nn.Module):
    """A residual block: a noise input, a dilated convolution, and a mean over all bands."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.spread = nn.Conv1d(width, width, _KERNEL, padding="same", dilation=dilation)
        # Equivalent to concatenating a noise channel, but a convolution of 49 channels is half as fast as one of 48.
        self.noise = nn.Conv1d(1, width, _KERNEL, padding="same", dilation=dilation, bias=False)
        self.mix = nn.Conv1d(width, width, 1)
        self.common = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, noise: Tensor) -> Tensor:
        inner = functional.leaky_relu(self.spread(functional.leaky_relu(hidden, 0.2)) + self.noise(noise), 0.2)
        return hidden + self.mix(inner) + self.common(inner.mean(2))[:, :, None]


class Discriminator(nn.Module):
    """Scores how real each patch of a note is.

    Args:
        width: channels of the first layer; the others have twice as many.
    Shape:
        features (batch, 3, band) -> scores (batch, ceil(band / 16)), each of the 121 bands around its place.
    """

    def __init__(self, width: int = 24):
        super().__init__()
        sizes = (3, width, 2 * width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Conv1d(before, after, _KERNEL, stride=2, padding=_KERNEL // 2), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv1d(sizes[-1], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Scores; above 0 means real."""
        return self.layers(features)[:, 0]
