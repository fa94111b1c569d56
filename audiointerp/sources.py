"""What a person points the command line at, as items to explain: files, folders, datasets, mixtures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from audiointerp.datasets import Clip, ClipDataset, Mixture, read_esc50, read_mixtures, read_nsynth, read_table
from audiointerp.evaluation.items import Item
from audiointerp.sound import files as audio
from audiointerp.sound.recordings import Recording

__all__ = [
    "audio_files",
    "chosen_items",
    "clip_items",
    "is_mixtures",
    "item_id_of",
    "mixture_items",
    "read_clips",
    "recording_item",
]


def item_id_of(path: str | Path, start: float = 0.0) -> str:
    """A short name for a file, or a clip from `start` seconds on: `c_`, slug, six hex digits; at most 31 characters.

    >>> item_id_of("/data/My Dog (1).wav")
    'c_my_dog_1_...'
    """
    slug = re.sub(r"[^a-z0-9]+", "_", Path(path).stem.lower()).strip("_")[:22].strip("_") or "clip"
    where = f"{path}@{start:g}" if start else str(path)
    return f"c_{slug}_{hashlib.sha256(where.encode()).hexdigest()[:6]}"


def audio_files(paths: Sequence[str | Path]) -> list[Path]:
    """Files as given and, of folders, every audio file below them, sorted.

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


def recording_item(path: Path, sample_rate: int, output_rate: str = "model") -> Item:
    """A file of any length, read a window at a time; WAVs come out at the model's rate or at the "input"'s."""
    recording = Recording(path, sample_rate)
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


def read_clips(path: str | Path) -> list[Clip]:
    """Labelled clips of an ESC-50-layout folder, NSynth's, or a clips.csv.

    Raises:
        ValueError: if it is neither.
    """
    path = Path(path)
    if path.is_dir() and (path / "meta" / "esc50.csv").is_file():
        return read_esc50(path)
    if path.is_dir() and (path / "nsynth-test").is_dir():
        return read_nsynth(path)
    if path.is_dir() and (path / "clips.csv").is_file():
        return read_table(path / "clips.csv")
    if path.is_file() and path.suffix == ".csv":
        return read_table(path)
    what = "has neither meta/esc50.csv nor nsynth-test/ nor clips.csv" if path.is_dir() else "is no data"
    raise ValueError(
        f"{path}: {what if path.exists() else 'does not exist'}; give an ESC-50 or NSynth folder or a clips.csv"
    )


def clip_items(dataset: ClipDataset, count: int | None = None, seed: int = 0) -> Iterator[Item]:
    """Clean clips of a dataset at its length, all or a seeded choice."""
    chosen: Iterable[int] = range(len(dataset))
    if count is not None and count < len(dataset):
        drawn = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:count]
        chosen = sorted(drawn.tolist())
    return chosen_items(dataset, chosen)


def chosen_items(dataset: ClipDataset, chosen: Iterable[int]) -> Iterator[Item]:
    """Clean clips of a dataset, by index, at its length."""
    for i in chosen:
        clip = dataset.clips[i]
        waveform = audio.fit_length(dataset.waveform(i)[None], dataset.samples)
        yield Item.of_waveform(
            item_id_of(clip.path, clip.start),
            str(clip.path),
            waveform,
            dataset.sample_rate,
            label=";".join(clip.labels),
        )


def is_mixtures(path: str | Path) -> bool:
    """Whether a file is a mixtures.csv, by its header."""
    path = Path(path)
    if path.suffix != ".csv" or not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return "base_stem" in file.readline()


def mixture_items(csv_path: str | Path, sample_rate: int) -> Iterator[Item]:
    """Mixtures with known stems, as `audiointerp mix` writes them; the table is checked before the first is read."""
    return (_mixture_item(each, sample_rate) for each in read_mixtures(csv_path))


def _mixture_item(each: Mixture, sample_rate: int) -> Item:
    mixture, base, other = (audio.read(path, sample_rate) for path in (each.mixture, each.base_stem, each.other_stem))
    return Item.of_waveform(
        each.item_id,
        str(each.mixture),
        mixture,
        sample_rate,
        label=each.base_label,
        stems={each.base_label: base, each.other_label: other},
        condition="mixture",
        snr_db=each.snr_db,
    )
