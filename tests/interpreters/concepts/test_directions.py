"""Concepts given by examples: the direction against scikit-learn's, the score by hand, and the test's error rate."""

import numpy as np
import pytest
from scipy import stats

from audiointerp.interpreters.concepts.directions import concept_direction, tcav_score, try_concept


def clouds(shift, count=24, channels=8, seed=0):
    """Two clouds whose means differ by `shift` along the first axis."""
    generator = np.random.default_rng(seed)
    has, lacks = generator.normal(size=(2, count, channels))
    has[:, 0] += shift
    return has, lacks


def test_direction_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    has, lacks = clouds(2.0)
    vectors = np.concatenate([has, lacks])
    scale = np.sqrt(np.square(vectors - vectors.mean(0)).sum(1).mean())
    # Its objective is |w|^2 / 2 + C * sum of the losses; ours decay |w|^2 / 2 + their mean.
    theirs = linear_model.LogisticRegression(C=1 / (0.01 * len(vectors)), tol=1e-8, max_iter=2000)
    theirs.fit((vectors - vectors.mean(0)) / scale, np.repeat([1, 0], [len(has), len(lacks)]))
    expected = theirs.coef_[0] / np.linalg.norm(theirs.coef_)
    assert concept_direction(has, lacks) @ expected > 0.9999


def test_direction_of_equal_vectors():
    assert not concept_direction(np.ones((3, 2)), np.ones((3, 2))).any()


def test_score():
    gradients = np.array([[1.0, 0.0], [0.5, 9.0], [-1.0, 3.0], [-2.0, 0.0], [0.0, 1.0]])
    assert tcav_score(gradients, np.array([1.0, 0.0])) == pytest.approx((2 + 0.5) / 5)


def test_a_concept_that_the_logit_follows():
    has, lacks = clouds(6.0)
    gradients = np.random.default_rng(2).normal(size=(40, 8)) + 3 * np.eye(8)[0]
    made = try_concept(has, lacks, gradients)
    assert made.score > 0.95 and made.p < 1e-4 and made.accuracy > 0.9
    # The logit changes by 3 for each unit along the first axis, and the means are 6 apart.
    assert made.effect == pytest.approx(18, rel=0.15)
    against = try_concept(has, lacks, -gradients)
    assert against.score < 0.05 and against.p < 1e-4 and against.effect == pytest.approx(-made.effect)


def test_random_sounds_are_seldom_significant():
    """Sets of one cloud: the share of p below 0.05 is small, and the accuracy is chance."""
    found, right = [], []
    for seed in range(16):
        has, lacks = clouds(0.0, seed=seed)
        gradients = np.random.default_rng(seed + 500).normal(size=(20, 8))
        made = try_concept(has, lacks, gradients, draws=8, seed=seed)
        found.append(made.p)
        right.append(made.accuracy)
    # The draws share their sounds, so that the error rate lies above the nominal 5 %.
    assert np.mean(np.array(found) < 0.05) < 0.4 and np.mean(right) == pytest.approx(0.5, abs=0.08)


def test_p_is_that_of_scipy():
    has, lacks = clouds(0.5)
    gradients = np.random.default_rng(3).normal(size=(30, 8)) + 0.3 * np.eye(8)[0]
    made = try_concept(has, lacks, gradients, draws=12)
    expected = stats.ttest_ind(made.scores, made.random_scores, equal_var=False).pvalue
    assert made.p == pytest.approx(expected) and 0 < made.p < 1
    assert made.score == pytest.approx(made.scores.mean()) and len(made.random_scores) == 12


def test_too_little():
    has, lacks = clouds(1.0)
    with pytest.raises(ValueError, match=r"3 sounds have the concept \(--has\) and 24 lack it"):
        try_concept(has[:3], lacks, has)
    with pytest.raises(ValueError, match="draws is 1; a test needs at least 2"):
        try_concept(has, lacks, has, draws=1)
