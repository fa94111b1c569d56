"""Clips in tar shards: read in place, the same as unpacked, and no damaged or hostile archive does harm."""

import io
import json
import os
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.__main__ import main
from audiointerp.datasets import ClipDataset, archives, read_shards, shards, split
from audiointerp.datasets.clip import Member
from audiointerp.sound import files as audio

RATE = 8000
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def sound(number: int, suffix: str = "wav", samples: int = 400) -> bytes:
    """A file of a tone that its number tells apart."""
    data = io.BytesIO()
    wave = 0.5 * np.sin(np.arange(samples) * (0.1 + 0.01 * number))
    soundfile.write(data, wave, RATE, format=suffix.upper(), subtype="VORBIS" if suffix == "ogg" else "PCM_16")
    return data.getvalue()


def pack(path: Path, entries: dict[str, bytes] | list[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def read(folder: Path, **settings):
    return read_shards(folder, cache_folder=folder / "cache", **settings)


def test_members_are_those_of_python_s_tarfile(tmp_path):
    """Also names that need an extended header, names of other alphabets, and folders in between."""
    names = [
        "a.wav",
        "x" * 150 + ".wav",
        "deep/" * 20 + "n.wav",
        "Käuzchen/ü.flac",
        "y" * 99 + "/" + "z" * 140 + ".cls",
    ]
    for each, kind in FORMATS.items():
        path = tmp_path / f"{each}.tar"
        with tarfile.open(path, "w", format=kind) as tar:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            # A name that fits into no ustar header is left out there.
            for number, name in enumerate(names[: 1 if kind == tarfile.USTAR_FORMAT else None]):
                entry = tarfile.TarInfo(name)
                entry.size = 300 * number + 1
                tar.addfile(entry, io.BytesIO(bytes([number]) * entry.size))
        with tarfile.open(path) as tar:
            expected = [(entry.name, entry.offset_data, entry.size) for entry in tar if entry.isreg()]
        assert list(archives.members(path)) == expected and expected
        for number, member in enumerate(archives.members(path)):
            assert archives.read_bytes(path, member) == bytes([number]) * member.size


def test_clips_of_shards_sound_as_unpacked_ones(tmp_path):
    suffixes = ("wav", "flac", "ogg")
    for shard in range(3):
        entries = {}
        for number in range(4):
            suffix = suffixes[(shard + number) % 3]
            entries[f"k{number}.{suffix}"] = sound(4 * shard + number, suffix)
            entries[f"k{number}.cls"] = b"dog\n" if number % 2 else b"rain\n"
            entries[f"k{number}.jpg"] = b"left out"
        split_name = "test" if shard == 2 else "train"
        pack(tmp_path / f"{split_name}-{shard:06d}.tar", entries)
        for name, data in entries.items():
            (tmp_path / f"unpacked_{shard}_{name}").write_bytes(data)
    clips = read(tmp_path)
    assert [clip.fold for clip in clips] == [3] * 4 + [1] * 8  # by the names of the shards
    assert {clip.name for clip in clips[:4]} == {
        f"{tmp_path}/test-000002.tar#k{number}.{suffixes[(2 + number) % 3]}" for number in range(4)
    }
    parts = split(clips, [1], [], [3])
    data = ClipDataset(parts.train, parts.labels, RATE, 0.05, cache_folder=tmp_path / "cache")
    assert len(data) == 8 and data.labels == ("dog", "rain")
    for i, clip in enumerate(data.clips):
        shard = int(clip.path.stem[-6:])
        expected = audio.read(tmp_path / f"unpacked_{shard}_{clip.member.name}", RATE)
        assert torch.equal(data.waveform(i), audio.normalize_peak(expected)[0][0])
        assert int(data.batch([i]).label) == (0 if int(clip.member.name[1]) % 2 else 1)
    # In the archives nothing was unpacked, and the sounds are not in the names of files.
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        "test-000002.tar", "train-000000.tar", "train-000001.tar",
    ]  # fmt: skip


def test_the_index_is_made_once_and_again_when_a_shard_changes(tmp_path, monkeypatch):
    path = pack(tmp_path / "train-0.tar", {"a.wav": sound(1), "a.cls": b"dog"})
    first = read(tmp_path)
    calls = []
    real = shards.members
    monkeypatch.setattr(shards, "members", lambda archive: calls.append(archive) or real(archive))
    assert read(tmp_path) == first and not calls
    pack(path, {"a.wav": sound(1), "a.cls": b"cat", "b.wav": sound(2), "b.cls": b"dog"})
    assert [clip.labels for clip in read(tmp_path)] == [("cat",), ("dog",)] and len(calls) == 1
    for index in (tmp_path / "cache" / "shards").iterdir():
        index.write_bytes(index.read_bytes()[:-40])
    assert len(read(tmp_path)) == 2 and len(calls) == 2


def test_labels_of_every_kind(tmp_path):
    entries = [("a.wav", sound(0)), ("a.cls", b" a dog \n"), ("a.txt", b"not this")]
    entries += [("b.wav", sound(1)), ("b.json", json.dumps({"label": ["rain", "wind"], "fold": 3}).encode())]
    entries += [("c.wav", sound(2)), ("c.txt", "Käuzchen; rain".encode())]
    entries += [("d.wav", sound(3)), ("d.json", b"{}"), ("d.txt", b"rain")]
    entries += [("sub/d.WAV", sound(3)), ("sub/d.cls", b"rain")]
    pack(tmp_path / "train.tar", entries)
    assert [clip.labels for clip in read(tmp_path)] == [
        ("a dog",), ("rain", "wind"), ("Käuzchen", "rain"), ("rain",), ("rain",),
    ]  # fmt: skip
    numbered = tmp_path / "numbered"
    pack(numbered / "val" / "0.tar", {"a.wav": sound(0), "a.cls": b"1"})
    assert [(clip.labels, clip.fold) for clip in read(numbered, labels=["rain", "dog"])] == [(("dog",), 2)]
    assert read(numbered, folds={"val": 7})[0].fold == 7
    with pytest.raises(ValueError, match=r"a\.cls is '1'; expected the number of a class, from 0 to 0"):
        read(numbered, labels=["rain"])


def link(kind: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("a.wav")
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
    return data.getvalue()


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A header with any size, in base 256, as of an archive that a bomb would be."""
    block = bytearray(tarfile.TarInfo(name).tobuf())
    block[156:157] = kind
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)
GOOD = {"a.wav": sound(0), "a.cls": b"dog"}


def packed(entries, kind=tarfile.USTAR_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=kind) as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


HOSTILE = {
    "empty": (b"", "is no tar archive"),
    "text": (b"path,label,fold\n" * 100, "is no tar archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), r"is compressed \(gzip\)"),
    "cut in a sound": (packed(GOOD.items())[:900], r"truncated, 'a\.wav' ends \d+ bytes behind its end"),
    "cut at an entry": (packed(GOOD.items())[:1536], "truncated, its end mark is missing"),
    "flipped": (packed(GOOD.items())[:1540] + b"?" + packed(GOOD.items())[1541:], "is damaged at byte 1536"),
    "link": (link(tarfile.SYMTYPE), r"'a\.wav' is a link; pack regular files only"),
    "hard link": (link(tarfile.LNKTYPE), "is a link"),
    "pipe": (link(tarfile.FIFOTYPE), "is a pipe"),
    "device": (link(tarfile.CHRTYPE), "is a device"),
    "out": (packed([("../a.wav", sound(0))]), r"holds the name '\.\./a\.wav'"),
    "out below": (packed([("b/../../a.wav", sound(0))]), r"without '\.\.'"),
    "absolute": (packed([("/etc/a.wav", sound(0))]), r"holds the name '/etc/a\.wav'"),
    "unprintable": (packed([("a\n.wav", sound(0))]), "names are relative, printable"),
    "two sounds": (packed([("a.wav", sound(0)), ("a.flac", sound(0, "flac"))]), "has two sounds of the key 'a'"),
    "a sound twice": (packed([*GOOD.items(), *GOOD.items()]), "has two sounds of the key 'a'"),
    "a label twice": (packed([*GOOD.items(), ("a.cls", b"cat")]), r"has a\.cls twice"),
    "no label": (packed([("a.wav", sound(0))]), "'a' has no label"),
    "empty label": (packed([("a.wav", sound(0)), ("a.cls", b" \n")]), "'a' has no label"),
    "no sound": (packed([("a.cls", b"dog")]), "hold no sound"),
    "label of bytes": (packed([("a.wav", sound(0)), ("a.txt", b"\xff\xfe")]), r"a\.txt is not UTF-8 text"),
    "no json": (packed([("a.wav", sound(0)), ("a.json", b"[1]")]), r"a\.json is no JSON object"),
    "deep json": (packed([("a.wav", sound(0)), ("a.json", b"[" * 100_000)]), "is no JSON object"),
    "label of numbers": (packed([("a.wav", sound(0)), ("a.json", b'{"label": 3}')]), "expected a text"),
    "size beyond": (header("a.wav", 1 << 60) + END, r"truncated, 'a\.wav' ends"),
    "long name beyond": (header("a.wav", 1 << 60, b"L") + END, "an extended header states"),
    "extended beyond": (header("a.wav", 1 << 40, b"x") + END, "an extended header states"),
    "bad extended": (header("a.wav", 20, b"x") + b"99999999 path=x\n".ljust(512, b"\0") + END, "cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_archives_are_refused_by_name(name, tmp_path):
    data, message = HOSTILE[name]
    (tmp_path / "train-0.tar").write_bytes(data)
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    assert not (tmp_path / "cache").exists()


def test_sizes_that_would_fill_the_memory_are_refused_unread(tmp_path):
    """The files are sparse: they state, and have, gigabytes that take no disk."""
    for name, kind, size, message in (
        ("sound", b"0", (1 << 30) + 1, "a clip may have 1073741824"),
        ("label", b"0", (1 << 20) + 1, "a label may have 1048576"),
        ("name", b"L", 1 << 32, "an extended header states 4294967296 bytes"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with open(folder / "train-0.tar", "wb") as file:
            if name == "label":
                file.write(packed([("a.wav", sound(0))])[: 512 + 1024])  # its header and its 844 bytes
            file.write(header("a.cls" if name == "label" else "a.wav", size, kind))
            file.seek(-(-size // 512) * 512, os.SEEK_CUR)
            file.write(END)
        with pytest.raises(ValueError, match=message):
            read(folder)


def test_a_shard_that_changes_after_its_index_was_read(tmp_path):
    path = pack(tmp_path / "train-0.tar", GOOD)
    clips = read(tmp_path)
    path.write_bytes(path.read_bytes()[:700])
    data = ClipDataset(clips, ("dog",), RATE, 0.05, cache_folder=tmp_path / "cache")
    with pytest.raises(audio.AudioError, match=r"train-0\.tar#a\.wav: truncated, \d+ bytes are missing"):
        data.waveform(0)


def test_a_broken_sound_is_named_by_archive_and_key(tmp_path):
    pack(tmp_path / "train-0.tar", {"a.wav": b"RIFF no sound", "a.cls": b"dog"})
    data = ClipDataset(read(tmp_path), ("dog",), RATE, 0.05, cache_folder=tmp_path / "cache")
    with pytest.raises(audio.AudioError, match=r"train-0\.tar#a\.wav: not readable as audio") as raised:
        data.waveform(0)
    assert "/sound" not in str(raised.value)


def test_errors_of_the_folder(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no \*\.tar$"):
        read(tmp_path)
    (tmp_path / "train.tar.gz").touch()
    with pytest.raises(ValueError, match="unpack the compressed ones once"):
        read(tmp_path)
    pack(tmp_path / "shard-000000.tar", GOOD)
    with pytest.raises(ValueError, match=r"is of the split 'shard'; folds has .*: give folds, as in \{shard: 1\}"):
        read(tmp_path)


def test_a_fuzzed_archive_gives_clips_or_one_line(tmp_path):
    """Whatever bytes change, `members` ends with members inside the file, or with a ValueError of one line."""
    good = packed([*GOOD.items(), ("b" * 120 + ".wav", sound(1))], tarfile.PAX_FORMAT)
    rng = random.Random(0)
    path, refused = tmp_path / "train-0.tar", 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            found = list(archives.members(path))
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert all(isinstance(each, Member) and each.offset + each.size <= len(data) for each in found)
    assert 100 < refused < 400


def run(tmp_path: Path, *options: str) -> int:
    recipe = tmp_path / "my.yaml"
    base = Path(__file__).parents[2] / "recipes" / "esc50" / "classifier.yaml"
    recipe.write_text(
        f"<<: !include:{base}\ntrain_folds: [1]\ntest_folds: [2]\nclips: !name:audiointerp.datasets.read_shards\n"
        "    folder: !ref <data_folder>\n    folds: {train: 1, heldout: 2}\n"
    )
    settings = {"data_folder": tmp_path / "data", "output_folder": tmp_path / "out", "channels": 4, "device": "cpu"}
    settings |= {"epochs": 1, "batch_size": 4, "seconds": 0.5}
    given = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return main(["run", str(recipe), *given, *options])


@pytest.mark.slow
def test_a_recipe_trains_on_shards(tmp_path, capsys):
    for name in ("train-000000", "train-000001", "heldout-000000"):
        entries = {}
        for number in range(4):
            entries |= {f"k{number}.flac": sound(number, "flac", 4000), f"k{number}.cls": (b"dog", b"rain")[number % 2]}
        pack(tmp_path / "data" / f"{name}.tar", entries)
    assert run(tmp_path) == 0
    results = json.loads((tmp_path / "out" / "my" / "1234" / "run.json").read_text())["results"]
    assert results["test_clips"] == 4
    capsys.readouterr()
    # The run is finished: a shard that is damaged now is named, and nothing of the run is lost.
    path = tmp_path / "data" / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:700])
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert "train-000001.tar: truncated" in error and error.count("\n") == 1
    assert json.loads((tmp_path / "out" / "my" / "1234" / "run.json").read_text())["results"] == results
