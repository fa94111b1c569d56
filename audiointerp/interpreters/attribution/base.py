"""The base class of attribution methods: a signed score of each bin for the target class, turned into a mask.

The classifier is treated as a function of the linear magnitude (batch, freq, time) with the clip's phase, so that every
method explains any classifier, ours or another's, through the same front end, and a bin set to 0 is silent (a feature
in dB set to 0 would be loud). Clips are explained one by one: explaining a clip within a batch or alone gives identical
results, and `max_batch` alone limits how much the classifier processes at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audiointerp.contracts import Classifier, Interpretation, Prediction, check_classifier, check_gradient
from audiointerp.interpreters.attribution.memory import Memory
from audiointerp.interpreters.base import MaskInterpreter, Scene
from audiointerp.sound.masking import AttributionMask, Domain, noise_floor

if TYPE_CHECKING:
    from typing_extensions import Self

Score = Callable[[Tensor], Tensor]
Details = dict[str, Tensor]
ToMask = Callable[[Tensor], Tensor]
Removed = Literal["silence", "noise_floor"]
FromClip = TypeVar("FromClip")
Update = Callable[[int], object]

CLIP_SECONDS = 5.0  # length of the clip for which `passes` is given
FITTING = 4  # versions of 5 s whose feature maps fit the caches of a CPU; 8 at once take a fifth longer each
LONG = 64  # passes above which a progress bar is shown

__all__ = [
    "CLIP_SECONDS",
    "Attribution",
    "Details",
    "Removed",
    "Score",
    "ToMask",
    "Update",
    "asked_logit",
    "check_filler",
    "hear",
    "hear_rows",
    "noise_like",
    "progress",
    "require",
    "seeded",
    "what_remains",
    "without_denormals",
]


@dataclass(eq=False, repr=False)
class Attribution(MaskInterpreter):
    """An interpreter that scores bins; subclasses write `attribute` and `passes` and add their settings as fields.

    A silent clip has scores and a mask of 0. `details` has the scores as "attribution", and as "all_zero", (batch,),
    whether the mask is 0 everywhere, so that the interpretation is silent.

    Args:
        classifier: the classifier to explain, never changed.
        to_mask: attribution -> mask.
        domain: the quantity that the mask multiplies.
        max_batch: versions of the clip that the classifier processes at once at most; limits memory. On a CPU and
            without gradients it is given four at a time in any case, which is faster.
    Attributes:
        needs_gradient: whether the method uses gradients of the logits.
        same_versions: whether it classifies the same versions of a clip for every target, so that within
            `several_targets` a further target of the clip costs no passes.
    Raises:
        ValueError: if `max_batch` is below 1, or the classifier lacks gradients that the method needs.
    """

    needs_gradient: ClassVar[bool] = False
    same_versions: ClassVar[bool] = False
    classifier: Classifier
    to_mask: ToMask = field(default_factory=AttributionMask)
    domain: Domain = "magnitude"
    max_batch: int = 8
    _memory: Memory | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Checks the settings; subclasses also check their own."""
        check_classifier(self.classifier, type(self).__name__)
        if self.max_batch < 1:
            raise ValueError(
                f"max_batch is {self.max_batch}; the classifier takes at least 1 version of a clip at once"
            )
        if self.needs_gradient:
            check_gradient(self.classifier, type(self).__name__)

    @property
    @abstractmethod
    def passes(self) -> int:
        """Passes of the classifier for a clip of 5 s (a backward pass counts as two more)."""

    def passes_for(self, samples: int) -> int:
        """Passes for a clip of `samples` samples; as many as for 5 s unless they depend on the clip's length."""
        return self.passes

    def on(self, classifier: Classifier) -> Self:
        """The same method on another classifier, which knows nothing of what this one's classifier has heard."""
        twin = super().on(classifier)
        twin._memory = None
        return twin

    @contextmanager
    def several_targets(self) -> Iterator[None]:
        """Keeps the predictions for the versions of the last clips; the classifier must not change meanwhile."""
        outer = self._memory
        self._memory = outer or (Memory() if self.same_versions else None)
        try:
            yield
        finally:
            self._memory = outer

    def over_time(self, made: Interpretation) -> Tensor:
        """The sum of the scores of a frame's bins, (batch, frames), signed as they are."""
        return made.details["attribution"].sum(1)

    def score_of(self, clip: Scene) -> Score:
        """The function of magnitudes that `attribute` explains; by default the target's logit."""
        heard = hear(self.classifier, clip)
        if self._memory is not None:
            heard = self._memory.of(clip.stft).replayed(heard)
        return lambda magnitude: asked_logit(heard(magnitude), clip.target)

    def once(self, clip: Scene, name: str, make: Callable[[], FromClip]) -> FromClip:
        """What `make` computes from a clip alone; kept for its other targets within `several_targets`."""
        return make() if self._memory is None else self._memory.of(clip.stft).once(name, make)

    @abstractmethod
    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Signed score of every bin for the target, (1, freq, time), and further details by name, each (1, ...).

        Args:
            clip: a scene of one row.
            score: the function that `score_of` returns; by default the target's logit as a function of magnitudes.
        """

    def make_mask(self, scene: Scene) -> tuple[Tensor, Details]:
        """Mask, and the attribution from which it was made.

        Raises:
            ValueError: if an attribution is not finite.
        """
        rows, samples = scene.waveform.shape
        passes = rows * self.passes_for(samples)
        with torch.enable_grad(), progress(passes, type(self).__name__) as update:
            made, details = self.attribute_all(scene, update)
        audible = (scene.stft != 0).flatten(1).any(1)[:, None, None]
        attribution = torch.where(audible, made.detach(), 0.0)
        if not torch.isfinite(attribution).all():
            raise ValueError(
                f"{type(self).__name__} got NaN or infinite values from {type(self.classifier).__name__}; does its "
                "front end take a root or logarithm of 0? Add a small number to its argument"
            )
        mask = self.to_mask(attribution)
        all_zero = (mask == 0).flatten(1).all(1)
        return mask, {"attribution": attribution, "all_zero": all_zero} | details

    def attribute_all(self, scene: Scene, update: Update) -> tuple[Tensor, Details]:
        """Attributions (batch, freq, time) and details of all clips of a scene, one clip after the other.

        Args:
            scene: of any number of rows.
            update: called with the number of passes since its last call, for a progress bar.
        """
        clips = [_row(scene, row) for row in range(len(scene.waveform))]
        made = [self.attribute(clip, self._counted(self.score_of(clip), update)) for clip in clips]
        details = {name: torch.cat([each[name].detach() for _, each in made]) for name in made[0][1]}
        return torch.cat([each.detach() for each, _ in made]), details

    def _counted(self, score: Score, update: Update) -> Score:
        """The score, which also counts its passes: one per version classified, three with a gradient."""

        def counted(magnitude: Tensor) -> Tensor:
            heard = score(magnitude)
            if self.needs_gradient and magnitude.requires_grad and torch.is_grad_enabled():
                check_gradient(self.classifier, type(self).__name__, heard)
            update(len(magnitude) * (3 if heard.requires_grad else 1))
            return heard

        return counted


def hear_rows(classifier: Classifier, scene: Scene) -> Callable[[Tensor, Tensor], Prediction]:
    """As `hear`, for versions of any clips of the scene: magnitudes (n, freq, time), clips (n,) -> prediction."""
    samples = scene.waveform.shape[1]
    if classifier.reads_magnitude:
        return lambda magnitude, _: classifier.classify_stft(magnitude, samples)
    phasor = _phasor(scene.stft)

    def heard(magnitude: Tensor, rows: Tensor) -> Prediction:
        return classifier.classify_stft(magnitude if magnitude.is_complex() else magnitude * phasor[rows], samples)

    return heard


def hear(classifier: Classifier, scene: Scene) -> Callable[[Tensor], Prediction]:
    """The classifier as a function of magnitudes, (n * rows, freq, time) -> prediction, with the scene's phases.

    Complex spectrograms are classified unchanged. Magnitudes are n versions of the scene's whole batch, one after the
    other.
    """
    samples = scene.waveform.shape[1]
    phasor = None if classifier.reads_magnitude else _phasor(scene.stft)

    def classify(magnitude: Tensor) -> Prediction:
        return classifier.classify_stft(magnitude, samples)

    def heard(magnitude: Tensor) -> Prediction:
        if phasor is not None and not magnitude.is_complex():
            magnitude = (magnitude.unflatten(0, (-1, len(phasor))) * phasor).flatten(0, 1)
        return classify(magnitude) if torch.is_grad_enabled() else _in_pieces(classify, magnitude)

    return heard


def _in_pieces(classify: Callable[[Tensor], Prediction], versions: Tensor) -> Prediction:
    """The prediction of all versions; on a CPU of a few at a time, without embedding and feature maps."""
    if versions.device.type != "cpu" or len(versions) <= FITTING:
        return classify(versions)
    made = [classify(some) for some in versions.split(FITTING)]
    return Prediction(torch.cat([each.logits for each in made]), torch.cat([each.probabilities for each in made]))


def _phasor(stft: Tensor) -> Tensor:
    """The phase of each bin as a complex number of modulus 1; 1 in silent bins."""
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(stft == 0, torch.ones_like(stft), stft / stft.abs().clamp(min=tiny))


def asked_logit(prediction: Prediction, target: Tensor) -> Tensor:
    """Mean logit of the target classes, (n * rows,); target (rows, classes) bool.

    The logit is explained, not the probability: a probability near 0 or 1 hardly changes with the input.
    """
    wanted = target.repeat(len(prediction.logits) // len(target), 1)
    return (prediction.logits * wanted).sum(1) / wanted.sum(1)


def check_filler(filler: Removed) -> None:
    """Checks the name of a filler.

    Raises:
        ValueError: for an unknown name.
    """
    if filler not in get_args(Removed):
        raise ValueError(f"filler is {filler!r}; choose 'silence' or 'noise_floor'")


def what_remains(magnitude: Tensor, filler: Removed) -> Tensor:
    """Magnitude left in each bin when it is removed, (batch, freq, time): 0, or at most the clip's noise floor."""
    if filler == "silence":
        return torch.zeros_like(magnitude)
    return torch.minimum(noise_floor(magnitude), magnitude)


