"""Labelled clips in tar shards of WebDataset's layout, read in place.

A shard is an uncompressed tar archive; the files of a clip stand beside each other and share a key, the name up to its
first dot: `a17.flac` and `a17.cls`. https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import logging
import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from audiointerp.datasets import cache
from audiointerp.datasets.archives import MOST_SOUND, members, read_bytes
from audiointerp.datasets.building import write_whole
from audiointerp.datasets.clip import Clip, Member
from audiointerp.datasets.columns import ClipColumns
from audiointerp.datasets.table import MAX_ROWS
from audiointerp.sound import files as audio

FORMAT = 1
FOLDS = {"train": 1, "valid": 2, "val": 2, "validation": 2, "test": 3}
LABELS = ("cls", "json", "txt")  # in this order of preference
MOST_LABEL = 1 << 20  # bytes of a file with a label

logger = logging.getLogger(__name__)

__all__ = ["read_shards"]


def read_shards(
    folder: str | Path,
    folds: Mapping[str, int] | None = None,
    labels: Sequence[str] | None = None,
    cache_folder: str | Path | None = None,
) -> ClipColumns:
    """The clips of all `*.tar` in a folder or below it, in WebDataset's layout; nothing is unpacked.

    A clip is a sound (`key.wav`, `.flac`, `.ogg` or another audio suffix) and its label: the text of `key.cls`, the
    field `label` of `key.json` (a text or a list of texts), or the text of `key.txt`, in which `;` separates several
    labels. The first of these that is there counts; other files are left out. The archives' headers are read once;
    where each clip begins is kept in the cache until an archive changes.

    Args:
        folder: where the shards are.
        folds: name of a split -> fold. The name is that of the shard's sub-folder, or, of a shard in `folder` itself,
            the shard's name up to its number: `train-000017.tar` is of `train`. None: train is 1; valid, val or
            validation 2; test 3.
        labels: class names, if `.cls` holds numbers that count from 0; None: the text itself is the class.
        cache_folder: None for `$AUDIOINTERP_CACHE` or `~/.cache/audiointerp`.
    Raises:
        ValueError: naming the shard and the key: no shard, a split without a fold, an archive that is compressed,
            damaged or truncated or holds links, a clip without a label or with two sounds, a sound above 1 GB.
    """
    folder, folds = Path(folder), dict(FOLDS if folds is None else folds)
    fold_of = {path: _fold(path, folder, folds) for path in _shards(folder)}
    facts: list[Any] = [FORMAT, None if labels is None else list(labels)]
    for path, fold in fold_of.items():
        stat = os.stat(path)
        facts.append([os.path.abspath(path), str(path), stat.st_size, stat.st_mtime_ns, fold])
    root = cache.default_root() if cache_folder is None else Path(cache_folder)
    index = root / "shards" / f"{cache.hash_of(facts)[:32]}.npz"
    try:
        return ClipColumns.load(index)
    except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile):
        pass  # not made yet, or damaged
    clips = ClipColumns(clip for path, fold in fold_of.items() for clip in _clips(path, fold, labels))
    if not clips:
        raise ValueError(f"{folder}: its shards hold no sound ({', '.join(audio.SUFFIXES)})")
    if len(clips) > MAX_ROWS:
        raise ValueError(f"{folder}: has more than {MAX_ROWS} clips; split it into several folders")
    index.parent.mkdir(parents=True, exist_ok=True)

    def save(path: Path) -> None:
        with open(path, "wb") as file:
            clips.save(file)

    write_whole(index, save)
    return clips


def _shards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name the folder with the shards (*.tar)")
    found = sorted(path for path in folder.rglob("*.tar") if path.is_file())
    if not found:
        packed = any(folder.rglob("*.tar.*")) or any(folder.rglob("*.tgz"))
        raise ValueError(f"{folder}: holds no *.tar" + ("; unpack the compressed ones once" if packed else ""))
    return found


def _fold(path: Path, folder: Path, folds: Mapping[str, int]) -> int:
    inner = path.relative_to(folder).parts
    name = inner[0] if len(inner) > 1 else re.sub(r"[-_.]?[0-9]+$", "", path.stem)
    if name not in folds:
        raise ValueError(
            f"{path}: is of the split {name!r}; folds has {', '.join(folds)}: give folds, as in {{{name}: 1}}"
        )
    return folds[name]


def _clips(path: Path, fold: int, labels: Sequence[str] | None) -> Iterator[Clip]:
    """The clips of a shard, sorted by their place in it."""
    sounds: dict[str, Member] = {}
    named: dict[str, dict[str, Member]] = {}
    for member in members(path):
        parent, _, file = member.name.rpartition("/")
        stem, _, suffix = file.partition(".")
        key, suffix = f"{parent}/{stem}".lstrip("/"), suffix.lower()
        if not stem:
            continue
        if f".{suffix}" in audio.SUFFIXES:
            if key in sounds:
                raise ValueError(f"{path}: has two sounds of the key {key!r}, {sounds[key].name} and {member.name}")
            if member.size > MOST_SOUND:
                raise ValueError(f"{path}: {member.name} has {member.size} bytes; a clip may have {MOST_SOUND}")
            sounds[key] = member
        elif suffix in LABELS:
            if suffix in named.setdefault(key, {}):
                raise ValueError(f"{path}: has {member.name} twice")
            named[key][suffix] = member
    if lost := len(named.keys() - sounds.keys()):
        logger.warning("%s: %d labels have no sound beside them and are left out", path, lost)
    for key, sound in sounds.items():
        yield Clip(path, _labels(path, key, named.get(key, {}), labels), fold, member=sound)


def _labels(path: Path, key: str, named: Mapping[str, Member], labels: Sequence[str] | None) -> tuple[str, ...]:
    for suffix in LABELS:
        if suffix not in named:
            continue
        text = _text(path, named[suffix])
        if suffix == "cls" and labels is not None:
            return (_numbered(path, named[suffix].name, text, labels),)
        found = _of_json(path, named[suffix].name, text) if suffix == "json" else text.split(";")
        found = [text] if suffix == "cls" else found
        if names := tuple(dict.fromkeys(each.strip() for each in found if each.strip())):
            return names
    raise ValueError(
        f"{path}: {key!r} has no label; put {key}.cls, {key}.json with a field label, or {key}.txt beside it"
    )


def _text(path: Path, member: Member) -> str:
    if member.size > MOST_LABEL:
        raise ValueError(f"{path}: {member.name} has {member.size} bytes; a label may have {MOST_LABEL}")
    try:
        text = read_bytes(path, member).decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: {member.name} is not UTF-8 text") from None
    if "\0" in text:
        raise ValueError(f"{path}: {member.name} is not text")
    return text


def _of_json(path: Path, name: str, text: str) -> list[str]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: {name} is no JSON object")
    label = fields.get("label", [])
    label = [label] if isinstance(label, str) else label
    if not isinstance(label, list) or not all(isinstance(each, str) for each in label):
        raise ValueError(f"{path}: {name}: label is {reprlib.repr(label)}; expected a text or a list of texts")
    return label


def _numbered(path: Path, name: str, text: str, labels: Sequence[str]) -> str:
    if not re.fullmatch("[0-9]{1,7}", text) or int(text) >= len(labels):
        raise ValueError(
            f"{path}: {name} is {reprlib.repr(text)}; expected the number of a class, from 0 to {len(labels) - 1}"
        )
    return labels[int(text)]
