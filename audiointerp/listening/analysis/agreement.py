"""Agreement between listeners: Krippendorff's alpha and intraclass correlations; NaN with a reason if undefined."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Level = Literal["nominal", "ordinal", "interval"]

__all__ = ["Agreement", "IntraclassCorrelations", "Level", "intraclass", "krippendorff_alpha"]


class Agreement(NamedTuple):
    """Krippendorff's alpha of `units` units that at least two raters judged; `reason` says why alpha is NaN."""

    alpha: float
    raters: int
    units: int
    reason: str = ""


class IntraclassCorrelations(NamedTuple):
    """The six coefficients of Shrout & Fleiss (1979), over `units` units that all `raters` raters judged.

    `_1`: of one rater's judgement; `_k`: of the mean of all raters. `icc1`: each unit has its own raters; `icc2`: the
    raters are a sample of listeners (absolute agreement); `icc3`: the raters are the only ones of interest
    (consistency). `reason` says why they are NaN.
    """

    icc1_1: float
    icc2_1: float
    icc3_1: float
    icc1_k: float
    icc2_k: float
    icc3_k: float
    raters: int
    units: int
    reason: str = ""


def krippendorff_alpha(ratings: ArrayLike, level: Level) -> Agreement:
    """Krippendorff's (2011) alpha, computed from the coincidences of values within units.

    Args:
        ratings: (raters, units); NaN for a missing rating. Categories are given as numbers.
        level: how the difference between two values is measured: nominal: equal or not; ordinal: by the number of
            ratings between them; interval: by their squared distance.

    Raises:
        ValueError: if `ratings` is not a table, or the level is unknown.

    >>> round(krippendorff_alpha([[1, 2, 3, 3], [1, 2, 3, 4]], "nominal").alpha, 3)
    0.696
    """
    if level not in get_args(Level):
        raise ValueError(f"level is {level!r}; it must be one of {', '.join(get_args(Level))}")
    table = _table(ratings)
    raters = int((~np.isnan(table)).any(1).sum())
    table = table[:, (~np.isnan(table)).sum(0) >= 2]
    units = table.shape[1]
    if not units:
        return Agreement(np.nan, raters, 0, "no unit was judged by two listeners")
    values = np.unique(table[~np.isnan(table)])
    if len(values) == 1:
        return Agreement(
            np.nan, raters, units, "all answers are equal; agreement cannot be distinguished from a lack of variation"
        )
    counts = (table[:, :, None] == values).sum(0).astype(float)  # (units, values)
    weighted = counts / (counts.sum(1, keepdims=True) - 1)
    coincidences = counts.T @ weighted - np.diag(weighted.sum(0))
    totals = coincidences.sum(1)
    difference = _difference(values, totals, level)
    observed = (coincidences * difference).sum()
    expected = (np.outer(totals, totals) * difference).sum() / (totals.sum() - 1)
    return Agreement(float(1 - observed / expected), raters, units)


def intraclass(ratings: ArrayLike) -> IntraclassCorrelations:
    """Intraclass correlations of Shrout & Fleiss (1979) by two-way analysis of variance.

    Args:
        ratings: (units, raters). Units with a NaN are left out.

    Raises:
        ValueError: if `ratings` is not a table.
    """
    table = _table(ratings)
    table = table[~np.isnan(table).any(1)]
    n, k = table.shape
    reason = ""
    if k < 2:
        reason = "fewer than two listeners"
    elif n < 2:
        reason = f"{n} units were judged by all {k} listeners; two are needed"
    elif np.ptp(table) == 0:
        reason = "all answers are equal"
    if reason:
        return IntraclassCorrelations(*[np.nan] * 6, raters=k, units=n, reason=reason)
    mean = table.mean()
    of_units = k * ((table.mean(1) - mean) ** 2).sum()
    of_raters = n * ((table.mean(0) - mean) ** 2).sum()
    total = ((table - mean) ** 2).sum()
    between, judges = of_units / (n - 1), of_raters / (k - 1)
    within = (total - of_units) / (n * (k - 1))
    error = (total - of_units - of_raters) / ((n - 1) * (k - 1))
    pairs = (
        (between - within, between + (k - 1) * within),
        (between - error, between + (k - 1) * error + k * (judges - error) / n),
        (between - error, between + (k - 1) * error),
        (between - within, between),
        (between - error, between + (judges - error) / n),
        (between - error, between),
    )
    found = [float(top / bottom) if bottom else np.nan for top, bottom in pairs]
    reason = "all units have the same scores" if np.isnan(found).any() else ""
    return IntraclassCorrelations(*found, raters=k, units=n, reason=reason)


def _difference(values: NDArray, totals: NDArray, level: Level) -> NDArray:
    """(values, values), squared differences between values at this level of measurement."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    # The place of an ordinal value is the middle of the ratings that have it.
    place = np.cumsum(totals) - totals / 2 if level == "ordinal" else values
    return (place[:, None] - place[None, :]) ** 2


def _table(ratings: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(ratings, float)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError(f"ratings have shape {table.shape}; they must be a table of finite numbers, NaN where missing")
    return table
