"""Distance between a method's interpretations, as a set, and a set of reference sounds, in a classifier's embedding."""

from __future__ import annotations

import numpy as np

__all__ = ["frechet_distance", "too_few"]


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two sets of embeddings, (clips, channel) each, taken as Gaussians; 0 for equal sets.

        |m1 - m2|^2 + tr(S1) + tr(S2) - 2 sum_i sqrt(max(0, eig_i(S1 S2)))

    Heusel et al. (2017), https://arxiv.org/abs/1706.08500; for sounds Kilgour et al. (2019),
    https://arxiv.org/abs/1812.08466, here on the explained classifier's own embedding. Unbiased covariances, in double
    precision.

    Raises:
        ValueError: if a set does not have two axes or has fewer than two clips, or their numbers of channels differ.

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"embeddings are {first.shape} and {second.shape}; give (clips, channel), equal channels, 2 clips or more"
        )
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (first, second)]
    shared = np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)
    apart = np.square(first.mean(0) - second.mean(0)).sum()
    # Rounding alone may bring equal sets below 0.
    return max(0.0, float(apart + sum(np.trace(each) for each in covariances) - 2 * np.sqrt(shared).sum()))


def too_few(clips: int, channels: int) -> str:
    """Reason why the distance of `clips` clips is unreliable, else "": a covariance needs 2 clips per channel."""
    return f"{clips} clips for {channels} channels, {2 * channels} needed" if clips < 2 * channels else ""
