"""ITU-R BS.1534-3 (MUSHRA): the low-pass anchors, the rated sounds of a trial, and the limits of the recommendation."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import signal

from audiointerp.listening.study import Study, Trial
from audiointerp.results.paths import inside

Anchors = Mapping[str, Mapping[str, str]]
MAX_SOUNDS, MAX_SECONDS, MIN_TRIALS = 12, 12.0, 5
MINUTES = 20  # answers are sent once, at the end, so an aborted long test loses much
BAND = 8000  # Hz; without energy above it, the 7 kHz anchor is close to transparent
_SAME = 4  # 16-bit steps by which copies of one sound may differ, because each has its own dither
_NARROW = 1e-6  # share of the energy, -60 dB

__all__ = [
    "Anchors",
    "conditions",
    "hidden_reference",
    "is_mushra",
    "is_narrow",
    "limits",
    "lowpass",
    "read_pcm",
    "same_sound",
]


def lowpass(waveform: np.ndarray, sample_rate: int, cutoff_hz: float) -> np.ndarray:
    """Low-passes a sound (BS.1534's anchors: 3500 and 7000 Hz). Linear phase, no delay, equal length.

    At 3.5 kHz the recommendation asks for +-0.1 dB in the pass band, 25 dB at 4 kHz and 50 dB at 4.5 kHz. This Kaiser
    window gives about 60 dB from 8/7 of the cutoff on. A cutoff at or above Nyquist returns the sound unchanged.

    Args:
        waveform: (..., samples).
        sample_rate: in Hz.
        cutoff_hz: end of the pass band, in Hz.

    Raises:
        ValueError: for NaN or infinite samples, or a cutoff that is not positive.

    >>> tones = np.sin(2 * np.pi * np.array([[1000.0], [5000.0]]) * np.arange(4800) / 48000)
    >>> lowpass(tones, 48000, 3500)[:, 1200:3600].std(1).round(2)
    array([0.71, 0.  ])
    """
    if not cutoff_hz > 0:
        raise ValueError(f"cutoff_hz={cutoff_hz}: must be above 0 Hz; the anchors of BS.1534 have 3500 and 7000")
    if not np.isfinite(waveform).all():
        raise ValueError("waveform has NaN or infinite samples; repair it before making an anchor")
    nyquist = sample_rate / 2
    if cutoff_hz >= nyquist or waveform.shape[-1] == 0:
        return waveform.copy()
    stop = min(cutoff_hz * 8 / 7, nyquist)
    taps, beta = signal.kaiserord(62, (stop - cutoff_hz) / nyquist)
    taps |= 1
    low = (cutoff_hz + stop) / sample_rate * np.sinc((cutoff_hz + stop) / sample_rate * (np.arange(taps) - taps // 2))
    kernel = low * np.kaiser(taps, beta)
    kernel = kernel.reshape((1,) * (waveform.ndim - 1) + (-1,))
    dtype = waveform.dtype if np.issubdtype(waveform.dtype, np.floating) else np.dtype(np.float64)
    return signal.oaconvolve(waveform.astype(np.float64), kernel, mode="same", axes=-1).astype(dtype)


def conditions(study: Study, trial: Trial, public: Path, anchors: Anchors) -> dict[str, str]:
    """The rated sounds of a trial without the hidden reference, which webMUSHRA adds: key -> stimulus id.

    The reference and one copy of it (equal up to dither) are left out. The keys of the low-pass anchors are "anchor35"
    and "anchor70"; the key of every other sound is its stimulus id.
    """
    given = anchors.get(trial.trial_id, {})
    keys = {name: key for key, name in given.items() if key in ("anchor35", "anchor70")}
    left_out = (trial.context, hidden_reference(study, trial, public, anchors))
    names = [name for name in dict.fromkeys((*trial.stimuli, *given.values())) if name not in left_out]
    return {keys.get(name, name): name for name in names}


def hidden_reference(study: Study, trial: Trial, public: Path, anchors: Anchors) -> str | None:
    """The id of the sound, among those of a trial, that is its reference or a copy of it; None if there is none."""
    if trial.context is None or trial.context in trial.stimuli:
        return trial.context
    given = anchors.get(trial.trial_id, {}).values()
    reference = inside(public, study.files[trial.context])
    plain = (name for name in trial.stimuli if name not in given)
    return next((name for name in plain if same_sound(inside(public, study.files[name]), reference)), None)


def is_mushra(keys: Iterable[str]) -> bool:
    """Whether a page with a hidden reference may be called MUSHRA, which needs both anchors."""
    return {"anchor35", "anchor70"} <= set(keys)


def limits(study: Study, public: Path, anchors: Anchors) -> list[str]:
    """Warnings, one line each: risks of the test in webMUSHRA, and reasons why ratings are not a MUSHRA test."""
    sounds = [
        name for trial in study.trials for name in (trial.stimuli[:1] if study.task == "simulate" else trial.stimuli)
    ]
    minutes = sum(study.seconds[name] for name in sounds) / 60
    lines = [f"{minutes:.0f} minutes of sound; answers are sent once, at the end: split the test"] * (minutes > MINUTES)
    if study.task == "rating":
        trials = (trial for trial in study.trials if trial.kind == "trial")
        lines += _not_mushra(study, public, {each: conditions(study, each, public, anchors) for each in trials})
    return lines


def _not_mushra(study: Study, public: Path, rated: dict[Trial, dict[str, str]]) -> list[str]:
    def narrow(trial: Trial) -> bool:
        return (
            "anchor70" in rated[trial]
            and trial.context is not None
            and is_narrow(inside(public, study.files[trial.context]))
        )

    def long(trial: Trial) -> bool:
        return study.seconds[trial.context or trial.stimuli[0]] > MAX_SECONDS

    checks: dict[str, Callable[[Trial], bool]] = {
        "without both anchors, 3.5 and 7 kHz: multi-stimulus rating, not MUSHRA": lambda each: (
            not is_mushra(rated[each])
        ),
        f"more than {MAX_SOUNDS} sounds with the hidden reference": lambda each: len(rated[each]) + 1 > MAX_SOUNDS,
        f"longer than {MAX_SECONDS:.0f} s; BS.1534 has about 10 s": long,
        "nothing above 8 kHz, so the 7 kHz anchor is close to transparent: do not screen on it": narrow,
    }
    found = {what: [trial.trial_id for trial in rated if check(trial)] for what, check in checks.items()}
    lines = [f"{what} ({_some(which)})" for what, which in found.items() if which]
    if len(rated) < MIN_TRIALS:
        lines.append(f"{len(rated)} trials; BS.1534 asks for at least {MIN_TRIALS}")
    if not any(trial.kind == "practice" for trial in study.trials):
        lines.append("no practice trial; BS.1534 asks for training")
    return lines


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def read_pcm(path: Path) -> tuple[np.ndarray, int]:
    """Samples (frames, channels), int16, and sample rate of a 16-bit WAV; ValueError for any other file."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"{path}: {8 * file.getsampwidth()}-bit samples; write it as 16-bit PCM")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return samples.reshape(-1, file.getnchannels()), file.getframerate()
    except (wave.Error, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a WAV of 16-bit PCM ({error}); export the study again") from None


def same_sound(one: Path, other: Path) -> bool:
    """Whether two WAVs hold the same sound, equal up to dither."""
    first, second = read_pcm(one), read_pcm(other)
    return (
        first[1] == second[1]
        and first[0].shape == second[0].shape
        and bool((np.abs(first[0].astype(np.int32) - second[0]) <= _SAME).all())
    )


def is_narrow(path: Path) -> bool:
    """Whether a WAV has almost no energy (at most -60 dB) above 8 kHz, as material sampled at 16 kHz."""
    samples, rate = read_pcm(path)
    power = np.abs(np.fft.rfft(samples.astype(np.float64), axis=0)) ** 2
    high = np.fft.rfftfreq(len(samples), 1 / rate) > BAND
    return bool(power[high].sum() <= _NARROW * power.sum())
