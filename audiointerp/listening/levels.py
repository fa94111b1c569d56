"""Loudness, fades and 16-bit files, for one waveform of shape (channels, samples), float32."""

from __future__ import annotations

import hashlib
import io
import math
import os
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiointerp.results.writing import write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

FADE_SECONDS = 0.01
SHORTEST_GATED = 0.4  # seconds; a gating block of BS.1770
# In quieter sounds, BS.1770's absolute gate at -70 LUFS would skip parts that are audible after amplification.
REMEASURE_LUFS = -55.0
RAISED_LUFS = -23.0
MTIME = 946684800  # 2000-01-01: fixed, so that equal tests are equal files

__all__ = ["fade", "loudness", "sha256", "write_frames", "write_pcm16"]


def fade(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Raised-cosine fades of 10 ms at both ends; each fade takes half of a sound shorter than 20 ms.

    >>> fade(np.ones((1, 4), "float32"), 200).round(2)
    array([[0.15, 0.85, 0.85, 0.15]], dtype=float32)
    """
    length = min(round(FADE_SECONDS * sample_rate), waveform.shape[-1] // 2)
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))).astype(np.float32)
    faded = waveform.copy()
    faded[..., :length] *= ramp
    faded[..., waveform.shape[-1] - length :] *= ramp[::-1]
    return faded


def loudness(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4), -inf for silence.

    Sounds shorter than 0.4 s (one gating block) are measured by their mean square summed over channels, on the same
    scale, without weighting and gates. Sounds below -55 LUFS are amplified to -23 LUFS for the measurement, so that the
    absolute gate does not drop parts of a faint explanation that is amplified later anyway.

    >>> tone = np.sin(2 * np.pi * 997 * np.arange(48000) / 48000).astype("float32")[None]  # BS.1770's own check
    >>> abs(loudness(tone, 48000) + 3.01) < 0.1, loudness(0 * tone, 48000)
    (True, -inf)
    """
    if waveform.shape[-1] < SHORTEST_GATED * sample_rate:
        power = float(np.square(waveform, dtype=np.float64).mean(-1).sum())
        return -0.691 + 10 * math.log10(power) if power > 0 else -math.inf
    level = _integrated(waveform, sample_rate)
    if -math.inf < level < REMEASURE_LUFS:
        raised = RAISED_LUFS - level
        level = _integrated(waveform * np.float32(10 ** (raised / 20)), sample_rate) - raised
    return level


def _integrated(waveform: NDArray[np.float32], sample_rate: int) -> float:
    import pyloudnorm  # here, because the import takes a second and only matched loudness needs it

    # float64, as the filters of pyloudnorm compute. A meter keeps its last blocks, so each call makes a new one.
    return float(pyloudnorm.Meter(sample_rate).integrated_loudness(waveform.T.astype(np.float64)))


def write_pcm16(path: Path, waveform: NDArray[np.float32], sample_rate: int, dither: str | None = None) -> None:
    """Writes (channels, samples) as a WAV of `fmt ` and `data` chunks only, at a fixed modification time.

    Args:
        dither: seed of triangular noise of one 16-bit step, added before rounding; None adds no noise.
    """
    steps = waveform.T.astype(np.float64) * 32768
    if dither is not None:
        generator = np.random.default_rng(int.from_bytes(hashlib.sha256(dither.encode()).digest()[:8], "big"))
        steps += generator.random(steps.shape) - generator.random(steps.shape)
    write_frames(path, np.rint(steps).clip(-32768, 32767).astype("<i2"), sample_rate)


def write_frames(path: Path, frames: NDArray[np.int16], sample_rate: int) -> None:
    """Writes (frames, channels) of 16 bits as a WAV of `fmt ` and `data` chunks only, at a fixed modification time."""
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setparams((frames.shape[1], 2, sample_rate, 0, "NONE", "not compressed"))
        file.writeframes(frames.tobytes())
    write_bytes(path, whole.getbuffer())
    os.utime(path, (MTIME, MTIME))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
