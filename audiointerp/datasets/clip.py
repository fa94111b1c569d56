"""One labelled clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from audiointerp.sound.activity import Times

__all__ = ["Clip", "Member"]


class Member(NamedTuple):
    """A sound file inside a tar archive.

    Attributes:
        name: the file's name in the archive; only shown, never a path.
        offset: of its first byte in the archive.
        size: in bytes.
    """

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Clip:
    """A labelled stretch of an audio file.

    Attributes:
        path: the file, or the archive that holds it.
        labels: class names, at least one.
        fold: number of the fold that the clip belongs to.
        start: in seconds.
        seconds: length, or None to the end of the file.
        recording: name of the source recording, which several clips may be cut from; "": the file itself.
        events: start and end of each sound of the clip's classes, in seconds from the clip's beginning; None: unknown.
        member: the file's place in the archive; None: `path` is the audio file.
    """

    path: Path
    labels: tuple[str, ...]
    fold: int
    start: float = 0.0
    seconds: float | None = None
    recording: str = field(default="", compare=False)
    events: Times | None = field(default=None, compare=False)
    member: Member | None = None

    @property
    def name(self) -> str:
        """The file's path, as it is shown; of a file in an archive, the archive's path, "#" and the file's name.

        >>> Clip(Path("train-000000.tar"), ("dog",), 1, member=Member("a.flac", 1536, 40_000)).name
        'train-000000.tar#a.flac'
        """
        return str(self.path) if self.member is None else f"{self.path}#{self.member.name}"

    @property
    def source(self) -> str:
        """Name of the source recording, or the file's name if it has none."""
        return self.recording or self.name
