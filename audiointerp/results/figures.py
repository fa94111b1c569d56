"""Figures of a run: one interpretation, a confusion matrix, the training curves. From arrays to PNG files.

Figures are built as objects instead of through pyplot, so that there is no global state and no window.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from scipy.fft import rfft

from audiointerp.metrics.names import INFO
from audiointerp.results.showing import ShownFigure
from audiointerp.results.stencil import TITLE, ShadedImage, Stencil, write_picture
from audiointerp.results.writing import write_figure

Scaleogram = Sequence[tuple[np.ndarray, float, float, float, float]]

__all__ = [
    "COLOURS",
    "MARKERS",
    "STYLE",
    "Scaleogram",
    "draw_comparison",
    "draw_interpretation",
    "plot_confusion",
    "plot_interpretation",
    "plot_training",
    "save_figure",
]

DYNAMIC_RANGE = 80.0  # dB shown below the input's loudest bin
MAX_COLUMNS = 1200  # largest number of frames drawn; more would be narrower than a pixel
MAX_NUMBERED, MAX_NAMED = 60, 120  # largest numbers of classes for which cells have numbers, and every row has a name
DPI = 130
MOST_TITLE = 110  # letters
# Okabe & Ito's colours, distinguishable with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00", "#555555")
MARKERS = "osD^vPX*<>hp"  # one per method, in addition to its colour
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 6,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.7,
    "axes.labelcolor": "#333333",
    "text.color": "#222222",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    # Dollar signs in class or file names must not start mathematics.
    "text.parse_math": False,
}
_NOT_PLOTTED = re.compile(r"(^|[_/.])(epoch|step|steps|lr|learning_rate|seconds|time|best)([_/.]|$)|^perplexity_.")
_SCORE = re.compile(
    r"(accuracy|precision|recall|f1|auprc|auc|top[-_]?\d*.*|.*(fidelity|faithfulness|probability)"
    r"|.*(codes|perplexity|active|dead|used).*)$"
)


def plot_interpretation(
    path: str | Path,
    waveform: np.ndarray,
    kept: np.ndarray,
    mask: np.ndarray | None,
    sample_rate: int,
    title: str,
    n_fft: int = 1024,
    hop_length: int = 186,
    win_length: int = 372,
    scaleogram: Scaleogram | None = None,
) -> None:
    """Input, mask (or scaleogram) and interpretation side by side, over seconds and Hz.

    Both spectrograms are in dB relative to the input's loudest bin, so that they can be compared. For long clips, the
    maximum of neighbouring frames is drawn.

    Args:
        path: the PNG to write.
        waveform, kept: (samples,), the input and the interpretation.
        mask: (freq, time) in [0, 1], from 0 Hz to half the rate over the whole clip, or None to draw no mask.
        sample_rate: in Hz.
        title: one line above the panels.
        n_fft, hop_length, win_length: of the STFT in the figure, in samples.
        scaleogram: drawn if there is no mask: of each level of a wavelet transform its values (coefficients,), 0 or
            more, start and step in seconds, lowest and highest frequency in Hz. All levels share one scale.

    Raises:
        ValueError: if shapes do not fit, samples are not finite or the mask leaves [0, 1].
    """
    panels = _interpretation_panels(waveform, kept, mask, n_fft, hop_length, win_length, scaleogram)
    seconds = len(np.asarray(waveform)) / sample_rate
    with rc_context(STYLE):
        if all(image.size and not _is_silent(name, image) for name, image in panels):
            stencil = _stencil(tuple(name for name, _ in panels), seconds, sample_rate)
            shades = [ShadedImage(image, *_scale(name)) for name, image in panels]
            # So that a page can show where in the figure the sound is.
            places = json.dumps(
                [[round(edge, 5) for edge in place] + [0, round(seconds, 4)] for place in stencil.places]
            )
            write_picture(path, stencil.filled(shades, _shorten(title, MOST_TITLE)), DPI, places)
        else:
            save_figure(_panel_figure(panels, seconds, sample_rate, title, scaleogram), path)


def draw_interpretation(
    waveform: np.ndarray,
    kept: np.ndarray,
    mask: np.ndarray | None,
    sample_rate: int,
    title: str,
    n_fft: int = 1024,
    hop_length: int = 186,
    win_length: int = 372,
    scaleogram: Scaleogram | None = None,
) -> ShownFigure:
    """The figure of `plot_interpretation`, which notebooks show; takes its arguments and raises its errors."""
    panels = _interpretation_panels(waveform, kept, mask, n_fft, hop_length, win_length, scaleogram)
    with rc_context(STYLE):
        return _panel_figure(panels, len(np.asarray(waveform)) / sample_rate, sample_rate, title, scaleogram)


def _interpretation_panels(
    waveform: np.ndarray,
    kept: np.ndarray,
    mask: np.ndarray | None,
    n_fft: int,
    hop_length: int,
    win_length: int,
    scaleogram: Scaleogram | None,
) -> list[tuple[str, np.ndarray]]:
    """Name and image of each panel; the scaleogram's image is empty."""
    waveform, kept = np.asarray(waveform, np.float32), np.asarray(kept, np.float32)
    _check_interpretation(waveform, kept, mask)
    spectra = [_magnitude(signal, n_fft, hop_length, win_length) for signal in (waveform, kept)]
    loudest = float(spectra[0].max()) or 1.0
    decibels = [_decibels(spectrum, loudest) for spectrum in spectra]
    if mask is not None:
        between = [("Mask", _pool(np.asarray(mask, np.float32), np.mean))]
        return [("Input", decibels[0]), *between, ("Interpretation: masked input", decibels[1])]
    between = [] if scaleogram is None else [("Relevance by level", np.zeros((0, 0)))]
    return [("Input", decibels[0]), *between, ("Interpretation", decibels[1])]


