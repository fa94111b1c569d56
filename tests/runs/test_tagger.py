"""The recipes of recipes/tagger on a user's own classifier of 527 labels, in small, and recordings of any kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny_runs import log_of, run

from audiointerp.__main__ import main
from audiointerp.datasets import SYNTHETIC_CLASSES, make_synthetic

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "tagger"
MODULE = """
from pathlib import Path

import torch
import audiointerp
from audiointerp import External


class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.maps = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, stride=8, padding=1), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, classes)

    def forward(self, waveform):
        spectrum = torch.stft(waveform, 512, window=torch.hann_window(512), return_complex=True).abs()
        return self.head(self.maps(spectrum.log1p()[:, None]).mean((2, 3)))


def tagger():
    labels = (Path(audiointerp.__file__).parent / "classifiers" / "audioset_labels.txt").read_text().splitlines()
    return External(Net(527), labels, RATE, multilabel=True, layers=["maps"])


def two():
    return External(Net(2), ["hum", "hiss"], RATE, layers=["maps"])
"""
LABELS = ("Dog", "Rain", "Cat", "Baby cry, infant cry", "Wind", "Crow", "Siren", "Train", "Engine", "")
METHODS = (
    "guided_gradcam",
    "saliency",
    "smoothgrad",
    "integrated_gradients",
    "gradient_shap",
    "lime",
    "rise",
    "segments",
)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes a module with a classifier at a sample rate into the working folder; its name on the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, rate: int) -> str:
        (tmp_path / f"{name}.py").write_text(MODULE.replace("RATE", str(rate)))
        return f"python:{name}"

    return write


@pytest.fixture
def data(tmp_path) -> tuple[str, ...]:
    """Options that name synthetic clips and a table of AudioSet labels for their classes; one class has none."""
    make_synthetic(tmp_path / "data", clips_per_class=5, seconds=0.5)
    pd.DataFrame({"class": SYNTHETIC_CLASSES, "label": LABELS}).to_csv(tmp_path / "map.csv", index=False)
    options = ("--data_folder", "data", "--clips.clips.labels", "map.csv", "--seconds", 0.5, "--output_folder", "out")
    return tuple(map(str, options))


@pytest.mark.slow
def test_compare_on_a_tagger(own_module, data, tmp_path):
    few = ["--comparison.conditions.clean.clips", 3, "--comparison.conditions.mixtures_0db.count", 4]
    few += ["--comparison.subset.clean", 1, "--comparison.subset.mixtures_0db", 2, "--methods.lime_nmf.max_batch", 8]
    for name in METHODS:
        few += [f"--methods.{name}", "null"]
    few += ["--comparison.costly", "[]"]
    own = ["--classifier", f"{own_module('compared', 16000)}:tagger"]
    run(["run", RECIPES / "compare.yaml", *data, *few, *own, "--device", "cpu"])
    scores = pd.read_csv(tmp_path / "out" / "compare" / "1234" / "scores.csv")
    mixtures = scores[scores.condition == "mixtures_0db"]
    own_class = mixtures[~mixtures.method.str.endswith("_other")]
    # Every method explains the same label of an item: its own, although the network predicts another one.
    assert (own_class.target == own_class.label).all() and (own_class.groupby("item_id").target.nunique() == 1).all()
    other = mixtures[mixtures.method == "lime_nmf_other"]
    assert len(other) == 4 and (other.target != other.label).all()
    assert set(mixtures.right.dropna()) <= {0, 1} and mixtures.right.notna().all()
    assert scores[scores.method == "all_pass"].right.dropna().eq(0).all()
    assert (scores.fidelity >= scores.fidelity_argmax).all()
    assert all(len(names.split(";")) == 2 for names in mixtures.recordings.astype(str))
    clips = scores[scores.condition == "clean"]
    assert (clips.target == clips.label).all()


def test_planted_truth_on_a_tagger(own_module, data, tmp_path):
    few = [each for name in (*METHODS, "lime_nmf") if name != "segments" for each in (f"--methods.{name}", "null")]
    few += ["--planted.first_second", "null", "--planted.swapped", "null", "--planted.deaf.cue", "hum"]
    few += ["--planted.deaf.clips", 3, "--planted.deaf.min_probability", 0.0]
    own = ["--classifier", f"{own_module('planted', 16000)}:tagger", "--device", "cpu"]
    run(["run", RECIPES / "planted_untrained.yaml", *data, *few, *own])
    rows = pd.read_csv(tmp_path / "out" / "planted_untrained" / "1234" / "planted.csv")
    assert (rows.truth == "deaf").all() and (rows.target == rows.label).all() and set(rows.target) <= set(LABELS)
    assert rows[rows.method == "gradcam"].audible.dropna().between(0, 1).all() and rows.item_id.nunique() == 3
    assert rows[rows.method == "ideal_ratio"].audible.min() > 0.9 and not rows[rows.method == "all_pass"].right.any()


@pytest.mark.slow
def test_piq_is_trained_for_the_labels_that_occur(own_module, data, tmp_path):
    options = ["--interpreter.layers", "[-1]", "--interpreter.codes", 36, "--channels", 8, "--epochs", 2]
    options += ["--evaluation.clips", 2, "--evaluation.mixtures", 2, "--device", "cpu"]
    own = ["--classifier", f"{own_module('trained', 16000)}:tagger", "--allow", "trained"]
    run(["run", RECIPES / "piq_stems.yaml", *data, *options, *own])
    folder = tmp_path / "out" / "piq_stems" / "1234"
    log = log_of(folder, 2)
    assert sum(name.startswith("perplexity_") for name in log) == 9  # one for each label of the clips, not 527
    assert len(pd.read_csv(folder / "scores.csv").query("method == 'piq_stems'")) == 4
    wav = next((tmp_path / "data" / "audio").glob("*.wav"))
    again = ["interpret", folder, wav, "-o", tmp_path / "again", *own, "--no_figures"]
    run([*again, "--target", "Dog"])
    with pytest.raises(AssertionError):
        run([*again[:3], "-o", tmp_path / "speech", *own, "--no_figures", "--target", "Speech"])


@pytest.mark.slow
def test_l2i_on_a_dictionary_at_the_classifiers_rate(own_module, data, tmp_path):
    own = ["--classifier", f"{own_module('at_another_rate', 22050)}:tagger", "--device", "cpu"]
    run(["run", RECIPES / "nmf.yaml", *data, *own, "--epochs", 3, "--nmf.n_components", 6])
    dictionary = tmp_path / "out" / "nmf" / "1234"
    assert json.loads((dictionary / "run.json").read_text())["results"]["sample_rate"] == 22050
    component = next((dictionary / "audio").glob("component_*.wav"))
    assert soundfile.info(component).samplerate == 22050
    few = ["--interpreter.layers", "[-1]", "--interpreter.width", 4, "--epochs", 1]
    few += ["--evaluation.clips", 2, "--evaluation.mixtures", 2]
    run(["run", RECIPES / "l2i.yaml", *data, *own, *few, "--dictionary", dictionary])
    scores = pd.read_csv(tmp_path / "out" / "l2i" / "1234" / "scores.csv")
    assert len(scores.query("method == 'l2i'")) == 4 and set(scores["target"]) <= {*LABELS}


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 48000])
def test_any_rate_and_stereo_files(own_module, tmp_path, rate):
    """A stereo file at 44.1 kHz: interpretation and residual have the input's length at the rate that was asked for."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "stereo.wav", 0.1 * rng.standard_normal((44100 * 2 + 1, 2)), 44100)
    name = f"{own_module(f'at_{rate}', rate)}:two"
    for output_rate, expected in (("model", rate), ("input", 44100)):
        out = tmp_path / output_rate
        run(
            [
                "interpret",
                name,
                "stereo.wav",
                "-o",
                out,
                "--method",
                "gradcam",
                "--no_figures",
                "--output_rate",
                output_rate,
            ]
        )
        (folder,) = (out / "audio").iterdir()
        kept, left, whole = (
            soundfile.read(folder / f"{each}.wav") for each in ("gradcam", "gradcam_residual", "mixture")
        )
        assert kept[1] == left[1] == whole[1] == expected
        assert len(kept[0]) == len(left[0]) == len(whole[0]) == -(-(44100 * 2 + 1) * expected // 44100)
        np.testing.assert_allclose(kept[0] + left[0], whole[0], atol=1e-5)


@pytest.mark.slow
def test_ten_minutes(own_module, tmp_path):
    """A file of ten minutes is explained in windows; every window has its row, and no sample is lost."""
    noise = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0)).repeat(600)
    soundfile.write(tmp_path / "long.wav", noise.numpy(), 8000, subtype="FLOAT")
    name = f"{own_module('long', 8000)}:two"
    assert main(["interpret", name, "long.wav", "-o", "out", "--method", "gradcam", "--no_figures"]) == 0
    (folder,) = (tmp_path / "out" / "audio").iterdir()
    kept, left = (soundfile.read(folder / f"{each}.wav")[0] for each in ("gradcam", "gradcam_residual"))
    assert len(kept) == len(left) == 600 * 8000
    np.testing.assert_allclose(kept + left, noise.numpy(), atol=1e-5)
    starts = pd.read_csv(tmp_path / "out" / "scores.csv").start_s
    assert len(starts) >= 20 and starts.is_monotonic_increasing and starts.iloc[-1] < 600
