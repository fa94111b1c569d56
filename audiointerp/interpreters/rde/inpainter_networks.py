"""The inpainter's networks: a residual generator with noise at every depth, a discriminator that judges patches.

Heiss et al. (2020), https://arxiv.org/abs/2007.00758, section 3.1, say "a residual CNN with added noise in the input
and deep features" and no more. Ours: a mean over all bands in every block, as a note's harmonics lie further apart than
the convolutions see; one of the two noise inputs is the same in all bands. Ours, too: the noise may come with a donor,
another note, which the generator changes until it suits what is kept, at first not at all; from noise alone, a few
hundred notes taught it one filling for all.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

DILATIONS = (1, 2, 4, 8, 4, 1)
_KERNEL = 9
_EPS = 1e-3  # shorter phasors are not brought to length 1, so that gradients stay finite
_BEND = 5.0  # how sharply a level turns into 0

__all__ = ["Discriminator", "Generator"]


class Generator(nn.Module):
    """Features for the places a mask leaves empty.

    Args:
        bands: of the features.
        width: channels.
        blocks: residual blocks, with dilations 1, 2, 4, 8, 4, 1 and over again.
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
        """Noise (count, 2 + blocks, band), normally distributed, and the donors (count, 3, band) or zeros.

        The second channel is the same in all bands.
        """
        place = self.first.weight
        device = place.device if generator is None else generator.device
        noise = torch.randn(count, 2 + len(self.blocks), self.bands, generator=generator, device=device).to(place)
        noise[:, 1] = noise[:, 1, :1]
        return torch.cat([noise, noise.new_zeros(count, 3, self.bands) if donor is None else donor.to(noise)], 1)

    def forward(self, features: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
        """The features that are to stand where `keep` is 0; those elsewhere mean nothing."""
        donor = noise[:, -3:]
        hidden = self.first(torch.cat([features * keep[:, [0, 1, 1]], keep, noise[:, :2], donor], 1))
        for number, block in enumerate(self.blocks, start=2):
            hidden = block(hidden, noise[:, number : number + 1])
        correction = self.last(functional.leaky_relu(hidden, 0.2))
        level = functional.softplus(_unbent(donor[:, 0]) + correction[:, 0], beta=_BEND)
        return torch.cat([level[:, None], functional.normalize(donor[:, 1:] + correction[:, 1:], dim=1, eps=_EPS)], 1)


def _unbent(level: Tensor) -> Tensor:
    """What softplus turns into the level; those below 0.05 (-86 dB), where it has no slope, count as that."""
    return (_BEND * level.clamp(min=0.05)).expm1().log() / _BEND


class _Block(nn.Module):
    """A residual block: fresh noise, a dilated convolution, and what all bands have in common."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.spread = nn.Conv1d(width, width, _KERNEL, padding="same", dilation=dilation)
        # The convolution of a concatenated noise channel, apart: 49 channels are half as fast as 48.
        self.noise = nn.Conv1d(1, width, _KERNEL, padding="same", dilation=dilation, bias=False)
        self.mix = nn.Conv1d(width, width, 1)
        self.common = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, noise: Tensor) -> Tensor:
        inner = functional.leaky_relu(self.spread(functional.leaky_relu(hidden, 0.2)) + self.noise(noise), 0.2)
        return hidden + self.mix(inner) + self.common(inner.mean(2))[:, :, None]


class Discriminator(nn.Module):
    """How real a note looks, patch by patch.

    Args:
        width: channels of the first layer; the others have twice as many.
    Shape:
        features (batch, 3, band) -> scores (batch, ceil(band / 16)), each of the 121 bands around it.
    """

    def __init__(self, width: int = 24):
        super().__init__()
        sizes = (3, width, 2 * width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Conv1d(before, after, _KERNEL, stride=2, padding=_KERNEL // 2), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv1d(sizes[-1], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Scores; above 0 is real."""
        return self.layers(features)[:, 0]
