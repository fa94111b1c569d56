"""A random forest of regression trees for features that are 0 or 1, with the importance of each feature.

Breiman (2001), "Random forests", https://doi.org/10.1023/A:1010933404324. A feature of two values has one possible
split, so that all splits of a node are judged by two matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["RandomForest"]


@dataclass(frozen=True)
class RandomForest:
    """Regression trees, each grown on a bootstrap sample; importances are means over the trees.

    Args:
        trees: number of trees.
        least: fewest samples of a leaf.
        bootstrap: draw as many samples with replacement for each tree; False: every tree sees the samples as they are.
        seed: of the draws, and of the choice between equally good splits.
    Raises:
        ValueError: without a tree, or a leaf without a sample.
    """

    trees: int = 100
    least: int = 5
    bootstrap: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.trees < 1 or self.least < 1:
            raise ValueError(f"a forest of {self.trees} trees, leaves of {self.least} samples; give at least 1 each")

    def importances(self, z: Array, y: Array, signed: bool = False) -> Array:
        """The importance of each feature, (features,).

        A split is worth the fall of the squared error that it brings. A feature's importance is what all splits on it
        are worth, as a share of what all splits are worth, so that importances add up to 1 (0 if nothing is split).

        Args:
            z: (samples, features) of 0 and 1.
            y: (samples,), the values to predict.
            signed: a split at which the samples with feature 0 have the higher mean counts negative, so that a feature
                that lowers the value has a negative importance; the absolute values then add up to 1 at most.

        Raises:
            ValueError: if shapes do not fit, features are not 0 or 1, or there is no sample.

        >>> z = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> RandomForest(trees=1, least=1, bootstrap=False).importances(z, np.array([2.0, 2.0, 0.0, 0.0]), signed=True)
        array([-1.,  0.])
        """
        z, y = np.asarray(z, float), np.asarray(y, float)
        if z.ndim != 2 or y.shape != (len(z),) or not len(z) or not np.isfinite(y).all():
            raise ValueError(f"features {z.shape}, values {y.shape}; expected (samples, features) and (samples,)")
        if not ((z == 0) | (z == 1)).all():
            raise ValueError("features are not all 0 or 1; this forest splits between these two values only")
        generator = np.random.default_rng(self.seed)
        total = np.zeros(z.shape[1])
        for _ in range(self.trees):
            rows = generator.integers(len(z), size=len(z)) if self.bootstrap else np.arange(len(z))
            worth, signs = self._grow(z[rows], y[rows], generator)
            if worth.sum() > 0:
                total += (signs if signed else worth) / worth.sum()
        return total / self.trees

    def _grow(self, z: Array, y: Array, generator: np.random.Generator) -> tuple[Array, Array]:
        """What the splits on each feature of one tree are worth, and the same with the signs of the splits."""
        worth, signs = np.zeros(z.shape[1]), np.zeros(z.shape[1])
        nodes = [np.arange(len(z))]
        while nodes:
            rows = nodes.pop()
            inside, values = z[rows], y[rows] - y[rows].mean()
            above, count = values @ inside, inside.sum(0)  # sum and number of the samples with feature 1
            allowed = (count >= self.least) & (len(rows) - count >= self.least)
            # With values around 0 the fall of the squared error is S^2 / n1 + S^2 / n0, S the sum on either side.
            fall = np.where(allowed, above**2 * len(rows) / np.maximum(count * (len(rows) - count), 1), 0.0)
            best = fall.max(initial=0.0)
            if best <= 1e-12 * max(float(values @ values), 1e-300):
                continue
            feature = generator.choice(np.flatnonzero(fall >= best * (1 - 1e-9)))
            worth[feature] += best
            signs[feature] += best * np.sign(above[feature])
            chosen = inside[:, feature] == 1
            nodes += [rows[chosen], rows[~chosen]]
        return worth, signs
