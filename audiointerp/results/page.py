"""Writes the page of run folders: facts about the run, tables, figures, and players for every clip.

Reads files only (run.json, scores.csv, manifest.csv, log.csv, figures), so that a page can be written again later
without the model. The page is opened from disk and needs no network and no server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from audiointerp.results.checks import told_of
from audiointerp.results.paths import inside, why_not_inside
from audiointerp.results.reading import (
    LIKELIEST,
    Run,
    describe,
    is_true,
    pivot,
    read_likeliest,
    score_columns,
    spread,
    summary,
)
from audiointerp.results.templating import fill, link, picture, render
from audiointerp.results.text import shown_target
from audiointerp.results.writing import write_table, write_text

NEARLY_ALL = 0.8  # mean of a mask above which an explanation hardly chooses

__all__ = ["write_report"]

MOST_CLIPS = 5000  # shown on a page, about 25 MB; browsers become slow with more
AT_ONCE = 20  # clips that are part of the page from the start; the others join it while the first are played
SOUNDS = ("mixture", "reference", "interpretation", "listening", "residual")
FILES = (
    "recipe.yaml",
    "run.json",
    "log.csv",
    "scores.csv",
    "manifest.csv",
    LIKELIEST,
    "components.html",
    "attributes.html",
)
SHOWN_APART = ("name", "labels", "finished", "kind", "scored", "start", "end", "command", "seed", "device", "failed")
FEWEST = 5  # clips of which a distribution of scores is shown


def write_report(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Writes report.html and returns its path.

    Args:
        runs: run folders. For one run, its page is written. For several, the page of each run is written, and in `out`
            a page that compares them, with summary.csv and summary.md: mean and SD over the runs (folds, seeds) of each
            run's mean.
        out: the folder to write to; by default a single run's own. All links are relative to it.

    Raises:
        ValueError: if a folder is not a run folder, a table cannot be read, or `out` is missing with several runs.
    """
    loaded = [Run.read(folder) for folder in dict.fromkeys(Path(run).resolve() for run in runs)]
    if not loaded:
        raise ValueError("no run folder was given; name at least one")
    if len(loaded) == 1:
        return _write_page(loaded[0], Path(out or loaded[0].folder).resolve())
    if out is None or Path(out).resolve() in [run.folder for run in loaded]:
        given = "no folder was given" if out is None else f"{out} is itself one of the runs"
        raise ValueError(f"{given}; name another folder with -o for the comparison of {len(loaded)} runs")
    for run in loaded:
        if run.summary().empty:
            raise ValueError(f"{run.folder}: no scores.csv with rows in it; only runs with scores can be compared")
    for run in loaded:
        _write_page(run, run.folder)
    return _write_comparison(loaded, Path(out).resolve())


def _write_page(run: Run, out: Path) -> Path:
    recipe = run.folder / "recipe.yaml"
    text = recipe.read_text("utf-8", errors="replace") if recipe.is_file() else ""
    names = list(dict.fromkeys(chain(*(table["item_id"] for table in (run.scores, run.manifest) if len(table)))))
    items = _items(run, out, names[:MOST_CLIPS])
    files = [run.folder / name for name in FILES]
    figures = {name: _figure(run, f"{name}.png", out) for name in ("training", "confusion")}
    judged = [item["predicted"] == item["true"] for item in items if item["true"] and len(items) == len(names)]
    page = {
        "run": run,
        "more": {name: value for name, value in run.about.items() if name not in SHOWN_APART},
        "files": [(path.name, link(path, out)) for path in files if path.is_file()],
        "recipe": text,
        "checks": lambda method: told_of(method, run.about, text.partition("\n")[0]),
        "failed": run.about.get("failed") or [],
        "silent": _silent_clips(run.scores),
        "table": pivot(summary(run.scores)) if len(run.scores) else None,
        "spread": spread(run.scores) if len(names) >= FEWEST and len(run.scores) else [],
        "figures": {name: figure for name, figure in figures.items() if figure},
        "items": items,
        "clips": len(names),
        "at_once": AT_ONCE,
        "several": "fidelity_argmax" in run.scores and bool(run.scores["fidelity_argmax"].notna().any()),
        "right": (sum(judged), len(judged)),
        "classes": sorted({item["predicted"] for item in items if item["predicted"]}, key=str.lower),
        "metrics": [describe(name) for name in score_columns(run.scores)],
    }
    return render("results/templates/report.html", out, page)


