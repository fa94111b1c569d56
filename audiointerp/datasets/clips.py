"""Labelled clips, their folds and splits.

A reader (esc50.py, vggsound.py, shards.py, table.py) returns a list of `Clip`, large ones their columns (columns.py);
`split` sorts it into training, validation and test; `ClipDataset` (batches.py) turns each into batches of waveforms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from audiointerp.datasets.clip import Clip
from audiointerp.datasets.columns import ClipColumns

__all__ = ["Clip", "Splits", "class_names", "label_numbers", "shuffle_labels", "split"]


@dataclass(frozen=True)
class Splits:
    """Clips for training, validation and test, and the class names of all of them."""

    train: Sequence[Clip]
    valid: Sequence[Clip]
    test: Sequence[Clip]
    labels: tuple[str, ...]


def class_names(clips: Iterable[Clip]) -> tuple[str, ...]:
    """Every class name once, sorted; the order is the class index.

    >>> from pathlib import Path
    >>> class_names([Clip(Path("a.wav"), ("rain", "dog"), 1), Clip(Path("b.wav"), ("dog",), 2)])
    ('dog', 'rain')
    """
    numbers, label_sets = label_numbers(clips)
    return tuple(sorted({name for number in np.unique(numbers) for name in label_sets[number]}))


def label_numbers(clips: Iterable[Clip]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """For each clip the number of its labels in the list beside it, which holds each set of labels once."""
    if isinstance(clips, ClipColumns):
        return clips.label_sets
    known: dict[tuple[str, ...], int] = {}
    return np.array([known.setdefault(clip.labels, len(known)) for clip in clips], np.int32), list(known)


def shuffle_labels(clips: Sequence[Clip], seed: int) -> Sequence[Clip]:
    """The clips with their labels permuted at random, so that they no longer depend on the sounds."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = (replace(clip, labels=clips[i].labels) for clip, i in zip(clips, order))
    return ClipColumns(shuffled) if isinstance(clips, ClipColumns) else list(shuffled)


def split(
    clips: Sequence[Clip],
    train_folds: Sequence[int],
    valid_folds: Sequence[int],
    test_folds: Sequence[int],
    trains: bool = True,
) -> Splits:
    """Clips by fold; `valid_folds` and `test_folds` may be empty.

    Args:
        clips: of all folds.
        train_folds, valid_folds, test_folds: their folds.
        trains: whether something is trained; else training folds and training clips of a class may be missing.

    Raises:
        ValueError: a fold is named twice or has no clips, training is empty, a class of validation or test is absent
            from training, or a file is in two splits.
    """
    fold_of = clips.folds if isinstance(clips, ClipColumns) else np.array([clip.fold for clip in clips], object)
    known = sorted(set(fold_of.tolist()))
    if not trains and not isinstance(train_folds, (int, str)):
        train_folds = [fold for fold in train_folds if fold in known]
    folds = {"train": train_folds, "valid": valid_folds, "test": test_folds}
    _check_folds(folds, known)
    if trains and not train_folds:
        raise ValueError(f"train_folds is empty; name at least one of the data's folds {known}")
    parts = {name: _part(clips, np.flatnonzero(np.isin(fold_of, list(wanted)))) for name, wanted in folds.items()}
    if trains:
        _check_classes(parts)
    _check_files(parts)
    return Splits(parts["train"], parts["valid"], parts["test"], class_names(clips))


def _part(clips: Sequence[Clip], places: np.ndarray) -> Sequence[Clip]:
    return clips.part(places) if isinstance(clips, ClipColumns) else [clips[i] for i in places]


def _check_folds(folds: dict[str, Sequence[int]], known: list[int]) -> None:
    used: dict[int, str] = {}
    for name, wanted in folds.items():
        if isinstance(wanted, (int, str)):
            raise ValueError(f"{name}_folds is {wanted!r}; give a list of fold numbers, as in [1, 2]")
        for fold in wanted:
            if fold in used:
                raise ValueError(f"fold {fold} is named in both {used[fold]}_folds and {name}_folds; name it once")
            if fold not in known:
                raise ValueError(f"{name}_folds names fold {fold!r}, which has no clips; the data has folds {known}")
            used[fold] = name


def _check_classes(parts: dict[str, Sequence[Clip]]) -> None:
    trained = set(class_names(parts["train"]))
    for name in ("valid", "test"):
        numbers, label_sets = label_numbers(parts[name])
        strange = [number for number, names in enumerate(label_sets) if not trained.issuperset(names)]
        for place in np.flatnonzero(np.isin(numbers, strange))[:1]:
            clip = parts[name][int(place)]
            label = next(each for each in clip.labels if each not in trained)
            raise ValueError(f"class {label!r} ({clip.name}, {name}) has no training clip; change the folds")


def _check_files(parts: dict[str, Sequence[Clip]]) -> None:
    """Refuses a file in two splits; compared are hashes, of 8 bytes a clip: all paths would take 15 times as much."""
    earlier: dict[str, np.ndarray] = {}
    for name, clips in parts.items():
        own = np.array([hash(path) for path in _absolute(clips)], np.int64)
        for other, theirs in earlier.items():
            again = set(own[np.isin(own, theirs)].tolist())
            paths = {path for path in _absolute(parts[other]) if hash(path) in again} if again else set()
            for clip, path in zip(clips, _absolute(clips)) if paths else ():
                if path in paths:
                    raise ValueError(
                        f"{clip.path} is in both {other} and {name}; give all clips of a file the same fold"
                    )
        earlier[name] = own


def _absolute(clips: Sequence[Clip]) -> Iterator[str]:
    paths = clips.paths() if isinstance(clips, ClipColumns) else (str(clip.path) for clip in clips)
    return map(os.path.abspath, paths)
