"""The Frechet distance by hand, and by the formula with a matrix square root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from audiointerp.metrics.distribution import frechet_distance, too_few


def by_square_root(first, second):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), as in Heusel et al. (2017)."""
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1])
    apart = first.mean(0) - second.mean(0)
    return float(apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root).real)


@pytest.mark.parametrize(("channels", "clips"), [(2, 10), (5, 40), (16, 64)])
def test_matrix_square_root(channels, clips):
    rng = np.random.default_rng(channels)
    first = rng.normal(size=(clips, channels)) @ rng.normal(size=(channels, channels))
    second = rng.normal(1, 2, size=(clips + 7, channels)) @ rng.normal(size=(channels, channels))
    assert frechet_distance(first, second) == pytest.approx(by_square_root(first, second), rel=1e-8)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second), rel=1e-8)


def test_one_channel_is_means_and_deviations():
    # |m1 - m2|^2 + (s1 - s2)^2, unbiased deviations: 1 and 3 around 1 and 5.
    first, second = np.array([[0.0], [1.0], [2.0]]), np.array([[2.0], [5.0], [8.0]])
    assert frechet_distance(first, second) == pytest.approx(16 + 4)


def test_independent_channels_add_up():
    rng = np.random.default_rng(0)
    corners = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])  # no covariance
    scaled = corners * [3, 5] + [10, 0]
    deviation = np.sqrt(4 / 3)
    assert frechet_distance(corners, scaled) == pytest.approx(100 + (2 * deviation) ** 2 + (4 * deviation) ** 2)
    assert frechet_distance(rng.permutation(corners), corners) == pytest.approx(0, abs=1e-12)


def test_equal_sets_are_at_zero_even_where_a_covariance_is_singular():
    few = np.random.default_rng(0).normal(size=(5, 20))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, few + 3) == pytest.approx(20 * 9, rel=1e-6)
    constant = np.ones((4, 3))
    assert frechet_distance(constant, constant) == 0


def test_float32_embeddings_are_computed_in_double():
    rng = np.random.default_rng(0)
    first = (1e4 + rng.normal(size=(50, 4))).astype(np.float32)
    second = (1e4 + rng.normal(size=(50, 4))).astype(np.float32)
    expected = by_square_root(first.astype(np.float64), second.astype(np.float64))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second"),
    [((3, 2), (3, 4)), ((1, 2), (5, 2)), ((5, 2), (0, 2)), ((6,), (6,)), ((2, 2, 2), (2, 2, 2))],
)
def test_sets_that_cannot_be_compared(first, second):
    with pytest.raises(ValueError, match="give") as caught:
        frechet_distance(np.zeros(first), np.zeros(second))
    assert str(first) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("clips", "channels", "enough"), [(512, 256, True), (511, 256, False), (80, 256, False)])
def test_a_covariance_wants_twice_its_width(clips, channels, enough):
    reason = too_few(clips, channels)
    assert (reason == "") == enough
    if not enough:
        assert str(clips) in reason and str(channels) in reason and str(2 * channels) in reason
