"""Figures of a listening test's results: box plots, means, shares of right answers, preferences, confusions.

Tables in, PNG and SVG out.
"""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from audiointerp.listening.analysis.answers import conditions_of, groups
from audiointerp.results.figures import COLOURS, DPI, STYLE
from audiointerp.results.writing import write_figure

HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo")
GREY = "#9a9a9a"  # references and anchors
MEAN: dict[str, Any] = {"marker": "o", "mfc": "#ffd23f", "mec": "#222222", "mew": 0.9, "ms": 5.5, "ls": "none"}
ROW_INCHES, MAX_ROWS = 10.5, 8  # of box plots; more items only make boxes narrower
LETTER_INCHES = 0.062  # of the names below box plots, with room between two of them
PLOT_STYLE: dict[Any, Any] = {**STYLE, "hatch.linewidth": 0.5, "svg.hashsalt": "audiointerp", "svg.fonttype": "none"}

__all__ = [
    "plot_confusions",
    "plot_items",
    "plot_means",
    "plot_preferences",
    "plot_shares",
]


def plot_items(stem: Path, table: pd.DataFrame, scale: tuple[float, float], label: str) -> None:
    """Box plots as in Figure 6 of the PIQ paper: a panel per group, a place per item, a box per method.

    Boxes run from the first to the third quartile, with the median as a line, whiskers of 1.5 interquartile ranges and
    single scores beyond them; the mean is a yellow circle with a dark edge.

    Args:
        stem: path of the pictures without .png, .svg.
        table: answers with `value`, `condition`, `system`, `group` and `item_id`.
        scale: lowest and highest score.
        label: label of the axis.
    """
    conditions = _conditions(table)
    panels, step = _panels(table, len(conditions))
    together = sum(part["item_id"].nunique() for _, part in panels) * step <= ROW_INCHES
    rows = [panels] if together else [[panel] for panel in panels]
    widest = max(sum(max(2, part["item_id"].nunique()) for _, part in row) for row in rows)
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(1.2 + step * widest, 0.6 + 3.0 * len(rows)), layout="constrained")
        # A row with fewer items than the widest row leaves its right end empty, so that boxes stay equally wide.
        grid = figure.add_gridspec(len(rows), widest)
        for place, row in enumerate(rows):
            shares = [max(2, part["item_id"].nunique()) for _, part in row]
            left = 0
            for (group, part), share in zip(row, shares):
                axis = figure.add_subplot(grid[place, left : left + share])
                _boxes(axis, part, conditions, letters=int(step / LETTER_INCHES))
                axis.set_title(group)
                _value_axis(axis, scale)
                if left:
                    axis.tick_params(labelleft=False)
                else:
                    axis.set_ylabel(label)
                left += share
        _legend(figure, conditions)
        save(figure, stem)


def plot_means(stem: Path, table: pd.DataFrame, methods: pd.DataFrame, scale: tuple[float, float], label: str) -> None:
    """Means per method with their intervals, drawn over dots, one for each listener's mean.

    Args:
        stem: path of the pictures without .png, .svg.
        table: as for `plot_items`.
        methods: the table of that name from `opinion_tables`.
        scale, label: as for `plot_items`; an arrow marks an interval that leaves the scale.
    """
    conditions, parts = _conditions(table), list(groups(table))
    counts = [part["condition"].nunique() for _, part in parts]
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(min(16, 1.3 + 0.95 * sum(counts)), 3.5), layout="constrained")
        row = figure.subplots(1, len(parts), sharey=True, squeeze=False, width_ratios=[max(2, n) for n in counts])[0]
        for axis, (group, part) in zip(row, parts):
            rows = methods[methods["group"] == group]
            for place, found in enumerate(rows.to_dict("records")):
                colour = conditions[found["condition"]][0]
                own = part[part["condition"] == found["condition"]].groupby("participant")["value"].mean()
                spread = np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else np.zeros(len(own))
                # A fixed shuffle, so that dots do not look like a trend.
                spread = np.random.default_rng(0).permutation(spread)
                axis.plot(place + spread, own, "o", ms=3.2, mfc=colour, mec="none", alpha=0.35)
                _interval(axis, place, found, scale)
            names = [f"{short(name, 13)}\nn = {n}" for name, n in zip(rows["condition"], rows["n_listeners"])]
            axis.set_xticks(range(len(rows)), names)
            axis.set_xlim(*limits(len(rows)))
            axis.set_title(group)
            _value_axis(axis, scale)
        row[0].set_ylabel(label)
        save(figure, stem)


