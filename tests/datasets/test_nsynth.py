"""NSynth: its table, its files, its two splits, and its counts."""

import json
import logging
import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

from audiointerp.datasets import nsynth
from audiointerp.datasets.clips import Clip, split
from audiointerp.datasets.nsynth import Count, count_classes, format_counts, instrument_of, read_nsynth


def entry(name: str, **changes) -> dict:
    """What NSynth's table says of a note called `name`."""
    instrument, pitch, velocity = name.rsplit("-", 2)
    family, source, _ = instrument.rsplit("_", 2)
    return {
        "note": 7, "note_str": name, "instrument": 3, "instrument_str": instrument, "pitch": int(pitch),
        "velocity": int(velocity), "sample_rate": 16000, "qualities": [0] * 10, "qualities_str": [],
        "instrument_family": 0, "instrument_family_str": family, "instrument_source": 0,
        "instrument_source_str": source,
    } | changes  # fmt: skip


def notes(instrument: str, pitches=(60,), velocities=(50, 100)) -> list[str]:
    return [f"{instrument}-{pitch:03d}-{velocity:03d}" for pitch in pitches for velocity in velocities]


def make_split(root: Path, name: str, names: list[str], suffix: str = ".wav") -> Path:
    folder = root / f"nsynth-{name}"
    (folder / "audio").mkdir(parents=True)
    (folder / "examples.json").write_text(json.dumps({each: entry(each) for each in names}))
    for each in names:
        (folder / "audio" / f"{each}{suffix}").touch()
    return folder


@pytest.fixture
def small(tmp_path) -> Path:
    """Three splits; bass and synth_lead everywhere, of three sources in training."""
    bass = notes("bass_acoustic_000", range(40, 47)) + notes("bass_electronic_001") + notes("bass_synthetic_002")
    make_split(tmp_path, "train", bass + notes("reed_acoustic_000", range(60, 72)) + notes("synth_lead_synthetic_000"))
    make_split(tmp_path, "valid", notes("bass_acoustic_003", (45,)) + notes("reed_acoustic_003", (62,)))
    make_split(tmp_path, "test", notes("bass_acoustic_004", (50,)) + notes("reed_acoustic_004", (66,)))
    return tmp_path


# --- real notes ------------------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_readme(nsynth_gm):
    clips = read_nsynth(nsynth_gm)
    counts = count_classes(clips)
    # | bass | 66 (3) | 22 (1) | 22 (1) | 110 |
    row = re.compile(r"\| (\w+) \| (\d+) \((\d+)\) \| (\d+) \((\d+)\) \| (\d+) \((\d+)\) \| (\d+) \|")
    table = row.findall((nsynth_gm / "README.md").read_text())
    assert len(table) == 10
    expected = {
        family: {fold + 1: Count(int(cells[2 * fold]), int(cells[2 * fold + 1])) for fold in range(3)}
        for family, *cells in table
    }
    assert counts == expected
    assert len(clips) == 1156 == sum(int(cells[-1]) for _, *cells in table)
    assert all(clip.path.is_file() and clip.path.suffix == ".flac" for clip in clips)
    parts = split(clips, [1], [2], [3])
    assert len(parts.labels) == 10 and "synth_lead" not in parts.labels
    trained = {instrument_of(clip) for clip in parts.train}
    assert not trained & {instrument_of(clip) for clip in parts.valid + parts.test}


def test_folds_by_note(nsynth_gm):
    clips = read_nsynth(nsynth_gm, split="note")
    fold_of, pitches = {}, defaultdict(set)
    for clip in clips:
        instrument, pitch, _ = clip.path.stem.rsplit("-", 2)
        assert fold_of.setdefault((instrument, pitch), clip.fold) == clip.fold  # both velocities
        pitches[instrument].add(int(pitch))
    assert len(clips) == 1156 and len(fold_of) == 578 and len(pitches) == 59
    for instrument, found in pitches.items():
        dealt = [fold_of[instrument, f"{pitch:03d}"] for pitch in sorted(found)]
        # Any five neighbours are in five folds: no fold is far from any stretch of the range.
        assert all(len(set(dealt[i : i + 5])) == 5 for i in range(len(dealt) - 4))
    # Who has the lowest note differs within a family.
    lowest = {name: fold_of[name, f"{min(found):03d}"] for name, found in pitches.items()}
    assert {fold for name, fold in lowest.items() if name.startswith("bass")} == {1, 2, 3, 4, 5}


# --- layout and filters ----------------------------------------------------------------------------------------------


