"""Numbers that are none: NaN and infinity stop where a classifier, a file or a stem brings them in."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from audiointerp.__main__ import main
from audiointerp.bundles import bundle
from audiointerp.classifiers import External
from audiointerp.contracts import Prediction
from audiointerp.interpreters import TargetMasking
from audiointerp.sound import files as audio
from audiointerp.sound.masking import StemMask
from audiointerp.sound.recordings import WindowWriter

RATE = 16000


def refused(capsys, *command):
    """The one line on stderr of a refused command."""
    capsys.readouterr()
    assert main([str(each) for each in command]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("audiointerp:")]
    return line


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers(value):
    logits = torch.tensor([[0.0, value]])
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        Prediction.from_logits(logits, False)
    assert Prediction.from_logits(logits.requires_grad_(), False)  # in training, the loop looks at the loss


@pytest.fixture
def noise(tmp_path):
    """A recording of 31 s, which is explained in two windows."""
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(31 * RATE), RATE)
    return path


def test_weights_that_are_no_numbers(tiny, tmp_path, noise, capsys):
    """A bundle with NaN weights, its hash adapted, is refused by the name of the weight, whatever it explains."""
    import hashlib
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny.piq / "best", broken)
    weights = load_file(broken / "model.safetensors")
    name = next(each for each in weights if each.startswith("classifier.") and each.endswith("weight"))
    weights[name].flatten()[3] = float("nan")
    save_file(weights, broken / "model.safetensors")
    config = json.loads((broken / "config.json").read_text())
    config["sha256"] = hashlib.sha256((broken / "model.safetensors").read_bytes()).hexdigest()
    (broken / "config.json").write_text(json.dumps(config))
    line = refused(capsys, "interpret", broken, noise, "-o", tmp_path / "out")
    assert "model.safetensors" in line and name in line and "NaN" in line


def test_a_classifier_that_overflows_later(tmp_path, noise, capsys, monkeypatch, tiny):
    """The logits of any sound are NaN: no row, no WAV, one line that names the sound."""
    from audiointerp.classifiers import vggsound

    whole = vggsound.VGGSound.classify

    def broken(self, features):
        made = whole(self, features)
        if not features.any():  # the silence with which a bundle is checked when it is loaded
            return made
        return Prediction.from_logits(made.logits * float("nan"), self.multilabel, feature_maps=made.feature_maps)

    monkeypatch.setattr(vggsound.VGGSound, "classify", broken)
    line = refused(capsys, "interpret", tiny.piq, noise, "-o", tmp_path / "out", "--device", "cpu")
    assert f"audiointerp: {noise}: the classifier returned NaN or infinite logits" in line
    assert not list((tmp_path / "out").rglob("*.wav"))


@pytest.mark.parametrize("gains", [("1e300", "1e300"), ("1e38", "1"), ("1e-300", "1e-300"), ("nan", "1"), ("inf", "1")])
def test_gains_that_overflow(tiny, tmp_path, capsys, gains):
    line = refused(capsys, "mix", tiny.data, "-o", tmp_path / "m", "--items", 1, "--gains", *gains)
    assert "gains are" in line and not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("snr", ["1e308", "nan", "inf", "1e4", "-1000"])
def test_ratios_that_overflow(tiny, tmp_path, capsys, snr):
    line = refused(capsys, "mix", tiny.data, "-o", tmp_path / "m", "--items", 1, f"--snr={snr}")
    assert "snr_db is" in line and not list(tmp_path.rglob("*.wav"))


def test_extreme_gains_that_are_taken(tiny, tmp_path):
    assert main(["mix", str(tiny.data), "-o", str(tmp_path / "m"), "--items", "1", "--gains", "1e6", "1e6"]) == 0
    for path in tmp_path.rglob("*.wav"):
        assert np.isfinite(soundfile.read(path)[0]).all()


@pytest.mark.parametrize("kind", ["RF64", "W64", "AU", "WAV", "WAVEX", "AIFF"])
@pytest.mark.parametrize("missing", [1, 2, 999, 15_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_truncated_files_with_a_header_of_their_size(tmp_path, kind, missing, subtype):
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((8000, 2)), RATE, format=kind, subtype=subtype)
    assert audio.probe(path).frames == 8000
    with open(path, "ab") as file:
        file.write(b"\0" * 7)  # more than the header states is no damage
    assert audio.probe(path).frames >= 8000
    os.truncate(path, path.stat().st_size - 7 - missing)
    with pytest.raises(audio.AudioError, match="truncated"):
        audio.read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_wav_holds_what_is_no_number(tmp_path, value):
    samples = torch.zeros(100)
    samples[50] = value
    with pytest.raises(ValueError, match=r"a\.wav: would hold NaN or infinite samples"):
        audio.write(tmp_path / "a.wav", samples, RATE)
    writer = WindowWriter(tmp_path / "b.wav", RATE)
    with pytest.raises(ValueError, match=r"b\.wav: would hold NaN or infinite samples"):
        writer.add(samples, 0, 0)
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_channels_whose_mean_overflows(tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full((100, 2), 3e38, "float32"), RATE, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="NaN or infinite"):
        audio.read(path)


@pytest.fixture
def mixtures(tiny, tmp_path):
    """A mixtures.csv with two mixtures of 1 s."""
    assert main(["mix", str(tiny.data), "-o", str(tmp_path / "m"), "--items", "2", "--seconds", "1"]) == 0
    return tmp_path / "m" / "mixtures.csv"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("silent", "m_0001_other.wav: is silent"),
        ("short", "m_0001_other.wav: has 15999 samples at 16000 Hz, its mixture m_0001_mixture.wav 16000"),
        ("long", "m_0001_other.wav: has 16001 samples"),
        ("nan", "m_0001_other.wav: has NaN or infinite samples"),
        ("equal", "row 3: both labels are"),
    ],
)
def test_stems_that_are_none(tiny, mixtures, tmp_path, capsys, change, words):
    path = mixtures.parent / "audio" / "m_0001_other.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    if change == "equal":
        table = pd.read_csv(mixtures)
        table.loc[1, "other_label"] = table.loc[1, "base_label"]
        table.to_csv(mixtures, index=False)
    samples = {"silent": 0 * samples, "short": samples[:-1], "long": np.append(samples, 0)}.get(change, samples)
    if change == "nan":
        samples[7] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")
    line = refused(capsys, "evaluate", tiny.piq, mixtures, "-o", tmp_path / "out", "--device", "cpu")
    assert words in line


def test_a_stem_of_another_shape_is_refused():
    class Network(torch.nn.Module):
        def forward(self, waveform):
            return torch.stack([waveform.sum(1), -waveform.sum(1)], 1)

    method = TargetMasking(External(Network(), ("a", "b"), RATE), StemMask("ratio"))
    sound = torch.randn(1, 4000)
    assert method.interpret(sound, stem=sound / 2).waveform.shape == sound.shape
    for stem in (sound[:, 1:], sound[0, 1:], torch.cat([sound, sound])):
        with pytest.raises(ValueError, match="stem has shape"):
            method.interpret(sound, stem=stem)
    with pytest.raises(ValueError, match="stem has NaN"):
        method.interpret(sound, stem=sound * float("nan"))


def test_good_bundles_still_load(tiny):
    assert bundle.load(tiny.piq) is not None
