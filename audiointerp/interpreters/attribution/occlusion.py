"""Occlusion: a patch of the spectrogram is removed at each place in turn, and the fall of the logit is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from audiointerp.contracts import Classifier
from audiointerp.interpreters.attribution.base import (
    CLIP_SECONDS,
    Attribution,
    Details,
    Removed,
    Score,
    check_filler,
    require,
    what_remains,
)
from audiointerp.interpreters.base import Scene

__all__ = ["Occlusion", "patch_bins"]


@dataclass(eq=False, repr=False)
class Occlusion(Attribution):
    """How much the target's logit falls when a time-frequency patch is removed, averaged over the patches on a bin.

    Zeiler & Fergus (2014), https://arxiv.org/abs/1311.2901. Ours, not theirs: patches of an STFT, their size
    given in Hz and seconds.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        patch: height in Hz and width in seconds; cropped to the whole spectrogram.
        stride: distance from patch to patch, as a share of the patch.
        filler: magnitude left in a removed patch, "silence" or "noise_floor".
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time), in [0, 1], 1 = keep.
    Raises:
        ValueError: without captum; if the patch is smaller than one time-frequency bin, the stride not in (0, 1],
            or an unknown filler.
    """

    same_versions: ClassVar[bool] = True
    patch: tuple[float, float] = (1000.0, 0.5)
    stride: float = 0.5
    filler: Removed = "silence"

    def __post_init__(self) -> None:
        """Checks `patch`, `stride` and `filler`."""
        super().__post_init__()
        require("captum", self)
        if not 0 < self.stride <= 1:
            raise ValueError(f"stride is {self.stride}; it is a share of the patch, above 0 and at most 1")
        self._patch_bins = patch_bins(self.classifier, self.patch)
        check_filler(self.filler)

    @property
    def passes(self) -> int:
        """One per patch and one for the clip."""
        return self.passes_for(round(CLIP_SECONDS * self.classifier.sample_rate))

    def passes_for(self, samples: int) -> int:
        """Passes for a clip of `samples` samples: a longer clip has more patches."""
        spectrogram = self.classifier.spectrogram
        grid = spectrogram.n_fft // 2 + 1, 1 + samples // spectrogram.hop_length
        sizes, strides = self._sizes(grid)
        return 1 + math.prod(-(-(whole - size) // step) + 1 for whole, size, step in zip(grid, sizes, strides))

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Mean fall of the target's logit over the patches on each bin."""
        from captum import attr

        magnitude = clip.stft.abs()
        sizes, strides = self._sizes(magnitude.shape[1:])
        made = attr.Occlusion(score).attribute(
            magnitude,
            sliding_window_shapes=sizes,
            strides=strides,
            baselines=what_remains(magnitude, self.filler),
            perturbations_per_eval=self.max_batch,
        )
        return made, {}

    def _sizes(self, grid: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Patch and stride in bins and frames."""
        sizes = tuple(min(size, whole) for size, whole in zip(self._patch_bins, grid))
        return sizes, tuple(max(1, round(self.stride * size)) for size in sizes)


def patch_bins(classifier: Classifier, patch: tuple[float, float]) -> tuple[int, int]:
    """A patch (Hz, seconds) in bins and frames of the classifier's STFT, rounded.

    Raises:
        ValueError: if the patch is smaller than one bin or one frame.
    """
    stft = classifier.spectrogram
    hertz, seconds = stft.sample_rate / stft.n_fft, stft.hop_length / stft.sample_rate
    if not (hertz <= patch[0] < math.inf and seconds <= patch[1] < math.inf):
        raise ValueError(
            f"patch is {patch[0]:g} Hz x {patch[1]:g} s; a bin of this spectrogram is {hertz:g} Hz x {seconds:g} s"
        )
    return round(patch[0] / hertz), round(patch[1] / seconds)
