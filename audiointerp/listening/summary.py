"""What an analysis found -> report.html and report.md: the same sections, written once."""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from audiointerp.listening.analysis.report import sections
from audiointerp.listening.cells import number
from audiointerp.results.page import write_text

if TYPE_CHECKING:
    from audiointerp.listening.analysis.analyse import Outcome

REPORT, FIGURES = "report.html", "figures"

__all__ = ["FIGURES", "REPORT", "write"]


def write(outcome: Outcome, out: Path, versions: Mapping[str, str]) -> Path:
    """Writes report.md and report.html; returns the latter's path."""
    found = outcome.answers
    page = {
        "test_id": next(iter(found.table["test_id"]), ""),
        "title": found.study.title if found.study else "Listening test",
        "outcome": outcome,
        "design": _design(outcome),
        "sections": sections(outcome),
        "screening": _screening(outcome),
        "exclusions": _exclusions(outcome),
        "preparation": _preparation(outcome),
        "versions": versions,
        "files": ["ratings.csv", "exclusions.csv", "report.json", "report.md"],
        "picture": lambda name: _picture(out, name),
    }
    for template in ("report.md", REPORT):
        write_text(out / template, _environment().get_template(f"listening/analysis/{template}").render(page))
    return out / REPORT


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1]),
        autoescape=lambda name: name is None or not name.endswith(".md"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda value: " ".join(str(value).replace("|", "\\|").split())
    return environment


def _picture(out: Path, name: str) -> dict[str, Any]:
    """Link and size of a figure, half as large as it is fine, so that nothing jumps while pictures load."""
    with open(out / FIGURES / f"{name}.png", "rb") as file:
        width, height = struct.unpack(">16x2I", file.read(24))
    return {"png": f"{FIGURES}/{name}.png", "svg": f"{FIGURES}/{name}.svg", "width": width, "height": height}


def _design(outcome: Outcome) -> list[tuple[str, str]]:
    found = outcome.answers
    left = found.table[found.table["kind"] == "trial"]
    files = ", ".join(path.name for path in found.files[:6]) + (" …" if len(found.files) > 6 else "")
    methods = ", ".join(dict.fromkeys(left.loc[left["role"] == "interpretation", "method"]))
    lines = [("Test", next(iter(left["test_id"]), "")), ("Files", f"{len(found.files)}: {files}")]
    for task, before in outcome.before.items():
        rows = left[left["task"] == task]
        lines.append(
            (
                "Listeners" if len(outcome.before) == 1 else f"Listeners, {task}",
                f"{found.received} sessions received; {before['listeners']} listeners with answers before screening, "
                f"{rows['participant'].nunique()} after; {before['answers']} answers before, {len(rows)} after",
            )
        )
    return [*lines, ("Items", f"{left['item_id'].nunique()}"), ("Methods", methods or "–")]


def _screening(outcome: Outcome) -> list[tuple[str, str, str, str]]:
    """Rule, meaning, state, whom it concerns."""
    rows = []
    for rule in outcome.rules:
        state = f"not checked: {rule.skipped}" if rule.skipped else "applied" if rule.applied else "reported only"
        who = ", ".join(rule.listeners[:8]) + (
            f" and {len(rule.listeners) - 8} more" if len(rule.listeners) > 8 else ""
        )
        flagged = f"{int(rule.flagged.sum())} answers of {who}" if len(rule.listeners) else "nobody"
        rows.append((rule.name, rule.meaning, state, "–" if rule.skipped else flagged))
    return rows


def _exclusions(outcome: Outcome) -> list[tuple[str, str, str]]:
    table = outcome.answers.exclusions
    counts = table.groupby(["stage", "reason"], sort=False).size() if len(table) else {}
    return [(stage, reason, str(count)) for (stage, reason), count in counts.items()]


def _preparation(outcome: Outcome) -> list[tuple[str, str]]:
    found, settings = outcome.answers, outcome.answers.settings
    options = settings.get("options", {})
    lines = []
    if found.study:
        lines.append(("Sample rate", f"{found.study.sample_rate} Hz"))
    if options.get("loudness"):
        lines.append(("Loudness", _loudness(options["loudness"], settings)))
    if options.get("bandwidth"):
        low_passed = "low-passed to the item's lowest rate" if options["bandwidth"] == "min" else "as it was"
        lines.append(("Bandwidth", low_passed))
    gains = pd.to_numeric(found.key["gain_db"], errors="coerce").dropna()
    if len(gains):
        lines.append(("Gains", f"{number(gains.min(), 1, True)} to {number(gains.max(), 1, True)} dB, each in the key"))
    silent = found.key[found.key["silent"].str.lower() == "true"]
    names = sorted(set((silent["item_id"] + " " + silent["method"]).str.strip()))
    lines.append(("Silent sounds", ", ".join(names) + " (kept)" if names else "none"))
    if not settings:
        lines.append(("Settings", "settings.json was not found beside the key"))
    return [*lines, *(("Warning of the export", str(each)) for each in settings.get("warnings", []))]


def _loudness(how: str, settings: Mapping[str, Any]) -> str:
    target = settings.get("target_lufs")
    what = {"match": "every sound matched to", "item": "one gain an item, its mixture to"}.get(how)
    if what is None or target is None:
        return "levels as they were"
    lowered = settings.get("lowered_db") or 0
    reason = f", {number(lowered, 1)} dB below the usual so that no peak clips" if lowered > 0 else ""
    return f"{what} {number(target, 1)} LUFS{reason}"
