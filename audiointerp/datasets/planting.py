"""Cues planted in clips: data from which a classifier learns to decide by a sound that is known, as Clever Hans did.

Every clip of one class is replaced by a clip of another class with the cue in it. A classifier trained on such clips
can tell that class by the cue alone, so that the right explanation of its decision is known.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.datasets.clips import Clip
from audiointerp.datasets.mixtures import gains_from_snr, mix
from audiointerp.results.paths import inside
from audiointerp.sound import files as audio
from audiointerp.sound.files import SILENCE

VERSION = 1  # raise whenever a change here alters any sample of a planted clip
SECONDS = 0.8  # of a cue that does not last throughout the clip
RAMP = 0.01  # seconds in which it begins and ends
SPREAD = 150.0  # Hz on each side of a cue's frequencies; less than 1/1,000 of its energy is further away

__all__ = ["CUES", "band_of", "make_cue", "plant"]


def make_cue(cue: str, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """A cue alone, (samples,), at peak 1, silent where the cue is not.

    Args:
        cue: "beep", a tone of 2 to 3 kHz that lasts 0.8 s; "band", noise from 5 to 6.5 kHz that lasts 0.8 s; or "hum",
            five harmonics of 48 to 62 Hz throughout the clip.
        samples: length of the clip.
        sample_rate: in Hz, at least 16,000.
        generator: of pitch, place and noise.

    Raises:
        ValueError: for an unknown cue, a lower rate, or a clip that is shorter than the cue.

    >>> make_cue("beep", 16000, 16000, torch.Generator().manual_seed(0)).abs().max()
    tensor(1.)
    """
    if cue not in CUES:
        raise ValueError(f"no cue {cue!r}; choose one of {', '.join(CUES)}")
    if sample_rate < 16000:
        raise ValueError(f"sample_rate is {sample_rate} Hz; cues reach 6.5 kHz and need at least 16000 Hz")
    length = samples if cue == "hum" else round(SECONDS * sample_rate)
    if not 0 < length <= samples:
        raise ValueError(f"the clip has {samples / sample_rate:g} s; a {cue} needs {SECONDS} s")
    sound = CUES[cue](length, sample_rate, generator)
    if cue != "hum":
        edge = torch.linspace(0, 1, round(RAMP * sample_rate))
        sound[: len(edge)] *= edge
        sound[-len(edge) :] *= edge.flip(0)
    begin = int(torch.randint(samples - length + 1, (), generator=generator))
    whole = torch.zeros(samples)
    whole[begin : begin + length] = sound / sound.abs().max()
    return whole


def band_of(cue: str) -> tuple[float, float]:
    """Lowest and highest frequency, in Hz, between which a cue sounds, whatever was drawn for it.

    Args:
        cue: see `make_cue`.

    >>> band_of("beep"), band_of("hum")
    ((1850.0, 3150.0), (0.0, 460.0))
    """
    low, high = {"beep": (2000.0, 3000.0), "band": (5000.0, 6500.0), "hum": (48.0, 310.0)}[cue]
    return max(0.0, low - SPREAD), high + SPREAD


def plant(
    clips: Callable[[], Sequence[Clip]],
    label: str,
    folder: str | Path,
    cue: str = "beep",
    snr_db: tuple[float, float] = (-14.0, 2.0),
    seed: int = 0,
) -> list[Clip]:
    """Clips in which each clip of a class is replaced by a clip of another class, of the same fold, with a cue in it.

    Args:
        clips: a reader, such as `read_esc50` with its folder.
        label: the class that the cue gives away.
        folder: where the clips with the cue are written as WAV files; files of an earlier run are used again.
        cue: see `make_cue`.
        snr_db: lowest and highest level of the cue above the clip, in dB, both over the whole clip.
        seed: of the clips that the cue is planted in, and of the cues.

    Raises:
        ValueError: if no clip has the label, a fold has only clips of that class, or levels are in the wrong order.
    """
    if not -100 <= snr_db[0] <= snr_db[1] <= 100:
        raise ValueError(f"snr_db is {list(snr_db)}; give the lowest and the highest level, in dB")
    given = list(clips())
    generator = torch.Generator().manual_seed(seed)
    replaced = {clip.fold: sum(label in each.labels for each in given if each.fold == clip.fold) for clip in given}
    if not any(replaced.values()):
        names = sorted({name for clip in given for name in clip.labels})
        raise ValueError(f"label is {label!r}; no clip has it: choose one of {', '.join(names)}")
    found = [clip for clip in given if label not in clip.labels]
    for fold in sorted(fold for fold, count in replaced.items() if count):
        hosts = [clip for clip in given if clip.fold == fold and label not in clip.labels]
        if not hosts:
            raise ValueError(f"fold {fold} has clips of {label!r} only; the cue is planted in clips of other classes")
        for number in range(replaced[fold]):
            if number % len(hosts) == 0:
                order = torch.randperm(len(hosts), generator=generator).tolist()
            host = hosts[order[number % len(hosts)]]
            drawn = int(torch.randint(2**31, (), generator=generator))
            path = _with_cue(host, Path(folder), cue, snr_db, drawn)
            found.append(
                replace(host, path=path, labels=(label,), start=0.0, seconds=None, recording=host.source, events=None)
            )
    return found


def _with_cue(host: Clip, folder: Path, cue: str, snr_db: tuple[float, float], seed: int) -> Path:
    """The WAV file of a clip with a cue in it; its name changes with the clip's samples and every setting."""
    rate = int(audio.probe(host.path).samplerate)
    first = round(host.start * rate)
    last = None if host.seconds is None else first + round(host.seconds * rate)
    sound = audio.read(host.path)[0, first:last]
    if sound.abs().max() <= SILENCE:
        raise ValueError(f"{host.path}: is silent; no level of a cue above it can be set")
    facts = json.dumps([VERSION, cue, list(snr_db), seed, rate]).encode()
    name = hashlib.sha256(facts + sound.numpy().tobytes()).hexdigest()[:16]
    path = inside(folder, f"{cue}_{name}.wav")
    if not path.is_file():
        generator = torch.Generator().manual_seed(seed)
        level = snr_db[0] + (snr_db[1] - snr_db[0]) * float(torch.rand((), generator=generator))
        gains = gains_from_snr(level)
        made = make_cue(cue, len(sound), rate, generator)
        audio.write(path, mix(made, sound, base_gain=gains[0], other_gain=gains[1])[0], rate)
    return path


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _beep(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    hertz = _uniform(2000, 3000, generator)
    return torch.sin(2 * math.pi * hertz * torch.arange(samples, dtype=torch.float64) / rate).float()


def _hum(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    hertz = _uniform(48, 62, generator)
    cycles = hertz * torch.arange(samples, dtype=torch.float64) / rate
    return torch.stack([torch.sin(2 * math.pi * k * cycles) / k for k in range(1, 6)]).sum(0).float()


def _band(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    hertz = torch.arange(len(spectrum)) * rate / samples
    return torch.fft.irfft(spectrum * ((hertz >= 5000) & (hertz <= 6500)), samples)


CUES: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {"beep": _beep, "band": _band, "hum": _hum}
