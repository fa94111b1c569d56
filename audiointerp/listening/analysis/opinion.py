"""Scores on a scale -> means per method with intervals, paired tests, agreement.

The unit of analysis is the listener: scores are first averaged over items within each listener, because the scores of
one listener are not independent. Tables hold one row per group of items and, with several groups, rows of all items.
"""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from audiointerp.listening.analysis.agreement import intraclass, krippendorff_alpha
from audiointerp.listening.analysis.answers import SCALES, conditions_of, groups
from audiointerp.metrics.statistics import Interval, bootstrap_interval, friedman, holm, mean_interval, wilcoxon

IntervalKind = Literal["t", "bootstrap"]
METHOD_COLUMNS = (
    *("group", "condition", "system", "n_listeners", "n_items", "n_scores", "mean", "low", "high", "sd"),
    *("median", "q1", "q3", "beyond_scale", "note"),
)
ITEM_COLUMNS = (
    *("group", "item_id", "pred_class", "condition", "system", "n", "mean", "low", "high", "sd"),
    *("median", "q1", "q3", "n_outliers"),
)
PAIR_COLUMNS = (
    *("group", "a", "b", "n", "n_zero", "mean_difference", "low", "high", "median_difference", "w", "p", "p_holm"),
    *("rank_biserial", "note"),
)
FRIEDMAN_COLUMNS = ("group", "k", "n", "statistic", "p", "note")
AGREEMENT_COLUMNS = ("group", "measure", "value", "listeners", "units", "note")

NO_WIDTH = "all listeners agree exactly: the interval has no width, which says nothing of other listeners"

__all__ = ["IntervalKind", "interval_of", "listener_means", "opinion_tables"]


def interval_of(values: pd.Series, ci: IntervalKind, level: float = 0.95) -> Interval:
    """Mean of independent values with an interval of the given kind."""
    return mean_interval(values, level) if ci == "t" else bootstrap_interval(values, level)


def listener_means(table: pd.DataFrame) -> pd.DataFrame:
    """(listeners, conditions), each listener's mean over items; NaN where the listener scored no item."""
    return table.pivot_table(index="participant", columns="condition", values="value", aggfunc="mean", sort=False)


def opinion_tables(table: pd.DataFrame, ci: IntervalKind = "t") -> dict[str, pd.DataFrame]:
    """Tables of one scale task.

    Args:
        table: answers with `value`, as `with_conditions` returns them, without catch trials.
        ci: Student's t interval, or the percentile bootstrap over listeners.

    Returns:
        methods: per condition, mean over listeners' means with interval and SD; median and quartiles of the scores.
        items: the same per item, over listeners.
        pairs: mean over listeners of their mean difference on items scored under both methods, with interval, and
            Wilcoxon's test of these differences; Holm's correction within a group.
        friedman: Friedman's test for three or more methods, on listeners who scored all of them.
        agreement: Krippendorff's alpha, ICC(2, 1) and ICC(2, k); units are item x method.
    """
    low, high = SCALES[table["task"].iloc[0]]
    found: dict[str, list] = {"methods": [], "items": [], "pairs": [], "friedman": [], "agreement": []}
    for group, part in groups(table):
        items = part["item_id"].nunique()
        found["methods"] += [_method(group, name, rows, ci, (low, high), items) for name, rows in _conditions(part)]
        systems = part[part["system"]]
        found["pairs"] += _pairs(group, systems, ci)
        found["friedman"] += _friedman(group, systems)
        found["agreement"] += _agreement(group, systems, "ordinal" if high - low < 10 else "interval")
    for group, part in list(groups(table))[: table["group"].nunique()]:
        found["items"] += _items(group, part, ci)
    columns = (METHOD_COLUMNS, ITEM_COLUMNS, PAIR_COLUMNS, FRIEDMAN_COLUMNS, AGREEMENT_COLUMNS)
    return {name: pd.DataFrame(rows, columns=list(names)) for (name, rows), names in zip(found.items(), columns)}


