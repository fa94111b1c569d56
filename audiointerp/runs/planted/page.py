"""Writes the page of a run of planted truth: the table, a figure, and the sounds. Reads files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from audiointerp.results import text
from audiointerp.results.figures import COLOURS, MARKERS, STYLE, save_figure
from audiointerp.results.paths import inside
from audiointerp.results.reading import Run, is_true, read_table
from audiointerp.results.templating import render
from audiointerp.results.writing import write_text

VERDICTS = ("method", "n", "right", "right_low", "right_high", "to_cue_db", "to_clip_db", "fidelity", "rule", "verdict")
ROWS = ("item_id", "method", "source", "label", "to_cue_db", "to_clip_db", "right")

__all__ = ["plot_right", "write"]


def write(folder: Path) -> Path:
    """Writes tables/verdicts.md, figures/planted.png and report.html; returns the page's path.

    Raises:
        ValueError: if a table is missing or cannot be read.
    """
    run, verdicts = Run.read(folder), read_table(folder / "verdicts.csv", VERDICTS)
    rows = read_table(folder / "planted.csv", ROWS)
    if not len(verdicts):
        raise ValueError(f"{folder}: has no verdicts.csv with rows yet; run its recipe first")
    write_text(folder / "tables" / "verdicts.md", markdown(verdicts))
    plot_right(folder / "figures" / "planted.png", verdicts)
    page = {"run": run, "verdicts": verdicts.to_dict("records"), "heard": _sounds(folder, rows)}
    return render("runs/planted/page.html", folder, page)


def markdown(verdicts: pd.DataFrame) -> str:
    """One row per method."""
    head = [
        "method",
        "clips",
        "right",
        "improvement towards the cue, dB",
        "towards the clip, dB",
        "fidelity",
        "verdict",
    ]
    rows = [
        [
            row["method"],
            str(row["n"]),
            f"{row['right']:.2f} [{row['right_low']:.2f}, {row['right_high']:.2f}]",
            f"{row['to_cue_db']:+.1f}",
            f"{row['to_clip_db']:+.1f}",
            f"{row['fidelity']:.2f}",
            row["verdict"],
        ]
        for row in verdicts.to_dict("records")
    ]
    return text.markdown(head, rows)


def plot_right(path: str | Path, verdicts: pd.DataFrame) -> None:
    """Share of right explanations (with its interval) against the improvement towards the cue, one point per method."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.8), layout="constrained")
        axis = figure.subplots()
        for number, row in enumerate(verdicts.to_dict("records")):
            spread = [[row["right"] - row["right_low"]], [row["right_high"] - row["right"]]]
            style: Any = {"color": COLOURS[number % len(COLOURS)], "fmt": MARKERS[number % len(MARKERS)]}
            axis.errorbar(row["to_cue_db"], row["right"], spread, label=row["method"], markersize=6, **style)
        axis.set_xlabel("SI-SDR improvement towards the cue (dB)")
        axis.set_ylabel("Share of right explanations")
        axis.set_ylim(-0.03, 1.03)
        axis.set_title("Does the explanation show the cue that the classifier decides by?")
        figure.legend(loc="outside right center")
        save_figure(figure, path)


def _sounds(folder: Path, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The clips whose sounds were kept: file of each sound, and whether each method was right."""
    found = []
    for item_id, group in rows.groupby("item_id", sort=False):
        where = inside(folder, "audio", str(item_id))
        if not where.is_dir():
            continue
        methods = [
            {"name": row["method"], "right": is_true(row["right"]), "cue": row["to_cue_db"]}
            for row in group.to_dict("records")
            if inside(where, f"{row['method']}.wav").is_file()
        ]
        first = group.iloc[0]
        found.append({"id": item_id, "source": Path(first["source"]).name, "label": first["label"], "methods": methods})
    return found
