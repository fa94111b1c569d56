"""Labelled clips, their folds and splits.

A reader (esc50.py, vggsound.py, table.py) returns a list of `Clip`; `split` sorts it into training, validation and
test; `ClipDataset` (batches.py) turns each into batches of waveforms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from audiointerp.sound.activity import Times

__all__ = ["Clip", "Splits", "class_names", "shuffle_labels", "split"]


@dataclass(frozen=True)
class Clip:
    """A labelled stretch of an audio file.

    Attributes:
        path: the file.
        labels: class names, at least one.
        fold: number of the fold that the clip belongs to.
        start: in seconds.
        seconds: length, or None to the end of the file.
        recording: name of the source recording, which several clips may be cut from; "": the file itself.
        events: start and end of each sound of the clip's classes, in seconds from the clip's beginning; None: unknown.
    """

    path: Path
    labels: tuple[str, ...]
    fold: int
    start: float = 0.0
    seconds: float | None = None
    recording: str = field(default="", compare=False)
    events: Times | None = field(default=None, compare=False)

    @property
    def source(self) -> str:
        """Name of the source recording, or the file's path if it has no name."""
        return self.recording or str(self.path)


@dataclass(frozen=True)
class Splits:
    """Clips for training, validation and test, and the class names of all of them."""

    train: list[Clip]
    valid: list[Clip]
    test: list[Clip]
    labels: tuple[str, ...]


def class_names(clips: Iterable[Clip]) -> tuple[str, ...]:
    """Every class name once, sorted; the order is the class index.

    >>> class_names([Clip(Path("a.wav"), ("rain", "dog"), 1), Clip(Path("b.wav"), ("dog",), 2)])
    ('dog', 'rain')
    """
    return tuple(sorted({name for clip in clips for name in clip.labels}))


def shuffle_labels(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """The clips with their labels permuted at random, so that they no longer depend on the sounds."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist()
    return [replace(clip, labels=clips[i].labels) for clip, i in zip(clips, order)]


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
    known = sorted({clip.fold for clip in clips})
    if not trains and not isinstance(train_folds, (int, str)):
        train_folds = [fold for fold in train_folds if fold in known]
    folds = {"train": train_folds, "valid": valid_folds, "test": test_folds}
    _check_folds(folds, known)
    if trains and not train_folds:
        raise ValueError(f"train_folds is empty; name at least one of the data's folds {known}")
    parts = {name: [clip for clip in clips if clip.fold in wanted] for name, wanted in folds.items()}
    if trains:
        _check_classes(parts)
    _check_files(parts)
    return Splits(parts["train"], parts["valid"], parts["test"], class_names(clips))


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


def _check_classes(parts: dict[str, list[Clip]]) -> None:
    trained = set(class_names(parts["train"]))
    for name in ("valid", "test"):
        for clip in parts[name]:
            for label in clip.labels:
                if label not in trained:
                    raise ValueError(f"class {label!r} ({clip.path}, {name}) has no training clip; change the folds")


def _check_files(parts: dict[str, list[Clip]]) -> None:
    owner: dict[str, str] = {}
    for name, clips in parts.items():
        for clip in clips:
            path = os.path.abspath(clip.path)
            if owner.setdefault(path, name) != name:
                raise ValueError(
                    f"{clip.path} is in both {owner[path]} and {name}; give all clips of a file the same fold"
                )
