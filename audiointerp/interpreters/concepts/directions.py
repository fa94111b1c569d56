"""A concept given by examples: its direction in a layer, and how a class's logit changes along it.

Kim et al. (2018), "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept Activation Vectors
(TCAV)", https://arxiv.org/abs/1711.11279.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Vectors = NDArray[np.float64]
Numbers = NDArray[np.int64]
LEAST = 4  # clips of each kind; with fewer, a random half has a single clip

MOST_DRAWS = 10_000

__all__ = ["MOST_DRAWS", "ConceptTest", "check_draws", "concept_direction", "tcav_score", "try_concept"]


class ConceptTest(NamedTuple):
    """How a concept bears on a class at one layer.

    Attributes:
        score: mean TCAV score over the draws, 0 to 1.
        random_score: the same for directions between two random sets.
        p: of Welch's two-sided t-test between the two.
        accuracy: share of held-out examples that a direction puts on the right side; 0.5 is chance.
        effect: change of the logit, to first order, over the distance between the means of the examples along the
            direction; its sign says whether the concept speaks for or against the class.
        scores, random_scores: of each draw.
        size: examples with, and without, the concept from which a draw learns its direction.
    """

    score: float
    random_score: float
    p: float
    accuracy: float
    effect: float
    scores: Vectors
    random_scores: Vectors
    size: int


def concept_direction(has: Vectors, lacks: Vectors, decay: float = 0.01) -> Vectors:
    """The concept activation vector: unit normal of a logistic regression between two sets, towards the first.

    The vectors are divided by one number, their deviation, so that the penalty 1/2 decay |w|^2 has the same weight for
    every layer. Both sets count equally, however many vectors they have.

    Args:
        has: (n, channel), of examples with the concept.
        lacks: (m, channel), of examples without it.
        decay: weight of the penalty; without it the direction is not unique where the sets can be separated.

    Returns:
        (channel,); zeros if all vectors are equal.

    The sets mirror each other in the first coordinate and are the same in the second:

    >>> has = np.array([[2.0, 1], [3, -1], [2, -1], [3, 1]])
    >>> concept_direction(has, has * [-1, 1]).round(6) + 0.0
    array([1., 0.])
    """
    vectors, sign = np.concatenate([has, lacks]), np.repeat([1.0, -1.0], [len(has), len(lacks)])
    share = np.repeat([0.5 / len(has), 0.5 / len(lacks)], [len(has), len(lacks)])
    centred = vectors - vectors.mean(0)
    scale = np.sqrt(np.square(centred).sum(1).mean())
    if not scale > 0:
        return np.zeros(vectors.shape[1])
    scaled = centred / scale

    def loss(weights: Vectors) -> tuple[float, Vectors]:
        margin = sign * (scaled @ weights[:-1] + weights[-1])
        slope = -share * sign * special.expit(-margin)
        value = float(share @ np.logaddexp(0, -margin) + decay / 2 * weights[:-1] @ weights[:-1])
        return value, np.append(scaled.T @ slope + decay * weights[:-1], slope.sum())

    # The defaults stop at a loss that changes by 2e-9, where the direction of sets that can be separated still turns.
    close = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000}
    start = np.zeros(vectors.shape[1] + 1)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=close).x[:-1]
    length = np.linalg.norm(found)
    return found / length if length > 0 else found


def tcav_score(gradients: Vectors, direction: Vectors) -> float:
    """Share of the clips whose logit rises along a direction, equation 2 of the paper; (clips, channel), (channel,).

    A derivative of exactly 0 counts half, so that a direction without any effect scores 0.5.

    >>> tcav_score(np.array([[1.0, 0], [2, 1], [-1, 5], [0, 3]]), np.array([1.0, 0]))
    0.625
    """
    return float((np.sign(gradients @ direction) + 1).mean() / 2)


def try_concept(has: Vectors, lacks: Vectors, gradients: Vectors, draws: int = 30, seed: int = 0) -> ConceptTest:
    """Tests a concept at one layer: its TCAV scores against those of random directions.

    Each draw takes one direction between the concept's examples and as many random clips without it, and one between
    two disjoint random sets of that size. Draws share examples, so that p is smaller than independent folders would
    give; it tests whether the direction differs from random ones on these sounds.

    Args:
        has, lacks: (n, channel), one vector for each example.
        gradients: (clips, channel), of the class's logit for clips of the class.
        draws: number of draws, at least 2.
        seed: of the draws.

    Raises:
        ValueError: for fewer than 4 examples of a kind, fewer than 2 draws, or no clip.
    """
    if len(has) < LEAST or len(lacks) < LEAST:
        raise ValueError(
            f"{len(has)} sounds have the concept (--has) and {len(lacks)} lack it (--lacks); a test needs at least "
            f"{LEAST} of each"
        )
    check_draws(draws)
    if not len(gradients) or not np.isfinite(gradients).all():
        raise ValueError(f"the gradients of {len(gradients)} clips are none or not finite; a test needs at least one")
    size = min(len(has), len(lacks) // 2)
    generator = np.random.default_rng(seed)
    scores, random_scores, right, effects = [], [], [], []
    for chosen, others in _sets(len(lacks), size, draws, generator):
        own = has[generator.permutation(len(has))[:size]]
        direction = concept_direction(own, lacks[others])
        scores.append(tcav_score(gradients, direction))
        random_scores.append(tcav_score(gradients, concept_direction(lacks[chosen], lacks[others])))
        right.append(_held_out(own, lacks[others]))
        apart = (own.mean(0) - lacks[others].mean(0)) @ direction
        effects.append(float((gradients @ direction).mean() * apart))
    first, second = np.asarray(scores), np.asarray(random_scores)
    p = _welch(first, second)
    means = (float(first.mean()), float(second.mean()), p, float(np.mean(right)), float(np.mean(effects)))
    return ConceptTest(*means, first, second, size)


def check_draws(draws: int) -> None:
    """Refuses a number of draws that makes no test, or does not end; ValueError."""
    if not 2 <= draws <= MOST_DRAWS:
        raise ValueError(f"draws is {draws}; a test needs at least 2 draws, and at most {MOST_DRAWS}")


def _sets(count: int, size: int, draws: int, generator: np.random.Generator) -> Iterator[tuple[Numbers, Numbers]]:
    """Two disjoint random sets of `size` numbers below `count`, for each draw."""
    for _ in range(draws):
        order = generator.permutation(count)
        yield order[:size], order[size : 2 * size]


def _held_out(has: Vectors, lacks: Vectors) -> float:
    """Share of right sides for every third example, by a direction and midpoint learnt from the others."""
    kept = [each[np.arange(len(each)) % 3 != 0] for each in (has, lacks)]
    left = [each[::3] for each in (has, lacks)]
    if not all(len(each) for each in (*kept, *left)):
        return float("nan")
    direction = concept_direction(kept[0], kept[1])
    middle = (kept[0].mean(0) + kept[1].mean(0)) @ direction / 2
    shares = [np.mean(left[0] @ direction > middle), np.mean(left[1] @ direction <= middle)]
    return float(np.mean(shares))


def _welch(first: Vectors, second: Vectors) -> float:
    """Two-sided p of Welch's t-test; where neither set varies, that of a permutation test: 1 if they are equal.

    Not SciPy's `ttest_ind`, which warns where one set does not vary, as the scores of a clear concept do not.
    """
    parts = [each.var(ddof=1) / len(each) for each in (first, second)]
    spread = sum(parts)
    if not spread > 0:
        return 1.0 if first[0] == second[0] else 2 / comb(len(first) + len(second), len(first))
    freedom = spread**2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (first, second)))
    return float(2 * stats.t.sf(abs(first.mean() - second.mean()) / np.sqrt(spread), freedom))
