"""Donor clips, which perturbation methods put in place of removed parts of another clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.clips import Clip, class_names

__all__ = ["DonorClips"]


class DonorClips:
    """Waveforms of training clips, (count, samples) at peak 1, read at the first call.

    For recipes: an interpreter calls this object as a function and does not depend on data sets.

    Args:
        clips: a reader, such as `read_esc50` with its folder.
        folds: clips are drawn from these; name the folds that the classifier was trained on.
        count: largest number of clips.
        seed: of the draw.
        sample_rate: in Hz.
        seconds: length of each clip.
        cache_folder: see `ClipDataset`.
    Raises:
        ValueError: when called, if no clip is in the folds.
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
