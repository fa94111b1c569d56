"""The base class of the kinds of run (`Kind`), and the data and settings of one run (`Context`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from audiointerp import datasets
from audiointerp.bundles import bundle
from audiointerp.contracts import BandClassifier, Classifier, Interpreter
from audiointerp.datasets import Clip, ClipDataset, FeatureDataset, Splits
from audiointerp.processes.world import current
from audiointerp.results import folder as run_folder

__all__ = ["Context", "Kind", "classifier_of", "splits_of"]


class Hashed(Protocol):
    """Data with a hash, which a run records to notice that they were changed."""

    @property
    def content_hash(self) -> str:
        """Hash of the content."""
        ...


@dataclass
class Context:
    """The data and settings of one run.

    Attributes:
        values: the recipe's values, with defaults for the keys that it leaves out.
        text: the recipe, resolved, as it is written to the run folder.
        name: name of the recipe.
        kind: kind of the run.
        folder: the run folder.
        splits: clips for training, validation and test.
        device: the device on which the run computes.
        info: contents of run.json.
    """

    values: Mapping[str, Any]
    text: str
    name: str
    kind: Kind
    folder: Path
    splits: Splits
    device: torch.device
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The recipe's seed of all random numbers."""
        return self.values["seed"]

    @cached_property
    def classifier(self) -> Classifier:
        """The recipe's classifier on the device: from a bundle or a run, or a new one.

        Raises:
            ValueError: if the recipe has no classifier, or the classifier lacks a class of the data.
        """
        labels = self.splits.labels
        given = self.values["classifier"]
        classifier = classifier_of(given, self.values["labels"])
        if classifier is None:
            classifier = classifier_of(given(labels=labels, multilabel=self.values["multilabel"]))
        if classifier is None:
            raise ValueError("classifier makes no classifier; name a classifier's class, bundle or run")
        if unknown := sorted(set(labels) - set(classifier.labels)):
            raise ValueError(f"the data has classes that the classifier lacks: {', '.join(unknown)}")
        if self.values["pretrained"]:
            bundle.start_from(classifier, bundle.load(self.values["pretrained"]), self.values["pretrained"])
        return classifier.to(self.device)

    @cached_property
    def data(self) -> dict[str, ClipDataset]:
        """The clips of "train", "valid" and "test" as batches for the classifier; splits without clips are left out."""
        parts = {"train": self.splits.train, "valid": self.splits.valid, "test": self.splits.test}
        return {name: self._dataset(clips) for name, clips in parts.items() if clips}

    def start(self, labels: tuple[str, ...] | None = None, data: Mapping[str, Hashed] | None = None) -> None:
        """Opens the run folder, or resumes in it; call it after everything that the run needs has been loaded.

        Args:
            labels: class names; None: the classifier's.
            data: the clips whose hash is recorded, so that a run with changed clips is refused; None: all.
        """
        labels = self.classifier.labels if labels is None else labels
        data = self.data if data is None else data
        # Clips are decoded for their hash, by one process for all.
        self.info = current().once(
            lambda: run_folder.start(
                self.folder,
                self.text,
                name=self.name,
                kind=self.kind.name,
                scored=self.kind.scored,
                seed=self.seed,
                labels=list(labels),
                device=str(self.device),
                data_hash={part: each.content_hash for part, each in data.items()},
            )
        )

    def finish(self, **results: Any) -> None:
        """Marks the run as finished and keeps its results in run.json."""
        current().once(lambda: run_folder.finish(self.folder, self.info, **results))

    def _dataset(self, clips: Sequence[Clip]) -> ClipDataset:
        classifier = self.classifier
        facts = (classifier.sample_rate, self.values["seconds"], self.values["multilabel"])
        if not self.values["cache_features"]:
            how = {name: self.values[name] for name in ("cache_bits", "readers")}
            return ClipDataset(clips, classifier.labels, *facts, **how)
        if not isinstance(classifier, BandClassifier):
            raise ValueError(
                f"cache_features: {type(classifier).__name__} has no front end that can be cached; set it to false"
            )
        return FeatureDataset(
            clips, classifier.labels, classifier.log_frequency, *facts, readers=self.values["readers"]
        )


class Kind(ABC):
    """A kind of run, such as a comparison; listed in `runs.registry`.

    Attributes:
        name: name of the kind in run.json.
        key: the recipe key that selects this kind.
        keys: further keys of recipes of this kind, in addition to `runs.keys.KEYS`: key -> type, `key` included.
        defaults: default values of those keys.
        required: keys that the recipe must have, in addition to `runs.keys.ALWAYS`.
        needs_test: whether the run needs clips of the test folds.
        trains: whether it needs clips of the training folds; else these may be missing, with their classes.
        scored: whether it explains clips, so that its run folder is incomplete without scores.csv.
        divides: whether several processes can make such a run together.
    """

    name: ClassVar[str]
    key: ClassVar[str]
    keys: ClassVar[Mapping[str, Any]]
    defaults: ClassVar[Mapping[str, Any]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    needs_test: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    scored: ClassVar[bool] = True
    divides: ClassVar[bool] = False

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Problems of a recipe's values other than their types, one line each; subclasses add their own."""
        if self.needs_test and not values["test_folds"]:
            return ["test_folds is empty; name the folds whose clips are explained"]
        return []

    @abstractmethod
    def run(self, context: Context) -> None:
        """Makes the whole run, from opening the run folder to its page, without the steps that are done already."""

    @abstractmethod
    def page(self, folder: Path) -> Path:
        """Writes the page of a run folder from its files alone; returns its path."""


def classifier_of(given: Any, labels: list[str] | str | None = None) -> Classifier | None:
    """The classifier that a recipe's key `classifier` names; None for a constructor, which needs the data's labels.

    Args:
        given: a bundle, a run, a classifier's name, or a classifier or interpreter that the recipe made.
        labels: class names of a classifier by name, if it has none of its own.

    Raises:
        ValueError: if there is another model at that path.
    """
    model = bundle.load(given, labels=labels) if isinstance(given, str) else given
    if isinstance(model, Interpreter):
        model = model.classifier
    if isinstance(model, Classifier):
        return model
    if isinstance(given, str) or isinstance(model, torch.nn.Module) or not callable(model):
        raise ValueError(f"classifier is a {type(model).__name__}; name a classifier's bundle or run")
    return None


def splits_of(values: Mapping[str, Any], trains: bool = True) -> Splits:
    """The recipe's clips by fold; with `shuffle_labels` the labels of the training clips are permuted.

    Args:
        values: of the recipe.
        trains: whether the run needs training clips.
    """
    folds = (values[f"{part}_folds"] for part in ("train", "valid", "test"))
    splits = datasets.split(values["clips"](), *folds, trains=trains)
    if not values["shuffle_labels"]:
        return splits
    return replace(splits, train=datasets.shuffle_labels(splits.train, values["seed"]))
