"""Kills imitated in the process: at the n-th change that a command makes to the files below a folder.

Python announces each change to its audit hooks before it is made: a file opened for writing, a renaming, a deletion, a
folder made. The change is refused by an exception that nothing catches, and so is every later one, as after SIGKILL.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Killed(BaseException):
    """Raised in place of a kill."""


class Changes:
    """The changes that a command makes below a folder, up to the one at which it is killed.

    Attributes:
        count: number of changes so far.
        opened: the file that the last allowed change opened for writing; None if that change was another one.
    """

    def __init__(self, folder: Path, number: int):
        self.folder, self.number = str(folder), number
        self.count, self.opened = 0, None
        self._lock = threading.Lock()

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        is_open = event == "open" and isinstance(given[2], int) and bool(given[2] & WRITING)
        if not is_open and event not in CHANGES:
            return
        # Files of a folder that is deleted as a whole are named without it.
        if isinstance(given[0], int) or not (self._is_inside(given[0]) or event in ("os.remove", "os.rmdir")):
            return
        with self._lock:
            self.count += 1
            if self.count >= self.number:
                raise Killed
            self.opened = Path(os.fsdecode(given[0])) if is_open else None

    def _is_inside(self, path: Any) -> bool:
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)


_watching: list[Changes] = []


def _tell(event: str, given: tuple[Any, ...]) -> None:
    for each in _watching:
        each(event, given)


@functools.cache  # an audit hook stays until the process ends
def _hook() -> None:
    sys.addaudithook(_tell)


@contextmanager
def killed_at_change(folder: Path, number: int) -> Iterator[Changes]:
    """Raises `Killed` at the n-th change below a folder, before it is made, and at every later one."""
    _hook()
    changes = Changes(folder, number)
    _watching.append(changes)
    try:
        yield changes
    finally:
        _watching.remove(changes)
