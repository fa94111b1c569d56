import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from scipy import signal

from audiointerp.datasets import synthetic
from audiointerp.datasets.synthetic import CLASSES, make_synthetic, synthesize
from audiointerp.sound.spectrogram import STFT, log_magnitude

RATE = 16000


def clip_of(label, seed=0, **settings):
    return synthesize(label, np.random.default_rng(seed), **settings)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_synthetic(tmp_path_factory.mktemp("data") / "synthetic")


@pytest.fixture(scope="module")
def clips(dataset):
    """The whole default dataset: waveforms at peak 1, targets, folds."""
    table = pd.read_csv(dataset / "meta" / "esc50.csv")
    waveforms = np.stack([soundfile.read(dataset / "audio" / name, dtype="float32")[0] for name in table.filename])
    waveforms /= np.abs(waveforms).max(1, keepdims=True)
    return torch.from_numpy(waveforms), torch.tensor(table.target), torch.tensor(table.fold)


@pytest.fixture(scope="module")
def spectrograms(clips):
    return torch.cat([log_magnitude(STFT()(waveform)) for waveform in clips[0].split(20)])


# --- one clip ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize(("seconds", "sample_rate"), [(5.0, RATE), (0.5, RATE), (1.3, 44100)])
def test_clip_has_the_length_asked_and_a_legal_level(label, seconds, sample_rate):
    for seed in range(5):
        clip = clip_of(label, seed, seconds=seconds, sample_rate=sample_rate)
        assert clip.shape == (round(seconds * sample_rate),)
        assert clip.dtype == np.float32
        assert 0.099 < np.abs(clip).max() <= 1
        assert clip.std() > 0.001


@pytest.mark.parametrize("label", CLASSES)
def test_same_generator_state_same_clip_another_state_another_clip(label):
    assert np.array_equal(clip_of(label), clip_of(label))
    correlation = np.corrcoef(clip_of(label, 0, seconds=1), clip_of(label, 1, seconds=1))[0, 1]
    assert abs(correlation) < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "dog"}, "no synthetic class 'dog'; choose one of siren, bell"),
        ({"seconds": 0.1}, "seconds is 0.1; .* at least 0.5 s"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"sample_rate": 8000}, "sample_rate is 8000 Hz; .* at least 16000 Hz"),
    ],
)
def test_clip_that_cannot_be_made(change, message):
    with pytest.raises(ValueError, match=message):
        synthesize(**{"label": "bell", "rng": np.random.default_rng(0), **change})


def pitch_spread(clip):
    """Octaves between the 10th and 90th percentile of the strongest frequency, over the loud frames."""
    _, _, stft = signal.stft(clip, RATE, nperseg=1024)
    peak = np.abs(stft).max(0)
    strongest = np.abs(stft)[:, peak > peak.max() / 3].argmax(0)
    return np.ptp(np.log2(np.quantile(strongest, [0.1, 0.9])))


def test_sirens_swing_in_pitch_and_crickets_do_not():
    sirens = [pitch_spread(clip_of("siren", seed)) for seed in range(10)]
    crickets = [pitch_spread(clip_of("cricket", seed)) for seed in range(10)]
    assert np.median(sirens) > 0.4
    assert np.median(crickets) < 0.1


