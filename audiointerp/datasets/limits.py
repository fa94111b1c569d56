"""Limits of what is drawn from clips: numbers of items, seeds, and levels in dB; checked before any work starts."""

from __future__ import annotations

MAX_ITEMS = 100_000  # mixtures or scenes of a table
MAX_DB = 100.0  # level differences at which one of two sounds is inaudible

__all__ = ["MAX_DB", "MAX_ITEMS", "check_counts", "check_items", "check_level", "check_seed"]


def check_items(items: int, what: str, name: str = "items") -> None:
    """Refuses a number of mixtures or scenes that is below 1 or fills the memory; `name` is that of the setting.

    >>> check_items(0, "scenes", "count")
    Traceback (most recent call last):
        ...
    ValueError: count is 0; ask for 1 to 100000 scenes
    """
    if not 1 <= items <= MAX_ITEMS:
        raise ValueError(f"{name} is {items}; ask for 1 to {MAX_ITEMS} {what}")


def check_counts(**counts: int | None) -> None:
    """Refuses a number of items, by the setting's name, that is negative or fills the memory; None is all."""
    for name, count in counts.items():
        if count is not None and not 0 <= count <= MAX_ITEMS:
            raise ValueError(f"{name} is {count}; give a number of items up to {MAX_ITEMS}, or 0 for none")


def check_seed(seed: int) -> None:
    """Refuses a seed that torch's generators do not take."""
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed is {seed}; give a whole number from -2**63 to 2**64 - 1")


def check_level(name: str, db: float) -> None:
    """Refuses a level difference that is not a number within 100 dB."""
    if not abs(db) <= MAX_DB:
        raise ValueError(f"{name} is {db:g}; it must be within {MAX_DB:g} dB")
