"""Result files and the key -> one tidy table of answers, cleaned; every row left out is listed with its reason.

Missing answers and answers outside the scale are never replaced by other values. This module decides which of several
sessions or uploads of a participant count; `screening` decides which listeners are reliable.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from audiointerp.listening import study as studies
from audiointerp.listening.analysis.formats import ROW_COLUMNS, is_missing, read_rows
from audiointerp.listening.study import KEY_COLUMNS, QUESTION, Study
from audiointerp.results.shapes import read_json
from audiointerp.results.writing import restored

Repeat = Literal["first", "keep", "mean"]

logger = logging.getLogger(__name__)

ALL_ITEMS = "all items"
SCALES = {**studies.SCALES, "bs1116": (1.0, 5.0)}
TASKS = (*SCALES, "ab", "abx", "simulate")
KEY_FACTS = ("item_id", "role", "method", "group", "pred_class", "true_class")
TIDY_COLUMNS = (*ROW_COLUMNS, "participant", "cell", "kind", "value", *KEY_FACTS, "place", "item_place")
LISTENER_COLUMNS = (
    *("participant", "session_id", "transducer", "headphone_check", "level_check", "n_away", "away_ms"),
    *("sample_rate_hz", "user_agent"),
)
EXCLUSION_COLUMNS = (
    *("stage", "reason", "file", "line", "task", "session_id", "participant", "trial_id", "stimulus_id", "answer"),
)

__all__ = [
    "ALL_ITEMS",
    "EXCLUSION_COLUMNS",
    "KEY_FACTS",
    "LISTENER_COLUMNS",
    "SCALES",
    "TIDY_COLUMNS",
    "Answers",
    "Repeat",
    "conditions_of",
    "exclude",
    "expected_answers",
    "find_study",
    "groups",
    "keep_complete",
    "keep_one_upload",
    "load",
    "parse",
    "places",
    "read_key",
    "settle_repeats",
    "with_conditions",
]


def read_key(path: str | Path) -> pd.DataFrame:
    """Reads key.csv, all columns as text, indexed by stimulus_id.

    Raises:
        ValueError: if it cannot be read, lacks a column or names a sound twice.
    """
    try:
        key = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a key ({' '.join(str(error).split())})") from None
    missing = [name for name in ("stimulus_id", "item_id", "role", "method") if name not in key]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; give the key.csv that the export wrote to private/")
    twice = key.loc[key["stimulus_id"].duplicated(), "stimulus_id"].tolist()
    if twice:
        raise ValueError(f"{path}: {twice[0]} is listed twice; give the key.csv as the export wrote it")
    key = key.map(restored)
    return key.reindex(columns=list(KEY_COLUMNS), fill_value="").set_index("stimulus_id", drop=False)


def find_study(key: Path) -> Path | None:
    """study.json of the export to which `key` belongs, searched in the key's folder, ../public and ..; or None."""
    folders = (key.parent, key.parent.parent / "public", key.parent.parent)
    return next((path for folder in folders if (path := folder / "study.json").is_file()), None)


def load(
    paths: Sequence[str | Path],
    key: str | Path,
    study: str | Path | None = None,
    *,
    repeat: Repeat = "first",
    complete_only: bool = False,
    leave_out: Sequence[str] = (),
) -> Answers:
    """Reads and cleans result files.

    Args:
        paths: result files, any mix of formats, of one test.
        key: the experimenter's key.csv.
        study: study.json; by default searched near the key. A/B and ABX need it.
        repeat: how several sessions of one participant code count: only the first; all, as if from different people;
            or, for scales, the mean of each score.
        complete_only: leave out sessions in which a question is unanswered.
        leave_out: answers about the listener, such as "hearing=yes", with which a session is left out.

    Raises:
        ValueError: if no file is left to analyse. A file that cannot be read, belongs to another test or names sounds
            that the key does not have is set aside and named in the notes, as long as others are left.
    """
    if repeat not in get_args(Repeat):
        raise ValueError(f"repeat is {repeat!r}; it must be one of {', '.join(get_args(Repeat))}")
    if not paths:
        raise ValueError("no file of answers was given; name at least one")
    table_of_key, where = read_key(key), Path(study) if study else find_study(Path(key))
    files = list(dict.fromkeys(Path(path) for path in paths))
    found = Answers(
        table=pd.DataFrame(),
        exclusions=pd.DataFrame(columns=list(EXCLUSION_COLUMNS)),
        notes=[],
        key=table_of_key,
        study=Study.read(where) if where else None,
        settings=_settings(Path(key).with_name("settings.json")),
    )
    _read(found, files)
    _check_test(found)
    _join(found)
    found.received = int(found.table[["test_id", "session_id"]].drop_duplicates().shape[0])
    found.listeners = _listeners(found.table)
    parse(found)
    keep_one_upload(found)
    if complete_only:
        keep_complete(found)
    for wanted in leave_out:
        _leave_out(found, wanted)
    settle_repeats(found, repeat)
    _rank(found)
    return found


