"""Equal-energy masks, a step at a time, in exact fractions: slow and literal."""

from fractions import Fraction
from itertools import groupby


def kept_energy_of_bins(mask, power, share):
    """Which fraction of each bin's energy is kept: the highest mask values first, up to `share` of all energy.

    Bins of one mask value form a step: all of them are kept whole, or not at all, or all to the same fraction.
    """
    power = [Fraction(value) for value in power]
    left = Fraction(share) * sum(power)
    kept = [0.0] * len(mask)
    falling = sorted(range(len(mask)), key=lambda i: -mask[i])
    for _, bins in groupby(falling, key=lambda i: mask[i]):
        step = list(bins)
        energy = sum(power[i] for i in step)
        fraction = Fraction(1) if energy <= left else left / energy
        for i in step:
            kept[i] = float(fraction)
        left -= fraction * energy
        if left == 0:
            break
    return kept
