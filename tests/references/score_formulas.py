"""Scores by their textbook definitions: one clip, python floats, no shortcut."""

import math


def gini(values):
    """Half the mean absolute difference of all pairs over the mean, of |value| / max + 1e-7 (as Quantus does)."""
    largest = max(abs(value) for value in values)
    values = [abs(value) / largest + 1e-7 for value in values]
    mean = sum(values) / len(values)
    return sum(abs(a - b) for a in values for b in values) / (2 * len(values) ** 2 * mean)


def entropy(values):
    """-sum P ln P in nats, P = |value| over the sum."""
    total = sum(abs(value) for value in values)
    shares = [abs(value) / total for value in values]
    return -sum(share * math.log(share) for share in shares if share > 0)


def si_sdr(estimate, reference):
    """10 log10 of |a s|^2 / |a s - e|^2 where a minimises |a s - e|^2 (Le Roux et al. 2019, equation 3)."""
    a = sum(e * s for e, s in zip(estimate, reference)) / sum(s * s for s in reference)
    wanted = sum((a * s) ** 2 for s in reference)
    error = sum((a * s - e) ** 2 for e, s in zip(estimate, reference))
    return 10 * math.log10(wanted / error)


def average_drop(p, o):
    """Average drop in per cent (Paissan et al. 2024)."""
    return 100 * max(0.0, p - o) / p


def average_gain(p, o):
    """Average gain in per cent (Paissan et al. 2024)."""
    return 100 * max(0.0, o - p) / (1 - p)