def _read(answers: Answers, files: Sequence[Path]) -> None:
    """Reads every file; one that cannot be read is set aside, unless no other is left."""
    tables = []
    for path in files:
        try:
            rows = read_rows(path)
        except ValueError as error:
            if len(files) == 1:
                raise
            answers.set_aside[path] = str(error)
            continue
        if rows.empty:
            answers.notes.append(f"{path.name} holds no answers")
        answers.files.append(path)
        tables.append(rows)
    if not tables:
        raise ValueError(next(iter(answers.set_aside.values())))
    answers.table = pd.concat(tables, ignore_index=True).fillna("")
    for reason in answers.set_aside.values():
        _tell(answers, reason)


def _set_aside(answers: Answers, wrong: pd.Series, why: Callable[[Any], str]) -> None:
    """Sets aside every file with a marked row; `why` gives the reason for its first one.

    Raises:
        ValueError: with the first reason, if no other file has answers.
    """
    first = pd.DataFrame(answers.table[wrong]).drop_duplicates("file")
    rows: Iterable[Any] = first.itertuples()  # whose columns are attributes
    reasons = {Path(row.file): f"{row.file}, line {row.line}: {why(row)}" for row in rows}
    if not reasons:
        return
    left = ~answers.table["file"].isin(first["file"])
    if not left.any():
        raise ValueError(next(iter({**answers.set_aside, **reasons}.values())))
    answers.table = pd.DataFrame(answers.table[left]).reset_index(drop=True)
    answers.files = [path for path in answers.files if path not in reasons]
    answers.set_aside |= reasons
    for reason in reasons.values():
        _tell(answers, reason)


def _tell(answers: Answers, reason: str) -> None:
    answers.notes.append(f"A file was set aside: {reason}")
    logger.warning("set aside, the other files are analysed: %s", reason)


def _listeners(table: pd.DataFrame) -> pd.DataFrame:
    """What each session says about its listener: one row per session, LISTENER_COLUMNS and the questions' answers."""
    names = [*LISTENER_COLUMNS, *(name for name in table if str(name).startswith(QUESTION))]
    sessions = [rows for _, rows in table.groupby("session_id", sort=True)]
    # The first value that is not empty: of several uploads of a session, one may lack the questions.
    said = [{name: next((value for value in rows[name] if value), "") for name in names} for rows in sessions]
    pages = [rows.drop_duplicates(["trial_id", "started_utc"]) for rows in sessions]
    for row, of_pages in zip(said, pages):
        for name in ("n_away", "away_ms"):
            counts = pd.Series(pd.to_numeric(of_pages[name], errors="coerce")).dropna()
            row[name] = str(int(counts.sum())) if len(counts) else ""
    return pd.DataFrame(said, columns=names, dtype=str)


def _leave_out(answers: Answers, wanted: str) -> None:
    """Leaves out the sessions whose listener gave one answer: "hearing=yes" or "transducer=loudspeakers"."""
    name, _, said = wanted.partition("=")
    column = name if name in LISTENER_COLUMNS else f"{QUESTION}{name}"
    if column not in answers.listeners:
        asked = [str(each).removeprefix(QUESTION) for each in answers.listeners if str(each).startswith(QUESTION)]
        raise ValueError(f"leave_out is {wanted!r}; give QUESTION=ANSWER, where the questions are {', '.join(asked)}")
    who = answers.listeners.loc[answers.listeners[column] == said, "session_id"]
    exclude(answers, answers.table["session_id"].isin(who), "cleaning", f"said {name}: {said}")


def places(answers: Answers, table: pd.DataFrame) -> pd.Series:
    """The place of each row's method in the run; methods that settings.json does not list come after."""
    order = list((answers.settings.get("order") or {}).get("methods", []))
    order = [name for name in dict.fromkeys([*order, *answers.key["method"]]) if name]
    return table["method"].map({name: place for place, name in enumerate(order)}).fillna(len(order)).astype(int)


