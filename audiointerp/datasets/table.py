"""A user's own recordings: `clips.csv` with the columns path, label, fold."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from audiointerp.datasets.clips import Clip
from audiointerp.results.paths import input_file, why_not_inside

MAX_SECONDS = 1e7  # almost four months, longer than any recording
MAX_ROWS = 2_000_000  # about 3 GB of clips
COLUMNS = ("path", "label", "fold")

__all__ = ["check_item_id", "parse_files", "parse_float", "parse_fold", "parse_seed", "read_rows", "read_table"]


def read_table(csv_path: str | Path) -> list[Clip]:
    """Clips of a CSV file with columns path, label, fold and, if wanted, start, seconds and recording.

    Paths are relative to the CSV file. A label may hold several names separated by `;`. Empty `start` is 0, empty
    `seconds` is to the end of the file, both in seconds. `recording` names the source recording of clips that were cut
    from the same one into several files; empty is the file itself.

    Raises:
        ValueError: naming the row (the header is row 1): a missing column or file, an empty label, a bad number, a
            clip listed twice.
    """
    csv_path = Path(csv_path)
    clips: list[Clip] = []
    seen: dict[tuple, str] = {}
    for place, row in read_rows(csv_path, COLUMNS):
        clip = _clip(place, row, csv_path.parent)
        key = (clip.path, clip.start, clip.seconds)
        if key in seen:
            raise ValueError(f"{place}: repeats {seen[key]}; give several labels in one row, separated by ';'")
        seen[key] = place.rsplit(", ", 1)[-1]
        clips.append(clip)
    return clips


def read_rows(csv_path: str | Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a CSV file as ("clips.csv, row 2", {column: text}), stripped; the header is row 1.

    Raises:
        ValueError: no such file, not UTF-8, a column missing, no rows, too many rows, or a row with too many or too few
            cells.
    """
    csv_path = Path(csv_path)
    if not csv_path.is_file():
        raise ValueError(f"{csv_path}: no such file")
    with open(csv_path, newline="", encoding="utf-8-sig") as file:
        try:
            yield from _rows(csv_path, csv.DictReader(file), columns)
        except UnicodeDecodeError:
            raise ValueError(f"{csv_path}: is not UTF-8 text; save it as UTF-8 CSV") from None
        except csv.Error as error:
            raise ValueError(f"{csv_path}: is not readable as CSV ({error})") from None


def parse_float(place: str, column: str, text: str) -> float:
    """A finite number, or a ValueError that names the row and column."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place}: {column} is {text!r}; expected a number")
    return value


def parse_fold(place: str, text: str) -> int:
    """A whole number, or a ValueError that names the row."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{place}: fold is {text!r}; expected a whole number") from None


def parse_seed(place: str, text: str) -> int:
    """A whole number of at most 20 digits, or a ValueError that names the row."""
    if not re.fullmatch("-?[0-9]{1,20}", text):
        raise ValueError(f"{place}: seed is {text!r}; expected a whole number")
    return int(text)


def parse_files(place: str, row: Mapping[str, str], columns: Sequence[str], folder: Path) -> dict[str, Path]:
    """Column -> path of the file that a row names there, relative to the table's folder.

    Raises:
        ValueError: naming row and column, if there is no such file.
    """
    found: dict[str, Path] = {}
    for name in columns:
        path = input_file(folder, row[name])
        if path is None:
            raise ValueError(f"{place}: {name}: no such file {row[name]!r}; paths are relative to the table")
        found[name] = path
    return found


def check_item_id(place: str, item_id: str, folder: Path) -> None:
    """Raises a ValueError that names the row, if an item's name could not be that of a folder inside another."""
    reason = "holds a slash" if "/" in item_id else why_not_inside(folder, item_id)
    if reason:
        raise ValueError(f"{place}: item_id {item_id!r} {reason}; it names the item's folder of WAVs")


def _rows(csv_path: Path, reader: csv.DictReader, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    header = [name.strip() for name in reader.fieldnames or []]
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"{csv_path}: lacks column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
    if twice := [name for name in columns if header.count(name) > 1]:
        raise ValueError(f"{csv_path}: has the column {twice[0]} twice; keep one")
    reader.fieldnames = header
    empty = True
    for number, row in enumerate(reader, 1):
        empty = False
        if number > MAX_ROWS:
            raise ValueError(f"{csv_path}: has more than {MAX_ROWS} rows; split it into several tables")
        place = f"{csv_path}, row {reader.line_num}"
        if None in row or None in row.values():
            raise ValueError(f"{place}: does not have the header's {len(header)} cells; quote cells with commas")
        yield place, {name: text.strip() for name, text in row.items()}
    if empty:
        raise ValueError(f"{csv_path}: has a header but no rows")


def _clip(place: str, row: dict[str, str], folder: Path) -> Clip:
    path = input_file(folder, row["path"])
    if path is None:
        raise ValueError(f"{place}: no such file {row['path']!r} in {folder}; paths are relative to the table")
    labels = tuple(dict.fromkeys(name.strip() for name in row["label"].split(";") if name.strip()))
    if not labels:
        raise ValueError(f"{place}: label is empty")
    start = parse_float(place, "start", row.get("start") or "0")
    seconds = parse_float(place, "seconds", row["seconds"]) if row.get("seconds") else None
    if max(start, seconds or 0) > MAX_SECONDS:
        raise ValueError(f"{place}: start {start:g} s and seconds {seconds or 0:g} must be below {MAX_SECONDS:g}")
    if start < 0 or (seconds is not None and seconds <= 0):
        raise ValueError(f"{place}: start {start:g} s must be 0 or more and seconds, where given, more than 0")
    return Clip(path, labels, parse_fold(place, row["fold"]), start, seconds, row.get("recording") or "")
