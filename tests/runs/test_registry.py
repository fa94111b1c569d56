"""The kinds of run: what each promises, and that a new one needs a module and a line in the registry, and no more."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_type_hints

import pytest
from tiny_runs import RECIPES, run

from audiointerp.__main__ import main
from audiointerp.recipe.signatures import fits
from audiointerp.runs.keys import ALWAYS, DEFAULTS, KEYS
from audiointerp.runs.kind import Kind
from audiointerp.runs.registry import KINDS, all_kinds, kind_of

MODULE = '''\
"""Counts the training clips of some classes; needs no classifier."""

from audiointerp.results.folder import describe_results
from audiointerp.results.reading import Run
from audiointerp.results.writing import write_text
from audiointerp.runs.kind import Kind


class Counting(Kind):
    name = "counting"
    scored = False
    key = "counted"
    keys = {"counted": list[str], "weight": float, "unit": str}
    defaults = {"unit": "clips"}
    required = ("weight",)

    def problems(self, values):
        found = [f"counted names {each!r} twice" for each in values["counted"] if values["counted"].count(each) > 1]
        return super().problems(values) + found[:1]

    def run(self, context):
        clips, values = context.splits.train, context.values
        context.start(context.splits.labels, {})
        counts = {name: sum(name in clip.labels for clip in clips) for name in values["counted"]}
        context.finish(results={name: values["weight"] * count for name, count in counts.items()}, unit=values["unit"])
        self.page(context.folder)

    def page(self, folder):
        about = Run.read(folder).about
        return write_text(folder / "report.html", f"<p>{describe_results(folder)} {about['unit']}</p>")
'''
RECIPE = f"<<: !include:{RECIPES / 'base.yaml'}\ncounted: [bell, siren]\nweight: 0.5\n"


@pytest.fixture
def counting(tmp_path, monkeypatch) -> Path:
    """A recipe of a kind that is not part of the package: its module can be found, its line is in the registry."""
    (tmp_path / "kinds_of_my_own.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("audiointerp.runs.registry.KINDS", [*KINDS, "kinds_of_my_own:Counting"])
    path = tmp_path / "count.yaml"
    path.write_text(RECIPE)
    yield path
    sys.modules.pop("kinds_of_my_own", None)


def options(tiny, tmp_path) -> list[str]:
    return ["--data_folder", str(tiny.data), "--output_folder", str(tmp_path / "results"), "--device", "cpu"]


def test_a_new_kind_runs_from_its_recipe(tiny, counting, tmp_path, capsys):
    run(["run", counting, *options(tiny, tmp_path)])
    folder = tmp_path / "results" / "count" / "1234"
    assert f"{folder}: bell 1.500, siren 1.500; see {folder / 'report.html'}" in capsys.readouterr().out
    about = json.loads((folder / "run.json").read_text())
    assert about["kind"] == "counting" and about["finished"] and not about["scored"]
    assert about["results"] == {"bell": 1.5, "siren": 1.5} and about["unit"] == "clips"
    assert "counted:" in (folder / "recipe.yaml").read_text()
    # Its keys can be given on the command line, and rotated folds are runs of it, too.
    # Left out: --weight 2 gives whole numbers as results, and then, once every fold is done, the page of all folds is
    # refused with status 2 (`Run.summary` counts results of type float only).
    more = ["--counted", "rain", "--weight", "2.0", "--unit", "points", "--rotate_folds"]
    run(["run", counting, *options(tiny, tmp_path / "again"), *more])
    for fold in range(1, 5):
        about = json.loads((tmp_path / "again/results/count/1234" / f"fold_{fold}" / "run.json").read_text())
        assert about["results"] == {"rain": 2.0 * 3} and about["unit"] == "points"


def test_report_asks_a_new_kind_for_its_page(tiny, counting, tmp_path, capsys):
    run(["run", counting, *options(tiny, tmp_path), "--unit", "points"])
    folder = tmp_path / "results" / "count" / "1234"
    (folder / "report.html").unlink()
    capsys.readouterr()
    run(["report", folder])
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").read_text() == "<p>bell 1.500, siren 1.500 points</p>"


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--weight", "heavy"], ["'weight' is 'heavy'", "expected float"]),
        (["--counted", "{bell: 1}"], ["'counted'", "bell", "list"]),
        (["--counted", "[1, 2]"], ["'counted'", "[1, 2]"]),
        (["--counted", "[bell, bell]"], ["counted names 'bell' twice"]),
        (["--wieght", "2"], ["--wieght", "--weight"]),
    ],
)
def test_a_new_kinds_keys_are_checked(tiny, counting, tmp_path, capsys, command, more, words):
    assert main([command, str(counting), *options(tiny, tmp_path), *more]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("key", ["weight", "seed", "clips", "train_folds", "output_folder", "batch_size"])
def test_keys_without_which_nothing_can_be_run(tiny, counting, tmp_path, capsys, command, key):
    """Those of the kind, and those of every run."""
    base = (RECIPES / "base.yaml").read_text()
    lines, kept, inside = (base + "counted: [bell]\nweight: 0.5\n").splitlines(), [], False
    for line in lines:
        inside = line.startswith(f"{key}:") or (inside and line.startswith(" "))
        kept += [] if inside else [line]
    counting.write_text("\n".join(kept) + "\n")
    given = options(tiny, tmp_path)
    given = given[2:] if key == "clips" else given
    given = [each for each in given if each not in ("--output_folder", str(tmp_path / "results"))]
    if key == "clips":
        counting.write_text("\n".join(line for line in kept if not line.startswith(("data_folder", "download"))))
    elif key != "output_folder":
        given += ["--output_folder", str(tmp_path / "results")]
    assert main([command, str(counting), *given]) == 2
    error = capsys.readouterr().err
    assert f"has no {key}" in error and error.count("\n") == 1, error
    assert not (tmp_path / "results").exists()


def test_without_its_line_a_recipe_is_refused(tiny, counting, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("audiointerp.runs.registry.KINDS", KINDS)
    assert main(["check", str(counting), *options(tiny, tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "unknown key 'counted'" in error and "unknown key 'weight'" in error


# Left out, for both fail: with the line at the end of KINDS, `kind_of({"counted": 1, "classifier": 1})` is the kind
# that trains a classifier, so that a new kind which needs a classifier is never run; and `kind_of({})` is the new
# kind, so that a recipe which only forgot its classifier is told "has no weight; every recipe that is run needs it".


@pytest.mark.parametrize("name", ["l2i", "nmf", "sanity", "classifier"])
def test_other_recipes_stay_what_they_are(tiny, counting, tmp_path, name):
    kinds = {"l2i": "interpreter", "nmf": "dictionary", "sanity": "sanity", "classifier": "classifier"}
    key = {"l2i": "interpreter", "nmf": "nmf", "sanity": "sanity", "classifier": "classifier"}[name]
    assert kind_of({key: 1, "classifier": 1}).name == kinds[name]
    needs = {"l2i": ["--classifier", "x", "--dictionary", "x"]}.get(name, [])
    assert main(["check", str(RECIPES / f"{name}.yaml"), *options(tiny, tmp_path), *needs]) == 0


# --- what every kind promises

KIND = pytest.mark.parametrize("kind", list(all_kinds()), ids=lambda kind: kind.name)


def test_kinds_are_told_apart_by_name_and_key():
    kinds = list(all_kinds())
    assert len(kinds) == len(KINDS) >= 8
    assert len({kind.name for kind in kinds}) == len({kind.key for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind_of({kind.key: 1}).name == kind.name


@KIND
def test_keys_have_types(kind: Kind):
    schema = {**KEYS, **kind.keys}
    assert kind.key in schema
    for key, of in kind.keys.items():
        assert key.isidentifier() and not key.startswith("__")
        # A type is what a value can be compared with: one that fits nothing, or a default itself, is none.
        assert not isinstance(of, (str, int, float, list, dict)) and of is not None, (key, of)
        assert fits(None, of) in (True, False)
    assert KEYS.keys() & kind.keys.keys() == set(), "a key of every recipe is declared twice"
    get_type_hints(type(kind))


@KIND
def test_defaults_and_required_keys_are_keys(kind: Kind):
    assert kind.defaults.keys() <= kind.keys.keys()
    assert set(kind.required) <= {*kind.keys, *KEYS}
    assert not set(kind.required) & {*kind.defaults, *ALWAYS}, "what has a default need not be given"
    for key, value in kind.defaults.items():
        assert fits(value, kind.keys[key]) or isinstance(value, Mapping), key


def test_kinds_that_share_a_key_agree_on_its_type():
    known: dict[str, tuple[str, object]] = {}
    for kind in all_kinds():
        for key, of in kind.keys.items():
            name, before = known.setdefault(key, (kind.name, of))
            assert before == of, f"{key} is {before} in {name}, {of} in {kind.name}"


def test_keys_of_every_recipe():
    assert DEFAULTS.keys() <= KEYS.keys() and set(ALWAYS) <= KEYS.keys()
    assert not set(ALWAYS) & DEFAULTS.keys()
    assert all(fits(value, KEYS[key]) for key, value in DEFAULTS.items())


@pytest.mark.parametrize("own", ["figures", "tables"])
def test_a_page_does_not_write_through_a_link_out_of_its_folder(tmp_path, capsys, own):
    run_folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run_folder.mkdir(), elsewhere.mkdir()
    (run_folder / "run.json").write_text('{"finished": true, "kind": "tcav"}')
    (run_folder / own).symlink_to(elsewhere)
    assert main(["report", str(run_folder)]) == 2
    error = capsys.readouterr().err
    assert f"'{own}' leads out of the folder through a symbolic link" in error and str(run_folder) in error, error
    assert error.count("\n") == 1 and not list(elsewhere.iterdir())
