"""Shapley values by their definition: the mean gain of a part over all orders of the parts, one by one."""

from itertools import permutations


def shapley_values(value, count):
    """`value` maps a frozenset of parts to a number."""
    total = [0.0] * count
    orders = list(permutations(range(count)))
    for order in orders:
        kept = frozenset()
        for part in order:
            total[part] += value(kept | {part}) - value(kept)
            kept = kept | {part}
    return [each / len(orders) for each in total]
