"""Writing files under a temporary name and renaming them, so that a killed process leaves no partly written file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Text that spreadsheets run as a formula, or that `defused` has marked already; numbers such as -3.5 are neither.
_FORMULA = re.compile(r"'*[=+\-@\t]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]inf|[+-]?nan")

__all__ = [
    "aside",
    "csv_text",
    "defused",
    "restored",
    "write_bytes",
    "write_figure",
    "write_json",
    "write_table",
    "write_text",
]


@contextmanager
def aside(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to the given path at the end; removed if the writing fails.

    The folder is created if it does not exist.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Writes UTF-8 text without converting line feeds on any system; returns the path."""
    return write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes | memoryview) -> Path:
    """Writes bytes; returns the path."""
    with aside(path) as part:
        part.write_bytes(data)
    return Path(path)


def write_json(path: str | Path, value: Any, indent: int = 2) -> Path:
    """Writes JSON with a final line feed; returns the path."""
    return write_text(path, json.dumps(value, indent=indent) + "\n")


def defused(cell: Any) -> Any:
    """A cell as a CSV file may hold it: text that a spreadsheet would run as a formula gets an apostrophe in front.

    >>> defused("=cmd|' /C calc'!A0"), defused("-3.5"), defused("dog")
    ("'=cmd|' /C calc'!A0", '-3.5', 'dog')
    """
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", " ")  # csv does not quote it, and spreadsheets take it as the end of a row
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def restored(cell: Any) -> Any:
    """The cell that `defused` was given.

    >>> restored(defused("=x")), restored(defused("'=x")), restored("'tis")
    ('=x', "'=x", "'tis")
    """
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and _FORMULA.match(cell) else cell


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as the text of a CSV file; formulas are defused."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([defused(cell) for cell in row] for row in rows)
    return lines.getvalue()


def write_table(path: str | Path, table: pd.DataFrame, float_format: str | None = None) -> Path:
    """Writes a CSV file without the index, formulas defused; returns the path.

    Args:
        path: the file.
        table: its rows.
        float_format: of numbers, such as "%.6g"; None writes every digit.
    """
    safe = table.rename(columns=defused)
    for position, name in enumerate(table):
        column = table[name]
        if not isinstance(column.dtype, np.dtype) or column.dtype == object:
            safe.isetitem(position, column.map(defused))
    return write_text(path, str(safe.to_csv(index=False, lineterminator="\n", float_format=float_format)))


def write_figure(path: str | Path, figure: Figure, **options: Any) -> Path:
    """Draws a figure into a file, in the format of its suffix; equal figures give equal bytes. Returns the path.

    Letters that the font lacks, such as Chinese class names, are drawn as boxes, without a warning for each.

    Args:
        path: a PNG or SVG.
        figure: built as an object, never through pyplot.
        options: of matplotlib's `savefig`, such as dpi.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    kind = Path(path).suffix.removeprefix(".")
    with aside(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support ", UserWarning)  # Tamil and others
        figure.savefig(part, format=kind, bbox_inches="tight", pad_inches=0.08, **options)
    return Path(path)
