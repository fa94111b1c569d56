"""Recipes run in small by the command line, and what is asked of every run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiointerp.__main__ import main
from audiointerp.datasets import ClipDataset, read_esc50

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "esc50"
RATE = 16000
# A run writes these again each time that it finds everything done; nothing else.
REWRITTEN = {"run.json", "report.html", "components.html", "attributes.html"}
EVALUATED = ("--evaluation.clips", 2, "--evaluation.mixtures", 2, "--evaluation.figures", "false")
L2I_OPTIONS = ("--interpreter.width", 8, "--epochs", 6, "--lr", 0.02, "--batch_size", 10)


def run(command: Sequence[object]) -> None:
    assert main([str(each) for each in command]) == 0


def with_options(command: Sequence[str], *more: object) -> list[str]:
    """A command with further options; one that it has already gets the new value instead of a second one."""
    changed, given = list(command), [str(each) for each in more]
    for option, value in zip(given[::2], given[1::2], strict=True):
        if option in changed:
            changed[changed.index(option) + 1] = value
        else:
            changed += [option, value]
    return changed


def results_of(folder: Path) -> dict[str, Any]:
    """The results of a run that is finished."""
    about = json.loads((folder / "run.json").read_text())
    assert about["finished"] and about["end"] >= about["start"]
    return about["results"]


def log_of(folder: Path, epochs: int) -> pd.DataFrame:
    """log.csv: a row an epoch, every cell a number."""
    log = pd.read_csv(folder / "log.csv")
    assert list(log.epoch) == list(range(1, epochs + 1))
    assert np.isfinite(log.to_numpy(float)).all()
    return log


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def changed_files(before: dict[str, bytes], folder: Path) -> set[str]:
    """Names of files that came, went or changed, but for those that every run writes again."""
    after = snapshot(folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return {name for name in changed if Path(name).name not in REWRITTEN}


def linked(page: Path) -> list[str]:
    """What a page plays, shows or links to, in its order; every file is there."""
    names = re.findall(r'(?:src|href)="([^"#:]+)"', page.read_text())
    assert not [name for name in names if not (page.parent / name).is_file()]
    return names


def clips_of(data: Path, labels: Sequence[str], *folds: int, multilabel: bool = False) -> ClipDataset:
    """Clips of 1 s of some folds of the tiny data."""
    clips = [clip for clip in read_esc50(data) if clip.fold in folds]
    return ClipDataset(clips, labels, RATE, 1.0, multilabel)
