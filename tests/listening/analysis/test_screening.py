"""Screening rules, each at its limit, and what they leave out."""

import json

import listening_simulation as simulated
import pandas as pd
import pytest

from audiointerp.listening.analysis.answers import load
from audiointerp.listening.analysis.screening import RULES, check, is_mushra, screen

ITEMS = 20  # of which 15 % are 3


def rating_answers(tmp_path, scores):
    """Answers to ITEMS pages; scores(listener, item) -> {sound: score}, for 4 listeners."""
    about = {"reference": ("reference", ""), "mid": ("anchor", "low70"), "low": ("anchor", "low35")}
    rows = [
        {"stimulus_id": f"s{item}_{name}", "item_id": f"c_{item}", "role": role, "method": method}
        for item in range(ITEMS)
        for name, (role, method) in {**about, "piq": ("interpretation", "piq")}.items()
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "key.csv", index=False)
    answers = [
        simulated.answer(
            task="rating", session_id=who, trial_id=f"t_{item}", stimulus_id=f"s{item}_{name}", answer=score
        )
        for who in "abcd"
        for item in range(ITEMS)
        for name, score in {"reference": 100, "mid": 50, "low": 20, "piq": 60, **scores(who, item)}.items()
    ]
    return load([simulated.write_csv(tmp_path / "a.csv", answers)], tmp_path / "key.csv")


def found_by(answers, name):
    return next(result for result in check(answers) if result.name == name)


def test_hidden_reference_must_be_missed_in_more_than_15_percent(tmp_path):
    missed = {"a": 3, "b": 4, "c": 0, "d": 0}
    answers = rating_answers(tmp_path, lambda who, item: {"reference": 89.9 if item < missed[who] else 90})
    assert found_by(answers, "reference").listeners == ("b",)


def test_mid_anchor_does_not_count_where_a_quarter_overrate_it(tmp_path):
    # Listener a overrates 4 items of 20, b only one.
    once = rating_answers(tmp_path, lambda who, item: {"mid": 90.1 if who == "a" and item < 4 else 90})
    assert found_by(once, "anchor").listeners == ("a",)
    # With b, half of the listeners overrate the first item: 3 of the 19 left are still more than 15 %.
    both = rating_answers(
        tmp_path, lambda who, item: {"mid": 95 if (who, item) in {("b", 0)} or (who == "a" and item < 4) else 50}
    )
    assert found_by(both, "anchor").listeners == ("a",)
    fewer = rating_answers(tmp_path, lambda who, item: {"mid": 95 if item == 0 or (who == "a" and item < 3) else 50})
    assert found_by(fewer, "anchor").listeners == ()
    everywhere = rating_answers(tmp_path, lambda who, item: {"mid": 95})
    assert "transparent" in found_by(everywhere, "anchor").skipped


def test_untouched_pages_leave_and_a_reference_of_100_everywhere_stays(tmp_path):
    full = {"mid": 100, "low": 100, "piq": 100}
    answers = rating_answers(tmp_path, lambda who, item: full if (who, item) == ("c", 7) else {})
    results = {result.name: result for result in screen(answers)}
    assert results["untouched"].flagged.sum() == 4 and results["untouched"].listeners == ("c",)
    assert len(answers.table) == 4 * 4 * ITEMS - 4 and len(answers.exclusions) == 4
    assert set(answers.exclusions["reason"].str.split(":").str[0]) == {"untouched"}
    assert results["reference"].listeners == () and results["reference"].applied


def test_mushra_needs_reference_and_both_anchors(tmp_path):
    table = rating_answers(tmp_path, lambda who, item: {}).table
    assert is_mushra(table)
    assert not is_mushra(table[table["role"] != "reference"]) and not is_mushra(table[table["method"] != "low70"])


@pytest.fixture
def opinions(tmp_path):
    key = simulated.write_key(tmp_path / "private", simulated.study())
    settings = {"catch_answers": {"t_8": "1"}}
    (tmp_path / "private" / "settings.json").write_text(json.dumps(settings))

    def make(change):
        rows = simulated.mos_rows()
        for row in rows:
            change(row)
        return load([simulated.write_csv(tmp_path / "a.csv", rows)], key)

    return make


def test_opinion_scores_are_screened_only_if_asked(opinions):
    def change(row):
        if row["session_id"] == "session_04":
            row["heard_fraction"] = 0.949 if row["trial_id"] == "t_3" else 1
        if row["session_id"] == "session_05":
            row["answer"] = 3

    answers = opinions(change)
    results = {result.name: result for result in screen(answers)}
    assert answers.exclusions.empty and not any(result.applied for result in results.values())
    assert results["heard"].listeners == ("p04",) and "p05" in results["variance"].listeners
    screen(answers, ["heard", "variance"])
    assert "p04" not in set(answers.table["participant"]) and "p05" not in set(answers.table["participant"])
    assert "p06" in set(answers.table["participant"])


