"""Prepares the sounds of a test: one rate, equal lengths, matched loudness, 16-bit PCM.

Without this, bandwidth, level and length would reveal the methods. The steps, in this order: low-pass (if chosen) and
resample (soxr), fade, pad to the item's longest sound, match loudness, write. Fades come before padding, so that the
fade-out is at the end of the sound and not in the padding; fades and gains commute.

Each sound is prepared twice, once to measure it and once to write it, so that memory holds only a few sounds at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import soundfile

from audiointerp.listening import levels
from audiointerp.listening.making.manifest import ListeningError, Sound
from audiointerp.sound.files import resample_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

Loudness = Literal["match", "item", "none"]
Bandwidth = Literal["none", "min"]
TARGET_LUFS = -23.0
PEAK_DBFS = -1.0
WARN_LENGTH, MAX_LENGTH = 0.05, 0.5  # seconds by which lengths inside an item may differ
WARN_LOWERED = 12.0  # dB
LONG_SECONDS = 30.0
WORKERS = 2

T = TypeVar("T")
R = TypeVar("R")

__all__ = ["PEAK_DBFS", "TARGET_LUFS", "Bandwidth", "Loudness", "Plan", "Prepared", "Settings", "Stimulus", "prepare"]


@dataclass(frozen=True)
class Settings:
    """How sounds are prepared.

    Attributes:
        sample_rate: sample rate of every sound written, in Hz.
        loudness: "match": every sound to -23 LUFS; "item": one gain per item, which brings its mixture (without one,
            its loudest sound) to -23 LUFS; "none": no gain. In all three cases the whole test is lowered if a peak
            would exceed -1 dBFS.
        bandwidth: "min": every sound of an item is low-passed to its lowest rate.
        pad: accept lengths that differ by more than 0.5 s inside an item.
    """

    sample_rate: int = 48000
    loudness: Loudness = "match"
    bandwidth: Bandwidth = "none"
    pad: bool = False


@dataclass(frozen=True)
class Stimulus:
    """A sound to be prepared under a blind name.

    Attributes:
        change: function applied to (channels, samples) at the written rate; it keeps the shape.
        dither: whether to add noise of one 16-bit step, so that copies of one sound differ as files.
    """

    name: str
    sound: Sound
    change: Callable[[NDArray[np.float32], int], NDArray[np.float32]] | None = None
    dither: bool = False


@dataclass(frozen=True)
class Prepared:
    """Measurements of a sound and its gain.

    Attributes:
        frames, channels: size of the written file.
        pad_frames: zeros added at the end to reach the length of the item's longest sound.
        peak: largest absolute sample before the gain, linear.
        silent: whether its loudness cannot be measured; it is then written without a gain.
        lufs_in: loudness before the gain, -inf for silence.
        gain_db: gain applied.
    """

    frames: int
    channels: int
    pad_frames: int
    peak: float
    silent: bool
    lufs_in: float
    gain_db: float = 0.0

    @property
    def lufs_out(self) -> float:
        """Loudness of the written file, in LUFS."""
        return self.lufs_in + self.gain_db


@dataclass(frozen=True)
class Plan:
    """Measured sounds, ready to be written.

    Attributes:
        clips, prepared: blind name -> sound and its measurements.
        lowered_db: amount by which the whole test is lowered because of peaks.
        warnings: one line each.
    """

    settings: Settings
    clips: Mapping[str, Stimulus]
    prepared: Mapping[str, Prepared]
    lowered_db: float
    warnings: list[str] = field(default_factory=list)

    @property
    def target_lufs(self) -> float | None:
        """Loudness to which sounds are brought, in LUFS; None if levels are unchanged."""
        return None if self.settings.loudness == "none" else TARGET_LUFS - self.lowered_db

    def write(self, folder: str | Path) -> None:
        """Writes every sound as `<name>.wav`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)

        def write_item(clips: list[Stimulus]) -> None:
            for clip, waveform in zip(clips, _alike(clips, self.settings)):
                done = self.prepared[clip.name]
                noise = clip.name if clip.dither and not done.silent else None
                waveform = waveform * np.float32(10 ** (done.gain_db / 20))
                levels.write_pcm16(folder / f"{clip.name}.wav", waveform, self.settings.sample_rate, noise)

        _in_parallel(write_item, _by_item(self.clips.values()))


def prepare(clips: Sequence[Stimulus], settings: Settings) -> Plan:
    """Measures every sound and decides its gain.

    Raises:
        ListeningError: naming every item whose lengths differ by more than 0.5 s, unless `settings.pad`.
        ValueError: for a rate that browsers do not play.
    """
    if not 8000 <= settings.sample_rate <= 192000:
        raise ValueError(f"rate is {settings.sample_rate} Hz; choose 8000 to 192000, best 44100 or 48000")
    items = _by_item(clips)
    warnings = _check_items(items, settings)
    measured: dict[str, Prepared] = {}
    for each in _in_parallel(lambda members: _measure(members, settings), items):
        measured |= each
    gains = _gains(items, measured, settings)
    peaks = {
        name: 20 * math.log10(measured[name].peak) + gains[name] for name in gains if not measured[name].silent
    }  # dBFS
    lowered = max(0.0, max(peaks.values(), default=-math.inf) - PEAK_DBFS)
    prepared = {
        name: each if each.silent else replace(each, gain_db=gains[name] - lowered) for name, each in measured.items()
    }
    if lowered > WARN_LOWERED:
        source = next(clip.sound.source for clip in clips if clip.name == max(peaks, key=lambda name: peaks[name]))
        warnings.append(
            f"the whole test is lowered by {lowered:.1f} dB because {source} would clip; consider leaving it out"
        )
    silent = sorted({clip.sound.source for clip in clips if prepared[clip.name].silent})
    if silent:
        warnings.append(f"silent, kept as they are: {_some(silent)}")
    return Plan(settings, {clip.name: clip for clip in clips}, prepared, lowered, warnings)


