"""Recipes of the package, found by name from any folder, on the command line and in includes."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiointerp import recipe
from audiointerp.__main__ import main
from audiointerp.recipe import RecipeError, shipped

HERE = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_recipe_is_listed_with_what_it_does(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    files = {each.relative_to(HERE).as_posix() for each in HERE.rglob("*.yaml")}
    assert files and set(shipped.names()) == files
    for name, sentence in shipped.names().items():
        assert f"\n{name} " in out and len(sentence) > 20, name


@pytest.mark.parametrize("name", ["pretrain.yaml", "esc50/pretrain.yaml", "recipes/esc50/pretrain.yaml"])
def test_found_by_name(name):
    assert recipe.resolve(name, {}) == recipe.resolve(HERE / "esc50" / "pretrain.yaml", {})


def test_a_file_of_ones_own_comes_first(tmp_path):
    (tmp_path / "pretrain.yaml").write_text("seed: 3\n")
    assert recipe.resolve("pretrain.yaml", {}) == "seed: 3\n"


def test_a_recipe_of_ones_own_includes_one_of_the_package(tmp_path):
    (tmp_path / "mine.yaml").write_text("<<: !include:esc50/base.yaml\nseed: 3\n")
    assert "seed: 3\n" in (text := recipe.resolve("mine.yaml", {})) and "test_folds: [4]\n" in text


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("base.yaml", "name esc50/base.yaml or nsynth/base.yaml or tagger/base.yaml"),
        ("nothing.yaml", "there is no file 'nothing.yaml'; `audiointerp recipes` lists those of the package"),
        ("../esc50/base.yaml", "there is no file '../esc50/base.yaml'; `audiointerp recipes` lists"),
        ("x" * 5000 + ".yaml", "cannot be read"),
    ],
)
def test_names_that_are_none(name, problem):
    (found,) = recipe.check(name, {}, {}, ())
    assert problem in found


def test_an_ambiguous_include_names_its_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 3\n<<: !include:base.yaml\n")
    with pytest.raises(RecipeError, match=r"mine.yaml:2: 'base.yaml' is the name of several recipes"):
        recipe.resolve("mine.yaml", {})
