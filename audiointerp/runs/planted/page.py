"""Writes the page of a run of planted truths: for each a table, a figure, and the sounds. Reads files only."""

from __future__ import annotations

import math
import re
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

VERDICTS = ("truth", "method", "n", "right", "right_low", "right_high", "to_used_db", "to_unused_db", "audible")
VERDICTS += ("audible_before", "fidelity", "rule", "verdict")
ROWS = ("truth", "item_id", "method", "source", "added", "label", "target", "to_used_db", "right")
TRUTHS = ("name", "about", "rule")

__all__ = ["markdown", "plot_right", "write"]


def write(folder: Path) -> Path:
    """Writes tables/NAME.md and figures/NAME.png for each truth, and report.html; returns the page's path.

    Raises:
        ValueError: if a table is missing or cannot be read.
    """
    run, verdicts = Run.read(folder), read_table(folder / "verdicts.csv", VERDICTS)
    rows, about = read_table(folder / "planted.csv", ROWS), read_table(folder / "truths.csv", TRUTHS)
    if not len(verdicts) or not len(about):
        raise ValueError(f"{folder}: has no verdicts.csv and truths.csv with rows yet; run its recipe first")
    truths = []
    for each in about.to_dict("records"):
        name = each["name"]
        # The name becomes the name of files.
        if not re.fullmatch(r"[\w-]{1,64}", name):
            raise ValueError(
                f"{folder / 'truths.csv'}: {name[:40]!r} is no name of a truth; use letters, digits, _ and -"
            )
        mine: Any = verdicts[verdicts["truth"] == name]
        own: Any = rows[rows["truth"] == name]
        write_text(inside(folder, "tables", f"{name}.md"), markdown(mine))
        plot_right(inside(folder, "figures", f"{name}.png"), mine)
        truths.append({**each, "verdicts": mine.to_dict("records"), "heard": _sounds(folder, own)})
    return render("runs/planted/page.html", folder, {"run": run, "truths": truths, "shown": _shown})


def markdown(verdicts: pd.DataFrame) -> str:
    """One row per method of a truth; the column of the audible energy only where the classifier is partly deaf."""
    partly = bool(verdicts["audible_before"].notna().any())
    head = ["method", "sounds", "right", "SI-SDR improvement towards the used part, dB", "towards the unused part, dB"]
    head += ["energy in the used part (before)"] * partly + ["fidelity", "verdict"]
    rows = [
        [
            row["method"],
            str(row["n"]),
            f"{row['right']:.2f} [{_shown(row['right_low'])}, {_shown(row['right_high'])}]",
            _shown(row["to_used_db"], "+.1f"),
            _shown(row["to_unused_db"], "+.1f"),
            *[f"{_shown(row['audible'])} ({_shown(row['audible_before'])})"] * partly,
            f"{row['fidelity']:.2f}",
            row["verdict"],
        ]
        for row in verdicts.to_dict("records")
    ]
    return text.markdown(head, rows)


def _shown(value: float, form: str = ".2f") -> str:
    """A number, or a dash where there is none: of silence, or of an interval over one recording."""
    return "-" if math.isnan(value) else format(value, form)


def plot_right(path: str | Path, verdicts: pd.DataFrame) -> None:
    """Share of right explanations (with its interval) against the improvement towards the used part, per method."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.8), layout="constrained")
        axis = figure.subplots()
        for number, row in enumerate(verdicts.to_dict("records")):
            spread = [[row["right"] - row["right_low"]], [row["right_high"] - row["right"]]]
            style: Any = {"color": COLOURS[number % len(COLOURS)], "fmt": MARKERS[number % len(MARKERS)]}
            axis.errorbar(row["to_used_db"], row["right"], spread, label=row["method"], markersize=6, **style)
        axis.set_xlabel("SI-SDR improvement towards the sound that the classifier uses (dB)")
        axis.set_ylabel("Share of right explanations")
        axis.set_ylim(-0.03, 1.03)
        axis.set_title("Does the explanation show the sound that the classifier decides by?")
        figure.legend(loc="outside right center")
        save_figure(figure, path)


def _sounds(folder: Path, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The sounds that were kept: file of each, and whether each method was right."""
    found = []
    for item_id, group in rows.groupby("item_id", sort=False):
        where = inside(folder, "audio", str(item_id))
        if not where.is_dir():
            continue
        methods = [
            {"name": row["method"], "right": is_true(row["right"]), "used": row["to_used_db"]}
            for row in group.to_dict("records")
            if inside(where, f"{row['method']}.wav").is_file()
        ]
        first = group.iloc[0]
        names = {each: Path(first[each]).name for each in ("source", "added")}
        found.append({"id": item_id, "label": first["label"], "target": first["target"], "methods": methods, **names})
    return found
