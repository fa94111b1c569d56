"""Blind names of sounds, and the key that maps them to methods.

A name is the beginning of an HMAC-SHA256 under a secret of 32 random bytes; without the secret, names of methods could
be found by hashing guesses. Manifest, settings, seed and secret together determine every name.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from audiointerp.listening.study import KEY_COLUMNS
from audiointerp.results.writing import aside, csv_text, write_text

SECRET_BYTES = 32

__all__ = ["blind_name", "load_secret", "stimulus_name", "study_name", "write_key"]


def load_secret(path: str | Path, given: str | Path | None = None) -> bytes:
    """Reads the secret from a file of hexadecimal digits; if there is no file, draws a new secret and writes it.

    Args:
        path: the test's own secret.
        given: another test's, which is copied to `path`.

    Raises:
        ValueError: if a file holds something else, or `path` another secret than `given`.
    """
    path = Path(path)
    if given is not None:
        return _copied(Path(given), path)
    if path.is_file():
        text = path.read_text("utf-8", errors="replace").strip()
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"{path}: must hold {2 * SECRET_BYTES} hexadecimal digits; restore or delete it")
        return secret
    secret = secrets.token_bytes(SECRET_BYTES)
    _write(path, secret)
    return secret


def _copied(given: Path, path: Path) -> bytes:
    if not given.is_file():
        raise ValueError(f"{given}: no such file; give the secret.hex of another test's private folder")
    secret = load_secret(given)
    if not path.is_file():
        _write(path, secret)
    elif load_secret(path) != secret:
        raise ValueError(f"{path}: is another secret than {given}; choose another folder")
    return secret


def _write(path: Path, secret: bytes) -> None:
    with aside(path) as part:
        part.unlink(missing_ok=True)  # of a process that was killed here
        # Created with mode 0600, so that no other user can read it at any moment.
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secret.hex() + "\n")


def blind_name(secret: bytes, *parts: str) -> str:
    """Eight characters a-z, 2-7: the first 40 bits of the HMAC of the parts, in base 32.

    >>> blind_name(bytes(32), "lt_test", "c_dog", "interpretation", "piq")
    'qwprhkez'
    """
    digest = hmac.new(secret, "|".join(parts).encode(), hashlib.sha256).digest()
    return base64.b32encode(digest)[:8].decode("ascii").lower()


def study_name(secret: bytes, *parts: str) -> str:
    """Name of a test: `lt_` and eight characters."""
    return f"lt_{blind_name(secret, 'test', *parts)}"


def stimulus_name(secret: bytes, test_id: str, item_id: str, role: str, method: str) -> str:
    """Blind name of a sound: `s_` and eight characters; the first letter keeps programs from reading it as a number."""
    return f"s_{blind_name(secret, test_id, item_id, role, method)}"


def write_key(path: str | Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes the key, sorted by blind name, so that the rows do not reveal the run's order."""
    ordered = sorted(rows, key=lambda row: str(row["stimulus_id"]))
    write_text(path, csv_text([KEY_COLUMNS, *([row[name] for name in KEY_COLUMNS] for row in ordered)]))
