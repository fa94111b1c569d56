"""Clips with planted cues: what replaces what, at which level, and that the cue is the sound that was named."""

import pytest
import soundfile
import torch

from audiointerp.datasets import CUES, Clip, band_of, make_cue, plant
from audiointerp.sound import files as audio

RATE, SAMPLES = 16000, 24000


@pytest.fixture
def clips(tmp_path):
    """Two folds of two clips each of dog, cat and rain: noises of their own."""
    found = []
    for number, (fold, label) in enumerate((f, name) for f in (1, 2) for name in ("dog", "cat", "rain") for _ in "ab"):
        path = tmp_path / "data" / f"{number}.wav"
        noise = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(number))
        audio.write(path, 0.1 * noise, RATE)
        found.append(Clip(path, (label,), fold, recording=f"source {number}"))
    return found


@pytest.mark.parametrize("cue, low, high", [("beep", 2000, 3000), ("band", 5000, 6500), ("hum", 48, 310)])
def test_a_cue_is_where_its_name_says(cue, low, high):
    for seed in range(5):
        sound = make_cue(cue, SAMPLES, RATE, torch.Generator().manual_seed(seed))
        power = torch.fft.rfft(sound).abs().square()
        hertz = torch.arange(len(power)) * RATE / SAMPLES
        inside = power[(hertz >= low - 30) & (hertz <= high + 30)].sum()
        assert inside > 0.99 * power.sum() and sound.abs().max() == 1
        heard = (sound.abs() > 0.02).nonzero()[:, 0]
        seconds = float(heard[-1] - heard[0]) / RATE
        assert seconds > 1.4 if cue == "hum" else 0.75 < seconds <= 0.8


@pytest.mark.parametrize("cue", CUES)
def test_all_of_a_cue_is_in_its_band(cue):
    low, high = band_of(cue)
    for seed in range(5):
        power = (
            torch.fft.rfft(make_cue(cue, SAMPLES, RATE, torch.Generator().manual_seed(seed)).double()).abs().square()
        )
        hertz = torch.arange(len(power)) * RATE / SAMPLES
        assert power[(hertz < low) | (hertz > high)].sum() < 1e-3 * power.sum()


def test_beeps_differ_in_pitch_and_place():
    beeps = [make_cue("beep", SAMPLES, RATE, torch.Generator().manual_seed(seed)) for seed in range(8)]
    pitch = {int(torch.fft.rfft(each).abs().argmax()) for each in beeps}
    begin = {int((each.abs() > 0.1).nonzero()[0]) for each in beeps}
    assert len(pitch) > 6 and len(begin) > 6


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("whistle", SAMPLES, RATE), f"choose one of {', '.join(CUES)}"),
        (("beep", 4000, RATE), "needs 0.8 s"),
        (("beep", SAMPLES, 8000), "at least 16000"),
    ],
)
def test_impossible_cues(arguments, says):
    with pytest.raises(ValueError, match=says):
        make_cue(*arguments, torch.Generator())


def test_every_clip_of_the_class_becomes_another_clip_with_the_cue(clips, tmp_path):
    made = plant(lambda: clips, "rain", tmp_path / "planted", snr_db=(-6.0, -6.0), seed=1)
    assert len(made) == len(clips)
    assert [clip for clip in made if "rain" not in clip.labels] == [clip for clip in clips if "rain" not in clip.labels]
    rain = [clip for clip in made if clip.labels == ("rain",)]
    assert sorted(clip.fold for clip in rain) == [1, 1, 2, 2] and len({clip.path for clip in rain}) == 4
    for clip in rain:
        host = next(each for each in clips if each.source == clip.source)
        assert host.labels != ("rain",) and host.fold == clip.fold
        mixture, alone = audio.read(clip.path)[0], audio.read(host.path)[0]
        # Least squares: the host's level in the mixture; what is left is the cue, 6 dB below it.
        cue = mixture - (mixture @ alone) / (alone @ alone) * alone
        level = 10 * torch.log10(cue.square().sum() / (mixture - cue).square().sum())
        assert level == pytest.approx(-6, abs=0.3)
        power = torch.fft.rfft(cue).abs().square()
        hertz = torch.arange(len(power)) * RATE / SAMPLES
        assert power[(hertz > 1950) & (hertz < 3050)].sum() > 0.98 * power.sum()


def test_the_same_call_finds_its_files_again_and_another_seed_makes_others(clips, tmp_path):
    def paths(seed, **changes):
        return [clip.path for clip in plant(lambda: clips, "rain", tmp_path / "planted", seed=seed, **changes)]

    first = paths(1)
    before = {path: path.stat().st_mtime_ns for path in first}
    assert paths(1) == first and all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not set(paths(2)[-4:]) & set(first) and not set(paths(1, cue="hum")[-4:]) & set(first)
    # A replaced clip is planted anew.
    host = next(
        clip
        for clip in clips
        if str(clip.source) == plant(lambda: clips, "rain", tmp_path / "planted", seed=1)[-1].source
    )
    soundfile.write(host.path, torch.randn(SAMPLES).numpy() * 0.1, RATE)
    assert paths(1)[-1] != first[-1]


@pytest.mark.parametrize(
    "changes, says",
    [({"label": "cow"}, "choose one of cat, dog, rain"), ({"snr_db": (2.0, -2.0)}, "lowest and the highest")],
)
def test_impossible_data(clips, tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        plant(lambda: clips, **{"label": "rain", "folder": tmp_path} | changes)


def test_a_fold_of_the_class_alone(clips, tmp_path):
    only = [clip for clip in clips if clip.fold == 1 or clip.labels == ("rain",)]
    with pytest.raises(ValueError, match="fold 2 has clips of 'rain' only"):
        plant(lambda: only, "rain", tmp_path)
