"""Kills and full disks imitated in the process, and processes to kill.

An imitated kill comes at the n-th change that a command makes to the files below a folder.

Python announces each change to its audit hooks before it is made: a file opened for writing, a renaming, a deletion, a
folder made. The change is refused by an exception that nothing catches, and so is every later one, as after SIGKILL.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"}
NEEDING_SPACE = {"os.mkdir", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Killed(BaseException):
    """Raised in place of a kill."""


class Changes:
    """The changes that a command makes below a folder, up to the one at which it is killed or the disk is full.

    A full disk refuses new files and folders only: files can still be renamed and deleted.

    Attributes:
        count: number of changes so far.
        opened: the file that the last allowed change opened for writing; None if that change was another one.
    """

    def __init__(self, folder: Path, number: int, full: bool = False):
        self.folder, self.number, self.full = str(folder), number, full
        self.count, self.opened = 0, None
        self._lock = threading.Lock()

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        is_open = event == "open" and isinstance(given[2], int) and bool(given[2] & WRITING)
        if not is_open and event not in (NEEDING_SPACE if self.full else CHANGES):
            return
        # Files of a folder that is deleted as a whole are named without it.
        if isinstance(given[0], int) or not (self._is_inside(given[0]) or event in ("os.remove", "os.rmdir")):
            return
        with self._lock:
            self.count += 1
            if self.count >= self.number and self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(given[0]))
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
def killed_at_change(folder: Path, number: int, full: bool = False) -> Iterator[Changes]:
    """Raises `Killed` at the n-th change below a folder, before it is made, and at every later one.

    With `full`, the disk is full at the n-th file or folder made: OSError, which commands report.
    """
    _hook()
    changes = Changes(folder, number, full)
    _watching.append(changes)
    try:
        yield changes
    finally:
        _watching.remove(changes)


def started(command: list[str], log: Path, file_bytes: int | None = None) -> BaseProcess:
    """A process that runs a command and writes what it says into `log`; no file may have more than `file_bytes`.

    It is forked by a server that has imported torch and the package, which otherwise takes longer than the command.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "pandas", "soundfile", "audiointerp.commands", "audiointerp.runs"])
    process = context.Process(target=_work, args=(command, str(log), file_bytes))
    process.start()
    return process


def _work(command: list[str], log: str, file_bytes: int | None) -> None:
    from audiointerp.__main__ import main

    if file_bytes is not None:  # as on a disk that is full in the middle of a file
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["audiointerp", *command]
    sys.exit(main(command))
