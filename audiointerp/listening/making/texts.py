"""Class names as listeners read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from audiointerp.listening.making.manifest import Sound

__all__ = ["readable", "shown"]


def readable(label: str, classes: Mapping[str, str] | None = None) -> str:
    """A class name as words, or as `classes` names it.

    >>> readable("church_bells")
    'church bells'
    """
    words = " ".join(label.replace("_", " ").split())
    return (classes or {}).get(label, (classes or {}).get(words, words))


def shown(sound: Sound, classes: Mapping[str, str] | None = None) -> Sound:
    """The sound with its class names as words; pages and key use these names."""
    names = ("pred_class", "true_class", "distractor_class")
    return replace(sound, **{name: readable(getattr(sound, name), classes) for name in names})
