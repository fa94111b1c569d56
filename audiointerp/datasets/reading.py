"""Reads a folder or table of labelled clips with the reader that it needs."""

from __future__ import annotations

from pathlib import Path

from audiointerp.datasets.clips import Clip
from audiointerp.datasets.esc50 import read_esc50
from audiointerp.datasets.nsynth import read_nsynth
from audiointerp.datasets.table import read_table

__all__ = ["read_clips"]


def read_clips(path: str | Path) -> list[Clip]:
    """Labelled clips of a folder in ESC-50's layout, of an NSynth folder, or of a clips.csv.

    Raises:
        ValueError: if the path is none of these.
    """
    path = Path(path)
    if path.is_dir() and (path / "meta" / "esc50.csv").is_file():
        return read_esc50(path)
    if path.is_dir() and (path / "nsynth-test").is_dir():
        return read_nsynth(path)
    if path.is_dir() and (path / "clips.csv").is_file():
        return read_table(path / "clips.csv")
    if path.is_file() and path.suffix == ".csv":
        return read_table(path)
    what = "has neither meta/esc50.csv nor nsynth-test/ nor clips.csv" if path.is_dir() else "is no data"
    raise ValueError(
        f"{path}: {what if path.exists() else 'does not exist'}; give an ESC-50 or NSynth folder or a clips.csv"
    )
