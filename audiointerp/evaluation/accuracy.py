"""Accuracy of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiointerp.contracts import BandClassifier, Classifier, Prediction, frozen
from audiointerp.datasets import ClipDataset

# Features (batch, 3, band) of log-frequency bands are multiplied by these factors: level, then the phase's two rows.
CHANNELS = {"": (1.0, 1.0, 1.0), "_magnitude_only": (1.0, 0.0, 0.0), "_phase_only": (0.0, 1.0, 1.0)}

__all__ = ["accuracy_by_channel", "evaluate_classifier"]


@torch.no_grad()
def accuracy_by_channel(classifier: Classifier, test: ClipDataset, batch_size: int = 64) -> dict[str, Any]:
    """Test accuracy of a classifier of log-frequency bands: from all features, magnitudes alone, and phases alone.

    The omitted features are set to 0. Runs that compare magnitude and phase report these accuracies.
    """
    right: dict[str, list[Tensor]] = {}
    with frozen(classifier):
        for batch in test.batches(batch_size):
            batch = batch.to(classifier.device)
            features = classifier.features_of(batch)
            for name, left in CHANNELS.items():
                heard = classifier.classify(features * features.new_tensor(left)[:, None])
                right.setdefault(f"test_accuracy{name}", []).append(heard.predicted == batch.label)
    return {"test_clips": len(test)} | {name: float(torch.cat(each).float().mean()) for name, each in right.items()}


@torch.no_grad()
def evaluate_classifier(classifier: Classifier, test: ClipDataset, folder: Path, batch_size: int) -> dict[str, Any]:
    """Test accuracy; for clips with one label each, it also draws the confusion matrix."""
    device = next(classifier.parameters()).device
    batches = (batch.to(device) for batch in test.batches(batch_size))
    predictions: list[Prediction] = [classifier.classify(classifier.features_of(batch)) for batch in batches]
    probabilities = torch.cat([each.probabilities for each in predictions]).cpu()
    labels = test.labels_of()
    if classifier.multilabel:
        right = ((probabilities > 0.5) == labels.bool()).float()
        return {
            "test_clips": len(test),
            "test_label_accuracy": float(right.mean()),
            "test_exact": float(right.all(1).float().mean()),
        }
    from audiointerp.results import figures

    predicted = probabilities.argmax(1)
    counts = _confusion(labels, predicted, len(classifier.labels))
    figures.plot_confusion(folder / "figures" / "confusion.png", counts.numpy(), classifier.labels)
    if isinstance(classifier, BandClassifier):
        return accuracy_by_channel(classifier, test, batch_size)
    return {"test_clips": len(test), "test_accuracy": float((predicted == labels).float().mean())}


def _confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes): row = true, column = predicted."""
    return (labels * classes + predicted).bincount(minlength=classes * classes).view(classes, classes)