def test_the_published_split_and_the_default_source(small):
    clips = read_nsynth(small)
    assert clips[0] == Clip(small / "nsynth-train" / "audio" / "bass_acoustic_000-040-050.wav", ("bass",), 1)
    assert count_classes(clips) == {
        "bass": {1: Count(14, 1), 2: Count(2, 1), 3: Count(2, 1)},
        "reed": {1: Count(24, 1), 2: Count(2, 1), 3: Count(2, 1)},
    }


def test_filters(small):
    def stems(**wanted):
        return {clip.path.stem for clip in read_nsynth(small, **wanted)}

    every = ("acoustic", "electronic", "synthetic")
    basses = stems(sources=every, families=["bass"])
    assert {name[:5] for name in basses} == {"bass_"} and len(basses) == 14 + 4 + 4
    assert stems(families=["bass"], pitches=(45, 50), velocities=[100]) == {
        "bass_acoustic_000-045-100", "bass_acoustic_000-046-100",
        "bass_acoustic_003-045-100", "bass_acoustic_004-050-100",
    }  # fmt: skip


def test_valid_may_be_absent(small):
    for path in (small / "nsynth-valid" / "audio").iterdir():
        path.unlink()
    (small / "nsynth-valid" / "audio").rmdir()
    (small / "nsynth-valid" / "examples.json").unlink()
    (small / "nsynth-valid").rmdir()
    assert {clip.fold for clip in read_nsynth(small)} == {1, 3}


def test_either_suffix_and_files_of_other_kinds(tmp_path):
    make_split(tmp_path, "train", notes("organ_acoustic_000"), ".FLAC")
    make_split(tmp_path, "test", notes("organ_acoustic_001"), ".ogg")
    (tmp_path / "nsynth-train" / "audio" / "organ_acoustic_000-060-050.txt").touch()
    names = {clip.path.name for clip in read_nsynth(tmp_path)}
    assert names == {f"organ_acoustic_00{i}-060-{v}" for i, v in ((0, "050.FLAC"), (0, "100.FLAC"))} | {
        "organ_acoustic_001-060-050.ogg", "organ_acoustic_001-060-100.ogg",
    }  # fmt: skip


def test_notes_that_the_filter_drops_need_no_audio(small):
    for path in (small / "nsynth-train" / "audio").glob("*synthetic*"):
        path.unlink()
    assert len(read_nsynth(small)) == 46
    with pytest.raises(ValueError, match="audio: 2 of 30 notes have no audio file, first bass_synthetic_002-060-050"):
        read_nsynth(small, ("acoustic", "synthetic"), ["bass", "reed"], pitches=(45, 90), velocities=[50, 100])


def test_folds_by_note_join_an_instrument_of_two_splits(tmp_path):
    make_split(tmp_path, "train", notes("bass_acoustic_000", range(40, 50), (50,)))
    make_split(tmp_path, "test", notes("bass_acoustic_000", range(40, 50), (100,)))
    fold_of = defaultdict(set)
    for clip in read_nsynth(tmp_path, split="note"):
        fold_of[clip.path.stem[-7:-4]].add(clip.fold)
    assert fold_of == {f"{40 + i:03d}": {1 + i % 5} for i in range(10)}


def test_counts_are_logged_as_a_table(small, caplog):
    with caplog.at_level(logging.INFO, logger="audiointerp.datasets.nsynth"):
        read_nsynth(small, families=["reed"])
    (record,) = caplog.records
    assert record.getMessage().splitlines()[1:] == [
        "| family | train | valid | test |",
        "| --- | --- | --- | --- |",
        "| reed | 24 (1) | 2 (1) | 2 (1) |",
        "| all | 24 (1) | 2 (1) | 2 (1) |",
    ]


def test_an_empty_cell_of_the_table():
    table = format_counts({"bass": {1: Count(4, 2)}, "reed": {2: Count(3, 1)}}, {1: "a", 2: "b"})
    assert table.splitlines()[2:] == ["| bass | 4 (2) | 0 (0) |", "| reed | 0 (0) | 3 (1) |", "| all | 4 (2) | 3 (1) |"]


