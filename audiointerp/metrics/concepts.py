"""How good a dictionary of concepts is: purity, overlap, ranking of labels, and the share of a logit explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audiointerp.metrics.statistics import Interval

__all__ = ["Purity", "label_auc", "overlap", "purity", "share_explained", "share_interval"]


class Purity(NamedTuple):
    """The commonest label of a concept's strongest clips, and the share of these clips that have it."""

    label: str
    share: float


def purity(labels: Sequence[Collection[str]]) -> Purity:
    """The commonest label of some clips and the share of them that have it; of equal ones, the first by name.

    Args:
        labels: those of each clip.

    >>> purity([["dog"], ["dog", "rain"], ["rain"], ["dog"]])
    Purity(label='dog', share=0.75)
    """
    counts = Counter(name for own in labels for name in set(own))
    if not counts:
        return Purity("", 0.0)
    label, most = min(counts.items(), key=lambda each: (-each[1], each[0]))
    return Purity(label, most / len(labels))


def overlap(groundings: Sequence[Collection[object]]) -> float:
    """Mean over all pairs of concepts of the share of their grounding that they have in common; 0 to 1.

    Parekh et al. (2024), https://arxiv.org/abs/2406.08074, for the words of two concepts: the size of the intersection
    over the size of one grounding. Here of any grounding, such as clips or classes; of two sizes, the smaller. NaN for
    fewer than two concepts that have a grounding.

    >>> overlap([["a", "b"], ["b", "c"], ["d", "e"]])
    0.16666666666666666
    """
    sets = [set(each) for each in groundings if each]
    shares = [len(one & other) / min(len(one), len(other)) for one, other in combinations(sets, 2)]
    return float(np.mean(shares)) if shares else float("nan")


def label_auc(strengths: ArrayLike, has_label: ArrayLike) -> float:
    """Probability that a clip with a label has a higher strength than a clip without it, ties counting half.

    The area under the ROC curve, by the Mann-Whitney statistic. NaN if all or no clips have the label.

    >>> label_auc([0.9, 0.8, 0.1, 0.8], [True, True, False, False])
    0.875
    """
    values, wanted = np.asarray(strengths, float), np.asarray(has_label, bool)
    positive, negative = int(wanted.sum()), int((~wanted).sum())
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(values)
    return float((ranks[wanted].sum() - positive * (positive + 1) / 2) / (positive * negative))


def share_explained(full: ArrayLike, rebuilt: ArrayLike, baseline: ArrayLike) -> float:
    """1 - sum (full - rebuilt)^2 / sum (full - baseline)^2: 1 if the rebuilt logits are exact, 0 if no better than the
    baseline's, below 0 if worse.

    Args:
        full: logit of each clip.
        rebuilt: with the layer's feature map rebuilt from the concepts.
        baseline: with the mean vector in every cell.

    >>> share_explained([2.0, 4.0], [2.0, 3.0], [0.0, 3.0])
    0.8
    """
    error, change = _errors(full, rebuilt, baseline)
    return float(1 - error.sum() / change.sum()) if change.sum() > 0 else float("nan")


def share_interval(
    full: ArrayLike,
    rebuilt: ArrayLike,
    baseline: ArrayLike,
    recordings: Sequence[str],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """`share_explained` with its percentile bootstrap interval over source recordings; `n` counts recordings.

    >>> share_interval([2.0, 4.0], [2.0, 3.0], [0.0, 3.0], ["a", "b"]).estimate
    0.8
    """
    error, change = _errors(full, rebuilt, baseline)
    _, owner = np.unique(np.asarray(recordings), return_inverse=True)
    sums = np.stack([np.bincount(owner, each) for each in (error, change)], 1)
    n = len(sums)
    estimate = share_explained(full, rebuilt, baseline)
    if n < 2:
        return Interval(estimate, float("nan"), float("nan"), n)
    drawn = sums[np.random.default_rng(seed).integers(n, size=(resamples, n))].sum(1)
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.quantile(1 - drawn[:, 0] / drawn[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), n)


def _errors(full: ArrayLike, rebuilt: ArrayLike, baseline: ArrayLike) -> tuple[NDArray, NDArray]:
    values, others, lowest = (np.asarray(each, float) for each in (full, rebuilt, baseline))
    if not values.shape == others.shape == lowest.shape or values.ndim != 1:
        raise ValueError(
            f"logits have shapes {values.shape}, {others.shape} and {lowest.shape}; expected three of (n,)"
        )
    return (values - others) ** 2, (values - lowest) ** 2
