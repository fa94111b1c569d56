"""Statistics: the specification's numbers, SciPy, and literal slow versions."""

import numpy as np
import pytest
from references.signed_ranks import all_sign_flips
from scipy import stats

from audiointerp.metrics.statistics import (
    binomial_p,
    bootstrap_interval,
    bootstrap_p,
    crossed_bootstrap,
    crossed_interval,
    friedman,
    holm,
    mcnemar_p,
    mean_interval,
    wilcoxon,
    wilson_interval,
)

SCORES = [4, 5, 3, 4, 5, 4, 2, 5, 4, 4]
DIFFERENCES = [1, 2, 0, 1, 3, 1, 0, 2, -1, 1, 2, 1]


def test_t_interval_of_the_specification():
    mean, low, high, n = mean_interval(SCORES)
    assert (mean, n) == (4.0, 10)
    assert high - mean == pytest.approx(0.674445, abs=5e-7) and mean - low == pytest.approx(0.674445, abs=5e-7)


def test_t_interval_agrees_with_scipy_at_another_level():
    values = np.random.default_rng(1).normal(3, 2, 31)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9)[1:3] == pytest.approx((expected.low, expected.high))


def test_t_interval_leaves_missing_values_out_and_may_leave_the_scale():
    assert mean_interval([*SCORES, np.nan]) == mean_interval(SCORES)
    assert mean_interval([5] * 7 + [4]).high == pytest.approx(5.17, abs=0.005)


@pytest.mark.parametrize("interval", [mean_interval, bootstrap_interval])
def test_fewer_than_two_values_have_no_interval(interval):
    one = interval([3.0])
    assert one.estimate == 3.0 and np.isnan([one.low, one.high]).all() and one.n == 1
    assert np.isnan(interval([np.nan])[:3]).all() and interval([]).n == 0


@pytest.mark.parametrize("values", [[1, np.inf], [[1, 2]]])
@pytest.mark.parametrize("function", [mean_interval, bootstrap_interval, wilcoxon, holm])
def test_values_that_are_no_finite_vector_are_refused(function, values):
    with pytest.raises(ValueError, match=r"infinit|shape"):
        function(values)


