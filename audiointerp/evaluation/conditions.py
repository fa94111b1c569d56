"""Conditions under which methods are compared: clean clips, mixtures, scenes, clips in noise; each gives items.

They follow the protocol of PIQ's and L2I's out-of-domain tests and fix three points that it leaves open: only clips of
the test folds are used, a clip is never mixed with its own class, and every draw is determined by the seed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audiointerp import datasets
from audiointerp.datasets import ClipDataset, SceneSettings, gains_from_snr
from audiointerp.datasets.limits import check_counts, check_items, check_level
from audiointerp.evaluation.items import Item, audio_files, clip_items, mixture_items, scene_items
from audiointerp.evaluation.made_mixtures import made_mixtures, made_scenes
from audiointerp.results.paths import inside
from audiointerp.sound import files as audio

__all__ = ["CleanClips", "Condition", "Mixtures", "Noise", "Scenes"]


class Condition(ABC):
    """Sounds to explain, drawn from a dataset."""

    @abstractmethod
    def items(self, name: str, test: ClipDataset, folder: Path, seed: int) -> Iterator[Item]:
        """The condition's items, their `condition` set to its name.

        Args:
            name: name of the condition in the recipe.
            test: clips of the test folds.
            folder: folder in which mixtures may be written.
            seed: of all draws.
        """

    @property
    def missing(self) -> str:
        """Why the condition cannot be run, or "" if it can."""
        return ""


@dataclass(frozen=True)
class CleanClips(Condition):
    """The clips of the test folds, unchanged.

    Args:
        clips: number of clips, drawn by the seed; None for all.
    """

    clips: int | None = None

    def __post_init__(self) -> None:
        check_counts(clips=self.clips)

    def items(self, name: str, test: ClipDataset, folder: Path, seed: int) -> Iterator[Item]:
        """One item per clip."""
        return (replace(each, condition=name) for each in clip_items(test, self.clips, seed))


@dataclass(frozen=True)
class Mixtures(Condition):
    """Two clips of different classes, base and other, each scaled to unit norm and multiplied by its gain.

    Args:
        count: number of mixtures; every clip is the base equally often.
        snr_db: level of the base above the other clip, in dB.
        gains: of base and other, instead of `snr_db`; (0.8, 0.2) in the published protocol, 12.04 dB.
    """

    count: int = 160
    snr_db: float = 0.0
    gains: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_items(self.count, "mixtures", "count")
        check_level("snr_db", self.snr_db)

    def items(self, name: str, test: ClipDataset, folder: Path, seed: int) -> Iterator[Item]:
        """One item per mixture; the mixtures are written once, with their stems and mixtures.csv."""
        own = inside(folder, "mixtures", name)
        settings = {"items": self.count, "seed": seed, "snr_db": self.snr_db, "gains": self.gains}
        table = made_mixtures(test, own, folder, f"{name}_", **settings)
        sources = {str(Path(clip.name).resolve()): clip.source for clip in test.clips}
        for each in mixture_items(table, test.sample_rate):
            recordings = tuple(sources.get(str(Path(path).resolve()), path) for path in each.recordings)
            yield replace(each, item_id=f"{name}_{each.item_id}", condition=name, recordings=recordings)


@dataclass(frozen=True)
class Scenes(Condition):
    """Polyphonic scenes: pieces of clips of different classes and recordings at known times, over quiet pink noise.

    Explained is the class of each scene's first sound, whatever the classifier predicts; the scores `time_auc`,
    `time_iou`, `time_f1` and `pointing_game` say whether a method points to the times of that sound.

    Args:
        count: number of scenes.
        seconds: length of a scene; None: the recipe's `seconds`.
        events, event_seconds, level_db, noise_db: see `datasets.SceneSettings`.
    """

    count: int = 40
    seconds: float | None = None
    events: tuple[int, int] = (2, 3)
    event_seconds: tuple[float, float] = (0.5, 1.5)
    level_db: tuple[float, float] = (-6.0, 0.0)
    noise_db: float | None = -30.0

    def __post_init__(self) -> None:
        """Checks the settings, so that a recipe's problems are found before anything is run."""
        check_items(self.count, "scenes", "count")
        self._drawn(0)

    def _drawn(self, seed: int) -> SceneSettings:
        return SceneSettings(self.count, seed, self.events, self.event_seconds, self.level_db, self.noise_db)

    def items(self, name: str, test: ClipDataset, folder: Path, seed: int) -> Iterator[Item]:
        """One item per scene; the scenes are written once, with their stems, scenes.csv and events.csv."""
        own = inside(folder, "scenes", name)
        if self.seconds is not None:
            facts = (test.sample_rate, self.seconds, test.multilabel)
            test = ClipDataset(test.clips, test.labels, *facts, cache_bits=test.cache_bits, readers=test.readers)
        table = made_scenes(test, own, folder, f"{name}_", self._drawn(seed))
        for each in scene_items(table, test.sample_rate):
            yield replace(each, item_id=f"{name}_{each.item_id}", condition=name)


