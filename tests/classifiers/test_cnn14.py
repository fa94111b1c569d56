"""CNN14 against librosa's front end, the authors' network written as plain calls, and SpeechBrain's Cnn14."""

import importlib
import os
import pickle
import warnings
import zipfile

import librosa
import numpy as np
import pandas as pd
import pytest
import torch
from references.cnn14 import SETTINGS, log_mel, official_logits, official_state
from safetensors.torch import save_file

import audiointerp
from audiointerp.__main__ import main
from audiointerp.classifiers import CNN14
from audiointerp.classifiers.cnn14 import PICTURES
from audiointerp.interpreters import GradCAM, GuidedGradCAM, IntegratedGradients
from audiointerp.sound.mel import hertz_bank, slaney_mel


def sweep(rate, seconds=2.0, rows=1):
    """A rising tone in noise that fades to silence: loud, soft and empty bands."""
    time = torch.arange(round(rate * seconds)) / rate
    tone = torch.sin(2 * torch.pi * (100 * time + 0.1 * rate * time**2 / seconds))
    noise = 0.1 * torch.randn(rows, len(time), generator=torch.Generator().manual_seed(0))
    return (0.5 * tone + noise) * (1 - time / seconds).clamp(min=0) ** 2


def saved(path, state, whole=True):
    torch.save({"iteration": 600000, "model": state} if whole else state, path)
    return path


def published(path, **settings):
    state = official_state(**settings)
    return CNN14.from_pretrained(saved(path, state)), state


# --- numbers


@pytest.mark.parametrize("rate", SETTINGS)
def test_filters_and_scale_are_librosas(rate):
    n_fft, _, low, high = SETTINGS[rate]
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=64, fmin=low, fmax=high).T
    np.testing.assert_allclose(hertz_bank(rate, n_fft, 64, low, high).numpy(), theirs, atol=1e-7)
    hertz = torch.tensor([0.0, 50.0, 999.0, 1000.0, 1001.0, 14000.0], dtype=torch.float64)
    np.testing.assert_allclose(slaney_mel(hertz).numpy(), librosa.hz_to_mel(hertz.numpy()), atol=1e-9)


@pytest.mark.parametrize("rate", SETTINGS)
def test_the_picture_is_librosas(rate):
    waveform = sweep(rate)
    picture = CNN14(("a",), rate, channels=1).module.picture(waveform).transpose(2, 3)
    expected = log_mel(waveform, rate)
    assert picture.shape == expected.shape and expected.min() < -60 < 0 < expected.max()
    torch.testing.assert_close(picture, expected, atol=2e-3, rtol=0)  # dB; the transform is float32, librosa's float64


@pytest.mark.parametrize("rate", SETTINGS)
@pytest.mark.parametrize("samples", [30_000, 65_537])
def test_logits_are_those_of_the_authors_network(tmp_path, rate, samples):
    classifier, state = published(tmp_path / "Cnn14.pth", classes=527, rate=rate)
    waveform = sweep(rate, samples / rate, rows=2)
    with torch.no_grad():
        found, expected = classifier(waveform).logits, official_logits(state, waveform, rate)
    assert classifier.sample_rate == rate and expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=5e-4, rtol=1e-4)  # the same, in dB of soft bands


