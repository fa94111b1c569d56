"""Sounds in tar archives, read in place: where each file begins, and one file at a time.

Headers are read here and not by Python's `tarfile`, which reads extended headers of any stated size into memory.
Nothing is unpacked, and a name in an archive is only compared and shown, never a path.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from audiointerp.datasets.clip import Member
from audiointerp.sound import files as audio

BLOCK = 512
MOST_HEADER = 1 << 20  # bytes of a long name or of an extended header
MOST_SOUND = 1 << 30  # bytes of a sound
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
FILES, LONG_NAME, EXTENDED, SKIPPED = b"0\x007", b"L", b"x", b"5g"  # kinds of entries; folders and comments are skipped
KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}

__all__ = ["MOST_SOUND", "copied_out", "members", "read_bytes"]


class _Entry(NamedTuple):
    """What a header states."""

    kind: bytes
    name: str
    size: int


def members(archive: str | Path) -> Iterator[Member]:
    """The regular files of an uncompressed tar archive (ustar, GNU or pax), from its headers alone.

    Raises:
        ValueError: naming the archive, if it is no tar archive, compressed, damaged or truncated, or holds a link, a
            device, a sparse file, or a name that leads out of the archive.
    """
    whole = os.stat(archive).st_size
    with open(archive, "rb") as file:
        position, name, size = 0, None, None  # the latter two as an extended header states them for the next entry
        while True:
            header = _block(archive, file, position)
            if not any(header):
                return
            entry = _entry(archive, header, position)
            kind, begin = entry.kind, position + BLOCK
            if kind in EXTENDED + LONG_NAME:
                data = _extended(archive, file, begin, entry.size, whole)
                longer, larger = (data.rstrip(b"\0"), None) if kind in LONG_NAME else _pax(archive, data, position)
                name = name if longer is None else longer.decode("utf-8", "surrogateescape")
                size = size if larger is None else larger
                position = begin + _padded(entry.size)
                continue
            own, length = name or entry.name, entry.size if size is None else size
            if kind not in FILES + SKIPPED:
                what = KINDS.get(kind, "of a kind that is not read")
                raise ValueError(f"{archive}: {own!r} is {what}; pack regular files only")
            if begin + length > whole:
                raise ValueError(f"{archive}: truncated, {own!r} ends {begin + length - whole} bytes behind its end")
            if kind in FILES:
                yield Member(_checked(archive, own), begin, length)
            if kind != b"g":
                name = size = None
            position = begin + _padded(length)


def read_bytes(archive: str | Path, member: Member) -> bytes:
    """The bytes of a file in an archive.

    Raises:
        AudioError: naming both, if the archive ends before.
    """
    with open(archive, "rb") as file:
        file.seek(member.offset)
        data = file.read(member.size)
    if len(data) < member.size:
        raise audio.AudioError(f"{archive}#{member.name}: truncated, {member.size - len(data)} bytes are missing")
    return data


@contextmanager
def copied_out(archive: str | Path, member: Member) -> Iterator[str]:
    """The path of a temporary copy of a sound in an archive, whose errors name the archive and the sound."""
    data, suffix = read_bytes(archive, member), os.path.splitext(member.name)[1].lower()
    with tempfile.TemporaryDirectory(prefix="audiointerp-") as folder:
        copy = os.path.join(folder, "sound" + (suffix if suffix in audio.SUFFIXES else ""))
        Path(copy).write_bytes(data)
        try:
            yield copy
        except audio.AudioError as error:
            raise audio.AudioError(str(error).replace(copy, f"{archive}#{member.name}")) from None


def _block(archive: str | Path, file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    header = file.read(BLOCK)
    if position == 0:
        for magic, name in COMPRESSED.items():
            if header.startswith(magic):
                raise ValueError(
                    f"{archive}: is compressed ({name}), so that no clip can be read in place; unpack it once"
                )
    if len(header) < BLOCK:
        raise ValueError(f"{archive}: " + ("truncated, its end mark is missing" if position else "is no tar archive"))
    return header


def _entry(archive: str | Path, header: bytes, position: int) -> _Entry:
    # The sum of all bytes, of which those of the sum itself count as spaces.
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    if _number(header[148:156]) != total:
        raise ValueError(f"{archive}: " + (f"is damaged at byte {position}" if position else "is no tar archive"))
    size = _number(header[124:136])
    if size is None:
        raise ValueError(f"{archive}: is damaged at byte {position}: a size is not a number")
    name = header[:100].split(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
        name = prefix + b"/" + name
    return _Entry(header[156:157], name.decode("utf-8", "surrogateescape"), size)


def _number(field: bytes) -> int | None:
    """A number in octal digits, or in base 256 after the byte 0x80; None if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        digits = field.strip(b" \0").decode("ascii")
        return int(digits, 8) if digits.isdecimal() else None if digits else 0
    except ValueError:
        return None


def _extended(archive: str | Path, file: BinaryIO, begin: int, size: int, whole: int) -> bytes:
    if size > MOST_HEADER or begin + size > whole:
        raise ValueError(f"{archive}: an extended header states {size} bytes; the archive is damaged")
    file.seek(begin)
    return file.read(size)


def _pax(archive: str | Path, data: bytes, position: int) -> tuple[bytes | None, int | None]:
    """Name and size in an extended header of pax, records `<length> <key>=<value>\\n`; None where it states none."""
    name = size = None
    while data.strip(b"\0"):
        length, _, rest = data.partition(b" ")
        count = int(length) if length.isdigit() and len(length) < 8 else 0
        key, equals, value = rest[: max(0, count - len(length) - 1)].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ValueError(f"{archive}: is damaged at byte {position}: an extended header cannot be read")
        if key.startswith(b"GNU.sparse"):
            raise ValueError(f"{archive}: holds a sparse file; pack regular files only")
        if key == b"path":
            name = value[:-1]
        if key == b"size":
            if not value[:-1].isdigit() or len(value) > 20:
                raise ValueError(f"{archive}: is damaged at byte {position}: a size is not a number")
            size = int(value)
        data = data[count:]
    return name, size


def _checked(archive: str | Path, name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable():
        raise ValueError(f"{archive}: holds the name {name!r}; names are relative, printable and without '..'")
    return "/".join(part for part in parts if part not in ("", "."))


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
