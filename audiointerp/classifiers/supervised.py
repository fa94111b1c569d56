"""Supervised training of a classifier: the losses and scores that the training loop needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.contracts import Batch, Classifier, Trainable
from audiointerp.processes import dividing

__all__ = ["Supervised"]


class Supervised(Trainable):
    """Cross-entropy (one label) or binary cross-entropy (several) on a classifier.

    Args:
        classifier: trained in place.
        label_smoothing: share of the probability spread over all classes.
        augment_features: changes the features during training, drawing from a torch.Generator.
        positive_weight: weight of positive labels in the binary cross-entropy.
    """

    def __init__(
        self,
        classifier: Classifier,
        label_smoothing: float = 0.0,
        augment_features: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        positive_weight: float = 1.0,
    ):
        super().__init__()
        self.classifier = classifier
        self.label_smoothing, self.positive_weight = label_smoothing, positive_weight
        self.augment_features = augment_features

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: every weight of the classifier."""
        return {"classifier": [each for each in self.classifier.parameters() if each.requires_grad]}

    def losses(self, batch: Batch, group: str = "classifier") -> dict[str, Tensor]:
        """{"classification": scalar}."""
        features = self._augmented(self.classifier.features_of(batch))
        return {"classification": self._classification(_logits(self.classifier, features), batch.label)}

    def _augmented(self, features: Tensor) -> Tensor:
        if self.augment_features is None:
            return features
        # Seeded from the global generator, which the loop seeds (and restores when it resumes).
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        return dividing.own(self.augment_features(dividing.gathered(features), generator))

    def _classification(self, logits: Tensor, label: Tensor) -> Tensor:
        if self.classifier.multilabel:
            weight = torch.tensor(self.positive_weight, device=logits.device)
            return functional.binary_cross_entropy_with_logits(logits, label.float(), pos_weight=weight)
        return functional.cross_entropy(logits, label, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Per clip: accuracy, log probability of the label; multilabel: the share of labels right at threshold 0.5."""
        prediction = self.classifier.classify(self.classifier.features_of(batch))
        if self.classifier.multilabel:
            return {"accuracy": ((prediction.probabilities > 0.5) == batch.label.bool()).float().mean(1)}
        log_probability = prediction.logits.log_softmax(-1).gather(1, batch.label[:, None])[:, 0]
        return {
            "accuracy": (prediction.predicted == batch.label).float(),
            "log_probability": log_probability,
        }


def _logits(classifier: Classifier, features: Tensor) -> Tensor:
    """Logits; a batch of one clip runs in evaluation mode, because batch norm has no variance over one embedding."""
    if len(features) > 1 or not classifier.training:
        return classifier.classify(features).logits
    classifier.eval()
    try:
        return classifier.classify(features).logits
    finally:
        classifier.train()
