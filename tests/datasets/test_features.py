"""Features computed once and memory-mapped: the same as computed on the fly, and never stale."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiointerp.datasets import cache, features
from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.clips import Clip
from audiointerp.datasets.features import FeatureDataset
from audiointerp.sound import files as audio
from audiointerp.sound.logfrequency import LogFrequency

RATE = 1000


class Bands(nn.Module):
    """Three channels of the lowest bins' level and phase; counts the clips that it is given."""

    def __init__(self, bands: int = 8, scale: float = 1.0):
        super().__init__()
        self.config = {"bands": bands, "scale": scale}
        self.bands = bands
        self.register_buffer("scale", torch.tensor(scale))
        self.heard = 0

    def forward(self, waveform):
        self.heard += len(waveform)
        stft = torch.fft.rfft(waveform)[:, 1 : self.bands + 1]
        return torch.stack([(self.scale * stft.abs()).log1p(), stft.real, stft.imag], 1)


def write(path: Path, samples: int, rate: int = RATE) -> Path:
    """A chirp whose peak, 0.25 or so, is near its end: the level of a crop is not that of the clip."""
    time = np.arange(samples) / rate
    soundfile.write(path, 0.25 * time / time[-1] * np.sin(40 * (1 + samples / 900) * time**2), rate, subtype="FLOAT")
    return path


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    """70 clips in three folds, some shorter and some longer than the 0.5 s that the front end is given."""
    (tmp_path / "sounds").mkdir()
    lengths = range(300, 1000, 10)
    paths = [write(tmp_path / "sounds" / f"{samples}.wav", samples) for samples in lengths]
    return [Clip(path, (("flute", "reed")[i % 2],), 1 + i % 3) for i, path in enumerate(paths)]


def dataset(clips, tmp_path, front_end=None, **settings) -> FeatureDataset:
    front_end = Bands() if front_end is None else front_end
    settings = {"sample_rate": RATE, "seconds": 0.5, "cache_folder": tmp_path / "cache"} | settings
    return FeatureDataset(clips, ("flute", "reed"), front_end, **settings)


def test_features_are_those_of_the_waveform_that_a_classifier_would_hear(clips, tmp_path):
    made = dataset(clips, tmp_path)
    heard = ClipDataset(clips, ("flute", "reed"), RATE, 0.5, cache_folder=tmp_path / "other")
    chosen = [69, 0, 33, 34, 1]
    batch, reference = made.batch(chosen), heard.batch(chosen)
    torch.testing.assert_close(batch.features, Bands()(reference.waveform))
    assert batch.features.shape == (5, 3, 8) and batch.features.dtype == torch.float32
    assert batch.waveform.shape == (5, 0) and len(batch) == 5
    assert torch.equal(batch.label, reference.label) and torch.equal(batch.index, reference.index)
    torch.testing.assert_close(made.features(chosen), batch.features, rtol=0, atol=0)
    for i in (0, 69):
        assert torch.equal(made.waveform(i), heard.waveform(i))
        assert float(made.waveform(i).abs().max()) == 1.0


def test_stored_features_of_the_real_front_end_are_exact(clips, tmp_path):
    front_end = LogFrequency(RATE, bands=32, high=400.0, n_fft=2048)
    made = dataset(clips[60:], tmp_path, front_end)
    whole = torch.stack([audio.fit_length(made.waveform(i), 500) for i in range(10)])
    torch.testing.assert_close(made.features(range(10)), front_end(whole), rtol=0, atol=1e-4)  # float16: up to 2e-3
    assert made.features([0])[0, 0].max() > 2


def test_batches_are_those_of_the_clips_and_do_not_crop_at_random(clips, tmp_path):
    made = dataset(clips, tmp_path)
    plain = ClipDataset(clips, ("flute", "reed"), RATE, 0.5, cache_folder=tmp_path / "other")
    whole = made.features(range(70))
    for ours, theirs in zip(made.batches(32, shuffle_seed=3), plain.batches(32, shuffle_seed=3), strict=True):
        assert torch.equal(ours.index, theirs.index) and torch.equal(ours.label, theirs.label)
        assert torch.equal(ours.features, whole[ours.index])
    crops = made.batch([69], torch.Generator().manual_seed(1)).features
    assert torch.equal(crops, whole[69:])


def test_segments_silence_and_several_labels(tmp_path):
    path = write(tmp_path / "a.wav", 2000)
    soundfile.write(tmp_path / "s.wav", np.zeros(600), RATE)
    two = [Clip(path, ("reed", "flute"), 1, 0.5, 0.4), Clip(path, ("reed",), 1), Clip(tmp_path / "s.wav", ("reed",), 1)]
    made = dataset(two, tmp_path, multilabel=True)
    part = audio.normalize_peak(audio.read(path, RATE)[:, 500:900])[0]
    torch.testing.assert_close(made.features([0]), Bands()(audio.fit_length(part, 500)))
    assert torch.equal(made.waveform(0), part[0])
    assert not made.features([2]).any()
    assert made.batch([0, 1]).label.tolist() == [[1, 1], [0, 1]]


def test_each_clip_is_computed_once_and_memory_is_mapped(clips, tmp_path, monkeypatch):
    front_end = Bands()
    made = dataset(clips, tmp_path, front_end)
    assert front_end.heard == 0  # until the first use
    made.features([0])
    assert front_end.heard == 70
    assert not (tmp_path / "cache" / "clips").exists()  # no second copy, of the decoded clips
    hash_before = made.content_hash
    monkeypatch.setattr(audio, "read", None)
    again = dataset([*clips[::-1]], tmp_path, front_end)
    torch.testing.assert_close(again.features([0]), made.features([69]), rtol=0, atol=0)
    assert front_end.heard == 70
    assert isinstance(made._rows[5][0], np.memmap)
    # One array a fold: rotated folds are not computed again, and labels play no part.
    train = [Clip(clip.path, ("reed",), clip.fold) for clip in clips if clip.fold != 2]
    dataset(train, tmp_path, front_end).features([0])
    assert front_end.heard == 70
    assert dataset(clips, tmp_path, front_end).content_hash == hash_before


