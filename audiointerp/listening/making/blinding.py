"""Blind names and the key to them.

A name is cut from HMAC-SHA256 under a secret of 32 random bytes: a bare hash of a method's name could be guessed.
Manifest, settings, seed and secret together determine every name.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from audiointerp.listening.study import KEY_COLUMNS

SECRET_BYTES = 32

__all__ = ["blind_name", "load_secret", "stimulus_name", "study_name", "write_key"]


def load_secret(path: str | Path) -> bytes:
    """The secret in that file, as hexadecimal digits; a new one is drawn and written if there is no such file.

    Raises:
        ValueError: if the file holds something else.
    """
    path = Path(path)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made for its owner's eyes only from the start.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secret.hex() + "\n")
    return secret


def blind_name(secret: bytes, *parts: str) -> str:
    """Eight characters a-z, 2-7: the first 40 bits of the HMAC of the parts, in base 32.

    >>> blind_name(bytes(32), "lt_test", "c_dog", "interpretation", "piq")
    'qwprhkez'
    """
    digest = hmac.new(secret, "|".join(parts).encode(), hashlib.sha256).digest()
    return base64.b32encode(digest)[:8].decode("ascii").lower()


def study_name(secret: bytes, *parts: str) -> str:
    """Of a test: `lt_` and eight characters."""
    return f"lt_{blind_name(secret, 'test', *parts)}"


def stimulus_name(secret: bytes, test_id: str, item_id: str, role: str, method: str) -> str:
    """Of a sound: `s_` and eight characters; starts with a letter and is no number, whatever reads it."""
    return f"s_{blind_name(secret, test_id, item_id, role, method)}"


def write_key(path: str | Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes the key, sorted by blind name, which tells nothing of the run's order."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, KEY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: str(row["stimulus_id"])))
