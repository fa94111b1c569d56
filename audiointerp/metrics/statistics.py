"""Intervals and tests for comparing methods: arrays in, numbers out. Used by listening tests and comparison tables.

Missing values: NaN is a value that was not observed. Every function leaves NaN out (with pairs and rows: the whole pair
or row) and never replaces it; `n` in the results counts the remaining values. A result that needs more values than
remain is NaN. Infinite values raise ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Alternative = Literal["two-sided", "less", "greater"]
DECIMALS = 9  # 0.3 - 0.1 and 0.2 are equal only after rounding
ALL_SIGNS = 13  # largest sample whose signs SciPy's `method="auto"` tries all, ties or not
_BLOCK = 2_000_000  # resampled values held at once

__all__ = [
    "Alternative",
    "FriedmanTest",
    "Interval",
    "PairedTest",
    "binomial_p",
    "bootstrap_interval",
    "bootstrap_p",
    "crossed_bootstrap",
    "crossed_interval",
    "friedman",
    "holm",
    "mcnemar_p",
    "mean_interval",
    "wilcoxon",
    "wilson_interval",
]


class Interval(NamedTuple):
    """An estimate with its confidence interval; `low` and `high` are NaN if `n` is too small."""

    estimate: float
    low: float
    high: float
    n: int


class PairedTest(NamedTuple):
    """Wilcoxon's signed-rank test.

    Attributes:
        w: the smaller of the rank sums of positive and of negative differences.
        n: pairs, zero differences included.
        n_zero: differences that are zero.
        p: two-sided.
        rank_biserial: (positive - negative rank sum) / their total, -1 to 1; 0 if all differences are zero.
        median_difference: of all pairs.
    """

    w: float
    n: int
    n_zero: int
    p: float
    rank_biserial: float
    median_difference: float


class FriedmanTest(NamedTuple):
    """Friedman's test of k treatments on n complete rows."""

    statistic: float
    p: float
    n: int
    k: int


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean and Student's t interval m ± t · s/√n, for at least two independent values.

    >>> interval = mean_interval([4, 5, 3, 4, 5, 4, 2, 5, 4, 4])
    >>> interval.estimate, round(interval.high - interval.estimate, 6)
    (4.0, 0.674445)
    """
    observed, level = _observed(values), _level(level)
    n = len(observed)
    if n < 2:
        return Interval(float(observed[0]) if n else np.nan, np.nan, np.nan, n)
    mean = float(observed.mean())
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * observed.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_interval(
    values: ArrayLike,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Mean and percentile bootstrap interval; the same arguments give the same numbers.

    Args:
        values: (n,), resampled one by one, or cluster by cluster.
        level: coverage, 0 to 1.
        resamples: number of resamples.
        seed: of the resampling.
        clusters: (n,), the cluster of each value, such as the participant. Whole clusters are resampled, so that
            values of one cluster need not be independent; the estimate is the mean of all values, and the result's
            `n` counts clusters. To weigh participants equally, give one mean per participant instead.

    Raises:
        ValueError: if lengths differ, or a setting is out of range.

    >>> bootstrap_interval([1, 2, 3, 4], clusters=["a", "a", "b", "b"])
    Interval(estimate=2.5, low=1.5, high=3.5, n=2)
    """
    array, level = _vector(values), _level(level)
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; an interval needs at least 1, better 10000")
    owners = np.arange(len(array)) if clusters is None else np.asarray(clusters)
    if owners.shape != array.shape:
        raise ValueError(f"{len(array)} values have clusters of shape {owners.shape}; each value needs one")
    seen = ~np.isnan(array)
    _, owner = np.unique(owners[seen], return_inverse=True)
    sums, counts = np.bincount(owner, array[seen]), np.bincount(owner)
    n = len(counts)
    if n < 2:
        return Interval(float(sums.sum() / counts.sum()) if n else np.nan, np.nan, np.nan, n)
    generator, means = np.random.default_rng(seed), []
    for start in range(0, resamples, block := max(1, _BLOCK // n)):
        drawn = generator.integers(n, size=(min(block, resamples - start), n))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), n)


