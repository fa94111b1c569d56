"""Files, folders, datasets and mixtures as items to explain."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.datasets import Clip, ClipDataset, read_clips, write_mixtures
from audiointerp.evaluation.items import audio_files, clip_items, item_id_of, mixture_items, recording_item
from audiointerp.sound import files as audio


def recorded(path: Path, samples: int = 4000, rate: int = 16000, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.3 * np.random.default_rng(seed).standard_normal(samples)
    soundfile.write(path, noise, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


# Names


@pytest.mark.parametrize("name", ["My Dog (1).wav", "犬.wav", "..wav", "a" * 200 + ".wav", "x_-_y.flac"])
def test_names_are_short_plain_and_stable(name):
    item_id = item_id_of(Path("/data") / name)
    assert item_id == item_id_of(f"/data/{name}")
    assert len(item_id) <= 32
    assert set(item_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert item_id.startswith("c_")
    assert "__" not in item_id


def test_files_of_one_name_in_two_folders_differ_and_so_do_clips_of_one_file():
    names = [item_id_of("/a/dog.wav"), item_id_of("/b/dog.wav"), item_id_of("/a/dog.wav", 2.5)]
    assert len(set(names)) == 3
    assert all(name.startswith("c_dog_") for name in names)


# Files and folders


def test_folders_are_searched_and_files_taken_as_given(tmp_path):
    wanted = [recorded(tmp_path / "in" / name) for name in ("b.wav", "deep/er/a.FLAC", "deep/z.ogg")]
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    (tmp_path / "in" / "folder.wav").mkdir()
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"named by hand: its own error says what is wrong with it")
    assert audio_files([tmp_path / "in"]) == wanted
    assert audio_files([odd, str(tmp_path / "in"), wanted[0]]) == [odd, *wanted]


def test_nothing_to_explain_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no audio file in this folder"):
        audio_files([tmp_path])
    with pytest.raises(ValueError, match=r"absent\.wav: no such file or folder"):
        audio_files([tmp_path / "absent.wav"])


@pytest.mark.parametrize(("output_rate", "rate", "frames"), [("model", 16000, 1452), ("input", 44100, 4001)])
def test_a_recording_at_either_rate(tmp_path, output_rate, rate, frames):
    path = recorded(tmp_path / "a.wav", 4001, 44100)
    item = recording_item(path, 16000, output_rate)
    heard = torch.cat([window.waveform for window in item.windows()], 1)
    assert torch.allclose(heard, audio.read(path, 16000), atol=1e-5)
    assert (item.sample_rate, item.file_rate, item.frames()) == (16000, rate, frames)
    assert (item.item_id, item.source, item.label) == (item_id_of(path), str(path), "")


# Datasets


def test_read_clips_knows_the_layouts(tmp_path):
    recorded(tmp_path / "mine" / "a.wav")
    (tmp_path / "mine" / "clips.csv").write_text("path,label,fold\na.wav,dog,1\n")
    expected = [Clip(tmp_path / "mine" / "a.wav", ("dog",), 1)]
    assert read_clips(tmp_path / "mine") == expected
    assert read_clips(str(tmp_path / "mine" / "clips.csv")) == expected

    recorded(tmp_path / "esc" / "audio" / "1-1-A-0.wav")
    (tmp_path / "esc" / "meta").mkdir()
    header = "filename,fold,target,category,esc10,src_file,take\n"
    (tmp_path / "esc" / "meta" / "esc50.csv").write_text(f"{header}1-1-A-0.wav,1,0,dog,True,1,A\n")
    assert read_clips(tmp_path / "esc") == [Clip(tmp_path / "esc" / "audio" / "1-1-A-0.wav", ("dog",), 1)]


def test_read_clips_says_what_it_needs(tmp_path):
    (tmp_path / "notes.txt").touch()
    lacks = "neither meta/esc50.csv nor nsynth-test/ nor clips.csv"
    for path, why in [(tmp_path, lacks), (tmp_path / "notes.txt", "is no data")]:
        with pytest.raises(ValueError, match=f"{why}; give an ESC-50 or NSynth folder or a clips.csv"):
            read_clips(path)
    with pytest.raises(ValueError, match="absent: does not exist"):
        read_clips(tmp_path / "absent")


def dataset(tmp_path: Path) -> ClipDataset:
    clips = [Clip(recorded(tmp_path / f"{i}.wav", seed=i), (("dog", "rain")[i % 2],), 1) for i in range(6)]
    return ClipDataset(clips, ("dog", "rain"), seconds=0.2)


def test_clips_as_items(tmp_path):
    data = dataset(tmp_path)
    items = list(clip_items(data))
    assert [item.label for item in items] == ["dog", "rain"] * 3
    for number, item in enumerate(items):
        (window,) = item.windows()
        assert torch.equal(window.waveform, data.batch([number]).waveform)
        assert (item.frames(), item.sample_rate, item.file_rate) == (3200, 16000, 16000)
        assert item.source == str(tmp_path / f"{number}.wav")


def test_a_seeded_choice_of_clips(tmp_path):
    data = dataset(tmp_path)
    chosen = [[item.source for item in clip_items(data, 3, seed)] for seed in (0, 0, 1, 2)]
    assert chosen[0] == chosen[1] == sorted(set(chosen[0]))
    assert len(chosen[0]) == 3
    assert len({tuple(each) for each in chosen}) > 1
    assert len(list(clip_items(data, 100))) == 6


def test_two_clips_of_one_file_are_two_items(tmp_path):
    path = recorded(tmp_path / "long.wav", 16000)
    clips = [Clip(path, ("dog",), 1, start, 0.2) for start in (0.0, 0.5)]
    items = list(clip_items(ClipDataset(clips, ("dog",), seconds=0.2)))
    assert len({item.item_id for item in items}) == 2


@pytest.mark.parametrize("rate", [16000, 8000])
def test_mixtures_as_items(tmp_path, rate):
    table = write_mixtures(dataset(tmp_path), tmp_path / "mixed", items=2, seed=0, snr_db=3.0)
    items = list(mixture_items(table, rate))
    assert [item.item_id for item in items] == ["m_0000", "m_0001"]
    for item in items:
        (window,) = item.windows()
        own, other = item.stems.values()
        assert next(iter(item.stems)) == item.label
        assert set(item.stems) == {"dog", "rain"}
        assert torch.allclose(own + other, window.waveform, atol=1e-5)
        assert (item.condition, item.sample_rate, item.frames()) == ("mixture", rate, rate // 5)
        assert item.snr_db == pytest.approx(3)
        if rate == 16000:
            ratio = 10 * torch.log10(own.double().square().sum() / other.double().square().sum())
            assert float(ratio) == pytest.approx(3, abs=1e-3)
