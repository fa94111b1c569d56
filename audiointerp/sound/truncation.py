"""Whether an audio file is as long as its header states: libsndfile reads one that was cut short as if it were whole.

Compared are WAV, RF64, W64, AIFF, 8SVX, CAF, AU, AVR, MAT4, MAT5, MPC2K, NIST (SPHERE), VOC and WVE, and an MP3 that
has a Xing header. The headers of IRCAM, PAF, PVF, and of XI as libsndfile writes it, state no length; neither does an
MP3 without a Xing header. For FLAC, Ogg, HTK and SDS, libsndfile or the end of an Ogg stream shows it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

# First bytes of a file -> start of its chunks, layout of a chunk's header, names of the chunks that hold the samples.
_CHUNKED = {
    b"RIFF": (12, "<4sI", (b"data",)),
    b"RIFX": (12, ">4sI", (b"data",)),
    b"RF64": (12, "<4sI", (b"data",)),
    b"FORM": (12, ">4sI", (b"SSND", b"BODY")),
    b"caff": (8, ">4sq", (b"data",)),
    # Sony's Wave64: names are GUIDs.
    b"riff": (40, "<16sQ", (b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0O\x8e\xdb\x8a",)),
}
# Sizes in headers that were written before the length was known, so that no bytes are missing. 0x7FFFF000 is SoX's.
_UNKNOWN_SIZES = (0, -1, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFFFFFFFFFF)
MP3_SLACK = 0.1  # share of an MP3's bytes: encoders count tags and the header's own frame or not

__all__ = ["missing_bytes", "ogg_unfinished", "states_no_length"]


def missing_bytes(path: Path) -> int:
    """Number of bytes missing by the size in the header; 0 if it states none, see the module."""
    whole = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(32)
        for magic, end_of in _ENDS.items():
            if start.startswith(magic):
                file.seek(0)
                return max(0, end_of(file) - whole)
    return 0


def states_no_length(path: Path) -> str:
    """The name of the file's format if its header states no length, so that nothing shows whether it is whole."""
    with open(path, "rb") as file:
        start = file.read(302)
    for magic, name in _WITHOUT.items():
        if start.startswith(magic):
            return name
    is_xi = start.startswith(b"Extended Instrument: ")
    return "XI" if is_xi and not any(start[298:302]) else ""  # length of the first sample