def _panel_figure(
    panels: Sequence[tuple[str, np.ndarray]],
    seconds: float,
    sample_rate: int,
    title: str,
    scaleogram: Scaleogram | None = None,
) -> ShownFigure:
    """The panels side by side; those without an image show the scaleogram."""
    extent = (0.0, seconds, 0.0, sample_rate / 2)
    figure = ShownFigure(figsize=(3.3 * len(panels), 2.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=all(image.size for _, image in panels)))
    for axis, (name, image) in zip(axes, panels):
        if image.size:
            _image_panel(figure, axis, image, extent, name)
        else:
            _scaleogram_panel(axis, scaleogram or (), seconds)
        axis.set_title(name)
        axis.set_xlabel("Time (s)")
        if _is_silent(name, image):
            axis.text(0.5, 0.5, "silent", color="white", ha="center", va="center", transform=axis.transAxes)
    axes[0].set_ylabel("Frequency (Hz)")
    figure.suptitle(_shorten(title, MOST_TITLE), **TITLE)
    return figure


def _is_silent(name: str, image: np.ndarray) -> bool:
    return bool(name != "Mask" and image.size and image.max() <= -DYNAMIC_RANGE)


@functools.lru_cache(8)
def _stencil(names: tuple[str, ...], seconds: float, sample_rate: int) -> Stencil:
    """The drawing of the figure of these panels, without images and title."""
    figure = _panel_figure([(name, np.zeros((1, 1))) for name in names], seconds, sample_rate, "")
    figure.set_layout_engine("none")
    for axis, place in zip(figure.axes, _places(names, sample_rate)):
        axis.set_position(place)
    return Stencil(figure, len(names), DPI)


@functools.lru_cache(16)
def _places(names: tuple[str, ...], sample_rate: int) -> list[Any]:
    """Where the axes of such a figure lie, those of the panels first; the same for clips of any length."""
    figure = _panel_figure([(name, np.zeros((1, 1))) for name in names], 5.0, sample_rate, "X")
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    return [axis.get_position(original=True).frozen() for axis in figure.axes]


