"""Names that come from files, as paths: the one place where they are joined to a folder.

`inside` is for names under which something is written, linked or shown; such a path never leaves its folder.
`input_file` is for sounds that a user's own table lists, which may be anywhere.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

MOST = 200  # bytes of one name: files add a suffix of their own, and systems allow 255

__all__ = ["input_file", "inside", "why_not_inside"]


def inside(folder: str | Path, *names: str) -> Path:
    """The path of `names` in a folder; the last may hold "/".

    >>> inside("run", "audio", "c_dog/piq.wav").as_posix()
    'run/audio/c_dog/piq.wav'

    Raises:
        ValueError: if the path is not inside the folder, see `why_not_inside`.
    """
    path = Path(folder)
    for name in names:
        if reason := why_not_inside(path, name):
            raise ValueError(f"{name!r} {reason}")
        path = path / name
    return path


def why_not_inside(folder: str | Path, name: str) -> str:
    """Why a name cannot be the path of a file or folder inside `folder`; empty if it can.

    >>> why_not_inside("run", "../x.wav")
    "must not hold '..'"
    """
    path = PurePosixPath(name)
    if not name.strip() or not name.isprintable() or not path.parts:
        return "must be a name of printable characters"
    if path.is_absolute() or "\\" in name or ":" in path.parts[0]:
        return "must be relative to the run folder, with forward slashes"
    if ".." in path.parts:
        return "must not hold '..'"
    if any(part.startswith(".") for part in path.parts):
        return "must not begin with a dot"
    if any(len(part.encode()) > MOST for part in path.parts):
        return f"is too long, at most {MOST} bytes"
    try:
        if not (Path(folder) / path).resolve().is_relative_to(Path(folder).resolve()):
            return "leads out of the folder through a symbolic link"
    except (OSError, RuntimeError):
        return "leads through a circle of symbolic links"
    return ""


def input_file(folder: str | Path, name: str) -> Path | None:
    """The regular file that a user's table names, relative to the table's folder or absolute; None if there is none."""
    if not name.strip() or "\0" in name:
        return None
    path = Path(folder) / name
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # a name that is too long for the file system
        return None
