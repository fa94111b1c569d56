"""Folders of the cache are made aside and renamed; large ones in parts, by as many processes as need them.

A part is what one process decodes at a time. Whoever makes a part holds a lock on a file, which the system gives back
when the process ends, however it ends: a killed process loses its current part, and the others, or the next command,
take it over. Where the file system has no locks, processes may make a part twice, with the same result.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ABANDONED_AFTER = 24 * 3600  # seconds, after which a later build deletes the folder of one that was killed
WAIT_S = 0.2  # between looks at the parts that others are making

__all__ = ["built_aside", "built_together", "claimed", "write_whole"]


@contextmanager
def built_aside(folder: Path, complete: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `folder` at the end, or deleted after an error.

    Args:
        folder: the final folder; an existing one is replaced unless it is complete.
        complete: whether a folder is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        yield aside
        _publish(aside, folder, complete)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def built_together(
    folder: Path,
    count: int,
    made: Callable[[Path, int], bool],
    make: Callable[[Path, int], None],
    join: Callable[[Path], None],
    complete: Callable[[Path], bool],
) -> None:
    """Makes a folder of `count` parts, together with all processes that make the same one; returns when it is there.

    Args:
        folder: the final folder; an existing one is replaced unless it is complete.
        count: number of parts.
        made: (folder, number of a part) -> whether the part is there as a whole.
        make: (folder, number of a part) makes it; the file that `made` looks for is renamed into place last.
        join: (folder) makes what the whole folder has, from its parts; called by one process.
        complete: whether a folder is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One name for all processes, so that they share the parts, and a later command finds those of a killed one.
    aside = folder.parent / f".part-{folder.name}"
    _sweep(folder.parent, keep=aside)
    # Each starts at another part: without locks, they then seldom make the same one.
    order = random.Random(f"{os.getpid()} {time.time_ns()}").sample(range(count), count)
    while not complete(folder):
        aside.mkdir(exist_ok=True)
        if complete(folder):  # another process renamed the folder meanwhile, and this is a new one
            with suppress(OSError):
                aside.rmdir()
            return
        try:
            left = [part for part in order if not made(aside, part)]
            if not sum(_made_here(aside, part, made, make) for part in left):
                if not left and _joined_here(aside, folder, join, complete):
                    return
                time.sleep(WAIT_S)
        except FileNotFoundError:
            if not complete(folder) and aside.is_dir():  # else another process has just renamed the folder
                raise


def _made_here(aside: Path, part: int, made: Callable[[Path, int], bool], make: Callable[[Path, int], None]) -> bool:
    with claimed(aside / f"{part}.lock") as mine:
        if not mine or made(aside, part):
            return False
        make(aside, part)
        return True


def _joined_here(aside: Path, folder: Path, join: Callable[[Path], None], complete: Callable[[Path], bool]) -> bool:
    with claimed(aside / "join.lock") as mine:
        if not mine or complete(folder):
            return False
        join(aside)
        _publish(aside, folder, complete)
    for left in (*folder.glob("*.lock"), *folder.glob(".new-*")):  # locks, and what killed processes were writing
        left.unlink(missing_ok=True)
    return True


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock on a file, within the block; True also where files cannot be locked."""
    if fcntl is None:
        yield True
        return
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a network file system without locks
            pass
        yield True


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a file under a name that no other process uses, then renames it to `path`."""
    aside = path.with_name(f".new-{os.getpid()}-{secrets.token_hex(6)}{path.suffix}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _publish(aside: Path, folder: Path, complete: Callable[[Path], bool]) -> None:
    try:
        os.rename(aside, folder)
    except OSError:
        if complete(folder):
            return  # another process was faster and wrote the same files
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(aside, folder)


def _sweep(root: Path, keep: Path | None = None) -> None:
    for part in root.glob(".part-*"):
        if part == keep:
            continue
        try:
            newest = max(entry.stat().st_mtime for entry in [part, *part.iterdir()])
        except OSError:
            continue  # being renamed by its builder right now
        if time.time() - newest > ABANDONED_AFTER:
            shutil.rmtree(part, ignore_errors=True)
