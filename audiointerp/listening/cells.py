"""What a report is made of: sections, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Section", "number", "p_equals", "p_value", "percent", "quartiles", "share", "with_interval"]


@dataclass(frozen=True)
class Section:
    """A table with its figure and a caption that says how to read them; `level` 2 opens a task, 3 stands in one."""

    title: str
    caption: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figure: str = ""
    alternative: str = ""
    csv: str = ""
    level: int = 3

    def __post_init__(self) -> None:
        """Leaves out a last column of notes if there are none."""
        if self.columns and self.columns[-1] == "Note" and not any(row[-1] for row in self.rows):
            object.__setattr__(self, "columns", self.columns[:-1])
            object.__setattr__(self, "rows", tuple(row[:-1] for row in self.rows))


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """With a real minus sign; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in percent."""
    return f"{number(100 * share, 1)} %" if math.isfinite(share) else "–"


def share(row: Mapping[str, Any], name: str) -> str:
    """A share in percent with its interval, if it has one."""
    if not math.isfinite(row["low"]):
        return percent(row[name])
    return f"{percent(row[name])} [{number(100 * row['low'], 1)}, {number(100 * row['high'], 1)}]"


def with_interval(row: Mapping[str, Any], digits: int) -> str:
    """A mean with its interval, if it has one."""
    ends = f" [{number(row['low'], digits)}, {number(row['high'], digits)}]" if math.isfinite(row["low"]) else ""
    return number(row["mean"], digits) + ends


def quartiles(row: Mapping[str, Any]) -> str:
    """Median and quartiles."""
    return f"{row['median']:g} ({row['q1']:g}–{row['q3']:g})"


def p_value(p: float) -> str:
    """Three decimals, or that it is below them."""
    return "–" if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """As it stands in a sentence."""
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"
