"""Conditions: gains measured on the stems, never the own class, the published protocol's levels, one draw a seed."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.datasets import Clip, ClipDataset, read_mixtures
from audiointerp.evaluation.conditions import CleanClips, Mixtures, Noise
from audiointerp.sound.files import resample

RATE = 16000
LABELS = ("bell", "cat", "dog")
ITEM_ID = re.compile(r"[a-z][a-z0-9_]{0,31}")


@pytest.fixture(scope="module")
def six_clips(tmp_path_factory) -> ClipDataset:
    """Six clips of 0.5 s, two a class; names as people give them."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    clips = []
    for number in range(6):
        path = folder / f"{number}-My {LABELS[number // 2]} (take {number}).wav"
        soundfile.write(path, 0.3 * rng.uniform(-1, 1, RATE // 2) * (0.1 + number), RATE, subtype="FLOAT")
        clips.append(Clip(path, (LABELS[number // 2],), 4))
    return ClipDataset(clips, LABELS, RATE, 0.5)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """A long recording at another rate that counts upwards, and a short one."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(1)
    soundfile.write(folder / "long.wav", 0.4 * rng.uniform(-1, 1, 3 * 22050), 22050)
    (folder / "sub").mkdir()
    soundfile.write(folder / "sub" / "short.flac", 0.4 * rng.uniform(-1, 1, RATE // 5), RATE)
    return folder


def wave(item) -> torch.Tensor:
    (window,) = item.windows()
    return window.waveform[0]


def level_db(item) -> float:
    own, other = (each.double().square().sum() for each in item.stems.values())
    return float(10 * (own / other).log10())


def made(condition, dataset, folder, name="here", seed=0):
    return list(condition.items(name, dataset, folder, seed))


CONDITIONS = {
    "clean": CleanClips(),
    "some": CleanClips(clips=3),
    "mixtures_0db": Mixtures(count=8),
    "mixtures_12db": Mixtures(count=8, gains=(0.8, 0.2)),
    "white_noise": Noise("white", gains=(1.0, 0.5)),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_items_are_whole_and_named(six_clips, tmp_path, name):
    items = made(CONDITIONS[name], six_clips, tmp_path, name)
    assert len(items) == {"clean": 6, "some": 3, "white_noise": 6}.get(name, 8)
    ids = [item.item_id for item in items]
    assert len(set(ids)) == len(ids) and all(ITEM_ID.fullmatch(each) for each in ids), ids
    for item in items:
        assert item.condition == name and item.label in LABELS
        assert wave(item).shape == (RATE // 2,) and item.frames() == RATE // 2
        assert item.sample_rate == item.file_rate == RATE
        if item.stems:
            assert next(iter(item.stems)) == item.label
            assert wave(item).abs().max() == pytest.approx(1, abs=1e-6)
            torch.testing.assert_close(sum(item.stems.values())[0], wave(item), atol=1e-6, rtol=0)


def test_ids_of_several_conditions_do_not_meet(six_clips, tmp_path):
    ids = [
        item.item_id
        for name, each in CONDITIONS.items()
        if name != "some"
        for item in made(each, six_clips, tmp_path, name)
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("condition", "db"),
    [
        (Mixtures(count=6), 0.0),
        (Mixtures(count=6, snr_db=-5.0), -5.0),
        (Mixtures(count=6, gains=(0.8, 0.2)), 12.04),
        (Noise("white", gains=(1.0, 0.5)), 6.02),
        (Noise("white", snr_db=3.0), 3.0),
        (Noise("white"), 0.0),
    ],
)
def test_levels_measured_on_the_stems(six_clips, tmp_path, condition, db):
    for item in made(condition, six_clips, tmp_path):
        assert level_db(item) == pytest.approx(db, abs=0.005) and item.snr_db == pytest.approx(db, abs=0.005)


def test_mixtures_never_hold_two_sounds_of_one_class(six_clips, tmp_path):
    items = made(Mixtures(count=30), six_clips, tmp_path)
    pairs = [tuple(item.stems) for item in items]
    assert all(len(pair) == 2 for pair in pairs)  # one class twice would be one key
    assert {first for first, _ in pairs} == set(LABELS) and len(set(pairs)) == 6
    with open(tmp_path / "mixtures" / "here" / "mixtures.csv", newline="") as file:
        bases = [row["base"] for row in csv.DictReader(file)]
    assert {bases.count(base) for base in bases} == {5}  # each clip equally often


def test_white_noise_is_white_and_new_for_each_clip(six_clips, tmp_path):
    noises = [item.stems["noise"][0] for item in made(Noise("white"), six_clips, tmp_path)]
    for noise in noises:
        power = torch.fft.rfft(noise).abs().square()
        quarters = power.split(len(power) // 4 + 1)
        assert max(each.mean() for each in quarters) < 1.3 * min(each.mean() for each in quarters)
    for i, noise in enumerate(noises[1:]):
        assert abs(torch.nn.functional.cosine_similarity(noise, noises[i], dim=0)) < 0.1


def test_recordings_are_cropped_or_padded(six_clips, tmp_path, recordings):
    """Each stretch is one of the files', at the clips' rate; the short one ends in silence."""
    items = made(Noise(str(recordings)), six_clips, tmp_path, seed=1)
    assert len(items) == 6
    long, short = (
        torch.from_numpy(each).float()
        for each in (soundfile.read(recordings / "long.wav")[0], soundfile.read(recordings / "sub" / "short.flac")[0])
    )
    long = resample(long[None], 22050, RATE)[0]
    starts = []
    for item in items:
        noise = item.stems["noise"][0]
        if noise[RATE // 5 :].abs().max() == 0:
            ratio = noise[: RATE // 5] / short
            torch.testing.assert_close(noise[: RATE // 5], ratio.median() * short, atol=1e-4, rtol=1e-3)
            continue
        found = torch.nn.functional.conv1d(long[None, None], noise[None, None])[0, 0]
        start = int(found.argmax())
        piece = long[start : start + RATE // 2]
        assert torch.nn.functional.cosine_similarity(piece, noise, dim=0) > 0.9999
        starts.append(start)
    assert 1 <= len(starts) < 6 and len(set(starts)) == len(starts) and max(starts) > RATE // 2


def test_no_data_says_why(tmp_path):
    assert CleanClips().missing == Mixtures().missing == Noise("white").missing == ""
    assert "no folder" in Noise().missing
    assert str(tmp_path / "gone") in Noise(str(tmp_path / "gone")).missing
    # Found out before hours of other conditions, not after them.
    assert "no audio" in Noise(str(tmp_path)).missing
    soundfile.write(tmp_path / "a.wav", np.ones(10), RATE)
    assert Noise(str(tmp_path)).missing == ""


@pytest.mark.parametrize("name", ["some", "mixtures_0db", "white_noise"])
def test_every_draw_is_a_function_of_the_seed(six_clips, tmp_path, name):
    first, again, other = (
        made(CONDITIONS[name], six_clips, tmp_path / where, name, seed)
        for where, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert [each.item_id for each in first] == [each.item_id for each in again]
    assert all(torch.equal(wave(one), wave(two)) for one, two in zip(first, again))
    assert any(not torch.equal(wave(one), wave(two)) for one, two in zip(first, other))


def test_recordings_are_drawn_by_the_seed(six_clips, tmp_path, recordings):
    first, again, other = (made(Noise(str(recordings)), six_clips, tmp_path, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(wave(one), wave(two)) for one, two in zip(first, again))
    assert any(not torch.equal(wave(one), wave(two)) for one, two in zip(first, other))


def test_mixtures_are_written_once(six_clips, tmp_path):
    first = made(Mixtures(count=3), six_clips, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    again = made(Mixtures(count=3), six_clips, tmp_path)
    assert len(times) == 9 and times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert all(torch.equal(wave(one), wave(two)) for one, two in zip(first, again))


def test_silent_clips_cannot_be_mixed_with_noise(six_clips, tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(RATE // 2), RATE)
    dataset = ClipDataset([*six_clips.clips[:2], Clip(path, ("cat",), 4)], LABELS, RATE, 0.5)
    assert len(made(CleanClips(), dataset, tmp_path)) == 3
    items = made(Noise("white"), dataset, tmp_path)
    assert [item.label for item in items] == ["bell", "bell"]


@pytest.mark.parametrize("gains", [(1.0, 0.0), (-1.0, 0.5), (1.0, float("inf"))])
def test_gains_that_cannot_be(six_clips, tmp_path, gains):
    for condition in (Mixtures(2, gains=gains), Noise("white", gains=gains)):
        with pytest.raises(ValueError, match="gain") as caught:
            made(condition, six_clips, tmp_path)
        assert "\n" not in str(caught.value)


def test_items_name_their_recordings(six_clips, tmp_path):
    """Clips cut from one recording share its name; a mixture has those of both of its clips."""
    named = [replace(clip, recording=f"r{i // 2}") for i, clip in enumerate(six_clips.clips)]
    shared = ClipDataset(named, six_clips.labels, six_clips.sample_rate, six_clips.seconds)
    of = {str(clip.path.resolve()): clip.recording for clip in named}
    clean = list(CleanClips().items("clean", shared, tmp_path, 0))
    assert [item.recordings for item in clean] == [(of[str(Path(item.source).resolve())],) for item in clean]
    table = tmp_path / "mixtures" / "mixed" / "mixtures.csv"
    mixed = list(Mixtures(count=3).items("mixed", shared, tmp_path, 0))
    for item, each in zip(mixed, read_mixtures(table)):
        assert item.recordings == (of[str(each.base.resolve())], of[str(each.other.resolve())])
    white = list(Noise("white", clips=2).items("noisy", shared, tmp_path, 0))
    assert all(len(item.recordings) == 1 and item.recordings[0] in of.values() for item in white)