def _by_item(clips: Iterable[Stimulus]) -> list[list[Stimulus]]:
    items: dict[str, list[Stimulus]] = {}
    for clip in clips:
        items.setdefault(clip.sound.item_id, []).append(clip)
    return list(items.values())


def _in_parallel(function: Callable[[T], R], values: Sequence[T]) -> list[R]:
    # Threads suffice: soxr, the loudness filter and disk access release Python's global interpreter lock.
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(function, values))


def _check_items(items: list[list[Stimulus]], settings: Settings) -> list[str]:
    """Warnings about differences within items; raises ListeningError if lengths differ too much."""
    problems = []
    unlike: dict[str, list[str]] = {}
    for members in items:
        sounds = [clip.sound for clip in members]
        item_id = sounds[0].item_id
        seconds = [sound.frames / sound.sample_rate for sound in sounds]
        apart = max(seconds) - min(seconds)
        if apart > MAX_LENGTH and not settings.pad:
            problems.append(
                f"item {item_id}: {sounds[seconds.index(min(seconds))].source} lasts {min(seconds):.3f} s, "
                f"{sounds[seconds.index(max(seconds))].source} {max(seconds):.3f} s; "
                "check that they belong together, then give --pad to fill up with silence"
            )
        bands = {min(sound.sample_rate, settings.sample_rate) for sound in sounds}
        for is_so, remark in (
            (apart > WARN_LENGTH, "lengths differ by more than 50 ms and are padded with silence"),
            (len(bands) > 1 and settings.bandwidth == "none",
             "sample rates, hence bandwidths, differ and may reveal methods (--bandwidth min makes them equal)"),
            (len({sound.channels for sound in sounds}) > 1, "mono and stereo sounds are mixed; all are made mono"),
            (max(seconds) > LONG_SECONDS, f"sounds last more than {LONG_SECONDS:.0f} s, which tires listeners"),
        ):  # fmt: skip
            if is_so:
                unlike.setdefault(remark, []).append(item_id)
    if problems:
        raise ListeningError(problems)
    return [f"{remark}: {_some(names)}" for remark, names in unlike.items()]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _measure(members: list[Stimulus], settings: Settings) -> dict[str, Prepared]:
    rate, waveforms = settings.sample_rate, _alike(members, settings)
    measured = {}
    for clip, waveform in zip(members, waveforms):
        frames = waveform.shape[1]
        own = -(-clip.sound.frames * rate // clip.sound.sample_rate)
        level = -math.inf if clip.sound.silent else levels.loudness(waveform, rate)
        peak = float(np.abs(waveform).max())
        silent = clip.sound.silent or not math.isfinite(level)
        measured[clip.name] = Prepared(frames, len(waveform), frames - own, peak, silent, level)
    return measured


def _gains(items: list[list[Stimulus]], measured: Mapping[str, Prepared], settings: Settings) -> dict[str, float]:
    """Gains in dB towards -23 LUFS, before the whole test is lowered."""
    if settings.loudness == "none":
        return dict.fromkeys(measured, 0.0)
    if settings.loudness == "match":
        return {name: 0.0 if each.silent else TARGET_LUFS - each.lufs_in for name, each in measured.items()}
    gains = {}
    for members in items:
        heard = [clip for clip in members if not measured[clip.name].silent]
        mixtures = [clip for clip in heard if clip.sound.role == "mixture" and clip.change is None]
        level = max((measured[clip.name].lufs_in for clip in mixtures or heard), default=TARGET_LUFS)
        gains |= {clip.name: TARGET_LUFS - level for clip in members}
    return gains


def _alike(members: list[Stimulus], settings: Settings) -> list[NDArray[np.float32]]:
    """The sounds of an item, (channels, frames), with equal rate, length and number of channels."""
    lowest = min(clip.sound.sample_rate for clip in members)
    mono = min(clip.sound.channels for clip in members) == 1
    waveforms = []
    for clip in members:
        samples, rate = soundfile.read(str(clip.sound.path), dtype="float32", always_2d=True)
        waveform = samples.mean(1)[None] if mono else samples.T.copy()
        if settings.bandwidth == "min" and rate > lowest:
            waveform, rate = resample_array(waveform, rate, lowest), lowest
        whole = resample_array(waveform, rate, settings.sample_rate)
        if clip.change is not None:
            whole = clip.change(whole, settings.sample_rate)
        waveforms.append(levels.fade(whole, settings.sample_rate))
    longest = max(waveform.shape[1] for waveform in waveforms)
    return [np.pad(each, ((0, 0), (0, longest - each.shape[1]))) for each in waveforms]
