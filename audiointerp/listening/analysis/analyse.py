"""Answers and their key -> a folder with a report: tidy table, exclusions, tables, figures, report.html, .md and .json.

The choice of statistical tests depends on the task and the design only, never on the answers.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from audiointerp.listening.analysis import figures as plots
from audiointerp.listening.analysis import report, screening
from audiointerp.listening.analysis.answers import SCALES, Answers, Repeat, load, places, with_conditions
from audiointerp.listening.analysis.choices import abx_tables, preference_tables, simulation_tables
from audiointerp.listening.analysis.opinion import IntervalKind, opinion_tables
from audiointerp.listening.analysis.report import Outcome
from audiointerp.listening.analysis.screening import is_mushra
from audiointerp.listening.study import QUESTION
from audiointerp.results.writing import write_json, write_table

PACKAGES = ("audiointerp", "numpy", "scipy", "pandas", "matplotlib")

__all__ = ["analyse"]


def analyse(
    answers: Sequence[str | Path],
    key: str | Path,
    out: str | Path,
    *,
    study: str | Path | None = None,
    ci: IntervalKind = "t",
    repeat: Repeat = "first",
    complete_only: bool = False,
    leave_out: Sequence[str] = (),
    screen: Sequence[str] | None = None,
    force: bool = False,
) -> Path:
    """Analyses a listening test and returns the path of its report.html.

    Args:
        answers: result files, any mix of formats, of one test.
        key: key.csv of the export.
        out: folder to write.
        study: study.json; by default searched near the key. A/B and ABX need it.
        ci: intervals of means: Student's t, or the percentile bootstrap over listeners.
        repeat: see `answers.load`.
        complete_only: leave out sessions in which a question is unanswered.
        leave_out: answers about the listener, such as "hearing=yes", with which a session is left out.
        screen: names of `screening.RULES` to apply; by default the rules of BS.1534, for ratings. Results without
            screening are reported as well.
        force: write into a folder that is not empty.

    Raises:
        ValueError: if files cannot be used, `out` is not empty, or no answer is left.
    """
    if ci not in get_args(IntervalKind):
        raise ValueError(f"ci is {ci!r}; it must be one of {', '.join(get_args(IntervalKind))}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or not _is_free(out)) and not force:
        raise ValueError(f"{out}: exists and is not empty; choose another folder, or give --force")
    found = load(answers, key, study, repeat=repeat, complete_only=complete_only, leave_out=leave_out)
    outcome = _outcome(found, ci, screen)
    out.mkdir(parents=True, exist_ok=True)
    _write_tables(outcome, out)
    _draw(outcome, out / report.FIGURES)
    write_json(out / "report.json", _facts(outcome), indent=1)
    return report.write(outcome, out, _versions())


def _is_free(out: Path) -> bool:
    """Whether a folder is empty, or holds an analysis that was killed before its page was written, which is last."""
    names = {path.name for path in out.iterdir()}
    return names <= {".ratings.csv.part"} or ("ratings.csv" in names and report.REPORT not in names)


def _outcome(found: Answers, ci: IntervalKind, rules: Sequence[str] | None) -> Outcome:
    received = found.table
    _check_left(found)
    before = _counts(found.table)
    results = screening.screen(found, rules)
    _check_left(found)
    screened = bool((found.exclusions["stage"] == "screening").any())
    tables = _tables(found, found.table, ci)
    unscreened = _tables(found, received, ci) if screened else {}
    return Outcome(found, before, results, tables, unscreened, ci, is_mushra(received))


def _check_left(found: Answers) -> None:
    """Raises ValueError, with the reasons of the exclusions, if no answer is left to analyse."""
    if (found.table["kind"] == "trial").any():
        return
    counts = found.exclusions["reason"].value_counts()
    why = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "the files are empty"
    hint = "; apply fewer screening rules" if (found.exclusions["stage"] == "screening").any() else ""
    files = ", ".join(str(each) for each in found.files[:3]) + (", ..." if len(found.files) > 3 else "")
    raise ValueError(f"{files}: no answer is left to analyse: {why}{hint}")


def _tables(found: Answers, table: pd.DataFrame, ci: IntervalKind) -> dict[str, dict[str, pd.DataFrame]]:
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    key = with_conditions(found.key)
    key = key.assign(place=places(found, key)).sort_values(["system", "place"], ascending=[False, True], kind="stable")
    names = dict(zip(key.index, key["condition"]))
    for task, rows in analysed(table).items():
        if task in SCALES:
            tables[task] = opinion_tables(rows, ci)
        elif task == "ab":
            tables[task] = preference_tables(rows, found.study, names)
        elif task == "abx":
            tables[task] = abx_tables(rows, found.study, names)
        else:
            tables[task] = simulation_tables(rows, found.study)
    return tables


def analysed(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """task -> its answers with conditions, without catch trials, in the order of the run."""
    trials = with_conditions(pd.DataFrame(table[table["kind"] == "trial"]))
    trials = trials.sort_values(["item_place", "place", "participant", "session_id"], kind="stable")
    return {str(task): pd.DataFrame(trials[trials["task"] == task]) for task in dict.fromkeys(trials["task"])}


def _counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        task: {
            "listeners": int(rows["participant"].nunique()),
            "items": int(rows["item_id"].nunique()),
            "answers": len(rows),
        }
        for task, rows in analysed(table).items()
    }


def _write_tables(outcome: Outcome, out: Path) -> None:
    """Every table as CSV."""
    answers = outcome.answers
    said = [name for name in answers.listeners if str(name).startswith(QUESTION)]
    asked = answers.listeners.set_index("session_id")[said]
    ratings = with_conditions(answers.table).drop(columns=["place", "item_place"])
    write_table(out / "ratings.csv", ratings.join(asked, on="session_id"))
    write_table(out / "listeners.csv", answers.listeners)
    write_table(out / "exclusions.csv", outcome.answers.exclusions)
    for suffix, tables in (("", outcome.tables), ("_unscreened", outcome.unscreened)):
        for task, of_task in tables.items():
            for name, table in of_task.items():
                write_table(out / f"{task}_{name}{suffix}.csv", table)


def _draw(outcome: Outcome, folder: Path) -> None:
    for task, rows in analysed(outcome.answers.table).items():
        tables, stem = outcome.tables[task], folder / task
        if task in SCALES:
            label = "Opinion score" if task == "mos" else "Score"
            plots.plot_means(
                stem.with_name(f"{task}_means"), rows, tables["methods"], SCALES[task], f"Mean {label.lower()}"
            )
            plots.plot_items(stem.with_name(f"{task}_items"), rows, SCALES[task], label)
        elif task == "ab":
            plots.plot_preferences(stem.with_name("ab_preferences"), tables["preferences"])
        else:
            table = tables["abx" if task == "abx" else "simulation"]
            table = pd.DataFrame(table[table["group"] == table["group"].iloc[-1]])
            if task == "abx":
                names = [f"{a} – {b}" for a, b in zip(table["a"], table["b"])]
                lines = {"guessing": [0.5] * len(table)}
            else:
                names, lines = (
                    list(table["condition"]),
                    {"chance": table["chance"], "majority class": table["majority_share"]},
                )
                plots.plot_confusions(folder / "simulate_confusion", tables["confusion"])
            plots.plot_shares(
                stem.with_name(f"{task}_shares"), table, names, {name: list(each) for name, each in lines.items()}
            )


def _facts(outcome: Outcome) -> dict[str, Any]:
    """Contents of report.json: all results, for programs."""
    found = outcome.answers
    return {
        "test_id": next(iter(found.table["test_id"]), ""),
        "files": [path.name for path in found.files],
        "set_aside": {path.name: reason for path, reason in found.set_aside.items()},
        "listeners": found.listeners.to_dict("records"),
        "interval": outcome.ci,
        "mushra": outcome.mushra,
        "before_screening": outcome.before,
        "after_screening": _counts(found.table),
        "sessions_received": found.received,
        "exclusions": {str(reason): int(n) for reason, n in found.exclusions["reason"].value_counts().items()},
        "screening": [
            {"rule": rule.name, "meaning": rule.meaning, "applied": rule.applied, "skipped": rule.skipped}
            | {"listeners": list(rule.listeners), "answers": int(rule.flagged.sum())}
            for rule in outcome.rules
        ],
        "notes": found.notes,
        "results": _plain(outcome.tables),
        "without_screening": _plain(outcome.unscreened),
        "settings": found.settings,
        "versions": _versions(),
    }


def _plain(tables: dict[str, dict[str, pd.DataFrame]]) -> dict[str, Any]:
    """Tables as lists of rows; NaN and infinite numbers become null."""
    return {
        task: {
            name: [{column: _cell(value) for column, value in row.items()} for row in table.to_dict("records")]
            for name, table in of_task.items()
        }
        for task, of_task in tables.items()
    }


def _cell(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
