"""EfficientAT against an independent rebuild's logits, filters by hand, tones at known places; downloads."""

import csv
import hashlib
import os
import pickle

import librosa
import numpy as np
import pytest
import torch

from audiointerp.classifiers import EfficientAT, downloads
from audiointerp.classifiers.efficientat import RELEASED, MelPicture, audioset_labels
from audiointerp.interpreters import GradCAM
from audiointerp.sound.files import read
from audiointerp.sound.mel import kaldi_bank


@pytest.fixture(scope="module")
def released(models):
    """Folder of a released tagger: its weights, labels, three clips and their logits by somebody else's code."""
    return models / "efficientat_mn04"


@pytest.fixture(scope="module")
def tagger(released):
    return EfficientAT.from_pretrained(str(released / "mn04_as.safetensors"))


def table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def small():
    torch.manual_seed(0)
    return EfficientAT(width=0.1).eval()


def test_labels_are_audiosets(released):
    assert list(audioset_labels()) == [row["display_name"] for row in table(released / "class_labels_indices.csv")]


def test_logits_equal_an_independent_rebuilds(released, tagger):
    expected = {}
    for row in table(released / "expected_logits.csv"):
        expected.setdefault(row["clip"], []).append(float(row["logit"]))
    assert len(expected) == 3 and tagger.width == 0.4
    for clip, logits in expected.items():
        with torch.no_grad():
            found = tagger(read(released / f"{clip}.flac", tagger.sample_rate)).logits[0]
        assert float((found - torch.tensor(logits)).abs().max()) < 1e-3


def test_the_filters_are_kaldis_triangles():
    """Kaldi's are linear in mel (HTK's formula), librosa's in Hz: both peak at the same centres."""
    ours = kaldi_bank(32000, 1024, 128, 0.0, 15000.0).T.numpy()
    theirs = librosa.filters.mel(sr=32000, n_fft=1024, n_mels=128, fmin=0, fmax=15000, htk=True, norm=None)
    wide = theirs.max(1) > 0.6  # the lowest triangles are narrower than a bin
    assert np.abs(ours.argmax(1) - theirs.argmax(1))[wide].max() <= 1
    assert np.abs(ours - theirs).max() < 0.2 and not ours[:, -1].any()


def test_the_picture_by_hand():
    """One column in float64, from the definition."""
    waveform = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
    emphasised = (waveform[:, 1:] - 0.97 * waveform[:, :-1]).double().numpy()[0]
    column = 5
    centre = column * 320
    frame = np.pad(emphasised, 512, mode="reflect")[centre : centre + 1024]
    window = np.zeros(1024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    power = np.abs(np.fft.rfft(frame * window)) ** 2
    expected = (np.log(kaldi_bank(32000, 1024, 128, 0.0, 15000.0).T.double().numpy() @ power + 1e-5) + 4.5) / 5
    np.testing.assert_allclose(MelPicture()(waveform)[0, 0, :, column].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 500, 1024, 31999, 320000])
def test_any_length_silence_included(samples):
    prediction = small()(torch.zeros(2, samples))
    assert torch.isfinite(prediction.logits).all() and prediction.probabilities.shape == (2, 527)


def test_gradients_reach_the_waveform(tagger):
    waveform = (0.1 * torch.randn(1, 32000)).requires_grad_()
    tagger(waveform).logits[0, 0].backward()
    assert waveform.grad is not None and torch.isfinite(waveform.grad).all() and float(waveform.grad.abs().max()) > 0


@pytest.mark.parametrize("layer", range(4))
def test_cells_lie_at_the_centres_of_what_they_see(layer):
    """With kernels that weigh all their places alike, the gradient of a cell is centred where `place` puts the cell."""
    classifier = small()
    tagger = classifier.module
    for each in tagger.modules():
        if isinstance(each, torch.nn.Conv2d):
            torch.nn.init.constant_(each.weight, 1.0 / each.weight[0].numel())
        elif isinstance(each, torch.nn.Linear):
            torch.nn.init.zeros_(each.weight)  # squeeze-excite: 1/2 for every channel
    picture = torch.full((1, 1, 1024, 1024), 3.0, requires_grad=True)
    cells = tagger.features[: int(classifier.layers[layer].split(".")[1]) + 1](picture)
    stride = 1024 // cells.shape[2]
    row, column = cells.shape[2] // 2, cells.shape[3] // 2
    (seen,) = torch.autograd.grad(cells[0, :, row, column].sum(), picture)
    weight = seen[0, 0].abs().double()
    centre = [float((weight.sum(1 - axis) * torch.arange(weight.shape[axis])).sum() / weight.sum()) for axis in (0, 1)]
    assert centre == pytest.approx([stride * row, stride * column], abs=0.05 * stride)


