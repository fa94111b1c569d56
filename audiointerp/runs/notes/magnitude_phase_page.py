"""Writes the results of magnitude_vs_phase.yaml next to the paper's Table 1, as Markdown and a page. Files only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from audiointerp.results.reading import Run, read_table
from audiointerp.results.text import markdown
from audiointerp.results.writing import write_text
from audiointerp.runs.notes.page import accuracy_table, render_page

#: class -> importance of magnitude and of phase, as the paper prints them.
PAPER_TABLE_1: dict[str, tuple[float, float]] = {
    "organ": (0.829, 1.0),
    "guitar": (0.0, 0.999),
    "flute": (0.092, 1.0),
    "bass": (1.0, 1.0),
    "reed": (0.136, 1.0),
    "vocal": (1.0, 1.0),
    "mallet": (0.005, 0.217),
    "brass": (0.999, 1.0),
    "keyboard": (0.003, 1.0),
    "string": (1.0, 1.0),
}

__all__ = ["PAPER_TABLE_1", "as_text", "by_filler", "write"]

MEANING = (
    "D(00) is the distortion when magnitude and phase of a note are both replaced by the filler's, D(10) when only the "
    "magnitude is kept, D(01) when only the phase is kept. The best corner minimises the distortion plus half of "
    "lambda for each of the two that is kept; lambda is half the mean D(00) of the filler unless the recipe sets it. "
    "Theta has the probabilities to keep each, found by gradient descent as in the paper. The paper's numbers are for "
    "NSynth and another classifier."
)


def write(folder: Path) -> Path:
    """Writes tables/magnitude_vs_phase.md and report.html; returns the page's path."""
    run, table = Run.read(folder), read_table(folder / "magnitude_vs_phase.csv", ("filler", "class"))
    head, rows = as_text(table)
    accuracies = accuracy_table(run)
    short = by_filler(table)
    full = {"title": "Distortions and theta", "text": MEANING, "columns": head, "rows": rows}
    text = "\n".join(markdown(each["columns"], each["rows"]) for each in (full, short, accuracies))
    write_text(folder / "tables" / "magnitude_vs_phase.md", text)
    files = ["magnitude_vs_phase.csv", "tables/magnitude_vs_phase.md"]
    return render_page(run, "Magnitude or phase", files, [short, accuracies, full])


def by_filler(table: pd.DataFrame) -> dict[str, Any]:
    """The best corner of each class, one column per filler, and the paper's theta."""
    fillers = list(dict.fromkeys(table["filler"]))
    words = {(0, 0): "neither", (1, 0): "magnitude", (0, 1): "phase", (1, 1): "both"}
    best = {
        (row["class"], row["filler"]): words[int(row["best_magnitude"]), int(row["best_phase"])]
        for row in table.to_dict("records")
    }
    rows = []
    for name in dict.fromkeys(table["class"]):
        paper = PAPER_TABLE_1.get(name)
        shown = "" if paper is None else f"{paper[0]:g}, {paper[1]:g}"
        rows.append([name, *(best.get((name, filler), "") for filler in fillers), shown])
    return {
        "title": "Parts that must be kept",
        "text": "Best choice of magnitude, phase, both or neither to preserve the classifier's scores, with the same "
        "penalty for all classes of a filler. The last column has the paper's theta of magnitude and phase.",
        "columns": ["class", *fillers, "paper's theta (magnitude, phase)"],
        "rows": rows,
    }


def as_text(
    table: pd.DataFrame, paper: Mapping[str, tuple[float, float]] | None = PAPER_TABLE_1
) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, one row per filler and class: distortions, best corner, theta and the paper's theta.

    Pairs are (magnitude, phase).

    >>> from audiointerp.runs.notes.magnitude_phase import COLUMNS
    >>> row = ["zeros", "organ", 22, 3.0, 2.0, 0.5, 0, 1, 0.01, 0.99, 1.5, 0, 1, 1.5, 0.1, 1.0]
    >>> as_text(pd.DataFrame([row], columns=COLUMNS))[1]
    [['zeros', 'organ', '22', '3', '2', '0.5', '1.5', '0, 1', '0.01, 0.99', '0, 1', '0.83, 1.00']]
    """
    head = [*("filler", "class", "notes", "D(00)", "D(10)", "D(01)", "lambda", "best", "theta", "best at own lambda")]
    head += [] if paper is None else ["paper's theta"]
    rows = []
    for row in table.to_dict("records"):
        cells = [str(row[name]) for name in ("filler", "class", "notes")]
        cells += [f"{row[name]:.3g}" for name in ("D00", "D10", "D01", "penalty")]
        cells.append(f"{row['best_magnitude']:g}, {row['best_phase']:g}")
        cells.append(f"{row['theta_magnitude']:.2f}, {row['theta_phase']:.2f}")
        cells.append(f"{row['own_magnitude']:g}, {row['own_phase']:g}")
        if paper is not None:
            printed = paper.get(row["class"])
            cells.append("" if printed is None else f"{printed[0]:.2f}, {printed[1]:.2f}")
        rows.append(cells)
    return head, rows
