"""manifest.csv and scores.csv of a run folder, to which rows are appended, so that an interrupted run loses none."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import itertools
import math
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiointerp.metrics.names import INFO
from audiointerp.results.paths import inside
from audiointerp.results.reading import LIKELIEST
from audiointerp.results.shapes import read_json
from audiointerp.results.writing import csv_text, restored, write_json, write_text

__all__ = [
    "FACTS",
    "MANIFEST_COLUMNS",
    "SCORE_COLUMNS",
    "Embeddings",
    "Likeliest",
    "Manifest",
    "RowTable",
    "Scores",
    "forget_damaged",
    "forget_items",
    "forget_replaced",
    "source_hash",
]

FACTS = ("item_id", "method", "source", "condition", "start_s", "recordings", "label", "predicted", "probability")
FACTS += ("target", "target_probability")
# The last ones, which tables of earlier versions lack; "chosen": the method shown, of one that chooses among methods.
ADDED_SCORES = ("time_auc", "time_iou", "time_f1", "pointing_game", "chosen")
SCORE_COLUMNS = (*FACTS, *(name for name in INFO if name not in ADDED_SCORES), *ADDED_SCORES)
MANIFEST_COLUMNS = (
    *("item_id", "role", "method", "path", "pred_class", "pred_prob", "true_class", "distractor_class", "snr_db"),
    *("sample_rate", "n_frames", "n_channels", "sha256", "lufs", "peak_dbfs", "group", "source", "start_s"),
    "source_sha256",
)


class RowTable:
    """A CSV file to which rows are appended; an incomplete last line of a killed process is dropped on opening.

    Args:
        path: the file.
        columns: of the file, in their order.
        key: the columns that tell rows apart.
        added: number of the last columns that files of earlier versions lack; they are added, empty.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str], added: int = 0):
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
        self.keys: set[tuple[str, ...]] = set()
        self._read_keys(whole, added)

    def _read_keys(self, data: bytes, added: int) -> None:
        """Checks the table and keeps the keys of its rows, one row at a time."""
        if not data:
            return
        before = tuple(self.columns[: len(self.columns) - added])
        try:
            reader = csv.DictReader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""))
            header = tuple(reader.fieldnames or ())
            if header not in (tuple(self.columns), before):
                raise ValueError(
                    f"{self.path}: has other columns than this version writes; choose another output folder"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(
                        f"{self.path}: a row has another number of cells than the header; choose another output folder"
                    )
                self.keys.add(tuple(restored(row[name]) for name in self.key))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{self.path}: not readable as a table ({error}); choose another output folder") from None
        if header != tuple(self.columns):
            self._write(self.rows())

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows in one write; columns they lack stay empty."""
        rows = list(rows)
        self._append([[_cell(row.get(name, "")) for name in self.columns] for row in rows])
        self.keys |= {tuple(str(row[name]) for name in self.key) for row in rows}

    def add_whole(self, rows: Iterable[dict[str, str]]) -> None:
        """Adds rows of text whose keys are not there yet; the file is replaced, so that all or none are added."""
        new = [row for row in rows if self.key_of(row) not in self.keys]
        if new:
            self._write(itertools.chain(self.rows(), new))
            self.keys |= {self.key_of(row) for row in new}

    def key_of(self, row: Mapping[str, str]) -> tuple[str, ...]:
        """The cells by which a row is told from others."""
        return tuple(row[name] for name in self.key)

    def count_as_there(self, other: RowTable) -> None:
        """Takes the rows of another table for rows of this one, which need not be made."""
        self.keys |= other.keys

    def forget(self, items: Collection[str]) -> None:
        """Removes the rows of items, under a temporary name and renamed, so that they are made again."""
        self._write(row for row in self.rows() if row["item_id"] not in items)
        place = self.key.index("item_id")
        self.keys = {key for key in self.keys if key[place] not in items}

    def rows(self) -> Iterator[dict[str, str]]:
        """The rows as they are in the file, as text."""
        with open(self.path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield {name: restored(cell) for name, cell in row.items()}

    def _write(self, rows: Iterable[dict[str, str]]) -> None:
        """Replaces the file, under a temporary name; a column that a row lacks stays empty."""
        lines = ([row.get(name, "") for name in self.columns] for row in rows)
        write_text(self.path, csv_text(itertools.chain([self.columns], lines)))

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


class Scores(RowTable):
    """scores.csv: one row per item, method and window."""

    def __init__(self, folder: Path):
        super().__init__(folder / "scores.csv", SCORE_COLUMNS, ("item_id", "method"), added=len(ADDED_SCORES))

    def has(self, item_id: str, method: str) -> bool:
        """Whether the item was scored with the method."""
        return (item_id, method) in self.keys


class Embeddings:
    """embeddings.csv: the classifier's embedding of each interpretation, one column per channel."""

    KEY = ("item_id", "method")

    def __init__(self, folder: Path):
        self.path = folder / "embeddings.csv"
        self._table: RowTable | None = None

    def add(self, item_id: str, method: str, condition: str, embedding: Sequence[float]) -> None:
        """Adds an embedding, unless the item and method are there already."""
        row = {"item_id": item_id, "method": method, "condition": condition}
        row |= {f"e{i}": value for i, value in enumerate(embedding)}
        if self._table is None:
            self._table = RowTable(self.path, tuple(row), self.KEY)
        if (item_id, method) not in self._table.keys:
            self._table.add_rows([row])

    def forget(self, items: Collection[str]) -> None:
        """Removes the rows of items."""
        if not self.path.is_file():
            return
        with open(self.path, encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), [])
        if columns:
            self._table = None
            RowTable(self.path, columns, self.KEY).forget(items)


