"""Tables of a comparison: means with intervals, paired tests and ranks. Works on files only.

A cell is the mean over items with a bootstrap 95 % interval (percentile, 10,000 resamples of the source recordings, see
`metrics.statistics.crossed_bootstrap`: items that share a recording are not independent). A cell also states its number
of silent outputs, for which SI-SDR is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from audiointerp.metrics.distribution import frechet_distance, too_few
from audiointerp.metrics.statistics import (
    DECIMALS,
    Interval,
    bootstrap_p,
    crossed_bootstrap,
    crossed_interval,
    holm,
    wilcoxon,
)
from audiointerp.results.reading import describe, is_true

# Blocks of a table, in the order of its columns.
BLOCKS = {
    "Decision": (
        *("fidelity", "fidelity_argmax", "faithfulness", "faithfulness_logit", "ai", "ad", "ag"),
        *("insertion", "deletion"),
    ),
    "Sound": (
        *("si_sdr", "si_sdr_improvement", "other_si_sdr_improvement", "right", "kept_energy", "mean_mask"),
        *("sparseness", "complexity", "frechet_distance", "seconds"),
    ),
    "Time": ("time_auc", "time_iou", "time_f1", "pointing_game"),
    "Written WAV": ("wav_fidelity", "wav_faithfulness", "wav_ai", "wav_ad", "wav_ag"),
    "Own prediction": ("theta_top1", "theta_top3", "theta_top5"),
}
TESTED = ("fidelity", "faithfulness", "faithfulness_logit", "ai", "ad", "ag", "insertion", "deletion")
TESTED += ("si_sdr_improvement", "wav_faithfulness", "time_auc", "time_iou", "time_f1", "pointing_game")
RANKED = ("fidelity", "faithfulness", "ai", "ad", "ag", "insertion", "deletion", "si_sdr_improvement")
INPUT = "input"  # "method" of the clips themselves in embeddings.csv
SUFFIX = "_magnitude"
ENDS = ("", SUFFIX, "_other", f"{SUFFIX}_other")  # of the names of a method's rows
DIFFERENCE_COLUMNS = ("condition", "metric", "first", "second", "n", "difference", "low", "high", "p", "rank_biserial")
DIFFERENCE_COLUMNS += ("p_bootstrap", "p_holm")

__all__ = ["BLOCKS", "Cell", "Table", "differences", "make_tables", "ranks", "several_as_one"]


@dataclass(frozen=True)
class Cell:
    """A mean with its interval over `n` items, of which `silent` were silent; `note` is the reason if it is missing.

    Of a method given as several `runs`, such as one for each seed, the mean is over the runs' means, the interval is
    that of the items' means over the runs, and `sd` is the standard deviation (n - 1) of the runs' means.
    """

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    silent: int = 0
    note: str = ""
    sd: float = math.nan
    runs: int = 1


@dataclass(frozen=True)
class Table:
    """A table of scores under one condition.

    Attributes:
        condition: name of the condition.
        subset: whether the table is of the subset's items only.
        magnitude: whether all masks multiply magnitudes.
        rows: method -> metric -> cell.
        rows_n: method -> number of items explained.
        mean_rank: method -> mean rank over the ranked metrics, on items for which no method's output is silent.
        ranked_n: number of those items.
        verdicts: method -> verdict of the sanity checks; empty if no checks were run.
        recognised: smallest probability of the explained class on the input among the table's rows; None: any.
    """

    condition: str
    subset: bool
    magnitude: bool
    rows: dict[str, dict[str, Cell]]
    rows_n: dict[str, int]
    mean_rank: dict[str, float]
    ranked_n: int
    verdicts: dict[str, str] = field(default_factory=dict)
    recognised: float | None = None

    @property
    def title(self) -> str:
        """Title of the table, one line."""
        domain = "all masks multiply magnitudes" if self.magnitude else "each method in its own domain"
        heard = "" if self.recognised is None else f", explained class at least {self.recognised:g} probable"
        return f"{self.condition}{', subset' if self.subset else ''}{heard}: {domain}"

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Blocks of columns, without columns that are empty in every row."""
        filled = {name for row in self.rows.values() for name, cell in row.items() if cell.n or cell.note}
        kept = {block: tuple(name for name in names if name in filled) for block, names in BLOCKS.items()}
        return {block: names for block, names in kept.items() if names}


