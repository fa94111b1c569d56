"""Figures of an NMF dictionary: its spectra, and their relevance to each class. From arrays to PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from audiointerp.results.figures import STYLE, save_figure

__all__ = ["plot_dictionary", "plot_relevance"]

MAX_NAMED = 120  # largest number of components for which each has a label


def plot_dictionary(
    path: str | Path, dictionary: np.ndarray, sample_rate: int, names: Sequence[str] | None = None
) -> None:
    """The spectra sorted by spectral centroid, over kHz, each relative to its own maximum; a line marks the centroids.

    Args:
        path: the PNG to write.
        dictionary: (freq, components), non-negative, from 0 Hz to half the rate.
        sample_rate: in Hz.
        names: of the components, in the dictionary's order; their numbers by default.

    Raises:
        ValueError: if entries are negative or not finite, or the number of names is wrong.
    """
    dictionary = np.asarray(dictionary, np.float64)
    if dictionary.ndim != 2 or not dictionary.size:
        raise ValueError(f"dictionary has shape {dictionary.shape}; it must be (freq, components)")
    if not np.isfinite(dictionary).all() or (dictionary < 0).any():
        raise ValueError("dictionary has negative or NaN entries; its columns are magnitudes")
    count = dictionary.shape[1]
    if names is not None and len(names) != count:
        raise ValueError(f"{len(names)} names for {count} components; each needs one")
    kilohertz = np.linspace(0, sample_rate / 2000, len(dictionary))
    centroids = kilohertz @ dictionary / np.maximum(dictionary.sum(0), 1e-12)
    order = np.argsort(centroids, kind="stable")
    image = (dictionary / np.maximum(dictionary.max(0), 1e-12))[:, order]
    step = kilohertz[1] / 2 if len(kilohertz) > 1 else 0.5
    with rc_context(STYLE):
        width = float(np.clip(0.115 * count + 1.6, 3.6, 14.0))
        figure = Figure(figsize=(width, 3.6), layout="constrained")
        axis = figure.subplots()
        extent = (-0.5, count - 0.5, -step, kilohertz[-1] + step)
        drawn = axis.imshow(image, cmap="magma", vmin=0, vmax=1, origin="lower", aspect="auto", extent=extent)
        axis.plot(np.arange(count), centroids[order], color="#56B4E9", lw=1.2, label="spectral centroid")
        axis.legend(loc="upper left", labelcolor="white")
        axis.set_ylabel("Frequency (kHz)")
        axis.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axis.set_xlabel("Component, by spectral centroid")
        labels = [str(index) for index in range(count)] if names is None else [_shorten(str(name)) for name in names]
        every = max(1, -(-count // MAX_NAMED))
        shown = range(0, count, every)
        small = 7 if count <= 40 else 5.5
        axis.set_xticks(shown, [labels[order[place]] for place in shown], rotation=90, fontsize=small)
        axis.tick_params(axis="x", length=0)
        bar = figure.colorbar(drawn, ax=axis, pad=0.015, aspect=28)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_ticks([0, 0.5, 1])
        bar.set_label("Share of the component's maximum")
        save_figure(figure, path)


def plot_relevance(path: str | Path, relevance: np.ndarray, labels: Sequence[str], centroids: np.ndarray) -> None:
    """Relevance of each component to each class, components sorted by centroid; blue is positive, red negative.

    Args:
        path: the PNG to write.
        relevance: (classes, components), at most 1; a row of NaN is left empty.
        labels: class names.
        centroids: (components,), in Hz.

    Raises:
        ValueError: if shapes do not fit.
    """
    relevance = np.asarray(relevance, np.float64)
    if relevance.shape != (len(labels), len(centroids)):
        raise ValueError(f"relevance is {relevance.shape} for {len(labels)} labels and {len(centroids)} centroids")
    order = np.argsort(centroids, kind="stable")
    with rc_context(STYLE):
        width = float(np.clip(0.1 * len(order) + 2.4, 4.0, 14.0))
        figure = Figure(figsize=(width, 0.26 * len(labels) + 1.3), layout="constrained")
        axis = figure.subplots()
        drawn = axis.imshow(relevance[:, order], cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axis.set_yticks(range(len(labels)), [_shorten(str(label)) for label in labels])
        every = max(1, -(-len(order) // 20))
        ticks = range(0, len(order), every)
        axis.set_xticks(ticks, [f"{centroids[order[place]] / 1000:.1f}" for place in ticks])
        axis.set_xlabel("Component, by spectral centroid (kHz)")
        bar = figure.colorbar(drawn, ax=axis, pad=0.015)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_label("Relevance")
        save_figure(figure, path)


def _shorten(text: str, length: int = 24) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
