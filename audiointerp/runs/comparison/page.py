"""Writes tables, figures and the page of a comparison, with a play button for every method. Works on files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from audiointerp.results.reading import Run, describe, read_table
from audiointerp.results.templating import render
from audiointerp.results.writing import write_table, write_text
from audiointerp.runs.comparison.figures import plot_differences, plot_trade
from audiointerp.runs.comparison.tables import Table, differences, make_tables, several_as_one
from audiointerp.runs.comparison.text import latex, markdown

FILES = ("tables/tables.md", "tables/tables.tex", "tables/differences.csv", "scores.csv", "manifest.csv", "recipe.yaml")
SILENT_ROLES = ("interpretation", "mixture", "reference", "listening")

__all__ = ["write"]


def write(folder: Path) -> Path:
    """Writes tables/ (CSV, Markdown, LaTeX), figures/ and report.html; returns the page's path."""
    run = Run.read(folder)
    facts: dict[str, Any] = run.about["comparison"]
    tables = make_tables(run.scores, facts, read_table(folder / "embeddings.csv"))
    tested = differences(run.scores, facts)
    write_text(folder / "tables" / "tables.md", "\n".join(markdown(each) for each in tables))
    write_text(folder / "tables" / "tables.tex", "\n".join(latex(each) for each in tables))
    write_table(folder / "tables" / "tables.csv", _long(tables))
    write_table(folder / "tables" / "differences.csv", tested)
    figures, several = _draw(folder, tables, tested, facts), facts.get("several") or {}
    page = {
        "run": run,
        "tables": tables,
        "conditions": [_condition(run, tables, name) for name in facts["conditions"]],
        "not_run": facts["not_run"],
        "beyond": facts.get("beyond", {}),
        "methods": several_as_one(facts)["methods"],
        "several": several,
        "first_run": lambda method: _first_run(method, several),
        "reference": facts["reference"],
        "figures": figures,
        "files": [name for name in FILES if (folder / name).is_file()],
        "describe": describe,
    }
    return render("runs/comparison/page.html", folder, page)


def _first_run(method: str, several: dict[str, list[str]]) -> str:
    """The name of a method's sounds: those of its first run if it is given as several."""
    base = method.removesuffix("_other")
    return several[base][0] + method.removeprefix(base) if several.get(base) else method


def _long(tables: list[Table]) -> pd.DataFrame:
    """All cells of all tables, one row per cell."""
    return pd.DataFrame(
        [
            {
                "condition": table.condition,
                "subset": table.subset,
                "magnitude": table.magnitude,
                "recognised": table.recognised,
                "method": method,
                "metric": metric,
                **vars(cell),
            }
            for table in tables
            for method, row in table.rows.items()
            for metric, cell in row.items()
        ]
    )


def _draw(folder: Path, tables: list[Table], tested: pd.DataFrame, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Draws all figures; returns (file, caption) of each."""
    own = [table for table in tables if not table.magnitude and not table.subset and table.recognised is None]
    trades = {
        "faithfulness_energy.png": ("kept_energy", "faithfulness", False),
        "faithfulness_speed.png": ("seconds", "faithfulness", True),
    }
    drawn = []
    for name, (x, y, log_x) in trades.items():
        plot_trade(folder / "figures" / name, own, x, y, log_x)
        drawn.append((f"figures/{name}", f"{describe(y).label} against {describe(x).label.lower()}, 95 % intervals"))
    for condition in facts["conditions"]:
        name = f"differences_{condition}.png"
        rows: Any = tested[tested["condition"] == condition] if len(tested) else tested
        if len(rows) and (rows["first"] == facts["reference"]).any():
            plot_differences(folder / "figures" / name, rows, facts["reference"], condition)
            text = f"{facts['reference']} minus each other method, paired by item ({condition}); filled: significant"
            drawn.append((f"figures/{name}", f"{text} after Holm's correction"))
    return drawn


def _condition(run: Run, tables: list[Table], name: str) -> dict[str, Any]:
    """One condition's tables, and the sounds of its items by role or method."""
    ids = set(run.scores.loc[run.scores["condition"] == name, "item_id"])
    first = run.scores.drop_duplicates("item_id").set_index("item_id")
    items: dict[str, dict[str, Any]] = {}
    for row in run.manifest.to_dict("records"):
        if row["item_id"] not in ids or row["role"] == "residual":
            continue
        item = items.setdefault(row["item_id"], {"id": row["item_id"], "sounds": {}})
        key = row["method"] if row["role"] in ("interpretation", "listening") else row["role"]
        if row["role"] == "listening" or key not in item["sounds"]:
            item["sounds"][key] = row["path"]
        said = first.loc[row["item_id"]]
        item["title"] = (
            f"{row['true_class'] or '?'}{' + ' + row['distractor_class'] if row['distractor_class'] else ''}"
        )
        item["title"] += f", classified as {said['predicted']} ({row['item_id']})"
    return {
        "name": name,
        "tables": [table for table in tables if table.condition == name],
        "items": list(items.values()),
    }