def _write_comparison(runs: list[Run], out: Path) -> Path:
    tables = [run.summary() for run in runs]
    groups = pd.concat(tables).groupby(["method", "metric"], sort=False)
    columns = {"mean": "mean", "sd": "std", "n_runs": "count"}
    over = groups.agg(
        **{name: ("mean", how) for name, how in columns.items()},
        **{name: (name, "sum") for name in ("n_scored", "n", "n_silent")},
    ).reset_index()
    write_table(out / "summary.csv", over)
    table = pivot(over)
    write_text(out / "summary.md", fill("results/templates/several_runs.md", {"table": table, "runs": runs}))
    each = [(run, link(run.folder / "report.html", out), pivot(table)) for run, table in zip(runs, tables)]
    return render("results/templates/several_runs.html", out, {"runs": each, "table": table})


def _items(run: Run, out: Path, names: list[str]) -> list[dict[str, Any]]:
    """A card for each of the named items."""
    by_item: list[dict[str, list[dict]]] = [{}, {}]
    for rows, table in zip(by_item, (run.scores, run.manifest)):
        for row in table.loc[table["item_id"].isin(names), :].to_dict("records") if len(table) else ():
            rows.setdefault(row["item_id"], []).append(row)
    metrics = score_columns(run.scores)
    likeliest = read_likeliest(run.folder)
    return [
        _item(run, out, metrics, name, *(rows.get(name, []) for rows in by_item))
        | {"likeliest": likeliest.get(name, [])}
        for name in names
    ]


def _item(run: Run, out: Path, metrics: list[str], name: str, scores: list[dict], wavs: list[dict]) -> dict[str, Any]:
    heard = next((row for row in wavs if row["role"] == "mixture"), {})
    first = scores[0] if scores else {}
    source = first.get("source") or heard.get("source") or ""
    rate, frames = _number(heard.get("sample_rate")), _number(heard.get("n_frames"))
    of_clip = [row for row in wavs if row["role"] in ("mixture", "reference")]
    of_method = [row for row in wavs if row["role"] in ("interpretation", "listening", "residual")]
    return {
        "id": name,
        "title": PurePosixPath(source.replace("\\", "/")).name or name,
        "source": source,
        "seconds": frames / rate if rate and frames else None,
        "predicted": _class(run, heard.get("pred_class") or first.get("predicted")),
        "probability": _number(heard.get("pred_prob"), first.get("probability")),
        "true": _class(run, heard.get("true_class") or first.get("label")),
        "distractor": _class(run, heard.get("distractor_class")),
        "snr": _number(heard.get("snr_db")),
        "targets": list(dict.fromkeys(_class(run, row["target"]) for row in scores if row.get("target"))),
        "sounds": _sounds(run, out, of_clip),
        "methods": [
            {
                "name": method,
                "chosen": _text(row.get("chosen") for row in scores if row["method"] == method),
                "figure": _figure(run, f"{name}_{method}.png", out),
                "sounds": _sounds(run, out, [row for row in of_method if row.get("method", "") == method]),
                "windows": [
                    _window({**row, "target": _class(run, row.get("target"))}, metrics)
                    for row in scores
                    if row["method"] == method
                ],
            }
            for method in dict.fromkeys(row.get("method", "") for row in [*scores, *of_method])
        ],
    }


