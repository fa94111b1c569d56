"""Figures of choices: shares of right answers, preferences, confusions. Tables in, PNG and SVG out."""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from audiointerp.listening.analysis.figures import MEAN, PLOT_STYLE, class_name, limits, plain, save, short
from audiointerp.results.figures import COLOURS

__all__ = ["plot_confusions", "plot_preferences", "plot_shares"]


def plot_shares(stem: Path, rows: pd.DataFrame, names: Sequence[str], lines: dict[str, Sequence[float]]) -> None:
    """Shares with their intervals, from 0 to 100 %.

    Args:
        stem: path of the pictures without .png, .svg.
        rows: `share`, `low`, `high` and `n`.
        names: of the rows.
        lines: what to compare with, such as chance: for each row a level.
    """
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(min(16, 1.6 + 1.15 * len(rows)), 3.4), layout="constrained")
        axis = figure.subplots()
        for style, (name, levels) in zip(("--", ":"), lines.items()):
            for place, level in enumerate(levels):
                only_first = name if place == 0 else None
                axis.plot([place - 0.4, place + 0.4], [level, level], style, color="#444444", lw=1.2, label=only_first)
        for place, row in enumerate(rows.to_dict("records")):
            colour = COLOURS[place % len(COLOURS)]
            axis.plot([place, place], [row["low"], row["high"]], color=colour, lw=2.2, solid_capstyle="butt")
            axis.plot(place, row["share"], **MEAN)
        axis.set_xticks(range(len(rows)), [f"{short(name)}\nn = {n}" for name, n in zip(names, rows["n"])])
        axis.set_xlim(*limits(len(rows)))
        axis.set_ylim(-0.03, 1.03)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_ylabel("Answers that are right")
        plain(axis)
        if lines:
            figure.legend(loc="outside lower center", ncols=len(lines))
        save(figure, stem)


def plot_preferences(stem: Path, rows: pd.DataFrame) -> None:
    """A bar per pair of methods: answers for the one, for neither, for the other."""
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4, 1.0 + 0.62 * len(rows)), layout="constrained")
        axis = figure.subplots()
        for place, row in enumerate(rows.to_dict("records")):
            left = 0.0
            parts = (("prefer_a", COLOURS[0]), ("no_preference", "#c8c8c8"), ("prefer_b", COLOURS[4]))
            for name, colour in parts:
                width = row[name] / row["n"]
                axis.barh(place, width, left=left, color=colour, height=0.5)
                if width > 0.04:
                    ink = "white" if name == "prefer_a" else "#222222"
                    axis.text(left + width / 2, place, str(row[name]), ha="center", va="center", color=ink, fontsize=8)
                left += width
            axis.text(0, place - 0.33, short(row["a"]), ha="left", va="bottom", fontsize=8)
            axis.text(1, place - 0.33, short(row["b"]), ha="right", va="bottom", fontsize=8)
            if row["no_preference"]:
                axis.text(0.5, place - 0.33, "no preference", ha="center", va="bottom", fontsize=8, color="#666666")
        axis.set_yticks(range(len(rows)), [str(group) for group in rows["group"]])
        axis.set_ylim(len(rows) - 0.4, -0.75)
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xlabel("Answers")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        save(figure, stem)


def plot_confusions(stem: Path, counts: pd.DataFrame) -> None:
    """For each method: rows are the class of the classifier, columns what listeners said, shades shares of the row."""
    names = list(dict.fromkeys(counts["condition"]))
    truths = sorted(counts["truth"].unique())
    answers = [*truths, *sorted(set(counts["answer"]) - set(truths))]
    side = max(2.0, 0.36 * len(answers))
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(min(18, 1.4 + side * len(names)), 1.5 + 0.36 * len(truths)), layout="constrained")
        row = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axis, name in zip(row, names):
            own = counts[counts["condition"] == name].pivot(index="truth", columns="answer", values="count")
            table = own.reindex(index=truths, columns=answers).fillna(0).to_numpy()
            share = table / np.maximum(table.sum(1, keepdims=True), 1)
            axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for i, j in np.argwhere(table > 0):
                ink = "white" if share[i, j] > 0.55 else "#222222"
                axis.text(j, i, f"{table[i, j]:g}", ha="center", va="center", color=ink, fontsize=8)
            axis.set_xticks(range(len(answers)), [class_name(each) for each in answers], rotation=60, ha="right")
            axis.set_yticks(range(len(truths)), [class_name(each) for each in truths])
            axis.tick_params(length=0)
            axis.set_title(short(name))
            axis.set_xlabel("Listeners said")
        row[0].set_ylabel("Classifier said")
        save(figure, stem)