def irregularity(clip):
    """Spread of the intervals between the peaks of the envelope, relative to their mean: 0 for a metronome."""
    envelope = np.convolve(np.abs(clip), np.hanning(RATE // 50), mode="same")
    peaks, _ = signal.find_peaks(envelope, height=envelope.max() / 4, distance=RATE // 25)
    return np.diff(peaks).std() / np.diff(peaks).mean()


def test_clocks_tick_regularly_and_rain_does_not():
    clocks = [irregularity(clip_of("clock", seed)) for seed in range(10)]
    rain = [irregularity(clip_of("rain", seed)) for seed in range(10)]
    assert np.median(clocks) < 0.1
    assert np.median(rain) > 0.3


# --- the folder -------------------------------------------------------------------------------------------------------


def test_layout_is_that_of_esc50(dataset):
    table = pd.read_csv(dataset / "meta" / "esc50.csv")
    assert list(table) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    assert len(table) == 400
    assert (table.groupby(["fold", "target"]).size() == 8).all()
    assert [*dict.fromkeys(table.sort_values("target").category)] == list(CLASSES)
    assert table.src_file.is_unique
    named = [f"{r.fold}-{r.src_file}-{r.take}-{r.target}.wav" for r in table.itertuples()]
    assert table.filename.tolist() == named
    assert sorted(named) == sorted(os.listdir(dataset / "audio"))
    info = soundfile.info(dataset / "audio" / named[17])
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (80000, RATE, 1, "PCM_16")


def test_clips_depend_on_class_and_number_but_not_on_how_many_there_are(tmp_path):
    few = make_synthetic(tmp_path / "few", clips_per_class=2, folds=2, seconds=0.5)
    more = make_synthetic(tmp_path / "more", clips_per_class=3, folds=2, seconds=0.5)
    second_bell = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(1, 1)))
    expected = synthesize("bell", second_bell, 0.5)
    for folder, name in ((few, "2-3-A-1.wav"), (more, "2-4-A-1.wav")):
        written, _ = soundfile.read(folder / "audio" / name)
        assert np.abs(written - expected).max() <= 2**-15


def test_seed_decides_every_byte(tmp_path):
    settings = {"clips_per_class": 2, "folds": 2, "seconds": 0.5}
    first = contents(make_synthetic(tmp_path / "a" / "data", seed=3, **settings))
    assert contents(make_synthetic(tmp_path / "b" / "data", seed=3, **settings)) == first
    other = contents(make_synthetic(tmp_path / "c" / "data", seed=4, **settings))
    audio = [path for path in first if path.suffix == ".wav"]
    assert len(audio) == 20
    assert all(first[path] != other[path] for path in audio)


def test_complete_folder_is_left_alone(tmp_path, monkeypatch):
    tiny = {"clips_per_class": 1, "folds": 1, "seconds": 0.5}
    (tmp_path / "data").mkdir()  # an empty folder is room
    make_synthetic(tmp_path / "data", **tiny)
    monkeypatch.setattr(synthetic, "synthesize_with_times", None)  # any new clip would fail
    assert make_synthetic(tmp_path / "data", **tiny) == tmp_path / "data"


def test_other_content_is_refused_and_kept(tmp_path):
    tiny = {"clips_per_class": 1, "folds": 1, "seconds": 0.5}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis has content that is not the synthetic dataset"):
        make_synthetic(tmp_path / "thesis", **tiny)
    with pytest.raises(ValueError, match=r"chapter.txt has content that is not"):
        make_synthetic(tmp_path / "thesis" / "chapter.txt", **tiny)
    assert contents(tmp_path / "thesis") == {Path("chapter.txt"): b"mine"}
    folder = make_synthetic(tmp_path / "data", **tiny)
    with pytest.raises(ValueError, match=r"data holds a synthetic dataset made as .*'seed': 0.*not.*'seed': 1"):
        make_synthetic(folder, seed=1, **tiny)
    (folder / "audio" / "1-4-A-4.wav").unlink()
    with pytest.raises(ValueError, match=r"data lacks audio/1-4-A-4.wav \(1 files in all\); delete it"):
        make_synthetic(folder, **tiny)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips_per_class": 3}, "3 clips per class cannot fill 5 folds"),
        ({"folds": 0}, "cannot fill 0 folds"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": 0.0}, "seconds is 0.0"),
    ],
)
def test_settings_that_make_no_sense(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        make_synthetic(tmp_path / "data", **settings)
    assert not any(tmp_path.iterdir())


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def write(path, *args, **kwargs):
        if path.name.endswith("-5.wav"):
            raise KeyboardInterrupt
        real_write(path, *args, **kwargs)

    real_write = soundfile.write
    monkeypatch.setattr(soundfile, "write", write)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path / "data", clips_per_class=1, folds=1, seconds=0.5)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [0, 1])
def test_two_processes_at_once(tmp_path, monkeypatch, seed):
    """The other one finishes just before the rename: fine when it made the same dataset, an error otherwise."""
    tiny = {"clips_per_class": 1, "folds": 1, "seconds": 0.5}

    rename = os.replace

    def replace(source, destination):
        if not os.path.isdir(source):  # a file of the dataset
            return rename(source, destination)
        monkeypatch.undo()
        make_synthetic(destination, seed=seed, **tiny)
        return os.replace(source, destination)

    monkeypatch.setattr(synthetic.os, "replace", replace)
    if seed == 0:
        assert make_synthetic(tmp_path / "data", **tiny) == tmp_path / "data"
    else:
        with pytest.raises(ValueError, match="holds a synthetic dataset"):
            make_synthetic(tmp_path / "data", **tiny)
    assert os.listdir(tmp_path) == ["data"]
    assert json.loads((tmp_path / "data" / "meta" / "synthetic.json").read_text())["seed"] == seed


# --- what it is for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "test"), [([1, 2, 3, 4], 5), ([1, 2, 3], 4), ([1, 2, 3], 5)])
def test_average_spectrum_does_not_give_the_class_away(clips, spectrograms, train, test):
    _, target, fold = clips
    spectrum, seen = spectrograms.mean(-1), torch.isin(fold, torch.tensor(train))
    means = torch.stack([spectrum[seen & (target == k)].mean(0) for k in range(len(CLASSES))])
    nearest = torch.cdist(spectrum[fold == test], means).argmin(1)
    accuracy = (nearest == target[fold == test]).float().mean()
    assert 0.2 < accuracy <= 0.7


def si_sdr(estimate, reference):
    """Le Roux et al. (2019), eq. (1), in dB."""
    projection = (estimate @ reference) / (reference @ reference) * reference
    return 10 * torch.log10(projection.square().sum() / (estimate - projection).square().sum())


def test_ideal_ratio_mask_separates_a_mixed_pair(clips):
    waveform, target, _ = clips
    rng, stft, improvements = np.random.default_rng(0), STFT(), []
    while len(improvements) < 40:
        first, second = rng.integers(len(waveform), size=2)
        if target[first] == target[second]:
            continue
        wanted, other = (waveform[k] / waveform[k].norm() for k in (first, second))
        mixture = wanted + other
        kept, left = stft(wanted[None]).abs(), stft(other[None]).abs()
        estimate = stft.inverse(stft(mixture[None]) * kept / (kept + left + 1e-9), len(mixture))[0]
        improvements.append(si_sdr(estimate, wanted) - si_sdr(mixture, wanted))
    assert np.mean(improvements) > 14
    assert np.min(improvements) > 6
