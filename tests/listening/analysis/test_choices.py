"""A/B, ABX and model simulation: numbers by hand and by SciPy, and their reports."""

import json

import listening_simulation as simulated
import numpy as np
import pytest
from scipy import stats

from audiointerp.listening.analysis.analyse import analyse
from audiointerp.listening.analysis.answers import load, with_conditions
from audiointerp.listening.analysis.choices import abx_tables, preference_tables, simulation_tables

NAMES = {f"s_{item}{short}": name for short, name in (("l2i2", "l2i_2"), ("piq", "piq")) for item in range(8)}


def row_of(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def choice_table(tmp_path, task, said):
    """said: (listener, trial, sound chosen or "") -> the table."""
    key = simulated.write_key(tmp_path / "private", simulated.study(task))
    rows = [
        simulated.answer(
            task=task, session_id=who, trial_id=trial, stimulus_id=name, answer="preferred" if name else "no preference"
        )
        for who, trial, name in said
    ]
    found = load([simulated.write_csv(tmp_path / "a.csv", rows)], key)
    return with_conditions(found.table), found.study


def test_preferences_count_listeners_by_majority(tmp_path):
    said = []
    for listener in range(22):
        first, second = ("piq", "l2i2") if listener < 16 else ("l2i2", "piq")
        said += [(f"p{listener:02d}", "t_4", f"s_4{first}"), (f"p{listener:02d}", "t_5", f"s_5{first}")]
        said += [(f"p{listener:02d}", "t_6", f"s_6{second}")]
    said += [("q", "t_4", "s_4piq"), ("q", "t_5", "s_5l2i2"), ("q", "t_6", "")]
    table, study = choice_table(tmp_path, "ab", said)
    row = preference_tables(table, study, NAMES)["preferences"].iloc[-1]
    assert (row["a"], row["b"]) == ("l2i_2", "piq")
    assert (row["listeners_a"], row["listeners_b"], row["listeners_tied"], row["n_listeners"]) == (6, 16, 1, 23)
    assert row["p"] == pytest.approx(0.0525, abs=5e-5)  # 16 of 22
    assert (row["prefer_a"], row["prefer_b"], row["no_preference"], row["n"]) == (29, 39, 1, 69)
    assert row["p_pooled"] == pytest.approx(stats.binomtest(29, 68).pvalue)


def test_abx_is_tested_against_guessing(tmp_path):
    said = [(who, "t_4", "s_4piq") for who in "abcde"]
    table, study = choice_table(tmp_path, "abx", said)
    row = abx_tables(table, study, NAMES)["abx"].iloc[-1]
    assert (row["correct"], row["n"], row["p"], row["note"]) == (5, 5, 0.03125, "")
    table, study = choice_table(tmp_path, "abx", [*said, ("a", "t_5", "s_5l2i2")])
    row = abx_tables(table, study, NAMES)["abx"].iloc[-1]
    assert (row["correct"], row["n"]) == (5, 6) and row["p"] == pytest.approx(7 / 64) and "independent" in row["note"]
    assert row["listener_mean"] == pytest.approx(0.9)
    with pytest.raises(ValueError, match=r"study\.json"):
        abx_tables(table, None, NAMES)


def simulated_choices(tmp_path, said, choices=("dog", "cat", "pig", "cannot tell")):
    key = simulated.write_key(tmp_path / "private", simulated.study("simulate", choices))
    rows = [
        simulated.answer(task="simulate", session_id=who, trial_id=f"t_{name[2]}", stimulus_id=name, answer=answer)
        for who, name, answer in said
    ]
    found = load([simulated.write_csv(tmp_path / "a.csv", rows)], key)
    return simulation_tables(with_conditions(found.table), found.study)


def test_model_simulation_by_hand(tmp_path):
    # 22 listeners hear the first item by piq; 19 say what the classifier said. By l2i_2, they hear the last.
    said = [(f"p{n:02d}", "s_0piq", "dog" if n < 19 else ("cat" if n < 21 else "cannot tell")) for n in range(22)]
    said += [(f"p{n:02d}", "s_7l2i2", "cat" if n < 12 else "pig") for n in range(22)]
    tables = simulated_choices(tmp_path, said)
    row = row_of(tables["simulation"], group="all items", condition="piq")
    assert (row["correct"], row["n"], row["cannot_tell"]) == (19, 22, 1)
    assert (row["low"], row["high"]) == pytest.approx((0.6667, 0.9525), abs=5e-5)
    assert row["chance"] == pytest.approx(1 / 3) and row["majority_class"] == "dog" and row["majority_share"] == 1
    assert row["p_chance"] == pytest.approx(stats.binomtest(19, 22, 1 / 3, "greater").pvalue)
    pair = row_of(tables["pairs"], group="all items", a="piq", b="l2i_2")
    # 7 listeners were right with piq only (12 to 18), none with l2i_2 only.
    assert pair["test"] == "McNemar, exact" and pair["p"] == pytest.approx(2 / 2**7) and pair["n"] == 22
    counts = tables["confusion"].set_index(["condition", "truth", "answer"])["count"]
    assert counts["piq", "dog", "cat"] == 2 and counts.sum() == 44


def test_model_simulation_with_several_answers_per_method(tmp_path):
    said = []
    for n in range(8):
        said += [(f"p{n}", "s_0piq", "dog"), (f"p{n}", "s_1piq", "dog" if n else "cat")]
        said += [(f"p{n}", "s_4l2i2", "pig"), (f"p{n}", "s_5l2i2", "pig")]
    pair = row_of(simulated_choices(tmp_path, said)["pairs"], group="all items")
    shares = [0.5] * 7 + [0.0]
    assert pair["test"] == "Wilcoxon" and pair["p"] == pytest.approx(stats.wilcoxon(shares, zero_method="pratt").pvalue)
    assert pair["mean_difference"] == pytest.approx(np.mean(shares))
    ends = stats.t.interval(0.95, 7, np.mean(shares), stats.sem(shares))
    assert (pair["low"], pair["high"]) == pytest.approx(ends)


@pytest.mark.parametrize("task", ["ab", "abx", "simulate"])
def test_reports_of_choices(tmp_path, task):
    rng = np.random.default_rng(0)
    study = simulated.study(task, ("dog", "cat", "cannot tell") if task == "simulate" else ())
    rows = []
    for listener in range(8):
        for item in range(8):
            name = f"s_{item}{rng.choice(['piq', 'l2i2'])}"
            answer = rng.choice(["dog", "cat", "cannot tell"]) if task == "simulate" else "preferred"
            if task == "ab" and rng.random() < 0.2:
                name, answer = "", "no preference"
            about = {"task": task, "session_id": f"p{listener}", "trial_id": f"t_{item}"}
            rows.append(simulated.answer(**about, stimulus_id=name, answer=answer))
    key = simulated.write_key(tmp_path / "private", study)
    report = analyse([simulated.write_csv(tmp_path / "a.csv", rows)], key, tmp_path / "out")
    facts, page = json.loads(report.with_name("report.json").read_text()), report.read_text()
    for said in {"ab": ["binomial", "tied"], "abx": ["one-sided", "guessing"], "simulate": ["Wilson", "chance"]}[task]:
        assert said in page
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    wanted = {"ab": {"ab_preferences"}, "abx": {"abx_shares"}, "simulate": {"simulate_shares", "simulate_confusion"}}[
        task
    ]
    assert figures == {f"{name}.{kind}" for name in wanted for kind in ("png", "svg")}
    assert facts["results"][task]["agreement"][0]["listeners"] == 8


@pytest.mark.parametrize("tables", [preference_tables, abx_tables])
def test_answers_that_need_the_study_are_named(tmp_path, tables):
    table, _ = choice_table(tmp_path, "ab", [("a", "t_00", "s_0piq")])
    with pytest.raises(ValueError, match=r"a\.csv: A/B and ABX answers can be read only with study\.json"):
        tables(table, None, NAMES)
