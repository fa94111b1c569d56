"""A control of L2I: randomly drawn components, as many as L2I selects."""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.contracts import Classifier
from audiointerp.interpreters.base import MaskInterpreter, Scene
from audiointerp.interpreters.controls import Beside
from audiointerp.interpreters.l2i.model import L2I
from audiointerp.interpreters.l2i.relevance import component_mask

__all__ = ["RandomComponents"]


class RandomComponents(Beside):
    """Keeps random components of L2I's dictionary, as many as L2I selects, with L2I's activations.

    The control with which Parekh et al. (2022), https://arxiv.org/abs/2202.11479, compare L2I's faithfulness; they
    draw the same number of components for all clips.

    Args:
        classifier: the classifier; only L2I's activations and selection depend on it.
        like: the L2I that the control is matched to.
        seed: of the draw; the same for all clips.
    """

    alone = False

    def __init__(self, classifier: Classifier, like: MaskInterpreter | None = None, seed: int = 0):
        super().__init__(classifier, like)
        self.seed, self.domain = seed, "log_magnitude"

    def fits(self, method: object) -> bool:
        """Whether the method has components."""
        return isinstance(method, L2I)

    def beside(self, method: MaskInterpreter) -> Beside:
        """A copy matched to the method, with the method's domain, binary and fill."""
        matched = super().beside(method)
        matched.domain, matched.binary, matched.fill = method.domain, method.binary, method.fill
        return matched

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the drawn components, and "selected", 1 for each drawn component."""
        if not isinstance(self.like, L2I):
            raise ValueError("RandomComponents draws from the components of an L2I; give it as like")
        _, details = self.like.make_mask(scene)
        rank = torch.randperm(details["selected"].shape[1], generator=torch.Generator().manual_seed(self.seed))
        drawn = (rank.to(scene.stft.device) < details["selected"].sum(1, keepdim=True)).to(details["selected"].dtype)
        mask = component_mask(self.like.dictionary, details["activations"], drawn)
        return mask, {"selected": drawn}
