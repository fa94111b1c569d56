"""Bundles whose sizes are hostile: one line, before the memory of the described model is taken."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from cases import piq
from memory import grown

from audiointerp.bundles import bundle
from audiointerp.bundles.bundle import BundleError
from audiointerp.classifiers import InstrumentClassifier, VGGSound
from audiointerp.interpreters import L2I
from audiointerp.interpreters.rde.inpainter import Inpainter
from audiointerp.sound.nmf import NMF

VALUES = [10**9, 10**400, -1, -(10**9), 2.5, float("nan"), "8", "", True, [], {}, [10**9], ["a"]]
LIST_VALUES = [[10**9], [-(10**9)], [2.5], ["a"], [True], [0] * 5000, 3, "text", {}]
MOST = 300  # MiB that refusing may take; a model of the sizes below would take gigabytes


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sizes")
    torch.manual_seed(0)
    classifier = VGGSound(("a", "b", "c"), channels=4).eval()
    models = {
        "classifier": classifier,
        "piq": piq(classifier, codes=20),
        "l2i": L2I(classifier, n_components=8, width=8, layers=[-1]),
        "instrument": InstrumentClassifier(("a", "b"), channels=4),
        "nmf": NMF(10),
        "inpainter": Inpainter(width=8, blocks=1, donors=4, bands=64),
    }
    for name, model in models.items():
        bundle.save(model, folder / name)
        bundle.load(folder / name)
    return {name: folder / name for name in models}


def places(config: dict, path: tuple = ()) -> list[tuple]:
    """Keys of every size: whole numbers and lists of them, in the arguments and front end of each model."""
    found = []
    for key, value in config.items():
        if isinstance(value, dict) and key in ("arguments", "classifier", "spectrogram"):
            found += places(value, (*path, key))
        elif path and path[-1] in ("arguments", "spectrogram") and key != "seed":
            numbers = value if isinstance(value, list) else [value]
            if numbers and all(isinstance(each, int) and not isinstance(each, bool) for each in numbers):
                found.append((*path, key))
    return found


def refused(folder: Path, config: dict, words: str = "") -> str:
    (folder / "config.json").write_text(json.dumps(config))
    with grown() as memory, pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert memory.mebibytes < MOST
    message = str(caught.value)
    assert message.startswith(f"{folder}: ") and "\n" not in message and words in message, message
    return message


@pytest.mark.parametrize("name", ["classifier", "piq", "l2i", "instrument", "nmf", "inpainter"])
def test_hostile_sizes(name, bundles, tmp_path):
    folder = shutil.copytree(bundles[name], tmp_path / "bundle")
    config = json.loads((folder / "config.json").read_text())
    keys = places(config)
    assert keys
    for *path, key in keys:
        changed = copy.deepcopy(config)
        inner = changed
        for each in path:
            inner = inner[each]
        for value in LIST_VALUES if isinstance(inner[key], list) else VALUES:
            inner[key] = value
            refused(folder, changed)


@pytest.mark.parametrize("value", [1025, 10**5, 10**7 - 1])
def test_sizes_that_are_possible_but_not_those_of_the_weights(value, bundles, tmp_path):
    folder = shutil.copytree(bundles["piq"], tmp_path / "bundle")
    config = json.loads((folder / "config.json").read_text())
    for inner, key in ((config["arguments"], "codes"), (config["classifier"]["arguments"], "channels")):
        before, inner[key] = inner[key], value
        assert "in model.safetensors" in refused(folder, config, "by config.json")
        inner[key] = before


def test_more_classes_than_the_weights_have(bundles, tmp_path):
    folder = shutil.copytree(bundles["classifier"], tmp_path / "bundle")
    config = json.loads((folder / "config.json").read_text())
    where = config if "labels" in config else config["arguments"]
    labels = [f"class {number}" for number in range(100_000)]
    where["labels"] = labels
    config["arguments"] |= {"labels": labels} if "labels" in config["arguments"] else {}
    refused(folder, config)
