"""Clips of one data set with the labels and folds that another classifier or question needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from audiointerp.datasets.clips import Clip
from audiointerp.datasets.table import read_rows

COLUMNS = ("class", "label")
SHIPPED = ("esc50_to_audioset", "synthetic_to_esc10")

__all__ = ["relabel", "split_recordings"]


def relabel(clips: Callable[[], Sequence[Clip]], labels: str | Path) -> list[Clip]:
    """Clips with a classifier's labels in place of the data set's class names.

    Args:
        clips: a reader, such as `read_esc50` with its folder.
        labels: a CSV file with the columns class and label, or the name of one of this package:
            "esc50_to_audioset" gives ESC-50's classes the AudioSet label of the same sound, "synthetic_to_esc10" the
            synthetic classes that of ESC-10. Several labels of a class are separated by `;`. Clips whose classes all
            have an empty label are left out.

    Raises:
        ValueError: no such file, a class of the clips has no row, a class has two rows, or no clip is left.
    """
    if labels in SHIPPED:
        labels = Path(__file__).parent / "label_maps" / f"{labels}.csv"
    table: dict[str, tuple[str, ...]] = {}
    for place, row in read_rows(labels, COLUMNS):
        if row["class"] in table:
            raise ValueError(f"{place}: class {row['class']!r} has an earlier row; give its labels in one, with ';'")
        table[row["class"]] = tuple(name.strip() for name in row["label"].split(";") if name.strip())
    found = []
    for clip in clips():
        if missing := [name for name in clip.labels if name not in table]:
            raise ValueError(
                f"{labels}: has no row for class {missing[0]!r} ({clip.path}); leave its label empty to "
                "leave the clips out"
            )
        if names := tuple(dict.fromkeys(label for name in clip.labels for label in table[name])):
            found.append(replace(clip, labels=names))
    if not found:
        raise ValueError(f"{labels}: no clip is left; give at least one class a label")
    return found


def split_recordings(clips: Callable[[], Sequence[Clip]], folds: int = 2, seed: int = 0) -> list[Clip]:
    """Clips with new folds 1 to `folds`; all clips of a source recording are in one fold, classes spread evenly.

    Args:
        clips: a reader, such as `read_esc50` with its folder.
        folds: number of folds.
        seed: of the order in which a class's recordings are dealt to the folds, one after the other.

    Raises:
        ValueError: fewer than two folds, or a class with fewer recordings than folds.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; recordings are split into at least 2")
    all_clips = list(clips())
    generator = torch.Generator().manual_seed(seed)
    fold_of: dict[str, int] = {}
    for label in sorted({clip.labels[0] for clip in all_clips}):
        sources = sorted({clip.source for clip in all_clips if clip.labels[0] == label})
        if len(sources) < folds:
            raise ValueError(
                f"class {label!r} has {len(sources)} source recordings ({', '.join(sources[:3])}); {folds} folds need "
                f"{folds}: give fewer folds, or leave out the class"
            )
        for place, i in enumerate(torch.randperm(len(sources), generator=generator).tolist()):
            fold_of.setdefault(sources[i], place % folds + 1)
    return [replace(clip, fold=fold_of[clip.source]) for clip in all_clips]
