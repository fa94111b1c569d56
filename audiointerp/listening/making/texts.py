"""Texts shown to listeners: class names as words, and the introduction of each task."""

from __future__ import annotations

from dataclasses import replace

from audiointerp.listening.making.manifest import Sound
from audiointerp.listening.study import Task

TITLE = "Listening test"
_START = "Please use headphones in a quiet room. Set the volume while you practise, then leave it as it is."
_CLASSIFIER = "A computer program has listened to sounds and decided what is in each of them."
_EXPLAINED = f"{_CLASSIFIER} You hear each sound, then others meant to explain the decision: the parts that led to it."
INTRODUCTIONS: dict[Task, str] = {
    "mos": f"{_EXPLAINED} Say how well each of them explains the decision.\n\n{_START}",
    "rating": f"You hear a sound, then others to compare with it. Give each of them a score from 0 to 100.\n\n{_START}",
    "ab": f"{_EXPLAINED} There are two of them: say which explains the decision better.\n\n{_START}",
    "abx": f"You hear a sound, X, and then two others. One of the two is the same as X: say which.\n\n{_START}",
    "simulate": f"You hear sounds in which parts may be missing. Say what you recognise in each.\n\n{_START}",
}

__all__ = ["INTRODUCTIONS", "TITLE", "readable", "shown"]


def readable(label: str) -> str:
    """A class name as words.

    >>> readable("church_bells")
    'church bells'
    """
    return " ".join(label.replace("_", " ").split())


def shown(sound: Sound) -> Sound:
    """The sound with its class names as words; pages and key use these names."""
    names = ("pred_class", "true_class", "distractor_class")
    return replace(sound, **{name: readable(getattr(sound, name)) for name in names})
