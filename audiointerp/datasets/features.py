"""Clips as a front end's features, computed once and memory-mapped: for data sets that would not fit into memory.

Each fold has one float32 array, in a folder of the cache (`datasets/cache.py`) named by a hash of the sources, the
rate, the length and the front end: if any of them changes, the features are computed again. float16 would halve the
size, but its steps near 6.9 = log(1 + 1000), the highest level of `LogFrequency`, are 0.004 wide; in float32 the
289,205 notes of NSynth at 512 bands take 1.8 GB.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiointerp.contracts import Batch
from audiointerp.datasets import cache
from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.building import built_aside
from audiointerp.datasets.clip import Clip
from audiointerp.sound import files as audio

FORMAT = 1
BATCH_SIZE = 32  # clips that a front end is given at a time

__all__ = ["FeatureDataset"]


class FeatureDataset(ClipDataset):
    """Clips as batches of `Batch.features`, computed before from the start of each clip; `Batch.waveform` is empty.

    The front end gets each clip as a classifier would: scaled as a whole to peak 1 (silence is unchanged), then its
    first `seconds`, padded with silence at the end. There are no random crops.

    Args:
        clips, labels, multilabel, cache_folder, readers: as for `ClipDataset`.
        front_end: (batch, samples) -> (batch, ...); a module on a GPU gets its inputs there.
        sample_rate: in Hz; files of another rate are refused, because resampling would change the features.
        seconds: length of the waveforms that the front end is given.
        config: settings that distinguish this front end from others, as plain values; None for `front_end.config`.
    Raises:
        ValueError: as `ClipDataset`, or a front end without config, or with one that is not plain values; at the first
            use, features that are not finite numbers (the clip is named) or not one row per clip.
        AudioError: at the first use, naming a file that cannot be read or has another rate.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[str],
        front_end: Callable[[Tensor], Tensor],
        sample_rate: int = 16000,
        seconds: float = 4.0,
        multilabel: bool = False,
        cache_folder: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        readers: int = 2,
    ):
        super().__init__(clips, labels, sample_rate, seconds, multilabel, cache_folder, readers=readers)
        self.front_end = front_end
        self._identity = _identify(front_end, config)

    def waveform(self, i: int) -> Tensor:
        """Clip i from start to end, (samples,), at peak 1; decoded at each call."""
        samples = cache.read_segments([cache.segment_of(self.clips[i])], self.sample_rate, any_rate=False)[0]
        return audio.normalize_peak(samples)[0]

    def features(self, indices: Sequence[int]) -> Tensor:
        """Features of clips by index, (clips, ...) float32: LogFrequency's are (clips, 3, band)."""
        return torch.from_numpy(np.stack([self._rows[i][0] for i in indices]))

    def _gather(self, indices: list[int], where: list[float]) -> Batch:
        index = torch.tensor(indices, dtype=torch.long)
        empty = torch.zeros(len(indices), 0)
        return Batch(empty, self._encoded(index), index, features=self.features(indices))

    def _digest(self, i: int) -> str:
        return self._rows[i][1].decode()

    @functools.cached_property
    def _rows(self) -> _Rows:
        root = cache.default_root() if self._cache_folder is None else Path(self._cache_folder)
        rows = _Rows(len(self))
        for segments, places, of_place in cache.segments_by_fold(self.clips):
            rows.add(*self._open(segments, root / "features"), places, of_place)
        return rows

    def _open(self, segments: list[cache.Segment], root: Path) -> tuple[np.ndarray, np.ndarray]:
        facts = itertools.chain([FORMAT, self.sample_rate, self.samples, self._identity], cache.source_facts(segments))
        folder = root / cache.hash_of(facts)[:32]
        if not _complete(folder):
            self._build(folder, segments)
        return _load(folder)

    def _build(self, folder: Path, segments: list[cache.Segment]) -> None:
        with built_aside(folder, _complete) as aside:
            digests, shape = [], ()
            # Written front to back, not through a memory map: a full disk is then an error, not a crash.
            with open(aside / "features.npy", "wb") as file:
                for features in self._computed(segments):
                    if not digests:
                        shape = features.shape[1:]
                        header = {"descr": "<f4", "fortran_order": False, "shape": (len(segments), *shape)}
                        np.lib.format.write_array_header_2_0(file, header)
                    if features.shape[1:] != shape:
                        raise ValueError(
                            f"{segments[len(digests)][0]}: {self._name} gave features of shape {features.shape[1:]}, "
                            f"for the clips before {shape}; its clips must have features of one shape"
                        )
                    digests += [hashlib.sha256(row.tobytes()).hexdigest()[:32] for row in features]
                    file.write(features.tobytes())
            np.save(aside / "digests.npy", np.array(digests, "S32"))

    def _computed(self, segments: list[cache.Segment]) -> Iterator[np.ndarray]:
        """Features of each segment in turn, some segments at a time."""
        decoded = zip(segments, cache.decode(segments, self.sample_rate, any_rate=False))
        while part := list(itertools.islice(decoded, BATCH_SIZE)):
            heard = [audio.fit_length(audio.normalize_peak(samples)[0], self.samples) for _, samples in part]
            with torch.no_grad():
                features = self.front_end(torch.stack(heard).to(_device(self.front_end))).float().cpu()
            if features.ndim < 2 or len(features) != len(part):
                raise ValueError(
                    f"{self._name}: gave shape {tuple(features.shape)} for {len(part)} clips; return one row per clip"
                )
            broken = (~features.flatten(1).isfinite().all(1)).nonzero()
            if len(broken):
                raise ValueError(f"{part[int(broken[0])][0][0]}: {self._name} gives NaN or infinite features for it")
            yield features.numpy().astype("<f4", copy=False)

    @property
    def _name(self) -> str:
        return self._identity[0]