def test_bootstrap_matches_scipy_and_is_reproducible():
    values = np.random.default_rng(0).exponential(size=40)
    ours = bootstrap_interval(values, 0.9, seed=3)
    theirs = stats.bootstrap((values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000, rng=1)
    assert ours[1:3] == pytest.approx(theirs.confidence_interval, abs=0.02)
    assert ours == bootstrap_interval(values, 0.9, seed=3) != bootstrap_interval(values, 0.9, seed=4)


def test_clusters_are_resampled_whole():
    rng = np.random.default_rng(0)
    listener = rng.normal(size=20)
    values, owner = np.repeat(listener, 8), np.repeat(np.arange(20), 8)
    clustered = bootstrap_interval(values, clusters=owner)
    # Eight copies of each listener say no more than one.
    assert clustered[:3] == pytest.approx(bootstrap_interval(listener)[:3]) and clustered.n == 20
    pooled = bootstrap_interval(values)
    assert clustered.high - clustered.low > 2.5 * (pooled.high - pooled.low)


def test_clusters_of_different_size_weigh_by_their_values():
    mean, low, high, n = bootstrap_interval([0, 0, 0, 4, np.nan], clusters=["a", "a", "a", "b", "b"])
    assert (mean, low, high, n) == (1, 0, 4, 2)


def test_bootstrap_settings_are_checked():
    with pytest.raises(ValueError, match="clusters"):
        bootstrap_interval([1, 2], clusters=["a"])
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval([1, 2], resamples=0)
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval([1, 2], level=95)


def test_wilcoxon_of_the_specification():
    found = wilcoxon(DIFFERENCES)
    assert (found.w, found.n, found.n_zero, found.median_difference) == (5.5, 12, 2, 1.0)
    assert found.p == pytest.approx(0.013672, abs=5e-7) and found.p == pytest.approx(all_sign_flips(DIFFERENCES))
    # Ranks of sizes: two zeros 1.5 each, six ones 5.5, three twos 10, the three 12; one of the ones is negative.
    assert found.rank_biserial == pytest.approx((5 * 5.5 + 3 * 10 + 12 - 5.5) / (6 * 5.5 + 3 * 10 + 12))
    asymptotic = stats.wilcoxon(DIFFERENCES, zero_method="pratt", method="asymptotic").pvalue
    assert asymptotic == pytest.approx(0.010498, abs=5e-7)


@pytest.mark.parametrize("seed", range(8))
def test_small_samples_agree_with_all_sign_flips(seed):
    differences = np.random.default_rng(seed).integers(-2, 5, 9) / 4
    assert wilcoxon(differences).p == pytest.approx(all_sign_flips(differences))


@pytest.mark.parametrize("seed", range(3))
def test_ties_and_zeros_agree_with_scipy(seed):
    """Seven differences: SciPy takes a second for twelve."""
    differences = np.random.default_rng(seed).integers(-2, 5, 7) / 4
    assert wilcoxon(differences).p == pytest.approx(stats.wilcoxon(differences, zero_method="pratt").pvalue)


@pytest.mark.parametrize("n", [8, 12, 13, 14, 30, 60])
def test_samples_of_any_size_agree_with_scipy(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert wilcoxon(differences).p == pytest.approx(stats.wilcoxon(differences.round(9), zero_method="pratt").pvalue)


def test_differences_that_tie_only_in_decimals_tie():
    floats = [0.3 - 0.1, 0.4 - 0.2, 0.5 - 0.3, 0.9 - 1.1, 1.0]
    assert len(set(np.abs(floats))) > 2
    assert wilcoxon(floats) == wilcoxon([0.2, 0.2, 0.2, -0.2, 1.0])


def test_no_difference_at_all_is_p_one():
    assert wilcoxon([0, 0.1 + 0.2 - 0.3, 0]) == (0, 3, 3, 1, 0, 0)
    empty = wilcoxon([np.nan])
    assert np.isnan(empty.p) and empty.n == 0


@pytest.mark.parametrize(("n", "p"), [(1, 1), (5, 0.0625), (6, 0.03125)])
def test_fewer_than_six_cannot_reach_five_percent(n, p):
    assert wilcoxon(np.arange(1, n + 1)).p == p
    assert wilcoxon([*range(1, n + 1), *[0] * 20]).p >= p


def test_holm_of_the_specification():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_ignores_missing_tests_and_stays_below_one():
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert holm([0.9, 0.8]) == pytest.approx([1, 1]) and holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"0.* to 2"):
        holm([0, 2])


def test_friedman_by_hand_scipy_and_with_missing_rows():
    # No ties: 12 / (n k (k + 1)) * sum of squared rank sums - 3 n (k + 1), rank sums 5, 8, 11.
    assert friedman([[1, 2, 3], [1, 2, 3], [1, 3, 2], [2, 1, 3]]).statistic == pytest.approx(
        12 / 48 * (25 + 64 + 121) - 48
    )
    table = np.random.default_rng(0).integers(1, 6, (20, 4)).astype(float)
    expected = stats.friedmanchisquare(*table.T)
    table = np.vstack([table, [1, np.nan, 2, 3]])
    assert friedman(table) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue), 20, 4)


def test_friedman_without_an_answer():
    assert friedman(np.ones((5, 3))) == (0, 1, 5, 3)
    assert np.isnan(friedman([[1, 2, 3]]).p)
    for bad in (np.ones((5, 2)), [1, 2, 3], [[1, 2, np.inf]] * 3):
        with pytest.raises(ValueError, match=r"treatments|infinite"):
            friedman(bad)


def test_wilson_of_the_specification_and_at_the_ends():
    assert wilson_interval(19, 22)[1:3] == pytest.approx((0.6667, 0.9525), abs=5e-5)
    for k in (0, 3, 7):
        expected = stats.binomtest(k, 7).proportion_ci(0.9, "wilson")
        assert wilson_interval(k, 7, 0.9)[1:3] == pytest.approx((expected.low, expected.high))
    assert np.isnan(wilson_interval(0, 0).estimate)
    with pytest.raises(ValueError, match="8 of 7"):
        wilson_interval(8, 7)


