"""L2I's control: as many components as it selects, drawn at random."""

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

    What L2I's faithfulness is compared with in Parekh et al. (2022), https://arxiv.org/abs/2202.11479, which draws a
    fixed number for all clips.

    Args:
        classifier: only judged, never asked.
        like: the L2I that it stands beside.
        seed: of the draw; clips draw alike.
    """

    alone = False

    def __init__(self, classifier: Classifier, like: MaskInterpreter | None = None, seed: int = 0):
        super().__init__(classifier, like)
        self.seed, self.domain = seed, "log_magnitude"

    def fits(self, method: object) -> bool:
        """Whether the method has components."""
        return isinstance(method, L2I)

    def beside(self, method: MaskInterpreter) -> Beside:
        """A copy that stands beside the method and uses its masks as the method does."""
        matched = super().beside(method)
        matched.domain, matched.binary, matched.fill = method.domain, method.binary, method.fill
        return matched

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the drawn components, and which they are."""
        if not isinstance(self.like, L2I):
            raise ValueError("RandomComponents draws from L2I's components; give like, an L2I")
        _, details = self.like.make_mask(scene)
        rank = torch.randperm(details["selected"].shape[1], generator=torch.Generator().manual_seed(self.seed))
        drawn = (rank.to(scene.stft.device) < details["selected"].sum(1, keepdim=True)).to(details["selected"].dtype)
        mask = component_mask(self.like.dictionary, details["activations"], drawn)
        return mask, {"selected": drawn}
