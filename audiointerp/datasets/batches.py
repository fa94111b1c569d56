"""Clips as batches of waveforms."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.contracts import Batch
from audiointerp.datasets.cache import BITS, ClipCache
from audiointerp.datasets.clips import Clip

MAX_CLIP_SECONDS = 3600  # an hour; longer recordings are explained window by window, not as one clip

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
    Raises:
        ValueError: no clips, an unknown class, several labels where there may be one, a rate of 0 or less, a
            length of 0 or less or above an hour.
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
    ):
        if cache_bits not in BITS:
            raise ValueError(f"cache_bits is {cache_bits}; choose 32 or 16")
        if not clips:
            raise ValueError("a dataset needs at least one clip; this list is empty")
        if not 0 < seconds <= MAX_CLIP_SECONDS:
            raise ValueError(f"seconds is {seconds:g}; clips last more than 0 and at most {MAX_CLIP_SECONDS} s")
        if sample_rate <= 0 or round(seconds * sample_rate) <= 0:
            raise ValueError(f"sample_rate {sample_rate} Hz and seconds {seconds} must give at least one sample")
        self.clips, self.labels = list(clips), tuple(labels)
        self.sample_rate, self.seconds, self.multilabel = sample_rate, seconds, multilabel
        self.samples = round(seconds * sample_rate)
        self._cache_folder, self.cache_bits = cache_folder, cache_bits
        self._labels_of = self._encode_labels()

    def __len__(self) -> int:
        return len(self.clips)

    def waveform(self, i: int) -> Tensor:
        """Clip i from start to end, (samples,), at peak 1."""
        return self._cache.read(i) * self._cache.gain(i)

    def labels_of(self) -> Tensor:
        """Class index of each clip, (clips,) long; multilabel: (clips, classes) float, 0 or 1."""
        return self._labels_of.clone()

    def batch(self, indices: Sequence[int], rng: torch.Generator | None = None) -> Batch:
        """Clips by index, each `seconds` long: a random stretch of a longer one if `rng` is given, else its start."""
        where = torch.zeros(len(indices)) if rng is None else torch.rand(len(indices), generator=rng)
        return self._gather(list(indices), where.tolist())

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[Batch]:
        """Every clip once; the last batch may be smaller.

        Order and crops are a function of `shuffle_seed` alone (None: as given, no random crop), so that a resumed
        epoch sees the same batches.

        Raises:
            ValueError: if `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        return self._batches(batch_size, shuffle_seed)

    @property
    def content_hash(self) -> str:
        """Hash of the decoded sources, labels, rate and length; not of the files' location or the bits of the cache."""
        facts = [self.sample_rate, self.samples, self.multilabel, self.labels]
        facts += [[self._digest(i), clip.labels] for i, clip in enumerate(self.clips)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _digest(self, i: int) -> str:
        """Hash of clip i's part of the content of a batch."""
        return self._cache.digest(i)

    @functools.cached_property
    def _cache(self) -> ClipCache:
        return ClipCache(self.clips, self.sample_rate, self._cache_folder, self.cache_bits)

    def _batches(self, batch_size: int, shuffle_seed: int | None) -> Iterator[Batch]:
        order, where = torch.arange(len(self)), torch.zeros(len(self))
        if shuffle_seed is not None:
            rng = torch.Generator().manual_seed(shuffle_seed)
            order, where = torch.randperm(len(self), generator=rng), torch.rand(len(self), generator=rng)
        for first in range(0, len(self), batch_size):
            stop = first + batch_size
            yield self._gather(order[first:stop].tolist(), where[first:stop].tolist())

    def _gather(self, indices: list[int], where: list[float]) -> Batch:
        """Clips by index; `where`, in [0, 1), is the start of each crop as a share of the possible starts."""
        waveform = torch.zeros(len(indices), self.samples)
        for row, (i, share) in enumerate(zip(indices, where)):
            room = max(0, self._cache.length(i) - self.samples)
            piece = self._cache.read(i, int(share * (room + 1)), self.samples) * self._cache.gain(i)
            waveform[row, : len(piece)] = piece
        index = torch.tensor(indices, dtype=torch.long)
        return Batch(waveform, self._labels_of[index], index)

    def _encode_labels(self) -> Tensor:
        index = {name: number for number, name in enumerate(self.labels)}
        encoded = torch.zeros(len(self.clips), len(self.labels))
        for row, clip in enumerate(self.clips):
            if not self.multilabel and len(clip.labels) != 1:
                raise ValueError(
                    f"{clip.path} has {len(clip.labels)} labels {list(clip.labels)}; set multilabel to True"
                )
            for name in clip.labels:
                if name not in index:
                    raise ValueError(f"{clip.path} has label {name!r}, which is none of the {len(index)} classes")
                encoded[row, index[name]] = 1
        return encoded if self.multilabel else encoded.argmax(1)
