"""The sounds that a person opens on the page: kept in a temporary folder, read one part of at most 30 s at a time."""

from __future__ import annotations

import hashlib
import itertools
import math
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from audiointerp.evaluation.items import item_id_of
from audiointerp.sound.files import AudioError, probe
from audiointerp.sound.recordings import Recording

PART_SECONDS, OVERLAP_SECONDS = 30.0, 1.0  # the windows in which `interpret` explains long recordings
MOST_SECONDS = 30 * 60.0
MOST_BYTES = 256 * 2**20
MOST_SOUNDS, MOST_TOTAL_BYTES = 32, 2 * 2**30  # of all sounds opened in one session; the oldest are dropped

_SUFFIXES = {"WAV": ".wav", "WAVEX": ".wav", "FLAC": ".flac", "OGG": ".ogg", "MP3": ".mp3", "MPEG": ".mp3"}
_SUFFIXES |= {"AIFF": ".aiff", "CAF": ".caf"}

__all__ = ["MOST_BYTES", "MOST_SECONDS", "PART_SECONDS", "Missing", "OpenedSound", "Sounds"]


class Missing(LookupError):
    """Something that the page names and that is not there, or no longer."""


@dataclass(frozen=True)
class OpenedSound:
    """A sound that was opened.

    Attributes:
        sound_id: random, by which the page names it.
        name: as shown and as the base of an item's name; never used as a path.
        path: of its file.
        temporary: whether the file lies in the session's temporary folder and is deleted with it.
        suffix: that the file would have by its format, such as ".wav".
        seconds: its duration.
        starts: start of each part, in seconds.
        identity: path of a file given by the user, else hash and name, from which a run folder's names are made.
    """

    sound_id: str
    name: str
    path: Path
    temporary: bool
    suffix: str
    seconds: float
    starts: tuple[float, ...]
    identity: str

    def item_id(self, part: int) -> str:
        """Short name of a part in a run folder; of a file's first part, that which `interpret` gives to the file."""
        return item_id_of(self.identity, self.starts[part])


class Sounds:
    """The sounds of a session; at most `MOST_SOUNDS`, the oldest uploaded ones are dropped first.

    Args:
        folder: temporary folder of the session, which exists.
        sample_rate: of the classifier, in Hz.
    """

    def __init__(self, folder: Path, sample_rate: int):
        self.folder, self.sample_rate = folder, sample_rate
        self._opened: OrderedDict[str, OpenedSound] = OrderedDict()

    def add(self, data: bytes, name: str) -> OpenedSound:
        """Opens an uploaded file.

        Args:
            data: content of the file.
            name: its name, for people only.

        Raises:
            AudioError: if it cannot be used; the message has the sound's name instead of a path.
            ValueError: if it is too large or too long.
        """
        if len(data) > MOST_BYTES:
            raise ValueError(f"{name}: has {len(data) / 2**20:.0f} MB; open a file of at most {MOST_BYTES >> 20} MB")
        path = self.folder / secrets.token_hex(8)
        path.write_bytes(data)
        try:
            return self._open(path, name, temporary=True)
        except BaseException:
            path.unlink()
            raise

    def add_file(self, path: Path) -> OpenedSound:
        """Opens a file of the user's by its path, in place; raises the errors of `add`."""
        return self._open(path, path.name, temporary=False)

    def get(self, sound_id: str) -> OpenedSound:
        """The sound of an id.

        Raises:
            Missing: if there is none, or it was dropped.
        """
        if sound_id not in self._opened:
            raise Missing(f"this sound is no longer open, because {MOST_SOUNDS} newer ones are; open it again")
        return self._opened[sound_id]

    def all(self) -> list[OpenedSound]:
        """The sounds that are open, oldest first."""
        return list(self._opened.values())

    def read(self, sound: OpenedSound, part: int) -> Tensor:
        """Samples of a part at the classifier's rate, (1, samples), at the file's level.

        Raises:
            Missing: if there is no such part.
            AudioError: if the file cannot be read so far.
        """
        if not 0 <= part < len(sound.starts):
            raise Missing(f"{sound.name}: has {len(sound.starts)} parts, and no part {part + 1}")
        try:
            windows = Recording(sound.path, self.sample_rate).windows(PART_SECONDS, OVERLAP_SECONDS)
            found = next(itertools.islice(windows, part, None), None)
        except AudioError as error:
            raise _named(error, sound.path, sound.name) from None
        if found is None:
            raise AudioError(f"{sound.name}: ends before part {part + 1}")
        return found.waveform

    def _open(self, path: Path, name: str, temporary: bool) -> OpenedSound:
        try:
            info = probe(path)
        except AudioError as error:
            raise _named(error, path, name) from None
        seconds = info.frames / info.samplerate
        if seconds > MOST_SECONDS:
            raise ValueError(
                f"{name}: lasts {seconds / 60:.0f} minutes; open at most {MOST_SECONDS / 60:.0f}, or explain the whole "
                "recording with `audiointerp interpret`"
            )
        step = PART_SECONDS - OVERLAP_SECONDS
        parts = 1 + math.ceil(max(0.0, seconds - PART_SECONDS) / step)
        starts = tuple(number * step for number in range(parts))
        identity = f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}/{name}" if temporary else str(path)
        suffix = _SUFFIXES.get(info.format, "")
        sound = OpenedSound(secrets.token_hex(8), name, path, temporary, suffix, seconds, starts, identity)
        self.read(sound, 0)  # refuses NaN and channels that cancel before the sound is shown
        self._opened[sound.sound_id] = sound
        self._drop_oldest()
        return sound

    def _drop_oldest(self) -> None:
        uploaded = [each for each in self._opened.values() if each.temporary]
        sizes = [each.path.stat().st_size for each in uploaded]
        while len(uploaded) > 1 and (len(uploaded) > MOST_SOUNDS or sum(sizes) > MOST_TOTAL_BYTES):
            oldest = uploaded.pop(0)
            sizes.pop(0)
            del self._opened[oldest.sound_id]
            oldest.path.unlink()


def _named(error: AudioError, path: Path, name: str) -> AudioError:
    """The error with the sound's name for the path of its temporary file."""
    return AudioError(str(error).replace(str(path), name))
