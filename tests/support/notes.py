"""A tiny data set in NSynth's layout whose families a spectrum tells apart, and the recipes run on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

RATE, SECONDS, SAMPLES = 16000, 0.4, 6400
BANDS = 32
RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "nsynth"
# Amplitudes of the harmonics 1, 2, ...: a flute is nearly a sine, a reed has the odd ones.
HARMONICS = {"flute": (1.0, 0.1), "reed": (1.0, 0.0, 0.7, 0.0, 0.6, 0.0, 0.5)}
# split -> number of the instrument that is heard there (the same instrument is in no two splits), and its pitches
INSTRUMENTS = {"train": (0, 1), "valid": (2,), "test": (3,)}
PITCHES = {"train": (48, 60, 72), "valid": (50, 65), "test": (52, 62)}
VELOCITIES = (50, 100)


def entry(name: str, **changes) -> dict:
    """What examples.json says of a note called `name`."""
    instrument, pitch, velocity = name.rsplit("-", 2)
    family, source, _ = instrument.rsplit("_", 2)
    return {
        "note_str": name, "instrument_str": instrument, "pitch": int(pitch), "velocity": int(velocity),
        "sample_rate": RATE, "instrument_family_str": family, "instrument_source_str": source,
    } | changes  # fmt: skip


def sound(family: str, number: int, pitch: int, velocity: int) -> np.ndarray:
    """A tone that begins at once and dies away; instruments differ in how fast, and in their phases."""
    time = np.arange(SAMPLES) / RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    partials = [
        amplitude * np.sin(2 * np.pi * hertz * k * time + number * k)
        for k, amplitude in enumerate(HARMONICS[family], start=1)
    ]
    return velocity / 127 * 0.3 * np.sum(partials, 0) * np.exp(-time * (3 + number))


def make_notes(root: Path) -> Path:
    """Writes nsynth-train (24 notes), nsynth-valid (8) and nsynth-test (8) of two families."""
    for split, numbers in INSTRUMENTS.items():
        folder = root / f"nsynth-{split}"
        (folder / "audio").mkdir(parents=True)
        entries = {}
        for family in HARMONICS:
            for number, pitch, velocity in np.array(np.meshgrid(numbers, PITCHES[split], VELOCITIES)).T.reshape(-1, 3):
                name = f"{family}_acoustic_{number:03d}-{pitch:03d}-{velocity:03d}"
                entries[name] = entry(name)
                soundfile.write(folder / "audio" / f"{name}.wav", sound(family, number, pitch, velocity), RATE)
        (folder / "examples.json").write_text(json.dumps(entries))
    return root


def recipe(name: str, data: Path, output: Path, *more: object) -> list[str]:
    """`run` of a recipe of NSynth on tiny notes."""
    options = ["--data_folder", data, "--output_folder", output, "--device", "cpu", "--batch_size", 8]
    options += ["--seconds", SECONDS, "--channels", 4, *more]
    return ["run", *map(str, (RECIPES / f"{name}.yaml", *options))]
