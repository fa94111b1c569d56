"""manifest.csv and scores.csv of a run folder, to which rows are appended, so that an interrupted run loses none."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiointerp.metrics.names import INFO
from audiointerp.results.paths import inside
from audiointerp.results.writing import csv_text, restored, write_text

__all__ = ["FACTS", "MANIFEST_COLUMNS", "SCORE_COLUMNS", "Embeddings", "Manifest", "Scores", "forget_damaged"]

FACTS = ("item_id", "method", "source", "condition", "start_s", "recordings", "label", "predicted", "probability")
FACTS += ("target", "target_probability")
SCORE_COLUMNS = (*FACTS, *INFO)
MANIFEST_COLUMNS = (
    *("item_id", "role", "method", "path", "pred_class", "pred_prob", "true_class", "distractor_class", "snr_db"),
    *("sample_rate", "n_frames", "n_channels", "sha256", "lufs", "peak_dbfs", "group", "source", "start_s"),
)


class _Table:
    """A CSV file to which rows are appended; an incomplete last line of a killed process is dropped on opening."""

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]):
        self.path, self.columns, self.key = path, columns, key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        # As bytes: the incomplete line may end within a character.
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            os.truncate(path, len(whole))
        if not whole:
            self._append([columns])
        try:
            reader = csv.DictReader(io.StringIO(whole.decode()))
            rows = list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not readable as a table ({error}); choose another output folder") from None
        if whole and tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"{path}: has other columns than this version writes; choose another output folder")
        if any(None in row or None in row.values() for row in rows):
            raise ValueError(f"{path}: a row has another number of cells than the header; choose another output folder")
        self.keys = {tuple(restored(row[name]) for name in key) for row in rows}

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows in one write; columns they lack stay empty."""
        rows = list(rows)
        self._append([[_cell(row.get(name, "")) for name in self.columns] for row in rows])
        self.keys |= {tuple(str(row[name]) for name in self.key) for row in rows}

    def forget(self, items: Collection[str]) -> None:
        """Removes the rows of items, under a temporary name and renamed, so that they are made again."""
        kept = [row for row in self.rows() if row["item_id"] not in items]
        write_text(self.path, csv_text([self.columns, *([row[name] for name in self.columns] for row in kept)]))
        self.keys = {tuple(row[name] for name in self.key) for row in kept}

    def rows(self) -> list[dict[str, str]]:
        """The rows as they are in the file, as text."""
        with open(self.path, encoding="utf-8", newline="") as file:
            return [{name: restored(cell) for name, cell in row.items()} for row in csv.DictReader(file)]

    def _append(self, rows: Iterable[Iterable[Any]]) -> None:
        size = self.path.stat().st_size
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(csv_text(rows))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # If the disk is full, part of an item's rows may be written; the item would then count as done.
            os.truncate(self.path, size)
            raise


class Scores(_Table):
    """scores.csv: one row per item, method and window."""

    def __init__(self, folder: Path):
        super().__init__(folder / "scores.csv", SCORE_COLUMNS, ("item_id", "method"))

    def has(self, item_id: str, method: str) -> bool:
        """Whether the item was scored with the method."""
        return (item_id, method) in self.keys


class Embeddings:
    """embeddings.csv: the classifier's embedding of each interpretation, one column per channel."""

    def __init__(self, folder: Path):
        self.path = folder / "embeddings.csv"
        self._table: _Table | None = None

    def add(self, item_id: str, method: str, condition: str, embedding: Sequence[float]) -> None:
        """Adds an embedding, unless the item and method are there already."""
        row = {"item_id": item_id, "method": method, "condition": condition}
        row |= {f"e{i}": value for i, value in enumerate(embedding)}
        if self._table is None:
            self._table = _Table(self.path, tuple(row), ("item_id", "method"))
        if (item_id, method) not in self._table.keys:
            self._table.add_rows([row])


class Manifest(_Table):
    """manifest.csv: one row per WAV, with its hash and peak."""

    def __init__(self, folder: Path):
        super().__init__(folder / "manifest.csv", MANIFEST_COLUMNS, ("item_id", "role", "method"))
        self.folder = folder

    def add(self, item_id: str, files: Iterable[tuple[str, str, Path]], facts: dict[str, Any]) -> None:
        """Adds WAVs as (role, method, path), unless they are listed already."""
        for role, method, path in files:
            if (item_id, role, method) in self.keys:
                continue
            info = soundfile.info(str(path))
            row = {
                "item_id": item_id,
                "role": role,
                "method": method,
                "path": path.relative_to(self.folder).as_posix(),
                "sample_rate": info.samplerate,
                "n_frames": info.frames,
                "n_channels": info.channels,
                "sha256": _sha256(path),
                "peak_dbfs": _peak_dbfs(path),
            }
            self.add_rows([row | facts])


def forget_damaged(folder: Path) -> list[str]:
    """Removes the rows of items whose WAVs are missing or changed since they were written; returns lines that say so.

    Called once when a command resumes in a folder; the items are then explained again.
    """
    if not (folder / "manifest.csv").is_file():
        return []
    manifest, lines = Manifest(folder), []
    paths = [(row, inside(folder, row["path"])) for row in manifest.rows()]
    damaged: set[str] = set()
    for row, path in paths:
        if not path.is_file() or _sha256(path) != row["sha256"]:
            damaged.add(row["item_id"])
            fault = "is damaged" if path.is_file() else "is missing"
            lines.append(f"{path}: {fault}; {row['item_id']} is explained again")
    if damaged:
        # Sounds first: if this process is killed here, the item counts as damaged the next time, too.
        for row, path in paths:
            if row["item_id"] in damaged:
                path.unlink(missing_ok=True)
        Scores(folder).forget(damaged)
        manifest.forget(damaged)
    return lines


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _peak_dbfs(path: Path) -> float:
    """Peak in dB relative to full scale; -inf for silence."""
    peak = max(float(np.abs(block).max()) for block in soundfile.blocks(str(path), 1 << 18, dtype="float32"))
    return 20 * math.log10(peak) if peak > 0 else -math.inf
