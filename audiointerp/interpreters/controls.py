"""Trivial and ideal masks as interpreters: the floor and the ceiling of every table."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from audiointerp.contracts import Classifier
from audiointerp.interpreters.base import MaskInterpreter, Scene
from audiointerp.sound.masking import Domain, EnergyMask, StemMask, TargetMask, ThresholdMask, loudest_mask

__all__ = ["AllPass", "Beside", "Empty", "EqualArea", "Loudest", "RandomMask", "TargetMasking", "Threshold"]


class AllPass(MaskInterpreter):
    """Keeps everything: what a score gives for explaining nothing away."""

    only_binary = True

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 everywhere."""
        return torch.ones_like(scene.stft.abs()), {}


class Empty(MaskInterpreter):
    """Keeps nothing: silence."""

    only_binary = True

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """0 everywhere."""
        return torch.zeros_like(scene.stft.abs()), {}


class TargetMasking(MaskInterpreter):
    """The mask that a trained method is shown, without the method: what its target can explain at most.

    Args:
        classifier: only judged, never asked.
        target_mask: (stft, stem's stft or None) -> mask; with `StemMask` an oracle, which needs `interpret(stem=...)`.
        domain: of the mask.
    """

    def __init__(self, classifier: Classifier, target_mask: TargetMask | None = None, domain: Domain = "log_magnitude"):
        super().__init__(classifier)
        self.target_mask, self.domain = target_mask or ThresholdMask(), domain
        self.needs_stem = isinstance(target_mask, StemMask)
        self.only_binary = isinstance(self.target_mask, (ThresholdMask, EnergyMask))

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The target's mask, whatever class is asked for."""
        return self.target_mask(scene.stft, scene.stem), {}


class Threshold(TargetMasking):
    """Keeps the bins above a share of the clip's maximum: PIQ's own training target.

    Args:
        classifier: only judged, never asked.
        threshold: share of the maximum.
        domain: of the threshold and of the mask.
    """

    def __init__(self, classifier: Classifier, threshold: float = 0.35, domain: Domain = "log_magnitude"):
        super().__init__(classifier, ThresholdMask(threshold, domain), domain)


class Beside(MaskInterpreter):
    """A control that stands beside one method, `like`, and takes its size from it, clip by clip.

    Args:
        classifier: only judged, never asked.
        like: the method.
    Attributes:
        alone: whether it can do without one.
    """

    alone: bool = True

    def __init__(self, classifier: Classifier, like: MaskInterpreter | None = None):
        super().__init__(classifier)
        self.like = like

    def fits(self, method: object) -> bool:
        """Whether it can stand beside the method."""
        return isinstance(method, MaskInterpreter)

    def beside(self, method: MaskInterpreter) -> Beside:
        """A copy that stands beside the method."""
        matched = copy.copy(self)
        matched.like = method
        return matched


class EqualArea(Beside):
    """A binary mask of as many bins as another method keeps (the sum of its mask), or of a fixed share.

    Args:
        classifier: only judged, never asked.
        share: of the bins, used when there is no method to be like.
        like: the method whose area is matched, clip by clip.
    """

    only_binary = True

    def __init__(self, classifier: Classifier, share: float = 0.2, like: MaskInterpreter | None = None):
        super().__init__(classifier, like)
        self.share = share

    def area(self, scene: Scene) -> float | Tensor:
        """Share of the bins to keep: a number, or one a clip."""
        return self.share if self.like is None else self.like.finished_mask(scene)[0].mean((1, 2))


class Loudest(EqualArea):
    """Keeps the loudest bins, whatever the target; see `EqualArea`."""

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 on the loudest bins."""
        return loudest_mask(scene.stft.abs(), self.area(scene)), {}


class RandomMask(EqualArea):
    """Keeps bins drawn at random, the same for clips of equal length; see `EqualArea`.

    Args:
        classifier, share, like: see `EqualArea`.
        seed: of the draw.
    """

    def __init__(self, classifier: Classifier, share: float = 0.2, like: MaskInterpreter | None = None, seed: int = 0):
        super().__init__(classifier, share, like)
        self.seed = seed

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 on random bins."""
        generator = torch.Generator().manual_seed(self.seed)
        rank = torch.rand(scene.stft.shape[1:], generator=generator).to(scene.stft.device)
        return loudest_mask(rank.expand(scene.stft.shape), self.area(scene)), {}
