"""The number of listeners that a test needs."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special, stats

EFFICIENCY = 3 / math.pi  # efficiency of Wilcoxon's test relative to the t test for normal differences: 0.955
WORST_EFFICIENCY = 108 / 125  # its minimum over symmetric continuous distributions (Hodges & Lehmann, 1956): 0.864
CORRELATION = 0.5  # assumed correlation between a listener's two scores
_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(200))
_NODES = _NODES + 0.5  # on 0 to 1

__all__ = ["describe", "listeners_for_difference", "listeners_for_interval", "round_up_to_orders", "williams_rows"]


def listeners_for_interval(sd: float, half_width: float, level: float = 0.95) -> int:
    """The smallest n with a t interval of at most ± `half_width`: t · sd / √n; sd is the SD of listeners' means.

    >>> [listeners_for_interval(1, half_width) for half_width in (0.5, 0.3, 0.2, 0.1)]
    [18, 46, 99, 387]
    """
    _positive(sd=sd, half_width=half_width)
    _share(level=level)

    def fits(n: int) -> bool:
        return float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n) <= half_width

    n = max(2, math.ceil((float(stats.norm.ppf((1 + level) / 2)) * sd / half_width) ** 2))
    while not fits(n):
        n += 1
    return n


def listeners_for_difference(
    effect: float, power: float = 0.8, alpha: float = 0.05, pairs: int = 1, efficiency: float = EFFICIENCY
) -> float:
    """Number of listeners with which a two-sided paired test detects a difference, not rounded.

    The number for the paired t test (noncentral t), divided by the efficiency of Wilcoxon's test.

    Args:
        effect: mean difference / SD of the differences (Cohen's d_z), not 0.
        power: probability of detecting the difference.
        alpha: error rate of the whole test.
        pairs: number of pairs of methods; each is tested at alpha / pairs, which bounds Holm's correction.
        efficiency: 1 for the t test itself.

    >>> [round(listeners_for_difference(effect, efficiency=1), 1) for effect in (0.3, 0.5, 0.8)]
    [89.1, 33.4, 14.3]
    """
    _positive(effect=abs(effect), pairs=pairs, efficiency=efficiency)
    _share(power=power, alpha=alpha)
    tail = alpha / pairs / 2
    if power <= 2 * tail:
        raise ValueError(f"power is {power:g}, not above alpha {alpha / pairs:g}; a useful test has 0.8 or more")

    def lacking(n: float) -> float:
        # Noncentral t by quadrature over the sample SD, because SciPy's function fails for large effects.
        sds = np.sqrt(stats.chi2.ppf(_NODES, n - 1) / (n - 1))
        limit, shift = float(stats.t.isf(tail, n - 1)), abs(effect) * math.sqrt(n)
        found = special.ndtr(shift - limit * sds) + special.ndtr(-shift - limit * sds)
        return float(found @ _WEIGHTS) - power

    low, high = 2.0, 4.0
    while lacking(high) < 0:
        low, high = high, 2 * high
    if lacking(low) >= 0:
        return low / efficiency
    return float(optimize.brentq(lacking, low, high)) / efficiency  # pyright: ignore[reportArgumentType]


def williams_rows(conditions: int) -> int:
    """Rows of a Williams square: n orders for an even number of conditions, 2 n for an odd one."""
    if conditions < 1:
        raise ValueError(f"conditions is {conditions}; a test has at least one")
    return conditions if conditions % 2 == 0 or conditions == 1 else 2 * conditions


def round_up_to_orders(listeners: float, conditions: int) -> int:
    """Rounds up to a multiple of the number of orders, so that each order is used equally often.

    >>> round_up_to_orders(22, 3)
    24
    """
    rows = williams_rows(conditions)
    return rows * math.ceil(listeners / rows)


def describe(
    methods: int,
    sd: float = 1.0,
    half_width: float = 0.5,
    difference: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
) -> str:
    """The text that `audiointerp listen plan` prints.

    Args:
        methods: number of methods compared.
        sd: SD of listeners' mean scores of one method, in points of the scale.
        half_width: half width of the desired interval, in points.
        difference: difference between two methods that the test should detect, in points.
        power, alpha: power and significance level of that test.

    The SD of paired differences is taken as sd · √(2 (1 - 0.5)) = sd, for a correlation of 0.5 between the two scores
    of a listener.
    """
    pairs = methods * (methods - 1) // 2
    level = 1 - alpha
    interval = listeners_for_interval(sd, half_width, level)
    lines = [
        f"Scores with SD {sd:g} between listeners, {methods} method{'s' * (methods != 1)}:",
        f"  {100 * level:g} % interval of a mean at most ± {half_width:g}: {interval} listeners",
    ]
    wanted = float(interval)
    if pairs:
        effect = difference / (sd * math.sqrt(2 * (1 - CORRELATION)))
        normal, worst = (
            listeners_for_difference(effect, power, alpha, pairs, efficiency)
            for efficiency in (EFFICIENCY, WORST_EFFICIENCY)
        )
        each = f"{pairs} pair{'s' * (pairs != 1)}, each at {alpha / pairs:.3g}"
        lines += [
            f"  a difference of {difference:g} found with power {power:g} by Wilcoxon's test ({each}): "
            f"{math.ceil(normal)} listeners, at worst {math.ceil(worst)}",
            f"    (a listener's scores of two methods correlated by {CORRELATION:g}: d = {effect:.2f})",
        ]
        wanted = max(wanted, normal)
    orders = williams_rows(methods)
    lines.append(
        f"Invite {round_up_to_orders(wanted, methods)}: both aims, and a multiple of the {orders} balanced "
        f"order{'s' * (orders != 1)}. Invite more if some may be left out."
    )
    return "\n".join(lines)


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} is {number:g}; it must be a positive number")


def _share(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < 1:
            raise ValueError(f"{name} is {number:g}; it must lie between 0 and 1")
