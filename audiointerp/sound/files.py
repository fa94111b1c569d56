"""Audio files and levels: read, write, mono, resample, fit length, peak.

Waveforms here are float32 tensors (..., samples). Only functions that return waveforms import torch, so that inspecting
files does not need it. Empty and truncated files and files with NaN samples raise an error that names the file.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from audiointerp.sound.truncation import missing_bytes, ogg_unfinished, states_no_length

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".caf")
RESAMPLER = "soxr_hq"
SILENCE = 1e-8  # peak at or below which a sound counts as silent
CANCELLED = 1e-3  # channels cancel if the peak of their mean is this share of theirs or less, 60 dB
RATES = (1000, 10_000_000)  # Hz; other rates are those of a wrong header, or of no sound that people hear
# In lossy formats the header's count of frames is an estimate, off by up to a codec frame or two.
FRAMES_SLACK = 4608
_SILENT_FORMATS = {b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff"}  # first bytes of a file
_stderr = threading.RLock()

__all__ = [
    "CANCELLED",
    "FRAMES_SLACK",
    "RESAMPLER",
    "SILENCE",
    "SUFFIXES",
    "AudioError",
    "cancelled",
    "check_channel",
    "check_written",
    "clear_time",
    "fit_length",
    "heard_errors",
    "mono_of",
    "normalize_peak",
    "probe",
    "quiet_decoder",
    "read",
    "read_with_rate",
    "resample",
    "resample_array",
    "write",
]


class AudioError(ValueError):
    """A file that cannot be used as audio; the message names the file and the reason."""


def probe(path: str | Path) -> soundfile._SoundFileInfo:
    """Rate, frames and channels of a file, after checking that it is complete.

    Raises:
        AudioError: missing, not audio, empty, shorter than its header states, of a format without a length, or
            of a sample rate outside `RATES`.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        with quiet_decoder(path):
            info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:  # TypeError: .raw, which needs a rate
        raise AudioError(f"{path}: not readable as audio ({_reason(error)})") from None
    if info.frames <= 0:
        raise AudioError(f"{path}: holds no audio (0 frames)")
    if not RATES[0] <= info.samplerate <= RATES[1]:
        raise AudioError(
            f"{path}: has a sample rate of {info.samplerate} Hz, not between {RATES[0]} and {RATES[1]} Hz; write the "
            "right rate into the file"
        )
    if name := states_no_length(path):
        raise AudioError(
            f"{path}: is in the format {name}, whose header states no length, so that nothing shows whether it is "
            "whole; convert it to WAV or FLAC"
        )
    missing = missing_bytes(path)
    if missing:
        raise AudioError(f"{path}: truncated, {missing} bytes of audio are missing; copy or record it again")
    if ogg_unfinished(path):
        raise AudioError(f"{path}: truncated, its last page is missing; copy or record it again")
    return info


def read(path: str | Path, sample_rate: int | None = None, channel: int | None = None) -> Tensor:
    """A file as mono float32, at its own level, shape (1, samples).

    `audiointerp.read` is the same, and its result knows the sample rate.

    Args:
        path: WAV, FLAC, OGG, MP3 or any other format that libsndfile reads.
        sample_rate: in Hz; soxr resamples the file to it. None keeps the file's rate.
        channel: the channel to read, counted from 0. None: the mean of all channels.

    Raises:
        AudioError: missing, not audio, empty, truncated, with NaN or infinite samples, without that channel, or with
            channels whose mean is silent although they are not.
    """
    mono, rate = read_with_rate(path, channel)
    return mono if sample_rate is None else resample(mono, rate, sample_rate)


def read_with_rate(path: str | Path, channel: int | None = None) -> tuple[Tensor, int]:
    """`read` at the file's own rate, and this rate in Hz."""
    import torch

    info = probe(path)
    check_channel(path, info.channels, channel)
    try:
        with quiet_decoder(path):
            samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{path}: decoding failed ({_reason(error)})") from None
    if len(samples) < info.frames - FRAMES_SLACK:
        raise AudioError(f"{path}: truncated, {len(samples)} of {info.frames} frames could be read")
    one = mono_of(samples, path, channel)
    if channel is None and info.channels > 1 and len(one):
        peak = float(np.abs(samples).max())
        if peak > SILENCE and float(np.abs(one).max()) <= CANCELLED * peak:
            raise cancelled(path, info.channels)
    return torch.from_numpy(one)[None], rate


def check_channel(path: str | Path, channels: int, channel: int | None) -> None:
    """Refuses a channel that a file does not have.

    Raises:
        AudioError: naming the file and its channels.
    """
    if channel is not None and not 0 <= channel < channels:
        has = "one channel, 0" if channels == 1 else f"channels 0 to {channels - 1}"
        raise AudioError(f"{path}: has {has}, and no channel {channel}; choose one that it has")


def cancelled(path: str | Path, channels: int) -> AudioError:
    """The error of a file whose channels are in opposite phase, so that their mean is silent."""
    return AudioError(
        f"{path}: its {channels} channels cancel to silence when they are averaged (opposite phase); choose one "
        f"with `interpret --channel N`, N from 0 to {channels - 1}, or store one channel only"
    )


