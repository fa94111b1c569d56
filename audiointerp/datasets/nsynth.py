"""NSynth: single notes of instruments in eleven families, each 4 s at 16 kHz.

Engel, Resnick, Roberts, Dieleman, Eck, Simonyan & Norouzi (2017), "Neural Audio Synthesis of Musical Notes with
WaveNet Autoencoders", https://arxiv.org/abs/1704.01279. The notes are licensed CC BY 4.0.

NSynth's split is by instrument: no instrument of the training notes is among those of validation and test.
"""

from __future__ import annotations

import json
import logging
import os
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from audiointerp.datasets.clips import Clip
from audiointerp.sound import files as audio

FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip

SOURCES = ("acoustic", "electronic", "synthetic")
VELOCITIES = (25, 50, 75, 100, 127)
SAMPLE_RATE = 16000
SPLITS = {"train": 1, "valid": 2, "test": 3}
NOTE_FOLDS = 5
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

_NOTE = re.compile(rf"((?:{'|'.join(FAMILIES)})_(?:{'|'.join(SOURCES)})_(\d+))-(\d+)-\d+(?:\.\w+)?")

logger = logging.getLogger(__name__)

__all__ = [
    "Count",
    "count_classes",
    "format_counts",
    "instrument_of",
    "read_nsynth",
]


class Count(NamedTuple):
    """Numbers of notes and of instruments of a class in a fold."""

    notes: int
    instruments: int


def read_nsynth(
    folder: str | Path,
    sources: Sequence[str] = ("acoustic",),
    families: Sequence[str] | None = None,
    pitches: tuple[int, int] | None = None,
    velocities: Sequence[int] | None = None,
    split: Literal["instrument", "note"] = "instrument",
) -> list[Clip]:
    """Notes of `folder/nsynth-{train,valid,test}` (valid may be absent), labelled with their family.

    Each split has `examples.json` and `audio/<note_str>.wav` (or `.flac`, or another audio suffix). The counts of
    notes and instruments are logged. There are two ways to assign the notes to folds:

    - "instrument": as published, so that no test instrument is in training; train, valid, test are folds 1, 2, 3.
    - "note": the notes of all splits are pooled, and each instrument's pitches, from low to high, assigned to folds 1
      to 5 in turn, so that every fold has other pitches of the same instruments. All velocities of a pitch share a
      fold: they may be the same sound at another level.

    Args:
        folder: where the three archives were unpacked.
        sources: of "acoustic", "electronic", "synthetic".
        families: class names, or None for every family with notes of these sources (of NSynth's eleven, synth_lead
            has no acoustic ones: the default leaves ten classes).
        pitches: lowest and highest MIDI pitch, both kept.
        velocities: of 25, 50, 75, 100, 127; None for all.
        split: "instrument" or "note".
    Raises:
        ValueError: a folder, file, field or note's audio is missing or wrong (named), a filter with an unknown name
            or one that leaves nothing, or a class without notes in one of the splits.
    """
    if split not in ("instrument", "note"):
        raise ValueError(f"split is {split!r}; it must be 'instrument' or 'note'")
    wanted = _filter(sources, families, pitches, velocities)
    folder = Path(folder)
    clips: list[Clip] = []
    classes: set[str] = set(families or ())
    names = _splits(folder)
    for name in names:
        kept, present = _read_split(folder / f"nsynth-{name}", SPLITS[name], wanted)
        clips += kept
        classes |= present if families is None else set()
    if not clips:
        raise ValueError(f"{folder}: no note passes the filter ({wanted}); widen it")
    if split == "note":
        clips, columns = _deal(clips), {fold: f"fold {fold}" for fold in range(1, NOTE_FOLDS + 1)}
    else:
        columns = {SPLITS[name]: name for name in names}
    counts = count_classes(clips)
    _check_classes(folder, sorted(classes), counts, columns, split)
    logger.info("%s: notes (instruments)\n%s", folder, format_counts(counts, columns))
    return clips


