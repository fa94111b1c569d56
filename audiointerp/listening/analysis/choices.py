"""Statistics of choices: which of two sounds is preferred (A/B), which is X (ABX), which class it is (simulation)."""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from audiointerp.listening.analysis.agreement import krippendorff_alpha
from audiointerp.listening.analysis.answers import conditions_of, groups
from audiointerp.listening.analysis.opinion import AGREEMENT_COLUMNS
from audiointerp.listening.study import CANNOT_TELL, Study
from audiointerp.metrics.statistics import binomial_p, holm, mcnemar_p, mean_interval, wilcoxon, wilson_interval

PREFERENCE_COLUMNS = (
    *("group", "a", "b", "n", "prefer_a", "prefer_b", "no_preference", "share_a", "low", "high", "n_listeners"),
    *("listeners_a", "listeners_b", "listeners_tied", "p", "p_holm", "p_pooled", "note"),
)
ABX_COLUMNS = (
    *("group", "a", "b", "n", "n_listeners", "correct", "share", "low", "high", "p", "p_holm"),
    *("listener_mean", "listener_low", "listener_high", "note"),
)
SIMULATION_COLUMNS = (
    *("group", "condition", "n", "n_listeners", "correct", "cannot_tell", "share", "low", "high", "chance", "p_chance"),
    *("majority_class", "majority_share", "p_majority", "share_true_class", "note"),
)
SIMULATION_PAIR_COLUMNS = ("group", "a", "b", "test", "n", "mean_difference", "low", "high", "p", "p_holm", "note")
CONFUSION_COLUMNS = ("condition", "truth", "answer", "count")

__all__ = ["abx_tables", "preference_tables", "simulation_tables"]


