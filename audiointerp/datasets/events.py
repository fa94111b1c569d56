"""Tables of event times: file, label, start_s, end_s, one row for each stretch in which a class sounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from audiointerp.datasets.table import MAX_SECONDS, parse_float, read_rows
from audiointerp.results.writing import csv_text, restored, write_text
from audiointerp.sound.activity import Times, union

COLUMNS = ("file", "label", "start_s", "end_s")

__all__ = ["read_events", "write_events"]


def read_events(csv_path: str | Path) -> dict[str, dict[str, Times]]:
    """File -> class -> its times in seconds from the file's beginning, rising and without overlap.

    Raises:
        ValueError: naming the row (the header is row 1): a missing column, an empty name, a bad number, a time before
            the file's beginning, or an event that does not end after it starts.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for place, cells in read_rows(csv_path, COLUMNS):
        row = {name: restored(cell) for name, cell in cells.items()}
        for name in ("file", "label"):
            if not row[name]:
                raise ValueError(f"{place}: {name} is empty")
        start, end = (parse_float(place, name, row[name]) for name in ("start_s", "end_s"))
        if not 0 <= start < end <= MAX_SECONDS:
            raise ValueError(
                f"{place}: the event lasts from {start:g} to {end:g} s; it must start at 0 or later, end after that, "
                f"and end before {MAX_SECONDS:g} s"
            )
        found.setdefault(row["file"], {}).setdefault(row["label"], []).append((start, end))
    return {file: {label: union(tuple(times)) for label, times in each.items()} for file, each in found.items()}


def write_events(csv_path: str | Path, events: Iterable[tuple[str, Mapping[str, Times]]]) -> Path:
    """Writes (file, class -> times) as a table that `read_events` reads, times to a tenth of a millisecond.

    Returns:
        The path.
    """
    rows = [
        (file, label, f"{start:.4f}", f"{end:.4f}")
        for file, each in events
        for label, times in each.items()
        for start, end in times
    ]
    return write_text(csv_path, csv_text([COLUMNS, *rows]))