def test_instrument_of():
    path = Path("audio") / "synth_lead_synthetic_011-060-127.flac"
    assert instrument_of(path) == instrument_of(Clip(path, ("x",), 1)) == "synth_lead_synthetic_011"
    for wrong in ("dog.wav", "kazoo_acoustic_000-060-127.wav", "bass_acoustic_000-060.wav"):
        with pytest.raises(ValueError, match=f"{wrong}: is not named as a note of NSynth"):
            instrument_of(wrong)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"split": "clip"}, "split is 'clip'; it must be 'instrument' or 'note'"),
        ({"sources": ["acustic"]}, "sources names 'acustic', which NSynth does not have; it has acoustic, electronic"),
        ({"sources": "acoustic"}, "sources is 'acoustic'; give a list, of acoustic"),
        ({"sources": []}, r"sources is \[\]; give a list"),
        ({"families": ["bass", "lead"]}, "families names 'lead', which NSynth does not have; it has bass, brass"),
        ({"velocities": [26]}, "velocities names 26, .* it has 25, 50, 75, 100, 127"),
        ({"velocities": 50}, "velocities is 50; give a list"),
        ({"pitches": [60]}, r"pitches is \[60\]; give the lowest and the highest MIDI pitch"),
        ({"pitches": 60}, "pitches is 60; give the lowest and the highest"),
        ({"pitches": (60, 50)}, "pitches goes from 60 down to 50"),
        ({"pitches": (1, 5)}, r"no note passes the filter \(sources acoustic; families bass, .*; pitches 1 to 5; vel"),
        ({"families": ["organ"]}, "no note passes the filter"),
    ],
)
def test_bad_filters(small, wanted, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_nsynth(small, **wanted)
    assert "\n" not in str(caught.value)


def test_a_class_without_notes_in_a_split(small):
    with pytest.raises(ValueError, match="class 'organ' has no note in train after the filter; leave it out of `fam"):
        read_nsynth(small, families=["bass", "organ"])
    with pytest.raises(ValueError, match=r"class 'synth_lead' has no note in valid .* or set split to 'note'"):
        read_nsynth(small, ("acoustic", "synthetic"))
    # A class of the source that another filter empties does not vanish in silence.
    with pytest.raises(ValueError, match="class 'bass' has no note in train"):
        read_nsynth(small, pitches=(60, 80))
    with pytest.raises(ValueError, match=r"class 'bass' has no note in fold 2 after the filter; leave it out of `fam"):
        read_nsynth(small, pitches=(45, 45), families=["bass"], split="note")


def test_missing_folders_and_files(small, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder; give the folder of nsynth-train"):
        read_nsynth(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nsynth-train: no such folder; unpack"):
        read_nsynth(small / "nsynth-test")
    os.rename(small / "nsynth-test" / "audio", small / "nsynth-test" / "sounds")
    with pytest.raises(ValueError, match=r"nsynth-test.audio: no such folder"):
        read_nsynth(small)
    (small / "nsynth-valid" / "examples.json").unlink()
    with pytest.raises(ValueError, match=r"examples\.json: no such file or directory; NSynth has one per split"):
        read_nsynth(small)


NAME = "bass_acoustic_000-040-050"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"is not JSON \(Expecting property name"),
        (b"\xff\xfe{}", r"is not JSON \('utf-8' codec"),
        (b"[1, 2]", "holds a list; expected an object keyed by note_str"),
        ({NAME: 3}, f"note '{NAME}' is 3; expected an object with note_str"),
        ({NAME: {}}, f"note '{NAME}' lacks the field note_str"),
        ({NAME: entry(NAME, pitch="40")}, f"note '{NAME}' has pitch '40'; expected type int"),
        ({NAME: entry(NAME, velocity=True)}, f"note '{NAME}' has velocity True; expected type int"),
        ({NAME: entry(NAME, instrument_family_str=0)}, "has instrument_family_str 0; expected type str"),
        ({NAME: entry(NAME, sample_rate=44100)}, f"note '{NAME}' has sample_rate 44100; convert .* to 16000 Hz"),
        ({NAME: entry(NAME, instrument_family_str="kazoo")}, "has the unknown family 'kazoo'; NSynth has bass"),
        ({NAME: entry(NAME, instrument_source_str="tape")}, "has the unknown source 'tape'; NSynth has acoustic"),
        ({NAME: entry(NAME, note_str="x")}, f"note '{NAME}' has a name that contradicts its fields"),
        ({NAME: entry(NAME, pitch=41)}, r"has a name that .* \(bass, acoustic, bass_acoustic_000-041-050\)"),
        ({NAME: entry(NAME, instrument_family_str="reed")}, r"has a name that .* \(reed, acoustic"),
    ],
)  # fmt: skip
def test_a_broken_table(small, content, message):
    table = small / "nsynth-test" / "examples.json"
    table.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ValueError, match=f"examples.json: .*{message}") as caught:
        read_nsynth(small)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", nsynth.FIELDS)
def test_a_note_that_lacks_a_field(small, field):
    broken = entry(NAME)
    del broken[field]
    (small / "nsynth-test" / "examples.json").write_text(json.dumps({NAME: broken}))
    with pytest.raises(ValueError, match=f"note '{NAME}' lacks the field {field}"):
        read_nsynth(small)


def test_the_audio_folder_is_listed_once(small, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(nsynth.os, "scandir", lambda path: listed.append(path) or scandir(path))
    read_nsynth(small)
    assert [path.parent.name for path in listed] == ["nsynth-train", "nsynth-valid", "nsynth-test"]
