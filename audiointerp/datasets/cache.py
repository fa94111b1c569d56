"""Decoded clips on disk: each file is read, mixed to mono and resampled once; then only its samples are read.

Each fold has an index and flat files of samples, float32 or 16-bit integers, in a folder named by a hash of the sources
(paths, sizes, modification times), the segments and the rate: changed sources get another folder, and runs with rotated
folds share folders. Any folder in the cache may be deleted at any time between runs. Up to `FILES_A_PART` sources
give one file of samples; more are decoded in parts, which several processes make at once (`building.py`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audiointerp.datasets.archives import copied_out
from audiointerp.datasets.building import built_aside, built_together, write_whole
from audiointerp.datasets.clip import Clip
from audiointerp.sound import files as audio

FORMAT = 1
MOST = 32767
BITS = (32, 16)  # of a sample: float32, or an integer of which 32767 is the clip's peak
FILES_A_PART = 2048  # 10 s of 16 bits each: 0.65 GB, and less than a minute to decode on 8 cores

# A segment of a file: path, start and length in seconds (None: to the end), and of a file in an archive its `Member`.
Segment = tuple[Any, ...]
INDEX = np.dtype([("offset", "<i8"), ("length", "<i8"), ("gain", "<f4"), ("digest", "S32")])

__all__ = [
    "BITS",
    "ClipCache",
    "Segment",
    "decode",
    "default_root",
    "hash_of",
    "read_segments",
    "segment_of",
    "segments_by_fold",
    "source_facts",
]


def default_root() -> Path:
    """`$AUDIOINTERP_CACHE`, or `~/.cache/audiointerp`."""
    return Path(os.environ.get("AUDIOINTERP_CACHE") or "~/.cache/audiointerp").expanduser()


class ClipCache:
    """The samples of a list of clips, decoded once; only the requested samples are read into memory.

    A clip takes 6 bytes of memory here; its row of the index, 52 bytes, is mapped from disk. `read` may be called by
    several threads at once.

    Args:
        clips: numbered in this order by `read` and the other methods.
        sample_rate: in Hz; files are resampled to it as by `audio.read`.
        root: folder of the cache, or None for `default_root()`.
        bits: 32, or 16 for half the disk and half the reading; a sample is then wrong by at most 1/65534 of its clip's
            peak (-96 dB).
    Raises:
        AudioError: naming the file that is missing, broken, or ends before its clip starts.
    """

    def __init__(self, clips: Sequence[Clip], sample_rate: int, root: str | Path | None = None, bits: int = 32):
        folder = (default_root() if root is None else Path(root)) / "clips"
        self._folds: list[tuple[_Samples, np.ndarray]] = []
        self._fold, self._row = np.zeros(len(clips), np.int16), np.zeros(len(clips), np.int32)
        for segments, places, rows in segments_by_fold(clips):
            self._fold[places], self._row[places] = len(self._folds), rows
            self._folds.append(_open(segments, sample_rate, folder, bits))

    def length(self, place: int) -> int:
        """Number of samples of a clip."""
        return int(self._entry(place)["length"])

    def gain(self, place: int) -> float:
        """Factor that brings the whole clip to peak 1 (silence: 1)."""
        return float(self._entry(place)["gain"])

    def digest(self, place: int) -> str:
        """Hash of a clip's samples, independent of its file's location."""
        return self._entry(place)["digest"].decode()

    def read(self, place: int, start: int = 0, samples: int | None = None) -> Tensor:
        """(samples,) of a clip from sample `start` on, at the file's own level; fewer if the clip ends before."""
        return torch.from_numpy(self.read_array(place, start, samples))

    def read_array(self, place: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        """`read` as an array."""
        row = self._entry(place)
        offset, length = int(row["offset"]), int(row["length"])
        stop = length if samples is None else min(length, start + samples)
        stored = self._folds[self._fold[place]][0].read(offset + start, offset + max(start, stop))
        piece = stored.astype(np.float32, copy=False)
        if stored.dtype.kind == "i":
            piece /= MOST * float(row["gain"])
        return piece

    def _entry(self, place: int) -> np.void:
        return self._folds[self._fold[place]][1][self._row[place]]


class _Samples:
    """The samples of a cached folder, one after the other over its files, each of which is opened once."""

    def __init__(self, folder: Path, bits: int):
        self._dtype = np.dtype("<i2" if bits == 16 else "<f4")
        paths = _sample_files(folder, bits)
        counts = [path.stat().st_size // self._dtype.itemsize for path in paths]
        self._starts = np.cumsum([0, *counts])
        self._paths = paths
        # Read, not mapped: a process would seem to hold every page that it has read, up to the whole cache.
        self._maps = None if hasattr(os, "preadv") else [np.memmap(path, self._dtype, "r") for path in paths]
        self._files = [os.open(path, os.O_RDONLY) for path in paths if self._maps is None]
        weakref.finalize(self, _close, self._files)

    def read(self, first: int, last: int) -> np.ndarray:
        """Samples `first` to `last`, which lie in one file; called by several threads at once."""
        which = max(0, int(np.searchsorted(self._starts, first, "right")) - 1)
        which = min(which, len(self._paths) - 1)
        place = first - int(self._starts[which])
        if self._maps is not None:
            return np.array(self._maps[which][place : place + last - first])
        read = np.empty(last - first, self._dtype)
        left, position = read.data.cast("B"), place * self._dtype.itemsize
        while left:
            count = os.preadv(self._files[which], [left], position)
            if not count:
                raise audio.AudioError(f"{self._paths[which]}: was cut off while it was read; run again")
            left, position = left[count:], position + count
        return read


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


def segment_of(clip: Clip) -> Segment:
    """The stretch of a file that a clip covers; clips with other labels or folds may cover it too."""
    stretch = os.path.abspath(clip.path), float(clip.start), None if clip.seconds is None else float(clip.seconds)
    return stretch if clip.member is None else (*stretch, clip.member)


def segments_by_fold(clips: Sequence[Clip]) -> Iterator[tuple[list[Segment], np.ndarray, np.ndarray]]:
    """For each fold its segments, each once and in the order of the files; the places of its clips; a segment for each.

    Data stored per fold are computed once, however the folds are rotated among training, validation and test.
    """
    fold_of = np.array([clip.fold for clip in clips])
    for fold in sorted(set(fold_of.tolist())):
        places = np.flatnonzero(fold_of == fold)
        of_fold = [segment_of(clips[place]) for place in places.tolist()]
        segments = sorted(set(of_fold), key=_order)
        row = {segment: number for number, segment in enumerate(segments)}
        yield segments, places, np.array([row[segment] for segment in of_fold])


def _order(segment: Segment) -> tuple[str, int, float, float]:
    path, start, seconds = segment[:3]
    offset = segment[3].offset if len(segment) > 3 else 0
    return path, offset, start, float("inf") if seconds is None else seconds


def _file_of(segment: Segment) -> tuple:
    """What is the same for all segments of one file: its path, and its place in the archive."""
    return segment[0], segment[3:]


def _open(segments: list[Segment], sample_rate: int, root: Path, bits: int) -> tuple[_Samples, np.ndarray]:
    folder = root / _key(segments, sample_rate, bits)
    if not _complete(folder):
        _build(folder, segments, sample_rate, bits)
    return _Samples(folder, bits), np.load(folder / "index.npy", mmap_mode="r")


def _suffix(bits: int) -> str:
    return "i16" if bits == 16 else "f32"


def _sample_files(folder: Path, bits: int) -> list[Path]:
    return sorted(folder.glob(f"samples*.{_suffix(bits)}"))


def _key(segments: list[Segment], sample_rate: int, bits: int) -> str:
    facts = itertools.chain([FORMAT, audio.RESAMPLER, sample_rate], source_facts(segments))
    return hash_of(itertools.chain(facts, [] if bits == 32 else [bits]))[:32]


def hash_of(facts: Iterable[Any]) -> str:
    """SHA-256 of the JSON of a list of plain values, which is never in memory as a whole."""
    digest = hashlib.sha256(b"[")
    for number, fact in enumerate(facts):
        digest.update((", " * bool(number) + json.dumps(fact)).encode())
    digest.update(b"]")
    return digest.hexdigest()


def source_facts(segments: list[Segment]) -> Iterator[list]:
    """Path, size, modification time and segments of each file, whose hash is the name of a cached folder.

    Raises:
        AudioError: naming a file that is missing.
    """
    for path, same in itertools.groupby(segments, key=lambda segment: segment[0]):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise audio.AudioError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
        yield [path, stat.st_size, stat.st_mtime_ns, [segment[1:] for segment in same]]


def _complete(folder: Path) -> bool:
    """Whether index and samples exist and agree; a crashed machine may leave renamed but empty files."""
    try:
        index = np.load(folder / "index.npy", mmap_mode="r")
        return _agree(index, *[path for bits in BITS for path in _sample_files(folder, bits)])
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return False


def _agree(index: np.ndarray, *samples: Path) -> bool:
    """Whether there are sample files, and as many samples in them as the index counts."""
    size = 2 if samples and samples[0].suffix == ".i16" else 4
    return bool(samples) and sum(path.stat().st_size for path in samples) == size * int(index["length"].sum())


def _build(folder: Path, segments: list[Segment], sample_rate: int, bits: int) -> None:
    parts = _parts(segments)
    if len(parts) == 1:
        with built_aside(folder, _complete) as aside:
            index = _write(aside / f"samples.{_suffix(bits)}", decode(segments, sample_rate), len(segments), bits)
            np.save(aside / "index.npy", index)
        return
    progress = _progress(len(parts), "part")

    def make(aside: Path, part: int) -> None:
        samples, index = _part_files(aside, part, bits)
        decoded = decode(parts[part], sample_rate, quiet=True)
        rows: list[np.ndarray] = []
        write_whole(samples, lambda path: rows.append(_write(path, decoded, len(parts[part]), bits)))
        write_whole(index, lambda path: np.save(path, rows[0]))
        progress.n = sum(made(aside, each) for each in range(len(parts)))
        progress.refresh()

    def made(aside: Path, part: int) -> bool:
        samples, index = _part_files(aside, part, bits)
        try:
            return index.is_file() and _agree(np.load(index), samples)
        except (OSError, ValueError, EOFError, LookupError, TypeError):
            return False

    with progress:
        built_together(folder, len(parts), made, make, partial(_join, count=len(parts), bits=bits), _complete)
    for part in range(len(parts)):  # only now, so that a process that is killed loses none
        _part_files(folder, part, bits)[1].unlink(missing_ok=True)


def _parts(segments: list[Segment]) -> list[list[Segment]]:
    """The segments in parts of `FILES_A_PART` files."""
    parts: list[list[Segment]] = []
    for number, (_, same) in enumerate(itertools.groupby(segments, key=_file_of)):
        if number % FILES_A_PART == 0:
            parts.append([])
        parts[-1] += same
    return parts


def _part_files(folder: Path, part: int, bits: int) -> tuple[Path, Path]:
    return folder / f"samples-{part:06d}.{_suffix(bits)}", folder / f"index-{part:06d}.npy"


def _join(folder: Path, count: int, bits: int) -> None:
    """One index for all parts; an offset counts from the first sample of the first part."""
    indices, offset = [], 0
    for part in range(count):
        indices.append(np.load(_part_files(folder, part, bits)[1]))
        indices[-1]["offset"] += offset
        offset += int(indices[-1]["length"].sum())
    write_whole(folder / "index.npy", lambda path: np.save(path, np.concatenate(indices)))


def _write(path: Path, decoded: Iterator[Tensor], count: int, bits: int) -> np.ndarray:
    """Writes the samples of `count` segments, one after the other, and returns their index."""
    index, offset = np.zeros(count, INDEX), 0
    with open(path, "wb") as file:
        for number, samples in enumerate(decoded):
            gain = float(audio.normalize_peak(samples)[1])
            raw = samples.numpy().astype("<f4", copy=False).tobytes()
            index[number] = (offset, len(samples), gain, hashlib.sha256(raw).hexdigest()[:32])
            offset += len(samples)
            file.write((MOST * gain * samples).round().numpy().astype("<i2").tobytes() if bits == 16 else raw)
    return index


def _progress(total: int, unit: str, quiet: bool = False) -> tqdm:
    return tqdm(total=total, desc="reading clips", unit=unit, disable=quiet or not sys.stderr.isatty())


def decode(segments: list[Segment], sample_rate: int, any_rate: bool = True, quiet: bool = False) -> Iterator[Tensor]:
    """Samples of each segment in turn; each file is decoded once, a few files at a time; `quiet`: without progress."""
    files = [list(same) for _, same in itertools.groupby(segments, key=_file_of)]
    threads = min(8, os.cpu_count() or 1)
    progress = _progress(len(files), "file", quiet)
    with progress, ThreadPoolExecutor(threads) as pool:
        # In small groups: a plain `map` over all files would hold every decoded clip that is not yet written to disk.
        for first in range(0, len(files), 4 * threads):
            group = files[first : first + 4 * threads]
            for parts in pool.map(lambda same: read_segments(same, sample_rate, any_rate), group):
                progress.update()
                yield from parts


def read_segments(same: list[Segment], sample_rate: int, any_rate: bool = True) -> list[Tensor]:
    """Samples (samples,) of segments of one file, at its own level.

    Args:
        same: segments of one file.
        sample_rate: in Hz.
        any_rate: True resamples files of another rate, False refuses them.
    Raises:
        AudioError: the file is missing, broken, at a refused rate, or ends before a segment starts.
    """
    path, member = same[0][0], same[0][3] if len(same[0]) > 3 else None
    name = path if member is None else f"{path}#{member.name}"
    with nullcontext(path) if member is None else copied_out(path, member) as file:
        if not any_rate and (rate := audio.probe(file).samplerate) != sample_rate:
            raise audio.AudioError(
                f"{name}: has a rate of {rate} Hz where {sample_rate} Hz is expected; convert it first"
            )
        whole = audio.read(file, sample_rate)[0]
    parts = []
    for _, start, seconds, *_ in same:
        first = round(start * sample_rate)
        last = len(whole) if seconds is None else first + round(seconds * sample_rate)
        part = whole[first:last]
        if not len(part):
            lasts = len(whole) / sample_rate
            raise audio.AudioError(f"{name}: a clip starts at {start:g} s but the file lasts {lasts:.2f} s")
        parts.append(part)
    return parts
