"""A user's own concept from the command line: a tone that the classifier reads, and sounds that say nothing."""

import cell_maps
import pandas as pd
import pytest
import torch

from audiointerp.__main__ import main
from audiointerp.sound import files as audio


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Folders: quiet low tones of the class, middle tones, high tones and noises that have none of them."""
    folder = tmp_path_factory.mktemp("sounds")
    for label in cell_maps.LABELS:
        for number in range(8):
            generator = torch.Generator().manual_seed(number)
            noise = 0.1 * torch.randn(4800, generator=generator)
            audio.write(folder / label / f"{number}.wav", cell_maps.tone(label, 0.3, number) + noise, 16000)
    for name, count, first in (("noise", 20, 100), ("other", 8, 200)):
        for number in range(count):
            generator = torch.Generator().manual_seed(first + number)
            audio.write(folder / name / f"{number}.wav", 0.2 * torch.randn(4800, generator=generator), 16000)
    return folder


def ask(sounds, out, *more):
    start = ["concept", "python:cell_maps:make", str(sounds / "low"), "--lacks", str(sounds / "noise"), "-o", str(out)]
    return main([*start, "--device", "cpu", *more])


def test_a_planted_concept_speaks_for_its_class(sounds, tmp_path, capsys):
    assert ask(sounds, tmp_path / "a", "--has", str(sounds / "low"), "--target", "low", "--name", "a low tone") == 0
    printed = capsys.readouterr().out
    assert "at feature map -1, a low tone speaks for low (TCAV score 1.00" in printed
    row = pd.read_csv(tmp_path / "a" / "concept.csv").iloc[0]
    assert row["p_holm"] < 1e-3 and row["score"] == 1 and row["accuracy"] > 0.9 and row["effect"] > 0
    assert len(pd.read_csv(tmp_path / "a" / "draws.csv")) == 30
    assert "speaks for low" in (tmp_path / "a" / "concept.md").read_text()
    assert "At feature map -1, a low tone speaks for low" in (tmp_path / "a" / "report.html").read_text()
    # Another class's logit does not rise along it.
    assert ask(sounds, tmp_path / "b", "--has", str(sounds / "low"), "--target", "high") == 0
    assert "low speaks for high" not in capsys.readouterr().out


def test_random_sounds_say_nothing(sounds, tmp_path, capsys):
    assert ask(sounds, tmp_path / "a", "--has", str(sounds / "other"), "--target", "low", "--layer", "-1") == 0
    printed = capsys.readouterr().out
    assert "speaks for" not in printed.replace("does not speak for", "") and "speaks against" not in printed


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "low"], "concept needs --has"),
        (["--has", "low"], "concept needs --target"),
        (["--has", "low", "--target", "lo"], "did you mean 'low'?"),
        (["--has", "nothing", "--target", "low"], "no such file or folder"),
        (["--has", "low/0.wav", "--target", "low"], "1 sounds have the concept (--has) and 20 lack it"),
        (["--has", "low", "--target", "low", "--layer", "3"], "layers has 3; this classifier has feature maps 0 to 0"),
        (["--has", "low", "--target", "low", "--layer", "-1", "-1"], "give each once"),
        (["--has", "low", "--target", "low", "--draws", "1"], "at least 2 draws"),
        (["--has", "low", "--target", "top3"], "name it"),
    ],
)
def test_bad_input_is_one_line(sounds, tmp_path, capsys, more, words, monkeypatch):
    monkeypatch.chdir(sounds)
    assert ask(sounds, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_finished_test_is_not_harmed_by_another(sounds, tmp_path, capsys):
    """Neither by settings that are refused, nor by others; the same command goes on after a kill before its page."""
    out, given = tmp_path / "a", ("--has", str(sounds / "low"), "--target", "low")
    assert ask(sounds, out, *given) == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.*")}
    for more in (("--draws", "1"), ("--layer", "9"), ("--draws", "3"), ("--name", "caf\udce9")):
        assert ask(sounds, out, *given, "--force", *more) == 2
        assert {path.name: path.read_bytes() for path in out.glob("*.*")} == before
    (out / "report.html").unlink()
    assert ask(sounds, out, *given, "--force") == 0 and (out / "report.html").is_file()


def test_a_sound_with_and_without_the_concept_is_refused(sounds, tmp_path, capsys):
    assert ask(sounds, tmp_path / "a", "--has", str(sounds / "noise" / "3.wav"), "--target", "low") == 2
    assert "3.wav: is in --has and in --lacks" in capsys.readouterr().err and not (tmp_path / "a").exists()