def ogg_unfinished(path: Path) -> bool:
    """Whether an Ogg file's last page is cut or lacks the end-of-stream flag (RFC 3533): a copy that was cut short."""
    with open(path, "rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - 65536))  # a page is at most 65,307 bytes
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or not page[5] & 4:
        return True
    # A page is a header of 27 bytes, as many sizes of one byte as its last byte states, and data as long as their sum.
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


# Each of the following returns the position at which the samples end by the header; 0 if it states none.


def _fields(file: BufferedReader, layout: str) -> tuple:
    """The next bytes of a file as `struct` reads them; zeros after its end."""
    size = struct.calcsize(layout)
    return struct.unpack(layout, file.read(size).ljust(size, b"\0"))


def _chunked(file: BufferedReader) -> int:
    kind = file.read(4)
    start, layout, wanted = _CHUNKED[kind]
    file.seek(start)
    head, long_size = struct.calcsize(layout), 0
    while len(chunk := file.read(head)) == head:
        name, size = struct.unpack(layout, chunk)
        if name in wanted:
            size = long_size if kind == b"RF64" and size == 0xFFFFFFFF else size
            size -= head if kind == b"riff" else 0  # Wave64 counts the header of a chunk
            return 0 if size in _UNKNOWN_SIZES else file.tell() + size
        if name == b"ds64":  # RF64 keeps the sizes above 4 GB here
            long_size = _fields(file, "<8xQ")[0]
            file.seek(-16, os.SEEK_CUR)
        if file.tell() > os.fstat(file.fileno()).st_size or size < 0:
            break
        file.seek(_to_next(kind, size, head), os.SEEK_CUR)
    return 0


def _to_next(kind: bytes, size: int, head: int) -> int:
    """Bytes from the end of a chunk's header to the next chunk, with padding."""
    if kind == b"riff":
        return max(0, -(-size // 8) * 8 - head)
    return size + (size % 2 if kind != b"caff" else 0)


def _au(file: BufferedReader) -> int:
    order = ">" if file.read(4) == b".snd" else "<"
    start, size = _fields(file, f"{order}2I")
    return 0 if size in _UNKNOWN_SIZES else start + size


def _avr(file: BufferedReader) -> int:
    """Audio Visual Research: a header of 128 bytes; 0 for mono, bits of a sample, frames."""
    stereo, bits, frames = _fields(file, ">12xHH10xI98x")
    return 128 + frames * (2 if stereo else 1) * bits // 8


def _mat4(file: BufferedReader) -> int:
    """MATLAB 4: matrices, each a header of type, rows, columns, imaginary part and length of its name."""
    whole, end = os.fstat(file.fileno()).st_size, 0
    order = ">" if file.read(4)[2:] == b"\x03\xe8" else "<"
    sizes = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}  # bytes of an element, by the tens digit of the type
    while end < whole:
        file.seek(end)
        kind, rows, columns, imaginary, name = _fields(file, f"{order}5I")
        if kind % 100 // 10 not in sizes:
            return 0
        end += 20 + name + rows * columns * sizes[kind % 100 // 10] * (2 if imaginary else 1)
    return end


def _mat5(file: BufferedReader) -> int:
    """MATLAB 5: elements of a type and a size after a header of 128 bytes; libsndfile counts 8 bytes too many."""
    whole, end = os.fstat(file.fileno()).st_size, 128
    file.seek(126)
    order = "<" if file.read(2) == b"IM" else ">"
    while end < whole:
        file.seek(end)
        end += 8 + _fields(file, f"{order}4xI")[0]
    return end - 8


def _mpc2k(file: BufferedReader) -> int:
    """Akai MPC 2000: a header of 42 bytes, 16 bits; whether it is stereo, and the frames."""
    stereo, frames = _fields(file, "<21xB8xI")
    return 42 + 2 * frames * (2 if stereo else 1)


def _nist(file: BufferedReader) -> int:
    """NIST's SPHERE: a header of text, whose size is its second line."""
    header = file.read(8192).decode("latin-1")
    facts = dict(re.findall(r"^(\w+) -(?:i|s[0-9]+) ([0-9]{1,12})\s*$", header, re.MULTILINE))
    start = re.match(r"NIST_1A\n *([0-9]{1,6})\n", header)
    names = ("sample_count", "channel_count", "sample_n_bytes")
    if start is None or not all(name in facts for name in names) or re.search("shorten|wavpack|shortpack", header):
        return 0
    count, channels, size = (int(facts[name]) for name in names)
    return int(start[1]) + count * channels * size


def _voc(file: BufferedReader) -> int:
    """Creative Voice: blocks of a type and a size of 24 bits; of sounds beyond that, only the first block is known."""
    whole, end = os.fstat(file.fileno()).st_size, _fields(file, "<20xH")[0]
    while end < whole:
        file.seek(end)
        kind, low, high = _fields(file, "<BHB")
        if kind == 0 or kind > 9:
            break
        end += 4 + low + (high << 16)
        if whole >= 1 << 24 and kind in (1, 9):
            break
    return end


def _wve(file: BufferedReader) -> int:
    """Psion's A-law: a header of 32 bytes, one byte a sample."""
    return 32 + _fields(file, ">18xI")[0]


def _mp3(file: BufferedReader) -> int:
    """An MP3 with a Xing header, which counts its bytes from the first frame on, after an ID3 tag."""
    name, *size = _fields(file, ">3s3x4B")
    start = 10 + sum(byte << 7 * place for place, byte in zip((3, 2, 1, 0), size)) if name == b"ID3" else 0
    file.seek(start)
    frame = file.read(256)
    found = re.search(b"Xing|Info", frame[:64])
    if found is None or len(frame) < found.end() + 12:
        return 0
    flags, first, second = struct.unpack(">3I", frame[found.end() : found.end() + 12])
    if not flags & 2:
        return 0
    size = second if flags & 1 else first
    return start + int((1 - MP3_SLACK) * size)


_ENDS: dict[bytes, Callable[[BufferedReader], int]] = {
    **dict.fromkeys(_CHUNKED, _chunked),
    **{b".snd": _au, b"dns.": _au, b"2BIT": _avr, b"MATLAB 5.0": _mat5, b"\x01\x04": _mpc2k, b"NIST_1A": _nist},
    **{bytes(4): _mat4, b"\x00\x00\x03\xe8": _mat4, b"Creative Voice File": _voc, b"ALawSoundFile**": _wve},
    **dict.fromkeys((b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"), _mp3),
}
_WITHOUT = {b" paf": "PAF", b"fap ": "PAF", b"PVF1": "PVF"}
_WITHOUT |= dict.fromkeys((b"d\xa3\x01\x00", b"d\xa3\x02\x00", b"d\xa3\x03\x00", b"d\xa3\x04\x00"), "IRCAM")
_WITHOUT |= dict.fromkeys((b"\x00\x01\xa3d", b"\x00\x02\xa3d", b"\x00\x03\xa3d", b"\x00\x04\xa3d"), "IRCAM")
