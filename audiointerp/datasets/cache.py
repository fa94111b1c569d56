"""Decoded clips on disk: each file is read, mixed to mono and resampled once, then memory-mapped.

Each fold has one flat file, of float32 or of 16-bit integers, and one index, in a folder named by a hash of the sources
(paths, sizes, modification times), the segments and the rate: changed sources get another folder, and runs with rotated
folds share folders. Any folder in the cache may be deleted at any time between runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audiointerp.sound import files as audio

if TYPE_CHECKING:
    from audiointerp.datasets.clips import Clip

FORMAT = 1
MOST = 32767
BITS = (32, 16)  # of a sample: float32, or an integer of which 32767 is the clip's peak
ABANDONED_AFTER = 24 * 3600  # seconds, after which a later build deletes the folder of one that was killed

# A segment of a file: path, start and length in seconds (None: to the end).
Segment = tuple[str, float, float | None]
INDEX = np.dtype([("offset", "<i8"), ("length", "<i8"), ("gain", "<f4"), ("digest", "S32")])

__all__ = [
    "BITS",
    "ClipCache",
    "Segment",
    "built_aside",
    "decode",
    "default_root",
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
        self._rows: list[tuple[np.memmap, np.void]] = [None] * len(clips)  # type: ignore[list-item]
        for segments, rows in segments_by_fold(clips):
            samples, index = _open(segments, sample_rate, folder, bits)
            for place, row in rows.items():
                self._rows[place] = (samples, index[row])

    def length(self, place: int) -> int:
        """Number of samples of a clip."""
        return int(self._rows[place][1]["length"])

    def gain(self, place: int) -> float:
        """Factor that brings the whole clip to peak 1 (silence: 1)."""
        return float(self._rows[place][1]["gain"])

    def digest(self, place: int) -> str:
        """Hash of a clip's samples, independent of its file's location."""
        return self._rows[place][1]["digest"].decode()

    def read(self, place: int, start: int = 0, samples: int | None = None) -> Tensor:
        """(samples,) of a clip from sample `start` on, at the file's own level; fewer if the clip ends before."""
        flat, row = self._rows[place]
        offset, length = int(row["offset"]), int(row["length"])
        stop = length if samples is None else min(length, start + samples)
        piece = np.array(flat[offset + start : offset + stop], np.float32)
        if flat.dtype.kind == "i":
            piece /= MOST * float(row["gain"])
        return torch.from_numpy(piece)


def segment_of(clip: Clip) -> Segment:
    """The stretch of a file that a clip covers; clips with other labels or folds may cover it too."""
    return os.path.abspath(clip.path), float(clip.start), None if clip.seconds is None else float(clip.seconds)


def segments_by_fold(clips: Sequence[Clip]) -> Iterator[tuple[list[Segment], dict[int, int]]]:
    """For each fold its segments, each once and in the order of the files, and {place of a clip: row of its segment}.

    Data stored per fold are computed once, however the folds are rotated among training, validation and test.
    """
    members: dict[int, dict[int, Segment]] = {}
    for place, clip in enumerate(clips):
        members.setdefault(clip.fold, {})[place] = segment_of(clip)
    for _, of_fold in sorted(members.items()):
        segments = sorted(set(of_fold.values()), key=_order)
        row = {segment: number for number, segment in enumerate(segments)}
        yield segments, {place: row[segment] for place, segment in of_fold.items()}


def _order(segment: Segment) -> tuple[str, float, float]:
    path, start, seconds = segment
    return path, start, float("inf") if seconds is None else seconds


def _open(segments: list[Segment], sample_rate: int, root: Path, bits: int) -> tuple[np.memmap, np.ndarray]:
    folder = root / _key(segments, sample_rate, bits)
    if not _complete(folder):
        _build(folder, segments, sample_rate, bits)
    index = np.load(folder / "index.npy")
    return np.memmap(_samples(folder, bits), dtype="<i2" if bits == 16 else "<f4", mode="r"), index