def instrument_of(note: Clip | str | Path) -> str:
    """The instrument of a note, `<family>_<source>_<number>`, from the name of its file.

    >>> instrument_of("nsynth-test/audio/synth_lead_synthetic_011-060-127.wav")
    'synth_lead_synthetic_011'

    Raises:
        ValueError: the name is not that of a note.
    """
    return _parse(note)[0]


def count_classes(clips: Iterable[Clip]) -> dict[str, dict[int, Count]]:
    """Notes and instruments of each class in each fold; classes sorted, folds without notes left out.

    >>> notes = [Clip(Path(f"reed_acoustic_001-06{pitch}-127.wav"), ("reed",), 1) for pitch in (0, 4, 7)]
    >>> count_classes(notes)
    {'reed': {1: Count(notes=3, instruments=1)}}
    """
    notes: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        for label in clip.labels:
            notes[label][clip.fold].append(instrument_of(clip))
    return {
        label: {fold: Count(len(names), len(set(names))) for fold, names in sorted(notes[label].items())}
        for label in sorted(notes)
    }


def format_counts(counts: Mapping[str, Mapping[int, Count]], columns: Mapping[int, str]) -> str:
    """`count_classes` as a Markdown table with a column for each fold (number -> heading): notes (instruments)."""
    rows = [["family", *columns.values()], ["---"] * (1 + len(columns))]
    total = dict.fromkeys(columns, Count(0, 0))
    for label, of_fold in counts.items():
        found = {fold: of_fold.get(fold, Count(0, 0)) for fold in columns}
        total = {fold: Count(*(sum(pair) for pair in zip(total[fold], found[fold]))) for fold in columns}
        rows.append([label, *(f"{each.notes} ({each.instruments})" for each in found.values())])
    rows.append(["all", *(f"{each.notes} ({each.instruments})" for each in total.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@dataclass(frozen=True)
class _Filter:
    sources: frozenset[str]
    families: frozenset[str]
    pitches: tuple[int, int]
    velocities: frozenset[int]

    def keeps(self, entry: dict[str, Any]) -> bool:
        """Whether a note of one of the sources is wanted."""
        low, high = self.pitches
        return (
            entry["instrument_family_str"] in self.families
            and low <= entry["pitch"] <= high
            and entry["velocity"] in self.velocities
        )

    def __str__(self) -> str:
        sources, families, velocities = (
            ", ".join(str(each) for each in sorted(names)) for names in (self.sources, self.families, self.velocities)
        )
        low, high = self.pitches
        return f"sources {sources}; families {families}; pitches {low} to {high}; velocities {velocities}"


def _filter(
    sources: Sequence[str],
    families: Sequence[str] | None,
    pitches: Sequence[int] | None,
    velocities: Sequence[int] | None,
) -> _Filter:
    if pitches is None:
        pitches = (0, 127)
    if isinstance(pitches, (int, str)) or len(pitches) != 2 or not all(isinstance(each, int) for each in pitches):
        raise ValueError(f"pitches is {pitches!r}; give the lowest and the highest MIDI pitch, as in [24, 84]")
    low, high = pitches
    if low > high:
        raise ValueError(f"pitches goes from {low} down to {high}; give the lowest MIDI pitch first")
    return _Filter(
        check_chosen("sources", sources, SOURCES),
        check_chosen("families", FAMILIES if families is None else families, FAMILIES),
        (low, high),
        check_chosen("velocities", VELOCITIES if velocities is None else velocities, VELOCITIES),
    )


def _splits(folder: Path) -> list[str]:
    """Names of the splits on disk, in order; train and test must be there."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folder of nsynth-train, nsynth-valid, nsynth-test")
    names = [name for name in SPLITS if (folder / f"nsynth-{name}").is_dir()]
    for needed in ("train", "test"):
        if needed not in names:
            raise ValueError(f"{folder / f'nsynth-{needed}'}: no such folder; unpack NSynth's archive of that name")
    return names


def _read_split(folder: Path, fold: int, wanted: _Filter) -> tuple[list[Clip], set[str]]:
    """The clips that the filter keeps, and the families that its sources have."""
    table = folder / "examples.json"
    kept, present = [], set()
    for name, entry in read_notes(table).items():
        if entry["instrument_source_str"] in wanted.sources:
            present.add(entry["instrument_family_str"])
            if wanted.keeps(entry):
                kept.append((name, entry["instrument_family_str"]))
    sounds = folder / "audio"
    files = _audio_files(sounds)
    missing = [name for name, _ in kept if name not in files]
    if missing:
        raise ValueError(f"{sounds}: {len(missing)} of {len(kept)} notes have no audio file, first {missing[0]}")
    return [Clip(sounds / files[name], (family,), fold) for name, family in kept], present


def _audio_files(folder: Path) -> dict[str, str]:
    """File names by stem, from one listing: one stat per note would take minutes on a network drive."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; NSynth has one next to each examples.json")
    found: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in audio.SUFFIXES:
                # Of two files with one stem, the first by name, whatever the order of the listing.
                found[stem] = min(entry.name, found.get(stem, entry.name))
    return found


def _deal(clips: list[Clip]) -> list[Clip]:
    """The clips with folds set by the rank of their pitch among the pitches of their instrument.

    The first fold differs between the instruments of a family, so that no fold has all their lowest notes.
    """
    notes = [_parse(clip) for clip in clips]
    pitches: dict[str, set[int]] = defaultdict(set)
    for instrument, _, pitch in notes:
        pitches[instrument].add(pitch)
    rank = {name: {pitch: place for place, pitch in enumerate(sorted(found))} for name, found in pitches.items()}
    return [
        Clip(clip.path, clip.labels, 1 + (rank[instrument][pitch] + number) % NOTE_FOLDS)
        for clip, (instrument, number, pitch) in zip(clips, notes)
    ]


def _parse(note: Clip | str | Path) -> tuple[str, int, int]:
    """Instrument, its number and the pitch."""
    path = note.path if isinstance(note, Clip) else Path(note)
    match = _NOTE.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path}: is not named as a note of NSynth, as in bass_acoustic_002-028-127")
    return match[1], int(match[2]), int(match[3])


def _check_classes(
    folder: Path,
    classes: Sequence[str],
    counts: Mapping[str, Mapping[int, Count]],
    columns: Mapping[int, str],
    split: str,
) -> None:
    advice = "leave it out of `families`" + (", or set split to 'note'" if split == "instrument" else "")
    for label in classes:
        for fold, heading in columns.items():
            if fold not in counts.get(label, {}):
                raise ValueError(f"{folder}: class {label!r} has no note in {heading} after the filter; {advice}")


def read_notes(table: Path) -> dict[str, dict[str, Any]]:
    """The fields in `FIELDS` of each note, by its name.

    Raises:
        ValueError: no such file, not JSON, or a note (named) whose fields are missing, wrong or contradict its name.
    """
    try:
        with open(table, encoding="utf-8") as file:
            entries = json.load(file, object_hook=_used_fields)
    except OSError as error:
        raise ValueError(f"{table}: {(error.strerror or 'cannot be read').lower()}; NSynth has one per split") from None
    except RecursionError:
        raise ValueError(f"{table}: is not JSON (nested too deeply); copy or unpack it again") from None
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
        ValueError: not a list, an empty list, or a list with an unknown name.
    """
    listed = ", ".join(str(each) for each in known)
    if isinstance(given, (str, int)) or not given:
        raise ValueError(f"{name} is {given!r}; give a list, of {listed}")
    for each in given:
        if each not in known:
            raise ValueError(f"{name} names {each!r}, which NSynth does not have; it has {listed}")
    return frozenset(given)


def _used_fields(entry: dict[str, Any]) -> dict[str, Any]:
    # Applied while parsing, which saves two thirds of the memory; the table itself has none of these keys.
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
    # Instruments are identified by the note's name, so the name must agree with the fields.
    described = f"{entry['instrument_str']}-{entry['pitch']:03d}-{entry['velocity']:03d}"
    if not name == entry["note_str"] == described or not name.startswith(f"{family}_{source}_"):
        raise ValueError(f"{place} has a name that contradicts its fields ({family}, {source}, {described})")