class _Rows:
    """Features and digest of each clip, looked up in the arrays of its fold."""

    def __init__(self, clips: int):
        self._stores: list[tuple[np.ndarray, np.ndarray]] = []
        self._store, self._row = np.zeros(clips, np.int32), np.zeros(clips, np.int64)

    def add(self, features: np.ndarray, digests: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
        self._store[places], self._row[places] = len(self._stores), rows
        self._stores.append((features, digests))

    def __getitem__(self, place: int) -> tuple[np.ndarray, bytes]:
        features, digests = self._stores[self._store[place]]
        return features[self._row[place]], digests[self._row[place]]


def _load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / "features.npy", mmap_mode="r"), np.load(folder / "digests.npy")


def _complete(folder: Path) -> bool:
    """Whether features and digests exist and agree; a crashed machine may leave renamed but empty files."""
    try:
        features, digests = _load(folder)
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return False
    return len(features) == len(digests)


def _identify(front_end: Callable[[Tensor], Tensor], config: Mapping[str, Any] | None) -> list:
    """Name, config, weights and source file of a front end, which determine its features."""
    kind = front_end if inspect.isroutine(front_end) else type(front_end)
    name = kind.__qualname__
    config = getattr(front_end, "config", None) if config is None else config
    if config is None:
        raise ValueError(f"front end {name} has no config, which identifies its cached features; give config")
    try:
        plain = json.loads(json.dumps(dict(config)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"front end {name}: config must hold plain values ({error})") from None
    weights = hashlib.sha256()
    if isinstance(front_end, nn.Module):
        for key, value in sorted(front_end.state_dict().items()):
            weights.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return [name, plain, weights.hexdigest(), _source(kind)]


def _source(kind: Any) -> str:
    """Hash of the file that defines a class or function, or "" where there is none (an interactive session)."""
    try:
        path = inspect.getsourcefile(kind)
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    except (OSError, TypeError):
        return ""


def _device(front_end: Callable[[Tensor], Tensor]) -> torch.device:
    if not isinstance(front_end, nn.Module):
        return torch.device("cpu")
    first = next(itertools.chain(front_end.parameters(), front_end.buffers()), None)
    return torch.device("cpu") if first is None else first.device
