"""Clips as columns of numbers, so that a list of 200,000 clips takes a few dozen bytes for each and no Python object.

A list of `Clip` takes about 600 bytes a clip and is copied object by object into every process that is given one.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np

from audiointerp.datasets.clip import Clip, Member

ARRAYS = ("ends", "within", "label", "fold", "members")

__all__ = ["ClipColumns"]


class ClipColumns(Sequence[Clip]):
    """Clips in order, read-only; each `Clip` is made when it is asked for. Parts of it share its columns.

    Args:
        clips: taken one after the other; none of them is kept.

    >>> clips = ClipColumns(Clip(Path("sounds", f"{n}.wav"), ("dog",), n % 2) for n in range(1000))
    >>> clips[1]
    Clip(path=PosixPath('sounds/1.wav'), labels=('dog',), fold=1, ...)
    >>> clips.nbytes / len(clips) < 40
    True
    """

    def __init__(self, clips: Iterable[Clip] = ()):
        self._columns = _Columns.of(clips)
        self._rows: np.ndarray | None = None  # of the columns that are in this part; None: all of them

    def __len__(self) -> int:
        return len(self._columns) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Clip: ...
    @overload
    def __getitem__(self, place: slice) -> ClipColumns: ...
    def __getitem__(self, place: Any) -> Clip | ClipColumns:
        if isinstance(place, slice):
            return self.part(np.arange(len(self))[place])
        return self._columns.clip(self._row(place))

    def __iter__(self) -> Iterator[Clip]:
        return map(self._columns.clip, self._numbers())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} clips)"

    def part(self, places: np.ndarray) -> ClipColumns:
        """The clips at some places, in that order; the columns are shared."""
        part = ClipColumns.__new__(ClipColumns)
        part._columns = self._columns
        part._rows = places.astype(np.int32) if self._rows is None else self._rows[places]
        return part

    @property
    def folds(self) -> np.ndarray:
        """The fold of each clip, (clips,) int64."""
        return self._selected(self._columns.fold)

    @property
    def label_sets(self) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """For each clip the number of its labels in the list beside it, which holds each set of labels once."""
        return self._selected(self._columns.label), self._columns.label_sets

    def paths(self) -> Iterator[str]:
        """The path of each clip's file, without making the clips."""
        return map(self._columns.path, self._numbers())

    @property
    def nbytes(self) -> int:
        """Bytes of the columns in memory, of this part's own numbers, and of the names that several clips share."""
        return self._columns.nbytes + (0 if self._rows is None else self._rows.nbytes)

    def save(self, file: BinaryIO) -> None:
        """Writes the columns of all clips, with those that are not in this part, as NumPy's npz without objects."""
        columns, names = self._columns, {"places": self._columns.places, "label_sets": self._columns.label_sets}
        if columns.rest:
            raise ValueError("clips with a start, a length, a recording or times are not saved")
        arrays = {name: getattr(columns, name) for name in ARRAYS}
        text = {"text": columns.text, "names": json.dumps(names).encode()}
        arrays |= {name: np.frombuffer(each, np.uint8) for name, each in text.items()}
        np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> ClipColumns:
        """The clips that `save` wrote.

        Raises:
            ValueError, OSError, LookupError, BadZipFile: for a file that is damaged.
        """
        made = cls()
        with open(path, "rb") as opened, np.load(opened) as file:
            for name in ARRAYS:
                setattr(made._columns, name, file[name])
            made._columns.text = file["text"].tobytes()
            names = json.loads(file["names"].tobytes())
        made._columns.places = names["places"]
        made._columns.label_sets = [tuple(each) for each in names["label_sets"]]
        return made

    def _selected(self, column: np.ndarray) -> np.ndarray:
        return column if self._rows is None else column[self._rows]

    def _numbers(self) -> Iterable[int]:
        # A generator over the array: a list of 200,000 numbers would be larger than the array.
        return range(len(self)) if self._rows is None else (int(row) for row in self._rows)

    def _row(self, place: int) -> int:
        place = range(len(self))[place]  # raises IndexError, and counts from the end
        return place if self._rows is None else int(self._rows[place])


class _Columns:
    """The columns: arrays with an element a clip, one text of all names, and what few clips have, by its row."""

    def __init__(self) -> None:
        self.text: Any = bytearray()  # names of files within their folder, or of members within their archive
        self.ends: Any = array("q")  # where each name ends in the text
        self.within: Any = array("i")  # number of the folder or archive
        self.label: Any = array("i")
        self.fold: Any = array("q")
        self.members: Any = array("q")  # offset and size of each member, in turn; empty if all clips are files
        self.places: list[str] = []
        self.label_sets: list[tuple[str, ...]] = []
        self.rest: dict[int, dict[str, Any]] = {}  # row -> start, seconds, recording or events, where not the default

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> _Columns:
        made = cls()
        places: dict[str, int] = {}
        label_sets: dict[tuple[str, ...], int] = {}
        for clip in clips:
            made._add(clip, places, label_sets)
        made.places, made.label_sets = list(places), list(label_sets)
        for name in ARRAYS:
            column = getattr(made, name)
            setattr(made, name, np.array(column, dtype=column.typecode))
        made.text = bytes(made.text)
        return made

    def _add(self, clip: Clip, places: dict[str, int], label_sets: dict[tuple[str, ...], int]) -> None:
        if bool(self.members) != (clip.member is not None) and len(self.ends):
            raise ValueError(f"{clip.name}: clips of shards and clips of files cannot be in one list")
        if clip.member is None:
            place, name = os.path.split(clip.path)
        else:
            place, name = str(clip.path), clip.member.name
            self.members.extend(clip.member[1:])
        self.text += os.fsencode(name)
        self.ends.append(len(self.text))
        self.within.append(places.setdefault(place, len(places)))
        self.label.append(label_sets.setdefault(clip.labels, len(label_sets)))
        self.fold.append(clip.fold)
        given = {name: getattr(clip, name) for name in ("start", "seconds", "recording", "events")}
        if rest := {name: value for name, value in given.items() if value not in (0.0, None, "")}:
            self.rest[len(self.ends) - 1] = rest

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def nbytes(self) -> int:
        columns = [getattr(self, name) for name in ARRAYS]
        shared = sum(map(len, self.places)) + sum(len(name) for names in self.label_sets for name in names)
        return len(self.text) + sum(column.nbytes for column in columns) + shared

    def _name(self, row: int) -> str:
        begin = int(self.ends[row - 1]) if row else 0
        return os.fsdecode(bytes(self.text[begin : int(self.ends[row])]))

    def path(self, row: int) -> str:
        place = self.places[self.within[row]]
        return place if len(self.members) else os.path.join(place, self._name(row))

    def clip(self, row: int) -> Clip:
        member = None
        if len(self.members):
            offset, size = self.members[2 * row : 2 * row + 2].tolist()
            member = Member(self._name(row), offset, size)
        labels, fold = self.label_sets[self.label[row]], int(self.fold[row])
        return Clip(Path(self.path(row)), labels, fold, **self.rest.get(row, {}), member=member)