def preference_tables(table: pd.DataFrame, study: Study | None, names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """A/B: exact binomial tests of each pair of methods.

    The test counts each listener once, for the method preferred more often; listeners who preferred both equally often
    are reported separately. The pooled test treats answers of one listener as independent, which they are not.

    Raises:
        ValueError: without the study, which defines the sounds of each trial.
    """
    table = _with_pairs(table, study, names)
    rows = []
    for group, part in groups(table):
        of_group = [_preference(group, a, b, of_pair) for (a, b), of_pair in _pairs_of(part, names)]
        rows += _adjusted(of_group)
    agreement = _agreement(table, "trial_id", table["chosen"])
    return {"preferences": _table(rows, PREFERENCE_COLUMNS), "agreement": agreement}


def abx_tables(table: pd.DataFrame, study: Study | None, names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """ABX: one-sided exact binomial tests against guessing, 0.5, for each pair of methods.

    Raises:
        ValueError: without the study, which defines X.
    """
    table = _with_pairs(table, study, names)
    table["right"] = table["chosen"] == table["x"]
    rows = []
    for group, part in groups(table):
        rows += _adjusted([_abx(group, a, b, of_pair) for (a, b), of_pair in _pairs_of(part, names)])
    return {"abx": _table(rows, ABX_COLUMNS), "agreement": _agreement(table, "trial_id", table["chosen"])}


def simulation_tables(table: pd.DataFrame, study: Study | None) -> dict[str, pd.DataFrame]:
    """Model simulation: how often listeners, hearing only the explanation, name the predicted class.

    "cannot tell" counts as wrong. Chance is 1 / classes offered; the majority share is the score of always naming the
    most frequent class. Methods are compared within listeners: McNemar's exact test if each listener gave one answer
    per method, otherwise Wilcoxon's test on each listener's shares.

    Args:
        table: answers, as `with_conditions` returns them, without catch trials.
        study: the study, which defines the number of classes offered.
    """
    table = table.assign(truth=table["pred_class"].where(table["pred_class"] != "", table["true_class"]))
    table["right"] = table["answer"] == table["truth"]
    table["choices"] = _offered(table, study)
    rows, pairs = [], []
    for group, part in groups(table):
        names = conditions_of(part)
        rows += [_simulation(group, name, part[part["condition"] == name]) for name in names]
        pairs += _adjusted([_simulation_pair(group, part, a, b) for a, b in combinations(names, 2)])
    counts = table.groupby(["condition", "truth", "answer"], sort=False).size().reset_index(name="count")
    order = {name: place for place, name in enumerate(conditions_of(table))}
    counts = counts.sort_values("condition", key=lambda column: column.map(order), kind="stable")
    return {
        "simulation": _table(rows, SIMULATION_COLUMNS),
        "pairs": _table(pairs, SIMULATION_PAIR_COLUMNS),
        "confusion": _table(counts.to_dict("records"), CONFUSION_COLUMNS),
        "agreement": _agreement(table, "stimulus_id", table["answer"]),
    }


def _with_pairs(table: pd.DataFrame, study: Study | None, names: Mapping[str, str]) -> pd.DataFrame:
    """Adds columns a, b: the two conditions of the trial; chosen: one of them or ""; x: the condition of X."""
    if study is None:
        raise ValueError(
            f"{table['file'].iloc[0]}: A/B and ABX answers can be read only with study.json, which lists the sounds of "
            "each trial; it was not found near the key"
        )
    trials = {trial.trial_id: trial for trial in study.trials}
    unknown = table[~table["trial_id"].isin(trials)]
    if len(unknown):
        row = unknown.iloc[0]
        raise ValueError(f"{row.file}, line {row.line}: the study has no trial {row.trial_id!r}; give its study.json")
    order = _places(names)
    pairs = [
        sorted((names.get(name, name) for name in trials[trial].stimuli), key=lambda name: order.get(name, len(order)))
        for trial in table["trial_id"]
    ]
    contexts = [trials[trial].context for trial in table["trial_id"]]
    chosen = table["stimulus_id"].map(names).fillna("")
    a, b = ([pair[end] if pair else "" for pair in pairs] for end in (0, -1))
    return table.assign(a=a, b=b, chosen=chosen, x=[names.get(name, "") for name in contexts])


def _places(names: Mapping[str, str]) -> dict[str, int]:
    """condition -> its place in `names`, which the analysis gives in the order of the run."""
    return {name: place for place, name in enumerate(dict.fromkeys(names.values()))}


def _pairs_of(part: pd.DataFrame, names: Mapping[str, str]) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The answers of each pair of conditions, pairs in the order of the run."""
    order = _places(names)
    return sorted(
        part.groupby(["a", "b"], sort=False), key=lambda pair: [order.get(name, len(order)) for name in pair[0]]
    )


def _preference(group: str, a: str, b: str, rows: pd.DataFrame) -> dict:
    per_listener = rows.groupby("participant")["chosen"].agg(lambda said: (said == a).sum() - (said == b).sum())
    for_a, for_b = int((per_listener > 0).sum()), int((per_listener < 0).sum())
    prefer_a, prefer_b = int((rows["chosen"] == a).sum()), int((rows["chosen"] == b).sum())
    share = wilson_interval(prefer_a, prefer_a + prefer_b)
    few = "fewer than 6 listeners with a preference: p cannot be below 0.05" if for_a + for_b < 6 else ""
    return {
        **{"group": group, "a": a, "b": b, "n": len(rows), "prefer_a": prefer_a, "prefer_b": prefer_b},
        **{"no_preference": len(rows) - prefer_a - prefer_b},
        **{"share_a": share.estimate, "low": share.low, "high": share.high, "n_listeners": len(per_listener)},
        **{"listeners_a": for_a, "listeners_b": for_b, "listeners_tied": len(per_listener) - for_a - for_b},
        **{"p": binomial_p(for_a, for_a + for_b), "p_pooled": binomial_p(prefer_a, prefer_a + prefer_b), "note": few},
    }


def _abx(group: str, a: str, b: str, rows: pd.DataFrame) -> dict:
    right, n = int(rows["right"].sum()), len(rows)
    share, listeners = wilson_interval(right, n), mean_interval(rows.groupby("participant")["right"].mean())
    pooled = "answers of one listener are counted as independent" if n > listeners.n else ""
    return {
        **{"group": group, "a": a, "b": b, "n": n, "n_listeners": listeners.n, "correct": right},
        **{"share": share.estimate, "low": share.low, "high": share.high, "p": binomial_p(right, n, "greater")},
        **{"listener_mean": listeners.estimate, "listener_low": listeners.low, "listener_high": listeners.high},
        "note": pooled,
    }


def _simulation(group: str, name: str, rows: pd.DataFrame) -> dict:
    right, n = int(rows["right"].sum()), len(rows)
    share, listeners = wilson_interval(right, n), rows["participant"].nunique()
    chance = float((1 / rows["choices"]).mean())
    counts = rows["truth"].value_counts()
    majority = float(counts.iloc[0] / n)
    true = rows["true_class"] != ""
    return {
        **{"group": group, "condition": name, "n": n, "n_listeners": listeners, "correct": right},
        "cannot_tell": int((rows["answer"] == CANNOT_TELL).sum()),
        **{"share": share.estimate, "low": share.low, "high": share.high, "chance": chance},
        "p_chance": binomial_p(right, n, "greater", chance),
        **{"majority_class": counts.index[0], "majority_share": majority},
        "p_majority": binomial_p(right, n, "greater", majority),
        "share_true_class": float((rows["answer"] == rows["true_class"])[true].mean()) if true.any() else np.nan,
        "note": "answers of one listener are counted as independent" if n > listeners else "",
    }


def _simulation_pair(group: str, part: pd.DataFrame, a: str, b: str) -> dict:
    rows = part[part["condition"].isin([a, b])]
    by_listener = (
        rows.groupby(["participant", "condition"])["right"].agg(["mean", "size"]).unstack("condition").dropna()
    )
    row = {"group": group, "a": a, "b": b, "n": len(by_listener), "test": "", "note": ""}
    if len(by_listener) < 2:
        lacking = dict.fromkeys(("mean_difference", "low", "high", "p"), np.nan)
        return {**row, **lacking, "note": "fewer than two listeners heard both methods"}
    means = by_listener["mean"]
    row["mean_difference"], row["low"], row["high"], _ = mean_interval(means[a] - means[b])
    if (by_listener["size"] == 1).to_numpy().all():
        only_a, only_b = int((means[a] > means[b]).sum()), int((means[a] < means[b]).sum())
        return {**row, "test": "McNemar, exact", "p": mcnemar_p(only_a, only_b)}
    test = wilcoxon(means[a] - means[b])
    few = test.n - test.n_zero < 6
    note = f"{test.n - test.n_zero} non-zero differences: p cannot be below 0.05" if few else ""
    return {**row, "test": "Wilcoxon", "p": test.p, "note": note}


def _offered(table: pd.DataFrame, study: Study | None) -> pd.Series:
    """Number of classes offered in each answer's trial; without the study, the number of classes in answers and key."""
    seen = (set(table["answer"]) | set(table["truth"])) - {CANNOT_TELL, ""}
    counts = {}
    for trial in study.trials if study else ():
        counts[trial.trial_id] = len(set(trial.choices) - {CANNOT_TELL})
    return table["trial_id"].map(counts).fillna(len(seen)).clip(lower=1)


def _agreement(table: pd.DataFrame, unit: str, said: pd.Series) -> pd.DataFrame:
    codes = pd.Series(pd.factorize(said)[0].astype(float), index=table.index)
    wide = table.assign(code=codes).pivot_table(index="participant", columns=unit, values="code", aggfunc="first")
    alpha = krippendorff_alpha(wide, "nominal")
    row = {"group": "all items", "measure": "Krippendorff's alpha (nominal)", "value": alpha.alpha}
    row |= {"listeners": alpha.raters, "units": alpha.units, "note": alpha.reason}
    return pd.DataFrame([row], columns=list(AGREEMENT_COLUMNS))


def _adjusted(rows: list[dict]) -> list[dict]:
    for row, p in zip(rows, holm([row["p"] for row in rows])):
        row["p_holm"] = float(p)
    return rows


def _table(rows: Iterable[dict], columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
