"""Figures of notes on a logarithmic frequency axis: importance maps, inpainted notes, rate-distortion curves.

In the style of figures 1 and 2 of Heiss et al. (2020), https://arxiv.org/abs/2007.00758. From arrays to PNG files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from audiointerp.results.figures import COLOURS, STYLE, save_figure

__all__ = ["plot_class_maps", "plot_importance", "plot_inpainting", "plot_rate_distortion"]

TICKS = (20, 50, 100, 200, 500, 1000, 2000, 5000, 8000)  # Hz
NOTE, IMPORTANT, FILLED = COLOURS[0], COLOURS[2], "#222222"
OFFSET = 0.35  # the note is drawn lower than the inpainted signal by this share of the signals' range


def plot_importance(
    path: str | Path, frequencies: np.ndarray, features: np.ndarray, importance: np.ndarray, title: str
) -> None:
    """The importance of each band's magnitude and phase: figure 2 of the paper.

    Args:
        path: the PNG to write.
        frequencies: (band,), in Hz.
        features: (3, band), level log1p(1000 m) and the phase's cosine and sine.
        importance: (2, band) in [0, 1], of magnitude and phase.
        title: one line above the panels.
    """
    signals = _signals(features)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.4), layout="constrained")
        for axis, signal, name, share in zip(figure.subplots(2, 1, sharex=True), signals, _NAMES, importance):
            beside = axis.twinx()
            beside.fill_between(frequencies, share, step="mid", color=IMPORTANT, alpha=0.35, lw=0)
            beside.set_ylim(0, 1.02)
            beside.set_ylabel("Importance", color=IMPORTANT)
            axis.plot(frequencies, signal, color=NOTE, lw=0.8)
            axis.set_ylabel(name)
            axis.set_zorder(beside.get_zorder() + 1)
            axis.patch.set_visible(False)
            _hertz(axis, frequencies)
        axis.set_xlabel("Frequency (Hz)")
        figure.suptitle(title, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
        save_figure(figure, path)


def plot_inpainting(
    path: str | Path, frequencies: np.ndarray, features: np.ndarray, filled: np.ndarray, keep: np.ndarray, title: str
) -> None:
    """A note and its inpainted composite, drawn with an offset so that both are visible: figure 1 of the paper.

    Args:
        path: the PNG to write.
        frequencies: (band,), in Hz.
        features: (3, band), of the note.
        filled: (3, band), of the composite, which equals the note where it was kept.
        keep: (2, band), 0 where magnitude or phase were removed.
        title: one line above the panels.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.4), layout="constrained")
        rows = zip(figure.subplots(2, 1, sharex=True), _signals(features), _signals(filled), _NAMES, keep)
        for axis, note, made, name, kept in rows:
            shift = OFFSET * max(float(np.ptp(note)), float(np.ptp(made)), 1e-6)
            axis.plot(frequencies, note - shift, color=NOTE, lw=0.8, ls="--", label="note (drawn lower)")
            axis.plot(frequencies, made, color=FILLED, lw=0.8, label="inpainted note")
            inside = {"transform": axis.get_xaxis_transform(), "lw": 0}
            axis.fill_between(frequencies, 1, where=kept < 0.5, step="mid", color=IMPORTANT, alpha=0.25, **inside)
            axis.set_ylabel(name)
            _hertz(axis, frequencies)
        figure.axes[0].legend(loc="upper right")
        axis.set_xlabel("Frequency (Hz); green: removed and filled")
        figure.suptitle(title, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
        save_figure(figure, path)


def plot_rate_distortion(path: str | Path, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Distortion, relative to that with nothing kept, against the share of parts kept; one line per filler.

    Args:
        path: the PNG to write.
        curves: filler -> (rate, relative distortion) of each penalty.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axis = figure.subplots()
        for (name, points), colour in zip(curves.items(), COLOURS):
            rate, distortion = np.array(sorted(points)).T
            axis.plot(rate, distortion, "o-", color=colour, lw=1.2, ms=3.5, label=name)
        axis.set_xlim(0, 1)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("Rate: share of the parts kept")
        axis.set_ylabel("Distortion / distortion with nothing kept")
        axis.legend()
        save_figure(figure, path)


def plot_class_maps(path: str | Path, frequencies: np.ndarray, maps: Mapping[str, np.ndarray], title: str) -> None:
    """Importance maps of classes: one row per class, magnitude left and phase right.

    Args:
        path: the PNG to write.
        frequencies: (band,), in Hz.
        maps: class -> (2, band) in [0, 1].
        title: one line above the panels.
    """
    image = np.stack(list(maps.values()))
    borders = np.sqrt(frequencies[1:] * frequencies[:-1])
    borders = np.concatenate([[frequencies[0] ** 2 / borders[0]], borders, [frequencies[-1] ** 2 / borders[-1]]])
    with rc_context(STYLE):
        figure = Figure(figsize=(10.0, 0.28 * len(maps) + 1.3), layout="constrained")
        for part, axis in enumerate(figure.subplots(1, 2, sharey=True)):
            drawn = axis.pcolormesh(
                borders, np.arange(len(maps) + 1), image[:, part], vmin=0, vmax=1, cmap="viridis", rasterized=True
            )
            axis.set_title(("Magnitude", "Phase")[part])
            axis.set_xlabel("Frequency (Hz)")
            _hertz(axis, frequencies)
        figure.axes[0].set_yticks(np.arange(len(maps)) + 0.5, list(maps))
        figure.axes[0].invert_yaxis()
        figure.colorbar(drawn, ax=figure.axes, label="Importance", fraction=0.03)
        figure.suptitle(title, x=0.008, ha="left", fontsize=10.5, fontweight="bold")
        save_figure(figure, path)


_NAMES = ("Level, log(1 + 1000 m)", "Phase (rad)")


def _signals(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and phase angle, each (band,)."""
    return features[0], np.arctan2(features[2], features[1])


def _hertz(axis: Axes, frequencies: np.ndarray) -> None:
    axis.set_xscale("log")
    axis.set_xlim(float(frequencies[0]), float(frequencies[-1]))
    axis.xaxis.set_major_locator(FixedLocator(TICKS))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda hertz, _: f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}")
    )