class Likeliest(RowTable):
    """likeliest.csv: the likeliest labels of each recording, one row per label."""

    def __init__(self, folder: Path):
        super().__init__(folder / LIKELIEST, ("item_id", "rank", "label", "probability"), ("item_id",))

    def has(self, item_id: str) -> bool:
        """Whether the recording's labels are noted."""
        return (item_id,) in self.keys

    def add(self, item_id: str, labels: Iterable[tuple[str, float]]) -> None:
        """Notes labels with their probabilities, likeliest first, unless the recording has some."""
        if not self.has(item_id):
            ranked = enumerate(labels, 1)
            self.add_rows(
                {"item_id": item_id, "rank": rank, "label": label, "probability": probability}
                for rank, (label, probability) in ranked
            )


class Manifest(RowTable):
    """manifest.csv: one row per WAV, with its hash and peak."""

    def __init__(self, folder: Path):
        super().__init__(folder / "manifest.csv", MANIFEST_COLUMNS, ("item_id", "role", "method"), added=1)
        self.folder = folder

    def add(self, item_id: str, files: Iterable[tuple[str, str, Path]], facts: dict[str, Any]) -> None:
        """Adds WAVs as (role, method, path), unless they are listed already."""
        rows = []
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
            rows.append(row | facts)
        if rows:
            self.add_rows(rows)


def forget_damaged(folder: Path, inputs: Mapping[str, Sequence[str]] = {}) -> list[str]:
    """Removes the rows of items whose WAVs are missing or changed, or whose input was replaced, since then.

    Called once when a command resumes in the folder of an earlier one; the items are then explained again.

    Args:
        folder: the run folder.
        inputs: sources that the command explains -> further files that the item is made of, such as the stems of a
            mixture. An item of another source stays, even if its source changed.

    Returns:
        A line for each damaged WAV and each changed input.
    """
    if not (folder / "manifest.csv").is_file():
        return []
    manifest, lines = Manifest(folder), []
    damaged, changed = set(), set()
    for row in manifest.rows():
        item = row["item_id"]
        try:
            path = inside(folder, row["path"])
        except ValueError as error:
            raise ValueError(f"{manifest.path}: path {error}; choose another output folder") from None
        if replaced := _replaced(row, inputs):
            if item not in changed:
                lines.append(f"{replaced}: was changed since it was explained; {item} is explained again")
            changed.add(item)
        elif not path.is_file() or _sha256(path) != row["sha256"]:
            damaged.add(item)
            fault = "is damaged" if path.is_file() else "is missing"
            lines.append(f"{path}: {fault}; {item} is explained again")
    if damaged | changed:
        _forget_pictures(folder, changed)
        forget_items(folder, damaged | changed)
    return lines


def forget_items(folder: Path, items: Collection[str]) -> None:
    """Removes the WAVs of items and their rows in manifest.csv, scores.csv and embeddings.csv."""
    if (folder / "manifest.csv").is_file():
        # Sounds first: if this process is killed here, the item counts as damaged the next time, too.
        for row in Manifest(folder).rows():
            if row["item_id"] in items:
                inside(folder, row["path"]).unlink(missing_ok=True)
    Embeddings(folder).forget(items)
    if (folder / "scores.csv").is_file():
        Scores(folder).forget(items)
    if (folder / "manifest.csv").is_file():
        Manifest(folder).forget(items)


def _replaced(row: dict[str, str], inputs: Mapping[str, Sequence[str]]) -> str:
    """The file of an item that was replaced since it was explained; empty if none was, or its hash is not known."""
    if row["source"] not in inputs:
        return ""
    files = (row["source"], *inputs[row["source"]])
    hashes = zip(files, row["source_sha256"].split(";"), source_hash(*files).split(";"))
    return next((file for file, before, now in hashes if before not in ("", now)), "")


def forget_replaced(folder: Path, files: Mapping[str, Sequence[str]]) -> list[str]:
    """Removes the rows and WAVs of a run's items of which a file was replaced since they were first explained.

    Unlike `forget_damaged`, it also finds items whose sounds are not kept, and items made of drawn files, such as a
    clip with noise, when another file is drawn. The hashes lie in sources.json of the run folder.

    Args:
        folder: the run folder.
        files: item id -> the files that the item is made of.

    Returns:
        A line for each item that is explained again.
    """
    path = folder / "sources.json"
    known: dict[str, str] = read_json(path, {str: str}) if path.is_file() else {}
    now = {item: source_hash(*each) for item, each in files.items()}
    changed = [item for item, each in now.items() if known.get(item, each) != each]
    if changed:
        _forget_pictures(folder, changed)
        forget_items(folder, changed)
    if known | now != known:
        write_json(path, known | now)
    return [f"{files[item][0]}: a file of it was changed since; {item} is explained again" for item in changed]


def _forget_pictures(folder: Path, items: Collection[str]) -> None:
    """Removes the figures of items whose input was replaced, of all windows, and their likeliest labels."""
    figures = folder / "figures"
    for path in figures.iterdir() if items and figures.is_dir() else ():
        words = path.name.split("_")
        if any("_".join(words[:end]) in items for end in range(1, len(words))):
            path.unlink()
    if items and (folder / LIKELIEST).is_file():
        Likeliest(folder).forget(items)


def source_hash(*sources: str) -> str:
    """SHA-256 of each file that an item was made of, joined by ";"; empty where a source is not a file."""
    return ";".join(map(_hash_of, sources))


def _hash_of(source: str) -> str:
    """SHA-256 of a file, computed once for each file; empty if there is no such file."""
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return ""
    return _known_hash(source, found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else ""


@functools.lru_cache(1 << 16)
def _known_hash(source: str, *unchanged: int) -> str:
    return _sha256(Path(source))


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
