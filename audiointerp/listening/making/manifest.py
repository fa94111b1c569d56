"""Reads a run's manifest.csv and checks it against the WAVs; all problems are reported together, with their rows.

Rows of the roles `residual` and `listening`, which a run writes for its own page, are skipped without a check. Sounds
whose peak is at most -80 dBFS are kept and marked as silent, because an empty interpretation is a valid result.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from audiointerp.results.paths import inside, why_not_inside
from audiointerp.sound.files import AudioError, probe, quiet_decoder

ROLES = ("mixture", "interpretation", "reference", "anchor", "practice", "catch")
IGNORED_ROLES = ("residual", "listening")
WITH_METHOD = ("interpretation", "anchor")
REQUIRED = ("item_id", "role", "method", "path", "sample_rate", "n_frames", "n_channels", "sha256")
ITEM_ID = re.compile(r"[a-z][a-z0-9_]{0,31}")
SILENT_DBFS = -80.0
MAX_CHANNELS = 2

__all__ = ["ListeningError", "Sound", "items_of", "read_manifest"]


class ListeningError(ValueError):
    """Problems that prevent a listening test of a run, one per line."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Sound:
    """A WAV of a run.

    Attributes:
        item_id, role, method: identify the sound, unique together; method is empty except for the roles interpretation
            and anchor.
        path: path of the file.
        source: its path relative to the run folder.
        sample_rate, frames, channels: rate in Hz, samples per channel, 1 or 2 channels.
        sha256: SHA-256 of the file.
        silent: whether its peak is at most -80 dBFS.
        pred_class, true_class, distractor_class, group: facts of the item; empty where unknown.
    """

    item_id: str
    role: str
    method: str
    path: Path
    source: str
    sample_rate: int
    frames: int
    channels: int
    sha256: str
    silent: bool = False
    pred_class: str = ""
    true_class: str = ""
    distractor_class: str = ""
    group: str = ""


def read_manifest(run: str | Path) -> list[Sound]:
    """The sounds of a run folder that can be used in a listening test, in the order of its manifest.csv.

    Raises:
        ListeningError: with every problem of the table and of its files; row 1 is the header.
        ValueError: if there is no manifest.csv, or it is not a CSV with the required columns.
    """
    run = Path(run)
    path = run / "manifest.csv"
    problems: list[str] = []
    sounds: list[Sound] = []
    rows = _rows(path)
    for number, row in rows:
        sound, wrong = _check_row(row, run)
        problems += [f"{path}, row {number}: {each}" for each in wrong]
        if sound:
            sounds.append(sound)
    problems += [f"{path}, {each}" for each in _check_table(rows)]
    if not any(row["role"] == "interpretation" for _, row in rows):
        problems.append(f"{path}: no row of role interpretation; there is nothing to judge in this run")
    if problems:
        raise ListeningError(problems)
    return sounds