def draw_comparison(
    waveform: np.ndarray,
    rows: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    sample_rate: int,
    n_fft: int = 1024,
    hop_length: int = 186,
    win_length: int = 372,
) -> ShownFigure:
    """Several explanations of one sound: a row each with the input, its mask and what is kept.

    Args:
        waveform: (samples,), the input.
        rows: title -> the kept sound (samples,), and its mask (freq, time) or None.
        sample_rate: in Hz.
        n_fft, hop_length, win_length: of the STFT in the figure, in samples.

    Raises:
        ValueError: if shapes do not fit, samples are not finite or a mask leaves [0, 1].
    """
    waveform = np.asarray(waveform, np.float32)
    extent = (0.0, len(waveform) / sample_rate, 0.0, sample_rate / 2)
    whole = _magnitude(waveform, n_fft, hop_length, win_length)
    loudest = float(whole.max()) or 1.0
    with rc_context(STYLE):
        figure = ShownFigure(figsize=(9.9, 2.5 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), 3, sharex=True, sharey=True, squeeze=False)
        for axes, (title, (kept, mask)) in zip(grid, rows.items()):
            kept = np.asarray(kept, np.float32)
            _check_interpretation(waveform, kept, mask)
            heard = _decibels(_magnitude(kept, n_fft, hop_length, win_length), loudest)
            _image_panel(figure, axes[0], _decibels(whole, loudest), extent, "Input")
            _image_panel(figure, axes[2], heard, extent, "Interpretation")
            if mask is None:
                axes[1].set_axis_off()
                axes[1].text(0.5, 0.5, "no mask", ha="center", va="center", transform=axes[1].transAxes)
            else:
                _image_panel(figure, axes[1], _pool(np.asarray(mask, np.float32), np.mean), extent, "Mask")
            axes[0].set_title(_shorten(title, 60), fontweight="bold")
            axes[0].set_ylabel("Frequency (Hz)")
        for axis, name in zip(grid[-1], ("Input", "Mask", "Interpretation")):
            axis.set_xlabel(f"{name}, time (s)")
    return figure


