"""The labels that a classifier finds likeliest in recordings, kept in the run folder for its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, frozen
from audiointerp.evaluation.items import Item, naming
from audiointerp.results.tables import Likeliest
from audiointerp.sound.files import normalize_peak

SHOWN = 5

__all__ = ["note_likeliest", "rank", "rank_labels", "shown"]


@torch.no_grad()
def rank_labels(waveform: Tensor, classifier: Classifier) -> list[list[tuple[int, float]]]:
    """All labels of each row of (batch, samples) at peak 1, as (index, probability), likeliest first."""
    scaled = normalize_peak(waveform.to(classifier.device))[0]
    with frozen(classifier):
        return rank(classifier(scaled).probabilities.cpu())


def rank(probabilities: Tensor) -> list[list[tuple[int, float]]]:
    """All labels of each row of (batch, classes), as (index, probability), likeliest first."""
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    return [list(zip(*each)) for each in zip(order.tolist(), probabilities.gather(1, order).tolist())]


def shown(ranked: Sequence[tuple[int, float]], labels: Sequence[str]) -> list[tuple[str, float]]:
    """Name and probability of the labels that likeliest.csv has."""
    return [(labels[index], probability) for index, probability in ranked[:SHOWN]]


def note_likeliest(item: Item, classifier: Classifier, folder: Path) -> None:
    """Adds the five likeliest labels in a recording's first 30 s to likeliest.csv."""
    with naming(item.source):
        (ranked,) = rank_labels(next(item.windows()).waveform, classifier)
    Likeliest(folder).add(item.item_id, shown(ranked, classifier.labels))