def test_pages_faster_than_their_sounds(opinions):
    # The first items have a mixture and three sounds of a second each, the others one sound less.
    answers = opinions(lambda row: row.update(answer_ms=3999 if row["session_id"] == "session_01" else 4000))
    rows = answers.table[found_by(answers, "fast").flagged]
    assert set(rows["session_id"]) == {"session_01"} and set(rows["group"]) == {"l2i_site"}


def test_outliers_of_a_sound(opinions):
    def change(row):
        if row["stimulus_id"] == "s_4piq":
            row["answer"] = 1 if row["session_id"] == "session_02" else 5

    answers = opinions(change)
    rows = answers.table[found_by(answers, "outlier").flagged]
    assert ("p02", "s_4piq") in set(zip(rows["participant"], rows["stimulus_id"]))
    assert not ((rows["stimulus_id"] == "s_4piq") & (rows["participant"] != "p02")).any()


def test_catch_items_need_the_answer_of_the_settings(opinions, tmp_path):
    key = tmp_path / "private" / "key.csv"
    table = pd.read_csv(key, dtype=str, keep_default_na=False)
    catch = {**table.iloc[0], "stimulus_id": "s_catch", "item_id": "c_0", "role": "catch"}
    pd.concat([table, pd.DataFrame([catch])]).to_csv(key, index=False)
    rows = simulated.mos_rows()
    for listener, score in enumerate((1, 2, 5)):
        who = {"session_id": f"session_{listener:02d}", "participant_code": f"p{listener:02d}"}
        rows.append(simulated.answer(**who, trial_id="t_8", stimulus_id="s_catch", answer=score))
    answers = load([simulated.write_csv(tmp_path / "a.csv", rows)], key)
    assert found_by(answers, "catch").listeners == ("p01", "p02")
    answers.settings.clear()
    assert "settings.json" in found_by(answers, "catch").skipped


def test_rules_that_cannot_be_checked_say_why(opinions):
    answers = opinions(lambda row: row.update(heard_fraction="", answer_ms=""))
    skipped = {result.name: result.skipped for result in check(answers, list(RULES))}
    assert {name for name, why in skipped.items() if why} == {
        "reference",
        "anchor",
        "untouched",
        "heard",
        "catch",
        "fast",
        *("gold", "headphones", "level", "away"),
    }
    answers.study = None
    assert "study.json" in found_by(answers, "fast").skipped


def test_unknown_rules_are_refused(opinions):
    with pytest.raises(ValueError, match="'mood'"):
        screen(opinions(lambda row: None), ["mood"])


def sessions(tmp_path, rows, settings=None):
    key = simulated.write_key(tmp_path / "private", simulated.study())
    (key.parent / "settings.json").write_text(json.dumps(settings or {}))
    return load([simulated.write_csv(tmp_path / "a.csv", rows)], key)


def test_gold_items_are_screened_and_counted_in_no_mean(tmp_path):
    known = {"t_6": [1, 2], "t_7": [1, 2]}
    rows = []
    for who, scores in {"a": (1, 2, 1, 2), "b": (1, 2, 1, 5), "c": (1, 2, 4, 5)}.items():
        names = [("t_6", "s_6piq"), ("t_6", "s_6l2i2"), ("t_7", "s_7piq"), ("t_7", "s_7l2i2")]
        rows += [
            simulated.answer(session_id=who, trial_id=trial, stimulus_id=name, answer=score)
            for (trial, name), score in zip(names, scores)
        ]
    answers = sessions(tmp_path, rows, {"gold_answers": known})
    assert found_by(answers, "gold").listeners == ("c",)  # b has three of four right, which is 75 %
    assert found_by(sessions(tmp_path, rows), "gold").skipped
    pair = [simulated.answer(task="ab", session_id=who, trial_id="t_6", stimulus_id=name, answer="preferred")
            for who, name in (("a", "s_6piq"), ("b", "s_6l2i2"))]  # fmt: skip
    assert found_by(sessions(tmp_path, pair, {"gold_answers": {"t_6": "s_6piq"}}), "gold").listeners == ("b",)


def test_checks_and_left_pages_are_screened_only_if_asked(tmp_path):
    about = {
        "a": {"headphone_check": "6/6 in attempt 1: passed", "level_check": "1/1 in attempt 2: passed", "n_away": 0},
        "b": {"headphone_check": "3/6 in attempt 2: failed", "level_check": "1/1 in attempt 1: passed", "n_away": 1},
        "c": {"headphone_check": "5/6 in attempt 1: passed", "level_check": "0/1 in attempt 3: failed", "n_away": 0},
    }
    rows = [row for who, said in about.items() for row in simulated.page(who, **said)]
    answers = sessions(tmp_path, rows)
    found = {name: found_by(answers, name).listeners for name in ("headphones", "level", "away")}
    assert found == {"headphones": ("b",), "level": ("c",), "away": ("b",)}
    screen(answers)
    assert answers.table["session_id"].nunique() == 3
    screen(answers, ["headphones", "level"])
    assert set(answers.table["session_id"]) == {"a"}
    plain = sessions(tmp_path, simulated.page("a"))
    assert all(found_by(plain, name).skipped for name in ("headphones", "level", "away"))
