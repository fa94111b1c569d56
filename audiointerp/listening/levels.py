"""Loudness, fades and 16-bit files: what is done to one waveform, (channels, samples), float32."""

from __future__ import annotations

import hashlib
import math
import os
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FADE_SECONDS = 0.01
SHORTEST_GATED = 0.4  # seconds; a gating block of BS.1770
# Below, BS.1770's absolute gate at -70 LUFS would hide parts that are heard once the sound is raised.
REMEASURE_LUFS = -55.0
RAISED_LUFS = -23.0
MTIME = 946684800  # 2000-01-01: when a test was written tells nothing

__all__ = ["fade", "loudness", "sha256", "write_pcm16"]


def fade(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Raised-cosine fades of 10 ms at both ends; of sounds under 20 ms, half of it each.

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

    Sounds under 0.4 s, which no gating block fits, count by their mean square summed over channels, on the same scale
    without weighting and gates. Sounds under -55 LUFS are measured as if at -23 LUFS: the absolute gate is for
    programmes, not for a faint explanation that is about to be raised.

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
    import pyloudnorm  # takes a second to import, and only matched loudness needs it

    # float64: its filters' state is; a meter keeps its last blocks, hence one a call.
    return float(pyloudnorm.Meter(sample_rate).integrated_loudness(waveform.T.astype(np.float64)))


def write_pcm16(path: Path, waveform: NDArray[np.float32], sample_rate: int, dither: str | None = None) -> None:
    """Writes (channels, samples) as a WAV of `fmt ` and `data` chunks only, at a fixed modification time.

    Args:
        dither: seed of triangular noise of one step; None rounds.
    """
    steps = waveform.T.astype(np.float64) * 32768
    if dither is not None:
        generator = np.random.default_rng(int.from_bytes(hashlib.sha256(dither.encode()).digest()[:8], "big"))
        steps += generator.random(steps.shape) - generator.random(steps.shape)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(waveform.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.rint(steps).clip(-32768, 32767).astype("<i2").tobytes())
    os.utime(path, (MTIME, MTIME))


def sha256(path: Path) -> str:
    """Of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
