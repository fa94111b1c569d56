"""Scenes of several sounds at known times: what is written, what is read back, and what is refused."""

import csv
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from audiointerp.datasets import Clip, ClipDataset, SceneSettings, make_synthetic, read_esc50, read_events, read_scenes
from audiointerp.datasets.scenes import BACKGROUND, write_scenes
from audiointerp.datasets.synthetic import synthesize, synthesize_with_times

RATE = 8000
SETTINGS = SceneSettings(items=6, seed=3, event_seconds=(0.2, 0.5))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> ClipDataset:
    """Two clips each of four classes: bursts of noise at known times; two clips share a recording."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    made = []
    for number in range(8):
        sound = 0.001 * rng.standard_normal(RATE)
        for start in (0.1, 0.6):
            sound[round(start * RATE) : round((start + 0.25) * RATE)] += 0.3 * rng.standard_normal(RATE // 4)
        soundfile.write(folder / f"{number}.wav", sound, RATE, subtype="FLOAT")
        recording = "shared" if number in (0, 2) else str(number)
        made.append(Clip(folder / f"{number}.wav", ("abcd"[number // 2],), 1, recording=recording))
    return ClipDataset(made, "abcd", RATE, 2.0)


@pytest.fixture(scope="module")
def written(clips, tmp_path_factory) -> Path:
    return write_scenes(clips, tmp_path_factory.mktemp("scenes"), SETTINGS)


def test_scenes_are_the_sums_of_their_stems(written):
    scenes = read_scenes(written)
    assert [each.item_id for each in scenes] == [f"s_{number:04d}" for number in range(6)]
    for scene in scenes:
        whole, rate = soundfile.read(scene.scene, dtype="float32")
        stems = [soundfile.read(stem.stem, dtype="float32")[0] for stem in scene.stems]
        assert rate == RATE and len(whole) == 2 * RATE and {len(stem) for stem in stems} == {2 * RATE}
        assert np.abs(whole).max() == pytest.approx(1, abs=1e-6)
        np.testing.assert_array_equal(whole, torch.stack([torch.from_numpy(stem) for stem in stems]).sum(0).numpy())
        assert scene.stems[-1].label == BACKGROUND and 3 <= len(scene.stems) <= 4


def test_sounds_of_a_scene_have_classes_and_recordings_of_their_own(written):
    targets = []
    for scene in read_scenes(written):
        sounds = scene.stems[:-1]
        for names in ([each.label for each in sounds], [each.recording for each in sounds]):
            assert len(set(names)) == len(names)
        assert set(scene.events) == {each.label for each in sounds}
        targets.append(sounds[0].source)
    assert len(set(targets)) == 6  # no clip is explained twice before each was explained once


def test_times_are_those_of_the_stems(written):
    """Independent of the writer: within the times a stem is loud, outside of them it is at its clip's background."""
    for scene in read_scenes(written):
        levels = []
        for stem in scene.stems[:-1]:
            sound = soundfile.read(stem.stem)[0]
            inside = np.zeros(len(sound), bool)
            for start, end in scene.events[stem.label]:
                assert 0 <= start < end <= 2.0 + 1e-9
                inside[round(start * RATE) : round(end * RATE)] = True
            onset = round(stem.onset_s * RATE)
            assert not sound[:onset].any() and abs(scene.events[stem.label][0][0] - stem.onset_s) < 0.02
            assert np.square(sound[~inside]).sum() < 0.01 * np.square(sound[inside]).sum()
            levels.append((stem.level_db, 10 * np.log10(np.square(sound[inside]).mean())))
            assert -6 <= stem.level_db <= 0
        for (wanted, found), (wanted_next, found_next) in pairwise(levels):
            assert found - found_next == pytest.approx(wanted - wanted_next, abs=0.2)


def test_the_seed_decides(clips, written, tmp_path):
    again = write_scenes(clips, tmp_path / "again", SETTINGS)
    other = write_scenes(clips, tmp_path / "other", SceneSettings(items=6, seed=4, event_seconds=(0.2, 0.5)))
    for name in ("events.csv", "audio/s_0003_scene.wav", "audio/s_0005_stem1.wav"):
        assert (again.parent / name).read_bytes() == (written.parent / name).read_bytes()
        assert (other.parent / name).read_bytes() != (written.parent / name).read_bytes()


