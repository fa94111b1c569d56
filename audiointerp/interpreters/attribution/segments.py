"""Where in time: a surrogate of the classifier over short segments of time that are silenced or replaced by noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from audiointerp.interpreters.attribution.base import Attribution, Details, Score, ToMask, hear
from audiointerp.interpreters.attribution.forest import RandomForest
from audiointerp.interpreters.attribution.lime import Ridge
from audiointerp.interpreters.attribution.parts import weighted_shares
from audiointerp.interpreters.base import Scene
from audiointerp.interpreters.most_faithful import log_odds
from audiointerp.sound.components import Components
from audiointerp.sound.masking import AttributionMask

Replacement = Literal["silence", "noise"]
Surrogate = Literal["ridge", "forest"]

NOISE = (0.1, 1.0)  # level of the noise as a share of the clip's RMS, lowest and highest

__all__ = ["Replacement", "SegmentSurrogate", "Surrogate", "draw_versions"]


@dataclass(eq=False, repr=False)
class SegmentSurrogate(Attribution):
    """Scores of segments of 100 ms, from a surrogate of the target's log-odds on versions with segments taken out.

    Bolanos et al. (2025), "Benchmarking time-localized explanations for audio classification models",
    https://arxiv.org/abs/2506.04391. As there: versions with 20 to 40 % of the segments taken out, in runs of 1, 3 or
    5 neighbours; silence, or white noise of 0.1 to 1 times the clip's RMS in their place; the log-odds of the class,
    log(p / (1 - p)); a linear model, whose coefficients are the scores, or a random forest of 100 trees, whose
    importances are. Ours, not theirs: segments are cut on the STFT's frames; importances of the forest have the sign of
    their splits (`signed`), so that a sound that speaks against the class is not kept; leaves have at least 5 samples;
    and ridge regression with weight 1.

    `details`: "scores" (batch, segments) and "r2" (batch,), the share of variance that the linear model explains (not
    given by the forest).

    Args:
        classifier, domain, max_batch: see `Attribution`.
        to_mask: attribution -> mask; by default without smoothing, and kept whole from the largest score on.
        segment_seconds: length of a segment.
        surrogate: "forest" or "ridge".
        filler: what replaces a segment, "silence" or "noise".
        n_samples: number of versions classified; the first is the whole clip.
        removed: smallest and largest share of the segments taken out.
        runs: lengths of the runs of neighbouring segments that are taken out together; drawn for each version.
        signed: give importances of the forest the sign of their splits; False: as published, always 0 or more.
        seed: of the versions, the noise and the forest; the same for each clip.
    Raises:
        ValueError: for an unknown surrogate or filler, fewer than 2 versions, or a setting out of range.
    """

    same_versions: ClassVar[bool] = True
    to_mask: ToMask = field(default_factory=lambda: AttributionMask(quantile=1.0, smooth=1))
    segment_seconds: float = 0.1
    surrogate: Surrogate = "forest"
    filler: Replacement = "silence"
    n_samples: int = 400
    removed: tuple[float, float] = (0.2, 0.4)
    runs: tuple[int, ...] = (1, 3, 5)
    signed: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        if self.surrogate not in get_args(Surrogate) or self.filler not in get_args(Replacement):
            raise ValueError(
                f"surrogate is {self.surrogate!r}, filler {self.filler!r}; choose 'ridge' or 'forest', and 'silence' "
                "or 'noise'"
            )
        if not 0 < self.segment_seconds < float("inf") or self.n_samples < 2:
            raise ValueError(
                f"segment_seconds is {self.segment_seconds}, n_samples {self.n_samples}; segments last more than 0 s, "
                "and a surrogate is fitted to at least 2 versions"
            )
        if not 0 < self.removed[0] <= self.removed[1] < 1 or not self.runs or min(self.runs) < 1:
            raise ValueError(
                f"removed is {tuple(self.removed)}, runs {tuple(self.runs)}; give two shares in (0, 1), the smallest "
                "first, and runs of at least 1 segment"
            )

    @property
    def passes(self) -> int:
        """One per version."""
        return self.n_samples

    def score_of(self, clip: Scene) -> Score:
        """The target's log-odds as a function of complex spectrograms."""
        heard = hear(self.classifier, clip)
        if self._memory is not None:
            heard = self._memory.of(clip.stft).replayed(heard)
        return lambda stft: log_odds(made := heard(stft), clip.target.expand(len(made.logits), -1))

    @torch.no_grad()
    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The score of each bin's segment."""
        stft = clip.stft
        seconds = clip.waveform.shape[1] / self.classifier.sample_rate
        count = min(max(1, round(seconds / self.segment_seconds)), stft.shape[2])
        segments = Components.segments(stft, count)
        kept = draw_versions(count, self.n_samples, self.removed, self.runs, self.seed)
        replaced = self._replacement(clip)
        found = []
        for some in kept.to(stft.device).split(self.max_batch):
            mask = segments.mask(some)
            # Complex also where silence replaces a segment: every classifier takes it as it is.
            found.append(score(stft * mask + replaced(len(some)) * (1 - mask)))
        values, details = torch.cat(found).double().cpu(), {}
        if self.surrogate == "ridge":
            model = Ridge()
            model.fit_to(kept, values, torch.ones(len(kept)))
            scores, details["r2"] = model.representation()[0], model.r2
        else:
            forest = RandomForest(seed=self.seed)
            scores = torch.from_numpy(forest.importances(kept.double().numpy(), values.numpy(), self.signed))
        scores = scores.to(stft.real)
        return weighted_shares(segments, scores), {
            "scores": scores[None],
            **{name: each.to(scores) for name, each in details.items()},
        }

    def _replacement(self, clip: Scene) -> Callable[[int], Tensor]:
        """Spectrograms that replace segments, for a number of versions: (versions, freq, time), or zeros."""
        if self.filler == "silence":
            return lambda versions: torch.zeros_like(clip.stft)
        generator = torch.Generator().manual_seed(self.seed)
        rms, samples = clip.waveform.square().mean().sqrt(), clip.waveform.shape[1]

        def noise(versions: int) -> Tensor:
            level = NOISE[0] + (NOISE[1] - NOISE[0]) * torch.rand(versions, 1, generator=generator)
            drawn = level * torch.randn(versions, samples, generator=generator)
            return self.classifier.spectrogram(drawn.to(clip.waveform) * rms)

        return noise


def draw_versions(count: int, versions: int, removed: tuple[float, float], runs: tuple[int, ...], seed: int) -> Tensor:
    """Which segments each version keeps, (versions, count) of 0 and 1; the first keeps all.

    Args:
        count: number of segments.
        versions: number of versions.
        removed: smallest and largest share of segments taken out; the last run may take out a few more.
        runs: lengths of runs, of which each version has one; a run at the end of the clip is cut off.
        seed: of the draws.

    >>> draw_versions(5, 3, (0.2, 0.2), (1,), seed=0).sum(1).tolist()
    [5.0, 4.0, 4.0]
    """
    generator = torch.Generator().manual_seed(seed)
    kept = torch.ones(versions, count)
    for row in kept[1:]:
        share = removed[0] + (removed[1] - removed[0]) * float(torch.rand((), generator=generator))
        length = runs[int(torch.randint(len(runs), (), generator=generator))]
        wanted = min(max(1, round(share * count)), max(1, count - 1))
        for start in torch.randperm(count + length - 1, generator=generator).tolist():
            # Runs may begin before the clip, so that its first segment is taken out as often as the others.
            row[max(0, start - length + 1) : start + 1] = 0
            if count - int(row.sum()) >= wanted:
                break
    return kept
