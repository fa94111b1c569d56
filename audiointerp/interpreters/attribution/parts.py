"""What methods that keep and remove parts of a clip share: how the clip is split, and the logit as a game of parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audiointerp.contracts import Interpretation
from audiointerp.interpreters.attribution.base import Attribution, Removed, Score, what_remains
from audiointerp.sound.components import Components, Parts, Splitter
from audiointerp.sound.nmf import NMF

__all__ = ["OverParts", "game_of", "weighted_shares"]


@dataclass(eq=False, repr=False)
class OverParts(Attribution):
    """An attribution method that explains a clip by parts, each of which can be heard; all parts add up to the clip.

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        parts: "tiles" (of a grid), "bands" (of equal width in mel), "nmf" (components), "harmonic_percussive" (layers,
            and the rest), "segments" (of equal length in time), "onsets" (segments that begin at onsets); or several of
            them, such as ["harmonic_percussive", "onsets"], for each layer within each segment.
        tiles: tiles of the grid along frequency and along time; fewer where the clip has fewer bins.
        n_components: number of bands, or of components of the NMF that is fitted to each clip's log-magnitude.
        dictionary: of an NMF learnt before, or (freq, components), instead of an NMF of each clip.
        n_segments: number of segments in time; fewer where the clip has fewer frames.
        margin: of the harmonic and percussive layers, see `sound.layers.harmonic_percussive_masks`; at 1 there is no
            rest.
    Raises:
        ValueError: for unknown parts, if there is no part, a margin below 1, or a dictionary of other bins.
    """

    parts: Parts = "tiles"
    tiles: tuple[int, int] = (4, 6)
    n_components: int = 8
    dictionary: NMF | Tensor | None = None
    n_segments: int = 8
    margin: float = 2.0

    def __post_init__(self) -> None:
        """Checks the settings and prepares how clips are split."""
        super().__post_init__()
        self.split = Splitter.checked(
            self.parts,
            self.tiles,
            self.n_components,
            self.dictionary,
            self.classifier.spectrogram,
            self.n_segments,
            self.margin,
        )

    def over_time(self, made: Interpretation) -> Tensor:
        """The sum of a frame's scores, (batch, frames), weighted by the bins' energy if no part ends before the clip.

        A tile or segment has a score of its own. The score of an NMF component, band or layer is of the whole clip; it
        applies at the times at which that part sounds.
        """
        scores = made.details["attribution"]
        if {"tiles", "segments", "onsets"} & {*self.split.parts}:
            return scores.sum(1)
        heard = made.waveform + made.residual if made.explained is None else made.explained
        power = self.classifier.spectrogram(heard * made.input_gain[:, None]).abs().square()
        return (scores * power).sum(1)


def game_of(components: Components, score: Score, filler: Removed) -> Callable[[Tensor], Tensor]:
    """The score as a function of the parts that are kept, (n, count) in [0, 1] -> (n,); the others are filled."""
    magnitude = components.stft.abs()[None]
    if filler == "silence":
        return lambda kept: score(components.mask(kept) * magnitude)
    left = what_remains(magnitude, filler)
    return lambda kept: score(left + components.mask(kept) * (magnitude - left))


def weighted_shares(components: Components, weights: Tensor) -> Tensor:
    """Sum over the parts of the part's share of each bin times its weight, (1, freq, time); weights (count,)."""
    # Part by part: `mask` takes values in [0, 1] only, and weights lie outside.
    one_each = torch.eye(components.count, device=components.stft.device).split(1)
    return torch.as_tensor(sum(float(each) * components.mask(one) for each, one in zip(weights, one_each)))
