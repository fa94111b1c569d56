"""The decoder of L-MAC: all feature maps that are read, and the target class -> logits of a mask on the STFT grid.

A U-Net whose encoder is the classifier. Each map enters at the level of the decoder whose grid is nearest to its own:
its channels are mixed, scaled and shifted for the target class, and its cells interpolated at the frequencies and times
of the level's cells. Cell j of a level of stride s is centred on bin (and frame) s (j + 1/2) - 1/2, where transposed
convolutions with kernel 4, stride 2 and padding 1 put it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.external import External, between
from audiointerp.classifiers.vggsound import ResidualBlock
from audiointerp.contracts import Classifier
from audiointerp.interpreters.base import MapLayout
from audiointerp.interpreters.piq.decoders import LightDecoder
from audiointerp.sound.spectrogram import STFT

COARSEST, FINEST = 32, 2  # strides of the levels at which maps may enter
START_COARSEST = 8  # largest stride of the level at which the decoder starts, if all maps are finer

__all__ = [
    "START_COARSEST",
    "MapReader",
    "MaskDecoder",
    "cell_positions",
    "even_positions",
    "largest_of_targets",
    "level_of",
]


class MaskDecoder(nn.Module):
    """Feature maps and a class -> mask logits.

    Args:
        layouts: of the maps that are read.
        classes: number of classes that can be explained; None: the mask does not depend on the class.
        width: channels at the coarse levels.
        fine_width: channels at the levels of stride 4 and 2, and of the last layers.
        detail: the last layers also read the clip's log-magnitude, see `LightDecoder`.
        masks: number of masks that `every_mask` makes at once.
        context: every cell of the coarsest level also reads the mean over the whole clip, so that a mask can depend on
            what is heard elsewhere in the clip.
    Shape:
        maps (batch, channel, freq', time'), classes (batch,), log-magnitude (batch, freq, time) -> (batch, freq, time).
    """

    def __init__(
        self,
        layouts: Sequence[MapLayout],
        classes: int | None,
        width: int = 64,
        fine_width: int = 16,
        detail: bool = False,
        masks: int = 1,
        context: bool = False,
    ):
        super().__init__()
        levels = [level_of(each) for each in layouts]
        self.start = max(START_COARSEST, *levels)
        if self.start not in levels:  # the coarsest maps are averaged to the level at which the decoder starts
            coarsest = max(levels)
            levels = [self.start if each == coarsest else each for each in levels]
        self.levels = tuple(levels)
        self.decoder = LightDecoder(width, self.start, fine_width, detail, masks)
        strides = [self.start >> stage for stage in range(len(self.decoder.widths) + 1)]
        channels = dict(zip(strides, (width, *self.decoder.widths)))
        self.readers = nn.ModuleList(
            MapReader(layout, channels[level], classes) for layout, level in zip(layouts, levels)
        )
        self.bottom = ResidualBlock(width)
        self.context = nn.Linear(width, width) if context else None

    def forward(
        self,
        maps: Sequence[Tensor],
        positions: Sequence[tuple[Tensor, Tensor]],
        target: Tensor,
        log_magnitude: Tensor,
    ) -> Tensor:
        """Logits (batch, freq, time) of the first mask, see `every_mask`."""
        return self.every_mask(maps, positions, target, log_magnitude)[:, 0]

    def every_mask(
        self,
        maps: Sequence[Tensor],
        positions: Sequence[tuple[Tensor, Tensor]],
        target: Tensor | None,
        log_magnitude: Tensor,
    ) -> Tensor:
        """Logits (batch, masks, freq, time).

        Args:
            maps: as many as layouts.
            positions: of each map, see `cell_positions`.
            target: (batch,), index of the class to explain; None if the decoder is not told the class.
            log_magnitude: of the clip.
        """
        size = [max(1, -(-(each - 1) // self.start)) for each in log_magnitude.shape[1:]]
        read: dict[int, Tensor] = {}
        for reader, level, each, where in zip(self.readers, self.levels, maps, positions):
            cells = [have * self.start // level for have in size]
            made = reader(each, target, level, where, cells)
            read[level] = read[level] + made if level in read else made
        stages = [self.start >> stage for stage in range(1, len(self.decoder.widths) + 1)]
        latent = read[self.start]
        if self.context is not None:
            latent = latent + self.context(latent.mean((2, 3)))[:, :, None, None]
        skips = [read.get(level) for level in stages]
        logits = self.decoder.every_mask(self.bottom(latent), log_magnitude, skips)
        return logits.to(log_magnitude.dtype)  # under mixed precision, the sound is masked in full precision


class MapReader(nn.Module):
    """A map -> relu((1 + a_c) norm(W A) + b_c) at a level's cells; a_c and b_c belong to the target class c.

    Args:
        layout: of the map that is read.
        width: channels of the result.
        classes: number of classes; None: no class is given, and a_c and b_c are 0.
    Shape:
        map (batch, channel, freq', time') -> (batch, width, *cells).
    """

    def __init__(self, layout: MapLayout, width: int, classes: int | None):
        super().__init__()
        self.layout = layout
        self.mix = nn.Conv2d(layout.channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.of_class = None if classes is None else nn.Embedding(classes, 2 * width)
        if self.of_class is not None:
            nn.init.normal_(self.of_class.weight, std=0.5)

    def forward(
        self,
        feature_map: Tensor,
        target: Tensor | None,
        level: int,
        positions: tuple[Tensor, Tensor],
        cells: Sequence[int],
    ) -> Tensor:
        """The map at a level's cells.

        Args:
            feature_map: (batch, channel, freq', time').
            target: (batch,), index of the class; None if the reader takes none.
            level: bins and frames per cell, a power of two, see `level_of`.
            positions: of the map's rows and columns, see `cell_positions`.
            cells: rows and columns of the result.
        """
        x = self.norm(self.mix(feature_map))
        within = _cells_in(self.layout, level, len(positions[0]))
        for axis, (position, count, finer) in enumerate(zip(positions, cells, within), start=2):
            x = _at_cells(x, axis, position, level, count, finer)
        if self.of_class is not None:
            scale, shift = self.of_class(target)[:, :, None, None].chunk(2, 1)
            x = (1 + scale) * x + shift
        return functional.relu(x)


def cell_positions(classifier: Classifier, layout: MapLayout, columns: int, samples: int) -> tuple[Tensor, Tensor]:
    """Row of a feature map at each STFT bin, (freq,), and column at each frame, (time,), as fractional indices.

    An `External` says where its cells are (`External.place`: a mel filter bank's rows are not evenly spaced in Hz). The
    rows of other classifiers are spread evenly over the bins; their columns are `stride` frames wide, so that a frame's
    place does not depend on the clip's length.

    Args:
        classifier: the classifier.
        layout: of the feature map.
        columns: of the feature map for this clip.
        samples: length of the clip.
    """
    device = classifier.device
    if isinstance(classifier, External):
        # Ramps over rows and columns, put into place, are the indices of rows and columns.
        row = torch.arange(layout.rows, dtype=torch.float32, device=device)[:, None].expand(-1, columns)
        column = torch.arange(columns, dtype=torch.float32, device=device).expand(layout.rows, -1)
        placed = classifier.place(torch.stack([row, column]), samples)
        return placed[0, :, 0], placed[1, 0]
    return even_positions(classifier.spectrogram, layout, columns, samples)


def even_positions(spectrogram: STFT, layout: MapLayout, columns: int, samples: int) -> tuple[Tensor, Tensor]:
    """As `cell_positions`, of a network on the STFT's own grid: its rows are spread evenly over the bins."""
    device = spectrogram.window.device
    bins = torch.arange(spectrogram.n_fft // 2 + 1, device=device)
    frames = torch.arange(1 + samples // spectrogram.hop_length, device=device)
    stride = len(frames) / columns if layout.stride is None else layout.stride
    return (bins + 0.5) / (spectrogram.n_fft / 2) * layout.rows - 0.5, (frames + 0.5) / stride - 0.5


def largest_of_targets(target: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Largest in each bin of what is made for each target class of a clip, (batch, ...).

    Args:
        target: (batch, classes) bool, at least one class of each clip.
        make: classes (batch,) -> values (batch, ...), such as the logits of a mask; called once if each clip has one.
    """
    # A pass for the first class of every clip, one for the second, ...; a clip with fewer repeats its first class.
    order = target.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices
    counts = target.sum(1)
    largest = make(order[:, 0])
    for number in range(1, int(counts.max())):
        largest = torch.maximum(largest, make(torch.where(counts > number, order[:, number], order[:, 0])))
    return largest


def level_of(layout: MapLayout) -> int:
    """The power of two nearest to a map's stride in frames, as a level of the decoder; 16 for a map without one."""
    stride = 16.0 if layout.stride is None else layout.stride
    return min(COARSEST, max(FINEST, 2 ** round(math.log2(stride))))


def _cells_in(layout: MapLayout, level: int, freq: int) -> tuple[int, int]:
    """Whole rows and columns of a map within a cell of a level, at least 1 each; `freq` is the number of bins."""
    columns = 1 if layout.stride is None else int(level / layout.stride)
    return max(1, int(level * layout.rows / max(1, freq - 1))), max(1, columns)


def _at_cells(x: Tensor, axis: int, position: Tensor, level: int, count: int, within: int) -> Tensor:
    """Values at the centres of `count` cells of a level, interpolated linearly; beyond a map's ends, the last value.

    Args:
        x: (batch, channel, freq', time').
        axis: 2 or 3.
        position: fractional index on this axis at each bin or frame.
        level: stride of the cells in bins or frames.
        count: number of cells.
        within: number of the map's rows or columns that a cell contains; if above 1, they are averaged first.
    """
    centre = level * (torch.arange(count, device=x.device) + 0.5) - 0.5
    at = between(position.to(x.device), centre, 0)
    if within > 1:
        kernel = (within, 1) if axis == 2 else (1, within)
        x = functional.avg_pool2d(x, kernel, ceil_mode=True, count_include_pad=False)
        at = (at + 0.5) / within - 0.5
    have = x.shape[axis]
    own = torch.arange(count, device=at.device, dtype=at.dtype).clamp(max=have - 1)
    if torch.equal(at.clamp(0, have - 1), own):  # the map's grid is the level's: nothing to interpolate
        more = max(0, count - have)
        padding = (0, 0, 0, more) if axis == 2 else (0, more, 0, 0)
        return functional.pad(x, padding, mode="replicate") if more else x.narrow(axis, 0, count)
    return between(x, at, axis)
