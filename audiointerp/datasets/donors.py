"""Clips that stand in for the parts of another: what a method by perturbation fills in with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.clips import Clip, class_names

__all__ = ["DonorClips"]


class DonorClips:
    """Waveforms of training clips, (count, samples) at peak 1, read when they are first asked for.

    For recipes: an interpreter takes them as a function and knows nothing of data sets.

    Args:
        clips: a reader, such as `read_esc50` with its folder.
        folds: whose clips may be drawn; the folds that the classifier was trained on.
        count: clips at most.
        seed: of the draw.
        sample_rate: in Hz.
        seconds: of each.
        cache_folder: see `ClipDataset`.
    Raises:
        ValueError: when asked, if no clip is in the folds.
    """

    def __init__(
        self,
        clips: Callable[[], Sequence[Clip]],
        folds: Sequence[int],
        count: int = 32,
        seed: int = 0,
        sample_rate: int = 16000,
        seconds: float = 5.0,
        cache_folder: str | Path | None = None,
    ):
        if count < 1:
            raise ValueError(f"DonorClips' count is {count}; give at least 1")
        self.clips, self.folds, self.count, self.seed = clips, list(folds), count, seed
        self.sample_rate, self.seconds, self.cache_folder = sample_rate, seconds, cache_folder
        self._read: Tensor | None = None

    def __call__(self) -> Tensor:
        """The waveforms."""
        if self._read is None:
            clips = [clip for clip in self.clips() if clip.fold in self.folds]
            if not clips:
                raise ValueError(f"DonorClips: no clip is in folds {self.folds}; name folds that the data has")
            order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(self.seed)).tolist()
            chosen = [clips[i] for i in order[: self.count]]
            several = any(len(clip.labels) > 1 for clip in chosen)
            data = ClipDataset(chosen, class_names(chosen), self.sample_rate, self.seconds, several, self.cache_folder)
            self._read = data.batch(range(len(chosen))).waveform
        return self._read
