"""Polyphonic scenes with known times: pieces of labelled clips at random times and levels, over quiet pink noise.

The idea is scaper's: Salamon et al. (2017), "Scaper: A library for soundscape synthesis and augmentation",
https://doi.org/10.1109/WASPAA.2017.8170052. The times of a class are those in which its own stem is active, see
`sound.activity`, so that pauses between barks are no event.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.events import read_events, write_events
from audiointerp.datasets.limits import MAX_DB, check_items, check_seed
from audiointerp.datasets.table import check_item_id, parse_files, parse_float, parse_seed, read_rows
from audiointerp.results.writing import csv_text, restored, write_text
from audiointerp.sound import files as audio
from audiointerp.sound.activity import Times, active_times, shifted
from audiointerp.sound.files import SILENCE

EVENTS = "events.csv"
BACKGROUND = "background"  # the label of the noise, which is no class
FADE = 0.01  # seconds in which a piece begins and ends
SHORTEST = 0.05  # seconds of a piece
MOST = 20  # classes of a scene
MAX_SAMPLES = 2**27  # samples of all stems of a scene, which are held together

__all__ = ["BACKGROUND", "PolyphonicScene", "SceneSettings", "SceneStem", "read_scenes", "write_scenes"]


@dataclass(frozen=True)
class SceneStem:
    """A row of scenes.csv, one sound of a scene; its columns are these attributes, in this order.

    Attributes:
        item_id: of the scene, `s_` and a number.
        scene: WAV file of the whole scene, the sum of its stems.
        stem: WAV file of this sound alone, as long as the scene.
        label: its class, or "background".
        source: the file that the sound was cut from; "" for the background.
        recording: name of the source recording; "" for the background.
        onset_s: time in the scene at which the piece begins, in seconds.
        level_db: RMS level while the sound is active, in dB, before the scene was scaled to peak 1.
        seed: of the draw.
    """

    item_id: str
    scene: Path
    stem: Path
    label: str
    source: str
    recording: str
    onset_s: float
    level_db: float
    seed: int


@dataclass(frozen=True)
class PolyphonicScene:
    """A scene: its stems, of which the first is the one to explain, and the times of each class."""

    item_id: str
    scene: Path
    stems: tuple[SceneStem, ...]
    events: dict[str, Times]


@dataclass(frozen=True)
class SceneSettings:
    """How scenes are drawn; every draw is uniform between its two limits.

    Args:
        items: number of scenes.
        seed: the same one gives the same scenes.
        events: fewest and most sounds of a scene, each of another class and another source recording.
        event_seconds: shortest and longest piece of a clip, in seconds.
        level_db: lowest and highest level of a sound while it is active, in dB; only differences count.
        noise_db: level of the pink noise under the whole scene on the same scale; None: no noise.
    Raises:
        ValueError: for a setting out of range.
    """

    items: int = 40
    seed: int = 0
    events: tuple[int, int] = (2, 3)
    event_seconds: tuple[float, float] = (0.5, 1.5)
    level_db: tuple[float, float] = (-6.0, 0.0)
    noise_db: float | None = -30.0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_items(self.items, "scenes")
        check_seed(self.seed)
        if not 1 <= self.events[0] <= self.events[1] <= MOST:
            raise ValueError(f"events are {list(self.events)}; give the fewest and the most sounds, 1 to {MOST}")
        if not SHORTEST <= self.event_seconds[0] <= self.event_seconds[1] < math.inf:
            given = list(self.event_seconds)
            raise ValueError(f"event_seconds are {given}; give two of at least {SHORTEST} s, the shortest first")
        if not -MAX_DB <= self.level_db[0] <= self.level_db[1] <= MAX_DB:
            raise ValueError(f"level_db is {list(self.level_db)}; give the lowest and highest, within {MAX_DB:g} dB")
        if self.noise_db is not None and not abs(self.noise_db) <= MAX_DB:
            raise ValueError(f"noise_db is {self.noise_db:g}; it must be within {MAX_DB:g} dB, or null for no noise")


@dataclass(frozen=True)
class _Sound:
    """A piece of a clip at RMS 1 while active, and the times in which it is active, from its own beginning."""

    samples: Tensor
    times: Times


COLUMNS = tuple(field.name for field in fields(SceneStem))


def write_scenes(dataset: ClipDataset, out: str | Path, settings: SceneSettings | None = None) -> Path:
    """Draws scenes and writes `out/scenes.csv`, `out/events.csv` and float32 WAVs in `out/audio`.

    Each scene has one sound to explain, drawn in rounds, so that every clip is used once before any is used again, and
    others of other classes and recordings. A piece begins where its clip becomes active.

    Args:
        dataset: labelled clips; scenes are as long as its `seconds`.
        settings: how scenes are drawn.

    Returns:
        The path of scenes.csv.

    Raises:
        ValueError: if the clips have too few classes or recordings that sound, pieces are longer than a scene, a scene
            would fill the memory, or a class is called "background".
    """
    settings, out = settings or SceneSettings(), Path(out)
    if any(BACKGROUND in clip.labels for clip in dataset.clips):
        raise ValueError(f"a class is called {BACKGROUND!r}, which is the name of the noise under a scene; rename it")
    if settings.event_seconds[1] > dataset.seconds:
        raise ValueError(
            f"event_seconds go up to {settings.event_seconds[1]:g}, a scene has {dataset.seconds:g} s; give shorter "
            "pieces"
        )
    if dataset.samples * (settings.events[1] + 1) > MAX_SAMPLES:
        raise ValueError(
            f"seconds is {dataset.seconds:g}; {settings.events[1]} sounds of that length would fill the memory, so "
            "give shorter scenes or fewer events"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    rows: list[SceneStem] = []
    times: list[tuple[str, dict[str, Times]]] = []
    for number, chosen in enumerate(_draw(dataset, settings, generator)):
        made, events = _write_scene(dataset, chosen, f"s_{number:04d}", settings, generator, out)
        rows += made
        times.append((made[0].scene.as_posix(), events))
    write_events(out / EVENTS, times)
    cells = [[getattr(row, name) for name in COLUMNS] for row in rows]
    texts = [[cell.as_posix() if isinstance(cell, Path) else cell for cell in row] for row in cells]
    # After the WAVs and the times, so that an existing table has all of them.
    return write_text(out / "scenes.csv", csv_text([COLUMNS, *texts]))


def read_scenes(csv_path: str | Path) -> list[PolyphonicScene]:
    """Scenes of a scenes.csv and of the events.csv beside it, paths joined to the folder; the WAVs must exist.

    Raises:
        ValueError: naming the row (the header is row 1): a missing column or file, an empty label, a bad number, a
            class twice in one scene, a scene with two files, or a class without event times; naming the scene: a sound
            that begins, or an event that ends, outside it, or a file that cannot be read.
    """
    csv_path = Path(csv_path)
    known = read_events(csv_path.with_name(EVENTS))
    found: dict[str, list[SceneStem]] = {}
    files: dict[str, str] = {}
    for place, cells in read_rows(csv_path, COLUMNS):
        row = {name: restored(cell) for name, cell in cells.items()}
        stem = _parse(place, row, csv_path.parent)
        others = found.setdefault(stem.item_id, [])
        if (before := files.setdefault(stem.item_id, row["scene"])) != row["scene"]:
            raise ValueError(f"{place}: scene {stem.item_id} is {row['scene']!r} here and {before!r} before")
        if stem.label in [each.label for each in others]:
            raise ValueError(f"{place}: scene {stem.item_id} has {stem.label!r} twice; each class has one stem")
        if stem.label != BACKGROUND and stem.label not in known.get(row["scene"], {}):
            raise ValueError(
                f"{place}: {csv_path.with_name(EVENTS).name} has no times of {stem.label!r} in {row['scene']!r}"
            )
        others.append(stem)
    if bare := [name for name, stems in found.items() if stems[0].label == BACKGROUND]:
        raise ValueError(f"{csv_path}: scene {bare[0]} begins with the background; the first row is the one to explain")
    scenes = [
        PolyphonicScene(name, stems[0].scene, tuple(stems), dict(known[files[name]])) for name, stems in found.items()
    ]
    for each in scenes:
        _check_times(csv_path, each)
    return scenes


def _check_times(csv_path: Path, scene: PolyphonicScene) -> None:
    """Refuses sounds that begin, and events that end, outside their scene."""
    about = audio.probe(scene.scene)
    length = about.frames / about.samplerate
    for stem in scene.stems:
        if not 0 <= stem.onset_s < length:
            where = f"{stem.label!r} begins at {stem.onset_s:g} s in scene {scene.item_id}"
            raise ValueError(f"{csv_path}: {where}, which lasts {length:g} s")
    # Written times are rounded to a tenth of a millisecond.
    late = [(name, times[-1][1]) for name, times in scene.events.items() if times[-1][1] > length + 1e-3]
    if late:
        where = f"{late[0][0]!r} ends at {late[0][1]:g} s in scene {scene.item_id}"
        raise ValueError(f"{csv_path.with_name(EVENTS)}: {where}, which lasts {length:g} s")


def _parse(place: str, row: dict[str, str], folder: Path) -> SceneStem:
    for name in ("item_id", "label"):
        if not row[name]:
            raise ValueError(f"{place}: {name} is empty")
    check_item_id(place, row["item_id"], folder)
    return SceneStem(
        item_id=row["item_id"],
        **parse_files(place, row, ("scene", "stem"), folder),
        label=row["label"],
        source=row["source"],  # where the sound was from: noted, never read
        recording=row["recording"],
        onset_s=parse_float(place, "onset_s", row["onset_s"]),
        level_db=parse_float(place, "level_db", row["level_db"]),
        seed=parse_seed(place, row["seed"]),
    )


def _draw(dataset: ClipDataset, settings: SceneSettings, generator: torch.Generator) -> list[list[int]]:
    """Indices of the clips of each scene, first the one to explain."""
    drawn: list[list[int]] = []
    audible: dict[int, bool] = {}

    def fits(i: int, chosen: Sequence[int]) -> bool:
        clip, others = dataset.clips[i], [dataset.clips[each] for each in chosen]
        if any(set(clip.labels) & set(each.labels) or clip.source == each.source for each in others):
            return False
        if i not in audible:
            sound = dataset.waveform(i)
            audible[i] = float(sound.abs().max()) > SILENCE and bool(active_times(sound, dataset.sample_rate))
        return audible[i]

    while len(drawn) < settings.items:
        before = len(drawn)
        for target in torch.randperm(len(dataset), generator=generator).tolist():
            count = _between(*settings.events, generator)
            chosen = [target] if fits(target, []) else []
            for other in torch.randperm(len(dataset), generator=generator).tolist() if chosen else ():
                if len(chosen) == count:
                    break
                if fits(other, chosen):
                    chosen.append(other)
            if len(chosen) == count and len(drawn) < settings.items:
                drawn.append(chosen)
        if len(drawn) == before:
            raise ValueError(
                f"scenes of up to {settings.events[1]} sounds need as many classes, from different recordings, with "
                "clips that are not silent; these data have too few: ask for fewer events"
            )
    return drawn


def _write_scene(
    dataset: ClipDataset,
    chosen: Sequence[int],
    item_id: str,
    settings: SceneSettings,
    generator: torch.Generator,
    out: Path,
) -> tuple[list[SceneStem], dict[str, Times]]:
    rate, samples = dataset.sample_rate, dataset.samples
    scene, rows, stems, events = Path("audio", f"{item_id}_scene.wav"), [], [], {}
    for number, i in enumerate(chosen):
        sound, clip = _piece(dataset.waveform(i), rate, settings, generator), dataset.clips[i]
        place = _between(0, max(0, samples - len(sound.samples)), generator)
        level = _uniform(*settings.level_db, generator)
        stem = torch.zeros(samples)
        stem[place : place + len(sound.samples)] = sound.samples * 10 ** (level / 20)
        label, path = ";".join(clip.labels), Path("audio", f"{item_id}_stem{number}.wav")
        events[label] = tuple((start + place / rate, end + place / rate) for start, end in sound.times)
        source, facts = os.path.relpath(clip.name, out), (place / rate, level, settings.seed)
        rows.append(SceneStem(item_id, scene, path, label, Path(source).as_posix(), str(clip.source), *facts))
        stems.append(stem)
    if settings.noise_db is not None:
        stems.append(_pink(samples, rate, generator) * 10 ** (settings.noise_db / 20))
        path = Path("audio", f"{item_id}_background.wav")
        rows.append(SceneStem(item_id, scene, path, BACKGROUND, "", "", 0.0, settings.noise_db, settings.seed))
    peak = torch.stack(stems).sum(0).abs().max()
    # The scene is summed last, from the scaled stems, so that it is the sum of the stored stems.
    stems = [stem / peak for stem in stems]
    for row, stem in zip(rows, stems):
        audio.write(out / row.stem, stem, rate)
    audio.write(out / scene, torch.stack(stems).sum(0), rate)
    return rows, events


def _piece(waveform: Tensor, rate: int, settings: SceneSettings, generator: torch.Generator) -> _Sound:
    """A piece of a clip that begins where the clip becomes active, or earlier if the clip is too short after that."""
    whole = active_times(waveform, rate)
    wanted = round(_uniform(*settings.event_seconds, generator) * rate)
    begin = round(whole[_between(0, len(whole) - 1, generator)][0] * rate)
    shortest = round(settings.event_seconds[0] * rate)
    begin = max(0, min(begin, len(waveform) - shortest))
    piece = waveform[begin : begin + wanted].clone()
    edge = torch.linspace(0, 1, min(max(1, round(FADE * rate)), len(piece)))
    piece[: len(edge)] *= edge
    piece[-len(edge) :] *= edge.flip(0)
    # The times are of the whole clip: its floor is known there, while a short piece may have none.
    times = shifted(whole, begin / rate, len(piece) / rate)
    sounding = torch.cat([piece[round(start * rate) : round(end * rate)] for start, end in times])
    return _Sound(piece / sounding.square().mean().sqrt(), times)


def _pink(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """Noise of equal power in each octave, flat below 20 Hz, at RMS 1, (samples,)."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator, dtype=torch.float64))
    hertz = torch.fft.rfftfreq(samples, 1 / rate, dtype=torch.float64).clamp(min=20)
    noise = torch.fft.irfft(spectrum / hertz.sqrt(), samples)
    return (noise / noise.square().mean().sqrt()).float()


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
