"""A run of magnitude_vs_phase.yaml -> Table 1 beside the paper's, as Markdown and as a page. Files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from audiointerp.results.reading import Run, read_table
from audiointerp.results.text import markdown
from audiointerp.results.writing import write_text
from audiointerp.runs.notes.magnitude_phase import PAPER_TABLE_1, as_text
from audiointerp.runs.notes.page import accuracy_table, render_page

__all__ = ["by_filler", "write"]

MEANING = (
    "D(00) is the distortion when magnitude and phase of a note are both replaced by the filler's, D(10) when the "
    "magnitude stays, D(01) when the phase stays. The best corner keeps what is worth its price: each of the two costs "
    "half of lambda, which is half the mean D(00) of the filler unless the recipe says otherwise. Theta is the paper's "
    "way to it, by gradient descent. The paper's numbers are NSynth's, of another classifier."
)


def write(folder: Path) -> Path:
    """Writes tables/magnitude_vs_phase.md and report.html; returns the page's path."""
    run, table = Run.read(folder), read_table(folder / "magnitude_vs_phase.csv", ("filler", "class"))
    head, rows = as_text(table)
    accuracies = accuracy_table(run)
    short = by_filler(table)
    full = {"title": "In numbers", "text": MEANING, "columns": head, "rows": rows}
    text = "\n".join(markdown(each["columns"], each["rows"]) for each in (full, short, accuracies))
    write_text(folder / "tables" / "magnitude_vs_phase.md", text)
    files = ["magnitude_vs_phase.csv", "tables/magnitude_vs_phase.md"]
    return render_page(run, "Magnitude or phase", files, [short, accuracies, full])


def by_filler(table: pd.DataFrame) -> dict[str, Any]:
    """The best corner of each class, a column a filler, beside the paper's theta."""
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
        "title": "What must stay",
        "text": "For the classifier's scores to stay, at one penalty for all classes of a filler; the paper's theta of "
        "magnitude and phase beside.",
        "columns": ["class", *fillers, "paper's theta (magnitude, phase)"],
        "rows": rows,
    }