def _samples(folder: Path, bits: int) -> Path:
    return folder / ("samples.i16" if bits == 16 else "samples.f32")


def _key(segments: list[Segment], sample_rate: int, bits: int) -> str:
    facts = [FORMAT, audio.RESAMPLER, sample_rate, *source_facts(segments)]
    if bits != 32:
        facts.append(bits)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def source_facts(segments: list[Segment]) -> list:
    """Path, size, modification time and segments of each file, whose hash is the name of a cached folder.

    Raises:
        AudioError: naming a file that is missing.
    """
    facts = []
    for path, same in itertools.groupby(segments, key=lambda segment: segment[0]):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise audio.AudioError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
        facts.append([path, stat.st_size, stat.st_mtime_ns, [segment[1:] for segment in same]])
    return facts


def _complete(folder: Path) -> bool:
    """Whether index and samples exist and agree; a crashed machine may leave renamed but empty files."""
    try:
        count = int(np.load(folder / "index.npy")["length"].sum())
        bits = 16 if _samples(folder, 16).exists() else 32
        return _samples(folder, bits).stat().st_size == bits // 8 * count
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return False


def _build(folder: Path, segments: list[Segment], sample_rate: int, bits: int) -> None:
    with built_aside(folder, _complete) as aside:
        index, offset = np.zeros(len(segments), INDEX), 0
        with open(_samples(aside, bits), "wb") as file:
            for number, samples in enumerate(decode(segments, sample_rate)):
                gain = float(audio.normalize_peak(samples)[1])
                raw = samples.numpy().astype("<f4", copy=False).tobytes()
                index[number] = (offset, len(samples), gain, hashlib.sha256(raw).hexdigest()[:32])
                offset += len(samples)
                file.write((MOST * gain * samples).round().numpy().astype("<i2").tobytes() if bits == 16 else raw)
        np.save(aside / "index.npy", index)


@contextmanager
def built_aside(folder: Path, complete: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `folder` at the end, or deleted after an error.

    Args:
        folder: the final folder; an existing one is replaced unless it is complete.
        complete: whether a folder is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        yield aside
        _publish(aside, folder, complete)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _publish(aside: Path, folder: Path, complete: Callable[[Path], bool]) -> None:
    try:
        os.rename(aside, folder)
    except OSError:
        if complete(folder):
            return  # another process was faster and wrote the same files
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(aside, folder)


def _sweep(root: Path) -> None:
    for part in root.glob(".part-*"):
        try:
            newest = max(entry.stat().st_mtime for entry in [part, *part.iterdir()])
        except OSError:
            continue  # being renamed by its builder right now
        if time.time() - newest > ABANDONED_AFTER:
            shutil.rmtree(part, ignore_errors=True)


def decode(segments: list[Segment], sample_rate: int, any_rate: bool = True) -> Iterator[Tensor]:
    """Samples of each segment in turn; each file is decoded once, a few files at a time."""
    files = [list(same) for _, same in itertools.groupby(segments, key=lambda segment: segment[0])]
    threads = min(8, os.cpu_count() or 1)
    progress = tqdm(total=len(files), desc="reading clips", unit="file", disable=not sys.stderr.isatty())
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
    path = same[0][0]
    if not any_rate and (rate := audio.probe(path).samplerate) != sample_rate:
        raise audio.AudioError(f"{path}: has a rate of {rate} Hz where {sample_rate} Hz is expected; convert it first")
    whole = audio.read(path, sample_rate)[0]
    parts = []
    for _, start, seconds in same:
        first = round(start * sample_rate)
        last = len(whole) if seconds is None else first + round(seconds * sample_rate)
        part = whole[first:last]
        if not len(part):
            lasts = len(whole) / sample_rate
            raise audio.AudioError(f"{path}: a clip starts at {start:g} s but the file lasts {lasts:.2f} s")
        parts.append(part)
    return parts
