"""FLINT by design: classifier and interpreter trained together (algorithm 1 of the paper)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiointerp.classifiers.supervised import Supervised
from audiointerp.contracts import Batch, Prediction
from audiointerp.interpreters.flint.model import FLINT
from audiointerp.sound.spectrogram import log_magnitude

__all__ = ["JointFLINT"]


class JointFLINT(Supervised):
    """Trains a classifier f and its FLINT together: L_pred + beta L_of + gamma L_if + delta L_cd.

    Parekh et al. (2021), https://arxiv.org/abs/2010.09345. Gradients of the reconstruction and of the entropies reach f
    through the feature maps that the attributes are computed from; f's probabilities are the goal of L_of without a
    gradient, as in the released code. The paper begins with L_pred and L_if, adds L_of and the sparsity at the third
    epoch, and the entropies at the fourth: weights by epoch in the recipe.

    Args:
        interpreter: trained in place, together with its classifier.
        label_smoothing, augment_features, positive_weight: see `Supervised`. The decoder rebuilds the clip without the
            changes of `augment_features`.
    """

    label_sets = True  # labels come as (batch, classes), which augmentation may mix

    def __init__(
        self,
        interpreter: FLINT,
        label_smoothing: float = 0.0,
        augment_features: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        positive_weight: float = 1.0,
    ):
        if not isinstance(interpreter, FLINT):
            raise ValueError(f"JointFLINT trains a FLINT, not a {type(interpreter).__name__}")
        super().__init__(interpreter.classifier, label_smoothing, augment_features, positive_weight)
        self.interpreter = interpreter

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: every weight of f, Phi, h and d."""
        return {"interpreter": [each for each in self.parameters() if each.requires_grad]}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """ "classification", and the terms of `FLINT.losses`, each a mean over clips."""
        features = self._augmented(self.classifier.features_of(batch))
        prediction = self._predict(features)
        with torch.no_grad():
            level = log_magnitude(self.classifier.spectrogram(batch.waveform))
        return {
            "classification": self._classification(prediction.logits, batch.label),
            **self.interpreter.losses_of(prediction, level, batch.waveform.shape[-1]),
        }

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the classifier and those of the interpreter."""
        return super().scores(batch) | self.interpreter.scores(batch)

    def _predict(self, features: Tensor) -> Prediction:
        """Prediction; a batch of one clip in evaluation mode, as a batch norm has no variance over one embedding."""
        if len(features) > 1:
            return self.classifier.classify(features)
        self.classifier.eval()
        try:
            return self.classifier.classify(features)
        finally:
            self.classifier.train(self.training)