def test_without_noise_and_with_one_sound(clips, tmp_path):
    settings = SceneSettings(items=2, events=(1, 1), event_seconds=(0.3, 0.3), noise_db=None)
    for scene in read_scenes(write_scenes(clips, tmp_path, settings)):
        assert len(scene.stems) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"items": 0}, "1 to 100000 scenes"),
        ({"events": (3, 2)}, "fewest and the most"),
        ({"events": (5, 5)}, "ask for fewer events"),
        ({"event_seconds": (0.0, 1.0)}, "the shortest first"),
        ({"event_seconds": (0.5, 3.0)}, "a scene has 2 s"),
        ({"level_db": (0.0, -6.0)}, "lowest and highest"),
        ({"noise_db": float("nan")}, "within 100 dB"),
        ({"items": 10**11}, "1 to 100000"),
        ({"seed": 10**22}, "a whole number from"),
    ],
)
def test_settings_are_checked(clips, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        write_scenes(clips, tmp_path, SceneSettings(**{"event_seconds": (0.2, 0.5)} | settings))
    assert not list(tmp_path.iterdir())


CHANGES = {
    "item_id": [("../x", "slash"), ("..", "'..'"), ("", "empty")],
    "label": [("", "empty"), ("zebra", "no times of 'zebra'")],
    "scene": [("gone.wav", "no such file"), ("audio/s_0001_scene.wav", "here and")],
    "stem": [("gone.wav", "no such file")],
    "onset_s": [("soon", "expected a number"), ("inf", "expected a number")],
    "seed": [("1.5", "whole number")],
}


@pytest.mark.parametrize(("column", "text", "message"), [(c, *each) for c, many in CHANGES.items() for each in many])
def test_damaged_tables_are_refused_by_row(written, column, text, message):
    rows = list(csv.DictReader(written.read_text().splitlines()))
    rows[1][column] = text
    path = written.with_name(f"changed_{column}_{abs(hash(text))}.csv")
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as caught:
        read_scenes(path)
    assert "row 3" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("column", "text"), [("onset_s", "-5"), ("onset_s", "999"), ("end_s", "1000")])
def test_sounds_outside_their_scene_are_refused(written, tmp_path, column, text):
    folder = shutil.copytree(written.parent, tmp_path / "changed")
    path = folder / ("events.csv" if column == "end_s" else "scenes.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    rows[0][column] = text
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(
        ValueError, match=rf"{path.name}: .* at -?{text.lstrip('-')} s in scene s_0000, which lasts 2 s"
    ):
        read_scenes(folder / "scenes.csv")


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e12, 0.0, -1.0])
def test_lengths_of_no_clip(clips, seconds):
    with pytest.raises(ValueError, match="clips last more than 0"):
        ClipDataset(clips.clips, clips.labels, 16000, seconds)


def test_scenes_that_would_fill_the_memory(clips, tmp_path):
    long = ClipDataset(clips.clips, clips.labels, 16000, 3600)
    with pytest.raises(ValueError, match="seconds is 3600; 3 sounds of that length would fill the memory"):
        write_scenes(long, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,dog,1.0,0.5", "lasts from 1 to 0.5"),
        ("a.wav,dog,-1,0.5", "lasts from -1"),
        ("a.wav,dog,0,1e30", "end before"),
        ("a.wav,dog,zero,1", "start_s is 'zero'"),
        ("a.wav,,0,1", "label is empty"),
        (",dog,0,1", "file is empty"),
        ("a.wav,dog,0", "4 cells"),
    ],
)
def test_damaged_times_are_refused(tmp_path, line, message):
    (tmp_path / "events.csv").write_text(f"file,label,start_s,end_s\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_events(tmp_path / "events.csv")


def test_the_synthetic_default_knows_its_times(tmp_path):
    data = make_synthetic(tmp_path / "data", clips_per_class=1, folds=1, seconds=1.0)
    events = read_events(data / "meta" / "events.csv")
    clips = read_esc50(data)
    assert len(events) == len(clips) == 10
    for clip in clips:
        assert clip.events == events[clip.path.name][clip.labels[0]] and clip.events[-1][1] <= 1.0
    before = (data / "meta" / "events.csv").read_bytes()
    (data / "meta" / "events.csv").unlink()  # as a folder of an earlier version
    assert all(clip.events is None for clip in read_esc50(data))
    make_synthetic(data, clips_per_class=1, folds=1, seconds=1.0)
    assert (data / "meta" / "events.csv").read_bytes() == before


def test_synthetic_times_are_those_of_loud_moments():
    """Of groups of knocks with pauses, 10 dB above the noise at least: the recording is louder within the times."""
    for seed in range(3):
        clip, times = synthesize_with_times("knock", np.random.default_rng(seed), 3.0)
        np.testing.assert_array_equal(clip, synthesize("knock", np.random.default_rng(seed), 3.0))
        inside = np.zeros(len(clip), bool)
        for start, end in times:
            inside[round(start * 16000) : round(end * 16000)] = True
        assert 0.1 < inside.mean() < 0.95
        assert np.square(clip[inside]).mean() > 8 * np.square(clip[~inside]).mean()
