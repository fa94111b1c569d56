"""Wilcoxon's signed-rank test by its definition: every sign of every difference is tried."""

import itertools

import numpy as np
from scipy import stats


def all_sign_flips(differences):
    """Two-sided exact p of the signed-rank sum, by trying all signs of the non-zero differences."""
    ranks = stats.rankdata(np.abs(differences))
    used = ranks[np.asarray(differences) != 0]
    signs = np.array(list(itertools.product([False, True], repeat=len(used))), bool)
    sums = signs @ used
    observed = ranks[np.asarray(differences) > 0].sum()
    return min(1.0, 2 * min((sums <= observed + 1e-9).mean(), (sums >= observed - 1e-9).mean()))
