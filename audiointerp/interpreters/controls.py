"""Controls: trivial and ideal masks as interpreters, the lower and upper bounds for the scores of methods."""

from __future__ import annotations

import copy
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpretation
from audiointerp.interpreters.base import MaskInterpreter, Scene
from audiointerp.sound.components import Parts, Splitter
from audiointerp.sound.masking import Domain, EnergyMask, StemMask, TargetMask, ThresholdMask, loudest_mask

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_PARTS = 12  # every selection of the parts is tried

__all__ = [
    "AllPass",
    "Beside",
    "Empty",
    "EqualArea",
    "IdealParts",
    "Loudest",
    "RandomMask",
    "RandomMoments",
    "TargetMasking",
    "Threshold",
]


class AllPass(MaskInterpreter):
    """Keeps everything: the score of an explanation that removes nothing."""

    only_binary = True

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 everywhere."""
        return torch.ones_like(scene.stft.abs()), {}


class Empty(MaskInterpreter):
    """Keeps nothing: silence."""

    only_binary = True

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """0 everywhere."""
        return torch.zeros_like(scene.stft.abs()), {}


class TargetMasking(MaskInterpreter):
    """The training target of a trained method, used as its mask: an upper bound for that method.

    Args:
        classifier: the classifier; the mask does not depend on it.
        target_mask: (stft, stem's stft or None) -> mask; with `StemMask` an oracle, which needs `interpret(stem=...)`.
        domain: the quantity that the mask multiplies.
    """

    def __init__(self, classifier: Classifier, target_mask: TargetMask | None = None, domain: Domain = "log_magnitude"):
        super().__init__(classifier)
        self.target_mask, self.domain = target_mask or ThresholdMask(), domain
        self.needs_stem = isinstance(target_mask, StemMask)
        self.only_binary = isinstance(self.target_mask, (ThresholdMask, EnergyMask))

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The training target as a mask; it does not depend on the target class."""
        return self.target_mask(scene.stft, scene.stem), {}


class IdealParts(MaskInterpreter):
    """The selection of a clip's parts with the highest SI-SDR to the known stem: what bounds a method over such parts.

    Its score beside a method's, such as LIME's over the same parts, says whether the choice of parts or the parts
    themselves limit the method. Parts are chosen whole; a method that weights them may come out slightly higher.

    Args:
        classifier: the classifier; the mask does not depend on it.
        parts, tiles, n_components, seed: as for `LIME`.

    Raises:
        ValueError: for unknown parts, or more than 12.
    """

    needs_stem = True
    domain: Domain = "magnitude"

    def __init__(
        self,
        classifier: Classifier,
        parts: Parts = "nmf",
        tiles: tuple[int, int] = (3, 4),
        n_components: int = 6,
        seed: int = 0,
    ):
        super().__init__(classifier)
        self.split = Splitter.checked(parts, tiles, n_components, None, classifier.spectrogram)
        self.seed = seed
        if self.split.count > MOST_PARTS:
            raise ValueError(
                f"IdealParts tries every selection of parts: {self.split.count} are more than {MOST_PARTS}"
            )

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The mask of the best selection, and the selection as "selection", (batch, parts)."""
        assert scene.stem is not None
        rows = zip(scene.stft.split(1), scene.stem.split(1))
        made = [self._best(stft, stem, scene.waveform.shape[1]) for stft, stem in rows]
        return torch.cat([mask for mask, _ in made]), {"selection": torch.stack([chosen for _, chosen in made])}

    def _best(self, stft: Tensor, stem_stft: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        components = self.split(stft, self.seed)
        inverse = self.classifier.spectrogram.inverse
        one_each = torch.eye(components.count, device=stft.device).split(1)
        sounds = torch.cat([inverse(components.render(one), samples) for one in one_each]).double()
        stem = inverse(stem_stft, samples)[0].double()
        # SI-SDR from inner products, since the sound of a selection is the sum of its parts' sounds.
        chosen = torch.tensor(list(product((0.0, 1.0), repeat=components.count)), dtype=torch.float64)[1:].to(sounds)
        along = (chosen @ (sounds @ stem)).square() / stem.square().sum().clamp(min=1e-300)
        energy = torch.einsum("nk,kl,nl->n", chosen, sounds @ sounds.T, chosen)
        best = chosen[(along / energy.clamp(min=1e-300)).argmax()].float()
        return components.mask(best[None]), best


class Threshold(TargetMasking):
    """Keeps the bins above a share of the clip's maximum: PIQ's own training target.

    Args:
        classifier: the classifier; the mask does not depend on it.
        threshold: share of the maximum.
        domain: the quantity that is compared with the threshold and that the mask multiplies.
    """

    def __init__(self, classifier: Classifier, threshold: float = 0.35, domain: Domain = "log_magnitude"):
        super().__init__(classifier, ThresholdMask(threshold, domain), domain)


class Beside(MaskInterpreter):
    """A control that is matched to one method, `like`: on each clip it keeps as much as that method.

    Args:
        classifier: the classifier; only the matched method's mask depends on it.
        like: the matched method.
    Attributes:
        alone: whether the control also works without a matched method.
    """

    alone: bool = True

    def __init__(self, classifier: Classifier, like: MaskInterpreter | None = None):
        super().__init__(classifier)
        self.like = like

    def fits(self, method: object) -> bool:
        """Whether the control can be matched to the method."""
        return isinstance(method, MaskInterpreter)

    def on(self, classifier: Classifier) -> Self:
        """The control with its matched method on another classifier."""
        twin = super().on(classifier)
        twin.like = None if self.like is None else self.like.on(classifier)
        return twin

    def beside(self, method: MaskInterpreter) -> Beside:
        """A copy of the control, matched to the method."""
        matched = copy.copy(self)
        matched.like = method
        return matched


class EqualArea(Beside):
    """A binary mask that keeps as many bins as another method (the sum of its mask), or a fixed share of the bins.

    Args:
        classifier: the classifier; only the matched method's mask depends on it.
        share: share of the bins to keep when there is no matched method.
        like: the method whose area is matched on each clip.
    """

    only_binary = True

    def __init__(self, classifier: Classifier, share: float = 0.2, like: MaskInterpreter | None = None):
        super().__init__(classifier, like)
        self.share = share

    def area(self, scene: Scene) -> float | Tensor:
        """Share of the bins to keep: one number, or one per clip."""
        return self.share if self.like is None else self.like.finished_mask(scene)[0].mean((1, 2))


class Loudest(EqualArea):
    """Keeps the loudest bins, for any target class; see `EqualArea`."""

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 on the loudest bins."""
        return loudest_mask(scene.stft.abs(), self.area(scene)), {}


class RandomMask(EqualArea):
    """Keeps bins drawn at random, the same for clips of equal length; see `EqualArea`.

    Args:
        classifier, share, like: see `EqualArea`.
        seed: of the draw.
    """

    def __init__(self, classifier: Classifier, share: float = 0.2, like: MaskInterpreter | None = None, seed: int = 0):
        super().__init__(classifier, share, like)
        self.seed = seed

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 on random bins."""
        generator = torch.Generator().manual_seed(self.seed)
        rank = torch.rand(scene.stft.shape[1:], generator=generator).to(scene.stft.device)
        return loudest_mask(rank.expand(scene.stft.shape), self.area(scene)), {}


class RandomMoments(MaskInterpreter):
    """Keeps segments of time drawn at random: the chance level of scores that ask when the sound was.

    `details`: "scores" (batch, segments), the random relevance of each segment; those above 0.5 are kept.

    Args:
        classifier: the classifier; the mask does not depend on it.
        segment_seconds: length of a segment.
        seed: of the draw, which also depends on the place of the clip's loudest sample, so that clips differ.
    Raises:
        ValueError: for segments without length.
    """

    only_binary = True
    domain: Domain = "magnitude"

    def __init__(self, classifier: Classifier, segment_seconds: float = 0.1, seed: int = 0):
        super().__init__(classifier)
        if not 0 < segment_seconds < float("inf"):
            raise ValueError(f"segment_seconds is {segment_seconds}; segments last more than 0 s")
        self.segment_seconds, self.seed = segment_seconds, seed

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """1 in random segments."""
        rows, samples = scene.waveform.shape
        frames = scene.stft.shape[2]
        count = min(max(1, round(samples / self.classifier.sample_rate / self.segment_seconds)), frames)
        scores = torch.stack([self._draw(clip, count) for clip in scene.waveform]).to(scene.waveform)
        index = torch.arange(frames, device=scores.device) * count // frames
        return (scores > 0.5).to(scores)[:, None, index].expand(rows, scene.stft.shape[1], frames), {"scores": scores}

    def over_time(self, made: Interpretation) -> Tensor:
        """The random relevance of each frame's segment, (batch, frames)."""
        assert made.mask is not None
        scores, frames = made.details["scores"], made.mask.shape[2]
        return scores[:, torch.arange(frames, device=scores.device) * scores.shape[1] // frames]

    def _draw(self, clip: Tensor, count: int) -> Tensor:
        """Relevance in [0, 1) of the segments of one clip, (count,)."""
        seed = self.seed * 1_000_003 + int(clip.abs().argmax())  # the place does not depend on the clip's level
        return torch.rand(count, generator=torch.Generator().manual_seed(seed))
