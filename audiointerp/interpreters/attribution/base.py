"""What every attribution method shares: a signed score of each bin for the asked class, turned into a mask.

The classifier is asked as a function of the linear magnitude (batch, freq, time), the phase being the clip's: so every
method explains any classifier, ours or another's, through the same front end, and a bin set to 0 is silent (a feature
in dB set to 0 would be loud). Clips are explained one by one: a row of a batch is a batch of one to the last bit, and
`max_batch` alone says how much the classifier hears at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters.base import MaskInterpreter, Scene
from audiointerp.sound.masking import AttributionMask, Domain, noise_floor

Score = Callable[[Tensor], Tensor]
Details = dict[str, Tensor]
ToMask = Callable[[Tensor], Tensor]
Removed = Literal["silence", "noise_floor"]

CLIP_SECONDS = 5.0  # of the clip that `passes` speaks of
LONG = 64  # passes, from which on a bar shows how far a call has come

__all__ = [
    "CLIP_SECONDS",
    "Attribution",
    "Details",
    "Removed",
    "Score",
    "ToMask",
    "asked_logit",
    "check_filler",
    "hear",
    "progress",
    "require",
    "seeded",
    "target_logit",
    "what_remains",
]


@dataclass(eq=False, repr=False)
class Attribution(MaskInterpreter):
    """An interpreter that scores bins; subclasses write `attribute` and `passes` and name their own settings as fields.

    Where a clip is silent its scores are 0, and so is its mask. `details` has the scores as "attribution", and as
    "all_zero", (batch,), whether no bin speaks for the class, which leaves nothing to hear.

    Args:
        classifier: explained, never changed.
        to_mask: attribution -> mask.
        domain: what the mask multiplies.
        max_batch: versions of the clip that the classifier hears at once; limits memory.
    Raises:
        ValueError: for a batch of none.
    """

    classifier: Classifier
    to_mask: ToMask = field(default_factory=AttributionMask)
    domain: Domain = "magnitude"
    max_batch: int = 8

    def __post_init__(self) -> None:
        """Checks the settings; subclasses check their own besides."""
        if self.max_batch < 1:
            raise ValueError(
                f"max_batch is {self.max_batch}; the classifier takes at least 1 version of a clip at once"
            )

    @property
    @abstractmethod
    def passes(self) -> int:
        """Passes of the classifier for a clip of 5 s (a backward pass counts as two more)."""

    def passes_for(self, samples: int) -> int:
        """Passes for a clip of so many samples; as many as for 5 s unless the method walks over the clip."""
        return self.passes

    def score_of(self, clip: Scene) -> Score:
        """What `attribute` may ask of the classifier; by default the asked logit."""
        return target_logit(self.classifier, clip)

    @abstractmethod
    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Signed score of every bin for the asked classes, (1, freq, time), and what else is known, each (1, ...).

        Args:
            clip: a scene of one row.
            score: the asked logit as a function of magnitudes, see `target_logit`; or what `score_of` says.
        """

    def make_mask(self, scene: Scene) -> tuple[Tensor, Details]:
        """Mask, and the attribution it was made from.

        Raises:
            ValueError: if an attribution is not finite.
        """
        rows, samples = scene.waveform.shape
        passes = rows * self.passes_for(samples)
        with torch.enable_grad(), progress(passes, type(self).__name__) as update:
            clips = [_row(scene, row) for row in range(rows)]
            made = [self.attribute(clip, _counted(self.score_of(clip), update)) for clip in clips]
        audible = (scene.stft != 0).flatten(1).any(1)[:, None, None]
        attribution = torch.where(audible, torch.cat([each.detach() for each, _ in made]), 0.0)
        if not torch.isfinite(attribution).all():
            raise ValueError(
                f"{type(self).__name__} met NaN or infinite values in {type(self.classifier).__name__}; does its front "
                "end take a root or logarithm of 0? Add a small number inside"
            )
        details = {name: torch.cat([each[name].detach() for _, each in made]) for name in made[0][1]}
        mask = self.to_mask(attribution)
        all_zero = (mask == 0).flatten(1).all(1)
        return mask, {"attribution": attribution, "all_zero": all_zero} | details