def crossed_interval(
    values: ArrayLike, sources: Sequence[Sequence[str]], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean and percentile interval of `crossed_bootstrap`; `n` counts values, since sources are shared.

    >>> crossed_interval([1, 2, 3], [["a", "b"], ["b", "c"], ["a", "c"]]).estimate
    2.0
    """
    array, level = _vector(values), _level(level)
    seen = ~np.isnan(array)
    n = int(seen.sum())
    means = crossed_bootstrap(array, sources, resamples, seed)
    if n < 2 or not len(means):
        return Interval(float(array[seen].mean()) if n else np.nan, np.nan, np.nan, n)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(array[seen].mean()), float(low), float(high), n)


def crossed_bootstrap(
    values: ArrayLike, sources: Sequence[Sequence[str]], resamples: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """Means of bootstrap resamples of sources, where a value may belong to several, as a mixture to two recordings.

    The pigeonhole bootstrap: Owen (2007), "The pigeonhole bootstrap", https://doi.org/10.1214/07-AOAS122. Sources are
    resampled with replacement; a value counts as often as the product of its sources' counts says. With one source per
    value this is the cluster bootstrap. For values with two sources the interval is on average wider than needed, never
    narrower. Resamples in which no value counts are left out.

    Args:
        values: (n,).
        sources: the sources of each value, at least one; a source named twice counts once.
        resamples: number of resamples.
        seed: of the resampling.

    Returns:
        (at most `resamples`,); empty if fewer than two sources remain.

    Raises:
        ValueError: if lengths differ, a value has no source, or `resamples` is below 1.
    """
    array = _vector(values)
    if len(sources) != len(array) or not all(sources):
        raise ValueError(f"{len(array)} values have {len(sources)} lists of sources; each value needs one, not empty")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; an interval needs at least 1, better 10000")
    seen = np.flatnonzero(~np.isnan(array))
    weights = _resampled_weights(tuple(tuple(sources[int(row)]) for row in seen), resamples, seed)
    total = weights.sum(1)
    return (weights @ array[seen])[total > 0] / total[total > 0]


@lru_cache(maxsize=4)
def _resampled_weights(sources: tuple[tuple[str, ...], ...], resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each value counts in each resample, (resamples, values); kept, since many scores share their items."""
    names = {name: i for i, name in enumerate(dict.fromkeys(name for own in sources for name in own))}
    n = len(names)
    if n < 2:
        return np.empty((0, len(sources)))
    owners = [sorted({names[name] for name in own}) for own in sources]
    generator, blocks = np.random.default_rng(seed), []
    for start in range(0, resamples, block := max(1, _BLOCK // n)):
        size = min(block, resamples - start)
        drawn = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        blocks.append(np.stack([counts[:, own].prod(1) for own in owners], axis=1).astype(float))
    return np.concatenate(blocks)


def bootstrap_p(means: ArrayLike) -> float:
    """Two-sided p of the hypothesis that a mean is 0, from its bootstrap resamples: twice the smaller share beyond 0.

    One resample is added to each side, so that p is never 0; NaN without resamples.

    >>> bootstrap_p([1.0, 2.0, 3.0])
    0.5
    """
    drawn = _observed(means)
    if not len(drawn):
        return np.nan
    shares = ((drawn <= 0).sum() + 1, (drawn >= 0).sum() + 1)
    return float(min(1.0, 2 * min(shares) / (len(drawn) + 1)))


def wilcoxon(differences: ArrayLike) -> PairedTest:
    """Wilcoxon's signed-rank test of paired differences, two-sided, zeros by Pratt's method.

    Wilcoxon (1945); Pratt (1959): zeros are ranked, then their ranks are dropped. Differences are first rounded to
    1e-9, because equal differences of decimal fractions are not equal as floats. p is that of SciPy's `method="auto"`:
    of all signs of the differences for small samples, otherwise asymptotic, but never below 2 / 2^(non-zero
    differences), the smallest possible value: fewer than six non-zero differences never reach 0.05. If all differences
    are zero, p is 1.

    >>> wilcoxon([1, 2, 0, 1, 3, 1, 0, 2, -1, 1, 2, 1]).w
    5.5
    """
    observed = np.round(_observed(differences), DECIMALS)
    n, n_zero = len(observed), int((observed == 0).sum())
    if not n:
        return PairedTest(np.nan, 0, 0, np.nan, np.nan, np.nan)
    median = float(np.median(observed))
    if n_zero == n:
        return PairedTest(0.0, n, n_zero, 1.0, 0.0, median)
    ranks = stats.rankdata(np.abs(observed))
    positive, negative = float(ranks[observed > 0].sum()), float(ranks[observed < 0].sum())
    if n <= ALL_SIGNS:
        found = _p_of_all_signs(ranks[observed != 0], positive)
    else:
        found = float(stats.wilcoxon(observed, zero_method="pratt", method="auto").pvalue)  # pyright: ignore
    p = min(1.0, max(found, 2.0 ** (1 - (n - n_zero))))
    effect = (positive - negative) / (positive + negative)
    return PairedTest(min(positive, negative), n, n_zero, p, effect, median)


def _p_of_all_signs(ranks: NDArray[np.float64], positive: float) -> float:
    """Two-sided p of a sum of positive ranks if each rank's sign is drawn: shares of all 2^n sums, counted exactly.

    Ranks are multiples of 1/2, so that twice the sums are whole numbers. SciPy takes the same p from 2^n permutations
    where differences tie, which takes a second.
    """
    counts = np.ones(1)
    for step in np.rint(2 * ranks).astype(int):
        counts = np.pad(counts, (0, step)) + np.pad(counts, (step, 0))
    place = round(2 * positive)
    return float(min(1.0, 2 * min(counts[: place + 1].sum(), counts[place:].sum()) / counts.sum()))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) step-down adjusted p-values, in the order given. NaN stays NaN and does not count as a test.

    >>> [round(float(p), 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    given = _vector(p_values)
    tests = np.flatnonzero(~np.isnan(given))
    if ((given[tests] < 0) | (given[tests] > 1)).any():
        raise ValueError(f"p-values run from {np.nanmin(given):g} to {np.nanmax(given):g}; they must lie in [0, 1]")
    order = tests[np.argsort(given[tests], kind="stable")]
    adjusted = np.full(len(given), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)))
    return adjusted


def friedman(table: ArrayLike) -> FriedmanTest:
    """Friedman's (1937) test that k >= 3 treatments do not differ, with ties corrected.

    Args:
        table: (rows, treatments), such as participants x methods. Rows with NaN are left out.

    If all treatments are equal in every row, p is 1; with fewer than two complete rows p is NaN.

    Raises:
        ValueError: if the table has fewer than three columns.

    >>> round(friedman([[1, 2, 3], [1, 2, 3], [1, 3, 2], [2, 1, 3]]).statistic, 6)
    4.5
    """
    array = np.asarray(table, float)
    if array.ndim != 2 or array.shape[1] < 3:
        raise ValueError(f"Friedman's test was given shape {array.shape}; it needs (rows, at least 3 treatments)")
    if np.isinf(array).any():
        raise ValueError("the table holds infinite values; only finite numbers, or NaN for missing, can be ranked")
    rows = np.round(array[~np.isnan(array).any(1)], DECIMALS)
    n, k = rows.shape
    if n < 2:
        return FriedmanTest(np.nan, np.nan, n, k)
    if (rows == rows[:, :1]).all():
        return FriedmanTest(0.0, 1.0, n, k)
    statistic, p = stats.friedmanchisquare(*rows.T)
    return FriedmanTest(float(statistic), float(p), n, k)


def wilson_interval(k: int, n: int, level: float = 0.95) -> Interval:
    """Share k / n with Wilson's (1927) score interval, without continuity correction; n = 0 gives NaN.

    >>> interval = wilson_interval(19, 22)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.6667, 0.9525)
    """
    _counts(k=k, n=n)
    if k > n:
        raise ValueError(f"{k} of {n} were given; the first cannot be larger")
    level = _level(level)
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    z, share = float(stats.norm.ppf((1 + level) / 2)), k / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # At the ends the interval touches 0 or 1 exactly; rounding must not step over.
    return Interval(share, 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half, n)


def binomial_p(k: int, n: int, alternative: Alternative = "two-sided", chance: float = 0.5) -> float:
    """Exact binomial p of k successes in n, each with probability `chance`; n = 0 gives NaN.

    >>> round(binomial_p(16, 22), 4), binomial_p(5, 5, "greater")
    (0.0525, 0.03125)
    """
    _counts(k=k, n=n)
    if k > n:
        raise ValueError(f"{k} of {n} were given; the first cannot be larger")
    return float(stats.binomtest(int(k), int(n), chance, alternative).pvalue) if n else np.nan


def mcnemar_p(b: int, c: int) -> float:
    """McNemar's exact two-sided p from b pairs that only the first, and c pairs that only the second, got right.

    >>> mcnemar_p(1, 8)
    0.0390625
    """
    _counts(b=b, c=c)
    return binomial_p(b, b + c) if b + c else 1.0


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, float)
    if array.ndim != 1:
        raise ValueError(f"values have shape {array.shape}; they must be (n,)")
    if np.isinf(array).any():
        raise ValueError("values hold infinity; only finite numbers, or NaN for missing, can be used")
    return array


def _observed(values: ArrayLike) -> NDArray[np.float64]:
    array = _vector(values)
    return array[~np.isnan(array)]


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a confidence level lies between 0 and 1, such as 0.95")
    return level


def _counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0 or count != int(count):
            raise ValueError(f"{name} is {count}; it must be a count")