@pytest.mark.parametrize("frequency", [300.0, 1000.0, 3000.0])
@pytest.mark.parametrize("layer", range(4))
def test_a_burst_of_a_tone_is_placed_at_its_frequency_and_time(tagger, layer, frequency):
    """To the cell and a half: a burst spreads, and trained kernels do not weigh their places alike."""
    time = torch.arange(160000) / 32000
    burst = torch.sin(2 * torch.pi * frequency * time) * torch.exp(-0.5 * ((time - 2.0) / 0.02) ** 2)
    with torch.no_grad():
        maps = tagger(torch.stack([0.5 * burst, 0.001 * burst])).feature_maps[layer]
    change = (maps[0] - maps[1]).abs()
    change = (change - change.flatten(1).median(1).values[:, None, None]).clamp(min=0).sum(0, keepdim=True)
    placed = tagger.place(change, len(time))[0]
    row, column = divmod(int(placed.argmax()), placed.shape[1])
    hertz, seconds = row * 32000 / tagger.spectrogram.n_fft, column * tagger.spectrogram.hop_length / 32000
    cells = 1127 * np.log1p(np.array([hertz, frequency]) / 700) / (1127 * np.log1p(15000 / 700) / change.shape[1])
    assert abs(cells[0] - cells[1]) < 1.5
    assert abs(seconds - 2.0) < 0.08 + 1.5 * 0.01 * 128 / change.shape[1]  # four deviations of the burst, and cells


def test_a_row_of_a_batch_is_a_batch_of_one(tagger):
    both = 0.1 * torch.randn(2, 40000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(tagger(both).logits[1:], tagger(both[1:]).logits, rtol=1e-4, atol=1e-4)


def test_a_dog_is_explained_where_it_barks(released, tagger):
    waveform = read(released / "dog.flac", 32000)
    made = GradCAM(tagger).interpret(waveform, tagger.labels.index("Dog"))
    assert made.waveform.shape == waveform.shape
    loud = waveform[0].abs() > 0.3
    kept = made.waveform[0].square()
    assert float(kept[loud].sum() / kept.sum()) > 0.3


# --- weights by name


def save(path, weights):
    torch.save(weights, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setenv("AUDIOINTERP_CACHE", str(tmp_path / "cache"))

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.retrieve", offline)
    folder = tmp_path / "cache" / "models"
    folder.mkdir(parents=True)
    return folder


def test_without_a_network_the_message_names_file_and_place(cache):
    with pytest.raises(ValueError, match="no route to host") as caught:
        EfficientAT.from_pretrained("mn04_as")
    assert "mn04_as_mAP_432.pt" in str(caught.value) and str(cache / "mn04_as_mAP_432.pt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_with_another_hash_is_refused(cache):
    save(cache / "mn04_as_mAP_432.pt", small().module.state_dict())
    with pytest.raises(ValueError, match=r"SHA-256 is .*, expected 899a8c62"):
        EfficientAT.from_pretrained("mn04_as")


def test_a_file_whose_hash_is_not_known_keeps_that_of_its_first_use(cache):
    path = cache / RELEASED["mn01_as"][0]
    digest = save(path, small().module.state_dict())
    assert EfficientAT.from_pretrained("mn01_as").width == 0.1
    assert (cache / f"{path.name}.sha256").read_text().strip() == digest
    with torch.no_grad():
        changed = small().module.state_dict() | {"classifier.5.bias": torch.ones(527)}
    save(path, changed)
    with pytest.raises(ValueError, match="it is not the released one"):
        EfficientAT.from_pretrained("mn01_as")


def test_an_unknown_name_gets_the_nearest(cache):
    with pytest.raises(ValueError, match=r"'mn04' is no released model \(did you mean 'mn04_as'\?\)"):
        downloads.fetch("mn04", RELEASED, "https://example.org")


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("kind", ["bomb", "text", "empty", "list", "other weights", "other labels"])
def test_hostile_and_wrong_files_are_one_line_and_run_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    if kind == "bomb":
        path.write_bytes(pickle.dumps({"classifier.2.weight": Bomb()}))
    elif kind in ("text", "empty"):
        path.write_bytes(b"hello" if kind == "text" else b"")
    elif kind == "list":
        torch.save([torch.ones(1)], path)
    elif kind == "other weights":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    else:
        torch.save(EfficientAT(0.1, ("a", "b")).module.state_dict(), path)
    with pytest.raises(ValueError, match=r"weights\.pt: ") as caught:
        EfficientAT.from_pretrained(str(path))
    assert "\n" not in str(caught.value) and not (tmp_path / "exploded").exists()


def test_weights_of_other_labels_take_their_names(tmp_path):
    torch.save(EfficientAT(0.1, ("a", "b")).module.state_dict(), tmp_path / "mine.pt")
    assert EfficientAT.from_pretrained(str(tmp_path / "mine.pt"), labels=("a", "b")).labels == ("a", "b")
