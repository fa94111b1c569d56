"""Figures of a comparison: paired differences with intervals, and one score against another (kept energy or time)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from audiointerp.results.figures import COLOURS, MARKERS, STYLE, save_figure
from audiointerp.results.reading import describe
from audiointerp.runs.comparison.tables import Table

__all__ = ["plot_differences", "plot_trade"]


def plot_differences(path: str | Path, tested: pd.DataFrame, reference: str, condition: str) -> None:
    """The reference minus each other method, paired by item: mean and bootstrap 95 % interval, one panel per metric.

    If higher is better, values right of zero favour the reference; the label of the axis states the better direction. A
    filled marker is significant after Holm's correction (5 %).

    Args:
        path: the PNG to write.
        tested: rows of `tables.differences` for one condition.
        reference: the first method of the pairs drawn.
        condition: name of the condition, for the title.
    """
    pairs: Any = tested[tested["first"] == reference]
    metrics = list(dict.fromkeys(pairs["metric"]))
    methods = list(dict.fromkeys(pairs["second"]))
    columns = min(4, len(metrics))
    rows = -(-len(metrics) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns + 1.4, (0.26 * len(methods) + 1.0) * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
        for axis, metric in zip(axes, metrics):
            _forest(axis, pairs[pairs["metric"] == metric], methods, str(metric))
        for axis in axes[len(metrics) :]:
            axis.set_visible(False)
        figure.suptitle(
            f"{reference} minus the others, {condition}", x=0.008, ha="left", fontweight="bold", fontsize=10.5
        )
        save_figure(figure, path)


def _forest(axis: Axes, rows: pd.DataFrame, methods: list[str], metric: str) -> None:
    info = describe(metric)
    axis.axvline(0, color="#aaaaaa", linewidth=0.8, zorder=0)
    for row in rows.to_dict("records"):
        y = methods.index(row["second"])
        colour = COLOURS[0]
        axis.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.4)
        face = colour if row["p_holm"] < 0.05 else "white"
        axis.plot(row["difference"], y, "o", markersize=5, color=colour, markerfacecolor=face)
    axis.set_yticks(range(len(methods)), methods)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    better = {True: "right is better", False: "left is better", None: ""}[info.higher_is_better]
    axis.set_title(info.label)
    axis.set_xlabel(f"{better}{f' ({info.unit})' if info.unit else ''}", fontsize=7.5)


def plot_trade(path: str | Path, tables: Sequence[Table], x: str, y: str, log_x: bool = False) -> None:
    """One score against another: one point per method with its intervals, one panel per condition.

    Args:
        path: the PNG to write.
        tables: one per condition.
        x, y: metrics.
        log_x: whether the x axis is logarithmic.
    """
    methods = list(dict.fromkeys(name for table in tables for name in table.rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(3.3 * len(tables) + 1.8, 3.4), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(tables), sharey=True))
        for axis, table in zip(axes, tables):
            for name, row in table.rows.items():
                i, across, up = methods.index(name), row[x], row[y]
                if across.n and up.n:
                    axis.errorbar(
                        across.mean,
                        up.mean,
                        xerr=_arms(across, log_x),
                        yerr=_arms(up),
                        fmt=MARKERS[i % len(MARKERS)],
                        color=COLOURS[i % len(COLOURS)],
                        markersize=6,
                        elinewidth=0.8,
                        label=name,
                    )
            axis.set_title(table.condition)
            axis.set_xlabel(_axis_name(x))
            axis.grid(color="#e4e4e4", linewidth=0.6)
            if log_x:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # the default formatter writes mathematics
                axis.xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel(_axis_name(y))
        named = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels())}
        figure.legend(named.values(), named.keys(), loc="outside right center")
        save_figure(figure, path)


def _arms(cell, log: bool = False) -> list[list[float]]:
    """Lengths of the error bars; 0 on a logarithmic axis, where they could reach values below 0."""
    if log or not np.isfinite(cell.low):
        return [[0.0], [0.0]]
    return [[max(0.0, cell.mean - cell.low)], [max(0.0, cell.high - cell.mean)]]


def _axis_name(metric: str) -> str:
    info = describe(metric)
    return f"{info.label}{f' ({info.unit})' if info.unit else ''} {info.arrow}".rstrip()
