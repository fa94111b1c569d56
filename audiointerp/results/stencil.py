"""Figures that differ by their images and title only: the axes are drawn once, and images set into the drawing.

Matplotlib takes several times as long to lay out and draw a row of spectrograms as PIQ takes for an explanation. Axes,
ticks and colour bars are the same for all clips of a length.
"""

from __future__ import annotations

import functools
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audiointerp.results.templating import PANELS
from audiointerp.results.writing import write_bytes

TITLE = {"x": 0.008, "ha": "left", "fontsize": 10.5, "fontweight": "bold"}  # of matplotlib's text
MARGIN = 0.0417  # between title and edge, in inches: matplotlib's padding of a constrained layout
STRIP = 0.25  # height of the title with its margin, in inches

__all__ = ["TITLE", "ShadedImage", "Stencil", "write_picture"]


@dataclass(frozen=True)
class ShadedImage:
    """An image for one pair of axes.

    Attributes:
        values: (rows, columns), row 0 at the bottom.
        low, high: the values of the first and the last colour.
        colours: name of a colour map.
    """

    values: np.ndarray
    low: float
    high: float
    colours: str


class Stencil:
    """The drawing of a figure without its images and its title.

    Args:
        figure: without a title; its layout is fixed. Its first axes hold one image each, which is left out.
        images: the number of these axes.
        dpi: pixels an inch.
    """

    def __init__(self, figure: Figure, images: int, dpi: int):
        self.dpi, self.inches = dpi, figure.get_figwidth()
        figure.set_dpi(dpi)
        figure.patch.set_visible(False)
        for axis in figure.axes[:images]:
            axis.patch.set_visible(False)
            for image in axis.images:
                image.set_visible(False)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba()).astype(np.float32)
        colour, share = drawn[..., :3], drawn[..., 3:] / 255
        self._ground = _as_bytes(colour * share + 255 * (1 - share))
        height = len(drawn)
        self._frames = [_Frame.of(axis.get_window_extent().extents, height) for axis in figure.axes[:images]]
        # Ticks and frames that lie over an image are blended with it.
        over = np.zeros(drawn.shape[:2], bool)
        for frame in self._frames:
            over[frame.rows, frame.columns] = True
        self._over = np.nonzero(over & (share[..., 0] > 0))
        self._lines, self._through = (colour * share)[self._over], 1 - share[self._over]

    @property
    def places(self) -> list[tuple[float, float, float, float]]:
        """Left, right, top and bottom edge of each image, as shares of the picture's width and height."""
        height, width = self._ground.shape[:2]
        return [
            (each.columns.start / width, each.columns.stop / width, each.rows.start / height, each.rows.stop / height)
            for each in self._frames
        ]

    def filled(self, shades: Sequence[ShadedImage], title: str) -> np.ndarray:
        """The picture with these images and title, (height, width, 3), bytes."""
        picture = self._ground.copy()
        for shade, frame in zip(shades, self._frames):
            picture[frame.rows, frame.columns] = frame.coloured(shade)
        picture[self._over] = _as_bytes(self._lines + picture[self._over] * self._through)
        strip = _title(title, self.inches, self.dpi)
        np.minimum(picture[: len(strip)], strip, out=picture[: len(strip)])
        return picture


