"""The Python code of README and guides runs as it stands, as a reader would type it; links lead somewhere."""

import json
import re
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch
from torch import nn

import audiointerp
from audiointerp.__main__ import main
from audiointerp.runs import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def blocks(page):
    """(first line, code) of every Python block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    return [(text[: each.start()].count("\n") + 2, textwrap.dedent(each.group(1))) for each in found]


def run(page, scope):
    """Runs a page's blocks in one scope; an error names the page's own line."""
    for line, code in blocks(page):
        exec(compile("\n" * (line - 1) + code, page, "exec"), scope)
    return scope


class Net(nn.Module):
    """A reader's own network: four convolutions on a spectrogram."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*(nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(4)))

    def forward(self, waveform):
        maps = self.features(
            torch.stft(waveform, 512, window=torch.hann_window(512), return_complex=True).abs()[:, None]
        )
        return maps.mean((1, 2, 3))[:, None] * torch.tensor([[1.0, -1.0]])


@pytest.fixture
def no_download(monkeypatch, tmp_path):
    """Instead of AudioSet's checkpoint, a small one with random weights and as many labels."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ASTConfig(**shape, max_length=64, num_labels=527)
    transformers.ASTForAudioClassification(config).save_pretrained(tmp_path / "checkpoint")
    transformers.ASTFeatureExtractor(max_length=64).save_pretrained(tmp_path / "checkpoint")
    for name in ("AutoModelForAudioClassification", "AutoFeatureExtractor"):
        load = getattr(transformers, name).from_pretrained

        def instead(name, load=load, **options):
            assert name == "MIT/ast-finetuned-audioset-10-10-0.4593"
            return load(tmp_path / "checkpoint", **options)

        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", instead)


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # transformers without torchaudio
def test_own_classifier(no_download, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    time = torch.arange(24000) / 24000
    audiointerp.write("my.wav", 0.2 * torch.sin(2000 * time), 24000)
    scope = run("own_classifier.md", {"module": Net()})
    assert len(blocks("own_classifier.md")) == 6
    for folder in ("GradCAM", "IntegratedGradients", "LIME", "Occlusion"):
        assert audiointerp.read(f"out/{folder}/interpretation.wav").shape == (1, 22050)
    for folder in ("GradCAM", "IntegratedGradients", "LIME", "RISE"):
        assert audiointerp.read(f"out/ast/{folder}/residual.wav").shape == (1, 16000)
    passes = dict(line.split() for line in capsys.readouterr().out.splitlines()[:4])
    assert passes["GradCAM"] == "3" and int(passes["IntegratedGradients"]) >= 150
    assert scope["tagger"].multilabel and scope["early"].shape == scope["late"].shape == (1, 513, 87)
    assert scope["together"].target.shape == (1, 527) and scope["first"].target.sum() == 1


def readme_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_python_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    audiointerp.write("my.wav", torch.randn(24000).mul(0.1), 24000)
    (example,) = readme_blocks("README.md", "python")
    exec(compile(example, "README.md", "exec"), {})
    label, _ = capsys.readouterr().out.splitlines()[0].split(" ")
    assert label in audiointerp.load("esc10-piq").classifier.labels
    assert audiointerp.read("out/interpretation.wav").shape == audiointerp.read("out/residual.wav").shape == (1, 16000)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


def test_extending(tmp_path, monkeypatch):
    """The interpreter and the kind of run that the page writes work as it says, from the command line and a recipe."""
    scope = run("extending.md", {"__name__": "extended"})
    explained = scope["KeepAll"](audiointerp.load("esc10-piq").classifier).interpret(torch.randn(1, 8000))
    assert (explained.mask == 1).all() and float(explained.residual.abs().max()) < 1e-4
    module = types.ModuleType("extended")
    module.Greeting = scope["Greeting"]
    monkeypatch.setitem(sys.modules, "extended", module)
    monkeypatch.setattr("audiointerp.runs.registry.KINDS", [*registry.KINDS, "extended:Greeting"])
    monkeypatch.chdir(tmp_path)
    audiointerp.write("a.wav", torch.randn(1600), 16000)
    (tmp_path / "clips.csv").write_text("path,label,fold\na.wav,dog,1\n")
    lines = ["seed: 1", "train_folds: [1]", "output_folder: out", "batch_size: 1", "greeting: true"]
    lines += ["clips: !name:audiointerp.datasets.read_table", "    csv_path: clips.csv"]
    (tmp_path / "mine.yaml").write_text("\n".join(lines) + "\n")
    assert main(["run", "mine.yaml"]) == 0 and main(["report", "out/mine/1"]) == 0
    assert json.loads((tmp_path / "out/mine/1/run.json").read_text())["results"] == {"clips": 1}