def hear(classifier: Classifier, scene: Scene) -> Callable[[Tensor], Prediction]:
    """The classifier as a function of magnitudes, (n * rows, freq, time) -> prediction, with the scene's phases.

    Complex spectrograms are heard as they are. Rows of the scene repeat as a whole: magnitudes are laid out as n copies
    of the batch, one after the other.
    """
    samples = scene.waveform.shape[1]
    if classifier.reads_magnitude:
        return lambda magnitude: classifier.classify_stft(magnitude, samples)
    tiny = torch.finfo(torch.float32).tiny
    phasor = torch.where(scene.stft == 0, torch.ones_like(scene.stft), scene.stft / scene.stft.abs().clamp(min=tiny))

    def heard(magnitude: Tensor) -> Prediction:
        if not magnitude.is_complex():
            magnitude = magnitude * phasor.repeat(len(magnitude) // len(phasor), 1, 1)
        return classifier.classify_stft(magnitude, samples)

    return heard


def asked_logit(prediction: Prediction, target: Tensor) -> Tensor:
    """Mean logit of the asked classes, (n * rows,); target (rows, classes) bool.

    The logit, not the probability, is explained: a sure classifier's probability hardly moves.
    """
    wanted = target.repeat(len(prediction.logits) // len(target), 1)
    return (prediction.logits * wanted).sum(1) / wanted.sum(1)


def target_logit(classifier: Classifier, scene: Scene) -> Score:
    """A function of magnitudes (n * rows, freq, time) -> `asked_logit`, (n * rows,); differentiable."""
    heard = hear(classifier, scene)
    return lambda magnitude: asked_logit(heard(magnitude), scene.target)


def check_filler(filler: Removed) -> None:
    """Makes sure that a filler exists.

    Raises:
        ValueError: if it does not.
    """
    if filler not in get_args(Removed):
        raise ValueError(f"filler is {filler!r}; choose 'silence' or 'noise_floor'")


def what_remains(magnitude: Tensor, filler: Removed) -> Tensor:
    """Magnitude of a removed bin: 0, or at most the clip's steady background, (batch, freq, time)."""
    if filler == "silence":
        return torch.zeros_like(magnitude)
    return torch.minimum(noise_floor(magnitude), magnitude)


def require(package: str, method: object) -> None:
    """Makes sure that an optional package is there.

    Raises:
        ValueError: if it is not, naming the extra.
    """
    if find_spec(package) is None:
        raise ValueError(
            f"{type(method).__name__} needs {package}; install it with: pip install 'audiointerp[attribution]'"
        )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch and numpy, from which captum draws, at a seed; put back afterwards."""
    state: Any = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
        finally:
            np.random.set_state(state)


def _row(scene: Scene, row: int) -> Scene:
    """One clip of a scene."""
    one = slice(row, row + 1)
    heard = scene.prediction
    prediction = Prediction(
        heard.logits[one],
        heard.probabilities[one],
        None if heard.embedding is None else heard.embedding[one],
        tuple(each[one] for each in heard.feature_maps),
    )
    return replace(
        scene,
        waveform=scene.waveform[one],
        stft=scene.stft[one],
        prediction=prediction,
        target=scene.target[one],
        stem=None if scene.stem is None else scene.stem[one],
    )


@contextmanager
def progress(passes: int, name: str) -> Iterator[Callable[[int], object]]:
    """A progress bar's `update` where a call is long, else one that shows nothing."""
    if passes <= LONG:
        yield lambda count: None
        return
    with tqdm(total=passes, desc=name, unit="pass", leave=False, disable=None) as bar:
        yield bar.update


def _counted(score: Score, update: Callable[[int], object]) -> Score:
    """The score, which reports its passes: one a version heard, three where a gradient is asked for."""

    def counted(magnitude: Tensor) -> Tensor:
        heard = score(magnitude)
        update(len(magnitude) * (3 if heard.requires_grad else 1))
        return heard

    return counted
