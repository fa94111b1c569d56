"""Parts of a run folder: what each of several processes writes, and how the parts become one folder.

A part is a folder `parts/N` in the run folder with WAVs, figures and tables as a run folder has them. A process that is
killed leaves its part, whose rows are moved like those of any other, by the next process that opens the run folder.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from audiointerp.results.reading import LIKELIEST
from audiointerp.results.tables import Embeddings, Likeliest, Manifest, RowTable, Scores

PARTS = "parts"
FILES = ("audio", "figures")

__all__ = ["PARTS", "has_scores", "merge_parts", "part_folder"]


def part_folder(folder: Path, rank: int) -> Path:
    """The folder that a process writes into."""
    return folder / PARTS / str(rank)


def has_scores(folder: Path) -> bool:
    """Whether a part has rows that no process has moved into the run folder yet."""
    return any(len(each.read_bytes().splitlines()) > 1 for each in (folder / PARTS).glob("*/scores.csv"))


def merge_parts(folder: Path, order: Mapping[str, int] = {}) -> None:
    """Moves files and rows of all parts into the run folder, and removes the parts.

    The rows of each table follow those that are there, and are replaced together under a temporary name; those of
    scores.csv are last, as an item and method with a score are not explained again. A process that is killed here
    leaves the parts, and the next one moves what is left.

    Args:
        folder: the run folder.
        order: item_id -> place of its rows among those of the parts.
    Raises:
        ValueError: if the folder of the parts is a link.
    """
    if (folder / PARTS).is_symlink():
        raise ValueError(f"{folder / PARTS}: is a link, and files would be moved from where it leads; remove it")
    whole = (each for each in (folder / PARTS).glob("*") if each.is_dir() and not each.is_symlink())
    parts = sorted(whole, key=lambda each: each.name)
    for part in parts:
        _move_files(part, folder)
    for name in ("embeddings.csv", "manifest.csv", LIKELIEST, "scores.csv"):
        tables = [_open(part, name) for part in parts if (part / name).is_file()]
        rows: list[dict[str, str]] = []
        for table in tables:
            known = {table.key_of(row) for row in rows}
            rows += [row for row in table.rows() if table.key_of(row) not in known]
        if rows:
            rows.sort(key=lambda row: order.get(row["item_id"], -1))
            _open(folder, name, tables[0]).add_whole(rows)
    if (folder / PARTS).is_dir():
        shutil.rmtree(folder / PARTS)


def _move_files(part: Path, folder: Path) -> None:
    """Moves WAVs and figures; a file that is in the run folder already is replaced by the same one."""
    for kind in FILES:
        # No process makes links; files would be moved from where one leads.
        for path in [] if (part / kind).is_symlink() else sorted((part / kind).rglob("*")):
            if path.is_dir() or path.is_symlink() or path.name.startswith("."):  # or what a killed one had not finished
                continue
            moved = folder / path.relative_to(part)
            moved.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, moved)


def _open(folder: Path, name: str, like: RowTable | None = None) -> RowTable:
    """A table of a folder; embeddings have as many columns as those of `like`, or as their file."""
    known = {"manifest.csv": Manifest, LIKELIEST: Likeliest, "scores.csv": Scores}
    if name in known:
        return known[name](folder)
    if like is not None:
        return RowTable(folder / name, like.columns, Embeddings.KEY)
    with open(folder / name, encoding="utf-8", newline="") as file:
        return RowTable(folder / name, next(csv.reader(file), []), Embeddings.KEY)