@dataclass(frozen=True)
class Noise(Condition):
    """Clips mixed with a sound of no class: white noise, or recordings (noise, speech) from a folder.

    Args:
        folder: a folder of recordings of any sample rate, cropped at random or padded with silence; "white" for white
            noise; None if there is no such data: the condition is then reported as "not run".
        clips: number of clips, drawn by the seed; None for all.
        snr_db: level of the clip above the noise, in dB.
        gains: of clip and noise, both at unit norm, instead of `snr_db`; (1, 0.5) for the published white noise, 6.02
            dB.
    """

    folder: str | None = None
    clips: int | None = None
    snr_db: float = 0.0
    gains: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_counts(clips=self.clips)
        check_level("snr_db", self.snr_db)

    @property
    def missing(self) -> str:
        """Reports that no folder was given, that it does not exist, or that it has no audio file; else ""."""
        if self.folder is None:
            return "no folder was given"
        if self.folder == "white":
            return ""
        if not Path(self.folder).is_dir():
            return f"{self.folder} is not a folder"
        suffixes = (each.suffix.lower() for each in Path(self.folder).rglob("*") if each.is_file())
        return "" if any(suffix in audio.SUFFIXES for suffix in suffixes) else f"{self.folder} holds no audio file"

    def items(self, name: str, test: ClipDataset, folder: Path, seed: int) -> Iterator[Item]:
        """One item per clip that is not silent."""
        generator = torch.Generator().manual_seed(seed)
        files = [] if self.folder == "white" else audio_files([str(self.folder)])
        gains = self.gains or gains_from_snr(self.snr_db)
        if not all(0 < gain < math.inf for gain in gains):
            raise ValueError(
                f"condition {name}: gains are {gains[0]:g} and {gains[1]:g}; both must be above 0 and finite"
            )
        for number, clip in enumerate(clip_items(test, self.clips, seed)):
            waveform = next(clip.windows()).waveform
            noise, drawn = _draw(files, waveform.shape[1], test.sample_rate, generator)
            if waveform.abs().max() <= audio.SILENCE or noise.abs().max() <= audio.SILENCE:
                continue
            mixture, stem, rest = datasets.mix(waveform, noise, base_gain=gains[0], other_gain=gains[1])
            yield Item.of_waveform(
                f"{name}_{number:04d}",
                clip.source,
                mixture,
                test.sample_rate,
                label=clip.label,
                stems={clip.label: stem, "noise": rest},
                condition=name,
                snr_db=20 * math.log10(gains[0] / gains[1]),
                recordings=clip.recordings,
                files=drawn,  # so that an item is explained again once its noise has been replaced
            )


def _draw(
    files: list[Path], samples: int, sample_rate: int, generator: torch.Generator
) -> tuple[Tensor, tuple[str, ...]]:
    """White noise, or a random section of a random file, (1, samples), and the name of that file."""
    if not files:
        return torch.randn(1, samples, generator=generator), ()
    file = files[int(torch.randint(len(files), (), generator=generator))]
    sound = audio.read(file, sample_rate)
    start = int(torch.randint(max(1, sound.shape[1] - samples + 1), (), generator=generator))
    return audio.fit_length(sound[:, start : start + samples], samples), (str(file),)
