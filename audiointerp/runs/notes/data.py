"""Selects notes from a dataset, computes their features, and loads or fits fillers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from audiointerp.bundles import bundle
from audiointerp.classifiers.instrument import check_bands
from audiointerp.contracts import Classifier
from audiointerp.datasets import ClipDataset
from audiointerp.interpreters.rde.fillers import Filler, fit_fillers
from audiointerp.interpreters.rde.inpainter import Inpainter

__all__ = ["features_of", "load_fillers", "notes_by_class", "pick_notes"]


def load_fillers(path: str | None, train: ClipDataset, classifier: Classifier) -> dict[str, Filler]:
    """Fillers by name: those of a trained inpainter, or fillers that need no training, fitted to the training notes.

    Args:
        path: an inpainter's run or bundle; None: fillers are fitted to the training notes, without a generator.
        train: the training notes.
        classifier: of log-frequency bands, whose features are filled.

    Raises:
        ValueError: if the path has no inpainter, or an inpainter of other bands.
    """
    device = classifier.device
    if path is None:
        fitted = fit_fillers(classifier.features_of(batch.to(device)).cpu() for batch in train.batches(64))
        return {name: each.to(device) for name, each in fitted.items()}
    inpainter = bundle.load(path)
    if not isinstance(inpainter, Inpainter):
        raise ValueError(f"fillers: {path} holds a {type(inpainter).__name__}; give the run of inpainter.yaml")
    ours, theirs = check_bands(classifier).log_frequency, inpainter.log_frequency
    if ours.config != theirs.config:
        raise ValueError(f"fillers: {path} fills {theirs.config}, but the classifier reads {ours.config}")
    return inpainter.to(device).fillers()


def pick_notes(data: ClipDataset, per_class: int, seed: int) -> list[int]:
    """Indices of `per_class` notes of each class (or all, if there are fewer), class by class."""
    labels, generator = data.labels_of(), torch.Generator().manual_seed(seed)
    chosen = []
    for number in range(len(data.labels)):
        notes = (labels == number).nonzero()[:, 0]
        chosen += notes[torch.randperm(len(notes), generator=generator)[:per_class]].tolist()
    return chosen


@torch.no_grad()
def features_of(classifier: Classifier, data: ClipDataset, notes: list[int]) -> Tensor:
    """Features of notes by index, (notes, 3, band)."""
    return classifier.features_of(data.batch(notes).to(classifier.device))


def notes_by_class(data: ClipDataset, most: int, seed: int) -> Iterator[tuple[str, list[int]]]:
    """Each class with at most `most` of its notes; classes without notes are left out."""
    labels = data.labels_of()
    for i in pick_notes(data, 1, seed):
        number = int(labels[i])
        everyone = (labels == number).nonzero()[:, 0]
        order = torch.randperm(len(everyone), generator=torch.Generator().manual_seed(seed))
        yield data.labels[number], everyone[order[:most]].tolist()
