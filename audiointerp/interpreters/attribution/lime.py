"""LIME for sounds: a linear model of the target's logit, fitted to versions of the clip with parts left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from audiointerp.interpreters.attribution.base import (
    Details,
    Removed,
    Score,
    ToMask,
    check_filler,
    require,
    seeded,
)
from audiointerp.interpreters.attribution.parts import OverParts, game_of, weighted_shares
from audiointerp.interpreters.base import Scene
from audiointerp.sound.masking import AttributionMask

ENUMERATED = 9  # up to this many parts, every selection of parts is classified

__all__ = ["LIME", "Ridge"]


@dataclass(eq=False, repr=False)
class LIME(OverParts):
    """Coefficients of a linear model of the target's logit in z, z_k = 1 if part k is kept; fitted near the whole clip.

    Ribeiro et al. (2016), https://arxiv.org/abs/1602.04938; for sounds, audioLIME: Haunschmid et al. (2020),
    https://arxiv.org/abs/2008.00582. As there: ridge regression with weight 1, each selection weighted by
    exp(-d^2 / (2 0.25^2)), d the cosine distance of z to all ones. Ours, not theirs: NMF components of the clip instead
    of a separator's sources; the logit instead of the probability; with up to 9 parts every selection is classified, so
    that nothing is random. (captum's default, a Lasso with weight 0.01, returns zeros for most classifiers.)

    `details`: "coefficients" (batch, parts); "r2", (batch,), the weighted share of variance that the linear model
    explains. "all_zero" is true where no coefficient is positive.

    Args:
        classifier, domain, max_batch: see `Attribution`.
        to_mask: attribution -> mask; by default without smoothing, since parts are larger than single bins.
        parts, tiles, n_components, dictionary, n_segments, margin: see `OverParts`.
        n_samples: number of selections classified if there are more than 9 parts; the first is the whole clip.
        filler: magnitude of a part that is left out, "silence" or "noise_floor".
        seed: of the selections and of the NMF's start; the same for each clip.
        saturation: share of the largest coefficient from which on a part counts as much as the strongest, so that it is
            kept whole; None: in proportion to its coefficient, so that a weaker sound of the class is attenuated.
    Raises:
        ValueError: without captum, for unknown parts, if there is no part or no sample, for an unknown filler, a
            dictionary of other bins, or a saturation outside (0, 1].
    """

    same_versions: ClassVar[bool] = True
    to_mask: ToMask = field(default_factory=lambda: AttributionMask(smooth=1))
    n_samples: int = 400
    filler: Removed = "silence"
    seed: int = 0
    saturation: float | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        require("captum", self)
        if self.n_samples < 1:
            raise ValueError(f"n_samples is {self.n_samples}; LIME classifies at least 1 selection of parts")
        check_filler(self.filler)
        if self.saturation is not None and not 0 < self.saturation <= 1:
            raise ValueError(f"saturation is {self.saturation}; it is a share of the largest coefficient, in (0, 1]")

    @property
    def passes(self) -> int:
        """One per selection."""
        return self._selections(self.split.count)

    def _selections(self, parts: int) -> int:
        return 2**parts if parts <= ENUMERATED else self.n_samples

    @torch.no_grad()
    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Sum over the parts of the part's share of each bin times the part's coefficient."""
        from captum import attr

        magnitude = clip.stft.abs()
        components = self.once(clip, "parts", lambda: self.split(clip.stft, self.seed))
        chosen, game = self._choose(components.count).to(magnitude.device), game_of(components, score, self.filler)

        def as_they_are(z: Tensor, *_: object, **__: object) -> Tensor:
            return z

        def perturb(*_: object, **__: object) -> Iterator[Tensor]:
            yield from chosen.split(1)

        model = Ridge()
        explainer: Any = attr.LimeBase(game, cast(Any, model), _similarity, perturb, True, as_they_are, None)
        # Seeded because captum's data loader draws from the global generator.
        with seeded(self.seed, magnitude.device):
            explainer.attribute(magnitude, n_samples=len(chosen), perturbations_per_eval=self.max_batch)
        coefficients = model.representation()
        shares = weighted_shares(components, self._saturated(coefficients[0]))
        return shares, {"coefficients": coefficients, "r2": model.r2}

    def _saturated(self, coefficients: Tensor) -> Tensor:
        """Coefficients, or what `saturation` makes of them: -1 to 1, where the largest is positive."""
        largest = coefficients.max()
        if self.saturation is None or largest <= 0:
            return coefficients
        return (coefficients / (self.saturation * largest)).clamp(-1, 1)

    def _choose(self, parts: int) -> Tensor:
        """Selections (n, parts) of 0 and 1, the first of them all ones."""
        if parts <= ENUMERATED:
            return torch.tensor(list(product((1.0, 0.0), repeat=parts)))
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randint(2, (self.n_samples, parts), generator=generator).float()
        chosen[0] = 1
        return chosen


class Ridge:
    """min over b, c of sum_i w_i (y_i - b z_i - c)^2 + alpha |b|^2, in closed form, for captum.

    Attributes:
        r2: (1,), weighted share of the variance explained; 1 where the variance is 0.
    """

    r2: Tensor

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def fit(self, train_data: DataLoader) -> None:
        """Fits to the one batch (z, y, w) of (n, parts), (n,) and (n,)."""
        self.fit_to(*next(iter(train_data)))

    def fit_to(self, z: Tensor, y: Tensor, weight: Tensor) -> None:
        """Fits to z (n, parts), y (n,) and weights (n,)."""
        z, y, weight = (each.double() for each in (z, y, weight))
        weight = weight.view(-1, 1)
        # The intercept c is not penalised: it is eliminated by subtracting the weighted means.
        z, y = (each - (weight * each).sum(0) / weight.sum() for each in (z, y.view(-1, 1)))
        penalty = self.alpha * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        self._slope = torch.linalg.solve(z.T @ (weight * z) + penalty, z.T @ (weight * y))
        total, rest = ((weight * each.square()).sum() for each in (y, y - z @ self._slope))
        self.r2 = torch.where(total > 0, 1 - rest / total.clamp(min=1e-300), 1.0).view(1).float()

    def representation(self) -> Tensor:
        """b, (1, parts)."""
        return self._slope.T.float()


def _similarity(original: Tensor, heard: Tensor, z: Tensor, **_: object) -> float:
    """Gaussian kernel of the cosine distance between z and all ones: 1 - sqrt(share of parts kept)."""
    distance = 1 - float(z.mean()) ** 0.5
    return float(torch.exp(torch.tensor(-(distance**2) / (2 * 0.25**2))))