@pytest.mark.equality
def test_the_network_is_speechbrains():
    """The same random weights at full width; SpeechBrain's network ends with the embedding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            speechbrain = importlib.import_module("speechbrain.lobes.models.Cnn14")
    except ModuleNotFoundError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{error}; install the extra `equality`")
        pytest.skip(f"{error}; install the extra `equality`")
    state = official_state(channels=64)
    theirs = speechbrain.Cnn14(mel_bins=64, emb_dim=2048, return_reps=True).eval()
    names = {key: key.replace("norm0", "bn0").replace(".norm", ".bn") for key in theirs.state_dict()}
    theirs.load_state_dict({key: state[name] for key, name in names.items()})
    ours = CNN14()
    turned = {key: each.transpose(2, 3) if each.ndim == 4 else each for key, each in state.items()}
    ours.module.load_state_dict({key: each for key, each in turned.items() if "_extractor." not in key})
    waveform = sweep(32000, rows=2)
    with torch.no_grad():
        expected, maps = theirs(log_mel(waveform)[:, 0])
        embedded = ours.eval().module.embed(log_mel(waveform).transpose(2, 3))
        found = ours(waveform).feature_maps
    assert expected.shape == (2, 1, 2048) and expected.std() > 0.5
    torch.testing.assert_close(embedded, expected[:, 0], atol=1e-5, rtol=1e-5)
    for mine, other in zip(found, maps[::-1]):  # SpeechBrain: latest first, time before frequency
        torch.testing.assert_close(mine, other.transpose(2, 3), atol=1e-3, rtol=1e-3)


# --- a classifier like any other


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return published(tmp_path_factory.mktemp("cnn14") / "Cnn14.pth")[0]


@pytest.mark.parametrize("samples", [1, 513, 9919, 32_000])
def test_any_length_silence_included(tagger, samples):
    with torch.no_grad():
        prediction = tagger(torch.zeros(2, samples))
    assert torch.isfinite(prediction.logits).all() and prediction.logits.shape == (2, 527)
    torch.testing.assert_close(prediction.probabilities, prediction.logits.sigmoid())
    assert [each.shape[2] for each in prediction.feature_maps] == [8, 4, 2, 2]


def test_gradients_reach_the_waveform(tagger):
    waveform = sweep(32000, 1.0).requires_grad_()
    tagger(waveform).logits[0, 0].backward()
    assert waveform.grad is not None and torch.isfinite(waveform.grad).all() and waveform.grad.abs().max() > 0
    silence = torch.zeros(1, 32000, requires_grad=True)
    tagger(silence).logits.sum().backward()
    assert silence.grad is not None and torch.isfinite(silence.grad).all()


def test_a_row_of_a_batch_is_a_batch_of_one(tagger):
    both = torch.cat([sweep(32000), 0.1 * sweep(32000).flip(1)])
    with torch.no_grad():
        torch.testing.assert_close(tagger(both).logits[1:], tagger(both[1:]).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", range(4))
def test_cells_lie_at_the_centres_of_what_they_see(tagger, layer):
    """With kernels that weigh all their places alike, the gradient of a cell is centred where `place` puts the cell."""
    classifier = CNN14(("a",), channels=1)
    network = classifier.module
    for each in network.modules():
        if isinstance(each, torch.nn.Conv2d):
            torch.nn.init.constant_(each.weight, 1.0 / each.weight[0].numel())
    x = picture = torch.full((1, 1, 1024, 1024), 3.0, requires_grad=True)
    for number in range(1, int(classifier.layers[layer][-1]) + 1):
        x = network.get_submodule(f"conv_block{number}")(x)
    stride, row = 1024 // x.shape[2], x.shape[2] // 2
    (seen,) = torch.autograd.grad(x[0, :, row, row].sum(), picture)
    weight = seen[0, 0].abs().double()
    centre = float((weight.sum(1) * torch.arange(1024)).sum() / weight.sum())
    assert centre == pytest.approx(stride * (row + 0.5) - 0.5, abs=0.02)
    # A value in the third cell of the map comes back at this place of the STFT.
    values = torch.zeros(1, 64 // min(stride, 32), 400 // min(stride, 32))
    cell = min(2, values.shape[1] - 1)
    values[0, cell, cell] = 1
    placed = classifier.place(values, 400 * 320)[0]
    freq, frame = divmod(int(placed.argmax()), placed.shape[1])
    band = min(stride, 32) * (cell + 0.5) - 0.5
    edges = librosa.mel_frequencies(66, fmin=50, fmax=14000)
    hertz = np.interp(band + 1, np.arange(66), edges)
    assert freq * 32000 / classifier.spectrogram.n_fft == pytest.approx(hertz, abs=20)
    assert frame * classifier.spectrogram.hop_length == pytest.approx(320 * band, abs=190)


@pytest.mark.parametrize("hertz", [700.0, 1000.0, 5000.0])
def test_a_tone_lies_in_its_row(hertz):
    """Kernels that copy the picture: the row with the most energy is placed at the tone's frequency, to half a cell."""
    classifier = CNN14(("a",), channels=1)
    for each in classifier.module.modules():
        if isinstance(each, torch.nn.Conv2d):
            torch.nn.init.dirac_(each.weight)
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(64_000) / 32_000)
    with torch.no_grad():
        maps = classifier(torch.stack([0.5 * tone, 0.0 * tone])).feature_maps[0]
    placed = classifier.place((maps[:1] - maps[1:]).sum(1), 64_000)[0].mean(1)
    found = int(placed.argmax()) * 32000 / classifier.spectrogram.n_fft
    mels = librosa.hz_to_mel(np.array([found, hertz])) / (librosa.hz_to_mel(14000) - librosa.hz_to_mel(50)) * 65
    assert abs(mels[0] - mels[1]) <= 4.5  # half of a cell of 8 bands, and half a bin


def test_methods_explain_it(tagger):
    waveform = sweep(32000, 1.0)
    for method in (GradCAM(tagger), GuidedGradCAM(tagger), IntegratedGradients(tagger, steps=2)):
        made = method.interpret(waveform, 3)
        torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-5, rtol=0)
        assert float(made.mask.max()) > 0


# --- files


def test_settings_follow_from_the_file(tmp_path):
    classifier, state = published(tmp_path / "Cnn14_emb8.pth", channels=2, hidden=8)
    assert classifier.module.fc1.weight.shape == (8, 64) and len(classifier.labels) == 527
    assert classifier.labels[0] == "Speech" and classifier.multilabel and not classifier.training
    bare = {key: each.contiguous() for key, each in state.items() if "_extractor." not in key}
    save_file(bare, tmp_path / "bare.safetensors")
    again = CNN14.from_pretrained(tmp_path / "bare.safetensors")
    assert again.sample_rate == 32000
    waveform = sweep(32000, 0.5)
    with torch.no_grad():
        assert torch.equal(again(waveform).logits, classifier(waveform).logits)


