"""Reads a run folder: run.json, its tables, and their means. Works on files only, without the model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiointerp.metrics.names import INFO, OF_METHOD, MetricInfo
from audiointerp.results.shapes import read_json
from audiointerp.results.writing import restored

__all__ = [
    "Run",
    "describe",
    "format_score",
    "is_true",
    "pivot",
    "read_likeliest",
    "read_table",
    "score_columns",
    "spread",
    "summary",
]

# Columns read as text, so that class names such as "NA" or "007" are not converted.
TEXT = ("item_id", "method", "source", "target", "predicted", "label", "role", "path", "pred_class", "true_class")
TEXT += ("distractor_class", "group", "sha256", "silent", "condition", "recordings", "chosen", "check", "stage", "rule")
TEXT += (
    "verdict",
    "dictionary",
    "classes",
    "falls",
    "relevances",
    "filler",
    "class",
    "name",
    "truth",
    "added",
    "about",
)

LEFT_OUT_WHEN_SILENT = ("si_sdr", "si_sdr_improvement", "other_si_sdr", "other_si_sdr_improvement")
LIKELIEST = "likeliest.csv"  # item_id, rank, label, probability
SUMMARY_COLUMNS = ("method", "metric", "mean", "sd", "n_scored", "n", "n_silent")
NOT_SCORES = (
    "item_id",
    "method",
    "source",
    "condition",
    "start_s",
    "recordings",
    "target",
    "target_probability",
    "predicted",
    "probability",
    "label",
    "silent",
    "chosen",
)


# run.json; more facts are shown as they are.
ABOUT = {
    **dict.fromkeys(("name?", "kind?", "model?", "device?", "recipe_hash?"), (str, None)),
    **dict.fromkeys(("finished?", "scored?"), bool),
    "seed?": (int, str, None),
    "labels?": ([(str, int)], None),
    "results?": (dict, None),
    "command?": (str, [str], None),
}


@dataclass(frozen=True)
class Run:
    """The contents of a run folder.

    Attributes:
        folder: its path.
        about: run.json.
        scores: scores.csv, one row per item, method and window; empty if the file does not exist.
        manifest: manifest.csv, one row per WAV; empty if the file does not exist.
    """

    folder: Path
    about: dict[str, Any]
    scores: pd.DataFrame
    manifest: pd.DataFrame

    @property
    def name(self) -> str:
        """Recipe name and seed."""
        name, seed = self.about.get("name") or self.folder.name, self.about.get("seed")
        return str(name) if seed is None else f"{name}, seed {seed}"

    @property
    def labels(self) -> list[str]:
        """Class names; their order is the class index. May be empty."""
        return [str(label) for label in self.about.get("labels") or []]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Reads the folder; ValueError, naming the file, if it is not a run folder or a table cannot be read."""
        folder = Path(folder)
        path = folder / "run.json"
        if not path.is_file():
            raise ValueError(f"{folder}: no run.json in it; give the folder that a run wrote")
        about = read_json(path, ABOUT)
        # A run that trains a classifier explains no clip and has no scores.csv. In folders written before run.json had
        # "scored", a finished run without scores.csv is taken for such a run.
        if not (folder / "scores.csv").is_file() and about.get("scored", not about.get("finished")):
            raise ValueError(f"{folder}: no scores.csv in it; let the run finish, or evaluate it, and report again")
        scores = read_table(folder / "scores.csv", ("item_id", "method"))
        return cls(folder, about, scores, read_table(folder / "manifest.csv", ("item_id", "role", "path")))

    def summary(self) -> pd.DataFrame:
        """Mean scores, see `summary`; for a run without scores, the results in run.json in the same columns."""
        if len(self.scores):
            return summary(self.scores)
        results = self.about.get("results") or {}
        numbers = {
            name: value
            for name, value in results.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "test_clips"
        }
        clips = results.get("test_clips", 1)
        rows = [("classifier", name, value, math.nan, clips, clips, 0) for name, value in numbers.items()]
        return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def read_table(path: Path, needed: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV file of a run, with names as text; empty if there is no such file.

    Args:
        path: the file.
        needed: columns that it must have; those that are not in `TEXT` hold numbers or empty cells.

    Raises:
        ValueError: if the file is not a table, lacks a needed column, or has another thing where a number is needed.
    """
    needed = list(needed)
    if not path.is_file():
        return pd.DataFrame()
    try:
        types: Any = dict.fromkeys(TEXT, str)
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=["", "nan", "NaN"])
    except (ValueError, OverflowError) as error:  # pandas' own errors and those of text are ValueErrors
        raise ValueError(f"{path}: not readable as a table ({' '.join(str(error).split())})") from None
    missing = [name for name in needed if name not in table]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    for name in table.columns.difference(TEXT):
        # pandas reads True, False and empty cells in one column as text; they mean scores of 1, 0 and no score.
        if table[name].dropna().isin(["True", "False", True, False]).all():
            table[name] = table[name].map({"True": 1.0, "False": 0.0, True: 1.0, False: 0.0})
    for name in set(needed) - set(TEXT):
        numbers: Any = pd.to_numeric(table[name], errors="coerce")
        if len(wrong := table.index[numbers.isna() & table[name].notna()]):
            value = str(table[name][wrong[0]])[:40]
            raise ValueError(f"{path}, row {wrong[0] + 2}: {name} is {value!r}; expected a number")
        table[name] = numbers
    table = table.fillna(dict.fromkeys((name for name in TEXT if name in table), ""))
    for name in table.columns.intersection(TEXT):
        table[name] = table[name].map(restored)
    return table


def read_likeliest(folder: Path, most: int | None = None) -> dict[str, list[tuple[str, float]]]:
    """Item -> its likeliest labels with their probabilities, of the first `most` items; empty without likeliest.csv."""
    table = read_table(folder / LIKELIEST, ("item_id", "label", "probability"))
    found: dict[str, list[tuple[str, float]]] = {}
    for row in table.to_dict("records"):
        try:
            probability = float(row["probability"])
        except (TypeError, ValueError):
            raise ValueError(f"{folder / LIKELIEST}: probability is {row['probability']!r}, not a number") from None
        found.setdefault(row["item_id"], []).append((row["label"], probability))
    return dict(list(found.items())[:most])


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and SD over clips of every score, per method.

    Means are over finite scores; means of SI-SDR also leave out silent interpretations. The SD is that of a sample
    (n - 1), NaN for a single clip.

    Args:
        scores: one row per item and method, as scores.csv.

    Returns:
        One row per method and metric, with columns method, metric, mean, sd, n_scored, n, n_silent: of n rows, the mean
        is over n_scored; n_silent are silent, whether or not this metric leaves them out.

    >>> table = summary(pd.DataFrame({"method": ["piq", "piq"], "ad": [10.0, 30.0], "silent": [False, True]}))
    >>> table[["method", "metric", "mean", "n_scored", "n", "n_silent"]].values.tolist()
    [['piq', 'ad', 20.0, 2, 2, 1]]
    """
    rows = []
    for method, metric, values, n, n_silent in _finite(scores):
        rows.append((method, metric, values.mean(), values.std(), len(values), n, n_silent))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def spread(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """How every score is distributed over clips, per method; the values are those whose mean `summary` gives.

    Args:
        scores: one row per item and method, as scores.csv.

    Returns:
        One dict per metric whose values differ: "info", its description; "low" and "high", its smallest and largest
        value of all methods; "methods": name -> (smallest value, lower quartile, median, upper quartile, largest).

    >>> (line,) = spread(pd.DataFrame({"method": ["piq"] * 5, "ad": [0.0, 10.0, 20.0, 30.0, 90.0]}))
    >>> line["methods"]
    {'piq': [0.0, 10.0, 20.0, 30.0, 90.0]}
    """
    found: dict[str, dict[str, list[float]]] = {}
    for method, metric, values, _, _ in _finite(scores):
        if len(values):
            found.setdefault(metric, {})[method] = values.quantile([0.0, 0.25, 0.5, 0.75, 1.0]).tolist()
    lines = []
    for metric, methods in found.items():
        low, high = min(each[0] for each in methods.values()), max(each[-1] for each in methods.values())
        if high > low:
            lines.append({"info": describe(metric), "low": low, "high": high, "methods": methods})
    return lines


def _finite(scores: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series, int, int]]:
    """Method, metric, the values that count, and the numbers of the method's rows and silent rows.

    Clean clips and mixtures are not put together: if there are both, each method has one entry per condition.
    """
    name = scores["method"]
    if "condition" in scores and scores["condition"].nunique() > 1:
        name = name + ", " + scores["condition"]
    for method, group in scores.groupby(name, sort=False):
        silent = _silent(group)
        for metric in score_columns(scores):
            values = group.loc[~silent, metric] if metric in LEFT_OUT_WHEN_SILENT else group[metric]
            values = values.astype(float)
            yield str(method), metric, values[np.isfinite(values)], len(group), int(silent.sum())


def format_score(value: float | None, unit: str = "", show_unit: bool = True) -> str:
    """A score as text, rounded according to its unit; an en dash if there is no score.

    >>> format_score(0.81234), format_score(54.61, "%"), format_score(-3.14159, "dB"), format_score(float("nan"))
    ('0.812', '54.6 %', '−3.1 dB', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = {"%": 1, "dB": 1, "s": 2}.get(unit, 3)
    # Adding 0.0 turns -0.0 into 0.0.
    text = f"{round(value, digits) + 0.0:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{text.replace('-', '−')} {unit if show_unit else ''}".rstrip()


def describe(metric: str) -> MetricInfo:
    """The metric's description; for an unknown column, a description made from its name."""
    return INFO.get(metric) or OF_METHOD.get(metric) or MetricInfo(metric, metric.replace("_", " "), None, "")


def score_columns(scores: pd.DataFrame) -> list[str]:
    """Columns to average: the known metrics in their order, then all other numeric columns."""
    numeric = [str(name) for name in scores if name not in NOT_SCORES and pd.api.types.is_numeric_dtype(scores[name])]
    return [name for name in INFO if name in numeric] + [name for name in numeric if name not in INFO]


def _silent(scores: pd.DataFrame) -> pd.Series:
    if "silent" not in scores:
        return pd.Series(False, index=scores.index)
    return scores["silent"].map(is_true).astype(bool)


def pivot(table: pd.DataFrame) -> dict[str, Any]:
    """Rows of `summary` arranged as a table with one line per metric and one cell per method."""
    cells = {(row["method"], row["metric"]): row for row in table.to_dict("records")}
    methods = list(dict.fromkeys(method for method, _ in cells))
    return {
        "methods": methods,
        "lines": [
            (describe(metric), [cells.get((method, metric)) for method in methods])
            for metric in dict.fromkeys(metric for _, metric in cells)
        ],
        "means": {key: row["mean"] for key, row in cells.items()},
        "silent": [next(row for key, row in cells.items() if key[0] == method) for method in methods],
    }


def is_true(value: object) -> bool:
    """Whether a cell of a table means true."""
    return str(value).lower() in ("true", "1", "1.0")
