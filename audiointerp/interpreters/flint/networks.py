"""FLINT's networks: feature maps -> attributes Phi; attributes -> class scores h; attributes -> log-magnitude d.

Parekh, Mozharovskyi, d'Alche-Buc (2021), "A Framework to Learn with Interpretation",
https://arxiv.org/abs/2010.09345. There, Phi pools to a grid of 3 x 3, whatever the image, and a linear layer with a
ReLU gives one number per attribute. Here the grid has `bands` rows in frequency, and one column for every column of
the coarsest feature map read: the course of each attribute over time, (batch, attributes, columns). The attribute
itself is its mean over time, so that it has the same meaning for every length of a clip. (Thirds of a clip, the
columns of a grid of 3 x 3, would tell when a sound begins, which says nothing about its class.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.interpreters.base import MapLayout
from audiointerp.interpreters.lmac.decoder import START_COARSEST, MapReader, level_of
from audiointerp.interpreters.piq.decoders import LightDecoder

# Attributes are of the order of 1, so that h must grow to the order of 1 to 10, which takes too many steps at the
# learning rate of the other networks; it is therefore GAIN times the trained weight, as L2I's Theta.
GAIN = 10.0
START = 0.1  # first bias of the attributes: the ReLU passes no gradient to an attribute that is below zero everywhere

__all__ = ["AttributeDecoder", "AttributeNetwork", "Attributes", "ClassScores", "spread"]


class Attributes(NamedTuple):
    """A clip in terms of the attributes.

    Attributes:
        course: (batch, attributes, columns), never negative; columns of the coarsest feature map read.
        before: the course before its ReLU.
        cells: (batch, attributes, rows, columns), what each cell adds to `before`: the sum over rows plus the
            attribute's bias is `before`.
    """

    course: Tensor
    before: Tensor
    cells: Tensor

    @property
    def strength(self) -> Tensor:
        """Phi(x), (batch, attributes): the mean of the course over time, never negative."""
        return self.course.mean(2)


class AttributeNetwork(nn.Module):
    """Phi: feature maps -> the attributes of a clip.

    Each map is brought to `width` channels at the cells of one grid, `level` bins and frames each; the maps are joined
    by a convolution, averaged over `bands` bands of frequency, and mapped to the attributes by a linear layer and a
    ReLU. The released code's LeakyReLU lets attributes be negative, where the paper says that they are not.

    Args:
        layouts: of the maps that are read.
        n_attributes: number J of attributes.
        width: channels.
        freq: bins of the STFT.
        bands: bands of equal width in frequency; 3 in the paper.
    Shape:
        maps (batch, channel, freq', time') -> `Attributes`.
    """

    pool: Tensor

    def __init__(self, layouts: Sequence[MapLayout], n_attributes: int, width: int, freq: int, bands: int = 3):
        super().__init__()
        self.level = max(START_COARSEST, *(level_of(each) for each in layouts))
        self.rows = _cells(freq, self.level)
        self.readers = nn.ModuleList(MapReader(layout, width, None) for layout in layouts)
        self.join = nn.Conv2d(len(layouts) * width, width, 3, padding=1)
        # (rows, bands): the mean over each band, as torch's pooling to `bands` rows takes it.
        pool = functional.adaptive_avg_pool1d(torch.eye(self.rows), bands)
        self.register_buffer("pool", pool, persistent=False)
        self.attribute = nn.Linear(width * bands, n_attributes)
        nn.init.constant_(self.attribute.bias, START)

    def forward(self, maps: Sequence[Tensor], positions: Sequence[tuple[Tensor, Tensor]], frames: int) -> Attributes:
        """Attributes of a batch.

        Args:
            maps: as many as layouts.
            positions: of each map's rows and columns, see `cell_positions`.
            frames: of the clip's STFT.
        """
        grid = self.rows, _cells(frames, self.level)
        read = [reader(each, None, self.level, at, grid) for reader, each, at in zip(self.readers, maps, positions)]
        hidden = functional.relu(self.join(torch.cat(read, 1)))
        # The weight of a row is that of its band over the band's rows, so that no step between cells and pooling is
        # lost: what each cell adds to an attribute is exact.
        weight = self.attribute.weight.view(len(self.attribute.weight), hidden.shape[1], -1) @ self.pool.T
        cells = torch.einsum("bwrt,jwr->bjrt", hidden, weight)
        before = cells.sum(2) + self.attribute.bias[:, None]
        return Attributes(functional.relu(before), before, cells)


class ClassScores(nn.Module):
    """h: the logits of g, linear in the attributes: (batch, attributes) -> (batch, classes)."""

    def __init__(self, n_attributes: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(n_attributes, classes)
        # The softmax does not depend on a term that is equal for all classes: training would hardly change its random
        # first value, and it would count as relevance.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @property
    def weight(self) -> Tensor:
        """w, (classes, attributes)."""
        return GAIN * self.linear.weight

    def forward(self, strength: Tensor) -> Tensor:
        """Logits."""
        return functional.linear(strength, self.weight, self.linear.bias)


class AttributeDecoder(nn.Module):
    """d: the course of the attributes -> the clip's log-magnitude, never negative.

    A linear layer makes `width` channels of `rows` rows from the attributes of each column; convolutions double rows
    and columns up to the STFT's grid; a softplus ends it, as a log-magnitude is never below 0.

    Args:
        n_attributes: number J of attributes.
        level: bins and frames per cell, of the `AttributeNetwork`.
        rows: of its grid.
        width: channels at the coarse levels.
        fine_width: channels at half the STFT's resolution.
    Shape:
        course (batch, attributes, columns), log-magnitude (batch, freq, time) -> (batch, freq, time).
    """

    def __init__(self, n_attributes: int, level: int, rows: int, width: int, fine_width: int):
        super().__init__()
        self.rows = rows
        self.first = nn.Conv1d(n_attributes, width * rows, 1)
        self.decoder = LightDecoder(width, level, fine_width)

    def forward(self, course: Tensor, log_magnitude: Tensor) -> Tensor:
        """Log-magnitude; of the given one, only the size is read."""
        latent = functional.relu(self.first(course)).unflatten(1, (-1, self.rows))
        return functional.softplus(self.decoder(latent, log_magnitude)).to(log_magnitude.dtype)


def spread(cells: Tensor, level: int, freq: int, frames: int) -> Tensor:
    """Values of cells (batch, rows, columns) at every bin and frame, (batch, freq, time), interpolated linearly.

    Cell j is centred on bin (and frame) level (j + 1/2) - 1/2; beyond the last centre its value is repeated.
    """
    fine = functional.interpolate(cells[:, None], scale_factor=float(level), mode="bilinear")
    more = max(0, frames - fine.shape[3]), max(0, freq - fine.shape[2])
    return functional.pad(fine, (0, more[0], 0, more[1]), mode="replicate")[:, 0, :freq, :frames]


def _cells(count: int, level: int) -> int:
    """Cells on an axis of `count` bins or frames; the decoder repeats a last bin or frame beyond the last cell."""
    return max(1, -(-(count - 1) // level))
