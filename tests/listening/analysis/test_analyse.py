"""The whole analysis: known effects come back, intervals cover, edge cases have answers, reports say what was done."""

import itertools
import json

import listening_simulation as simulated
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from audiointerp.listening.analysis import figures
from audiointerp.listening.analysis.analyse import analyse
from audiointerp.listening.analysis.answers import load, with_conditions
from audiointerp.listening.analysis.opinion import opinion_tables
from audiointerp.metrics.statistics import bootstrap_interval, mean_interval, wilcoxon

FIRST, SECOND = range(4), range(4, 8)


def tables_of(tmp_path, rows, ci="t"):
    key = simulated.write_key(tmp_path / "private", simulated.study())
    table = load([simulated.write_csv(tmp_path / "a.csv", rows)], key).table
    return opinion_tables(with_conditions(table), ci)


def row_of(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def analyse_rows(tmp_path, rows, study=None, **options):
    key = simulated.write_key(tmp_path / "private", study or simulated.study())
    path = simulated.write_csv(tmp_path / "a.csv", rows)
    report = analyse([path], key, tmp_path / "out", **options)
    return json.loads(report.with_name("report.json").read_text()), report.read_text()


# ---- truth ------------------------------------------------------------------------------------------------------


def test_the_truth_is_the_mean_of_what_listeners_can_answer():
    drawn = simulated.scores("piq", FIRST, studies=20_000, seed=3)
    assert drawn.mean() == pytest.approx(simulated.true_mean("piq", FIRST), abs=0.004)
    assert simulated.true_mean("piq", FIRST) < simulated.EFFECTS["piq"] - 0.05  # the scale ends at 5


@pytest.mark.parametrize("items", [FIRST, SECOND, range(8)])
@pytest.mark.parametrize("method", simulated.EFFECTS)
def test_intervals_cover_the_truth_in_93_to_97_percent_of_studies(method, items):
    """Over studies with new listeners and the same items: the estimand is the mean over all listeners."""
    means = simulated.scores(method, items, studies=500, seed=5).mean(2)
    truth = simulated.true_mean(method, items)
    covered = [low <= truth <= high for _, low, high, _ in map(mean_interval, means)]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_bootstrap_intervals_cover_a_little_less():
    """Percentiles of 22 listeners are too narrow by √(21/22) and by the tails of t; the t interval is the default."""
    means = simulated.scores("l2i_2", range(8), studies=500, seed=5).mean(2)
    truth = simulated.true_mean("l2i_2", range(8))
    covered = [low <= truth <= high for _, low, high, _ in (bootstrap_interval(each, resamples=1000) for each in means)]
    assert 0.90 <= np.mean(covered) <= 0.96


def test_intervals_over_pooled_scores_would_not_cover():
    """Why listeners are averaged first: 176 scores of 22 listeners are not 176 independent ones."""
    drawn = simulated.scores("l2i_2", range(8), studies=500, seed=11).reshape(500, -1)
    truth = simulated.true_mean("l2i_2", range(8))
    covered = [low <= truth <= high for _, low, high, _ in map(mean_interval, drawn)]
    assert np.mean(covered) < 0.88


def test_known_effects_come_back(tmp_path):
    tables = tables_of(tmp_path, simulated.mos_rows())
    for group, items in (("l2i_site", FIRST), ("esc50", SECOND), ("all items", range(8))):
        for method in simulated.EFFECTS:
            if method == "l2i_1" and group == "esc50":
                continue
            row = row_of(tables["methods"], group=group, condition=method)
            on = FIRST if method == "l2i_1" else items
            assert row["low"] <= simulated.true_mean(method, on) <= row["high"]
            assert (row["n_listeners"], row["n_items"]) == (22, len(on)) and row["n_scores"] == 22 * len(on)
    assert row_of(tables["methods"], group="all items", condition="l2i_1")["note"] == "on 4 of 8 items"
    pair = row_of(tables["pairs"], group="l2i_site", a="piq", b="l2i_1")
    assert pair["p_holm"] < 0.001 and pair["rank_biserial"] > 0.9
    assert pair["mean_difference"] == pytest.approx(
        simulated.true_mean("piq", FIRST) - simulated.true_mean("l2i_1", FIRST), abs=0.4
    )
    friedman = row_of(tables["friedman"], group="l2i_site")
    assert (friedman["k"], friedman["n"]) == (3, 22) and friedman["p"] < 0.001
    assert row_of(tables["agreement"], group="esc50", measure="ICC(2,k)")["value"] > 0.7


def test_equal_methods_differ_in_five_percent_of_studies():
    rng = np.random.default_rng(0)
    drawn = [rng.integers(1, 6, (2, 22, 4)).mean(2) for _ in range(400)]
    false = np.mean([wilcoxon(a - b).p < 0.05 for a, b in drawn])
    assert 0.02 <= false <= 0.08


# ---- numbers ----------------------------------------------------------------------------------------------------


def small_rows(scores):
    """scores[listener][sound] -> rows; sounds are piq and l2i_2 of items 4 and 5."""
    sounds = [("t_4", "s_4piq"), ("t_4", "s_4l2i2"), ("t_5", "s_5piq"), ("t_5", "s_5l2i2")]
    return [
        simulated.answer(session_id=f"s{listener}", trial_id=trial, stimulus_id=name, answer=score)
        for listener, of_listener in enumerate(scores)
        for (trial, name), score in zip(sounds, of_listener)
    ]


def test_means_by_hand(tmp_path):
    tables = tables_of(tmp_path, small_rows([(5, 3, 4, 2), (4, 3, 4, 3), (5, 1, "", 1)]))
    piq = row_of(tables["methods"], condition="piq")
    means = [4.5, 4, 5]
    assert piq["mean"] == pytest.approx(4.5) and piq["sd"] == pytest.approx(0.5) and piq["n_scores"] == 5
    assert (piq["low"], piq["high"]) == pytest.approx(tuple(stats.t.interval(0.95, 2, 4.5, stats.sem(means))))
    assert bool(piq["beyond_scale"]) and (piq["median"], piq["q1"], piq["q3"]) == (4, 4, 5)
    # The third listener's pair counts only on item 4, where both sounds were scored: 4, not 5 - 1 averaged over items.
    pair = row_of(tables["pairs"], a="piq", b="l2i_2")
    assert pair["mean_difference"] == pytest.approx((2 + 1 + 4) / 3) and (pair["n"], pair["n_zero"]) == (3, 0)
    differences = [2, 1, 4]
    low, high = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    assert (pair["low"], pair["high"]) == pytest.approx((low, high))
    assert pair["p"] == 0.25 and "cannot be below 0.05" in pair["note"]
    item = row_of(tables["items"], item_id="c_5", condition="piq")
    assert (item["n"], item["mean"], item["pred_class"]) == (2, 4, "pig")


def test_bootstrap_intervals_stay_on_the_scale(tmp_path):
    rows = small_rows([(5, 3, 5, 2)] * 7 + [(4, 3, 5, 3)])
    assert row_of(tables_of(tmp_path, rows)["methods"], condition="piq")["beyond_scale"]
    found = row_of(tables_of(tmp_path, rows, "bootstrap")["methods"], condition="piq")
    assert found["high"] <= 5 and found["low"] < found["mean"]


def test_holm_is_taken_within_a_group(tmp_path):
    pairs = tables_of(tmp_path, simulated.mos_rows(seed=4))["pairs"]
    site, own = pairs[pairs["group"] == "l2i_site"], pairs[pairs["group"] == "esc50"]
    assert len(site) == 3 and len(own) == 1
    assert own["p"].item() == own["p_holm"].item() and site["p_holm"].min() == pytest.approx(3 * site["p"].min())


# ---- edge cases -------------------------------------------------------------------------------------------------


def test_one_listener_has_means_but_no_interval_and_no_test(tmp_path):
    rows = [row for row in simulated.mos_rows() if row["session_id"] == "session_00"]
    facts, page = analyse_rows(tmp_path, rows)
    found = facts["results"]["mos"]
    assert all(row["note"].startswith("n<2: not available") and row["low"] is None for row in found["methods"])
    assert all(row["p"] is None for row in found["pairs"]) and found["pairs"][0]["note"] == "one listener: no test"
    assert all(row["value"] is None and row["note"] for row in found["agreement"])
    assert "n&lt;2: not available" in page


@pytest.mark.parametrize("what", ["one item", "one method", "equal"])
def test_small_designs(tmp_path, what):
    rows = simulated.mos_rows()
    if what == "one item":
        rows = [row for row in rows if row["trial_id"] == "t_1"]
    elif what == "one method":
        rows = [row for row in rows if row["stimulus_id"].endswith("piq")]
    else:
        rows = [{**row, "answer": 3} for row in rows]
    facts, page = analyse_rows(tmp_path, rows)
    found = facts["results"]["mos"]
    if what == "one item":
        assert len(found["methods"]) == 3 and found["friedman"][0]["n"] == 22
    elif what == "one method":
        assert found["pairs"] == [] and found["friedman"] == [] and "nothing is compared" in page
    else:
        assert {row["p"] for row in found["pairs"]} == {1.0} and {row["p"] for row in found["friedman"]} == {1.0}
        assert {row["value"] for row in found["agreement"]} == {None} and "equal" in found["agreement"][0]["note"]
        assert {(row["low"], row["high"]) for row in found["methods"]} == {(3, 3)}
        assert all("has no width" in row["note"] for row in found["methods"] + found["pairs"])


def test_methods_on_no_common_item(tmp_path):
    rows = [row for row in simulated.mos_rows() if row["stimulus_id"] in ("s_4piq", "s_5l2i2")]
    found = analyse_rows(tmp_path, rows)[0]["results"]["mos"]["pairs"][0]
    assert found["p"] is None and found["note"] == "no listener scored both methods on the same item"


def test_a_session_without_answers_is_counted_and_listed(tmp_path):
    rows = simulated.mos_rows()
    for row in rows:
        if row["session_id"] == "session_09":
            row["answer"] = "NA"
    facts, _ = analyse_rows(tmp_path, rows)
    assert facts["sessions_received"] == 22 and facts["after_screening"]["mos"]["listeners"] == 21
    assert facts["exclusions"] == {"no answer": 20}
    listed = pd.read_csv(tmp_path / "out" / "exclusions.csv")
    assert set(listed["session_id"]) == {"session_09"} and len(listed) == 20


def test_nothing_but_missing_answers_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.csv: no answer is left to analyse: 440 no answer"):
        analyse_rows(tmp_path, [{**row, "answer": "NA"} for row in simulated.mos_rows()])
    with pytest.raises(ValueError, match="the files are empty"):
        analyse_rows(tmp_path, [])
    assert not (tmp_path / "out").exists()


def test_the_result_folder_is_not_overwritten_unless_asked(tmp_path):
    rows = simulated.mos_rows()
    analyse_rows(tmp_path, rows)
    files = [tmp_path / "out" / name for name in ("report.html", "report.json", "figures/mos_means.svg")]
    first = [file.read_bytes() for file in files]
    with pytest.raises(ValueError, match="not empty"):
        analyse_rows(tmp_path, rows)
    analyse_rows(tmp_path, rows, force=True)
    assert [file.read_bytes() for file in files] == first
    with pytest.raises(ValueError, match="'normal'"):
        analyse_rows(tmp_path, rows, force=True, ci="normal")


# ---- report -----------------------------------------------------------------------------------------------------


def test_the_report_of_a_study_like_piqs(tmp_path):
    rows = simulated.mos_rows()
    for row in rows:
        if row["session_id"] == "session_03":
            row["heard_fraction"] = 0.5
    facts, page = analyse_rows(tmp_path, rows, screen=["heard"])
    assert facts["before_screening"]["mos"] == {"listeners": 22, "items": 8, "answers": 440}
    assert facts["after_screening"]["mos"]["listeners"] == 21
    assert len(facts["without_screening"]["mos"]["methods"]) == len(facts["results"]["mos"]["methods"]) == 8
    assert facts["without_screening"]["mos"]["methods"][0]["n_listeners"] == 22
    assert {"python", "scipy", "numpy", "audiointerp"} <= set(facts["versions"])
    skipped = {rule["rule"]: rule["skipped"] for rule in facts["screening"]}
    assert skipped["anchor"] and not skipped["heard"]
    text = (tmp_path / "out" / "report.md").read_text()
    for said in (
        "Unit of analysis: the listener",
        "Student",
        "Wilcoxon",
        "Pratt",
        "Holm",
        "Friedman",
        "Without screening",
    ):
        assert said in page and said in text
    methods = pd.read_csv(tmp_path / "out" / "mos_methods.csv")
    piq = methods[(methods["group"] == "all items") & (methods["condition"] == "piq")].iloc[0]
    shown = f"{piq['mean']:.2f} [{piq['low']:.2f}, {piq['high']:.2f}]"
    assert shown in page and shown in text
    for name in ("mos_items", "mos_means"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "out" / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    tidy = pd.read_csv(tmp_path / "out" / "ratings.csv", dtype=str, keep_default_na=False)
    assert len(tidy) == 420 and {"method", "item_id", "value", "participant", "answer"} <= set(tidy)


def test_the_report_tells_what_listeners_said(tmp_path):
    rows = simulated.mos_rows()
    for row in rows:
        number = int(row["session_id"][-2:])
        row |= {"q_hearing": "yes" if number < 3 else "no", "transducer": "headphones"}
        row |= {"q_remarks": "<b>loud</b>" if number == 5 else ""}
    key = simulated.write_key(tmp_path / "private", simulated.study())
    path = tmp_path / "a.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    report = analyse([path], key, tmp_path / "out", leave_out=["hearing=yes"])
    page, text = report.read_text(), report.with_name("report.md").read_text()
    assert "&lt;b&gt;loud" in page and "<b>loud" not in page
    for row in ("| hearing | no | 19 |", "| hearing | yes | 3 |", "| listens with | headphones | 22 |"):
        assert row in text
    listeners = pd.read_csv(tmp_path / "out" / "listeners.csv")
    assert (listeners["q_hearing"] == "yes").sum() == 3 and len(listeners) == 22
    tidy = pd.read_csv(tmp_path / "out" / "ratings.csv")
    assert set(tidy["q_hearing"]) == {"no"} and tidy["session_id"].nunique() == 19
    facts = json.loads(report.with_name("report.json").read_text())
    assert facts["after_screening"]["mos"]["listeners"] == 19
    pair = facts["results"]["mos"]["pairs"][0]
    assert f"[{pair['low']:+.2f}, {pair['high']:+.2f}]".replace("-", "−") in page


def test_names_from_files_are_text_in_the_report(tmp_path):
    rows = [{**row, "participant_code": "<script>x</script>" + row["participant_code"]} for row in simulated.mos_rows()]
    for row in rows[:20]:
        row["heard_fraction"] = 0
    _, page = analyse_rows(tmp_path, rows)
    assert "<script>x" not in page and "&lt;script&gt;x" in page


def test_names_below_box_plots_do_not_overlap():
    """One method: the places are as close as they get, and the names of files are long."""
    rows = [
        {"participant": person, "item_id": f"a_recording_with_a_long_name_{item}", "condition": "piq", "system": True}
        | {"group": "mixtures", "pred_class": "a_class_of_many_words", "value": 3.0}
        for person in ("anna", "ben")
        for item in range(9)
    ]
    figure = Figure(figsize=(1.2 + 0.8 * 9, 3.6), layout="constrained")
    axis = figure.add_subplot()
    figures._boxes(axis, pd.DataFrame(rows), {"piq": ("#333333", "")}, letters=int(0.8 / figures.LETTER_INCHES))
    FigureCanvasAgg(figure).draw()
    assert len({each.get_text() for each in axis.get_xticklabels()}) == 9  # their ends tell them apart
    boxes = [each.get_window_extent() for each in axis.get_xticklabels()]
    assert len(boxes) == 9 and all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