def _rank(answers: Answers) -> None:
    """Adds the places of item and method in the run, by which the analysis sorts, whichever file was read first."""
    trials = {} if answers.study is None else _items_of_trials(answers)
    order = list((answers.settings.get("order") or {}).get("items", trials.values()))
    items = {name: place for place, name in enumerate(dict.fromkeys([*order, *answers.key["item_id"]]))}
    ranks = answers.table["item_id"].map(items).fillna(len(items)).astype(int)
    answers.table = answers.table.assign(place=places(answers, answers.table), item_place=ranks)


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not the settings of an export ({error}); restore or delete it") from None


def _check_test(answers: Answers) -> None:
    table, study = answers.table, answers.study
    expected = study.test_id if study else next((name for name in table["test_id"] if name), "")
    table.loc[table["test_id"] == "", "test_id"] = expected
    whose = "the study" if study else "the first file"
    _set_aside(
        answers,
        table["test_id"] != expected,
        lambda row: f"answers of the test {row.test_id!r}, but {whose} is {expected!r}; analyse each test separately",
    )
    table = answers.table
    if study:
        # The task is not known from webMUSHRA's page types: choosing a class is a Likert page, too.
        table.loc[(table["task"] == "") | ((table["task"] == "mos") & (study.task == "simulate")), "task"] = study.task
    _set_aside(
        answers, ~table["task"].isin(TASKS), lambda row: f"task {row.task!r}; it must be one of {', '.join(TASKS)}"
    )
    if (answers.table["inferred"] == "yes").any():
        answers.notes.append(
            "Some files name neither session nor participant: a new session was assumed wherever a question recurs"
        )


def _join(answers: Answers) -> None:
    """Adds columns from the key and the study; resolves webMUSHRA's own names of references and anchors."""
    table, key = answers.table, answers.key
    table["kind"] = _kinds(answers)
    item_of = _items_of_trials(answers)
    special = table[~table["stimulus_id"].isin(key.index) & table["stimulus_id"].str.fullmatch(r"reference|anchor.*")]
    for index, trial, name in zip(special.index, special["trial_id"], special["stimulus_id"]):
        table.loc[index, "stimulus_id"] = _special(answers, trial, item_of.get(trial, ""), name)
    unknown = ~table["stimulus_id"].isin(key.index) & (table["stimulus_id"] != "") & (table["kind"] != "practice")
    _set_aside(answers, unknown, lambda row: f"the key has no sound {row.stimulus_id!r}; give the key.csv of this test")
    table = answers.table
    for name in KEY_FACTS:
        table[name] = table["stimulus_id"].map(key[name]).fillna("")
    # An answer without a preference names no sound, so the item is found by the trial.
    blank = table["item_id"] == ""
    groups = key.drop_duplicates("item_id").set_index("item_id")["group"]
    table.loc[blank, "item_id"] = table.loc[blank, "trial_id"].map(item_of).fillna("")
    table.loc[blank, "group"] = table.loc[blank, "item_id"].map(groups).fillna("")
    sound = np.where(table["task"].isin(SCALES), table["stimulus_id"], "")
    table["cell"] = (table["trial_id"] + " " + sound).str.strip()
    code = table["participant_code"]
    table["participant"] = code.where(code != "", table["session_id"])


def _kinds(answers: Answers) -> pd.Series:
    """Kind of each answer (trial, practice or catch), from the study, otherwise from the role of the sound."""
    table = answers.table
    roles = table["stimulus_id"].map(answers.key["role"])
    kinds = roles.where(roles.isin(["practice", "catch"]), "trial")
    kinds[table["trial_id"].str.fullmatch(r"(t_)?practice\w*") | (table["stimulus_id"] == "practice")] = "practice"
    if not answers.study:
        return kinds
    return table["trial_id"].map({trial.trial_id: trial.kind for trial in answers.study.trials}).fillna(kinds)


def _items_of_trials(answers: Answers) -> dict[str, str]:
    """trial_id -> item_id, from the study, otherwise from the judged sounds of the trial."""
    items: dict[str, str] = dict(zip(answers.key.index, answers.key["item_id"]))
    found = {
        trial: items[name]
        for trial, name in zip(answers.table["trial_id"], answers.table["stimulus_id"])
        if name in items
    }
    for trial in answers.study.trials if answers.study else ():
        known = [items[name] for name in trial.stimuli if name in items]
        found |= dict([(trial.trial_id, known[0])] if known else [])
    return found


