"""NSynth's `examples.json`: read with only the fields that are used, and checked note by note."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip
SOURCES = ("acoustic", "electronic", "synthetic")
VELOCITIES = (25, 50, 75, 100, 127)
SAMPLE_RATE = 16000
# The fields of examples.json that are used, and their types.
FIELDS = {
    "note_str": str,
    "instrument_str": str,
    "pitch": int,
    "velocity": int,
    "sample_rate": int,
    "instrument_family_str": str,
    "instrument_source_str": str,
}

__all__ = ["FAMILIES", "SAMPLE_RATE", "SOURCES", "VELOCITIES", "check_chosen", "read_notes"]


def read_notes(table: Path) -> dict[str, dict[str, Any]]:
    """The fields in `FIELDS` of each note, by its name.

    Raises:
        ValueError: no such file, not JSON, or a note (named) whose fields are missing, wrong or contradict its name.
    """
    try:
        with open(table, encoding="utf-8") as file:
            entries = json.load(file, object_hook=_used_fields)
    except OSError as error:
        raise ValueError(f"{table}: {(error.strerror or 'cannot be read').lower()}; NSynth has one a split") from None
    except ValueError as error:  # bad JSON or bad UTF-8
        raise ValueError(f"{table}: is not JSON ({error}); copy or unpack it again") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{table}: holds a {type(entries).__name__}; expected an object keyed by note_str")
    for name, entry in entries.items():
        _check_entry(table, name, entry)
    return entries


def check_chosen(name: str, given: Sequence, known: tuple) -> frozenset:
    """The given choices as a set.

    Raises:
        ValueError: not a list, an empty one, or one that names what is not known.
    """
    listed = ", ".join(str(each) for each in known)
    if isinstance(given, (str, int)) or not given:
        raise ValueError(f"{name} is {given!r}; give a list, of {listed}")
    for each in given:
        if each not in known:
            raise ValueError(f"{name} names {each!r}, which NSynth does not have; it has {listed}")
    return frozenset(given)


def _used_fields(entry: dict[str, Any]) -> dict[str, Any]:
    # While it is parsed, so that a third of the memory is enough; the table itself has none of these keys.
    return {field: entry[field] for field in FIELDS if field in entry} or entry


def _check_entry(table: Path, name: str, entry: Any) -> None:
    place = f"{table}: note {name!r}"
    if not isinstance(entry, dict):
        raise ValueError(f"{place} is {reprlib.repr(entry)}; expected an object with {', '.join(FIELDS)}")
    for field, kind in FIELDS.items():
        if field not in entry:
            raise ValueError(f"{place} lacks the field {field}; copy or unpack the file again")
        if type(entry[field]) is not kind:
            raise ValueError(f"{place} has {field} {reprlib.repr(entry[field])}; expected type {kind.__name__}")
    if entry["sample_rate"] != SAMPLE_RATE:
        raise ValueError(f"{place} has sample_rate {entry['sample_rate']}; convert audio and field to {SAMPLE_RATE} Hz")
    family, source = entry["instrument_family_str"], entry["instrument_source_str"]
    if family not in FAMILIES:
        raise ValueError(f"{place} has the unknown family {family!r}; NSynth has {', '.join(FAMILIES)}")
    if source not in SOURCES:
        raise ValueError(f"{place} has the unknown source {source!r}; NSynth has {', '.join(SOURCES)}")
    # Instruments are told apart by the name, so it must say what the fields say.
    described = f"{entry['instrument_str']}-{entry['pitch']:03d}-{entry['velocity']:03d}"
    if not name == entry["note_str"] == described or not name.startswith(f"{family}_{source}_"):
        raise ValueError(f"{place} is named otherwise than its fields say ({family}, {source}, {described})")