def _conditions(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Methods under test first, in the order of the run, then references and anchors."""
    return ((name, table[table["condition"] == name]) for name in conditions_of(table))


def _method(
    group: str, name: str, rows: pd.DataFrame, ci: IntervalKind, scale: tuple[float, float], of_items: int
) -> dict:
    means = rows.groupby("participant")["value"].mean()
    found, n_items = interval_of(means, ci), rows["item_id"].nunique()
    notes = ["n<2: not available"] * (found.n < 2) + [f"on {n_items} of {of_items} items"] * (n_items < of_items)
    notes += [NO_WIDTH] * _has_no_width(found)
    return {
        "group": group,
        "condition": name,
        "system": bool(rows["system"].iloc[0]),
        "n_listeners": found.n,
        "n_items": n_items,
        "n_scores": len(rows),
        **_moments(found, means),
        **_quartiles(rows["value"]),
        "beyond_scale": bool(found.low < scale[0] or found.high > scale[1]),
        "note": "; ".join(notes),
    }


def _has_no_width(found: Interval) -> bool:
    return found.n > 1 and found.low == found.high


def _moments(found: Interval, values: pd.Series) -> dict[str, float]:
    sd = float(values.std()) if len(values) > 1 else np.nan
    return {"mean": found.estimate, "low": found.low, "high": found.high, "sd": sd}


def _quartiles(values: pd.Series) -> dict[str, float]:
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def _items(group: str, part: pd.DataFrame, ci: IntervalKind) -> list[dict]:
    rows = []
    for item, of_item in part.groupby("item_id", sort=False):
        for condition, scores in _conditions(of_item):
            values = scores.groupby("participant")["value"].mean()
            found, quartiles = interval_of(values, ci), _quartiles(values)
            reach = 1.5 * (quartiles["q3"] - quartiles["q1"])
            outside = (values < quartiles["q1"] - reach) | (values > quartiles["q3"] + reach)
            about = {"group": group, "item_id": item, "pred_class": scores["pred_class"].iloc[0]}
            system = bool(scores["system"].iloc[0])
            about |= {"condition": condition, "system": system, "n": found.n}
            rows.append({**about, **_moments(found, values), **quartiles, "n_outliers": int(outside.sum())})
    return rows


def _pairs(group: str, systems: pd.DataFrame, ci: IntervalKind) -> list[dict]:
    index = ["participant", "item_id"]
    cells = systems.pivot_table(index=index, columns="condition", values="value", aggfunc="mean", sort=False)
    rows = []
    for a, b in combinations(conditions_of(systems), 2):
        # Only items scored under both methods, so that differences between items do not count as ones of methods.
        differences = (cells[a] - cells[b]).dropna().groupby("participant").mean()
        test = wilcoxon(differences)
        note = ""
        if test.n == 0:
            note = "no listener scored both methods on the same item"
        elif test.n - test.n_zero < 6:
            note = f"{test.n - test.n_zero} non-zero differences: p cannot be below 0.05"
        found = interval_of(differences, ci)
        note = "; ".join(filter(None, [note, NO_WIDTH if _has_no_width(found) else ""]))
        ends = {"mean_difference": found.estimate, "low": found.low, "high": found.high}
        rows.append({"group": group, "a": a, "b": b, **test._asdict(), **ends, "note": note})
        if test.n < 2:
            rows[-1] |= {"p": np.nan, "note": note if test.n == 0 else "one listener: no test"}
    for row, p in zip(rows, holm([row["p"] for row in rows])):
        row["p_holm"] = float(p)
    return rows


def _friedman(group: str, systems: pd.DataFrame) -> list[dict]:
    if systems["condition"].nunique() < 3:
        return []
    # Listeners' means over the items that have every method, so that all columns cover the same items.
    per_item = systems.groupby("item_id")["condition"].nunique()
    shared = per_item.index[per_item == systems["condition"].nunique()]
    if not len(shared):
        return [{"group": group, "k": systems["condition"].nunique(), "n": 0, "note": "no item has every method"}]
    means = listener_means(systems[systems["item_id"].isin(shared)])
    test = friedman(means)
    items = f"on the {len(shared)} items with every method"
    note = items if test.n > 1 else "fewer than two listeners scored every method"
    return [{"group": group, "k": test.k, "n": test.n, "statistic": test.statistic, "p": test.p, "note": note}]


def _agreement(group: str, systems: pd.DataFrame, level: Literal["ordinal", "interval"]) -> list[dict]:
    units = systems.assign(unit=systems["item_id"] + " " + systems["condition"])
    if units.empty:
        return []
    table = units.pivot_table(index="unit", columns="participant", values="value", aggfunc="mean", sort=False)
    alpha, icc = krippendorff_alpha(table.T, level), intraclass(table)
    name = f"Krippendorff's alpha ({level})"
    measures = [(name, alpha.alpha, alpha), ("ICC(2,1)", icc.icc2_1, icc), ("ICC(2,k)", icc.icc2_k, icc)]
    return [
        {"group": group, "measure": each, "value": value, "listeners": of.raters, "units": of.units, "note": of.reason}
        for each, value, of in measures
    ]
