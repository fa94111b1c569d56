"""Sample sizes: the specification's numbers, simulation, and the text of the command."""

import numpy as np
import pytest
from scipy import stats

from audiointerp.listening.analysis.planning import (
    WORST_EFFICIENCY,
    describe,
    listeners_for_difference,
    listeners_for_interval,
    round_up_to_orders,
    williams_rows,
)


@pytest.mark.parametrize(("half_width", "n"), [(0.5, 18), (0.3, 46), (0.2, 99), (0.1, 387)])
def test_listeners_for_an_interval(half_width, n):
    assert listeners_for_interval(1, half_width) == n
    assert stats.t.ppf(0.975, n - 1) / np.sqrt(n) <= half_width < stats.t.ppf(0.975, n - 2) / np.sqrt(n - 1)


@pytest.mark.parametrize(("effect", "t_test", "rank_test"), [(0.3, 89.1, 93.4), (0.5, 33.4, 34.9), (0.8, 14.3, 15.0)])
def test_listeners_for_a_difference(effect, t_test, rank_test):
    assert listeners_for_difference(effect, efficiency=1) == pytest.approx(t_test, abs=0.06)
    assert listeners_for_difference(-effect) == pytest.approx(rank_test, abs=0.06)
    assert listeners_for_difference(effect, efficiency=WORST_EFFICIENCY) == pytest.approx(t_test / 0.864, abs=0.1)


def test_several_pairs_need_more_and_large_effects_few():
    sizes = [listeners_for_difference(0.5, pairs=pairs) for pairs in (1, 3, 6)]
    assert sizes == sorted(sizes) and sizes[2] > 1.5 * sizes[0]
    assert 2 <= listeners_for_difference(50, efficiency=1) < listeners_for_difference(2, efficiency=1) < 5


def test_power_is_what_simulation_finds():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.5, 1, (20_000, 34))
    t = differences.mean(1) / differences.std(1, ddof=1) * np.sqrt(34)
    power = (np.abs(t) > stats.t.ppf(0.975, 33)).mean()
    assert listeners_for_difference(0.5, power=power, efficiency=1) == pytest.approx(34, abs=0.7)


def test_orders():
    assert [williams_rows(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 6, 4, 10]
    assert round_up_to_orders(22, 3) == 24 and round_up_to_orders(24, 3) == 24


def test_describe_names_numbers_and_what_they_rest_on():
    text = describe(3, sd=1, half_width=0.5, difference=0.5)
    assert "18 listeners" in text and "47 listeners, at worst 52" in text and "each at 0.0167" in text
    assert "Invite 48" in text and "6 balanced orders" in text and "0.5" in text
    assert "difference" not in describe(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"sd": 0}, "sd"), ({"half_width": -1}, "half_width"), ({"power": 1}, "power"), ({"methods": 0}, "conditions")],
)
def test_senseless_plans_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        describe(**{"methods": 2, **arguments})
    with pytest.raises(ValueError, match="power"):
        listeners_for_difference(0.5, power=0.04)
