"""Bundles: a round trip changes nothing, and whatever else a folder holds is one clear line, never code."""

import hashlib
import json
import os
import sys

import pytest
import torch
from cases import LABELS, TinyConv, external, piq, vggsound
from safetensors.torch import load_file, save_file

from audiointerp.bundles import bundle
from audiointerp.bundles.bundle import BundleError
from audiointerp.classifiers import External, VGGSound
from audiointerp.interpreters import PIQ

WAVEFORM = torch.randn(1, 3200, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(tmp_path):
    """A bundle of PIQ with its classifier."""
    return bundle.save(piq(vggsound()), tmp_path / "mine")


def refused(path, **arguments):
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        bundle.load(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- round trips


@pytest.mark.parametrize("multilabel", [False, True])
def test_classifier(tmp_path, multilabel):
    classifier = vggsound(multilabel).train()
    folder = bundle.save(classifier, tmp_path / "classifier", {"accuracy": 0.5}, "# Card\n")
    assert sorted(each.name for each in folder.iterdir()) == sorted(bundle.FILES)
    assert json.loads((folder / "metrics.json").read_text()) == {"accuracy": 0.5}
    assert (folder / "README.md").read_text() == "# Card\n"
    config = json.loads((folder / "config.json").read_text())
    assert config["type"] == "VGGSound" and config["labels"] == list(LABELS) and config["resampler"] == "soxr_hq"
    assert config["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    again = bundle.load(folder)
    assert not any(module.training for module in again.modules())
    assert (again.labels, again.multilabel, again.config) == (LABELS, multilabel, classifier.config)
    assert again.spectrogram.config == classifier.spectrogram.config
    assert torch.equal(again(WAVEFORM).logits, classifier.eval()(WAVEFORM).logits)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"domain": "magnitude", "shared": 2, "normalize": True},
        {"decoder": "light", "detail": True, "channels": 6},
        {"binary": True, "fill": True, "layers": [1, -1], "temperature": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_interpreter_with_its_classifier(tmp_path, arguments):
    interpreter = piq(vggsound(), **arguments)
    again = bundle.load(bundle.save(interpreter, tmp_path / "piq"))
    made, remade = interpreter.interpret(WAVEFORM), again.interpret(WAVEFORM)
    assert torch.equal(made.waveform, remade.waveform) and torch.equal(made.mask, remade.mask)
    assert made.domain == remade.domain and torch.equal(made.details["codes"], remade.details["codes"])
    assert not again.training and not again.classifier.training


def test_interpreter_of_an_external_classifier_given_again(tmp_path):
    classifier = external()
    interpreter = piq(classifier)
    folder = bundle.save(interpreter, tmp_path / "piq")
    assert not any(name.startswith("classifier.") for name in load_file(folder / "model.safetensors"))
    again = bundle.load(folder, classifier=classifier)
    assert again.classifier is classifier
    assert torch.equal(again.interpret(WAVEFORM).mask, interpreter.interpret(WAVEFORM).mask)
    assert "load(path, classifier=...)" in refused(folder)


@pytest.mark.parametrize(
    "other",
    [
        lambda: External(TinyConv(4), ["bell", "cat", "dog", "wind"], 16000, layers=["maps"]),
        lambda: External(TinyConv(4), LABELS[::-1], 16000, layers=["maps"]),
        lambda: External(TinyConv(3), LABELS[:3], 16000, layers=["maps"]),
        lambda: External(TinyConv(4), LABELS, 22050, layers=["maps"]),
        lambda: External(TinyConv(4, channels=5), LABELS, 16000, layers=["maps"]),
        lambda: External(TinyConv(4), LABELS, 16000),
    ],
    ids=["label", "order", "count", "rate", "channels", "layers"],
)
def test_another_external_classifier_is_refused(tmp_path, other):
    folder = bundle.save(piq(external()), tmp_path / "piq")
    assert "but the interpreter expects" in refused(folder, classifier=other())


def test_a_second_classifier_is_refused(saved):
    assert "holds its own classifier" in refused(saved, classifier=vggsound())


def test_saving_again_replaces_a_bundle_and_nothing_else(tmp_path, saved):
    bundle.save(vggsound(), saved)
    assert isinstance(bundle.load(saved), VGGSound)
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"not overwritten, it holds .*notes\.txt"):
        bundle.save(vggsound(), saved)
    assert (saved / "notes.txt").read_text() == "mine" and isinstance(bundle.load(saved), VGGSound)


def test_a_runs_best_is_found(tmp_path, saved):
    run = tmp_path / "run"
    run.mkdir()
    saved.rename(run / "best")
    assert isinstance(bundle.load(run), PIQ)


# --- damage


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte(saved, place):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert "SHA-256 differs" in refused(saved)


def test_a_truncated_file(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "SHA-256 differs" in refused(saved)


def test_missing_files(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    assert "model.safetensors: missing" in refused(saved)
    (saved / "config.json").unlink()
    assert "holds no bundle (config.json)" in refused(saved)
    assert "does not exist" in refused(tmp_path / "nowhere")


def test_a_folder_in_place_of_the_weights(saved):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors").mkdir()
    assert "missing" in refused(saved)


def test_weights_that_are_no_safetensors(saved):
    (saved / "model.safetensors").write_bytes(b"\xff" * 64)
    change(saved, sha256=hashlib.sha256(b"\xff" * 64).hexdigest())
    assert "not a safetensors file" in refused(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b"!!python/object"])
def test_config_that_is_not_json(saved, content):
    (saved / "config.json").write_bytes(content)
    assert "config.json" in refused(saved)


@pytest.mark.parametrize("value", [0, 2, "1", None, [1]])
def test_other_formats(saved, value):
    change(saved, format=value)
    assert "format is not 1" in refused(saved)


@pytest.mark.parametrize("key", ["type", "arguments", "classifier"])
def test_config_without_a_key(saved, key):
    config = json.loads((saved / "config.json").read_text())
    del config[key]
    (saved / "config.json").write_text(json.dumps(config))
    assert f"lacks '{key}'" in refused(saved)


@pytest.mark.parametrize("drop", ["model.codebook.weight", "classifier."])
def test_weights_that_lack_a_part(saved, drop):
    path = saved / "model.safetensors"
    save_file({name: each for name, each in load_file(path).items() if not name.startswith(drop)}, path)
    change(saved, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "do not fit" in refused(saved)


# --- hostility


@pytest.fixture
def alarm(monkeypatch):
    """Fails when anything that a hostile bundle might be after is run."""

    def ring(*_, **__):
        raise AssertionError("a bundle ran something")

    for module, names in {os: ("system", "popen", "execv", "_exit"), sys: ("exit",)}.items():
        for name in names:
            monkeypatch.setattr(module, name, ring)
    monkeypatch.setattr("builtins.eval", ring)
    monkeypatch.setattr("builtins.exec", ring)


HOSTILE = [
    "os.system", "frozen", "Interpreter", "MaskInterpreter", "Classifier", "STFT", "External.__init__", "__class__",
    "../PIQ", "/etc/passwd", "audiointerp.interpreters.PIQ", "piq", "", None, 7, ["PIQ"], {"PIQ": 1},
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_hostile_types(saved, alarm, name):
    change(saved, type=name)
    refused(saved)
    config = json.loads((saved / "config.json").read_text())
    change(saved, type="PIQ", classifier=config["classifier"] | {"type": name})
    refused(saved)


HOSTILE_ARGUMENTS = [
    {"target_mask": "os.system"}, {"__class__": "os.system"}, {"classifier": "x"}, {"unknown": 1}, {"codes": 0},
    {"codes": -4}, {"codes": 1}, {"codes": "1024"}, {"codes": 10**30}, {"codes": 10**15}, {"codes": 1e3},
    {"channels": -1}, {"channels": [4]}, {"shared": 10**9}, {"layers": [99]}, {"layers": "0"}, {"layers": []},
    {"codes": 32}, {"decoder": "light"}, {"channels": {"__reduce__": "os.system"}},
]  # fmt: skip


@pytest.mark.parametrize("arguments", HOSTILE_ARGUMENTS, ids=repr)
def test_hostile_arguments(saved, alarm, arguments):
    config = json.loads((saved / "config.json").read_text())
    change(saved, arguments=config["arguments"] | arguments)
    assert "do not fit" in refused(saved)


@pytest.mark.parametrize("arguments", ["os.system", ["os.system"], None, 3], ids=repr)
def test_arguments_of_another_kind(saved, alarm, arguments):
    change(saved, arguments=arguments)
    assert "do not fit" in refused(saved)


HOSTILE_CLASSIFIERS = [
    {"arguments": {"labels": 5}}, {"arguments": {"labels": []}}, {"arguments": {"labels": LABELS, "dropout": 7}},
    {"arguments": {"labels": LABELS, "channels": "4"}}, {"arguments": {}}, {"spectrogram": {"n_fft": 0}},
    {"spectrogram": {"hop_length": 0}}, {"spectrogram": {"hop_length": 10**9}}, {"spectrogram": None},
    {"spectrogram": {"window": "os.system"}}, {"type": "Supervised"}, {"type": "PIQ"}, {"type": "External"},
]  # fmt: skip


@pytest.mark.parametrize("changes", HOSTILE_CLASSIFIERS, ids=repr)
def test_hostile_classifiers(saved, alarm, changes):
    config = json.loads((saved / "config.json").read_text())
    change(saved, classifier=config["classifier"] | changes)
    assert "do not fit" in refused(saved)


def test_links_lead_to_nothing_but_the_same_bytes(saved, tmp_path):
    path, elsewhere = saved / "model.safetensors", tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)  # as the cache of a model hub lays files out
    assert isinstance(bundle.load(saved), PIQ)
    path.unlink()
    path.symlink_to("/etc/hostname")
    refused(saved)
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    assert "missing" in refused(saved)


@pytest.mark.parametrize("name", ["..", ".", "../interpreters", "bundles", "__init__.py"])
def test_names_are_no_paths_into_the_package(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refused(name)
