"""Writes figures, tables and a page with players of a run that explains notes. Works on files only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiointerp.results.reading import Run, describe, format_score, read_table, summary
from audiointerp.results.templating import render
from audiointerp.results.text import markdown
from audiointerp.results.writing import write_text
from audiointerp.runs.notes import figures as note_figures

SHOWN = ("distortion_empty", "distortion", "rate", "saturated", "wav_fidelity", "wav_faithfulness", "seconds")
SOUNDS = {
    "mixture": "The note",
    "interpretation": "Kept: each band at its importance times its level, with the note's phase",
    "kept_random_phase": "Kept, with random phases where the phase was removed",
    "residual": "Removed: the note minus the kept sound",
    "inpainted": "Removed parts filled: close to the features that the classifier took, but not equal",
}

__all__ = ["accuracy_table", "render_page", "write"]


def write(folder: Path) -> Path:
    """Writes figures/, tables/fillers.md and report.html of a run of rde.yaml; returns the page's path."""
    run = Run.read(folder)
    table = _by_filler(run.scores)
    write_text(folder / "tables" / "fillers.md", markdown(table["columns"], table["rows"]))
    files = ["scores.csv", "manifest.csv", "tables/fillers.md"]
    figures = _curves(folder, files) + _class_maps(folder, files)
    return render_page(run, "Explanations of notes", files, [table, accuracy_table(run)], figures, _notes(folder, run))


def render_page(
    run: Run,
    kind: str,
    files: Sequence[str],
    tables: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, str]] = (),
    notes: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """report.html of a run about notes.

    Args:
        run: read from its folder.
        kind: the kind of run, as text for the page's head.
        files: tables in the folder to link.
        tables: each with "title", "text", "columns" and "rows" of text; the first column is the name of the row.
        figures: (file in the folder, caption).
        notes: each with "title" and "parts" of "title", "sounds" [(name, file)] and "figure".
    """
    page = {"run": run, "kind": kind, "files": files, "tables": tables, "figures": figures, "notes": notes}
    return render("runs/notes/page.html", run.folder, page)


def accuracy_table(run: Run) -> dict[str, Any]:
    """The classifier's accuracies of run.json, shown with every result about magnitude and phase."""
    results = run.about.get("results") or {}
    names = {"": "magnitude and phase", "_magnitude_only": "magnitude alone", "_phase_only": "phase alone"}
    rows = [
        [name, f"{results[f'test_accuracy{key}']:.3f}"]
        for key, name in names.items()
        if f"test_accuracy{key}" in results
    ]
    return {
        "title": "Accuracy of the classifier",
        "text": f"Accuracy on {results.get('test_clips', 'the')} test notes, from all features and with phases or "
        "magnitudes set to 0. If magnitude or phase alone gives no more than chance, its importance means little.",
        "columns": ["features used", "accuracy"],
        "rows": rows,
    }


def _by_filler(scores: pd.DataFrame) -> dict[str, Any]:
    shown = [name for name in SHOWN if name in scores]
    means = summary(scores)
    cells = {(row["method"], row["metric"]): row for row in means.to_dict("records")}
    rows = []
    for method in dict.fromkeys(means["method"]):
        values = [format_score(cells[method, name]["mean"], describe(name).unit) for name in shown]
        rows.append([str(method), str(int((scores["method"] == method).sum())), *values])
    return {
        "title": "Scores with each filler",
        "text": "Means over the notes. Distortions are half the squared change of the target's logit; the rate is the "
        "share of magnitudes and phases that is kept (in the deletion game: removed).",
        "columns": ["method", "notes", *(describe(name).label for name in shown)],
        "rows": rows,
    }


def _curves(folder: Path, files: list[str]) -> list[tuple[str, str]]:
    curves = read_table(folder / "curves.csv", ("method", "weight", "rate", "end", "empty"))
    if not len(curves):
        return []
    # Relative to D(empty), since logits have no fixed scale; the median, since for some notes D(empty) is near 0.
    curves["relative"] = curves["end"] / curves["empty"]
    points = {
        str(method): [
            (float(each["rate"].median()), float(each["relative"].median())) for _, each in group.groupby("weight")
        ]
        for method, group in curves.groupby("method", sort=False)
    }
    note_figures.plot_rate_distortion(folder / "figures" / "rate_distortion.png", points)
    files.append("curves.csv")
    notes, weights = curves["source"].nunique(), ", ".join(f"{each:g}" for each in sorted(curves["weight"].unique()))
    return [
        (
            "figures/rate_distortion.png",
            f"Rate-distortion curves: medians over {notes} notes at penalties of {weights} times D(nothing kept)",
        )
    ]


def _class_maps(folder: Path, files: list[str]) -> list[tuple[str, str]]:
    maps = read_table(folder / "class_maps.csv", ("method", "class", "band_hz", "magnitude", "phase"))
    if not len(maps):
        return []
    files.append("class_maps.csv")
    drawn = []
    for method, group in maps.groupby("method", sort=False):
        classes = {str(label): each for label, each in group.groupby("class", sort=False)}
        frequencies = next(iter(classes.values()))["band_hz"].to_numpy(float)
        arrays = {label: each[["magnitude", "phase"]].to_numpy(float).T for label, each in classes.items()}
        path = f"figures/class_maps_{method}.png"
        note_figures.plot_class_maps(folder / path, frequencies, arrays, f"One map for all notes of a class ({method})")
        drawn.append((path, f"One map for all notes of a class, {method}"))
    return drawn


def _notes(folder: Path, run: Run) -> list[dict[str, Any]]:
    notes = []
    for item_id, group in run.scores.groupby("item_id", sort=False):
        first = group.iloc[0]
        parts = [_part(folder, str(item_id), row) for row in group.to_dict("records")]
        heard = f"classified as {first['predicted']} ({first['probability']:.2f})"
        notes.append({"title": f"{Path(first['source']).stem}, {heard}", "parts": parts})
    return notes


def _part(folder: Path, item_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    method = row["method"]
    names = {
        "mixture": "mixture",
        "interpretation": method,
        "kept_random_phase": f"{method}_kept_random_phase",
        "residual": f"{method}_residual",
        "inpainted": f"{method}_inpainted",
    }
    files = {key: f"audio/{item_id}/{name}.wav" for key, name in names.items()}
    figure = f"figures/{item_id}_{method}.png"
    numbers = [f"{describe(name).label.lower()} {row[name]:.3g}" for name in SHOWN[:3] if np.isfinite(row[name])]
    return {
        "title": f"{method}: {', '.join(numbers)}",
        "sounds": [(SOUNDS[key], file) for key, file in files.items() if (folder / file).is_file()],
        "figure": figure if (folder / figure).is_file() else None,
    }