def _window(row: dict, metrics: list[str]) -> dict[str, Any]:
    """Scores of one item, method and window, without scores that do not apply."""
    values = [(describe(name), _number(row[name])) for name in metrics]
    scores = [(info, value) for info, value in values if value is not None]
    facts = {"start": _number(row.get("start_s")), "silent": is_true(row.get("silent"))}
    return {**facts, "answer": answer(row), "scores": scores}


def answer(row: Mapping[str, Any]) -> str:
    """The scores of an explanation in a sentence: probability of the class with, of and without the explanation.

    Those of the written WAVs, where they were scored, otherwise of the masked STFT. "" without these scores.

    >>> answer({"target": "dog", "target_probability": 0.5, "faithfulness": 0.3, "ad": 20.0, "ag": 0.0})
    'dog: 50 % for the whole recording, 40 % for the interpretation alone, 20 % for the rest.'
    """
    whole, fall = _number(row.get("target_probability")), _number(row.get("wav_faithfulness"), row.get("faithfulness"))
    drop, gain = (_number(row.get(f"wav_{name}"), row.get(name)) for name in ("ad", "ag"))
    if whole is None or fall is None or drop is None or gain is None or not row.get("target"):
        return ""
    alone = whole * (1 - drop / 100) if drop > 0 else whole + (1 - whole) * gain / 100
    shares = [f"{100 * min(max(each, 0.0), 1.0):.0f} %" for each in (whole, alone, whole - fall)]
    told = f"{shown_target(str(row['target']))}: {shares[0]} for the whole recording, {shares[1]} for the "
    told += f"interpretation alone, {shares[2]} for the rest."
    if (_number(row.get("mean_mask")) or 0) > NEARLY_ALL:
        told += " The mask keeps nearly everything, so it says little about which sound counts."
    return told


def _sounds(run: Run, out: Path, rows: list[dict]) -> list[dict[str, Any]]:
    """Players; that of an interpretation plays the listening copy, if there is one."""
    sounds: dict[tuple, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: SOUNDS.index(row["role"])):
        if reason := why_not_inside(run.folder, row["path"]):
            raise ValueError(
                f"{run.folder / 'manifest.csv'}: path {row['path']!r} is outside of the run folder, it {reason}"
            )
        path, start = inside(run.folder, row["path"]), _number(row.get("start_s"))
        address = link(path, out) if path.is_file() else None
        if row["role"] == "listening" and address and ("interpretation", start) in sounds:
            shown = sounds["interpretation", start]
            raised = _number(row.get("peak_dbfs"))
            shown |= {"play": address}
            if raised is not None and shown["peak"] is not None:
                shown |= {"raised": raised - shown["peak"]}
        elif row["role"] != "listening":
            peak = _number(row.get("peak_dbfs"))
            sounds[row["role"], start] = {
                "role": row["role"],
                "start": start,
                "file": address,
                "play": address,
                "peak": peak,
            }
    return list(sounds.values())


def _silent_clips(scores: pd.DataFrame) -> int:
    """Number of clips of which a method gave a silent output."""
    if "silent" not in scores:
        return 0
    return int(scores.loc[scores["silent"].map(is_true).astype(bool), "item_id"].nunique())


def _figure(run: Run, name: str, out: Path) -> dict[str, Any] | None:
    """A PNG of the run as `picture` describes it, or None if there is no such file."""
    if why_not_inside(run.folder / "figures", name):
        return None
    path = inside(run.folder, "figures", name)
    return picture(path, out) if path.is_file() else None


def _class(run: Run, value: str | None) -> str:
    """The name of a class, given its name or index."""
    text = value or ""
    if text not in run.labels and text.removesuffix(".0").isdecimal() and float(text) < len(run.labels):
        return run.labels[int(float(text))]
    return text


def _text(values: Iterable[object]) -> str:
    """The first value that is a text, or "": cells without one are NaN."""
    return next((value for value in values if isinstance(value, str)), "")


def _number(*values: object) -> float | None:
    """The first value that is a number."""
    for value in values:
        if isinstance(value, (int, float)) and not math.isnan(value):
            return float(value)
    return None
