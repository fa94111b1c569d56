"""Clips as batches of waveforms."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiointerp.contracts import Batch
from audiointerp.datasets.cache import BITS, ClipCache, hash_of
from audiointerp.datasets.clips import Clip, label_numbers
from audiointerp.datasets.columns import ClipColumns

MAX_CLIP_SECONDS = 3600  # an hour; longer recordings are explained window by window, not as one clip
MOST_READERS = 64

__all__ = ["ClipDataset"]


class ClipDataset:
    """Clips as batches of waveforms, mono at one rate, each clip as a whole at peak 1 (silence is unchanged).

    Files are decoded at the first use and kept in a cache on disk (`datasets/cache.py`); memory holds one batch.

    Args:
        clips: those of a reader, or one part of `split`.
        labels: class names; their order is the class index.
        sample_rate: in Hz.
        seconds: length of the waveforms of a batch; clips are cropped, or padded with silence at the end.
        multilabel: labels are 0/1 sets instead of one index per clip.
        cache_folder: None for `$AUDIOINTERP_CACHE` or `~/.cache/audiointerp`.
        cache_bits: bits of a sample in the cache, 32 or 16; see `ClipCache`.
        readers: threads that read the next batches while the last one is used, each one batch at a time; 0: none. The
            batches are the same.
    Raises:
        ValueError: no clips, an unknown class, several labels where there may be one, a rate of 0 or less, a
            length of 0 or less or above an hour, fewer than 0 or more than 64 readers.
        AudioError: at the first use, naming a file that cannot be read.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[str],
        sample_rate: int = 16000,
        seconds: float = 5.0,
        multilabel: bool = False,
        cache_folder: str | Path | None = None,
        cache_bits: int = 32,
        readers: int = 2,
    ):
        if cache_bits not in BITS:
            raise ValueError(f"cache_bits is {cache_bits}; choose 32 or 16")
        if not 0 <= readers <= MOST_READERS:
            raise ValueError(f"readers is {readers}; give 0 to {MOST_READERS} threads")
        if not clips:
            raise ValueError("a dataset needs at least one clip; this list is empty")
        if not 0 < seconds <= MAX_CLIP_SECONDS:
            raise ValueError(f"seconds is {seconds:g}; clips last more than 0 and at most {MAX_CLIP_SECONDS} s")
        if sample_rate <= 0 or round(seconds * sample_rate) <= 0:
            raise ValueError(f"sample_rate {sample_rate} Hz and seconds {seconds} must give at least one sample")
        # Columns stay columns: a list of 200,000 clips would be 130 MB of objects.
        self.clips: Sequence[Clip] = clips if isinstance(clips, ClipColumns) else list(clips)
        self.labels = tuple(labels)
        self.sample_rate, self.seconds, self.multilabel = sample_rate, seconds, multilabel
        self.samples = round(seconds * sample_rate)
        self._cache_folder, self.cache_bits, self.readers = cache_folder, cache_bits, readers
        self._number, self._encoding = self._encode_labels()

    def __len__(self) -> int:
        return len(self.clips)

    def waveform(self, i: int) -> Tensor:
        """Clip i from start to end, (samples,), at peak 1."""
        return self._cache.read(i) * self._cache.gain(i)

    def labels_of(self) -> Tensor:
        """Class index of each clip, (clips,) long; multilabel: (clips, classes) float, 0 or 1."""
        return self._encoded(torch.arange(len(self)))

    def batch(self, indices: Sequence[int], rng: torch.Generator | None = None) -> Batch:
        """Clips by index, each `seconds` long: a random stretch of a longer one if `rng` is given, else its start."""
        where = torch.zeros(len(indices)) if rng is None else torch.rand(len(indices), generator=rng)
        return self._gather(list(indices), where.tolist())

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, first: int = 0) -> Iterator[Batch]:
        """Every clip once; the last batch may be smaller.

        Order and crops are a function of `shuffle_seed` alone (None: as given, no random crop), so that a resumed
        epoch sees the same batches.

        Args:
            batch_size: clips of a batch.
            shuffle_seed: of order and crops.
            first: number of the batch to begin with; those before it are not read.
        Raises:
            ValueError: if `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        return self._batches(batch_size, shuffle_seed, first)

    @property
    def content_hash(self) -> str:
        """Hash of the decoded sources, labels, rate and length; not of the files' location or the bits of the cache."""
        facts = [self.sample_rate, self.samples, self.multilabel, self.labels]
        numbers, label_sets = label_numbers(self.clips)
        of_clips = ([self._digest(i), label_sets[number]] for i, number in enumerate(numbers))
        return hash_of(itertools.chain(facts, of_clips))

    def _digest(self, i: int) -> str:
        """Hash of clip i's part of the content of a batch."""
        return self._cache.digest(i)

    @functools.cached_property
    def _cache(self) -> ClipCache:
        return ClipCache(self.clips, self.sample_rate, self._cache_folder, self.cache_bits)

    def _batches(self, batch_size: int, shuffle_seed: int | None, first: int) -> Iterator[Batch]:
        order, where = torch.arange(len(self)), torch.zeros(len(self))
        if shuffle_seed is not None:
            rng = torch.Generator().manual_seed(shuffle_seed)
            order, where = torch.randperm(len(self), generator=rng), torch.rand(len(self), generator=rng)

        def read(start: int) -> Batch:
            stop = start + batch_size
            return self._gather(order[start:stop].tolist(), where[start:stop].tolist())

        yield from _read_ahead(read, range(first * batch_size, len(self), batch_size), self.readers)

    def _gather(self, indices: list[int], where: list[float]) -> Batch:
        """Clips by index; `where`, in [0, 1), is the start of each crop as a share of the possible starts."""
        # NumPy's operations, which several threads may call at once: torch would start threads of its own in each.
        waveform = np.zeros((len(indices), self.samples), np.float32)
        for row, (i, share) in enumerate(zip(indices, where)):
            room = max(0, self._cache.length(i) - self.samples)
            piece = self._cache.read_array(i, int(share * (room + 1)), self.samples)
            np.multiply(piece, np.float32(self._cache.gain(i)), out=waveform[row, : len(piece)])
        index = torch.tensor(indices, dtype=torch.long)
        return Batch(torch.from_numpy(waveform), self._encoded(index), index)

    def _encoded(self, index: Tensor) -> Tensor:
        """Class index (clips,) of clips by index; multilabel: (clips, classes) float, 0 or 1."""
        encoded = self._encoding[self._number[index].long()]
        return encoded.float() if self.multilabel else encoded

    def _encode_labels(self) -> tuple[Tensor, Tensor]:
        """The number of each clip's set of labels, (clips,), and class index or 0/1 set of each number."""
        index = {name: number for number, name in enumerate(self.labels)}
        numbers, label_sets = label_numbers(self.clips)
        used = set(np.unique(numbers).tolist())
        known = [index.keys() >= set(names) and (self.multilabel or len(names) == 1) for names in label_sets]
        if wrong := [number for number in used if not known[number]]:
            self._refuse(self.clips[int(np.flatnonzero(np.isin(numbers, wrong))[0])], index)
        encoding = torch.zeros(len(label_sets), len(self.labels), dtype=torch.uint8)
        for number in used:
            encoding[number, [index[name] for name in label_sets[number]]] = 1
        return torch.from_numpy(numbers), encoding if self.multilabel else encoding.argmax(1)

    def _refuse(self, clip: Clip, index: dict[str, int]) -> None:
        if not self.multilabel and len(clip.labels) != 1:
            raise ValueError(f"{clip.name} has {len(clip.labels)} labels {list(clip.labels)}; set multilabel to True")
        strange = next(name for name in clip.labels if name not in index)
        raise ValueError(f"{clip.name} has label {strange!r}, which is none of the {len(index)} classes")


def _read_ahead(read: Callable[[int], Batch], starts: range, readers: int) -> Iterator[Batch]:
    """`read(start)` for each start in order, of which threads read up to `readers` + 1 while one is used."""
    if not readers or len(starts) < 2:
        yield from map(read, starts)
        return
    batch = read(starts[0])  # here, where it makes the cache if need be
    pool, ahead = ThreadPoolExecutor(readers, "reader"), deque[Future[Batch]]()
    try:
        for start in starts[1:]:
            ahead.append(pool.submit(read, start))
            if len(ahead) > readers:
                yield batch
                batch = ahead.popleft().result()
        yield batch
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
