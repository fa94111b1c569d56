"""Runs a recipe in its own folder; resumes an interrupted run.

results/<name>/<seed>/  recipe.yaml run.json log.csv checkpoints/ best/ audio/ figures/ scores.csv report.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from audiointerp import recipe
from audiointerp.bundles import bundle
from audiointerp.runs.keys import KEYS, with_defaults
from audiointerp.runs.kind import Context, splits_of
from audiointerp.runs.registry import all_kinds, kind_of
from audiointerp.training.devices import pick_device

__all__ = ["Experiment", "load_any"]


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
        self.schema = {**KEYS, **{key: of for kind in all_kinds() for key, of in kind.keys.items()}}
        self.path, self.overrides, self.allow = path, overrides, allow
        given = recipe.preview(path, overrides, self.schema, allow)
        self.kind = kind_of(given)
        self.values = self._complete(given)
        self.name, self.text = Path(path).stem, recipe.resolve(path, overrides, self.schema, allow)
        self.folder = Path(self.values["output_folder"]) / self.name / str(self.values["seed"]) / subfolder

    def run(self) -> Path:
        """Runs the recipe, or the steps that an interrupted run has left; returns the run folder."""
        values = self._complete(recipe.load(self.path, self.overrides, self.schema, self.allow))
        splits, device = splits_of(values), pick_device(values["device"])
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
