"""Agreement: the specification's numbers, hand-worked cases, a literal slow version, and what is undefined."""

import itertools

import numpy as np
import pytest

from audiointerp.listening.analysis.agreement import intraclass, krippendorff_alpha

N = np.nan
RATERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def alpha_pair_by_pair(ratings):
    """Interval alpha from every pair of values, within units and over all."""
    units = [column[~np.isnan(column)] for column in np.asarray(ratings, float).T]
    units = [unit for unit in units if len(unit) > 1]
    values = np.concatenate(units)
    within = sum((a - b) ** 2 / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2)) / len(
        values
    )
    over_all = sum((a - b) ** 2 for a, b in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - within / over_all


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.7434), ("ordinal", 0.8154), ("interval", 0.8491)])
def test_alpha_of_the_specification(level, value):
    found = krippendorff_alpha(RATERS, level)
    assert found.alpha == pytest.approx(value, abs=5e-5)
    # The last unit has one rater only.
    assert (found.raters, found.units, found.reason) == (4, 11, "")


def test_alpha_agrees_with_all_pairs():
    ratings = np.random.default_rng(0).integers(0, 101, (5, 9)).astype(float)
    ratings[0, :4] = ratings[1:, 8] = N
    assert krippendorff_alpha(ratings, "interval").alpha == pytest.approx(alpha_pair_by_pair(ratings))


def test_perfect_agreement_is_one_for_every_level():
    for level in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha([[1, 2, 5], [1, 2, 5]], level).alpha == 1


@pytest.mark.parametrize(
    ("ratings", "reason"),
    [([[1, 2, 3]], "two listeners"), ([[3, 3], [3, 3]], "equal"), ([[1, N], [N, 2]], "two listeners")],
)
def test_undefined_alpha_says_why(ratings, reason):
    found = krippendorff_alpha(ratings, "ordinal")
    assert np.isnan(found.alpha) and reason in found.reason


def test_intraclass_correlations_of_shrout_and_fleiss():
    found = intraclass(SHROUT_FLEISS)
    expected = (0.1657, 0.2898, 0.7148, 0.4428, 0.6201, 0.9093)
    assert found[:6] == pytest.approx(expected, abs=5e-5) and found[6:] == (4, 6, "")


def test_incomplete_units_are_left_out():
    assert intraclass([*SHROUT_FLEISS, [1, 2, N, 4]]) == intraclass(SHROUT_FLEISS)


@pytest.mark.parametrize(
    ("ratings", "reason"),
    [([[1], [2]], "two listeners"), ([[1, 2]], "1 units"), ([[2, 2], [2, 2]], "equal"), ([[1, N], [N, 2]], "0 units")],
)
def test_undefined_correlations_say_why(ratings, reason):
    found = intraclass(ratings)
    assert np.isnan(found[:6]).all() and reason in found.reason


def test_bad_tables_are_refused():
    with pytest.raises(ValueError, match="shape"):
        intraclass([1, 2, 3])
    with pytest.raises(ValueError, match="finite"):
        krippendorff_alpha([[1, np.inf], [1, 2]], "interval")
    with pytest.raises(ValueError, match="'ratio'"):
        krippendorff_alpha([[1, 2], [1, 2]], "ratio")
