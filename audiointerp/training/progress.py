"""The progress of long work with the time left: a bar in a terminal, one line a minute in a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from audiointerp.processes.world import current

EVERY = 60.0  # seconds between two lines in a file
T = TypeVar("T")

__all__ = ["Progress", "tracked"]


class Progress:
    """Counts the steps of long work and tells the time left, on stderr.

    A terminal shows a bar. A file gets one line a minute, so that a log tells that the work goes on, and work of less
    than a minute writes nothing. Leave it as a context manager, which removes the bar.

    Args:
        total: number of steps.
        what: name of the work, such as "training".
        done: number of steps done before.
        shown: False shows nothing, as all but the first of several processes do.
    """

    def __init__(self, total: int, what: str, done: int = 0, shown: bool = True):
        self.total, self.what, self.done, self.before = total, what, done, done
        terminal, shown = sys.stderr.isatty(), shown and current().first
        self.writes_lines = shown and not terminal
        self.bar = tqdm(total=total, initial=done, desc=what, leave=False, disable=not (shown and terminal))
        self.start = self.told = monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()

    def rename(self, what: str) -> None:
        """Changes the name of the work, such as to the epoch that begins."""
        self.what = what
        self.bar.set_description(what)

    def step(self) -> None:
        """Counts one step, and writes a line if the last one is a minute old."""
        self.done += 1
        self.bar.update()
        now = monotonic()
        if self.writes_lines and now - self.told >= EVERY and self.done < self.total:
            self.told = now
            left = (now - self.start) / (self.done - self.before) * (self.total - self.done)
            print(f"{self.what}: {self.done / self.total:.0%} done, {_words(left)} left", file=sys.stderr, flush=True)


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items one by one, with the progress of the work on them.

    Args:
        items: as many as `total`.
        total: number of items.
        what: name of the work.

    >>> list(tracked("abc", 3, "spelling"))
    ['a', 'b', 'c']
    """
    with Progress(total, what) as progress:
        for item in items:
            yield item
            progress.step()


def _words(seconds: float) -> str:
    """A rounded time in words: "about 40 s", "about 7 min" or "about 2 h 10 min"."""
    if seconds < 90:
        return f"about {max(1, round(seconds / 10)) * 10} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min"
