"""Items: sounds to explain, with their label and stems if known; made from files, dataset clips and mixtures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiointerp.contracts import LogitsError
from audiointerp.datasets import ClipDataset, Mixture, PolyphonicScene, read_mixtures, read_scenes
from audiointerp.datasets.scenes import BACKGROUND
from audiointerp.sound import files as audio
from audiointerp.sound.activity import Times, shifted
from audiointerp.sound.recordings import Recording, Window

__all__ = [
    "Item",
    "audio_files",
    "chosen_items",
    "clip_items",
    "is_mixtures",
    "is_scenes",
    "item_id_of",
    "mixture_items",
    "naming",
    "recording_item",
    "scene_items",
]


@dataclass(frozen=True)
class Item:
    """A sound to explain.

    Attributes:
        item_id: short name, unique in a run.
        source: path of the sound's file.
        windows: the sound as consecutive windows (one, unless it is long); a function, since each method reads it anew.
        frames: length of the written WAVs in samples at `file_rate`; a function, since it is known after reading only.
        sample_rate: of the windows, in Hz.
        file_rate: of the written WAVs, in Hz.
        label: true class, or "".
        stems: class name -> that class's part of the sound, (1, samples), if known; the item's own class first.
        condition: such as "clean" or "mixture"; scores are averaged per condition.
        snr_db: level of the item's own stem above the other stem, in dB, if there are two.
        files: further files that the sound is made of, such as a mixture's stems.
        recordings: names of the source recordings that the sound is made of; items that share one are not independent.
        events: class name -> start and end of each of its sounds, in seconds, where they are known.
        asked: the class to explain, whatever the classifier predicts; "": see `Wanted.target`.
    """

    item_id: str
    source: str
    windows: Callable[[], Iterator[Window]]
    frames: Callable[[], int]
    sample_rate: int
    file_rate: int
    label: str = ""
    stems: Mapping[str, Tensor] = field(default_factory=dict)
    condition: str = "clean"
    snr_db: float | None = None
    recordings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    events: Mapping[str, Times] = field(default_factory=dict)
    asked: str = ""

    @classmethod
    def of_waveform(cls, item_id: str, source: str, waveform: Tensor, sample_rate: int, **rest: Any) -> Item:
        """An item from a waveform in memory, (1, samples)."""
        return cls(
            item_id,
            source,
            lambda: iter([Window(0, waveform)]),
            lambda: waveform.shape[1],
            sample_rate,
            sample_rate,
            **rest,
        )

    @property
    def made_of(self) -> tuple[str, ...]:
        """The source and the further files; results of the item are of these."""
        return (self.source, *self.files)

    def stems_for(self, explained: Sequence[str]) -> list[Tensor]:
        """The target class's stem, then the other stems; no stem if the target class is not in the item."""
        if len(explained) != 1 or explained[0] not in self.stems:
            return []
        return [self.stems[explained[0]], *(stem for label, stem in self.stems.items() if label != explained[0])]

    def times_in(self, window: Window, explained: Sequence[str]) -> Times | None:
        """Times of the target class in a window, in seconds from its beginning; None if they are not known."""
        if len(explained) != 1 or explained[0] not in self.events:
            return None
        start, seconds = (each / self.sample_rate for each in (window.start, window.waveform.shape[1]))
        return shifted(self.events[explained[0]], start, seconds)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Adds the name of the sound to an error about the logits that a classifier returned for it."""
    try:
        yield
    except LogitsError as error:
        raise LogitsError(f"{source}: {error}") from error


def item_id_of(path: str | Path, start: float = 0.0) -> str:
    """A short name for a file, or a clip of it from `start` seconds: `c_`, slug, six hex digits; at most 31 characters.

    >>> item_id_of("/data/My Dog (1).wav")
    'c_my_dog_1_...'
    """
    slug = re.sub(r"[^a-z0-9]+", "_", Path(path).stem.lower()).strip("_")[:22].strip("_") or "clip"
    where = f"{path}@{start:g}" if start else str(path)
    return f"c_{slug}_{hashlib.sha256(where.encode()).hexdigest()[:6]}"


def audio_files(paths: Sequence[str | Path]) -> list[Path]:
    """The given files, and all audio files below the given folders, sorted.

    Raises:
        ValueError: for a path that does not exist or a folder without audio.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.suffix.lower() in audio.SUFFIXES and each.is_file())
            if not found:
                raise ValueError(f"{path}: no audio file in this folder (looked for {', '.join(audio.SUFFIXES)})")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    return list(dict.fromkeys(files))


