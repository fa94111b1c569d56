"""The comparisons that the package ships run as they are: what `compare` refuses is not in them."""

from __future__ import annotations

from pathlib import Path

import pytest

import audiointerp
from audiointerp import recipe
from audiointerp.runs.comparison.compare import _check
from audiointerp.runs.experiment import Experiment
from audiointerp.runs.methods import build_controls, build_methods

RECIPES = Path(__file__).resolve().parents[3] / "recipes"
COMPARED = {
    "esc50/compare.yaml": {},
    "esc50/compare_own.yaml": {"classifier": "esc10-piq"},
    "esc50/times.yaml": {},
    "esc50/sanity.yaml": {},
    "tagger/compare.yaml": {},
    "tagger/times.yaml": {},
}


@pytest.mark.parametrize("name", COMPARED)
def test_methods_of_shipped_comparisons_are_accepted(name, tmp_path):
    given = Experiment(RECIPES / name, {"data_folder": str(tmp_path), **COMPARED[name]})
    values = recipe.load(given.path, given.overrides, given.schema)
    left_out = {each for each, make in values["methods"].items() if make is None}
    comparison = values["comparison"].without(left_out)
    classifier = audiointerp.load("esc10-piq").classifier
    methods = build_methods(values["methods"], classifier)
    likes = {each: methods[each] for each in comparison.like}
    _check(comparison, methods | build_controls(values["controls"], classifier, likes))