def mono_of(samples: np.ndarray, path: str | Path, channel: int | None = None) -> np.ndarray:
    """One channel, or the mean of the channels, of (frames, channels) that were read from a file.

    Raises:
        AudioError: for NaN or infinite samples, or if the mean overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mono = samples.mean(1) if channel is None else samples[:, channel]
    if not (np.isfinite(samples).all() and np.isfinite(mono).all()):
        raise AudioError(f"{path}: has NaN or infinite samples; repair or leave out this file")
    return np.ascontiguousarray(mono)


def check_written(samples: np.ndarray, path: str | Path) -> None:
    """Refuses samples that no WAV of this package may hold.

    Raises:
        ValueError: for NaN or infinite samples.
    """
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: would hold NaN or infinite samples; it was not written")


def write(path: str | Path, waveform: Tensor, sample_rate: int) -> None:
    """Writes (samples,) as a float32 WAV (no clipping, no dither) under a temporary name, then renames it.

    Raises:
        ValueError: if the waveform has other axes, or NaN or infinite samples.
        OSError: if the file cannot be written.
    """
    if waveform.ndim != 1:
        raise ValueError(
            f"waveform has shape {tuple(waveform.shape)}; a file holds one waveform (samples,): write one row at a time"
        )
    samples, path = waveform.detach().cpu().numpy(), Path(path)
    check_written(samples, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    try:
        soundfile.write(str(aside), samples, sample_rate, subtype="FLOAT", format="WAV")
        clear_time(aside)
        os.replace(aside, path)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path}: could not be written ({_reason(error)}); is the disk full?") from None
    finally:
        aside.unlink(missing_ok=True)


def clear_time(path: Path) -> None:
    """Sets the time in a WAV's PEAK chunk, which libsndfile adds to float files, to 0: equal sounds are equal files."""
    with open(path, "r+b") as file:
        file.seek(12)
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"PEAK":
                file.seek(4, os.SEEK_CUR)  # the chunk begins with its version
                file.write(bytes(4))
                return
            if name == b"data":
                return
            file.seek(size + size % 2, os.SEEK_CUR)


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """(..., samples) at another rate in Hz, by soxr's high-quality filter; ceil(samples * to / from) samples.

    >>> import torch
    >>> resample(torch.zeros(1, 441), 44100, 16000).shape
    torch.Size([1, 160])
    """
    import torch

    if from_rate == to_rate:
        return waveform
    flat = waveform.reshape(-1, waveform.shape[-1]).numpy()
    return torch.from_numpy(resample_array(flat, from_rate, to_rate)).reshape(*waveform.shape[:-1], -1)


def resample_array(channels: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """`resample` of an array (channels, samples)."""
    if from_rate == to_rate:
        return channels
    length = -(-channels.shape[1] * to_rate // from_rate)
    rows = np.stack([soxr.resample(row, from_rate, to_rate, quality="HQ") for row in channels])[:, :length]
    return np.pad(rows, ((0, 0), (0, length - rows.shape[1])))


def fit_length(waveform: Tensor, samples: int) -> Tensor:
    """Crops the end or pads it with silence, to exactly `samples`.

    >>> import torch
    >>> fit_length(torch.tensor([1., 2., 3.]), 2), fit_length(torch.tensor([1.]), 2)
    (tensor([1., 2.]), tensor([1., 0.]))
    """
    from torch.nn import functional

    return functional.pad(waveform, (0, samples - waveform.shape[-1]))


def normalize_peak(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Scales each row to peak 1 and returns the gains, shape (...,); silence (a peak of at most 1e-8) keeps gain 1.

    >>> import torch
    >>> normalize_peak(torch.tensor([[0.5, -0.25], [0., 0.]]))
    (tensor([[ 1.0000, -0.5000], [ 0.0000,  0.0000]]), tensor([2., 1.]))
    """
    import torch

    peak = waveform.abs().amax(-1)
    gain = torch.where(peak > SILENCE, 1 / peak.clamp(min=SILENCE), torch.ones_like(peak))
    return waveform * gain[..., None], gain


@contextmanager
def quiet_decoder(path: str | Path) -> Iterator[None]:
    """Suppresses the MP3 decoder's messages on stderr; the errors of this module name the file instead.

    Stderr is the process's, so that lines that other threads write meanwhile are lost; see `heard_errors`. Files in
    formats whose decoders write nothing leave it as it is.
    """
    if _first_bytes(path) in _SILENT_FORMATS:
        yield
        return
    with _stderr:
        silenced, stderr = os.open(os.devnull, os.O_WRONLY), os.dup(2)
        os.dup2(silenced, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(silenced)
            os.close(stderr)


def _first_bytes(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except OSError:  # the decoder reports it
        return b""


def heard_errors() -> AbstractContextManager[object]:
    """Within it, no other thread suppresses messages on stderr, see `quiet_decoder`."""
    return _stderr


def _reason(error: Exception) -> str:
    reason = str(error).strip().rsplit(": ", 1)[-1].rstrip(".") or type(error).__name__
    # libsndfile reports this for an MP3 without a single frame, although the file exists.
    return "Format not recognised" if reason.startswith("File does not exist") else reason