def test_binomial_and_mcnemar():
    assert binomial_p(16, 22) == pytest.approx(0.0525, abs=5e-5)
    assert binomial_p(5, 5, "greater") == 0.03125
    assert binomial_p(0, 3, chance=0.25, alternative="less") == pytest.approx(0.75**3)
    assert mcnemar_p(1, 8) == pytest.approx(2 * (1 + 9) / 2**9) and mcnemar_p(0, 0) == 1
    assert np.isnan(binomial_p(0, 0))
    for bad in ((-1, 3), (0.5, 3), (4, 3)):
        with pytest.raises(ValueError, match=r"count|larger"):
            binomial_p(*bad)


# --- values that share sources


def literal_crossed(values, sources, resamples, seed):
    """The pigeonhole bootstrap as Owen (2007) words it: draw sources with replacement, count each value by product."""
    names = list(dict.fromkeys(name for own in sources for name in own))
    rng, means = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = [names[i] for i in rng.integers(len(names), size=len(names))]
        repeated = []
        for value, own in zip(values, sources):
            times = 1
            for name in set(own):
                times *= drawn.count(name)
            repeated += [value] * times
        if repeated:
            means.append(sum(repeated) / len(repeated))
    return means


def test_crossed_bootstrap_is_the_literal_one():
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    sources = [["a", "b"], ["b", "c"], ["c", "d"], ["a", "d"], ["b", "b"]]
    expected = literal_crossed(values, sources, 200, 7)
    assert len(expected) < 200  # in some resamples no value counts
    np.testing.assert_allclose(crossed_bootstrap(values, sources, 200, 7), expected)


def test_with_one_source_each_it_is_the_cluster_bootstrap():
    values, owners = np.random.default_rng(2).normal(size=30), [f"r{i % 7}" for i in range(30)]
    crossed = crossed_interval(values, [[name] for name in owners], seed=5)
    clustered = bootstrap_interval(values, seed=5, clusters=[int(name[1:]) for name in owners])
    assert crossed[:3] == pytest.approx(clustered[:3])
    alone = crossed_interval(values, [[str(i)] for i in range(30)], seed=5)
    assert alone[:3] == pytest.approx(bootstrap_interval(values, seed=5)[:3])


def test_it_covers_the_mean_where_items_taken_as_independent_do_not():
    """Mixtures whose score is the sum of two recordings' effects: 95 % intervals should hold the true mean, 0."""
    rng, held = np.random.default_rng(0), {"crossed": 0, "independent": 0}
    for trial in range(200):
        effects = rng.normal(size=20)
        pairs = [(i, (i + step) % 20) for i in range(20) for step in (1, 3, 7)]
        values = [effects[i] + effects[j] + 0.1 * rng.normal() for i, j in pairs]
        sources = [(str(i), str(j)) for i, j in pairs]
        intervals = {
            "crossed": crossed_interval(values, sources, resamples=500, seed=trial),
            "independent": bootstrap_interval(values, resamples=500, seed=trial),
        }
        for name, each in intervals.items():
            held[name] += each.low <= 0 <= each.high
    # 200 trials at a true 95 % give at least 180 in all but one of a thousand repetitions.
    assert held["crossed"] >= 180 > 160 > held["independent"]


def test_crossed_bootstrap_leaves_missing_values_out_and_refuses_what_cannot_be_resampled():
    sources = [["a"], ["b"], ["c"]]
    assert crossed_interval([1, 2, np.nan], sources)[:3] == crossed_interval([1, 2], sources[:2])[:3]
    assert (
        np.isnan(crossed_interval([1, 2], [["a"], ["a"]]).low) and len(crossed_bootstrap([1, 2], [["a"], ["a"]])) == 0
    )
    with pytest.raises(ValueError, match="2 values have 1 lists of sources"):
        crossed_bootstrap([1, 2], [["a"]])
    with pytest.raises(ValueError, match="not empty"):
        crossed_bootstrap([1, 2], [["a"], []])


def test_bootstrap_p():
    assert bootstrap_p(np.r_[np.full(97, 1.0), np.full(2, -1.0)]) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p([0.0, 0.0]) == 1.0 and np.isnan(bootstrap_p([]))
