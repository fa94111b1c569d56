"""Writes the verdicts of a run of sanity checks as Markdown, figures and a page. Reads files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from audiointerp.results import text
from audiointerp.results.figures import COLOURS, MARKERS, STYLE, save_figure
from audiointerp.results.reading import Run, read_table
from audiointerp.results.templating import render
from audiointerp.results.writing import write_text
from audiointerp.runs.verdicts import CHECKS, SHOWN_ONLY, overall, read_verdicts

__all__ = ["improvements", "plot_class_table", "plot_randomisation", "write"]


def write(folder: Path) -> Path:
    """Writes tables/verdicts.md, figures/ and report.html; returns the page's path."""
    run, verdicts = Run.read(folder), read_verdicts(folder)
    rows: Any = read_table(folder / "sanity.csv", ("method", "check", "stage", "value"))
    drawn = []
    cascade = rows[rows["check"] == "model_randomisation"]
    bound = float(str(verdicts.loc[verdicts["check"] == "model_randomisation", "rule"].iloc[0]).split()[-1])
    plot_randomisation(folder / "figures" / "randomisation.png", cascade, bound)
    drawn.append(("figures/randomisation.png", "Rank correlation of masks before and after weights are randomised"))
    if len(present := rows[rows["check"] == "present"]):
        plot_class_table(folder / "figures" / "classes.png", present)
        drawn.append(("figures/classes.png", "Probability of the class present, under the mask of each target class"))
    cells = {(row["method"], row["check"]): row for row in verdicts.to_dict("records")}
    methods = list(dict.fromkeys(verdicts["method"]))
    write_text(folder / "tables" / "verdicts.md", markdown(verdicts))
    rules = dict(zip(verdicts["check"], verdicts["rule"]))
    page = {"run": run, "methods": methods, "checks": CHECKS, "cells": cells, "rules": rules, "figures": drawn}
    page |= {"shown_only": SHOWN_ONLY, "improvements": improvements(rows)}
    return render("runs/sanity/page.html", folder, {**page, "overall": overall(verdicts)})


def improvements(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean SI-SDR improvement of each method in dB for the classifier, randomised, and with shuffled labels; or NaN."""
    found = []
    for method, group in rows.groupby("method", sort=False):
        means: Any = group.groupby("check")["value"].mean()
        checks = ("improvement", "model_randomisation_improvement", "label_randomisation_improvement")
        found.append({"method": method, "values": [float(means.get(check, np.nan)) for check in checks]})
    return [each for each in found if not np.isnan(each["values"][0])]


def markdown(verdicts: pd.DataFrame) -> str:
    """One row per method: the value of each check, and the verdict."""
    cells = {(row["method"], row["check"]): row for row in verdicts.to_dict("records")}
    rows = [
        [method, *(_cell(cells.get((method, check))) for check in CHECKS), words]
        for method, words in overall(verdicts).items()
    ]
    return text.markdown(["method", *CHECKS.values(), "verdict"], rows)


def _cell(row: dict | None) -> str:
    if row is None or row["verdict"] == "not run":
        return "not run"
    if row["check"] in SHOWN_ONLY:
        return f"{row['value']:.2f}"
    return f"{row['value']:.2f} {'✓' if row['verdict'] == 'pass' else '✗'}"


def plot_randomisation(path: str | Path, rows: pd.DataFrame, bound: float) -> None:
    """Mean rank correlation with the original mask, as one block after the other is randomised, from output to input.

    Args:
        path: the PNG to write.
        rows: of sanity.csv with check "model_randomisation".
        bound: a method fails if its correlation is above this when all blocks are randomised.
    """
    means: Any = rows.groupby(["method", "stage"], sort=False)["value"].mean()
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.8), layout="constrained")
        axis = figure.subplots()
        for number, method in enumerate(dict.fromkeys(rows["method"])):
            values = means[method]
            style: Any = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axis.plot(range(len(values) + 1), [1.0, *values], label=method, markersize=5, linewidth=1.2, **style)
        stages = list(dict.fromkeys(rows["stage"]))
        axis.axhline(bound, color="#999999", linewidth=0.9, linestyle="--")
        axis.text(0.02, bound + 0.015, "a method fails if its last point is above", fontsize=7.5, color="#666666")
        axis.set_xticks(range(len(stages) + 1), ["trained", *stages], rotation=20, ha="right")
        axis.set_ylabel("Rank correlation of masks")
        axis.set_title("Weights randomised block by block, from the output to the input")
        figure.legend(loc="outside right center")
        save_figure(figure, path)


def plot_class_table(path: str | Path, rows: pd.DataFrame) -> None:
    """Probability of the class that is present under the mask of each target class, one panel per method.

    A class-specific method has high values on the diagonal only.

    Args:
        path: the PNG to write.
        rows: of sanity.csv with check "present"; `stage` is "<present>|<asked>".
    """
    parts = rows["stage"].str.split("|", n=1, expand=True)
    rows = rows.assign(present=parts[0], asked=parts[1])
    methods, classes = list(dict.fromkeys(rows["method"])), sorted(set(rows["asked"]))
    columns = min(4, len(methods))
    height = -(-len(methods) // columns)
    with rc_context(STYLE):
        size = (0.2 * len(classes) * columns + 2.6, (0.2 * len(classes) + 0.9) * height + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False).ravel()
        image = None
        for axis, method in zip(axes, methods):
            table = rows[rows["method"] == method].pivot_table(index="present", columns="asked", values="value")
            values = table.reindex(index=classes, columns=classes).to_numpy(np.float64)
            image = axis.imshow(values, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(method)
            axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6.5)
            axis.set_yticks(range(len(classes)), classes, fontsize=6.5)
            axis.tick_params(length=0)
        for axis in axes[len(methods) :]:
            axis.set_visible(False)
        figure.supxlabel("Target class", fontsize=8.5)
        figure.supylabel("Class present", fontsize=8.5)
        if image is not None:
            figure.colorbar(image, ax=axes.tolist(), shrink=0.6, label="Probability of the class present")
        save_figure(figure, path)