def make_tables(scores: pd.DataFrame, facts: dict[str, Any], embeddings: pd.DataFrame) -> list[Table]:
    """All tables of a comparison: for each condition and (with costly methods) its subset, own domains and magnitude.

    With `recognised` among the facts, each is followed by the table of the rows whose explained class has at least that
    probability on the input, unless there are none.

    Args:
        scores: scores.csv.
        facts: the return value of `compare.compare`.
        embeddings: embeddings.csv, or an empty table.
    """
    costly = [name for name, each in facts["methods"].items() if each["costly"]]
    facts = several_as_one(facts)
    tables = []
    for condition in facts["conditions"]:
        of_condition: Any = scores[scores["condition"] == condition]
        chosen = of_condition["item_id"].isin(facts["subset"][condition])
        for subset in (False, True) if costly and chosen.any() else (False,):
            rows: Any = (
                of_condition[chosen] if subset else of_condition[~of_condition["method"].map(_base).isin(costly)]
            )
            for magnitude in (False, True):
                tables.append(_table(rows, facts, embeddings, condition, subset, magnitude))
                if (least := facts.get("recognised")) is not None and "target_probability" in rows:
                    heard: Any = rows[rows["target_probability"].astype(float) >= least]
                    if len(heard):
                        tables.append(_table(heard, facts, embeddings, condition, subset, magnitude, least))
    return tables


def _table(
    scores: pd.DataFrame,
    facts: dict[str, Any],
    embeddings: pd.DataFrame,
    condition: str,
    subset: bool,
    magnitude: bool,
    recognised: float | None = None,
) -> Table:
    groups, runs = _by_method(scores, magnitude, facts["several"])
    order = [name for name in facts["methods"] if name in groups] + [name for name in groups if name.endswith("_other")]
    names = list(dict.fromkeys(sorted(order, key=lambda name: _place(name, order))))
    rows = {
        name: {metric: _cell(groups[name], metric, runs.get(name, [])) for metric in _metrics(scores)} for name in names
    }
    for name in names:
        each = [_frechet(embeddings, condition, group) for group in runs.get(name, [groups[name]])]
        rows[name]["frechet_distance"] = _mean_of(each)
    contenders = [name for name in names if not facts["methods"].get(name, {"control": True})["control"]]
    mean_rank, n = ranks({name: groups[name] for name in contenders})
    rows_n = {name: len(groups[name]) for name in names}
    verdicts = facts.get("verdicts", {})
    return Table(condition, subset, magnitude, rows, rows_n, mean_rank, n, verdicts, recognised)


