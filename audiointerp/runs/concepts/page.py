"""Writes the page of a run of concepts: scores of the dictionaries, each concept with its sounds. Reads files only."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from audiointerp.results import text
from audiointerp.results.figures import COLOURS, MARKERS, STYLE, save_figure
from audiointerp.results.paths import inside
from audiointerp.results.reading import Run, read_table
from audiointerp.results.templating import link, picture, render
from audiointerp.results.writing import write_text

SCORES = ("representation", "logit", "logit_low", "logit_high", "decision", "purity", "label_auc", "labels_found")
SCORES += ("n_labels", "overlap_clips", "overlap_classes", "direction", "direction_control", "sound", "sound_control")
DICTIONARIES = ("dictionary", "n_concepts", "alive", "n_clips", *SCORES, "left", "alone", "seconds")
CONCEPTS = ("dictionary", "concept", "label", "purity", "clips", "classes", "falls", "direction", "direction_control")
CONCEPTS += ("sound", "sound_control", "left", "alone")
CLIPS = ("dictionary", "concept", "rank", "source", "label", "predicted", "strength", "start_s", "stop_s")

__all__ = ["markdown", "plot_dictionaries", "plot_labels", "write"]


def write(folder: Path) -> Path:
    """Writes tables/, figures/ and report.html; returns the page's path.

    Raises:
        ValueError: if a table is missing or cannot be read.
    """
    run, scores = Run.read(folder), read_table(folder / "dictionaries.csv", DICTIONARIES)
    if not len(scores):
        raise ValueError(f"{folder}: no dictionaries.csv with rows in it; let the run finish, and report again")
    concepts, clips = read_table(folder / "concepts.csv", CONCEPTS), read_table(folder / "clips.csv", CLIPS)
    strengths = read_table(folder / "strengths.csv", ("dictionary", "label", "concept", "strength"))
    shown = _shown(folder, concepts, scores)
    own = concepts.loc[concepts["dictionary"] == shown, :]
    own_clips = clips.loc[clips["dictionary"] == shown, :]
    write_text(folder / "tables" / "dictionaries.md", markdown(scores))
    write_text(folder / "tables" / "concepts.md", _concepts_markdown(own))
    plot_dictionaries(folder / "figures" / "dictionaries.png", scores)
    plot_labels(folder / "figures" / "labels.png", strengths.loc[strengths["dictionary"] == shown, :], shown)
    cards = [_card(folder, row, own_clips) for row in own.to_dict("records")]
    page = {
        "run": run,
        "scores": scores.to_dict("records"),
        "shown": shown,
        "concepts": sorted(cards, key=lambda card: (-card["purity"], card["label"], card["concept"])),
        "figures": {name: picture(folder / "figures" / f"{name}.png", folder) for name in ("dictionaries", "labels")},
    }
    return render("runs/concepts/page.html", folder, page)


def markdown(scores: pd.DataFrame) -> str:
    """One row for each dictionary."""
    head = ["dictionary", "logit explained", "decisions kept", "representation", "purity", "label AUC", "labels found"]
    head += ["overlap of clips", "of classes", "fall without direction (control)", "without sound (control)", "seconds"]
    rows = [
        [
            row["dictionary"],
            f"{row['logit']:.2f} [{row['logit_low']:.2f}, {row['logit_high']:.2f}]",
            f"{row['decision']:.2f}",
            f"{row['representation']:.2f}",
            f"{row['purity']:.2f}",
            f"{row['label_auc']:.2f}",
            f"{row['labels_found']:.0f} of {row['n_labels']:.0f}",
            f"{row['overlap_clips']:.2f}",
            f"{row['overlap_classes']:.2f}",
            f"{row['direction']:.2f} ({row['direction_control']:.2f})",
            f"{row['sound']:.2f} ({row['sound_control']:.2f})",
            f"{row['seconds']:.0f}",
        ]
        for row in scores.to_dict("records")
    ]
    return text.markdown(head, rows)


def _concepts_markdown(concepts: pd.DataFrame) -> str:
    head = ["concept", "commonest label of its clips", "purity", "classes it speaks for", "fall without direction"]
    rows = [
        [str(row["concept"]), _cell(row["label"]), f"{row['purity']:.2f}", _cell(row["classes"]).replace(";", ", "),
         f"{row['direction']:.2f}"]
        for row in concepts.to_dict("records")
    ]  # fmt: skip
    return text.markdown(head, rows)


def plot_dictionaries(path: Path, scores: pd.DataFrame) -> None:
    """Share of the logit explained, with its interval, against purity; one point for each dictionary."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axis = figure.subplots()
        for number, row in enumerate(scores.to_dict("records")):
            spread = [[max(0.0, row["logit"] - row["logit_low"])], [max(0.0, row["logit_high"] - row["logit"])]]
            style: Any = {"color": COLOURS[number % len(COLOURS)], "fmt": MARKERS[number % len(MARKERS)]}
            axis.errorbar(row["purity"], row["logit"], spread, label=row["dictionary"], markersize=6, **style)
        axis.axhline(0, color="#999999", linewidth=0.8)
        axis.set_xlabel("Mean purity of the concepts' strongest clips")
        axis.set_ylabel("Share of the logit explained")
        axis.set_xlim(0, 1.03)
        axis.set_ylim(max(-1.0, min(0.0, scores["logit"].min()) - 0.05), 1.03)
        axis.set_title("What each dictionary's concepts are, and how much of the decision they explain")
        figure.legend(loc="outside right center")
        save_figure(figure, path)


