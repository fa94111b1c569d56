"""Answers joined with their key -> answers that count; every row left out is listed with its reason.

Nothing is filled in: an answer that was not given, or lies outside its scale, is missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from audiointerp.listening.analysis.formats import ROW_COLUMNS, is_missing
from audiointerp.listening.study import Study

Repeat = Literal["first", "keep", "mean"]
SCALES = {"mos": (1.0, 5.0), "rating": (0.0, 100.0), "bs1116": (1.0, 5.0)}
KEY_FACTS = ("item_id", "role", "method", "group", "pred_class", "true_class")
TIDY_COLUMNS = (*ROW_COLUMNS, "participant", "cell", "kind", "value", *KEY_FACTS)
EXCLUSION_COLUMNS = (
    *("stage", "reason", "file", "line", "task", "session_id", "participant", "trial_id", "stimulus_id", "answer"),
)

__all__ = [
    "EXCLUSION_COLUMNS",
    "KEY_FACTS",
    "SCALES",
    "TIDY_COLUMNS",
    "Answers",
    "Repeat",
    "exclude",
    "expected_answers",
    "keep_complete",
    "keep_one_upload",
    "parse",
    "settle_repeats",
]


@dataclass
class Answers:
    """What is left after cleaning.

    Attributes:
        table: one answer per row, TIDY_COLUMNS: `value` is the score of a scale task, otherwise NaN; `cell` is what
            was asked (a sound of a trial; a trial where sounds are chosen between); rows of catch trials included.
        exclusions: rows left out, EXCLUSION_COLUMNS.
        notes: what a reader of the result should know.
        key: stimulus_id -> KEY_COLUMNS.
        study: what was asked, if it is known.
        settings: how the test was made, if settings.json stands beside the key.
        received: sessions in the files, with or without answers.
    """

    table: pd.DataFrame
    exclusions: pd.DataFrame
    notes: list[str]
    key: pd.DataFrame
    study: Study | None
    received: int = 0
    files: list[Path] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def exclude(answers: Answers, rows: pd.Series, stage: str, reason: str | pd.Series) -> None:
    """Moves the marked rows of the table to the exclusions."""
    out = answers.table[rows]
    if len(out):
        listed = out.assign(stage=stage, reason=reason).reindex(columns=list(EXCLUSION_COLUMNS))
        parts = [answers.exclusions, listed] if len(answers.exclusions) else [listed]
        answers.exclusions = pd.concat(parts, ignore_index=True)
        answers.table = pd.DataFrame(answers.table[~rows]).reset_index(drop=True)


def parse(answers: Answers) -> None:
    """Leaves out practice, missing answers and what is no answer to the question; gives scores as numbers."""
    exclude(answers, answers.table["kind"] == "practice", "cleaning", "practice")
    exclude(answers, answers.table["answer"].map(is_missing), "cleaning", "no answer")
    table = answers.table
    low, high = (table["task"].map({task: scale[end] for task, scale in SCALES.items()}) for end in (0, 1))
    scale = table["task"].isin(SCALES)
    table["value"] = [_number(answer) if is_scale else math.nan for answer, is_scale in zip(table["answer"], scale)]
    exclude(answers, scale & ~table["value"].between(low, high), "cleaning", "not a number on the scale")
    table = answers.table
    # Answer sheets may name the chosen sound as the answer.
    chosen = table["task"].isin(["ab", "abx"]) & table["answer"].isin(answers.key.index)
    table.loc[chosen, "stimulus_id"] = table.loc[chosen, "answer"]
    for name in KEY_FACTS:
        table.loc[chosen, name] = table.loc[chosen, "stimulus_id"].map(answers.key[name])
    table.loc[chosen, "answer"] = "preferred"
    said = [_class(answers.study, *row) for row in zip(table["task"], table["trial_id"], table["answer"])]
    table["answer"] = pd.Series(said, index=table.index, dtype=str)
    undecided = table["answer"].str.fullmatch(r"no[ _]preference|none|tie|equal", case=False)
    lost = (table["stimulus_id"] == "") & ~((table["task"] == "ab") & undecided)
    exclude(answers, lost, "cleaning", "which sound was meant is not said")
    answers.table = answers.table.reindex(columns=list(TIDY_COLUMNS))


def _class(study: Study | None, task: str, trial_id: str, answer: str) -> str:
    """The class chosen: webMUSHRA stores the number of the choice, from 1."""
    if task != "simulate" or study is None or not answer.isdecimal():
        return answer
    choices = next((trial.choices for trial in study.trials if trial.trial_id == trial_id), ())
    return choices[int(answer) - 1] if answer not in choices and 1 <= int(answer) <= len(choices) else answer


def _number(text: str) -> float:
    """A score; Excel in some languages writes 3,5."""
    try:
        return float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return math.nan


def keep_one_upload(answers: Answers) -> None:
    """Of a session that was handed in several times, the first upload with the most answers counts."""
    table = answers.table
    session = ["task", "session_id"]
    repetition = table.groupby(["file", *session, "cell"], sort=False).cumcount().astype(str)
    upload = table["file"] + " " + table["part"] + " " + repetition
    reasons = pd.Series("", index=table.index)
    for (_, name), rows in table.groupby(session, sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        uploads = [part for _, part in rows.groupby(upload[rows.index], sort=False)]
        if len(uploads) == 1 or not rows["cell"].duplicated().any():
            continue
        kept = max(uploads, key=len)  # the first of the longest
        answered = dict(zip(kept["cell"], _content(kept)))
        for part in uploads:
            if part is not kept:
                same = all(answered.get(cell) == answer for cell, answer in zip(part["cell"], _content(part)))
                what = "the same answers handed in again" if same else "other answers of the same session"
                reasons[part.index] = what
                if not same:
                    answers.notes.append(
                        f"Session {name} was handed in with different answers; the first complete counts"
                    )
    exclude(answers, reasons != "", "cleaning", reasons)


def _content(rows: pd.DataFrame) -> list[tuple]:
    said = rows["answer"].where(rows["value"].isna(), rows["value"].astype(str))
    return list(zip(rows["stimulus_id"], said))


def expected_answers(answers: Answers, task: str) -> int:
    """How many answers a complete session gives, by the study, else by the session with the most."""
    study = answers.study
    if study and study.task == task:
        scale = task in SCALES
        counts = [
            sum(
                (len(shown.stimuli) if scale else 1)
                for shown in session
                if study.trial(shown.trial_id).kind != "practice"
            )
            for session in study.sessions
        ]
        return min(counts)
    return int(answers.table[answers.table["task"] == task].groupby("session_id")["cell"].nunique().max())


def keep_complete(answers: Answers) -> None:
    """Leaves out sessions with fewer answers than a complete one has."""
    table = answers.table
    given = table.groupby(["task", "session_id"])["cell"].transform("nunique")
    wanted = table["task"].map({task: expected_answers(answers, task) for task in table["task"].unique()})
    exclude(answers, given < wanted, "cleaning", "session incomplete")


def settle_repeats(answers: Answers, repeat: Repeat) -> None:
    """Several sessions under one participant code."""
    table = answers.table
    people = ["task", "participant"]
    number = table.groupby(people, sort=False)["session_id"].transform(lambda column: pd.factorize(column)[0])
    number = pd.Series(number, table.index)
    again = number > 0
    if not again.any():
        return
    names = ", ".join(sorted(table.loc[again, "participant"].unique()))
    meaning = {"first": "the first counts", "keep": "all count, as if of different people", "mean": "averaged"}[repeat]
    answers.notes.append(f"Participant codes with several sessions ({meaning}): {names}")
    if repeat == "first":
        exclude(answers, again, "cleaning", "another session of the same participant")
    elif repeat == "keep":
        table.loc[again, "participant"] += " (" + (number[again] + 1).astype(str) + ")"
    else:
        scale = table["task"].isin(SCALES)
        table["value"] = table.groupby([*people, "cell"])["value"].transform("mean")
        answers.table = pd.DataFrame(table[~(scale & table.duplicated([*people, "cell"]))]).reset_index(drop=True)
