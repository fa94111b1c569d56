"""What cleaning keeps of several uploads, sessions and missing answers, and what it lists as left out."""

import json

import listening_simulation as simulated
import pandas as pd
import pytest
from listening_simulation import FIRST_SCORES as SCORES
from listening_simulation import page, payload, values

from audiointerp.listening.analysis.answers import load


@pytest.fixture
def key(tmp_path):
    return simulated.write_key(tmp_path / "private", simulated.study())


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_what_is_no_score_is_listed_with_its_place(tmp_path, key):
    path = simulated.write_csv(
        tmp_path / "a.csv", [*page(scores=("6", "good", " NA ")), *page("b", trial="t_practice_1")]
    )
    found = load([path], key)
    assert found.table.empty
    assert found.exclusions["line"].tolist() == ["5", "6", "7", "4", "2", "3"]
    assert found.exclusions["reason"].tolist() == ["practice"] * 3 + ["no answer"] + ["not a number on the scale"] * 2


def test_the_same_upload_twice_counts_once(tmp_path, key):
    first, again = (simulated.write_csv(tmp_path / name, page()) for name in ("a.csv", "b.csv"))
    found = load([first, again], key)
    assert values(found) == SCORES and len(found.table) == 3
    assert set(found.exclusions["reason"]) == {"the same answers handed in again"} and not found.notes
    # Written "5" here and "5.0" there, the answer is the same; naming a file twice is not handing it in twice.
    other = simulated.write_csv(tmp_path / "c.csv", page(scores=("5.0", "2.0", "3")))
    assert not load([first, other], key).notes and load([first, first], key).exclusions.empty


def test_of_different_uploads_the_first_complete_one_counts(tmp_path, key):
    partial = simulated.write_csv(tmp_path / "a.csv", page(scores=(1, 1, "")))
    complete = simulated.write_csv(tmp_path / "b.csv", page())
    later = simulated.write_csv(tmp_path / "c.csv", page(scores=(4, 4, 4)))
    found = load([partial, complete, later], key)
    assert values(found) == SCORES and set(found.table["file"]) == {str(complete)}
    assert found.exclusions["reason"].value_counts()["other answers of the same session"] == 5
    assert any("Session a" in note for note in found.notes)


def test_an_upload_repeated_within_one_file(tmp_path, key):
    lines = [payload(), payload(), payload("u2", (1, 1, 1), "p2")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    found = load([write(tmp_path / "sessions.jsonl", text)], key)
    assert len(found.table) == 6 and (found.exclusions["reason"] == "the same answers handed in again").sum() == 3


def test_parts_of_a_session_in_two_files_belong_together(tmp_path, key):
    rows = page()
    files = [simulated.write_csv(tmp_path / "a.csv", rows[:1]), simulated.write_csv(tmp_path / "b.csv", rows[1:])]
    found = load(files, key)
    assert values(found) == SCORES and found.exclusions.empty


@pytest.mark.parametrize(
    ("repeat", "people", "scores"),
    [("first", ["p1"], [5, 2, 3]), ("keep", ["p1", "p1 (2)"], [5, 2, 3, 4, 1, 3]), ("mean", ["p1"], [4.5, 1.5, 3])],
)
def test_one_participant_in_two_sessions(tmp_path, key, repeat, people, scores):
    rows = [*page("a", code="p1"), *page("b", (4, 1, 3), code="p1")]
    found = load([simulated.write_csv(tmp_path / "a.csv", rows)], key, repeat=repeat)
    assert sorted(found.table["participant"].unique()) == people and found.table["value"].tolist() == scores
    assert any("p1" in note for note in found.notes)
    assert len(found.exclusions) == (3 if repeat == "first" else 0)


def test_incomplete_sessions_are_kept_unless_asked(tmp_path, key):
    rows = simulated.mos_rows()
    rows[0]["answer"] = "NA"
    path = simulated.write_csv(tmp_path / "a.csv", rows)
    assert load([path], key).table["session_id"].nunique() == simulated.LISTENERS
    found = load([path], key, complete_only=True)
    assert "session_00" not in set(found.table["session_id"])
    assert (found.exclusions["reason"] == "session incomplete").sum() == 19
    # Without the study, the fullest session says what is complete.
    (key.parent / "study.json").unlink()
    assert load([path], key, complete_only=True).table.equals(found.table)


def test_a_file_without_answers_is_a_note(tmp_path, key):
    files = [simulated.write_csv(tmp_path / "a.csv", page()), simulated.write_csv(tmp_path / "b.csv", [])]
    assert load(files, key).notes == ["b.csv holds no answers"]


def test_practice_and_catch_are_told_by_the_study_or_the_role(tmp_path):
    rows = [*simulated.key_rows(), {"stimulus_id": "s_c", "item_id": "x", "role": "catch", "method": ""}]
    key = tmp_path / "key.csv"
    pd.DataFrame(rows).to_csv(key, index=False)
    path = simulated.write_csv(
        tmp_path / "a.csv", [*page(), simulated.answer(stimulus_id="s_c", trial_id="t_9", answer=1)]
    )
    assert load([path], key).table["kind"].tolist() == ["trial"] * 3 + ["catch"]
