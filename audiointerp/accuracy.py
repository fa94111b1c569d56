"""How often a classifier is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiointerp import figures
from audiointerp.contracts import Classifier
from audiointerp.datasets import ClipDataset

__all__ = ["evaluate_classifier"]


@torch.no_grad()
def evaluate_classifier(classifier: Classifier, test: ClipDataset, folder: Path, batch_size: int) -> dict[str, Any]:
    """Test accuracy; for one label a clip also the confusion matrix, as a figure."""
    device = next(classifier.parameters()).device
    predictions = [classifier(batch.waveform.to(device)) for batch in test.batches(batch_size)]
    probabilities = torch.cat([each.probabilities for each in predictions]).cpu()
    labels = test.labels_of()
    if classifier.multilabel:
        right = ((probabilities > 0.5) == labels.bool()).float()
        return {
            "test_clips": len(test),
            "test_label_accuracy": float(right.mean()),
            "test_exact": float(right.all(1).float().mean()),
        }
    predicted = probabilities.argmax(1)
    counts = _confusion(labels, predicted, len(classifier.labels))
    figures.plot_confusion(folder / "figures" / "confusion.png", counts.numpy(), classifier.labels)
    return {"test_clips": len(test), "test_accuracy": float((predicted == labels).float().mean())}


def _confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes): row = true, column = predicted."""
    return (labels * classes + predicted).bincount(minlength=classes * classes).view(classes, classes)
