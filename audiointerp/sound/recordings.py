"""Recordings of any length, one window at a time: reads and resamples a stream, writes results with cross-fades.

Memory holds one window, so that hours of audio need no more memory than a minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiointerp.sound.files import (
    CANCELLED,
    FRAMES_SLACK,
    SILENCE,
    AudioError,
    cancelled,
    check_channel,
    check_written,
    clear_time,
    fit_length,
    mono_of,
    probe,
    quiet_decoder,
)

BLOCK_SECONDS = 10.0
BLOCK_VALUES = 1 << 24  # most samples of a block, of all channels together: 64 MB
AUDIBLE = 0.01  # peak of the mean of the channels at which they do not cancel, however loud they are elsewhere

__all__ = ["Recording", "Window", "WindowWriter", "as_written", "listening_copy", "windows"]


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

    Attributes:
        start: first sample.
        waveform: (1, samples).
        overlap: samples shared with the window before (0 for the first).
    """

    start: int
    waveform: Tensor
    overlap: int = 0


class Recording:
    """A file read in blocks, as mono resampled to one rate.

    Args:
        path: any file that `audio.read` takes.
        sample_rate: in Hz.
        channel: the channel to read, counted from 0. None: the mean of all channels.
    Raises:
        AudioError: when opened or while reading, as `audio.read` does.
    """

    def __init__(self, path: str | Path, sample_rate: int, channel: int | None = None):
        info = probe(path)
        check_channel(path, info.channels, channel)
        self.path, self.sample_rate, self.file_rate, self.frames = Path(path), sample_rate, info.samplerate, info.frames
        self.channel = channel
        self._block = max(1, min(int(BLOCK_SECONDS * info.samplerate), BLOCK_VALUES // info.channels))
        if channel is None and info.channels > 1:
            self._refuse_cancelled(info.channels)

    def blocks(self) -> Iterator[Tensor]:
        """Consecutive pieces (samples,); together ceil(frames * sample_rate / file_rate) samples."""
        resampler = soxr.ResampleStream(self.file_rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        read = emitted = 0
        with self._open() as file:
            while len(piece := mono_of(self._next(file), self.path, self.channel)):
                read += len(piece)
                out = resampler.resample_chunk(piece) if self.file_rate != self.sample_rate else piece
                emitted += len(out)
                yield torch.from_numpy(out)
        if read < self.frames - FRAMES_SLACK:
            raise AudioError(f"{self.path}: truncated, {read} of {self.frames} frames could be read")
        self.frames = read
        rest = -(-read * self.sample_rate // self.file_rate) - emitted
        if rest > 0:
            tail = resampler.resample_chunk(np.zeros(0, "float32"), last=True)
            yield fit_length(torch.from_numpy(tail), rest)

    def windows(self, seconds: float = 30.0, overlap_seconds: float = 1.0) -> Iterator[Window]:
        """Overlapping stretches of at most `seconds`; see `windows`."""
        return windows(self.blocks(), int(seconds * self.sample_rate), int(overlap_seconds * self.sample_rate))

    def _open(self) -> soundfile.SoundFile:
        with quiet_decoder(self.path):
            return soundfile.SoundFile(str(self.path))

    def _next(self, file: soundfile.SoundFile) -> np.ndarray:
        try:
            with quiet_decoder(self.path):
                return file.read(self._block, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioError(f"{self.path}: decoding failed ({str(error).rstrip('.')})") from None

    def _refuse_cancelled(self, channels: int) -> None:
        """Reads up to the first audible sample of the mean, so that a file is refused before it is explained."""
        mean = peak = 0.0
        with self._open() as file:
            while mean < AUDIBLE and len(piece := self._next(file)):
                mean = max(mean, float(np.abs(mono_of(piece, self.path)).max()))
                peak = max(peak, float(np.abs(piece).max()))
        if mean < AUDIBLE and mean <= CANCELLED * peak and peak > SILENCE:
            raise cancelled(self.path, channels)


def windows(blocks: Iterator[Tensor], length: int, overlap: int) -> Iterator[Window]:
    """Windows of `length` samples every `length - overlap`, and one for the rest (always longer than the overlap).

    Raises:
        ValueError: unless 0 <= overlap < length.

    >>> [(w.start, w.waveform.shape[1], w.overlap) for w in windows(iter([torch.zeros(10)]), 6, 2)]
    [(0, 6, 0), (4, 6, 2)]
    """
    if not 0 <= overlap < length:
        raise ValueError(f"windows of {length} samples cannot overlap by {overlap}; take a shorter overlap")
    start, shared = 0, 0
    held = torch.zeros(0)
    for block in blocks:
        held = torch.cat([held, block])
        while len(held) > length:
            yield Window(start, held[None, :length], shared)
            start, shared = start + length - overlap, overlap
            held = held[length - overlap :]
    if len(held):
        yield Window(start, held[None], shared)


class WindowWriter:
    """Writes processed windows as one float32 WAV, cross-fading linearly where they overlap.

    The file is written under a temporary name and renamed by `close`; `discard` deletes it, and so does an error in a
    `with` block of the writer.

    Args:
        path: of the WAV.
        sample_rate: of the windows, in Hz.
        file_rate: of the file, in Hz; windows are resampled to it as one stream. None: the windows' rate.
    """

    def __init__(self, path: Path, sample_rate: int, file_rate: int | None = None):
        self.path, self.sample_rate, self.file_rate = path, sample_rate, file_rate or sample_rate
        self.aside = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = soundfile.SoundFile(str(self.aside), "w", self.file_rate, 1, subtype="FLOAT", format="WAV")
        except soundfile.LibsndfileError as error:
            raise self._failure(error) from None
        self._resampler = soxr.ResampleStream(sample_rate, self.file_rate, 1, dtype="float32", quality="HQ")
        self._held = torch.zeros(0)
        self._written = 0

    def add(self, waveform: Tensor, overlap: int, keep: int) -> None:
        """Adds (samples,); the first `overlap` cross-fade with the samples held back, the last `keep` are held back."""
        if overlap:
            fade = torch.linspace(0, 1, overlap + 2)[1:-1]
            waveform = torch.cat([torch.lerp(self._held, waveform[:overlap], fade), waveform[overlap:]])
        ready = waveform[: len(waveform) - keep]
        self._held = waveform[len(waveform) - keep :]
        self._put(self._resampled(ready.numpy()))

    def __enter__(self) -> WindowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.discard()

    def close(self, frames: int) -> None:
        """Writes the samples held back, so that the file has exactly `frames`, and renames it."""
        tail = self._resampled(self._held.numpy(), last=True)
        self._put(fit_length(torch.from_numpy(tail), frames - self._written).numpy())
        self._file.close()
        clear_time(self.aside)
        os.replace(self.aside, self.path)

    def discard(self) -> None:
        """Closes and deletes the unfinished file."""
        self._file.close()
        self.aside.unlink(missing_ok=True)

    def _resampled(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        return samples if self.file_rate == self.sample_rate else self._resampler.resample_chunk(samples, last=last)

    def _put(self, samples: np.ndarray) -> None:
        check_written(samples, self.path)
        try:
            self._file.write(samples)
        except soundfile.LibsndfileError as error:
            raise self._failure(error) from None
        self._written += len(samples)

    def _failure(self, error: Exception) -> OSError:
        return OSError(f"{self.path}: could not be written ({str(error).rstrip('.')}); is the disk full?")


def as_written(waveform: Tensor, sample_rate: int, file_rate: int, frames: int) -> np.ndarray:
    """The samples (frames,) of the file that `WindowWriter` would write of one window (samples,)."""
    samples = waveform.numpy()
    if file_rate != sample_rate:
        stream = soxr.ResampleStream(sample_rate, file_rate, 1, dtype="float32", quality="HQ")
        samples = np.concatenate([stream.resample_chunk(samples), stream.resample_chunk(samples[:0], last=True)])
    return fit_length(torch.from_numpy(samples), frames).numpy()


def listening_copy(source: Path, target: Path) -> None:
    """Writes a float32 copy of a WAV at peak 1 (silence stays silence), made in blocks."""
    with soundfile.SoundFile(str(source)) as file:
        size = int(BLOCK_SECONDS * file.samplerate)
        peak = max((float(np.abs(piece).max()) for piece in file.blocks(size, dtype="float32")), default=0.0)
        gain = 1 / peak if peak > SILENCE else 1.0
        file.seek(0)
        with WindowWriter(target, file.samplerate) as writer:
            for piece in file.blocks(size, dtype="float32"):
                writer.add(torch.from_numpy(piece * np.float32(gain)), overlap=0, keep=0)
            writer.close(file.frames)
