"""Writes the page of a run of class-specific masks: tables, a figure per method, and sounds. Reads files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from audiointerp.results import text
from audiointerp.results.figures import STYLE, save_figure
from audiointerp.results.paths import inside
from audiointerp.results.reading import Run, read_table
from audiointerp.results.templating import render
from audiointerp.results.writing import write_text

ROWS = ("item_id", "method", "label", "target", "probability", "whole", "silence", "mean_mask")
SUMMARY = ("method", "n", "accuracy", "iou", "saliency", "mae", "mean_mask")
TABLE = ("diagonal", "others", "ratio", "other_present", "verdict", "rule")
BESIDE = {"whole": "unmasked", "silence": "silence"}  # columns of the figure before those of the masks

__all__ = ["plot_table", "table_of", "write"]


def write(folder: Path) -> Path:
    """Writes tables/summary.md, a table and a figure per method, and report.html; returns the page's path.

    Raises:
        ValueError: if a table is missing or cannot be read.
    """
    run, summary = Run.read(folder), read_table(folder / "summary.csv", SUMMARY)
    rows = read_table(folder / "class_masks.csv", ROWS)
    if not len(summary) or not len(rows):
        raise ValueError(f"{folder}: has no summary.csv or class_masks.csv yet; run its recipe first")
    summary = summary.reindex(columns=[*SUMMARY, *TABLE])
    write_text(folder / "tables" / "summary.md", markdown(summary))
    pictures = []
    for method in rows["method"].unique():
        table = table_of(pd.DataFrame(rows[rows["method"] == method]), run.labels)
        write_text(inside(folder, "tables", f"class_masks_{method}.md"), table_markdown(table))
        name = f"class_masks_{method}.png"
        plot_table(inside(folder, "figures", name), table, str(method))
        pictures.append({"method": method, "name": name})
    methods = [row for row in summary.to_dict("records") if row["ratio"] == row["ratio"]]
    page = {"run": run, "summary": summary.to_dict("records"), "methods": methods, "pictures": pictures}
    return render("runs/class_masks/page.html", folder, {**page, "heard": _sounds(folder, rows, run.labels)})


def table_of(rows: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """One method's table: a row per class present; columns "whole", "silence", then the masks' classes.

    Classes have the order of `labels`. Cells are means over mixtures; a cell without a mixture is NaN.
    """
    cells = rows.pivot_table(index="label", columns="target", values="probability", aggfunc="mean")
    known = {name: place for place, name in enumerate(labels)}
    order = sorted(set(cells.index) | set(cells.columns), key=lambda name: (known.get(name, len(known)), name))
    cells = cells.reindex(index=[name for name in order if name in cells.index], columns=order)
    beside = rows.pivot_table(index="label", values=list(BESIDE), aggfunc="mean")
    beside = beside.reindex(index=cells.index, columns=list(BESIDE))
    return pd.concat([beside, cells], axis=1)


def table_markdown(table: pd.DataFrame) -> str:
    """The table of one method; the mask of the class itself is bold."""
    head = ["class present", *BESIDE.values(), *(f"mask of {name}" for name in table.columns[len(BESIDE) :])]
    rows = []
    for label, cells in table.iterrows():
        shown = ["-" if pd.isna(value) else f"{value:.2f}" for value in cells]
        own = [f"**{cell}**" if name == label else cell for name, cell in zip(table.columns, shown)]
        rows.append([str(label), *own])
    return text.markdown(head, rows)


def markdown(summary: pd.DataFrame) -> str:
    """One row per method or constant mask."""
    head = ["masks", "mixtures", "own class", "other masks", "ratio", "the other class's mask", "verdict"]
    head += ["accuracy", "IoU", "saliency", "MAE", "mean mask"]
    rows = []
    for row in summary.to_dict("records"):
        scores = [row[name] for name in ("diagonal", "others", "ratio", "other_present")]
        covered = [row[name] for name in ("accuracy", "iou", "saliency", "mae", "mean_mask")]
        shown = [["-" if pd.isna(value) else f"{value:.2f}" for value in values] for values in (scores, covered)]
        verdict = row["verdict"] if isinstance(row["verdict"], str) and row["verdict"] else "-"
        rows.append([row["method"], f"{row['n']:g}", *shown[0], verdict, *shown[1]])
    return text.markdown(head, rows)


def plot_table(path: str | Path, table: pd.DataFrame, title: str) -> None:
    """The table of one method as colours: probability of the class present (rows) with each class's mask (columns)."""
    values = table.to_numpy(float)
    height, width = values.shape
    with rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 0.5 * width, 1.9 + 0.36 * height), layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(np.nan_to_num(values), cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        names = [*BESIDE.values(), *table.columns[len(BESIDE) :]]
        axis.set_xticks(range(width), names, rotation=90, fontsize=8)
        axis.set_yticks(range(height), list(table.index), fontsize=8)
        axis.tick_params(length=0)
        axis.axvline(len(BESIDE) - 0.5, color="#888888", linewidth=1)
        axis.set_xlabel("Mask of the class")
        axis.set_ylabel("Class present")
        axis.set_title(title)
        for row, column in np.argwhere(np.isfinite(values)):
            shade = "white" if values[row, column] > 0.55 else "#222222"
            weight = "bold" if table.index[row] == table.columns[column] else "normal"
            shown = f"{values[row, column]:.2f}"
            axis.text(column, row, shown, ha="center", va="center", color=shade, fontsize=7, fontweight=weight)
        bar = figure.colorbar(image, ax=axis, shrink=0.7, aspect=25, pad=0.02)
        bar.set_label("Probability of the class present")
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        save_figure(figure, path)


def _sounds(folder: Path, rows: pd.DataFrame, labels: list[str]) -> list[dict[str, Any]]:
    """The mixtures whose sounds were kept: for each method, the sound of every class's mask."""
    found = []
    for item_id, group in rows.groupby("item_id", sort=False):
        if not inside(folder, "audio", str(item_id), "mixture.wav").is_file():
            continue
        methods = []
        for method, own in group.groupby("method", sort=False):
            masks = []
            for row in own.drop_duplicates("target").to_dict("records"):
                file = f"{method}_{labels.index(row['target']):03d}.wav" if row["target"] in labels else ""
                if file and inside(folder, "audio", str(item_id), file).is_file():
                    present = row["target"] in set(group["label"])
                    masks.append({"name": row["target"], "file": file, "area": row["mean_mask"], "present": present})
            methods.append({"name": method, "masks": masks})
        found.append({"id": item_id, "labels": list(group["label"].unique()), "methods": methods})
    return found