def noise_like(stft: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Gaussian magnitude with each frequency's mean and deviation, clamped at 0, and random phase; (n, freq, time).

    Args:
        stft: (1, freq, time), or (batch, freq, time) to shape one draw (n = 1) by each clip.
        n: number of draws.
        generator: on the CPU.
    """
    magnitude, shape = stft.abs(), (n, *stft.shape[1:])
    mean = magnitude.mean(2, keepdim=True)
    spread = magnitude.std(2, keepdim=True, correction=0)
    drawn, turn = (each(shape, generator=generator).to(magnitude) for each in (torch.randn, torch.rand))
    level = (mean + spread * drawn).clamp(min=0)
    return torch.polar(level, (2 * torch.pi * turn).expand_as(level))


def without_denormals(spectrum: Tensor) -> Tensor:
    """Sets bins below the smallest normal float to 0, where torch's gradient of |z| is NaN.

    Such bins occur where a filler fades to silence.
    """
    return spectrum * (spectrum.detach().abs() >= torch.finfo(torch.float32).tiny)


def require(package: str, method: object) -> None:
    """Checks that a package is installed, so that its absence is one line instead of a traceback.

    Raises:
        ValueError: if it is not; the message says how to install it.
    """
    if find_spec(package) is None:
        raise ValueError(f"{type(method).__name__} needs {package}; install it with: pip install {package}")


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators of torch and numpy, from which captum draws, and restores their state afterwards."""
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
    """The `update` of a progress bar if there are more than `LONG` passes, else a function that does nothing."""
    if passes <= LONG:
        yield lambda count: None
        return
    with tqdm(total=passes, desc=name, unit="pass", leave=False, disable=None) as bar:
        yield bar.update