def plot_confusion(path: str | Path, counts: np.ndarray, labels: Sequence[str]) -> None:
    """Confusion matrix: rows are the true class, columns the predicted class, shades are shares of the row.

    Args:
        path: the PNG to write.
        counts: (classes, classes), numbers of clips.
        labels: class names.

    Raises:
        ValueError: if `counts` is not square with one row per label, or has negative entries.
    """
    counts = np.asarray(counts)
    classes = len(labels)
    if counts.shape != (classes, classes) or not classes:
        raise ValueError(f"counts have shape {counts.shape}; {classes} labels need ({classes}, {classes})")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("counts has negative or NaN entries; a confusion matrix counts clips")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(0.28 * classes, 2.6, 15.0))
    with rc_context(STYLE):
        figure = Figure(figsize=(side + 2.2, side + 1.4), layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        small = 8 if classes <= 25 else 6
        every = 1 if classes <= MAX_NAMED else -(-classes // MAX_NAMED)
        names = [_shorten(str(label), 24) for label in labels][::every]
        axis.set_xticks(range(0, classes, every), names, rotation=90, fontsize=small)
        axis.set_yticks(range(0, classes, every), names, fontsize=small)
        axis.tick_params(length=0)
        axis.set_xlabel("Predicted")
        axis.set_ylabel("True")
        right, total = np.trace(counts), counts.sum()
        axis.set_title(f"{right:g} of {total:g} correct" + (f" ({100 * right / total:.1f} %)" if total else ""))
        if classes <= MAX_NUMBERED:
            for row, column in np.argwhere(counts > 0):
                shade = "white" if share[row, column] > 0.55 else "#222222"
                text = f"{counts[row, column]:g}"
                axis.text(column, row, text, ha="center", va="center", color=shade, fontsize=small)
        bar = figure.colorbar(image, ax=axis, shrink=0.6, aspect=25, pad=0.02)
        bar.set_label("Share of the true class")
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        save_figure(figure, path)


def plot_training(path: str | Path, log: pd.DataFrame) -> None:
    """The columns of log.csv against the epoch: losses, scores from 0 to 1, and other scores, each in its own axes.

    Training curves are solid; validation curves (valid_*) are dashed and have the colour of the same quantity in
    training. Positive losses that span more than a factor of 30 get a logarithmic axis. Learning rates and times are
    not drawn.

    Raises:
        ValueError: if there is no epoch, or no column to draw.
    """
    groups = _curves(log)
    epoch = log["epoch"] if "epoch" in log else pd.Series(range(1, len(log) + 1), index=log.index)
    if not groups:
        raise ValueError(f"log has no numbers to draw: {len(log)} epochs, columns {', '.join(map(str, log.columns))}")
    with rc_context(STYLE):
        figure = Figure(figsize=(4.9 * len(groups), 3.1), layout="constrained")
        for axis, (name, columns) in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups.items()):
            _draw_curves(axis, epoch, log, columns)
            axis.set_title(name)
            axis.set_xlabel("Epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color="#dddddd", linewidth=0.6)
            values = log[columns].to_numpy(float)
            values = values[np.isfinite(values)]
            if name == "Losses" and values.min() > 0 and values.max() > 30 * values.min():
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # the default formatter writes mathematics
                axis.yaxis.set_minor_formatter(NullFormatter())
                axis.yaxis.set_major_formatter("{x:g}")
            if name == "Scores":
                axis.set_ylim(min(-0.02, values.min() - 0.02), 1.02)
        save_figure(figure, path)


def _check_interpretation(waveform: np.ndarray, kept: np.ndarray, mask: np.ndarray | None) -> None:
    if waveform.ndim != 1 or waveform.shape != kept.shape or not waveform.size:
        raise ValueError(
            f"waveform has shape {waveform.shape} and kept {kept.shape}; both must be (samples,), equally long"
        )
    if not (np.isfinite(waveform).all() and np.isfinite(kept).all()):
        raise ValueError("waveform or kept has NaN or infinite samples; nothing can be drawn")
    if mask is None:
        return
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"mask has shape {mask.shape}; it must be (freq, time)")
    # Rounding may exceed the bounds slightly; NaN fails both comparisons.
    if not (mask.min() >= -1e-4 and mask.max() <= 1 + 1e-4):
        raise ValueError(f"mask runs from {mask.min():g} to {mask.max():g}; it must stay within 0 and 1")


def _magnitude(waveform: np.ndarray, n_fft: int, hop_length: int, win_length: int) -> np.ndarray:
    """Magnitudes (freq, time) of centred, zero-padded frames; maxima of neighbouring frames if above MAX_COLUMNS."""
    window = np.hamming(win_length + 1)[:-1].astype(np.float32)
    before = win_length // 2
    padded = np.pad(waveform, (before, win_length))
    frames = np.lib.stride_tricks.sliding_window_view(padded, win_length)[: len(waveform) + 1 : hop_length]
    group = -(-len(frames) // MAX_COLUMNS)
    block = group * max(1, 4096 // group)  # bounds memory for recordings of any length
    # The window need not be centred in the FFT, which would only change the phase.
    columns = [
        _pool(np.abs(rfft(frames[start : start + block] * window, n_fft, axis=1)).T, np.max, group)  # pyright: ignore
        for start in range(0, len(frames), block)
    ]
    return np.concatenate(columns, axis=1)


def _pool(image: np.ndarray, reduce, group: int | None = None) -> np.ndarray:
    """`reduce` over each `group` neighbouring columns; by default the fewest that leave at most MAX_COLUMNS."""
    group = int(group or -(-image.shape[1] // MAX_COLUMNS))
    if group == 1:
        return image
    missing = -image.shape[1] % group
    padded = np.pad(image, ((0, 0), (0, missing)), mode="edge")
    return reduce(padded.reshape(image.shape[0], -1, group), axis=2)


def _decibels(magnitude: np.ndarray, loudest: float) -> np.ndarray:
    floor = 10 ** (-DYNAMIC_RANGE / 20)
    return 20 * np.log10(np.maximum(magnitude / loudest, floor))


def _scaleogram_panel(axis: Axes, scaleogram: Scaleogram, seconds: float) -> None:
    """Each level as a row of cells, over seconds and a logarithmic axis of Hz; the lowest is drawn one octave high."""
    loudest = max((float(values.max()) for values, *_ in scaleogram), default=0.0) or 1.0
    for values, start, step, low, high in scaleogram:
        row = np.asarray(values, np.float32)[None] / loudest
        group = -(-row.shape[1] // MAX_COLUMNS)
        edges = start + step * group * np.arange(-(-row.shape[1] // group) + 1)
        axis.pcolormesh(edges, [max(low, high / 2), high], _pool(row, np.max, group), vmin=0, vmax=1, cmap="viridis")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(0, seconds)


def _scale(name: str) -> tuple[float, float, str]:
    """Lowest and highest value of a panel, and its colours."""
    return (0, 1, "viridis") if name == "Mask" else (-DYNAMIC_RANGE, 0, "magma")


def _image_panel(figure: Figure, axis: Axes, image: np.ndarray, extent: tuple, name: str) -> None:
    is_mask, (low, high, colours) = name == "Mask", _scale(name)
    drawn = axis.imshow(image, cmap=colours, vmin=low, vmax=high, origin="lower", aspect="auto", extent=extent)
    bar = figure.colorbar(drawn, ax=axis, pad=0.015, aspect=28)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.set_ticks([0, 0.5, 1] if is_mask else [0, -20, -40, -60, -80])
    bar.ax.set_title("" if is_mask else "dB", fontsize=8, loc="left", pad=4)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.yaxis.set_major_locator(MaxNLocator(5))


def _curves(log: pd.DataFrame) -> dict[str, list[str]]:
    """Axes title -> columns."""
    groups: dict[str, list[str]] = {"Losses": [], "Scores": [], "Other scores": []}
    for column in map(str, log.columns):
        if _NOT_PLOTTED.search(column) or not pd.api.types.is_numeric_dtype(log[column]):
            continue
        values = log[column].to_numpy(float)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        _, quantity = _split(column)
        if not (quantity in INFO or _SCORE.match(quantity)):
            groups["Losses"].append(column)
        elif np.abs(values).max() <= 1:
            groups["Scores"].append(column)
        else:
            groups["Other scores"].append(column)
    return {name: columns for name, columns in groups.items() if columns}


def _split(column: str) -> tuple[str, str]:
    """("valid", "fidelity") of valid_fidelity, valid/fidelity or valid.fidelity."""
    found = re.match(r"(train|valid|val|test)[_/.](.+)", column)
    return (found[1], found[2]) if found else ("", column)


def _draw_curves(axis: Axes, epoch: pd.Series, log: pd.DataFrame, columns: list[str]) -> None:
    quantities = list(dict.fromkeys(_split(column)[1] for column in columns))
    for column in columns:
        split, quantity = _split(column)
        drawn = np.isfinite(log[column].to_numpy(float))  # some scores are computed every few epochs only
        colour = COLOURS[quantities.index(quantity) % len(COLOURS)]
        line = "--" if split in ("valid", "val", "test") else "-"
        marker = "o" if drawn.sum() <= 12 else None
        name = f"{quantity.replace('_', ' ')} ({split})" if split else quantity.replace("_", " ")
        axis.plot(epoch[drawn], log[column][drawn], line, color=colour, marker=marker, ms=3, lw=1.5, label=name)
    axis.legend(**({"loc": "center left", "bbox_to_anchor": (1, 0.5)} if len(columns) > 8 else {"loc": "best"}))


def _shorten(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG, see `write_figure`."""
    write_figure(path, figure, dpi=DPI)
