"""ESC-50 and ESC-10: 5-second environmental sounds in five folds.

Piczak (2015), "ESC: Dataset for Environmental Sound Classification", https://doi.org/10.1145/2733373.2806390. The
recordings are licensed CC BY-NC 3.0 (ESC-10: CC BY 3.0).
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from audiointerp.datasets.clips import Clip
from audiointerp.datasets.events import read_events
from audiointerp.datasets.table import parse_fold, read_rows
from audiointerp.sound import files as audio

COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
URL = f"https://github.com/karolpiczak/ESC-50/archive/{COMMIT}.zip"
COLUMNS = ("filename", "fold", "target", "category")

__all__ = ["read_esc50"]


def read_esc50(folder: str | Path, download: bool = False) -> list[Clip]:
    """Clips of `folder/meta/esc50.csv` and `folder/audio/`, with the folds as published.

    The table may list a part of the files (ESC-10). Audio may be converted: `1-100032-A-0.wav` in the table is found
    as `1-100032-A-0.ogg`. Class names are the categories; the table's target numbers, which have gaps in ESC-10, are
    not used.

    Where `meta/events.csv` (file, label, start_s, end_s) lists the times of a file's class, the clip has them as
    `events`; the synthetic default has this table.

    Args:
        folder: the data set's root.
        download: fetch ESC-50 (0.65 GB) into `folder` if it is missing or empty.
    Raises:
        ValueError: a missing folder, table, column or audio file, or a download that failed or is not ESC-50.
    """
    folder = Path(folder)
    table = folder / "meta" / "esc50.csv"
    if download and not table.is_file():
        _download(folder, URL)
    for needed in (folder, folder / "audio"):
        if not needed.is_dir():
            raise ValueError(f"{needed}: no such folder; ESC-50 has meta/esc50.csv and audio/ (or set download)")
    found = _audio_files(folder / "audio")
    events = read_events(table.with_name("events.csv")) if table.with_name("events.csv").is_file() else {}
    clips, missing = [], []
    seen: dict[Path, str] = {}
    for place, row in read_rows(table, COLUMNS):
        name = row["filename"]
        if not name or not row["category"]:
            raise ValueError(f"{place}: filename and category must not be empty")
        path = found.get(name) or found.get(Path(name).stem)
        if path is None:
            missing.append(name)
        elif path in seen:
            raise ValueError(f"{place}: {name} repeats {seen[path]}; ESC-50 gives each file one label and one fold")
        else:
            seen[path] = place.rsplit(", ", 1)[-1]
            fold = parse_fold(place, row["fold"])
            times = events.get(name, {}).get(row["category"])
            clips.append(Clip(path, (row["category"],), fold, recording=_recording_of(name), events=times))
    if missing:
        total = len(missing) + len(clips)
        raise ValueError(f"{folder / 'audio'}: {len(missing)} of the table's {total} files are missing ({missing[0]})")
    return clips


def _recording_of(name: str) -> str:
    """The Freesound recording that a file is cut from: the second field of fold-recording-take-target.wav; else "".

    >>> _recording_of("4-102844-B-49.wav"), _recording_of("dog.wav")
    ('102844', '')
    """
    fields = Path(name).stem.split("-")
    return fields[1] if len(fields) == 4 else ""


def _audio_files(folder: Path) -> dict[str, Path]:
    """Files by name and by stem; a name in the table wins over a stem."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in audio.SUFFIXES)
    return {path.stem: path for path in files} | {path.name: path for path in files}


def _download(folder: Path, url: str) -> None:
    """Downloads the archive of one commit next to `folder`, checks its content and renames it to `folder`."""
    import pooch

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is not empty but has no meta/esc50.csv; name an empty or new folder to download")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".esc50-", dir=folder.parent) as aside:
        # The archive has no fixed hash, because GitHub may compress it differently; its content is checked instead.
        fetcher = pooch.create(
            aside, base_url="", registry={"esc50.zip": None}, urls={"esc50.zip": url}, retry_if_failed=3
        )
        try:
            archive = fetcher.fetch("esc50.zip")
            with zipfile.ZipFile(archive) as file:
                file.extractall(aside)
        except (OSError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"ESC-50 could not be downloaded from {url} ({reason})") from None
        root = next((path for path in Path(aside).iterdir() if path.is_dir()), Path(aside))
        _check_content(root, url)
        if folder.exists():
            folder.rmdir()
        os.rename(root, folder)


def _check_content(root: Path, url: str) -> None:
    try:
        rows = [row for _, row in read_rows(root / "meta" / "esc50.csv", COLUMNS)]
    except ValueError:
        rows = []
    names = {row["filename"] for row in rows}
    folds, targets = Counter(row["fold"] for row in rows), Counter(row["target"] for row in rows)
    categories = {(row["target"], row["category"]) for row in rows}
    complete = (
        len(names) == 2000
        and names <= {path.name for path in (root / "audio").glob("*.wav")}
        and sorted(folds.items()) == [(str(fold), 400) for fold in range(1, 6)]
        and len(categories) == len(targets) == 50
        and set(targets.values()) == {40}
    )
    if not complete:
        raise ValueError(f"{url}: is not ESC-50 (2,000 WAV files, 5 folds of 400, 50 classes of 40); nothing was kept")