def _special(answers: Answers, trial: str, item: str, name: str) -> str:
    """Blind name of a reference or anchor for which webMUSHRA has its own name; that name if no sound fits."""
    if name == "reference" and answers.study:
        contexts = {each.trial_id: each.context for each in answers.study.trials}
        return contexts.get(trial) or name
    cutoff = re.search(r"\d+", name)
    for row in answers.key.to_dict("records"):
        is_it = name == "reference" or (bool(cutoff) and cutoff[0] in row["method"])
        if row["item_id"] == item and name.startswith(row["role"]) and row["role"] and is_it:
            return row["stimulus_id"]
    return name


@dataclass
class Answers:
    """The answers of a test after cleaning.

    Attributes:
        table: one answer per row, TIDY_COLUMNS: `value` is the score of a scale task, otherwise NaN; `cell` identifies
            the question (scales: trial and sound; other tasks: trial); rows of catch trials are included.
        exclusions: rows left out, EXCLUSION_COLUMNS.
        notes: remarks for readers of the report.
        key: stimulus_id -> KEY_COLUMNS.
        study: the study, if study.json was found.
        settings: how the test was made, if settings.json is in the key's folder.
        received: number of sessions in the files, with or without answers.
        files: the files that were read.
        set_aside: files that were not used, and the reason.
        listeners: one row per session: LISTENER_COLUMNS and the answers to the questions about the listener (q_...).
    """

    table: pd.DataFrame
    exclusions: pd.DataFrame
    notes: list[str]
    key: pd.DataFrame
    study: Study | None
    received: int = 0
    files: list[Path] = field(default_factory=list)
    set_aside: dict[Path, str] = field(default_factory=dict)
    listeners: pd.DataFrame = field(default_factory=pd.DataFrame)
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
    """Leaves out practice, missing answers and invalid answers; converts scores to numbers."""
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
    exclude(answers, lost, "cleaning", "no sound is named")
    answers.table = answers.table.reindex(columns=list(TIDY_COLUMNS))


def _class(study: Study | None, task: str, trial_id: str, answer: str) -> str:
    """The class chosen; webMUSHRA stores the number of the choice, starting at 1."""
    if task != "simulate" or study is None or not answer.isdecimal():
        return answer
    choices = next((trial.choices for trial in study.trials if trial.trial_id == trial_id), ())
    return choices[int(answer) - 1] if answer not in choices and 1 <= int(answer) <= len(choices) else answer


def _number(text: str) -> float:
    """A score as a number; a decimal comma, which Excel writes in some languages, is accepted."""
    try:
        return float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return math.nan


def keep_one_upload(answers: Answers) -> None:
    """If a session was submitted several times, keeps the first upload with the most answers."""
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
                what = "the same answers submitted again" if same else "other answers of the same session"
                reasons[part.index] = what
                if not same:
                    answers.notes.append(
                        f"Session {name} was submitted with different answers; the first complete upload counts"
                    )
    exclude(answers, reasons != "", "cleaning", reasons)


def _content(rows: pd.DataFrame) -> list[tuple]:
    said = rows["answer"].where(rows["value"].isna(), rows["value"].astype(str))
    return list(zip(rows["stimulus_id"], said))


def expected_answers(answers: Answers, task: str) -> int:
    """Number of answers of a complete session, from the study, otherwise from the session with the most answers."""
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
    """Leaves out sessions with fewer answers than a complete session."""
    table = answers.table
    given = table.groupby(["task", "session_id"])["cell"].transform("nunique")
    wanted = table["task"].map({task: expected_answers(answers, task) for task in table["task"].unique()})
    exclude(answers, given < wanted, "cleaning", "session incomplete")


def settle_repeats(answers: Answers, repeat: Repeat) -> None:
    """Keeps, renames or averages several sessions under one participant code, depending on `repeat`."""
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


def with_conditions(table: pd.DataFrame) -> pd.DataFrame:
    """Adds `condition` (the method, or role and method of other sounds) and `system` (whether a method under test)."""
    system = table["role"].isin(["interpretation", ""])
    other = (table["role"] + " " + table["method"]).str.strip()
    return table.assign(system=system, condition=table["method"].where(system & (table["method"] != ""), other))


def conditions_of(table: pd.DataFrame) -> list[str]:
    """The conditions of a table of `with_conditions`: methods under test in the order of the run, then the others."""
    first = table.drop_duplicates("condition")
    return list(first.sort_values(["system", "place"], ascending=[False, True], kind="stable")["condition"])


def groups(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each group of items with its name; after several groups, all items together."""
    names = list(dict.fromkeys(table["group"]))
    if len(names) > 1:
        yield from ((name or "no group", pd.DataFrame(table[table["group"] == name])) for name in names)
    yield (names[0] or ALL_ITEMS) if len(names) == 1 else ALL_ITEMS, table