def test_other_labels_are_named(tmp_path):
    path = saved(tmp_path / "mine.pth", official_state(classes=3), whole=False)
    assert CNN14.from_pretrained(path, ("a", "b", "c")).labels == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"mine.pth: has 3 labels, 527 are AudioSet's; name each label"):
        CNN14.from_pretrained(path)
    with pytest.raises(ValueError, match="has 3 labels, 2 names were given"):
        CNN14.from_pretrained(path, ("a", "b"))


@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_a_checkpoint_may_hold_numpy_arrays(tmp_path, core):
    """As those of PANNs' training loop, written by numpy 2 or 1; the weights are read, the arrays left alone."""
    state = official_state(channels=1)
    sampler = {"indexes": np.arange(5), "pointer": np.float64(0.5), "kind": np.dtype("int64"), "text": np.array(["a"])}
    torch.save({"iteration": 1, "model": state, "sampler": sampler}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        assert b"numpy._core" in new.read("new/data.pkl")
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core", core.encode()))
    with torch.no_grad():
        found = CNN14.from_pretrained(tmp_path / "old.pth")(sweep(32000, 0.5)).logits
        torch.testing.assert_close(found, official_logits(state, sweep(32000, 0.5)), atol=5e-4, rtol=1e-4)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def _wrong(kind, path):
    state = official_state(channels=1, classes=527)
    if kind == "bomb":
        path.write_bytes(pickle.dumps({"model": {"fc1.weight": Bomb()}}, protocol=2))
    elif kind == "bomb in an array":
        torch.save({"model": state, "sampler": np.array([Bomb()], dtype=object)}, path)
    elif kind == "text":
        path.write_text("hello")
    elif kind == "other weights":
        torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, path)
    elif kind == "other window":
        saved(path, state | {"spectrogram_extractor.stft.conv_real.weight": torch.zeros(1025, 1, 2048)})
    elif kind == "other filters":
        saved(path, state | {"logmel_extractor.melW": torch.zeros(513, 64)})
    elif kind == "32 bands":
        saved(path, state | {"logmel_extractor.melW": torch.zeros(513, 32)})
    elif kind == "scalars":
        saved(path, {key: torch.tensor(1.0) for key in state})
    elif kind == "more layers":
        saved(path, state | {"pre_conv0.weight": torch.zeros(64, 1, 11)})


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("bomb", "holds no weights that can be read without running code"),
        ("bomb in an array", "holds no weights that can be read without running code"),
        ("text", "holds no weights that can be read without running code"),
        ("other weights", "holds no weights of CNN14"),
        ("other window", "its window has 2048 samples; CNN14's have 1024, 512, 256"),
        ("other filters", "its mel filters are not those of CNN14 at 32000 Hz"),
        ("32 bands", "its mel filters are not those of CNN14 at 32000 Hz"),
        ("scalars", "holds no weights of CNN14"),
        ("more layers", "holds no weights of CNN14 .*pre_conv0"),
    ],
)
def test_hostile_and_wrong_files_are_one_line_and_run_nothing(tmp_path, monkeypatch, kind, says):
    monkeypatch.chdir(tmp_path)
    _wrong(kind, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match=rf"wrong\.pth: .*{says}" if kind != "missing" else says) as caught:
        CNN14.from_pretrained(tmp_path / "wrong.pth")
    assert "\n" not in str(caught.value) and not (tmp_path / "exploded").exists()


def test_other_rates_are_refused():
    with pytest.raises(ValueError, match="published for 32000, 16000, 8000 Hz, not for 44100"):
        CNN14(sample_rate=44100)
    assert set(PICTURES) == set(SETTINGS)


# --- by name


def test_by_name_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "mine.pth", official_state(classes=2, channels=1))
    (tmp_path / "names.txt").write_text("Dog\nGearbox, whining\n")
    audiointerp.write("my.wav", sweep(32000, 1.0)[0], 32000)
    tagger = audiointerp.load("cnn14:mine.pth", labels="names.txt")
    assert tagger.labels == ("Dog", "Gearbox, whining") and tagger.source == f"cnn14:{tmp_path / 'mine.pth'}"
    command = ["interpret", "cnn14:mine.pth", "my.wav", "--no_figures", "-o"]
    assert main([*command, "out", "--method", "gradcam", "--target", "dog", "--labels", "names.txt"]) == 0
    assert pd.read_csv("out/scores.csv")["target"].tolist() == ["Dog"]
    assert main([*command, "none"]) == 2
    assert "mine.pth: has 2 labels, 527 are AudioSet's" in capsys.readouterr().err
    assert main([*command, "none", "--labels", "a", "b", "c"]) == 2
    assert "mine.pth: has 2 labels, 3 names were given" in capsys.readouterr().err
    assert main(["layers", "cnn14:mine.pth", "--labels", "names.txt"]) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if each.split()[0] == "conv_block3"]
    assert "in use: Grad-CAM, PIQ, L2I" in line
    assert main(["layers", "cnn4:mine.pth"]) == 2
    assert "(did you mean 'cnn14'?)" in capsys.readouterr().err
