"""Writes the page of a test of a concept: what it speaks for, the scores, and examples to hear. Reads files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from audiointerp.results import text
from audiointerp.results.figures import COLOURS, STYLE, save_figure
from audiointerp.results.paths import inside
from audiointerp.results.reading import Run, read_table
from audiointerp.results.templating import link, picture, render
from audiointerp.results.writing import write_text
from audiointerp.runs.tcav.asking import PLAYED, RULE, sentence, verdict

ROWS = ("name", "target", "layer", "score", "random_score", "p", "p_holm", "accuracy", "effect")
ROWS += ("sounds", "has", "lacks", "each", "draws")
MOST_LINES = 60  # classes and layers in the figure; the table has all
DRAWS = ("target", "layer", "score", "random_score")

__all__ = ["markdown", "plot_scores", "write"]


def write(folder: Path) -> Path:
    """Writes concept.md, the figure and report.html; returns the page's path.

    Raises:
        ValueError: if a table is missing or cannot be read.
    """
    run, table = Run.read(folder), read_table(folder / "concept.csv", ROWS)
    drawn = read_table(folder / "draws.csv", DRAWS)
    if not len(table) or not len(drawn):
        raise ValueError(f"{folder}: has no concept.csv or draws.csv yet; make the test again in a new folder")
    for name, each, columns in (("concept.csv", table, ROWS), ("draws.csv", drawn, DRAWS)):
        if len(empty := each.index[each.loc[:, list(columns)].isna().any(axis=1)]):
            raise ValueError(f"{folder / name}, row {empty[0] + 2}: has an empty cell; make the test again")
    _check(folder, table, drawn)
    rows = [{**row, "verdict": verdict(row), "sentence": sentence(row)} for row in table.to_dict("records")]
    write_text(folder / "concept.md", markdown(table))
    plot_scores(folder / "figures" / "scores.png", drawn)
    page = {
        "run": run,
        "concept": rows[0]["name"],
        "rule": RULE,
        "rows": rows,
        "figure": picture(folder / "figures" / "scores.png", folder),
        "examples": {name: _examples(folder, name) for name in ("has", "lacks")},
    }
    return render("runs/tcav/page.html", folder, page)


def _check(folder: Path, table: pd.DataFrame, drawn: pd.DataFrame) -> None:
    """Refuses tables that no test gives, which a page would show as a result; ValueError."""
    shares = table[["score", "random_score", "p", "p_holm", "accuracy"]].to_numpy(float)
    if ((shares < 0) | (shares > 1)).any() or (table["layer"].to_numpy(float) % 1 != 0).any():
        raise ValueError(f"{folder / 'concept.csv'}: has a score, p or accuracy outside 0 to 1, or half a layer")
    means: dict[tuple, list[list[float]]] = {}
    for row in drawn.to_dict("records"):
        means.setdefault((row["target"], row["layer"]), []).append([row["score"], row["random_score"]])
    own = {(row["target"], row["layer"]): [row["score"], row["random_score"]] for row in table.to_dict("records")}
    if len(own) < len(table) or own.keys() != means.keys():
        raise ValueError(f"{folder}: concept.csv and draws.csv are not of the same classes and layers, each once")
    if not all(np.allclose(np.mean(means[place], 0), scores, atol=1e-6) for place, scores in own.items()):
        raise ValueError(f"{folder}: the scores of concept.csv are not the means of those of draws.csv")


def markdown(table: pd.DataFrame) -> str:
    """A sentence and a row for each class and layer."""
    rows = table.to_dict("records")
    head = ["class", "layer", "TCAV score", "random directions", "p, Holm", "held-out accuracy", "logit to first order"]
    cells = [
        [str(row["target"]), f"{row['layer']:.0f}", f"{row['score']:.2f}", f"{row['random_score']:.2f}",
         f"{row['p_holm']:.2g}", f"{row['accuracy']:.2f}", f"{row['effect']:+.2f}"]
        for row in rows
    ]  # fmt: skip
    lines = "".join(f"- {sentence(row)}\n" for row in rows)
    return f"{lines}\n{text.markdown(head, cells)}\n{RULE}\n"


def plot_scores(path: Path, drawn: pd.DataFrame) -> None:
    """TCAV score of each draw, of the concept and of random directions; a line for each class and layer."""
    places: list[dict[str, Any]] = pd.DataFrame(drawn[["target", "layer"]]).drop_duplicates().to_dict("records")
    layers, places = drawn["layer"].nunique(), places[:MOST_LINES]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.2 + 0.34 * len(places)), layout="constrained")
        axis = figure.subplots()
        for number, place in enumerate(places):
            group = drawn[(drawn["target"] == place["target"]) & (drawn["layer"] == place["layer"])]
            for shift, column, colour, name in ((-0.15, "score", COLOURS[0], "the concept"),
                                                (0.15, "random_score", "#999999", "random directions")):  # fmt: skip
                # Draws are spread over the height of the line, so that equal scores can be counted.
                heights = [number + shift + 0.2 * (n / len(group) - 0.5) for n in range(len(group))]
                label = name if number == 0 else None
                axis.plot(group[column], heights, ".", color=colour, markersize=4, alpha=0.7, label=label)
        layer = ", layer {layer:.0f}" if layers > 1 else ""
        named = [f"{place['target']}"[:36] + layer.format(**place) for place in places]
        axis.set_yticks(range(len(places)), named)
        axis.set_ylim(len(places) - 0.5, -0.5)
        axis.set_xlim(-0.03, 1.03)
        axis.axvline(0.5, color="#bbbbbb", linewidth=0.8)
        axis.set_xlabel("TCAV score of each draw: share of the recordings whose logit rises along the direction")
        axis.legend(loc="upper left", bbox_to_anchor=(0, -0.12 - 0.5 / len(places)), ncols=2, frameon=False)
        save_figure(figure, path)


def _examples(folder: Path, name: str) -> list[str]:
    paths = [inside(folder, "audio", f"{name}_{number}.wav") for number in range(PLAYED)]
    return [link(path, folder) for path in paths if path.is_file()]
