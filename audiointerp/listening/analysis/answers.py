"""Result files and the key -> one tidy table of answers, cleaned; every row left out is listed with its reason.

Nothing is filled in: an answer that was not given, or lies outside its scale, is missing. Which session, upload or
participant counts is decided here; whether a listener can be relied on is `screening`'s business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from audiointerp.listening.analysis.formats import read_rows
from audiointerp.listening.cleaning import (
    EXCLUSION_COLUMNS,
    KEY_FACTS,
    SCALES,
    Answers,
    Repeat,
    keep_complete,
    keep_one_upload,
    parse,
    settle_repeats,
)
from audiointerp.listening.study import KEY_COLUMNS, Study

TASKS = (*SCALES, "ab", "abx", "simulate")

__all__ = ["find_study", "load", "read_key"]


def read_key(path: str | Path) -> pd.DataFrame:
    """key.csv, all text, indexed by stimulus_id.

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
        raise ValueError(f"{path}: {twice[0]} stands there twice; give the key.csv as the export wrote it")
    return key.reindex(columns=list(KEY_COLUMNS), fill_value="").set_index("stimulus_id", drop=False)


def find_study(key: Path) -> Path | None:
    """study.json of the export that `key` belongs to: beside it, or in the folder for participants."""
    folders = (key.parent, key.parent.parent / "public", key.parent.parent)
    return next((path for folder in folders if (path := folder / "study.json").is_file()), None)


def load(
    paths: Sequence[str | Path],
    key: str | Path,
    study: str | Path | None = None,
    *,
    repeat: Repeat = "first",
    complete_only: bool = False,
) -> Answers:
    """Reads and cleans result files.

    Args:
        paths: result files, any mix of formats, of one test.
        key: the experimenter's key.csv.
        study: study.json; by default looked for near the key. A/B and ABX need it.
        repeat: what counts if a participant code has several sessions: the first; all, as if of different people; or,
            on scales, the mean of each score.
        complete_only: leave out sessions in which a question is unanswered.

    Raises:
        ValueError: if files cannot be read, are of another test, or name sounds that the key does not have.
    """
    if repeat not in get_args(Repeat):
        raise ValueError(f"repeat is {repeat!r}; it must be one of {', '.join(get_args(Repeat))}")
    if not paths:
        raise ValueError("no file of answers was given; name at least one")
    table_of_key, where = read_key(key), Path(study) if study else find_study(Path(key))
    files = list(dict.fromkeys(Path(path) for path in paths))
    tables = [read_rows(path) for path in files]
    notes = [f"{path.name} holds no answers" for path, rows in zip(files, tables) if rows.empty]
    found = Answers(
        table=pd.concat(tables, ignore_index=True),
        exclusions=pd.DataFrame(columns=list(EXCLUSION_COLUMNS)),
        notes=notes,
        key=table_of_key,
        study=Study.read(where) if where else None,
        files=files,
        settings=_settings(Path(key).with_name("settings.json")),
    )
    found.received = int(found.table[["test_id", "session_id"]].drop_duplicates().shape[0])
    _check_test(found)
    _join(found)
    parse(found)
    keep_one_upload(found)
    if complete_only:
        keep_complete(found)
    settle_repeats(found, repeat)
    return found


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not the settings of an export ({error}); restore or delete it") from None


def _check_test(answers: Answers) -> None:
    table, study = answers.table, answers.study
    expected = study.test_id if study else next((name for name in table["test_id"] if name), "")
    table.loc[table["test_id"] == "", "test_id"] = expected
    other = table[table["test_id"] != expected]
    if len(other):
        row = other.iloc[0]
        raise ValueError(
            f"{row.file}, line {row.line}: answers of the test {row.test_id!r}, but "
            f"{'the study' if study else 'the first file'} is {expected!r}; analyse each test by itself"
        )
    if study:
        # webMUSHRA's page types do not say what is asked: choosing a class is a Likert page there.
        table.loc[(table["task"] == "") | ((table["task"] == "mos") & (study.task == "simulate")), "task"] = study.task
    unknown = table[~table["task"].isin(TASKS)]
    if len(unknown):
        row = unknown.iloc[0]
        raise ValueError(f"{row.file}, line {row.line}: task {row.task!r}; it must be one of {', '.join(TASKS)}")
    if (table["inferred"] == "yes").any():
        answers.notes.append(
            "Files that name neither session nor participant: session inferred where a question recurs"
        )


def _join(answers: Answers) -> None:
    """Adds what the key and the study say; names that webMUSHRA gives to references and anchors are resolved."""
    table, key = answers.table, answers.key
    table["kind"] = _kinds(answers)
    item_of = _items_of_trials(answers)
    special = table[~table["stimulus_id"].isin(key.index) & table["stimulus_id"].str.fullmatch(r"reference|anchor.*")]
    for index, trial, name in zip(special.index, special["trial_id"], special["stimulus_id"]):
        table.loc[index, "stimulus_id"] = _special(answers, trial, item_of.get(trial, ""), name)
    unknown = table[
        ~table["stimulus_id"].isin(key.index) & (table["stimulus_id"] != "") & (table["kind"] != "practice")
    ]
    if len(unknown):
        row = unknown.iloc[0]
        raise ValueError(
            f"{row.file}, line {row.line}: the key has no sound {row.stimulus_id!r}; give the key.csv of this test"
        )
    for name in KEY_FACTS:
        table[name] = table["stimulus_id"].map(key[name]).fillna("")
    # Who prefers neither sound names none, but the trial is about an item.
    blank = table["item_id"] == ""
    groups = key.drop_duplicates("item_id").set_index("item_id")["group"]
    table.loc[blank, "item_id"] = table.loc[blank, "trial_id"].map(item_of).fillna("")
    table.loc[blank, "group"] = table.loc[blank, "item_id"].map(groups).fillna("")
    sound = np.where(table["task"].isin(SCALES), table["stimulus_id"], "")
    table["cell"] = (table["trial_id"] + " " + sound).str.strip()
    code = table["participant_code"]
    table["participant"] = code.where(code != "", table["session_id"])


def _kinds(answers: Answers) -> pd.Series:
    """trial, practice or catch: by the study, else by the role of the sound."""
    table = answers.table
    roles = table["stimulus_id"].map(answers.key["role"])
    kinds = roles.where(roles.isin(["practice", "catch"]), "trial")
    kinds[table["trial_id"].str.fullmatch(r"(t_)?practice\w*") | (table["stimulus_id"] == "practice")] = "practice"
    if not answers.study:
        return kinds
    return table["trial_id"].map({trial.trial_id: trial.kind for trial in answers.study.trials}).fillna(kinds)


def _items_of_trials(answers: Answers) -> dict[str, str]:
    """trial_id -> item_id, by the study, else by the sounds that were judged in it."""
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
    """Blind name of the reference or of an anchor that webMUSHRA calls by what it is; the name itself if none fits."""
    if name == "reference" and answers.study:
        contexts = {each.trial_id: each.context for each in answers.study.trials}
        return contexts.get(trial) or name
    cutoff = re.search(r"\d+", name)
    for row in answers.key.to_dict("records"):
        is_it = name == "reference" or (bool(cutoff) and cutoff[0] in row["method"])
        if row["item_id"] == item and name.startswith(row["role"]) and row["role"] and is_it:
            return row["stimulus_id"]
    return name
