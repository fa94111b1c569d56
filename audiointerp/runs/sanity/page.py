"""A run of sanity checks -> verdicts as Markdown, figures and a page. Files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from audiointerp.results import page as report
from audiointerp.results.reading import Run, read_table
from audiointerp.sanity_figures import plot_class_table, plot_randomisation

CHECKS = {
    "model_randomisation": "Model randomised",
    "label_randomisation": "Labels shuffled",
    "class_sensitivity": "Class asked for",
    "stability": "Inaudible noise",
}

__all__ = ["CHECKS", "overall", "read_verdicts", "write"]


def read_verdicts(folder: str | Path) -> pd.DataFrame:
    """verdicts.csv of a run of sanity checks; ValueError if there is none."""
    path = Path(folder) / "verdicts.csv"
    if not path.is_file():
        raise ValueError(f"{folder}: has no verdicts.csv; run sanity.yaml first and name its run folder")
    return read_table(path, ("method", "check", "value", "verdict"))


def overall(verdicts: pd.DataFrame) -> dict[str, str]:
    """Method -> "pass", or "fail: <the checks it fails>"; a check that was not run fails nobody."""
    words = {}
    for method, group in verdicts.groupby("method", sort=False):
        failed = [CHECKS[str(check)].lower() for check in group.loc[group["verdict"] == "fail", "check"]]
        words[str(method)] = f"fail: {', '.join(failed)}" if failed else "pass"
    return words


def write(folder: Path) -> Path:
    """Writes tables/verdicts.md, figures/ and report.html; returns the page's path."""
    run, verdicts = Run.read(folder), read_verdicts(folder)
    rows: Any = read_table(folder / "sanity.csv", ("method", "check", "stage", "value"))
    drawn = []
    cascade = rows[rows["check"] == "model_randomisation"]
    bound = float(str(verdicts.loc[verdicts["check"] == "model_randomisation", "rule"].iloc[0]).split()[-1])
    plot_randomisation(folder / "figures" / "randomisation.png", cascade, bound)
    drawn.append(("figures/randomisation.png", "How much of each mask survives while the model's weights are lost"))
    if len(present := rows[rows["check"] == "present"]):
        plot_class_table(folder / "figures" / "classes.png", present)
        drawn.append(
            ("figures/classes.png", "Probability of the class present, under the mask of each class asked for")
        )
    cells = {(row["method"], row["check"]): row for row in verdicts.to_dict("records")}
    methods = list(dict.fromkeys(verdicts["method"]))
    (folder / "tables").mkdir(exist_ok=True)
    report.write_text(folder / "tables" / "verdicts.md", markdown(verdicts))
    rules = dict(zip(verdicts["check"], verdicts["rule"]))
    page = {"run": run, "methods": methods, "checks": CHECKS, "cells": cells, "rules": rules, "figures": drawn}
    return report.render("runs/sanity/page.html", folder, {**page, "overall": overall(verdicts)})


def markdown(verdicts: pd.DataFrame) -> str:
    """One row a method: the value of each check, and the verdict."""
    cells = {(row["method"], row["check"]): row for row in verdicts.to_dict("records")}
    lines = [f"| method | {' | '.join(CHECKS.values())} | verdict |", "|---" * (len(CHECKS) + 2) + "|"]
    for method, words in overall(verdicts).items():
        shown = [_cell(cells.get((method, check))) for check in CHECKS]
        lines.append(f"| {method} | {' | '.join(shown)} | {words} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict | None) -> str:
    if row is None or row["verdict"] == "not run":
        return "not run"
    return f"{row['value']:.2f} {'✓' if row['verdict'] == 'pass' else '✗'}"