def plot_labels(path: Path, strengths: pd.DataFrame, name: str) -> None:
    """Mean strength of each concept (of its largest) on the clips of each label."""
    table = strengths.pivot_table(index="label", columns="concept", values="strength", aggfunc="mean").clip(lower=0)
    shares = (table / table.max().clip(lower=1e-12)).fillna(0.0)
    # Concepts in the order of the labels in which they are strongest.
    order = shares.to_numpy().argmax(0).argsort(kind="stable")
    with rc_context(STYLE):
        size = 2.5 + 0.26 * shares.shape[1], 1.2 + 0.17 * shares.shape[0]
        figure = Figure(figsize=size, layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(shares.to_numpy()[:, order], aspect="auto", cmap="Blues", vmin=0, vmax=1)
        axis.set_yticks(range(len(shares)), [str(each)[:32] for each in shares.index], fontsize=7)
        axis.set_xticks(range(shares.shape[1]), [str(shares.columns[k]) for k in order], fontsize=7)
        axis.set_xlabel("Concept")
        axis.set_title(f"{name}: strength on the clips of each label")
        figure.colorbar(image, ax=axis, label="Share of the concept's largest mean")
        save_figure(figure, path)


def _shown(folder: Path, concepts: pd.DataFrame, scores: pd.DataFrame) -> str:
    """The dictionary whose sounds lie in the folder, by its bundle; else the first."""
    from audiointerp.results.shapes import read_json

    known = list(scores["dictionary"])
    path = folder / "best" / "config.json"
    if path.is_file():
        name = read_json(path, {"arguments": dict})["arguments"].get("dictionary")
        if name in known:
            return str(name)
    return str(known[0])


def _card(folder: Path, row: dict[str, Any], clips: pd.DataFrame) -> dict[str, Any]:
    """A concept with its classes and clips."""
    own = clips.loc[clips["concept"] == row["concept"], :]
    falls = [float(each) for each in _cell(row["falls"]).split(";") if each]
    names = [each for each in _cell(row["classes"]).split(";") if each]
    most = float(own["strength"].max()) if len(own) else math.nan
    return {
        **row,
        "label": _cell(row["label"]),
        "classes": list(zip(names, falls)),
        "clips": [
            {
                **clip,
                "title": Path(str(clip["source"]).replace("\\", "/")).name,
                "share": clip["strength"] / most if most > 0 else 0.0,
                "sounds": _sounds(folder, int(row["concept"]), int(clip["rank"])),
            }
            for clip in own.sort_values("rank").to_dict("records")
        ],
    }


def _sounds(folder: Path, concept: int, rank: int) -> dict[str, str]:
    where = inside(folder, "audio", f"concept_{concept:02d}")
    paths = {what: inside(where, f"{rank}_{what}.wav") for what in ("window", "concept")}
    return {what: link(path, folder) for what, path in paths.items() if path.is_file()}


def _cell(value: Any) -> str:
    """Text of a cell; "" for an empty one."""
    return "" if isinstance(value, float) and np.isnan(value) else str(value)
