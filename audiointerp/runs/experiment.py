"""Runs a recipe in its own folder; resumes an interrupted run.

results/<name>/<seed>/  recipe.yaml run.json log.csv checkpoints/ best/ audio/ figures/ scores.csv report.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiointerp import recipe
from audiointerp.bundles import bundle
from audiointerp.contracts import Classifier, Interpreter
from audiointerp.processes.world import current
from audiointerp.runs.keys import KEYS, with_defaults
from audiointerp.runs.kind import Context, classifier_of, splits_of
from audiointerp.runs.methods import build_methods, check_names
from audiointerp.runs.registry import all_kinds, kind_of
from audiointerp.training.devices import pick_device

__all__ = ["Described", "Experiment", "described", "load_any"]


class Experiment:
    """One run of a recipe in its own folder; the recipe's keys determine the kind of run.

    The recipe is checked when an Experiment is made; what it names is called by `run` only.

    Args:
        path: the recipe.
        overrides: changed keys from the command line, as returned by `recipe.parse_overrides`.
        subfolder: appended to the run folder, for rotated folds.
        allow: packages whose classes and functions the recipe may name, in addition to audiointerp and torch.

    Attributes:
        values: the recipe's values; objects that only a run makes are `recipe.UNKNOWN` or `Instance`.

    Raises:
        RecipeError: with all problems of the recipe, before anything is loaded.
    """

    def __init__(
        self, path: str | Path, overrides: Mapping[str, str], subfolder: str = "", allow: Collection[str] = ()
    ):
        self.schema = _schema()
        self.path, self.overrides, self.allow = path, overrides, allow
        given = recipe.preview(path, overrides, self.schema, allow)
        self.kind = kind_of(given)
        self.values = self._complete(given)
        self.name, self.text = Path(path).stem, recipe.resolve(path, overrides, self.schema, allow)
        self.folder = Path(self.values["output_folder"]) / self.name / str(self.values["seed"]) / subfolder

    def run(self) -> Path:
        """Runs the recipe, or the steps that an interrupted run has left; returns the run folder.

        Raises:
            ValueError: in one of several processes, if they cannot make such a run together.
        """
        if current().others and not self.kind.divides:
            raise ValueError(f"{self.path}: a run of kind {self.kind.name} is made by one process; start only one")
        values = self._complete(recipe.load(self.path, self.overrides, self.schema, self.allow))
        splits, device = splits_of(values, self.kind.trains), pick_device(values["device"])
        torch.manual_seed(values["seed"])
        self.kind.run(Context(values, self.text, self.name, self.kind, self.folder, splits, device))
        return self.folder

    def _complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        values, problems = with_defaults(self.kind, given)
        if problems:
            raise recipe.RecipeError([f"{self.path}: {problem}" for problem in problems])
        return values


def load_any(path: str | Path, overrides: Mapping[str, str] | None = None, allow: Collection[str] = ()) -> Any:
    """Loads the model of a bundle, of a run, or of the finished run of a recipe; ValueError if there is none.

    Of a recipe, only the folder of its run is used: nothing that it names is called.
    """
    if str(path).endswith((".yaml", ".yml")):
        done = Experiment(path, overrides or {}, allow=allow)
        if not (done.folder / "best").is_dir():
            raise ValueError(f"{path}: has no finished run in {done.folder}; run it first: audiointerp run {path}")
        return bundle.load(done.folder)
    return bundle.load(path)


@dataclass(frozen=True)
class Described:
    """The models of a recipe that trains nothing.

    Attributes:
        classifier: the classifier that the recipe names, on the device.
        methods: the recipe's methods by name; may be empty.
        text: the recipe, resolved.
    """

    classifier: Classifier
    methods: Mapping[str, Interpreter]
    text: str


def described(
    path: str | Path, overrides: Mapping[str, str], allow: Collection[str], device: torch.device
) -> Described | None:
    """Builds the classifier and the methods that a recipe names; None if a run must train a model of it first.

    Such a recipe needs no data and no folds, as long as it is explained and not run.

    Args:
        path: the recipe.
        overrides: changed keys.
        allow: packages whose classes and functions the recipe may name, in addition to audiointerp and torch.
        device: the device on which the models compute.

    Raises:
        ValueError: for a problem of the recipe (RecipeError), or a model that cannot be used.
    """
    schema = _schema()
    given = recipe.preview(path, overrides, schema, allow)
    trains = {"methods": False, "classifier": "epochs" in given}
    if "classifier" not in given or trains.get(kind_of(given).key, True):
        return None
    values = recipe.load(path, overrides, schema, allow)
    classifier = classifier_of(values["classifier"], values.get("labels"))
    if classifier is None:
        raise ValueError(f"{path}: its classifier is still to be trained; name a classifier, its bundle or its run")
    makers = values.get("methods") or {}
    check_names(list(makers))
    classifier = classifier.to(device)
    return Described(classifier, build_methods(makers, classifier), recipe.resolve(path, overrides, schema, allow))


def _schema() -> dict[str, Any]:
    """The keys of recipes of every kind with their types."""
    return {**KEYS, **{key: of for kind in all_kinds() for key, of in kind.keys.items()}}