def items_of(sounds: Iterable[Sound]) -> dict[str, list[Sound]]:
    """The sounds of each item, items in the order in which they first appear."""
    items: dict[str, list[Sound]] = {}
    for sound in sounds:
        items.setdefault(sound.item_id, []).append(sound)
    return items


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Row number and row, for each row of a role in use; the header is row 1, as in a spreadsheet."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a folder that `audiointerp run`, interpret or evaluate wrote")
    try:
        lines = list(csv.reader(io.StringIO(path.read_text("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not readable as UTF-8 CSV ({error})") from None
    header = lines[0] if lines else []
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(header) or 'no header'}")
    uneven = [f"{path}, row {number}: {len(line)} cells, the header has {len(header)}; quote cells that hold commas"
              for number, line in enumerate(lines, 1) if line and len(line) != len(header)]  # fmt: skip
    if uneven:
        raise ListeningError(uneven)
    rows = [(number, dict(zip(header, line))) for number, line in enumerate(lines[1:], 2) if line]
    return [(number, row) for number, row in rows if row["role"] not in IGNORED_ROLES]


def _check_row(row: Mapping[str, str], run: Path) -> tuple[Sound | None, list[str]]:
    """The row as a sound (None if its names or its file cannot be used), and its problems."""
    wrong = _wrong_names(row)
    where, reason = _locate(run, row["path"])
    if where is None:
        return None, [*wrong, reason]
    sound, in_file = _check_file(row, where)
    return (None if wrong else sound), wrong + in_file


def _wrong_names(row: Mapping[str, str]) -> list[str]:
    wrong = []
    role, method = row["role"], row["method"]
    if not ITEM_ID.fullmatch(row["item_id"]):
        wrong.append(f"item_id is {row['item_id']!r}; it must be a letter a-z, then at most 31 of a-z, 0-9 and _")
    if role not in ROLES:
        wrong.append(f"role is {role!r}; it must be one of {', '.join(ROLES + IGNORED_ROLES)}")
    elif (role in WITH_METHOD) != bool(method.strip()):
        needs = f"role {role} needs the name of one" if role in WITH_METHOD else f"role {role} must leave it blank"
        wrong.append(f"method is {method!r}; {needs}")
    if role == "mixture" and not row.get("pred_class", "").strip():
        wrong.append("pred_class is blank; a mixture needs the predicted class, which listeners are shown")
    for name, low, high in (("pred_prob", 0.0, 1.0), ("snr_db", -math.inf, math.inf)):
        text = row.get(name, "").strip()
        if text and not low <= _number(text) <= high:
            wrong.append(f"{name} is {text!r}; it must be blank or a number" + (" in [0, 1]" if high == 1 else ""))
    return wrong


def _number(text: str) -> float:
    """The number in a text; NaN, for which every comparison is false, if there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _locate(run: Path, text: str) -> tuple[Path | None, str]:
    """The file at a path of the manifest; None and the reason unless it is a file inside the run folder."""
    if not text.strip() or "\0" in text:
        return None, f"path is {text!r}; name a WAV"
    if reason := why_not_inside(run, text):
        return None, f"path is {text!r}; it {reason}"
    where = inside(run, text)
    if not where.is_file():
        return None, f"path is {text!r}; there is no such file in the run folder"
    return where, ""


def _check_file(row: Mapping[str, str], where: Path) -> tuple[Sound | None, list[str]]:
    """Reads a file and compares it with its row; returns the sound (None if unreadable) and the problems."""
    data = where.read_bytes()
    try:
        info = probe(where)
        with quiet_decoder(where):
            samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except AudioError as error:
        return None, [_without_path(error, where)]
    except (soundfile.LibsndfileError, RuntimeError) as error:
        return None, [f"{row['path']}: not readable as audio ({str(error).rstrip('.')})"]
    is_now = {
        "sample_rate": str(info.samplerate),
        "n_frames": str(len(samples)),
        "n_channels": str(info.channels),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    wrong = [
        f"{name} is {row[name]!r}, but {row['path']} has {value}; the file changed after the manifest was written"
        for name, value in is_now.items()
        if row[name].strip().lower() != value
    ]
    if info.channels > MAX_CHANNELS:
        wrong.append(f"{row['path']} has {info.channels} channels; mix it down to one or two")
    peak = float(np.abs(samples).max())
    if not math.isfinite(peak):
        wrong.append(f"{row['path']} has NaN or infinite samples")
    facts = {name: row.get(name, "").strip() for name in ("pred_class", "true_class", "distractor_class", "group")}
    sound = Sound(
        *(row["item_id"], row["role"], row["method"].strip(), where, row["path"]),
        *(info.samplerate, len(samples), info.channels, is_now["sha256"]),
        silent=peak <= 10 ** (SILENT_DBFS / 20),
        **facts,
    )
    return sound, wrong


def _without_path(error: AudioError, where: Path) -> str:
    return f"path is {where.name!r}: {str(error).removeprefix(f'{where}: ')}"


def _check_table(rows: list[tuple[int, dict[str, str]]]) -> list[str]:
    """Problems that concern several rows: duplicates, and items without a mixture or an interpretation."""
    wrong = []
    first: dict[tuple[str, str, str], int] = {}
    items: dict[str, list[int]] = {}
    roles: dict[str, set[str]] = {}
    for number, row in rows:
        key = (row["item_id"], row["role"], row["method"])
        if key in first:
            wrong.append(f"row {number}: {' '.join(part for part in key if part)} is in row {first[key]} already")
        first.setdefault(key, number)
        items.setdefault(row["item_id"], []).append(number)
        roles.setdefault(row["item_id"], set()).add(row["role"])
    for item_id, numbers in items.items():
        has = roles[item_id]
        if has & {"practice", "catch"} and not has & set(WITH_METHOD):
            continue  # only a practice or catch sound, perhaps with its mixture: not an item of the test
        for role in ("mixture", "interpretation"):
            if role not in has:
                wrong.append(f"row {numbers[0]}: item {item_id} has no row of role {role}")
    return wrong
