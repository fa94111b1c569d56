"""Classifiers by name, for the command line, recipes and Python; code runs only where the user names it."""

import json

import pytest
import torch
from torch import nn

import audiointerp
from audiointerp.bundles import bundle
from audiointerp.bundles.bundle import BundleError
from audiointerp.classifiers import EfficientAT, External, named
from audiointerp.interpreters import PIQ

MODULE = """
import torch
from audiointerp import External

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.maps = torch.nn.Conv2d(1, 4, 3, stride=16, padding=1)

    def forward(self, waveform):
        spectrum = torch.stft(waveform, 512, window=torch.hann_window(512), return_complex=True).abs()
        return {returned}

def make():
    return {made}

def bare():
    return Net()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a module of the user's own into the working folder; its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, returned="self.maps(spectrum[:, None]).mean((2, 3))[:, :2]", made=None):
        made = made or "External(Net(), ['one', 'two'], 16000, layers=['maps'])"
        (tmp_path / f"{name}.py").write_text(MODULE.format(returned=returned, made=made))
        return f"python:{name}:make"

    return write


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    torch.save(EfficientAT(0.1).module.state_dict(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def test_names_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:folder").mkdir()
    assert named.is_named("efficientat:x") and named.is_named("python:a.b:c")
    for path in ("esc10-piq", "results/piq/1234", "C:\\runs\\piq", "odd:folder", "a/b:c", "x:"):
        assert not named.is_named(path), path


def test_load_takes_a_name_and_keeps_it(weights, mine):
    tagger = audiointerp.load(f"efficientat:{weights}")
    assert tagger.source == f"efficientat:{weights.resolve()}" and not tagger.training
    own = audiointerp.load(mine("good"))
    assert own.labels == ("one", "two") and own.source == "python:good:make"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("efficientnet:mn04", r"no kind of classifier 'efficientnet' \(did you mean 'efficientat'\?\)"),
        ("python:nowhere:make", "no module 'nowhere'"),
        ("python:good:build", "module good has no 'build'"),
        ("python:good", "name a function too"),
        ("python:good:bare", r"gives a Net, not a classifier; wrap it: External"),
    ],
)
def test_what_no_name_stands_for_is_one_line(mine, name, says):
    mine("good")
    with pytest.raises(ValueError, match=says) as caught:
        audiointerp.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("self.maps(spectrum[:, None]).mean((2, 3))[:, :2].softmax(1)", "returns probabilities"),
        ("self.maps(spectrum[:, None]).mean((2, 3))[:, :2] / 0", "NaN or infinite logits"),
        ("self.maps(spectrum[:, None]).mean((2, 3))", r"logits of shape \(2, 4\); expected \(batch, 2\)"),
        (
            "self.maps(spectrum[:, None].repeat(10, 1, 1, 1)).mean((2, 3)).view(10, -1, 4).mean(0)[:, :2]",
            "another batch size than the input's 2; does forward fold crops",
        ),
    ],
)
def test_a_module_that_cannot_be_explained_is_refused_when_it_is_named(mine, returned, says):
    with pytest.raises(ValueError, match=says):
        audiointerp.load(mine(f"bad{abs(hash(returned))}", returned))


def test_a_bundle_finds_the_classifier_that_it_names(weights, tmp_path):
    tagger = audiointerp.load(f"efficientat:{weights}")
    torch.manual_seed(1)
    saved = bundle.save(PIQ(tagger, channels=4, codes=527), tmp_path / "piq")
    assert json.loads((saved / "config.json").read_text())["source"] == tagger.source
    assert bundle.needs_classifier(saved)
    again = audiointerp.load(saved)
    assert isinstance(again.classifier, EfficientAT)
    waveform = 0.1 * torch.randn(1, 32000)
    assert torch.equal(again.interpret(waveform).mask, audiointerp.load(saved, tagger).interpret(waveform).mask)
    weights.unlink()
    with pytest.raises(BundleError, match=r"is not in the bundle: .*tiny.pt: no such file"):
        audiointerp.load(saved)


def test_a_strangers_bundle_cannot_name_code(mine, tmp_path):
    own = audiointerp.load(mine("spied"))
    saved = bundle.save(PIQ(own, channels=4, codes=8), tmp_path / "piq")
    (tmp_path / "spied.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BundleError, match=r"'python:spied:make' runs code; name it yourself"):
        audiointerp.load(saved)
    assert audiointerp.load(saved, own).classifier is own


def test_packages_add_kinds(monkeypatch):
    class Point:
        name = "mine"

        @staticmethod
        def load():
            return lambda text: External(nn.Sequential(nn.Linear(8, 2)), [f"{text}1", f"{text}2"], 8000)

    monkeypatch.setattr(named, "entry_points", lambda group: [Point()] if group == named.GROUP else [])
    assert audiointerp.load("mine:x").labels == ("x1", "x2")
