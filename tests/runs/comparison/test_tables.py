"""Tables of hand-made scores: means, intervals, ranks, Holm's families, silent outputs, text."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from references.signed_ranks import all_sign_flips
from scipy import stats

from audiointerp.metrics.distribution import frechet_distance
from audiointerp.metrics.statistics import bootstrap_interval, holm
from audiointerp.results.tables import SCORE_COLUMNS
from audiointerp.runs.comparison.tables import INPUT, TESTED, differences, make_tables, ranks
from audiointerp.runs.comparison.text import latex, markdown

N = 12
METHODS = {
    "piq": {"control": False, "costly": False},
    "l2i": {"control": False, "costly": False},
    "shap": {"control": False, "costly": True},
    "loudest": {"control": True, "costly": False},
    "oracle": {"control": True, "costly": False},
    "piq_magnitude": {"control": False, "costly": False},
    "shap_magnitude": {"control": False, "costly": True},
}
CLEAN, MIXED = [f"c{i}" for i in range(N)], [f"m{i}" for i in range(N)]
FACTS = {
    "methods": METHODS,
    "reference": "piq",
    "subset": {"clean": CLEAN[:4], "mixed": MIXED[2:7]},
    "conditions": ["clean", "mixed"],
    "not_run": {},
}


def row(item: str, method: str, condition: str, **values) -> dict:
    empty = dict.fromkeys(SCORE_COLUMNS, math.nan)
    return empty | {"item_id": item, "method": method, "condition": condition, "silent": "False"} | values


def hand_made() -> pd.DataFrame:
    """Every method on every item it explains, in an order of items; the last mixture is silent for l2i."""
    rng, rows = np.random.default_rng(0), []
    for condition, items in (("clean", CLEAN), ("mixed", MIXED)):
        for item in items:
            chosen = item in FACTS["subset"][condition]
            for method in [*METHODS, *(["piq_other", "shap_other"] if condition == "mixed" else [])]:
                if ("shap" in method and not chosen) or (method == "oracle" and condition == "clean"):
                    continue
                values = {"fidelity": float(rng.random() > 0.3), "seconds": rng.random(), "ad": 100 * rng.random()}
                values |= {name: rng.random() for name in ("faithfulness", "faithfulness_logit", "insertion")}
                values |= {"ai": 100.0 * (rng.random() > 0.5), "ag": 10 * rng.random(), "deletion": rng.random()}
                values |= {"kept_energy": rng.random(), "mean_mask": rng.random(), "wav_faithfulness": rng.random()}
                if condition == "mixed":
                    values["si_sdr_improvement"] = rng.normal()
                if method == "l2i":
                    values["theta_top1"] = 1.0
                if method == "l2i" and item == MIXED[-1]:
                    values |= {"silent": "True", "si_sdr_improvement": math.nan}
                rows.append(row(item, method, condition, **values))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return hand_made()


@pytest.fixture(scope="module")
def tables(scores):
    made = make_tables(scores, FACTS, pd.DataFrame())
    return {(each.condition, each.subset, each.magnitude): each for each in made}


@pytest.fixture(scope="module")
def tested(scores) -> pd.DataFrame:
    return differences(scores, FACTS)


@pytest.fixture(scope="module")
def drops(scores) -> pd.DataFrame:
    """Scores with one tested metric only."""
    return scores.assign(**dict.fromkeys({*TESTED} - {"ad"}, math.nan))


def values_of(scores, method, condition, metric, items=None):
    rows = scores[(scores.method == method) & (scores.condition == condition)].set_index("item_id")
    rows = rows if items is None else rows.loc[items]
    return rows[metric].astype(float)


# --- which tables, which rows


def test_a_table_for_every_condition_whole_and_subset_in_both_domains(tables):
    assert set(tables) == {(c, s, m) for c in ("clean", "mixed") for s in (False, True) for m in (False, True)}


@pytest.mark.parametrize("magnitude", [False, True])
def test_costly_methods_stand_in_the_subset_only(tables, magnitude):
    """Neither they, nor their twins, nor what they say of the other class: their few items are no mean of all."""
    for condition in ("clean", "mixed"):
        whole, subset = tables[condition, False, magnitude], tables[condition, True, magnitude]
        assert [name for name in whole.rows if "shap" in name] == []
        assert "shap" in subset.rows
        oracle = ["oracle"] if condition == "mixed" else []
        others = ["piq_other"] if condition == "mixed" and not magnitude else []
        assert [*whole.rows] == ["piq", *others, "l2i", "loudest", *oracle]
        assert set(whole.rows_n.values()) == {N}
        assert set(subset.rows_n.values()) == {len(FACTS["subset"][condition])}


def test_without_costly_methods_there_is_no_second_row(scores):
    facts = FACTS | {"methods": {name: each | {"costly": False} for name, each in METHODS.items()}}
    plain = scores[~scores.method.str.contains("shap")]
    assert [each.subset for each in make_tables(plain, facts, pd.DataFrame())] == [False] * 4


def test_a_condition_without_a_subset_has_no_costly_rows(scores):
    facts = FACTS | {"subset": {"clean": CLEAN[:4], "mixed": []}}
    made = make_tables(
        scores[(scores.condition == "clean") | ~scores.method.str.contains("shap")], facts, pd.DataFrame()
    )
    assert [(each.condition, each.subset) for each in made] == [("clean", False)] * 2 + [("clean", True)] * 2 + [
        ("mixed", False)
    ] * 2


def test_only_methods_with_a_twin_differ_in_the_magnitude_table(tables, scores):
    own, magnitude = tables["mixed", False, False], tables["mixed", False, True]
    for name in ("l2i", "loudest", "oracle"):
        assert own.rows[name]["ad"] == magnitude.rows[name]["ad"]
        np.testing.assert_equal(vars(own.rows[name]["si_sdr"]), vars(magnitude.rows[name]["si_sdr"]))
    assert own.rows["piq"]["ad"].mean == pytest.approx(values_of(scores, "piq", "mixed", "ad").mean())
    assert magnitude.rows["piq"]["ad"].mean == pytest.approx(values_of(scores, "piq_magnitude", "mixed", "ad").mean())


# --- cells


def test_cells_are_means_with_the_bootstrap_over_items(tables, scores):
    for (condition, subset, _), table in tables.items():
        items = FACTS["subset"][condition] if subset else None
        cell, values = table.rows["l2i"]["ad"], values_of(scores, "l2i", condition, "ad", items)
        expected = bootstrap_interval(values.to_numpy())
        assert (cell.mean, cell.low, cell.high, cell.n) == pytest.approx(tuple(expected))
        assert cell.low < cell.mean < cell.high and cell.n == len(values)


def test_silent_outputs_are_counted_where_they_have_no_number(tables, scores):
    row = tables["mixed", False, False].rows["l2i"]
    assert row["si_sdr_improvement"].n == N - 1 and row["si_sdr_improvement"].silent == 1
    expected = values_of(scores, "l2i", "mixed", "si_sdr_improvement").dropna().mean()
    assert row["si_sdr_improvement"].mean == pytest.approx(expected)
    assert row["ad"].n == N and row["ad"].silent == 1
    assert tables["mixed", True, False].rows["l2i"]["ad"].silent == 0  # the silent one is not in the subset
    assert "(1 silent)" in markdown(tables["mixed", False, False])


def test_infinite_scores_do_not_enter_a_mean(scores):
    changed = scores.copy()
    changed.loc[(changed.method == "l2i") & (changed.item_id == "c0"), "ad"] = math.inf
    cell = make_tables(changed, FACTS, pd.DataFrame())[0].rows["l2i"]["ad"]
    assert cell.n == N - 1 and math.isfinite(cell.mean)


def test_a_method_that_is_silent_everywhere(scores):
    """No SI-SDR that could win, no rank for anybody, and the count says why."""
    changed = scores.copy()
    here = (changed.method == "l2i") & (changed.condition == "mixed")
    changed.loc[here, "silent"], changed.loc[here, "si_sdr_improvement"] = "True", math.nan
    table = next(each for each in make_tables(changed, FACTS, pd.DataFrame()) if each.condition == "mixed")
    cell = table.rows["l2i"]["si_sdr_improvement"]
    assert math.isnan(cell.mean) and (cell.n, cell.silent) == (0, N)
    assert table.mean_rank == {} and table.ranked_n == 0
    line = next(line for line in markdown(table).splitlines() if line.startswith("| l2i") and "top" not in line)
    assert f"({N} silent)" in line
    sound = next(line for line in markdown(table).split("| Sound")[1].splitlines() if line.startswith("| l2i"))
    assert f"– ({N} silent)" in sound
    assert "No mean rank" in markdown(table)
    changed = changed.assign(**dict.fromkeys({*TESTED} - {"si_sdr_improvement"}, math.nan))
    tested = differences(changed, FACTS)
    pairs = tested[(tested.condition == "mixed") & (tested.metric == "si_sdr_improvement")]
    assert len(pairs) and "l2i" not in {*pairs["first"], *pairs["second"]}


def test_columns_and_blocks_without_numbers_are_left_out(tables):
    clean, mixed = tables["clean", False, False].blocks(), tables["mixed", False, False].blocks()
    assert "si_sdr_improvement" not in clean["Sound"] and "si_sdr_improvement" in mixed["Sound"]
    assert "complexity" not in clean["Sound"]
    assert clean["Own prediction"] == ("theta_top1",)
    own = markdown(tables["clean", False, False]).split("| Own prediction")[1]
    assert "| l2i |" in own and "| piq |" not in own


# --- ranks


def ranked(**means: dict) -> dict[str, pd.DataFrame]:
    names = ("fidelity", "faithfulness", "ai", "ad", "ag", "insertion", "deletion", "si_sdr_improvement")
    return {
        method: pd.DataFrame([row(f"i{k}", method, "c", **(dict.fromkeys(names, math.nan) | values)) for k in range(3)])
        for method, values in means.items()
    }


def test_ranks_by_hand():
    """Higher fidelity, lower drop and lower deletion win; equal means share a rank; what one lacks counts not."""
    groups = ranked(
        a={"fidelity": 0.9, "ad": 10.0, "deletion": 0.3, "insertion": 0.9, "ai": 5.0},
        b={"fidelity": 0.9, "ad": 30.0, "deletion": 0.2, "insertion": 0.8, "ai": 6.0},
        c={"fidelity": 0.5, "ad": 20.0, "deletion": 0.1, "ai": 7.0},
    )
    mean, n = ranks(groups)
    # fidelity 1.5 1.5 3; ad 1 3 2; deletion 3 2 1; ai 3 2 1.
    assert n == 3 and mean == pytest.approx({"a": 8.5 / 4, "b": 8.5 / 4, "c": 7 / 4})


def test_ranks_use_the_items_where_all_sound():
    first, second = ranked(a={"fidelity": 1.0}, b={"fidelity": 0.5}).values()
    second.loc[0, "silent"], second.loc[0, "fidelity"] = "True", 0.0
    first.loc[0, "fidelity"] = 0.0
    first.loc[1:, "fidelity"], second.loc[1:, "fidelity"] = 0.4, 0.5
    first.loc[3] = row("i9", "a", "c", fidelity=1.0)  # explained by the first alone
    assert ranks({"a": first, "b": second}) == ({"a": 2.0, "b": 1.0}, 2)


def test_equal_means_tie_though_their_sums_round_otherwise():
    values = np.random.default_rng(0).random(40)
    orders = {"a": values, "b": values[::-1], "c": np.sort(values)}
    groups = {
        name: pd.DataFrame([row(f"i{k}", name, "c", faithfulness=value) for k, value in enumerate(each)])
        for name, each in orders.items()
    }
    groups["c"]["faithfulness"] += 1e-13  # what another order of summing may add
    assert ranks(groups)[0] == {"a": 2.0, "b": 2.0, "c": 2.0}


def test_ranks_of_the_tables_leave_controls_out(tables):
    assert set(tables["clean", False, False].mean_rank) == {"piq", "l2i"}
    assert set(tables["clean", True, False].mean_rank) == {"piq", "l2i", "shap"}
    assert tables["mixed", False, True].ranked_n == N - 1
    assert sum(tables["clean", True, True].mean_rank.values()) == pytest.approx(6)  # 1 + 2 + 3
    assert f"({N - 1} items)" in markdown(tables["mixed", False, False])


def test_nothing_to_rank():
    assert ranks({}) == ({}, 0)


# --- differences


def test_differences_by_scipy_and_their_families(scores, tested):
    assert set(tested.metric) <= set(TESTED)
    for (condition, metric), family in tested.groupby(["condition", "metric"]):
        raw = []
        for each in family.itertuples():
            one, two = (values_of(scores, name, condition, metric) for name in (each.first, each.second))
            paired = (one - two).dropna()
            assert each.n == len(paired) and each.difference == pytest.approx(paired.mean())
            assert (each.low, each.high) == pytest.approx(tuple(bootstrap_interval(paired)[1:3]))
            assert each.p == pytest.approx(signed_rank_p(paired.round(9)))
            drawn = bootstrap_means(paired)
            assert each.p_bootstrap == pytest.approx(
                min(1, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / 10001)
            )
            raw.append(each.p_bootstrap)
        # Every pair of the condition and metric, and nothing else, is one family.
        np.testing.assert_allclose(family.p_holm, holm(raw))
        assert (family.p_holm >= family.p_bootstrap).all()


def signed_rank_p(differences):
    """By SciPy; where differences tie or are zero, by trying all signs, for which SciPy takes a second."""
    sizes = differences.abs()
    if (sizes == 0).any() or sizes.duplicated().any():
        return all_sign_flips(differences)
    return stats.wilcoxon(differences).pvalue


def bootstrap_means(values):
    """Means of 10,000 resamples of independent values."""
    rows = np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))
    return values.to_numpy()[rows].mean(1).round(12)


def pairs_of(tested, condition, metric="ad"):
    rows = tested[(tested.condition == condition) & (tested.metric == metric)]
    return list(zip(rows["first"], rows["second"]))


def test_pairs_are_all_methods_and_the_reference_with_the_controls(tested):
    expected = {("piq", "l2i"), ("piq", "shap"), ("l2i", "shap"), ("piq", "loudest")}
    assert set(pairs_of(tested, "clean")) == expected
    assert set(pairs_of(tested, "mixed")) == expected | {("piq", "oracle")}
    assert len(pairs_of(tested, "mixed")) == 5
    # Items that both explain: shap's are the subset's.
    assert set(tested[(tested.second == "shap") & (tested.condition == "clean")].n) == {4}


@pytest.mark.parametrize("reference", ["l2i", "shap", "loudest"])
def test_the_reference_stands_first_whatever_the_order(drops, reference):
    """The figure draws the rows whose first method is the reference: none may be missing, none be its own."""
    tested = differences(drops, FACTS | {"reference": reference})
    pairs = pairs_of(tested, "mixed")
    others = {"piq", "l2i", "shap", "loudest", "oracle"} - {reference}
    assert {second for first, second in pairs if first == reference} == others
    assert all(first != second for first, second in pairs)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_a_control_is_tested_against_the_method_it_stands_beside(drops):
    methods = METHODS | {"loudest": {"control": True, "costly": False, "like": "l2i"}}
    pairs = pairs_of(differences(drops, FACTS | {"methods": methods}), "clean")
    assert ("l2i", "loudest") in pairs and ("piq", "loudest") in pairs and len(pairs) == 5


def test_one_method_alone(scores):
    facts = FACTS | {"methods": {"piq": METHODS["piq"]}}
    alone = scores[scores.method == "piq"]
    tested = differences(alone, facts)
    assert len(tested) == 0 and {"condition", "metric", "first", "second", "p_holm"} <= set(tested.columns)
    (own, _, *_) = make_tables(alone, facts, pd.DataFrame())
    assert own.mean_rank == {"piq": 1.0} and markdown(own) and latex(own)


def test_equal_methods_do_not_differ(scores):
    twice = pd.concat([scores[scores.method == "piq"], scores[scores.method == "piq"].assign(method="l2i")])
    tested = differences(twice, FACTS)
    assert set(tested.difference) == {0} and set(tested.p_holm) == {1} and set(tested.rank_biserial) == {0}


# --- the Frechet distance


def embeddings_of(items: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(seed, 1, (items, channels))


def embedding_table(channels: int) -> pd.DataFrame:
    tables = []
    sets = {
        (INPUT, "clean"): CLEAN,
        ("piq", "clean"): CLEAN,
        ("piq", "mixed"): MIXED,
        ("piq_magnitude", "mixed"): MIXED,
    }
    for seed, ((method, condition), items) in enumerate(sets.items()):
        table = pd.DataFrame(embeddings_of(len(items), channels, seed), columns=[f"e{i}" for i in range(channels)])
        tables.append(table.assign(item_id=items, method=method, condition=condition))
    return pd.concat(tables)


def test_frechet_distance_to_the_clean_clips(scores):
    made = make_tables(scores, FACTS, embedding_table(2))
    tables = {(each.condition, each.subset, each.magnitude): each for each in made}
    clean = embeddings_of(N, 2, 0)
    for key, mine in {
        ("clean", False, False): embeddings_of(N, 2, 1),
        ("mixed", False, False): embeddings_of(N, 2, 2),
        ("mixed", False, True): embeddings_of(N, 2, 3),
        ("mixed", True, False): embeddings_of(N, 2, 2)[2:7],
    }.items():
        cell = tables[key].rows["piq"]["frechet_distance"]
        assert cell.mean == pytest.approx(frechet_distance(clean, mine)) and cell.n == len(mine)
    assert tables["clean", False, False].rows["l2i"]["frechet_distance"].note  # has no embedding


def test_too_few_clips_leave_it_blank_and_say_so(scores):
    table = make_tables(scores, FACTS, embedding_table(7))[0]
    cell = table.rows["piq"]["frechet_distance"]
    assert math.isnan(cell.mean) and cell.n == 0 and "14 needed" in cell.note
    for text in (markdown(table), latex(table)):
        assert "14 needed" in text


def test_a_classifier_without_embedding(scores):
    table = make_tables(scores, FACTS, pd.DataFrame())[0]
    assert {row["frechet_distance"].note for row in table.rows.values()} == {"no embedding"}
    assert "no embedding" in markdown(table)


# --- text


def test_markdown_tables_are_rectangular(tables):
    for table in tables.values():
        for block in markdown(table).split("\n\n"):
            lines = [line for line in block.splitlines() if line.startswith("|")]
            assert len({line.count("|") for line in lines}) <= 1, block


def test_markdown_carries_the_verdicts(scores):
    said = FACTS | {"verdicts": {"piq": "fail: model randomised"}}
    first = make_tables(scores, said, pd.DataFrame())[0]
    lines = markdown(first).splitlines()
    assert lines[2].endswith("| sanity checks |") and sum("sanity checks" in line for line in lines) == 1
    (row,) = [line for line in lines[4:] if line.startswith("| piq |") and "fail" in line]
    assert row.endswith("| fail: model randomised |") and row.count("|") == lines[2].count("|") == lines[3].count("|")


def test_markdown_says_the_numbers(tables, scores):
    text = markdown(tables["clean", False, False])
    cell = tables["clean", False, False].rows["piq"]["ad"]
    assert f"{cell.mean:.1f} [{cell.low:.1f}, {cell.high:.1f}]" in text
    assert text.startswith("### clean: each method in its own domain") and f"| piq | {N} |" in text
    assert "−" in markdown(tables["mixed", False, False])  # a minus sign, as people read it


def test_latex_escapes_and_is_rectangular(scores):
    facts = FACTS | {"methods": {"a_b&c%": METHODS["piq"], "l2i": METHODS["l2i"]}, "reference": "l2i"}
    named = scores.replace({"method": {"piq": "a_b&c%"}})
    named["condition"] = named["condition"].replace({"clean": "clean_10%"})
    facts = facts | {"conditions": ["clean_10%"], "subset": {"clean_10%": []}}
    text = latex(make_tables(named, facts, pd.DataFrame())[0])
    assert r"a\_b\&c\%" in text and r"clean\_10\%" in text and r"Average drop (AD) (\%)" in text
    assert not re.search(r"(?<!\\)[%#_]", text.replace("$n$", ""))
    for part in text.split("\\end{table}")[:-1]:
        columns = len(re.search(r"\\begin{tabular}{(l r*|lr*)}", part).group(1))
        rows = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert rows and {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows} == {columns}
    assert text.isascii(), sorted({each for each in text if not each.isascii()})


def test_latex_of_every_table_is_ascii_and_balanced(tables):
    for table in tables.values():
        text = latex(table)
        assert text.count(r"\begin{") == text.count(r"\end{") and text.count("{") == text.count("}")
        assert text.isascii(), sorted({each for each in text if not each.isascii()})


# --- rows that answer different questions, and items that share recordings


def test_rows_that_explain_different_classes_are_never_paired(drops):
    """Two methods explained other classes on four of the twelve clips: eight pairs remain."""
    asked = drops[drops.condition == "clean"].assign(target="dog")
    asked.loc[(asked.method == "l2i") & asked.item_id.isin(CLEAN[:4]), "target"] = "rain"
    tested = differences(asked, FACTS | {"conditions": ["clean"]})
    pair = tested[(tested["first"] == "piq") & (tested["second"] == "l2i")].iloc[0]
    assert pair.n == 8
    one, two = (values_of(asked, name, "clean", "ad", CLEAN[4:]) for name in ("piq", "l2i"))
    assert pair.difference == pytest.approx((one - two).mean())


def test_clips_of_one_recording_count_as_one(drops):
    """Twelve clips of three recordings: the interval is that of three clusters, wider than of twelve clips."""
    shared = drops[drops.condition == "clean"].copy()
    shared["recordings"] = [f"r{CLEAN.index(item) % 3}" for item in shared.item_id]
    facts = FACTS | {"conditions": ["clean"]}
    (own, *_), (alone, *_) = (make_tables(each, facts, pd.DataFrame()) for each in (shared, drops))
    values = values_of(shared, "piq", "clean", "ad")
    owners = [CLEAN.index(item) % 3 for item in values.index]
    expected = bootstrap_interval(values, clusters=owners)
    found = own.rows["piq"]["ad"]
    assert (found.mean, found.low, found.high) == pytest.approx(tuple(expected[:3])) and found.n == 12
    assert (alone.rows["piq"]["ad"].low, alone.rows["piq"]["ad"].high) != (found.low, found.high)


def test_a_table_of_recognised_classes_holds_their_rows_only():
    scores = hand_made()
    probable = np.random.default_rng(1).random(len(scores)) > 0.4
    scores["target_probability"] = np.where(probable, 0.1, 0.0999)
    tables = make_tables(scores, FACTS | {"recognised": 0.1}, pd.DataFrame())
    plain = make_tables(scores, FACTS, pd.DataFrame())
    assert [each for each in tables if each.recognised is None] == plain
    heard = [each for each in tables if each.recognised is not None]
    assert len(heard) == len(plain)
    table = next(each for each in heard if each.condition == "mixed" and not each.subset and not each.magnitude)
    assert table.title == "mixed, explained class at least 0.1 probable: each method in its own domain"
    kept = scores[(scores["condition"] == "mixed") & probable]
    for name in ("piq", "piq_other", "loudest"):
        mine = kept[kept["method"] == name]
        assert table.rows_n[name] == len(mine) < N
        assert math.isclose(table.rows[name]["ad"].mean, mine["ad"].mean())


def test_no_table_of_recognised_classes_without_one():
    scores = hand_made()
    scores["target_probability"] = 0.05
    assert make_tables(scores, FACTS | {"recognised": 0.1}, pd.DataFrame()) == make_tables(
        scores, FACTS, pd.DataFrame()
    )


# --- a method given as several runs


@pytest.fixture(scope="module")
def several() -> tuple[pd.DataFrame, dict]:
    """`hand_made` with piq as two runs, whose values differ, and one of which is silent on one mixture."""
    scores = hand_made()
    second = scores[scores["method"].isin(["piq", "piq_magnitude", "piq_other"])].copy()
    rng = np.random.default_rng(7)
    for name in ("ad", "faithfulness", "si_sdr_improvement"):
        second[name] = second[name] + rng.normal(size=len(second))
    silent = (second["item_id"] == MIXED[3]) & (second["method"] == "piq")
    second.loc[silent, ["silent", "si_sdr_improvement"]] = ["True", math.nan]
    second["method"] = second["method"].str.replace("piq", "piq-2")
    scores["method"] = scores["method"].str.replace("piq", "piq-1")
    methods = {}
    for name, each in METHODS.items():
        names = [name.replace("piq", f"piq-{number}") for number in (1, 2)] if name.startswith("piq") else [name]
        methods |= dict.fromkeys(names, each)
    verdicts = {"piq-1": "pass", "piq-2": "fail: noise", "l2i": "pass"}
    facts = FACTS | {"methods": methods, "several": {"piq": ["piq-1", "piq-2"]}, "verdicts": verdicts}
    return pd.concat([scores, second]), facts


def test_several_runs_are_one_row(several):
    scores, facts = several
    tables = {
        (each.condition, each.subset, each.magnitude): each for each in make_tables(scores, facts, pd.DataFrame())
    }
    table = tables["mixed", False, False]
    assert [*table.rows] == ["piq", "piq_other", "l2i", "loudest", "oracle"] and table.rows_n["piq"] == N
    assert set(table.mean_rank) == {"piq", "l2i"} and table.verdicts["piq"] == "pass; fail: noise"
    for name in ("piq", "piq_other"):
        ads = [values_of(scores, name.replace("piq", f"piq-{number}"), "mixed", "ad") for number in (1, 2)]
        cell = table.rows[name]["ad"]
        assert math.isclose(cell.mean, np.mean(ads)) and cell.runs == 2 and cell.n == N
        assert math.isclose(cell.sd, abs(ads[0].mean() - ads[1].mean()) / 2**0.5)
        bounds = bootstrap_interval((ads[0] + ads[1]).to_numpy() / 2)
        assert abs(cell.low - bounds.low) < 1 and abs(cell.high - bounds.high) < 1
    # Of a mixture on which one run is silent, the other's value counts.
    one, two = (values_of(scores, f"piq-{number}", "mixed", "si_sdr_improvement") for number in (1, 2))
    expected = pd.concat([one, two], axis=1).mean(axis=1)
    cell = table.rows["piq"]["si_sdr_improvement"]
    assert math.isclose(cell.mean, expected.mean()) and (cell.n, cell.silent) == (N, 1)
    assert table.rows["l2i"]["ad"].runs == 1 and math.isnan(table.rows["l2i"]["ad"].sd)
    twin = tables["mixed", False, True].rows["piq"]["ad"]
    ads = [values_of(scores, f"piq-{number}_magnitude", "mixed", "ad") for number in (1, 2)]
    assert math.isclose(twin.mean, np.mean(ads)) and twin.runs == 2


def test_several_runs_in_differences_and_text(several):
    scores, facts = several
    tested = differences(scores, facts)
    pair = tested[(tested["first"] == "piq") & (tested["second"] == "l2i") & (tested["condition"] == "clean")]
    row = pair[pair["metric"] == "ad"].iloc[0]
    both = sum(values_of(scores, f"piq-{number}", "clean", "ad") for number in (1, 2)) / 2
    assert math.isclose(row["difference"], (both - values_of(scores, "l2i", "clean", "ad")).mean())
    assert not {"piq-1", "piq-2"} & {*tested["first"], *tested["second"]}
    table = make_tables(scores, facts, pd.DataFrame())[0]
    shown, plain = markdown(table), latex(table)
    for text in (shown, plain):
        assert "Means over several runs, ± the standard deviation of the runs' means: piq (2)." in text
    assert re.search(r"\| piq \| 12 \| .* ± ", shown) and not re.search(r"\| l2i \| .* ± ", shown)
