"""Stores sessions on disk, one line each; a session is written completely or not at all.

webMUSHRA posts `sessionJSON=` followed by raw JSON that is not URL-encoded. A form parser would cut it at an ampersand
and turn a plus into a space, so this module reads the body without one.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from audiointerp.results.paths import inside

logger = logging.getLogger(__name__)

SESSIONS, REJECTED = "sessions.jsonl", "rejected"
MAX_REJECTED, MAX_REJECTED_BYTES = 1000, 256 * 2**20  # of bodies that are no sessions; further ones are not kept
MAX_STORED = 2**30  # bytes of one file, so that a stranger cannot fill the disk
_FIELD = b"sessionJSON="

__all__ = ["REJECTED", "SESSIONS", "Store"]


class Store:
    """A folder of sessions. Several processes may write to it.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission")
        for path in sorted(folder.glob(f"*/{SESSIONS}")):
            with self._opened(path) as file:
                self._repair(file)

    def keep(self, body: bytes, known: Container[str] | None = None) -> str:
        """Appends a session of webMUSHRA to its test's file, synchronised to disk; returns the test's name.

        Args:
            known: names of the tests that are collected; None for all.

        Raises:
            ValueError: if the body is not a session, or one of another test.
            OSError: if it could not be written completely; the file is then unchanged.
        """
        line, test_id = _line(body)
        if known is not None and test_id not in known:
            raise ValueError(f"test {test_id!r} is not served here; copy its configs into the checkout")
        self.append(test_id, line)
        return test_id

    def append(self, test_id: str, line: bytes, name: str = SESSIONS) -> None:
        """Appends a line, which ends with a line feed, to a file of a test, synchronised to disk.

        Raises:
            OSError: if it could not be written completely; the file is then unchanged.
        """
        path = self.path_of(test_id, name)
        path.parent.mkdir(exist_ok=True)
        with self._opened(path) as file:
            self._repair(file)
            size = os.fstat(file).st_size
            try:
                if size + len(line) > MAX_STORED:
                    raise OSError(28, f"{path} would have more than {MAX_STORED} bytes")
                if os.write(file, line) != len(line):
                    raise OSError(28, "the disk is full")
                os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise

    def path_of(self, test_id: str, name: str = SESSIONS) -> Path:
        """Path of a file of a test."""
        # The same folder name as webMUSHRA's write.php gives.
        slug = re.sub("--+", "-", re.sub(r"[^\w-]+", "-", test_id, flags=re.ASCII)).lower()[:100]
        slug = f"{slug}_" if slug == REJECTED else slug  # that folder holds what is no session
        return inside(self.folder, slug, name)

    def reject(self, body: bytes) -> Path | None:
        """Stores a body that is not a session in `rejected/`; returns its path, None if that folder is full."""
        kept = list((self.folder / REJECTED).glob("*.body"))
        if len(kept) >= MAX_REJECTED or sum(each.stat().st_size for each in kept) + len(body) > MAX_REJECTED_BYTES:
            return None
        return self._put_aside(body)

    def _put_aside(self, body: bytes) -> Path:
        path = self.folder / REJECTED / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}.body"
        path.parent.mkdir(exist_ok=True)
        try:
            with open(path, "xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    @contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        with self._lock:
            is_new = not path.exists()
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)  # also releases the lock
            if is_new:
                _sync_folder(path.parent)

    def _repair(self, file: int) -> None:
        """Adds a missing line break after a complete last line; moves an incomplete last line to `rejected/`."""
        size = os.fstat(file).st_size
        if size == 0 or os.pread(file, 1, size - 1) == b"\n":
            return
        content = os.pread(file, size, 0)
        start = content.rfind(b"\n") + 1
        try:
            _parse(content[start:])
        except ValueError:
            aside = self._put_aside(content[start:])
            os.ftruncate(file, start)
            logger.warning("the last session is incomplete (the server was killed while writing); moved to %s", aside)
        else:
            os.write(file, b"\n")
        os.fsync(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _line(body: bytes) -> tuple[bytes, str]:
    """The line to store for a body, and the name of its test; raw JSON is not changed."""
    if not body.startswith(_FIELD):
        raise ValueError("no field sessionJSON")
    raw = body.removeprefix(_FIELD)
    if raw[:3].upper() == b"%7B":  # senders other than webMUSHRA URL-encode the JSON
        raw = unquote_plus(raw.split(b"&")[0].decode("ascii", errors="replace")).encode(errors="replace")
    session = _parse(raw)
    test_id = session.get("testId")
    if not isinstance(test_id, str) or not re.search(r"\w", test_id, re.ASCII):
        raise ValueError("sessionJSON has no testId")
    if not isinstance(session.get("trials"), list):
        raise ValueError("sessionJSON has no trials")
    if b"\n" in raw or b"\r" in raw:
        raw = json.dumps(session).encode()
    return raw.strip() + b"\n", test_id


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        session = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(session, dict):
        raise ValueError("not a JSON object")
    return session


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
