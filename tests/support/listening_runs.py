"""Run folders for the tests of listening tests: small WAVs, manifest.csv and run.json, without any model."""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from audiointerp.results.tables import MANIFEST_COLUMNS

LABELS = ("dog", "church_bells", "crying_baby", "cat", "pig")


@dataclass(frozen=True)
class Sound:
    """A WAV of a run and its row of manifest.csv; `facts` are further columns."""

    item_id: str
    role: str
    method: str
    samples: np.ndarray
    sample_rate: int = 16000
    subtype: str = "FLOAT"
    facts: Mapping[str, object] = field(default_factory=dict)


def noise(frames: int, seed: int, level: float = 0.1) -> np.ndarray:
    """White noise of that standard deviation, float32, shape (frames,)."""
    return (level * np.random.default_rng(seed).standard_normal(frames)).astype("float32")


def make_run(
    folder: Path,
    items: int = 2,
    methods: Sequence[str] = ("piq", "l2i"),
    *,
    references: bool = False,
    leave_out: Iterable[tuple[int, str]] = (),
    practice: int = 0,
    catch: int = 0,
    seconds: float = 0.5,
    sample_rate: int = 16000,
    groups: Sequence[str] = ("",),
    labels: Sequence[str] = LABELS,
    seed: int = 0,
) -> Path:
    """A run of noise clips: `items` items named c_00, c_01, ..., each with a mixture and every method.

    Args:
        references: a clean target (role reference) for every item.
        leave_out: (item number, method) pairs that the run lacks.
        practice, catch: how many rows of these roles there are besides, each in an item of its own (p_00, x_00).
        groups: of the items, in turn.
        labels: class names; item i is predicted to be labels[i % len(labels)].
    """
    skipped, frames = set(leave_out), int(seconds * sample_rate)
    sounds: list[Sound] = []

    def add(item_id: str, role: str, method: str, facts: Mapping[str, object]) -> None:
        samples = noise(frames, seed=1000 * seed + len(sounds))
        sounds.append(Sound(item_id, role, method, samples, sample_rate, facts=facts))

    for index in range(items):
        label = labels[index % len(labels)]
        facts = {
            "pred_class": label,
            "pred_prob": 0.9,
            "true_class": label,
            "distractor_class": labels[(index + 1) % len(labels)],
            "group": groups[index % len(groups)],
            "source": f"clip_{index:02d}.wav",
            "start_s": 0,
        }
        item_id = f"c_{index:02d}"
        add(item_id, "mixture", "", facts)
        if references:
            add(item_id, "reference", "", facts)
        for method in methods:
            if (index, method) not in skipped:
                add(item_id, "interpretation", method, facts)
                add(item_id, "residual", method, facts)
                add(item_id, "listening", method, facts)
    for role, letter, count in (("practice", "p", practice), ("catch", "x", catch)):
        for index in range(count):
            add(f"{letter}_{index:02d}", role, "", {"pred_class": labels[0], "pred_prob": 0.9})
    return write_run(folder, sounds, labels)


def write_run(folder: Path, sounds: Iterable[Sound], labels: Sequence[str] = LABELS) -> Path:
    """Writes exactly these sounds as a run folder; returns it."""
    rows = []
    for sound in sounds:
        name = "_".join(part for part in (sound.role, sound.method) if part)
        path = folder / "audio" / sound.item_id / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound.samples, sound.sample_rate, subtype=sound.subtype)
        rows.append(
            {
                "item_id": sound.item_id,
                "role": sound.role,
                "method": sound.method,
                "path": path.relative_to(folder).as_posix(),
                "sample_rate": sound.sample_rate,
                "n_frames": len(sound.samples),
                "n_channels": 1 if sound.samples.ndim == 1 else sound.samples.shape[1],
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                **sound.facts,
            }
        )
    write_rows(folder, rows)
    about = {"name": "fake", "seed": 0, "labels": list(labels), "versions": {"audiointerp": "0"}}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def read_rows(folder: Path) -> list[dict[str, str]]:
    """manifest.csv as dicts, to be changed and written back."""
    with open(folder / "manifest.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """manifest.csv from dicts; columns they lack stay empty."""
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, MANIFEST_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
