"""The code that README and guides show runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

import audiointerp

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_python_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    audiointerp.write("my.wav", torch.randn(24000).mul(0.1), 24000)
    (example,) = blocks("README.md", "python")
    exec(compile(example, "README.md", "exec"), {})
    label, _ = capsys.readouterr().out.splitlines()[0].split(" ")
    assert label in audiointerp.load("esc10-piq").classifier.labels
    assert audiointerp.read("out/interpretation.wav").shape == audiointerp.read("out/residual.wav").shape == (1, 16000)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link
