"""Mixtures and scenes that a run makes for itself: written once, and checked and repaired when the run resumes.

Of several processes, the first makes them, and the others wait.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from audiointerp import datasets
from audiointerp.datasets import ClipDataset, SceneSettings
from audiointerp.processes.world import current
from audiointerp.results.paths import inside
from audiointerp.results.shapes import read_json
from audiointerp.results.tables import forget_items
from audiointerp.results.writing import write_json

logger = logging.getLogger(__name__)

HASHES = "hashes.json"

__all__ = ["made_mixtures", "made_scenes"]


def made_mixtures(test: ClipDataset, folder: Path, run: Path, prefix: str = "", **settings: Any) -> Path:
    """Writes mixtures of the test clips, or checks those that are there; returns their table.

    Args:
        test, folder, run, prefix: see `_made`.
        settings: of `write_mixtures`: items, seed, and snr_db or gains.
    """
    ids = {f"m_{number:04d}" for number in range(settings["items"])}

    def make() -> str:
        write = partial(datasets.write_mixtures, test, folder, **settings)
        return str(_made(write, "mixtures.csv", ids, folder, run, prefix))

    return Path(current().once(make))


def made_scenes(test: ClipDataset, folder: Path, run: Path, prefix: str, settings: SceneSettings) -> Path:
    """Writes scenes of the test clips, or checks those that are there; returns their table.

    Args:
        test, folder, run, prefix: see `_made`.
        settings: how scenes are drawn.
    """
    ids = {f"s_{number:04d}" for number in range(settings.items)}

    def make() -> str:
        write = partial(datasets.write_scenes, test, folder, settings)
        return str(_made(write, "scenes.csv", ids, folder, run, prefix))

    return Path(current().once(make))


def _made(write: Callable[[], Path], name: str, items: set[str], folder: Path, run: Path, prefix: str) -> Path:
    """Writes mixed sounds, or checks those that are there; returns their table.

    If one of their files is missing or was changed since it was written, all are written again, which gives the
    same samples, and the rows and WAVs of its item are forgotten, because they may be of the changed file.

    Args:
        write: writes them.
        name: of their table.
        items: their item ids, with which the names of their WAVs begin.
        folder: their folder; its hashes.json has the SHA-256 of each file.
        run: the run folder.
        prefix: of the item ids in the run's tables.
    """
    table, noted = folder / name, folder / HASHES
    known: dict[str, str] = read_json(noted, {str: str}) if noted.is_file() else {}
    paths = {inside(folder, name): before for name, before in known.items()}
    changed = [path for path, before in paths.items() if _hash(path) != before]
    for path in changed:
        own = {each for each in items if path.name.startswith(f"{each}_")} or items  # of the table: every item's
        fault = "was changed" if path.is_file() else "is missing"
        these = prefix + min(own) if len(own) == 1 else "every item"
        logger.warning("%s: %s; %s is made and explained again", path, fault, these)
        forget_items(run, {prefix + each for each in own})
    if changed or not table.is_file():
        write()
    if changed or not known:
        files = [*sorted(folder.glob("*.csv")), *sorted((folder / "audio").glob("*.wav"))]
        write_json(noted, {path.relative_to(folder).as_posix(): _hash(path) for path in files})
    return table


def _hash(path: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
