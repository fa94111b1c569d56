"""Caches made in parts, by several processes at once; a killed one loses its current part only."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.datasets import building, cache
from audiointerp.datasets.clip import Clip
from audiointerp.sound import files as audio

ROOT = Path(__file__).parents[2]
# Makes the cache of the files of a folder, five files a part, and notes each file that it decodes. An argument says
# after how many files it kills itself.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from audiointerp.datasets import cache
from audiointerp.datasets.clip import Clip
from audiointerp.sound import files as audio
folder, log, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
cache.FILES_A_PART, read, done = 5, audio.read, []
def noted(path, rate):
    done.append(path)
    if last and len(done) > last:
        os.kill(os.getpid(), signal.SIGKILL)
    with open(log, "a") as file:
        file.write(Path(path).name + "\\n")
    return read(path, rate)
audio.read = noted
clips = [Clip(path, ("x",), 1) for path in sorted(folder.glob("*.wav"))]
made = cache.ClipCache(clips, 1000, folder / "cache", 16)
print(sum(made.length(i) for i in range(len(clips))))
"""


@pytest.fixture
def sounds(tmp_path) -> list[Clip]:
    """23 files of other lengths, so five parts of five files at most."""
    rng = np.random.default_rng(0)
    for n in range(23):
        soundfile.write(tmp_path / f"{n:02}.wav", rng.uniform(-0.5, 0.5, 200 + 10 * n), 1000)
    return [Clip(path, ("x",), 1) for path in sorted(tmp_path.glob("*.wav"))]


def start(folder: Path, log: str, last: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(folder / log), str(last)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def check(clips: list[Clip], folder: Path) -> None:
    """The cache holds every clip, and nothing but the cache is left."""
    made = cache.ClipCache(clips, 1000, folder / "cache", 16)
    for place, clip in enumerate(clips):
        expected = audio.read(clip.path, 1000)[0]
        assert made.length(place) == len(expected)
        torch.testing.assert_close(made.read(place), expected, atol=1.6e-5 * float(expected.abs().max()), rtol=0)
    (only,) = (folder / "cache" / "clips").iterdir()
    assert sorted(path.name for path in only.iterdir()) == ["index.npy", *(f"samples-{n:06d}.i16" for n in range(5))]


def test_a_cache_in_parts_equals_one_in_a_whole(sounds, tmp_path, monkeypatch):
    whole = cache.ClipCache(sounds, 1000, tmp_path / "whole", 16)
    monkeypatch.setattr(cache, "FILES_A_PART", 5)
    parts = cache.ClipCache(sounds, 1000, tmp_path / "cache", 16)
    (one,), (other,) = ((tmp_path / name / "clips").iterdir() for name in ("whole", "cache"))
    assert one.name == other.name
    assert np.array_equal(np.load(one / "index.npy"), np.load(other / "index.npy"))
    assert (one / "samples.i16").read_bytes() == b"".join(each.read_bytes() for each in sorted(other.glob("samples*")))
    for place in range(len(sounds)):
        assert torch.equal(whole.read(place), parts.read(place))
        assert torch.equal(whole.read(place, 150, 60), parts.read(place, 150, 60))
        assert len(parts.read(place, 10_000, 5)) == 0
        assert (whole.gain(place), whole.digest(place)) == (parts.gain(place), parts.digest(place))
    check(sounds, tmp_path)
    # Found again, and made again where one of the files is damaged.
    monkeypatch.setattr(audio, "read", None)
    cache.ClipCache(sounds, 1000, tmp_path / "cache", 16)
    monkeypatch.undo()
    monkeypatch.setattr(cache, "FILES_A_PART", 5)
    (other / "samples-000002.i16").write_bytes(b"")
    check(sounds, tmp_path)


@pytest.mark.slow
def test_two_processes_share_the_work(sounds, tmp_path):
    processes = [start(tmp_path, f"log{n}") for n in range(2)]
    total = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert total == {f"{sum(200 + 10 * n for n in range(23))}\n"}
    decoded = [
        name for n in range(2) if (tmp_path / f"log{n}").exists() for name in (tmp_path / f"log{n}").read_text().split()
    ]
    assert sorted(decoded) == sorted(clip.path.name for clip in sounds)  # each file once, by one of the two
    check(sounds, tmp_path)


@pytest.mark.slow
def test_a_killed_process_loses_its_current_part_only(sounds, tmp_path):
    killed = start(tmp_path, "killed", last=12)  # in its third part
    killed.communicate()
    assert killed.returncode == -9
    (left,) = (tmp_path / "cache" / "clips").iterdir()
    assert left.name.startswith(".part-") and len(list(left.glob("index-*.npy"))) == 2
    after = start(tmp_path, "after")
    after.communicate()
    assert after.returncode == 0
    # The two parts that were whole are not decoded again; of 23 files, 10 or 8 are in them (the last part has three).
    again = (tmp_path / "after").read_text().split()
    assert len(again) == len(set(again)) and len(again) in (13, 15)
    check(sounds, tmp_path)


def test_an_error_keeps_the_parts_that_are_whole(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FILES_A_PART", 5)
    sounds[11].path.write_bytes(b"no audio")
    for _ in range(2):
        with pytest.raises(audio.AudioError, match=r"11\.wav: not readable as audio"):
            cache.ClipCache(sounds, 1000, tmp_path / "cache", 16)
    (left,) = (tmp_path / "cache" / "clips").iterdir()
    assert not list(left.glob(".new-*")) and not (left / "index-000002.npy").exists()


def test_a_lock_is_held_by_one(tmp_path):
    with building.claimed(tmp_path / "lock") as first:
        assert first
        with building.claimed(tmp_path / "lock") as second:
            assert not second
    with building.claimed(tmp_path / "lock") as third:
        assert third


@pytest.mark.parametrize("system", ["no locks", "no locks here"])
def test_without_locks_the_cache_is_the_same(system, sounds, tmp_path, monkeypatch):
    """A system without locks, and a network file system that refuses them; two builders at once."""
    if system == "no locks":
        monkeypatch.setattr(building, "fcntl", None)
    else:
        monkeypatch.setattr(building.fcntl, "flock", lambda *given: (_ for _ in ()).throw(OSError(38, "refused")))
    monkeypatch.setattr(cache, "FILES_A_PART", 5)
    failed = []

    def build():
        try:
            cache.ClipCache(sounds, 1000, tmp_path / "cache", 16)
        except Exception as error:  # shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    check(sounds, tmp_path)


@pytest.mark.slow
def test_parts_that_wait_for_days_are_kept_for_their_own_build_only(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FILES_A_PART", 5)
    start(tmp_path, "killed", last=12).communicate()
    (left,) = (tmp_path / "cache" / "clips").iterdir()
    old = time.time() - 2 * building.ABANDONED_AFTER
    for path in (*left.iterdir(), left):
        os.utime(path, (old, old))
    kept = {path.stat().st_ino for path in left.glob("samples-*.i16")}
    check(sounds, tmp_path)
    (made,) = (tmp_path / "cache" / "clips").iterdir()
    assert len(kept) == 2 and kept < {path.stat().st_ino for path in made.glob("samples-*.i16")}
    # Another build sweeps what nobody goes on with.
    stale = tmp_path / "cache" / "clips" / ".part-other"
    stale.mkdir()
    os.utime(stale, (old, old))
    cache.ClipCache(sounds[:3], 1000, tmp_path / "cache", 16)
    assert not stale.exists()
