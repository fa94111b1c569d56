"""A published network of the raw waveform as a user brings it: a module of their own, named on the command line.

Micro-ACDNet (Mohaimenuzzaman et al., 2021), https://arxiv.org/abs/2103.03483: 20 kHz, ESC-50's 50 classes, ten crops of
a clip, whose probabilities are averaged. Crops are rows of a batch within the module's forward.
"""

import csv
import sys

import pandas as pd
import pytest
import torch

import audiointerp
from audiointerp.__main__ import main
from audiointerp.interpreters import GradCAM, IntegratedGradients

MODULE = '''
import csv
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from audiointerp import External

FOLDER = Path({folder!r})
CROP, CROPS = 30225, 10


def convolution(before, after, kernel, stride=1, padding=0):
    layers = nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    return list(layers)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        first, second = convolution(1, 7, (1, 9), (1, 2)), convolution(7, 20, (1, 5), (1, 2))
        self.sfeb = nn.Sequential(*first, *second, nn.MaxPool2d((1, 50)))
        pools = {{0: 2, 2: 2, 4: 2, 6: 2, 8: (1, 2)}}
        layers = []
        for number, (before, after) in enumerate(pairwise([1, 10, 14, 22, 31, 35, 41, 51, 67, 69])):
            layers += convolution(before, after, 3, padding=1)
            layers += [nn.MaxPool2d(pools[number])] if number in pools else []
        layers += [nn.Dropout(0.2), *convolution(69, 48, 1), nn.AvgPool2d((1, 4)), nn.Flatten(), nn.Linear(48, 50)]
        self.tfeb = nn.Sequential(*layers)

    def crop_logits(self, crops):
        return self.tfeb(self.sfeb(crops[:, None, None]).transpose(1, 2))

    def forward(self, waveform):
        padded = functional.pad(waveform, (CROP // 2, CROP // 2))
        starts = torch.linspace(0, padded.shape[1] - CROP, CROPS).round().long().tolist()
        crops = torch.stack([padded[:, start : start + CROP] for start in starts], 1)
        probabilities = self.crop_logits(crops.flatten(0, 1)).softmax(-1).unflatten(0, (-1, CROPS)).mean(1)
        return probabilities.clamp(min=1e-20).log()


def labels():
    with open(FOLDER / "labels.csv", encoding="utf-8") as file:
        return [row["name"] for row in csv.DictReader(file)]


def unfold(maps):
    """Crops back from the batch to the time axis."""
    return maps.unflatten(0, (-1, CROPS)).permute(0, 2, 3, 1, 4).flatten(3)


def network():
    made = Network()
    made.load_state_dict(load_file(FOLDER / "micro_acdnet_fold4.safetensors"))
    return made.eval()


def make():
    return External(network(), labels(), 20000)


def with_layers():
    return External(network(), labels(), 20000, layers=["tfeb.23"], reshape=unfold)


def forgotten():
    return External(network(), labels(), 20000, layers=["tfeb.23"])


def too_few():
    return External(network(), labels()[:49], 20000)
'''


@pytest.fixture
def acdnet(models, tmp_path, monkeypatch):
    """The folder of the network; its module lies in the working folder as micro.py."""
    folder = models / "micro_acdnet"
    assert (folder / "micro_acdnet_fold4.safetensors").is_file(), f"{folder}: no weights"
    (tmp_path / "micro.py").write_text(MODULE.format(folder=str(folder)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "micro", raising=False)
    return folder


def expected(folder):
    found = {}
    with open(folder / "expected_logits.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["clip"], []).append(float(row["logit"]))
    return found


def test_the_module_is_the_published_network(acdnet):
    network = audiointerp.load("python:micro:make").module
    logits = expected(acdnet)
    assert set(logits) == {"dog", "rain", "helicopter"}
    for clip, wanted in logits.items():
        with torch.no_grad():
            found = network.crop_logits(audiointerp.read(acdnet / f"{clip}.wav", 20000))[0]
        torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-3, rtol=0)


def test_it_is_explained_from_the_command_line(acdnet, capsys):
    files = [str(acdnet / f"{clip}.wav") for clip in ("dog", "rain")]
    command = ["interpret", "python:micro:make", *files, "--no_figures", "-o"]
    assert main([*command, "out"]) == 0
    printed = capsys.readouterr()
    assert "explained by lime_nmf, 64 passes" in printed.err and "2 of 2 explained" in printed.out
    scores = pd.read_csv("out/scores.csv")
    assert scores["predicted"].tolist() == ["dog", "rain"] and scores["target"].tolist() == ["dog", "rain"]
    assert main([*command, "out2", "--method", "saliency,occlusion", "--target", "dog+rain"]) == 0
    assert set(pd.read_csv("out2/scores.csv")["target"]) == {"dog;rain"}
    wav = audiointerp.read(acdnet / "dog.wav", 20000)
    for path in pd.read_csv("out/manifest.csv")["path"][:2]:
        assert audiointerp.read(f"out/{path}").shape == wav.shape


def test_folded_crops_are_put_back_or_refused(acdnet, capsys):
    assert main(["layers", "python:micro:with_layers"]) == 0
    assert any(line.split()[0] == "tfeb.23" for line in capsys.readouterr().out.splitlines()[1:])
    assert main(["layers", "python:micro:forgotten"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("audiointerp: ")]
    assert "does forward fold crops into the batch?" in line
    assert main(["layers", "python:micro:too_few"]) == 2
    assert "returned logits of shape (2, 50); expected (batch, 49)" in capsys.readouterr().err
    classifier = audiointerp.load("python:micro:with_layers")
    waveform = torch.cat([audiointerp.read(acdnet / f"{clip}.wav", 20000) for clip in ("dog", "rain")])
    for method in (GradCAM(classifier), IntegratedGradients(classifier, steps=4)):
        made = method.interpret(waveform)
        assert [classifier.labels[index] for index in made.prediction.predicted] == ["dog", "rain"]
        torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-5, rtol=0)
        assert made.mask.flatten(1).amax(1).min() > 0
