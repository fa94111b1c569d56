"""Fixtures shared by all tests."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

ESC10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "esc10"
NSYNTH_GM = ESC10.with_name("nsynth_gm")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Decoded clips go to a temporary folder, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIOINTERP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def esc10() -> Path:
    """Folder of real recordings: ESC-10's folds 1 to 4 as Ogg files, laid out as ESC-50.

    Elsewhere than beside the repository: name it in AUDIOINTERP_ESC10.
    """
    folder = Path(os.environ.get("AUDIOINTERP_ESC10") or ESC10)
    if not (folder / "meta" / "esc50.csv").is_file():
        reason = f"no ESC-10 at {folder}; set AUDIOINTERP_ESC10 to a folder with meta/esc50.csv and audio/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def nsynth_gm() -> Path:
    """Folder of 1,156 real notes in NSynth's layout. Elsewhere than beside the repository: see the variable."""
    folder = Path(os.environ.get("AUDIOINTERP_NSYNTH_GM") or NSYNTH_GM)
    if not (folder / "nsynth-train" / "examples.json").is_file():
        reason = f"no notes at {folder}; set AUDIOINTERP_NSYNTH_GM to a folder with nsynth-train/ and nsynth-test/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder of published classifiers with their weights. Elsewhere than beside the repository: see the variable."""
    folder = Path(os.environ.get("AUDIOINTERP_MODELS") or ESC10.parents[1] / "models")
    if not (folder / "efficientat_mn04" / "mn04_as.safetensors").is_file():
        reason = f"no published classifiers at {folder}; set AUDIOINTERP_MODELS to a folder with efficientat_mn04/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "esc50"


@dataclass(frozen=True)
class Tiny:
    """A tiny data set, and a classifier and a PIQ trained on it by the command line in seconds.

    Attributes:
        data: ESC-50's layout, ten classes, five folds of one clip of 1 s a class.
        results: where both runs lie.
        options: what every recipe needs on the command line to be tiny, too.
    """

    data: Path
    results: Path
    options: tuple[str, ...]

    @property
    def classifier(self) -> Path:
        return self.results / "classifier" / "1234"

    @property
    def piq(self) -> Path:
        return self.results / "piq_stems" / "1234"

    def recipe(self, name: str, output: Path, *more: str) -> list[str]:
        """`run` of a recipe of ESC-50 into another folder."""
        return ["run", str(RECIPES / f"{name}.yaml"), *self.options, "--output_folder", str(output), *more]

    def interpreter(self, *more: str) -> list[str]:
        """Options that make PIQ's recipes tiny."""
        return ["--classifier", str(self.classifier), "--interpreter.codes", "40", *more]

    def commands(self) -> list[list[str]]:
        """What made the two runs; given again, they find everything done."""
        few = ("--evaluation.clips", "2", "--evaluation.mixtures", "2", "--evaluation.figures", "false")
        return [
            self.recipe("classifier", self.results),
            self.recipe("piq_stems", self.results, *self.interpreter(*few)),
        ]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, _own_cache) -> Tiny:
    """See `Tiny`; tests that change a run work on a copy."""
    from audiointerp.__main__ import main
    from audiointerp.datasets import make_synthetic

    root = tmp_path_factory.mktemp("tiny")
    data = make_synthetic(root / "data", clips_per_class=5, seconds=1.0)
    options = f"--data_folder {data} --channels 4 --epochs 1 --seconds 1.0 --device cpu".split()
    made = Tiny(data, root / "results", tuple(options))
    for command in made.commands():
        assert main(command) == 0
    return made


def pytest_collection_modifyitems(items) -> None:
    """The demo first: it takes longest, and meanwhile the other process does the rest."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")
