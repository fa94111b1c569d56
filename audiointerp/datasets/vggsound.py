"""VGGSound: 10-second clips of YouTube videos in 309 classes.

Chen, Xie, Vedaldi & Zisserman (2020), "VGGSound: A Large-scale Audio-Visual Dataset",
https://arxiv.org/abs/2004.14368. The authors publish the table; the videos vanish over time, so copies differ.
"""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from audiointerp.datasets.clip import Clip
from audiointerp.datasets.columns import ClipColumns
from audiointerp.sound import files as audio

FOLDS = {"train": 1, "test": 2}

__all__ = ["read_vggsound"]

logger = logging.getLogger(__name__)


def read_vggsound(folder: str | Path, csv_path: str | Path | None = None) -> ClipColumns:
    """The table's clips whose files are in `folder` or below it; training is fold 1, test is fold 2.

    The table has no header: YouTube id, start in seconds, label, `train` or `test`. A clip's file is
    `<id>_<start in 6 digits>` or `<id>_<start>`, with any audio suffix. Clips that are missing are counted in a
    warning.

    Args:
        folder: where the audio is; sub-folders are searched too.
        csv_path: None for `folder/vggsound.csv`.
    Raises:
        ValueError: no such folder or table, a row that cannot be read (named), or no clip of the table is there.
    """
    folder = Path(folder)
    csv_path = folder / "vggsound.csv" if csv_path is None else Path(csv_path)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name the folder with VGGSound's audio files")
    if not csv_path.is_file():
        raise ValueError(f"{csv_path}: no such file; VGGSound's table vggsound.csv comes from its authors' page")
    found, videos = _files(folder)
    missing: list[str] = []

    def present() -> Iterator[Clip]:
        for video, start, label, fold in _rows(csv_path):
            path = found.get(f"{video}_{start:06d}") or found.get(f"{video}_{start}")
            if path is None:
                missing.append(f"{video}_{start:06d}")
            else:
                yield Clip(Path(path), (label,), fold)

    clips = ClipColumns(present())
    if not clips:
        hint = f"; {videos} video files are there: extract their audio first" if videos else ""
        raise ValueError(f"{folder}: holds none of the {len(missing)} clips of {csv_path} ({missing[0]}){hint}")
    if missing:
        told = "%s: %d of the table's %d clips are missing (%s)"
        logger.warning(told, folder, len(missing), len(missing) + len(clips), missing[0])
    return clips


def _files(folder: Path) -> tuple[dict[str, str], int]:
    """Audio files by stem, and how many videos there are."""
    found: dict[str, str] = {}
    videos = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            stem, suffix = os.path.splitext(name)
            videos += suffix.lower() in (".mp4", ".mkv", ".webm")
            if suffix.lower() in audio.SUFFIXES:
                path = os.path.join(parent, name)
                # Of two files with one stem, the first by name, whatever the order of the listing.
                found[stem] = str(min(Path(path), Path(found[stem]))) if stem in found else path
    return found, videos


def _cells(csv_path: Path, file: Iterable[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{csv_path}: is not readable as UTF-8 CSV ({error})") from None


def _rows(csv_path: Path) -> Iterator[tuple[str, int, str, int]]:
    empty = True
    with open(csv_path, newline="", encoding="utf-8-sig") as file:
        for number, cells in enumerate(_cells(csv_path, file), 1):
            if not cells:
                continue
            cells = [cell.strip() for cell in cells]
            if len(cells) != 4 or not re.fullmatch("[0-9]{1,9}", cells[1]) or not cells[2] or cells[3] not in FOLDS:
                raise ValueError(f"{csv_path}, row {number}: {cells} is not id, start in seconds, label, train or test")
            empty = False
            yield cells[0], int(cells[1]), cells[2], FOLDS[cells[3]]
    if empty:
        raise ValueError(f"{csv_path}: is empty")