def _conditions(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """condition -> colour and hatch: methods in colours, references and anchors in grey."""
    system = dict(zip(table["condition"], table["system"]))
    looks: dict[str, tuple[str, str]] = {}
    for number, name in enumerate(conditions_of(table)):
        looks[name] = (COLOURS[number % len(COLOURS)] if system[name] else GREY, HATCHES[number % len(HATCHES)])
    return looks


def _panels(table: pd.DataFrame, conditions: int) -> tuple[list[tuple[str, pd.DataFrame]], float]:
    """Groups as panels, divided if they do not fit into a row; and inches per item."""
    parts = list(groups(table))[: table["group"].nunique()]
    most = max(part["item_id"].nunique() for _, part in parts)
    step = max(0.34 * conditions + 0.25, 0.8)
    per_row = max(int(ROW_INCHES / step), -(-most // MAX_ROWS))
    step = min(step, ROW_INCHES / min(per_row, most))
    panels = []
    for group, part in parts:
        items = list(dict.fromkeys(part["item_id"]))
        together = -(-len(items) // -(-len(items) // per_row))  # 3 and 3, not 4 and 2
        for start in range(0, len(items), together):
            title = f"{group}, continued" if start else group
            panels.append((title, part[part["item_id"].isin(items[start : start + together])]))
    return panels, step


def _boxes(axis: Axes, part: pd.DataFrame, conditions: dict[str, tuple[str, str]], letters: int) -> None:
    """Boxes of a panel; the names below them have at most `letters` letters, so that they do not overlap."""
    items = list(dict.fromkeys(part["item_id"]))
    names = []
    for place, item in enumerate(items):
        of_item = part[part["item_id"] == item]
        here = [name for name in conditions if (of_item["condition"] == name).any()]
        width = 0.8 / len(conditions)
        for number, name in enumerate(here):
            values = of_item.loc[of_item["condition"] == name].groupby("participant")["value"].mean()
            at = place + (number - (len(here) - 1) / 2) * width
            colour, hatch = conditions[name]
            axis.boxplot(
                values.to_numpy(),
                positions=[at],
                widths=0.82 * width,
                patch_artist=True,
                showmeans=True,
                manage_ticks=False,
                boxprops={"facecolor": _lighter(colour), "edgecolor": colour, "hatch": hatch, "linewidth": 0.9},
                medianprops={"color": "#222222", "linewidth": 1.4},
                whiskerprops={"color": colour, "linewidth": 0.9},
                capprops={"color": colour, "linewidth": 0.9},
                flierprops={"marker": "o", "ms": 2.6, "mfc": "none", "mec": colour, "mew": 0.7},
                meanprops={"marker": "o", "mfc": MEAN["mfc"], "mec": MEAN["mec"], "mew": 0.9, "ms": 5.5},
            )
        counts = of_item.groupby("condition")["participant"].nunique()
        n = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"
        said = str(of_item["pred_class"].iloc[0])
        words = [class_name(said, letters), shortened(item, letters), f"n = {n}"]
        names.append("\n".join(filter(None, words)))
    axis.set_xticks(range(len(items)), names, fontsize=7.5)
    axis.set_xlim(*limits(len(items)))


def _interval(axis: Axes, place: int, found: dict, scale: tuple[float, float]) -> None:
    if np.isfinite(found["low"]):
        low, high = max(found["low"], scale[0]), min(found["high"], scale[1])
        axis.plot([place, place], [low, high], color="#222222", lw=1.6)
        for level, inside, marker in ((low, found["low"] >= scale[0], "v"), (high, found["high"] <= scale[1], "^")):
            # A cap where the interval ends; an arrow where it leaves the scale.
            axis.plot(place, level, "_" if inside else marker, color="#222222", ms=9 if inside else 6, mew=1.4)
    axis.plot(place, found["mean"], **MEAN)


def _value_axis(axis: Axes, scale: tuple[float, float]) -> None:
    margin = 0.125 * (scale[1] - scale[0])
    axis.set_ylim(scale[0] - margin, scale[1] + margin)
    axis.set_yticks(np.linspace(scale[0], scale[1], 5 if scale[1] <= 5 else 6))
    plain(axis)


def limits(places: int) -> tuple[float, float]:
    """Ends of an axis with `places` places; a single place is centred as if there were two."""
    spare = max(0, 2 - places) / 2
    return -0.6 - spare, places - 0.4 + spare


def plain(axis: Axes) -> None:
    """Horizontal grid lines, without a frame at the top and right."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _legend(figure: Figure, conditions: dict[str, tuple[str, str]]) -> None:
    handles: list[Any] = [
        Patch(facecolor=_lighter(colour), edgecolor=colour, hatch=hatch, label=short(name))
        for name, (colour, hatch) in conditions.items()
    ]
    handles += Axes.plot(Figure().subplots(), [], [], label="mean", **MEAN)
    columns = min(8, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handleheight=1.1, columnspacing=1.2)


def _lighter(colour: str) -> tuple[float, ...]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(0.45 * part + 0.55 for part in (red, green, blue))


def short(text: object, length: int = 18) -> str:
    """A text on one line, truncated to `length` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def shortened(name: object, length: int) -> str:
    """A name of a file of at most `length` characters: its beginning and its end, which tell files apart."""
    line = " ".join(str(name).split())
    return line if len(line) <= length else f"{line[: length - 1 - length // 2]}…{line[-(length // 2) :]}"


def class_name(text: object, length: int = 18) -> str:
    """A class name as words, truncated to `length` characters."""
    return short(str(text).replace("_", " "), length)


def save(figure: Figure, stem: Path) -> None:
    """Writes PNG and SVG, each under a temporary name that is then renamed; equal figures give equal bytes."""
    write_figure(stem.with_name(f"{stem.name}.png"), figure, dpi=DPI)
    write_figure(stem.with_name(f"{stem.name}.svg"), figure, metadata={"Date": None})


def plot_shares(stem: Path, rows: pd.DataFrame, names: Sequence[str], lines: dict[str, Sequence[float]]) -> None:
    """Shares with their intervals, from 0 to 100 %.

    Args:
        stem: path of the pictures without .png, .svg.
        rows: `share`, `low`, `high` and `n`.
        names: names of the rows.
        lines: name -> one level per row to compare with, such as chance.
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
    """One bar per pair of methods: answers for the first method, for neither, and for the second."""
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
    """Confusion matrix of each method: rows are predicted classes, columns answers, shades shares of the row."""
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
            axis.set_xlabel("Listeners' answer")
        row[0].set_ylabel("Predicted class")
        save(figure, stem)
