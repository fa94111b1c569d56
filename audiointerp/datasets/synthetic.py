"""The embedded default: ten classes of procedurally made sound events, laid out on disk like ESC-50.

Every clip is computed from (seed, class, number). Pitch, timing, number of events, timbre, level and background noise
are drawn per clip from ranges that overlap between classes: the average spectrum does not identify the
class, but the shape in time and frequency does (a sweep, a regular tick, a decaying chord), by ear and on a
spectrogram.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from audiointerp.datasets.events import write_events
from audiointerp.sound.activity import Times, active_times

Signal = NDArray[np.float64]
SAMPLE_RATE = 16000
SNR = (10.0, 25.0)  # level of the events above the background noise, in dB, both over the whole clip
VERSION = 1  # raise whenever a change here alters any sample of any clip

__all__ = ["CLASSES", "make_synthetic", "synthesize", "synthesize_with_times"]


def synthesize(label: str, rng: Generator, seconds: float = 5.0, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """One clip of a class, (samples,) float32 with its peak between 0.1 and 1: events plus coloured background noise.

    Args:
        label: one of `CLASSES`.
        rng: the only source of random numbers; the same state gives the same clip.
        seconds, sample_rate: at least 0.5 s; at least 16,000 Hz, as the sounds reach 7 kHz.

    Raises:
        ValueError: if the class does not exist, or the clip is too short or its rate too low for the sounds.

    >>> clip = synthesize("bell", np.random.default_rng(0), seconds=1.0)
    >>> clip.shape, clip.dtype, bool(abs(clip).max() <= 1)
    ((16000,), dtype('float32'), True)
    """
    return synthesize_with_times(label, rng, seconds, sample_rate)[0]


def synthesize_with_times(
    label: str, rng: Generator, seconds: float = 5.0, sample_rate: int = SAMPLE_RATE
) -> tuple[NDArray[np.float32], Times]:
    """The same clip, and the times in seconds at which its events sound, measured before the noise is added.

    Args and errors: see `synthesize`.

    >>> clip, times = synthesize_with_times("beep", np.random.default_rng(0), seconds=1.0)
    >>> len(clip), all(0 <= start < end <= 1 for start, end in times)
    (16000, True)
    """
    if label not in _SOUNDS:
        raise ValueError(f"no synthetic class {label!r}; choose one of {', '.join(CLASSES)}")
    if not 0.5 <= seconds < float("inf"):
        raise ValueError(f"seconds is {seconds}; a synthetic clip needs at least 0.5 s for its events")
    if sample_rate < 16000:
        raise ValueError(f"sample_rate is {sample_rate} Hz; synthetic sounds reach 7 kHz and need at least 16000 Hz")
    samples = round(seconds * sample_rate)
    events = _SOUNDS[label](rng, samples, sample_rate)
    events = _tilt(events, rng.uniform(-4, 4), sample_rate)
    noise = _tilt(rng.standard_normal(samples), rng.uniform(-6, 3), sample_rate)
    noise *= events.std() / noise.std() * 10 ** (-rng.uniform(*SNR) / 20)
    clip = events + noise
    clip = (clip * (rng.uniform(0.1, 1) / np.abs(clip).max())).astype(np.float32)
    # No sound is too short: a tick of the clock lasts 20 ms.
    return clip, active_times(torch.from_numpy(events), sample_rate, least=0.0)


def make_synthetic(
    folder: Path, clips_per_class: int = 40, folds: int = 5, seed: int = 0, seconds: float = 5.0
) -> Path:
    """Writes the dataset in ESC-50's layout and returns its folder; does nothing if it exists already.

    `meta/esc50.csv` has ESC-50's columns (`esc10` is always True, so that a filter by it keeps every class), `audio`
    16-bit mono files at 16 kHz named `<fold>-<id>-A-<target>.wav`, `meta/events.csv` the times at which the events of
    each clip sound (added to a folder of an earlier version), `meta/synthetic.json` the settings. Every fold has
    the same number of clips of each class, up to one; a clip depends on its class and number, seed and seconds alone.
    The folder appears by one rename when it is complete.

    Args:
        folder: of the dataset; must not exist, must be empty, or must hold this same dataset.
        clips_per_class, folds: at least one clip per class and fold; folds are numbered from 1.
        seed, seconds: not negative; of each clip, at least 0.5 s.

    Raises:
        ValueError: if a setting is invalid, or the folder has other or incomplete content.
    """
    folder = Path(folder)
    if folds < 1 or clips_per_class < folds:
        raise ValueError(f"{clips_per_class} clips per class cannot fill {folds} folds; give at least one per fold")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    settings = {"version": VERSION, "sample_rate": SAMPLE_RATE, "seconds": float(seconds), "seed": seed}
    settings |= {"clips_per_class": clips_per_class, "folds": folds}
    rows = _table(clips_per_class, folds)
    if _complete(folder, settings, rows):
        if not (folder / "meta" / "events.csv").is_file():
            _write_times(folder, [(row, _made(row, settings)[1]) for row in rows])
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
        made = Path(aside) / folder.name
        _write(made, settings, rows)
        try:
            os.replace(made, folder)
        except OSError:
            if not _complete(folder, settings, rows):  # else another process wrote the same dataset meanwhile
                raise
    return folder


def _table(clips_per_class: int, folds: int) -> list[dict[str, Any]]:
    """The rows of meta/esc50.csv, sorted by fold and number as in ESC-50."""
    columns = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    rows = []
    for source in range(len(CLASSES) * clips_per_class):
        target, number = divmod(source, clips_per_class)
        fold = number % folds + 1
        values = (f"{fold}-{source}-A-{target}.wav", fold, target, CLASSES[target], True, source, "A")
        rows.append(dict(zip(columns, values)))
    return sorted(rows, key=lambda row: (row["fold"], row["src_file"]))


def _write(folder: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    times = []
    for row in rows:
        clip, active = _made(row, settings)
        soundfile.write(folder / "audio" / row["filename"], clip, SAMPLE_RATE, subtype="PCM_16")
        times.append((row, active))
    _write_times(folder, times)
    pd.DataFrame(rows).to_csv(folder / "meta" / "esc50.csv", index=False, lineterminator="\n")
    (folder / "meta" / "synthetic.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _made(row: dict[str, Any], settings: dict[str, Any]) -> tuple[NDArray[np.float32], Times]:
    """The clip of a row of the table, and its times."""
    target_and_number = divmod(row["src_file"], settings["clips_per_class"])
    seeds = np.random.SeedSequence(settings["seed"], spawn_key=target_and_number)
    return synthesize_with_times(row["category"], np.random.default_rng(seeds), settings["seconds"])


def _write_times(folder: Path, times: Iterable[tuple[dict[str, Any], Times]]) -> None:
    events = [(row["filename"], {row["category"]: active}) for row, active in times]
    write_events(folder / "meta" / "events.csv", events)


def _complete(folder: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """True if the folder holds this dataset, False if it is missing or empty; ValueError for other content."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "meta" / "synthetic.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ValueError(f"{folder} has content that is not the synthetic dataset; choose another folder") from None
    if found != settings:
        raise ValueError(f"{folder} holds a synthetic dataset made as {found}, not {settings}; choose another folder")
    names = ["meta/esc50.csv", *(f"audio/{row['filename']}" for row in rows)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {missing[0]} ({len(missing)} files in all); delete it to have it made again")
    return True


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _tilt(signal: Signal, slope: float, rate: int) -> Signal:
    """The signal with a spectral slope, in dB per octave; flat below 60 Hz."""
    spectrum = np.fft.rfft(signal)
    frequency = np.fft.rfftfreq(len(signal), 1 / rate)
    return np.fft.irfft(spectrum * np.maximum(frequency / 1000, 0.06) ** (slope / 6.0206), len(signal))


def _time(seconds: float, rate: int) -> Signal:
    return np.arange(max(2, round(seconds * rate))) / rate


def _tone(frequency: Signal, rate: int, weights: Iterable[float] = (1.0,)) -> Signal:
    """A harmonic tone on a fundamental in Hz, without aliasing; weights of the fundamental, the octave, ..."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    partials = [w * np.sin(k * phase) * (k * frequency < 0.48 * rate) for k, w in enumerate(weights, 1)]
    return np.sum(partials, axis=0)


def _damped(rng: Generator, modes: Iterable[float], decay: float, noise: float, rate: int) -> Signal:
    """A knocked body: damped modes (Hz) with a noisy onset; `decay` is the time constant in seconds."""
    time = _time(7 * decay, rate)
    ringing = np.sum([np.sin(2 * np.pi * mode * time + rng.uniform(0, 2 * np.pi)) for mode in modes], axis=0)
    return ringing * np.exp(-time / decay) + noise * rng.standard_normal(len(time)) * np.exp(-time / (decay / 3))


def _gate(samples: int, rate: int, ramp: float) -> Signal:
    """1 with a linear rise and fall of `ramp` seconds."""
    position = np.arange(samples) / (ramp * rate)
    return np.minimum(1, np.minimum(position, position[::-1]))


def _place(events: Iterable[tuple[float, Signal]], samples: int, rate: int) -> Signal:
    """Adds (onset in seconds, event) into a silent clip; samples beyond its end are cut."""
    clip = np.zeros(samples)
    for onset, event in events:
        start = min(max(0, round(onset * rate)), samples - 1)
        clip[start : start + len(event)] += event[: samples - start]
    return clip


def _regular(rng: Generator, period: float, seconds: float, jitter: float = 0.0) -> Signal:
    """Onsets in seconds every `period`, starting at a random phase, each shifted by up to `jitter` periods."""
    onsets = np.arange(rng.uniform(0, min(period, seconds / 3)), max(seconds - 0.1, seconds / 2), period)
    return onsets + rng.uniform(-jitter, jitter, len(onsets)) * period


def _siren(rng: Generator, samples: int, rate: int) -> Signal:
    """One long harmonic tone whose pitch swings up and down, up to once a second."""
    time = np.arange(samples) / rate
    cycle = np.sin(2 * np.pi * (rng.uniform(0.3, 1) * time + rng.uniform()))
    swing = cycle if rng.uniform() < 0.5 else np.arcsin(cycle) * 2 / np.pi
    pitch = _log_uniform(rng, 500, 1800) * 2 ** (rng.uniform(0.3, 0.7) * swing)
    return _tone(pitch, rate, rng.uniform(0.1, 0.9) ** np.arange(5)) * _gate(samples, rate, 0.2)


def _bell(rng: Generator, samples: int, rate: int) -> Signal:
    """A few strikes, each a sudden chord of inharmonic partials that die away, the high ones first."""
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.17]) * rng.uniform(0.97, 1.03, 9)
    modes = zip(_log_uniform(rng, 400, 1600) * ratios, rng.uniform(0.1, 1, 9), rng.uniform(0.4, 1) / np.sqrt(ratios))
    time = _time(3, rate)
    strike = np.sum([w * np.exp(-time / d) * np.sin(2 * np.pi * mode * time) for mode, w, d in modes], axis=0)
    onsets = _regular(rng, rng.uniform(1.1, 2.5), samples / rate, 0.1)
    return _place([(onset, rng.uniform(0.6, 1) * strike) for onset in onsets], samples, rate)


def _clock(rng: Generator, samples: int, rate: int) -> Signal:
    """Single dry clicks at a strictly regular pace, tick and tock by turns, for the whole clip."""
    centre, decay = _log_uniform(rng, 700, 3500), rng.uniform(0.003, 0.008)
    sides = (centre, centre * rng.uniform(0.6, 0.9))
    sounds = [_damped(rng, side * rng.uniform(0.6, 1.7, 3), decay, rng.uniform(0.2, 1), rate) for side in sides]
    onsets = _regular(rng, rng.uniform(0.25, 0.6), samples / rate)
    return _place([(onset, sounds[n % 2]) for n, onset in enumerate(onsets)], samples, rate)


def _rain(rng: Generator, samples: int, rate: int) -> Signal:
    """Many irregular drops, 15 to 50 a second, each a tiny blip at a pitch and loudness of its own."""
    seconds, centre = samples / rate, _log_uniform(rng, 900, 2800)
    count = max(3, round(rng.uniform(15, 50) * seconds))
    pitches = centre * 2 ** rng.uniform(-1, 1, count)
    decays, levels = rng.uniform(0.004, 0.012, count), np.exp(rng.normal(0, 0.6, count))
    drops = [v * _damped(rng, [p], d, 0.2, rate) for p, d, v in zip(pitches, decays, levels)]
    return _place(zip(rng.uniform(0, seconds, count), drops), samples, rate)


def _engine(rng: Generator, samples: int, rate: int) -> Signal:
    """A dense train of identical thumps, 9 to 20 a second, that speeds up or slows down."""
    modes = [_log_uniform(rng, 100, 400), _log_uniform(rng, 400, 1200), _log_uniform(rng, 1000, 3500)]
    thump = _damped(rng, modes, rng.uniform(0.006, 0.014), rng.uniform(0.2, 0.8), rate)
    grid = np.linspace(0, samples / rate, 200)
    speed = rng.uniform(9, 20) * 2 ** (rng.uniform(0.2, 0.5) * np.sin(2 * np.pi * (grid / 5 + rng.uniform())))
    turns = np.cumsum(speed) * grid[1]
    onsets = np.interp(np.arange(turns[0], turns[-1]), turns, grid)
    return _place([(onset, rng.uniform(0.8, 1) * thump) for onset in onsets], samples, rate)


def _cricket(rng: Generator, samples: int, rate: int) -> Signal:
    """Chirps of four to seven quick pulses of one fixed high tone, about two chirps a second."""
    pitch, pulse_rate = _log_uniform(rng, 2000, 4800), rng.uniform(22, 32)
    time = _time(rng.integers(4, 8) / pulse_rate, rate)
    chirp = _tone(np.full_like(time, pitch), rate) * np.maximum(0, np.sin(2 * np.pi * pulse_rate * time)) ** 1.5
    onsets = _regular(rng, rng.uniform(0.36, 0.6), samples / rate, 0.03)
    return _place([(onset, rng.uniform(0.6, 1) * chirp) for onset in onsets], samples, rate)


def _knock(rng: Generator, samples: int, rate: int) -> Signal:
    """Groups of three to five wooden knocks in quick succession, with long pauses between the groups."""
    modes = _log_uniform(rng, 150, 600) * np.array([1, rng.uniform(1.5, 2.2), rng.uniform(2.5, 4.5)])
    knock = _damped(rng, modes, rng.uniform(0.02, 0.045), rng.uniform(0.5, 1.5), rate)
    gap, size = rng.uniform(0.13, 0.2), int(rng.integers(3, 6))
    onsets = _regular(rng, size * gap + rng.uniform(0.3, 0.7), samples / rate, 0.1)
    times = (onsets[:, None] + gap * np.arange(size)).ravel()
    return _place([(time, rng.uniform(0.7, 1) * knock) for time in times if time < samples / rate], samples, rate)


def _bird(rng: Generator, samples: int, rate: int) -> Signal:
    """Short whistles that glide by about an octave, up, down or in an arch, in loose phrases."""
    pitch, seconds = _log_uniform(rng, 1300, 3000), samples / rate
    shapes = [lambda x: x, lambda x: 1 - x, lambda x: np.sin(np.pi * x), lambda x: 1 - np.sin(np.pi * x)]
    syllables = []
    for shape in rng.choice(4, 2, replace=False):
        time = _time(rng.uniform(0.12, 0.28), rate)
        glide = pitch * rng.uniform(0.8, 1.2) * 2 ** (rng.uniform(0.7, 1.2) * (shapes[shape](time / time[-1]) - 0.5))
        syllables.append(_tone(glide, rate, [1, rng.uniform(0, 0.3)]) * _gate(len(time), rate, 0.02))
    onsets = _regular(rng, rng.uniform(0.25, 0.42), seconds, 0.15)
    return _place([(o, rng.uniform(0.5, 1) * syllables[rng.integers(2)]) for o in onsets], samples, rate)


def _beep(rng: Generator, samples: int, rate: int) -> Signal:
    """Flat tones switched on and off at a regular pace, one pitch or two by turns, as a telephone or an alarm."""
    period, pitch = rng.uniform(0.35, 1.1), _log_uniform(rng, 500, 2500)
    time = _time(period * rng.uniform(0.35, 0.7), rate)
    weights = [1, 0, rng.uniform(0, 0.5), 0, rng.uniform(0, 0.3)]
    tones = [np.full_like(time, pitch * ratio) for ratio in (1, rng.choice([1, 1.25, 1.5]))]
    beeps = [_tone(tone, rate, weights) * _gate(len(time), rate, 0.005) for tone in tones]
    onsets = _regular(rng, period, samples / rate)
    return _place([(onset, beeps[n % 2]) for n, onset in enumerate(onsets)], samples, rate)


def _bark(rng: Generator, samples: int, rate: int) -> Signal:
    """Hoarse cries of 0.2 to 0.35 s, a stack of harmonics that bends up and down together, at odd intervals."""
    base, formant = _log_uniform(rng, 250, 550), _log_uniform(rng, 700, 1800)
    onsets, barks = _regular(rng, rng.uniform(0.5, 0.9), samples / rate, 0.2), []
    for _ in onsets:
        time = _time(rng.uniform(0.2, 0.35), rate)
        arch = np.sin(np.pi * time / time[-1])
        pitch = base * rng.uniform(0.9, 1.1) * 2 ** (rng.uniform(0.4, 0.7) * arch)
        weights = 1 / (1 + ((base * np.arange(1, 13) - formant) / 600) ** 2)
        voice = _tone(pitch, rate, weights) + 0.08 * rng.standard_normal(len(time))
        barks.append(rng.uniform(0.6, 1) * voice * np.sqrt(np.maximum(arch, 0)))
    return _place(zip(onsets, barks), samples, rate)


_MAKERS = (_siren, _bell, _clock, _rain, _engine, _cricket, _knock, _bird, _beep, _bark)
_SOUNDS: dict[str, Callable[[Generator, int, int], Signal]] = {make.__name__[1:]: make for make in _MAKERS}
CLASSES: tuple[str, ...] = tuple(_SOUNDS)