@dataclass(frozen=True)
class _Frame:
    """The pixels that an image covers: whole pixels, and the exact edges from left to right and from bottom to top."""

    rows: slice
    columns: slice
    across: tuple[float, float]
    up: tuple[float, float]

    @classmethod
    def of(cls, extents: Sequence[float], height: int) -> _Frame:
        """From the edges in pixels from the lower left corner: left, bottom, right, top."""
        left, bottom, right, top = map(float, extents)
        first, last = round(left), round(right)
        lowest, highest = round(bottom), round(top)
        return cls(
            slice(height - highest, height - lowest),
            slice(first, last),
            (left - first, right - first),
            (bottom - lowest, top - lowest),
        )

    def coloured(self, shade: ShadedImage) -> np.ndarray:
        """The shade's image over these pixels, (rows, columns, 3), bytes."""
        values = np.asarray(shade.values, np.float32)
        sizes = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        grown = [(edges[1] - edges[0]) / have for edges, have in zip((self.up, self.across), values.shape)]
        smooth = not all(each in (1, 2) or each > 3 for each in grown)  # matplotlib's rule for "auto"
        rows = _weights(values.shape[0], self.up, sizes[0], smooth)[::-1]
        columns = _weights(values.shape[1], self.across, sizes[1], smooth)
        found = (rows @ values) @ columns.T
        steps = (found - shade.low) * (256 / (shade.high - shade.low))
        return _colours(shade.colours)[np.clip(steps, 0, 255).astype(np.uint8)]


@functools.lru_cache(12)
def _weights(have: int, edges: tuple[float, float], pixels: int, smooth: bool) -> np.ndarray:
    """The share of each of `have` values in each pixel, (pixels, have), for values spread between two edges.

    Smooth: a Hann window as wide as a pixel or a value, whichever is wider; else the value at the pixel's centre.
    """
    step = (edges[1] - edges[0]) / have
    centres = (np.arange(pixels) + 0.5 - edges[0]) / step  # in values
    if not smooth:
        return np.eye(have, dtype=np.float32)[np.clip(centres.astype(int), 0, have - 1)]
    reach = max(1.0, 1 / step)
    apart = (np.arange(have) + 0.5 - centres[:, None]) / reach
    shares = np.where(np.abs(apart) < 1, 0.5 + 0.5 * np.cos(np.pi * apart), 0.0)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


@functools.lru_cache(8)
def _colours(name: str) -> np.ndarray:
    """The 256 colours of a map, (256, 3), bytes."""
    return np.asarray(matplotlib.colormaps[name](np.arange(256), bytes=True))[:, :3]


def _title(text: str, inches: float, dpi: int) -> np.ndarray:
    """A title drawn on white, (height, width, 3), bytes; shortened if it is wider than the figure."""
    height = round(STRIP * dpi) / dpi  # whole pixels
    strip = Figure(figsize=(inches, height), dpi=dpi)
    canvas = FigureCanvasAgg(strip)
    drawn = strip.text(s=text, y=1 - MARGIN / height, va="top", **TITLE)
    with warnings.catch_warnings():  # as in `write_figure`
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support ", UserWarning)
        room, width = (1 - 2 * TITLE["x"]) * inches * dpi, drawn.get_window_extent(canvas.get_renderer()).width
        if width > room:
            drawn.set_text(text[: max(1, int(len(text) * room / width) - 1)] + "…")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _as_bytes(values: np.ndarray) -> np.ndarray:
    return (values + 0.5).astype(np.uint8)


def write_picture(path: str | Path, picture: np.ndarray, dpi: int, note: str = "") -> Path:
    """Writes (height, width, 3) bytes as a PNG, under a temporary name; returns the path.

    `note` is kept in the file under the keyword `PANELS`; it is ASCII.

    Unlike most writers it stores each row as it is: the colours of a map's 256 steps recur, which zlib finds, while
    differences of neighbouring pixels (PNG's filters) do not. Files are a third smaller, and written in an eighth of
    the time.
    """
    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with the number of its filter, 0: none
    rows[:, 1:] = picture.reshape(height, -1)
    per_metre = round(dpi / 0.0254)
    chunks = {
        b"IHDR": struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0),  # 8 bits each of red, green and blue
        b"pHYs": struct.pack(">2IB", per_metre, per_metre, 1),
        b"tEXt": PANELS + b"\0" + note.encode("ascii"),
        b"IDAT": zlib.compress(rows.tobytes(), 1),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
        if note or kind != b"tEXt"
    ]
    return write_bytes(path, b"\x89PNG\r\n\x1a\n" + b"".join(parts))