def several_as_one(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with one method in place of the runs of a method that is given as several."""
    several: dict[str, list[str]] = facts.get("several") or {}
    whole: dict[Any, Any] = {
        f"{run}{suffix}": f"{name}{suffix}" for name, runs in several.items() for run in runs for suffix in ENDS
    }
    methods: dict[str, Any] = {}
    for name, each in facts["methods"].items():
        methods.setdefault(whole.get(name, name), each | {"like": whole.get(each.get("like"), each.get("like"))})
    verdicts: dict[str, str] = {}
    for name, verdict in (facts.get("verdicts") or {}).items():
        known = verdicts.get(whole.get(name, name))
        verdicts[whole.get(name, name)] = verdict if known in (None, verdict) else f"{known}; {verdict}"
    return facts | {"several": several, "methods": methods, "verdicts": verdicts}


def _by_method(
    scores: pd.DataFrame, magnitude: bool, several: dict[str, list[str]]
) -> tuple[dict[str, pd.DataFrame], dict[str, list[pd.DataFrame]]]:
    """Rows by method; with `magnitude`, methods that ran in both domains have their rows of the magnitude domain.

    The runs of a method given as several become one method, whose rows are the means of theirs; the second value has
    the rows of each run.
    """
    groups = {str(name): group for name, group in scores.groupby("method", sort=False)}
    runs: dict[str, list[pd.DataFrame]] = {}
    for name, names in several.items():
        for suffix in ENDS:
            if made := [groups.pop(f"{each}{suffix}") for each in names if f"{each}{suffix}" in groups]:
                runs[f"{name}{suffix}"], groups[f"{name}{suffix}"] = made, _over_runs(made, f"{name}{suffix}")
    own = {name: group for name, group in groups.items() if not name.endswith(SUFFIX)}
    if not magnitude:
        return own, runs
    twins = {name.removesuffix(SUFFIX): group for name, group in groups.items() if name.endswith(SUFFIX)}
    runs |= {name.removesuffix(SUFFIX): each for name, each in runs.items() if name.endswith(SUFFIX)}
    return {name: group for name, group in (own | twins).items() if not name.endswith("_other")}, runs


def _over_runs(runs: list[pd.DataFrame], name: str) -> pd.DataFrame:
    """One row an item: means of the runs' scores, of those that have one; silent if one of the runs is."""
    rows: Any = pd.concat(runs).groupby("item_id", sort=False)
    first = rows.first().reset_index()
    means = rows[[each for each in _metrics(first) if each in first]].agg(lambda each: each.astype(float).mean())
    silent = rows["silent"].agg(lambda each: any(is_true(value) for value in each))
    of_items = {column: means[column].to_numpy() for column in means}
    return first.assign(**of_items, silent=[str(each) for each in silent], method=name)


def _base(name: str) -> str:
    """The name of a method without the suffixes for the magnitude domain and for a mixture's other class."""
    return name.removesuffix("_other").removesuffix(SUFFIX)


def _place(name: str, order: list[str]) -> int:
    return order.index(name.removesuffix("_other")) if name.removesuffix("_other") in order else order.index(name)


def _metrics(scores: pd.DataFrame) -> list[str]:
    return [name for names in BLOCKS.values() for name in names if name in scores]


def _cell(group: pd.DataFrame, metric: str, runs: Sequence[pd.DataFrame] = ()) -> Cell:
    values = group[metric].astype(float).to_numpy()
    silent = int(group["silent"].map(is_true).sum())
    interval = _interval(np.where(np.isfinite(values), values, np.nan).tobytes(), tuple(_sources(group)))
    means = [each[metric].astype(float).mean() for each in runs]
    sd = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
    return Cell(interval.estimate, interval.low, interval.high, interval.n, silent, sd=sd, runs=max(len(means), 1))


def _mean_of(cells: list[Cell]) -> Cell:
    """One cell of the same score of several runs, which has no interval."""
    if len(cells) == 1 or any(cell.note for cell in cells):
        return cells[0]
    means = [cell.mean for cell in cells]
    sd = float(np.std(means, ddof=1))
    return Cell(float(np.mean(means)), n=min(cell.n for cell in cells), sd=sd, runs=len(cells))


@lru_cache(maxsize=10_000)
def _interval(values: bytes, sources: tuple[tuple[str, ...], ...]) -> Interval:
    """Bootstrap interval, cached since most values are in two tables; 10,000 resamples of 160 values take 0.1 s."""
    return crossed_interval(np.frombuffer(values), sources)


def _sources(group: pd.DataFrame) -> list[tuple[str, ...]]:
    """The source recordings of each row; in folders written before scores.csv named them, each item is its own."""
    named_items: Any = group.get("item_id", group.index)
    items = [(str(item),) for item in named_items]
    if "recordings" not in group:
        return items
    named = (text if isinstance(text, str) else "" for text in group["recordings"])
    return [tuple(text.split(";")) if text else own for text, own in zip(named, items)]


def _frechet(embeddings: pd.DataFrame, condition: str, group: pd.DataFrame) -> Cell:
    """Frechet distance of a method's interpretations to the clean clips; empty, with a note, for too few clips."""
    if embeddings.empty:
        return Cell(note="no embedding")
    channels = [name for name in embeddings if str(name).startswith("e") and str(name)[1:].isdecimal()]
    clean = embeddings.loc[embeddings["method"] == INPUT, channels].to_numpy()
    name = group["method"].iloc[0]
    mine: Any = embeddings[(embeddings["method"] == name) & (embeddings["condition"] == condition)]
    values = mine.loc[mine["item_id"].isin(group["item_id"]), channels].to_numpy()
    if reason := too_few(min(len(clean), len(values)), len(channels)):
        return Cell(note=reason)
    return Cell(frechet_distance(clean, values), n=len(values))


def ranks(groups: dict[str, pd.DataFrame]) -> tuple[dict[str, float], int]:
    """Mean rank of each method over the ranked metrics (1 = best), and the number of items that it is based on.

    Items for which any method's output is silent are left out; without items there are no ranks. Equal means have the
    same rank.
    """
    sounding = [set(group.loc[~group["silent"].map(is_true), "item_id"]) for group in groups.values()]
    items = set.intersection(*sounding) if sounding else set()
    shared = {name: group.loc[group["item_id"].isin(items), list(RANKED)] for name, group in groups.items()}
    means = pd.DataFrame({name: group.astype(float).mean() for name, group in shared.items()}).dropna().round(DECIMALS)
    if not items or means.empty:
        return {}, len(items)
    higher = [bool(describe(str(metric)).higher_is_better) for metric in means.index]
    signed = means.mul([1 if each else -1 for each in higher], axis=0)
    return signed.rank(axis=1, ascending=False).mean().to_dict(), len(items)


def differences(scores: pd.DataFrame, facts: dict[str, Any]) -> pd.DataFrame:
    """Paired differences of all pairs of methods, of the reference and each control, and of matched controls.

    A matched control is also compared with its method. Each method is in its own domain; the differences are over the
    items on which both explain the same classes. p is of Wilcoxon's signed-rank test, two-sided, which takes items as
    independent; p_bootstrap is of the bootstrap over source recordings, two-sided, and p_holm is p_bootstrap corrected
    over all pairs of one condition and metric.
    """
    rows, facts = [], several_as_one(facts)
    for condition in facts["conditions"]:
        of_condition: Any = scores[scores["condition"] == condition]
        groups, _ = _by_method(of_condition, magnitude=False, several=facts["several"])
        groups = {name: group.set_index("item_id") for name, group in groups.items() if name in facts["methods"]}
        pairs = _pairs([name for name in facts["methods"] if name in groups], facts)
        for metric in TESTED:
            if metric not in scores:  # of a run of an earlier version
                continue
            rows += _tested(groups, pairs, condition, metric)
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


def _pairs(names: list[str], facts: dict[str, Any]) -> list[tuple[str, str]]:
    methods, reference = facts["methods"], facts["reference"]
    names = sorted(names, key=lambda name: name != reference)
    pairs = list(combinations([name for name in names if not methods[name]["control"]], 2))
    pairs += [(reference, name) for name in names[1:] if names[0] == reference]
    pairs += [(methods[name]["like"], name) for name in names if methods[name].get("like") in names]
    return list(dict.fromkeys(pairs))


def _tested(
    groups: dict[str, pd.DataFrame], pairs: list[tuple[str, str]], condition: str, metric: str
) -> list[dict[str, Any]]:
    rows = []
    for first, second in pairs:
        one, two = groups[first], groups[second]
        asked = [each["target"].reindex(one.index).map(str) for each in (one, two)]
        paired = one.loc[asked[0] == asked[1]]
        values = paired[metric].astype(float) - two[metric].astype(float).reindex(paired.index)
        values = values[np.isfinite(values)]
        if len(values):
            sources = tuple(_sources(paired.loc[values.index]))
            interval, test = crossed_interval(values.to_numpy(), sources), wilcoxon(values.to_numpy())
            numbers = {"n": len(values), "difference": interval.estimate, "low": interval.low, "high": interval.high}
            names = {"condition": condition, "metric": metric, "first": first, "second": second}
            p = bootstrap_p(crossed_bootstrap(values.to_numpy(), sources))
            rows.append({**names, **numbers, "p": test.p, "rank_biserial": test.rank_biserial, "p_bootstrap": p})
    for row, p in zip(rows, holm([row["p_bootstrap"] for row in rows])):
        row["p_holm"] = float(p)
    return rows
