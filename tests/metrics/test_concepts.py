"""Scores of dictionaries, worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from audiointerp.metrics.concepts import label_auc, overlap, purity, share_explained, share_interval


def test_overlap():
    # Pairs (1, 2): 1 of 2; (1, 3): 2 of 2; (2, 3): 1 of 2. A concept without grounding does not count.
    assert overlap([[1, 2], [2, 3], [1, 2], []]) == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert np.isnan(overlap([[1, 2], []]))


def test_purity():
    assert purity([["a"], ["b"], ["b", "a"], ["b"], ["c"]]) == ("b", 0.6)
    assert purity([["b"], ["a"]]) == ("a", 0.5) and purity([]) == ("", 0.0)


def test_auc_is_scikit_learns():
    generator = np.random.default_rng(0)
    values, has = generator.integers(0, 6, 40), generator.random(40) < 0.3
    assert label_auc(values, has) == pytest.approx(roc_auc_score(has, values))
    assert np.isnan(label_auc([1.0, 2.0], [True, True]))


def test_share_of_the_logit():
    full, baseline = np.array([1.0, 5.0, 3.0]), np.array([0.0, 1.0, 1.0])
    assert share_explained(full, full, baseline) == 1 and share_explained(full, baseline, baseline) == 0
    assert share_explained(full, [1, 4, 1], baseline) == pytest.approx(1 - 5 / 21)
    assert np.isnan(share_explained(full, full, full))
    with pytest.raises(ValueError, match="shapes"):
        share_explained(full, full[:2], baseline)


def test_interval_over_recordings():
    generator = np.random.default_rng(1)
    full, error = generator.normal(size=200), 0.3 * generator.normal(size=200)
    names = [str(n // 2) for n in range(200)]
    made = share_interval(full, full + error, np.zeros(200), names)
    assert made.n == 100 and made.low < made.estimate < made.high
    # The standard error of a ratio of sums, by the delta method over the recordings.
    pairs = np.stack([error**2, full**2], 1).reshape(100, 2, 2).sum(1)
    ratio = pairs[:, 0].sum() / pairs[:, 1].sum()
    spread = np.sqrt(((pairs[:, 0] - ratio * pairs[:, 1]) ** 2).sum()) / pairs[:, 1].sum()
    assert made.high - made.low == pytest.approx(2 * 1.96 * spread, rel=0.2)
    assert np.isnan(share_interval([1.0], [1.0], [0.0], ["a"]).low)