def test_whatever_changes_the_features_makes_others(clips, tmp_path):
    few = clips[:3]

    def heard(front_end=None, **settings) -> int:
        front_end = front_end or Bands()
        dataset(few, tmp_path, front_end, **settings).features([0])
        return front_end.heard

    assert (heard(), heard()) == (3, 0)
    assert (heard(Bands(4)), heard(Bands(4))) == (3, 0)
    assert heard(seconds=0.4) == 3
    weighted = Bands()
    weighted.scale.fill_(2.0)  # weights that the config does not tell
    assert heard(weighted) == 3
    write(few[0].path, 777)
    assert heard() == 1  # only the fold whose file has changed


def test_an_edited_front_end_is_another(clips, tmp_path, monkeypatch):
    dataset(clips[:2], tmp_path).features([0])
    monkeypatch.setattr(features, "_source", lambda kind: "edited")
    edited = Bands()
    dataset(clips[:2], tmp_path, edited).features([0])
    assert edited.heard == 2


def test_content_hash_tells_features_and_labels_not_places(clips, tmp_path):
    reference = dataset(clips[:4], tmp_path).content_hash
    moved = [Clip(each.path.rename(tmp_path / each.path.name), each.labels, 2) for each in clips[:4]]
    assert dataset(moved, tmp_path).content_hash == reference
    assert dataset(moved[:3], tmp_path).content_hash != reference
    assert dataset(moved, tmp_path, Bands(scale=2.0)).content_hash != reference
    relabelled = [Clip(moved[0].path, ("reed",), 2), *moved[1:]]
    assert dataset(relabelled, tmp_path).content_hash != reference


def test_any_callable_with_a_config(clips, tmp_path):
    def energy(waveform):
        return waveform.double().square().sum(1, keepdim=True)

    made = dataset(clips[:2], tmp_path, energy, config={"what": "energy"})
    expected = audio.fit_length(made.waveform(1), 500).square().sum()
    torch.testing.assert_close(made.features([1]), expected.reshape(1, 1))
    with pytest.raises(ValueError, match=r"front end .*energy has no config"):
        dataset(clips, tmp_path, energy)
    with pytest.raises(ValueError, match=r"energy: config must hold plain values \(Object of type Tensor"):
        dataset(clips, tmp_path, energy, config={"weights": torch.zeros(2)})


def broken_at(value):
    def front_end(waveform):
        return torch.where(torch.arange(len(waveform)) == 1, value, waveform.sum(1))[:, None]

    return front_end


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        (broken_at(float("nan")), r"310\.wav: .*front_end gives NaN or infinite features for it"),
        (broken_at(float("inf")), r"310\.wav: .*front_end gives NaN or infinite features"),
        (lambda waveform: waveform[0], r"gave shape \(500,\) for 4 clips; return one row per clip"),
        (lambda waveform: waveform[:1], r"gave shape \(1, 500\) for 4 clips"),
    ],
)
def test_features_that_cannot_be_used(clips, tmp_path, front_end, message):
    one_fold = [Clip(each.path, each.labels, 1) for each in clips[:4]]
    with pytest.raises(ValueError, match=message):
        dataset(one_fold, tmp_path, front_end, config={}).features([0])
    assert list((tmp_path / "cache" / "features").iterdir()) == []


def test_features_whose_shape_changes(clips, tmp_path):
    one_fold = [Clip(each.path, each.labels, 1) for each in clips]
    with pytest.raises(ValueError, match=r"\.wav: .*gave features of shape \(6,\), .* before \(32,\)"):
        dataset(one_fold, tmp_path, lambda waveform: waveform[:, : len(waveform)], config={}).features([0])


def test_a_file_of_another_rate_is_named(clips, tmp_path):
    write(clips[4].path, 700, 1100)
    made = dataset(clips, tmp_path)
    message = r"340\.wav: has a rate of 1100 Hz where 1000 Hz is expected; convert it first"
    with pytest.raises(audio.AudioError, match=message):
        made.features([0])
    with pytest.raises(audio.AudioError, match=message):
        made.waveform(4)
    clips[4].path.unlink()
    with pytest.raises(audio.AudioError, match=r"340\.wav: no such file"):
        dataset(clips, tmp_path).features([0])


def test_damaged_features_are_computed_again(clips, tmp_path):
    expected = dataset(clips[:1], tmp_path).features([0])
    (stored,) = (tmp_path / "cache" / "features").glob("*/features.npy")
    stored.write_bytes(stored.read_bytes()[:-5])
    assert torch.equal(dataset(clips[:1], tmp_path).features([0]), expected)
    stored.unlink()
    assert torch.equal(dataset(clips[:1], tmp_path).features([0]), expected)


def test_a_killed_build_leaves_no_features(clips, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(features.np, "save", die)
        with pytest.raises(Killed):
            dataset(clips[:2], tmp_path).features([0])
    assert list((tmp_path / "cache" / "features").iterdir()) == []
    assert dataset(clips[:2], tmp_path).features([0, 1]).shape == (2, 3, 8)


def test_the_default_place_is_that_of_all_caches(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOINTERP_CACHE", str(tmp_path / "root"))
    dataset(clips[:1], tmp_path, cache_folder=None).features([0])
    (folder,) = (cache.default_root() / "features").iterdir()
    assert {path.name for path in folder.iterdir()} == {"features.npy", "digests.npy"}
    assert folder.parent.parent == tmp_path / "root"
