"""Writes attributes.html: FLINT's fidelity and conciseness, and each attribute with its sounds. Reads files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from audiointerp.results.figures import COLOURS, STYLE, save_figure
from audiointerp.results.paths import inside
from audiointerp.results.reading import Run, read_table
from audiointerp.results.templating import link, picture, render
from audiointerp.runs.attributes.settings import FACTORS

ATTRIBUTES = ("attribute", "active", "strength", "classes", "relevances", "faint", "maximised")
ATTRIBUTES += tuple(f"db_{each}" for each in FACTORS)
CLIPS = ("attribute", "rank", "source", "label", "predicted", "strength", "start_s", "stop_s")
NAME = "attributes.html"

__all__ = ["NAME", "plot_conciseness", "plot_relevance", "write"]


def write(folder: Path) -> Path:
    """Writes figures/ and attributes.html; returns the page's path.

    Raises:
        ValueError: if a table is missing or cannot be read.
    """
    tables = {
        name: read_table(folder / f"{name}.csv", columns)
        for name, columns in (
            ("attributes", ATTRIBUTES),
            ("attribute_clips", CLIPS),
            ("class_attributes", ("class", "attribute", "relevance")),
            ("conciseness", ("tau", "attributes")),
        )
    }
    if empty := [name for name in ("attributes", "class_attributes", "conciseness") if not len(tables[name])]:
        raise ValueError(f"{folder}: no {empty[0]}.csv with rows in it; let the run finish, and report again")
    run, clips = Run.read(folder), tables["attribute_clips"]
    plot_relevance(folder / "figures" / "class_attributes.png", tables["class_attributes"])
    plot_conciseness(folder / "figures" / "conciseness.png", tables["conciseness"])
    cards = [_card(folder, row, clips) for row in tables["attributes"].to_dict("records")]
    page = {
        "run": run,
        "results": run.about.get("results") or {},
        # Attributes of a class first, the most relevant first; those that are never active last.
        "attributes": sorted(cards, key=lambda card: -max([each for _, each in card["classes"]], default=-1.0)),
        "figures": {
            name: picture(folder / "figures" / f"{name}.png", folder) for name in ("class_attributes", "conciseness")
        },
    }
    return render("runs/attributes/page.html", folder, page, NAME)


def plot_relevance(path: Path, table: pd.DataFrame) -> None:
    """The class x attribute matrix of global relevance; blue is positive, red negative, empty never predicted."""
    labels = list(dict.fromkeys(table["class"]))
    matrix = table.pivot_table(index="class", columns="attribute", values="relevance", dropna=False).reindex(labels)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 0.24 * matrix.shape[1], 1.4 + 0.22 * len(labels)), layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(
            matrix.to_numpy(float), cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
        )
        axis.set_yticks(range(len(labels)), [str(each)[:32] for each in labels], fontsize=8)
        axis.set_xticks(range(matrix.shape[1]), [str(int(each)) for each in matrix.columns], fontsize=7)
        axis.set_xlabel("Attribute")
        axis.set_title("Mean relevance to the clips that FLINT assigns to each class")
        figure.colorbar(image, ax=axis, label="Relevance")
        save_figure(figure, path)


def plot_conciseness(path: Path, table: pd.DataFrame) -> None:
    """Mean number of attributes of a clip above each relevance 1 / tau."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        axis = figure.subplots()
        axis.plot(table["tau"], table["attributes"], color=COLOURS[0], marker="o")
        axis.set_ylim(0, None)
        axis.set_xticks(table["tau"], [f"1/{each:g}" for each in table["tau"]])
        axis.set_xlabel("Relevance")
        axis.set_ylabel("Attributes above it, mean per clip")
        axis.set_title("Conciseness")
        save_figure(figure, path)


def _card(folder: Path, row: dict[str, Any], clips: pd.DataFrame) -> dict[str, Any]:
    """An attribute with its classes, clips and sounds."""
    number = int(row["attribute"])
    own = clips.loc[clips["attribute"] == number, :]
    names = [each for each in _cell(row["classes"]).split(";") if each]
    values = [float(each) for each in _cell(row["relevances"]).split(";") if each]
    decibels = {factor: float(row[f"db_{factor}"]) for factor in FACTORS}
    return {
        **row,
        "attribute": number,
        "classes": list(zip(names, values)),
        "maximised_sound": _sound(folder, number, "maximised"),
        "amplified": [
            {"factor": factor, "decibels": decibels[factor], "sound": sound}
            for factor in FACTORS
            if (sound := _sound(folder, number, f"amplified_{factor}"))
        ],
        "clips": [
            {
                **clip,
                "title": Path(str(clip["source"]).replace("\\", "/")).name,
                "window": _sound(folder, number, f"{int(clip['rank'])}_window"),
                "mask": _sound(folder, number, f"{int(clip['rank'])}_mask"),
            }
            for clip in own.sort_values("rank").to_dict("records")
        ],
    }


def _sound(folder: Path, number: int, name: str) -> str:
    """Address of a sound of an attribute, "" if it was not made."""
    path = inside(folder, "audio", "attributes", f"attribute_{number:03d}", f"{name}.wav")
    return link(path, folder) if path.is_file() else ""


def _cell(value: Any) -> str:
    """Text of a cell; "" for an empty one."""
    return "" if isinstance(value, float) and np.isnan(value) else str(value)