def recording_item(path: Path, sample_rate: int, output_rate: str = "model", channel: int | None = None) -> Item:
    """Item of a file of any length, read in windows.

    Args:
        path: of the file.
        sample_rate: of the classifier, in Hz.
        output_rate: "model" or "input": whether its WAVs have the rate of the classifier or of the file.
        channel: the channel to explain, counted from 0. None: the mean of all channels.
    """
    recording = Recording(path, sample_rate, channel)
    native = output_rate == "input"
    rate = recording.file_rate if native else sample_rate
    return Item(
        item_id_of(path),
        str(path),
        windows=recording.windows,
        frames=lambda: recording.frames if native else -(-recording.frames * sample_rate // recording.file_rate),
        sample_rate=sample_rate,
        file_rate=rate,
    )


def clip_items(dataset: ClipDataset, count: int | None = None, seed: int = 0) -> Iterator[Item]:
    """Clean clips of a dataset, cut or padded to its clip length: all, or `count` drawn by the seed."""
    chosen: Iterable[int] = range(len(dataset))
    if count is not None and count < len(dataset):
        drawn = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:count]
        chosen = sorted(drawn.tolist())
    return chosen_items(dataset, chosen)


def chosen_items(dataset: ClipDataset, chosen: Iterable[int]) -> Iterator[Item]:
    """Clean clips of a dataset, by index, cut or padded to its clip length; each is read when its windows are."""
    for i in chosen:
        clip = dataset.clips[i]
        yield Item(
            item_id_of(clip.name, clip.start),
            clip.name,
            partial(_clip_windows, dataset, i),
            lambda: dataset.samples,
            dataset.sample_rate,
            dataset.sample_rate,
            label=";".join(clip.labels),
            recordings=(clip.source,),
            events={} if clip.events is None else {";".join(clip.labels): clip.events},
        )


def _clip_windows(dataset: ClipDataset, index: int) -> Iterator[Window]:
    yield Window(0, audio.fit_length(dataset.waveform(index)[None], dataset.samples))


def is_mixtures(path: str | Path) -> bool:
    """Whether a file is a table of mixtures, as its header shows."""
    return "base_stem" in _header(path)


def is_scenes(path: str | Path) -> bool:
    """Whether a file is a table of scenes, as its header shows."""
    return "onset_s" in _header(path)


def _header(path: str | Path) -> str:
    path = Path(path)
    if path.suffix != ".csv" or not path.is_file():
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline(1 << 16)


def mixture_items(csv_path: str | Path, sample_rate: int) -> Iterator[Item]:
    """Mixtures with known stems, as `audiointerp mix` writes them; the table is checked before any WAV is read."""
    return (_mixture_item(each, sample_rate) for each in read_mixtures(csv_path))


def _mixture_item(each: Mixture, sample_rate: int) -> Item:
    mixture, base, other = (audio.read(path, sample_rate) for path in (each.mixture, each.base_stem, each.other_stem))
    for path, stem in ((each.base_stem, base), (each.other_stem, other)):
        _check_stem(path, stem, "mixture", each.mixture, mixture, sample_rate)
        if float(stem.abs().max()) <= audio.SILENCE:
            raise ValueError(f"{path}: is silent; a mixture has two audible stems, leave out this row")
    return Item.of_waveform(
        each.item_id,
        str(each.mixture),
        mixture,
        sample_rate,
        label=each.base_label,
        stems={each.base_label: base, each.other_label: other},
        condition="mixture",
        snr_db=each.snr_db,
        recordings=(str(each.base), str(each.other)),
        files=(str(each.base_stem), str(each.other_stem)),
    )


def _check_stem(path: Path, stem: Tensor, kind: str, whole_path: Path, whole: Tensor, sample_rate: int) -> None:
    """Checks that a stem is as long as the mixture or scene that it is a part of."""
    if stem.shape != whole.shape:
        raise ValueError(
            f"{path}: has {stem.shape[1]} samples at {sample_rate} Hz, its {kind} {whole_path.name} "
            f"{whole.shape[1]}; a stem is as long as its {kind}"
        )


def scene_items(csv_path: str | Path, sample_rate: int) -> Iterator[Item]:
    """Scenes with known stems and times, as `audiointerp scenes` writes them; the tables are checked before any WAV.

    The sounds other than the one to explain are one stem, "rest".
    """
    return (_scene_item(each, sample_rate) for each in read_scenes(csv_path))


def _scene_item(each: PolyphonicScene, sample_rate: int) -> Item:
    scene = audio.read(each.scene, sample_rate)
    stems = [audio.read(stem.stem, sample_rate) for stem in each.stems]
    for stem, sound in zip(each.stems, stems):
        _check_stem(stem.stem, sound, "scene", each.scene, scene, sample_rate)
        if float(sound.abs().max()) <= audio.SILENCE:
            raise ValueError(f"{stem.stem}: is silent; a stem can be heard, leave out this scene")
    target, rest = each.stems[0], stems[1:]
    return Item.of_waveform(
        each.item_id,
        str(each.scene),
        scene,
        sample_rate,
        label=target.label,
        stems={target.label: stems[0]} | ({"rest": torch.stack(rest).sum(0)} if rest else {}),
        condition="scene",
        recordings=tuple(stem.recording or stem.source for stem in each.stems if stem.label != BACKGROUND),
        files=tuple(str(stem.stem) for stem in each.stems),
        events=each.events,
        asked=target.label,
    )
