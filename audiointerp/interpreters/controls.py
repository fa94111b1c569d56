"""Trivial masks as interpreters: what a method must beat."""

from __future__ import annotations

from torch import Tensor

from audiointerp.contracts import Classifier, Domain
from audiointerp.interpreters.masked import MaskInterpreter, Scene
from audiointerp.masking import TargetMask, ThresholdMask, loudest_mask

__all__ = ["Loudest", "TargetMasking", "Threshold"]


class TargetMasking(MaskInterpreter):
    """The mask that a trained method is shown, without the method: what its target can explain at most.

    Args:
        classifier: only judged, never asked.
        target_mask: (stft, stem's stft or None) -> mask; with `StemMask` an oracle, which needs `interpret(stem=...)`.
        domain: of the mask.
        like: not used.
    """

    def __init__(
        self,
        classifier: Classifier,
        target_mask: TargetMask | None = None,
        domain: Domain = "log_magnitude",
        like: MaskInterpreter | None = None,
    ):
        super().__init__(classifier)
        self.target_mask, self.domain = target_mask or ThresholdMask(), domain

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The target's mask, whatever class is asked for."""
        return self.target_mask(scene.stft, scene.stem), {}


class Threshold(TargetMasking):
    """Keeps the bins above a share of the clip's maximum: PIQ's own training target.

    Args:
        classifier: only judged, never asked.
        threshold: share of the maximum.
        domain: of the threshold and of the mask.
        like: not used; every control takes the method it stands beside.
    """

    def __init__(
        self,
        classifier: Classifier,
        threshold: float = 0.35,
        domain: Domain = "log_magnitude",
        like: MaskInterpreter | None = None,
    ):
        super().__init__(classifier, ThresholdMask(threshold, domain), domain, like)


class Loudest(MaskInterpreter):
    """Keeps the loudest bins, as many as another method keeps (the sum of its mask), or a fixed share.

    Args:
        classifier: only judged, never asked.
        share: of the bins, used when there is no method to be like.
        domain: of the mask; a binary mask is the same in both.
        like: the method whose area is matched, clip by clip.
    """

    def __init__(
        self,
        classifier: Classifier,
        share: float = 0.2,
        domain: Domain = "log_magnitude",
        like: MaskInterpreter | None = None,
    ):
        super().__init__(classifier)
        self.share, self.domain, self.like = share, domain, like

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 on the loudest bins, whatever the target."""
        share = self.share if self.like is None else self.like.make_mask(scene)[0].mean((1, 2))
        return loudest_mask(scene.stft.abs(), share), {}
