"""Data types of the processing chain; interfaces of classifiers, interpreters and trainable objects. Read first.

Axes everywhere: waveforms (batch, samples); spectrograms (batch, freq, time); feature maps (batch, channel, freq,
time); scores (batch, classes). Waveforms are mono float32, nominally in [-1, 1]; magnitudes are linear amplitudes.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from audiointerp.recipe.signatures import nearest
from audiointerp.sound import files as audio
from audiointerp.sound.logfrequency import LogFrequency
from audiointerp.sound.masking import Domain
from audiointerp.sound.spectrogram import STFT
from audiointerp.sound.waveform import Waveform

if TYPE_CHECKING:
    from typing_extensions import Self

    from audiointerp.results.showing import Players, ShownFigure

SHOWN_ROWS = 3  # clips of a batch of which a text or a notebook shows details
ALIKE = 0.3  # correlation of two rows above which they are probably the channels of one recording
FEW_SAMPLES, MANY_ROWS = 32, 1000  # of a table (samples, channels) that was meant as (channels, samples)
Target = int | str | Sequence[int] | Sequence[str] | Tensor | None
Network = TypeVar("Network", bound=nn.Module)

__all__ = [
    "BandClassifier",
    "Batch",
    "Classifier",
    "Interpretation",
    "Interpreter",
    "LogitsError",
    "Prediction",
    "Target",
    "Trainable",
    "as_waveform",
    "check_classifier",
    "check_gradient",
    "check_stem",
    "check_waveform",
    "frozen",
    "label_names",
    "plot_comparison",
    "resolve_target",
]


class LogitsError(ValueError):
    """Logits that are NaN or infinite; code that knows the sound adds its name."""


@dataclass(frozen=True)
class Prediction:
    """A classifier's output for a batch.

    Attributes:
        logits: (batch, classes), before softmax or sigmoid.
        probabilities: (batch, classes), softmax of the logits, or their sigmoid when multilabel.
        embedding: (batch, channel), mean over frequency and time of the last feature map, or None.
        feature_maps: each (batch, channel, freq, time), earliest first; may be empty.
    """

    logits: Tensor
    probabilities: Tensor
    embedding: Tensor | None = None
    feature_maps: tuple[Tensor, ...] = ()

    @classmethod
    def from_logits(cls, logits: Tensor, multilabel: bool, **rest) -> Prediction:
        """Prediction whose probabilities are the softmax (multilabel: sigmoid) of the logits.

        Every classifier's output passes here, so NaN stops here. While training, the loop looks at the loss instead.

        Raises:
            LogitsError: if the classifier is not being trained and a logit is NaN or infinite.
        """
        # Tensors on the device "meta" have shapes only.
        if not (logits.requires_grad or logits.is_meta) and not bool(torch.isfinite(logits).all()):
            raise LogitsError("the classifier returned NaN or infinite logits; its weights are broken, or it overflows")
        probabilities = logits.sigmoid() if multilabel else logits.softmax(-1)
        return cls(logits, probabilities, **rest)

    @property
    def predicted(self) -> Tensor:
        """Index of the highest logit, (batch,)."""
        return self.logits.argmax(-1)

    def __repr__(self) -> str:
        """One line instead of all numbers.

        >>> Prediction.from_logits(torch.tensor([[0.0, 2.0]]), multilabel=False)
        Prediction(clips=1, classes=2, predicted=[1], probability=[0.88])
        """
        clips, classes = self.logits.shape
        numbers = self.predicted.tolist()[:SHOWN_ROWS], self.probabilities.max(-1).values.tolist()[:SHOWN_ROWS]
        more = ", ..." if clips > SHOWN_ROWS else ""
        return (
            f"Prediction(clips={clips}, classes={classes}, predicted=[{', '.join(map(str, numbers[0]))}{more}], "
            f"probability=[{', '.join(f'{each:.2f}' for each in numbers[1])}{more}])"
        )


@dataclass(frozen=True)
class Interpretation:
    """A sound that explains a decision, at the level and length of the input.

    Attributes:
        waveform: (batch, samples), the input multiplied by the mask.
        residual: (batch, samples), the input multiplied by `1 - mask` in the same domain.
        target: (batch, classes) bool, the set of classes explained.
        prediction: the classifier's prediction on the input.
        input_gain: (batch,), the factor that brought each input to peak 1. Waveform and residual are classified at this
            level: `classifier(waveform * input_gain[:, None])`.
        mask: (batch, freq, time) in [0, 1], 1 = keep, or None where the method has no mask on the STFT grid.
        domain: the quantity that the mask multiplies, "log_magnitude" or "magnitude"; None without a mask.
        details: values specific to the method (codes, relevances, ...).
        sample_rate: in Hz.
        labels: the classifier's class names, to show it; () if they are not known.
        explained: (batch, samples), the input; None: waveform + residual, which equal it in the magnitude domain.

    A notebook shows it with players, spectrograms, mask and likeliest labels.
    """

    waveform: Tensor
    residual: Tensor
    target: Tensor
    prediction: Prediction
    input_gain: Tensor
    sample_rate: int
    mask: Tensor | None = None
    domain: Domain | None = None
    details: dict[str, Tensor] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    explained: Tensor | None = None

    def __repr__(self) -> str:
        """One line instead of all samples."""
        clips, samples = self.waveform.shape
        shown = [self._names(self.target[row].nonzero()[:, 0].tolist()) for row in range(min(clips, SHOWN_ROWS))]
        more = ", ..." if clips > SHOWN_ROWS else ""
        mask = "none" if self.mask is None else f"{tuple(self.mask.shape)} on the {str(self.domain).replace('_', ' ')}"
        return (
            f"Interpretation(clips={clips}, samples={samples} at {self.sample_rate} Hz, "
            f"target=[{', '.join(shown)}{more}], mask={mask}, {self.prediction!r})"
        )

    def _repr_html_(self) -> str:
        """Players, spectrograms and labels of the first clips, for notebooks."""
        from audiointerp.results.showing import clip_html

        parts = []
        for row in range(min(len(self.waveform), SHOWN_ROWS)):
            probabilities = self.prediction.probabilities[row]
            order = probabilities.argsort(descending=True, stable=True)[:5].tolist()
            likeliest = [(self._names([number]), float(probabilities[number])) for number in order]
            parts.append(clip_html(likeliest, self.plot(row), self.listen(row)))
        left = len(self.waveform) - len(parts)
        return "".join(parts) + (f"<p>{left} more clips are not shown</p>" if left else "")

    def plot(self, row: int = 0) -> ShownFigure:
        """The figure of one clip: input, mask and interpretation over seconds and Hz. A notebook shows it.

        Args:
            row: of the batch.

        Raises:
            IndexError: if the batch has no such row.
        """
        from audiointerp.results.figures import draw_interpretation

        waveform, kept = (each[row].detach().cpu().numpy() for each in (self._input(), self.waveform))
        mask = None if self.mask is None else self.mask[row].detach().cpu().numpy()
        return draw_interpretation(waveform, kept, mask, self.sample_rate, self._title(row))

    def listen(self, row: int = 0) -> Players:
        """Players of the input, the interpretation and the rest of one clip, which a notebook shows.

        Args:
            row: of the batch.

        Raises:
            IndexError: if the batch has no such row.
        """
        from audiointerp.results.showing import Players

        signals = {"Input": self._input(), "Interpretation": self.waveform, "Rest": self.residual}
        sounds = {name: signal[row].detach().cpu().numpy() for name, signal in signals.items()}
        return Players(self._title(row), sounds, self.sample_rate)

    def _input(self) -> Tensor:
        return self.waveform + self.residual if self.explained is None else self.explained

    def _title(self, row: int) -> str:
        asked = self.target[row]
        probability = float(self.prediction.probabilities[row][asked].mean())
        return f"What speaks for {self._names(asked.nonzero()[:, 0].tolist())} ({probability:.2f})"

    def _names(self, numbers: Sequence[int]) -> str:
        """Names of classes, or their indices if the names are not known."""
        return " + ".join(self.labels[number] if self.labels else str(number) for number in numbers)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes interpretation.wav and residual.wav (float32), numbered per row when the batch has several.

        Returns:
            The paths written.
        """
        paths = []
        for row in range(len(self.waveform)):
            suffix = "" if len(self.waveform) == 1 else f"_{row}"
            for name, signal in (("interpretation", self.waveform), ("residual", self.residual)):
                path = Path(folder) / f"{name}{suffix}.wav"
                audio.write(path, signal[row], self.sample_rate)
                paths.append(path)
        return paths


@dataclass(frozen=True)
class Batch:
    """A batch of clips for training.

    Attributes:
        waveform: (batch, samples).
        label: (batch,) class indices, or (batch, classes) float: a distribution over classes (mixup) or a 0/1 set of
            labels (multilabel).
        index: (batch,), position of each clip in its dataset.
        feature_maps: those of the frozen classifier, if they were computed before.
        stem: (batch, samples), the part of the waveform that is the sound of `label`, where it is known.
        features: those of the classifier, if they were computed before; the waveform may then be (batch, 0).
    """

    waveform: Tensor
    label: Tensor
    index: Tensor
    feature_maps: tuple[Tensor, ...] | None = None
    stem: Tensor | None = None
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.waveform)

    def replace(self, **changes) -> Batch:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def rows(self, first: int, last: int) -> Batch:
        """The clips from `first` to `last` - 1."""
        some: dict[str, Any] = {
            name: value[first:last] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        if self.feature_maps is not None:
            some["feature_maps"] = tuple(each[first:last] for each in self.feature_maps)
        return replace(self, **some)

    def to(self, device: torch.device | str) -> Batch:
        """A copy on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        if self.feature_maps is not None:
            moved["feature_maps"] = tuple(each.to(device) for each in self.feature_maps)
        return replace(self, **moved)


class Classifier(nn.Module, ABC):
    """Waveform -> Prediction in two steps, so that masked features can be classified without computing a waveform.

    Attributes:
        labels: class names; their order is the class index.
        sample_rate: in Hz.
        multilabel: sigmoid instead of softmax; several labels may apply to a clip.
        spectrogram: the STFT that masks refer to.
        config: constructor arguments as plain values, from which a bundle builds it again; None for a classifier that
            bundles do not store.
        source: name by which a bundle loads a classifier without `config`, such as "efficientat:mn04_as".
        source_labels: class names that were given together with `source`, if any.
        no_gradient: why no gradient of the logits reaches the waveform, as the end of a sentence; None if one does.
        reads_magnitude: `classify_stft` uses magnitudes only; it takes a complex STFT or real magnitudes.
    """

    config: dict[str, Any] | None = None
    source: str | None = None
    source_labels: tuple[str, ...] | None = None
    no_gradient: str | None = None
    reads_magnitude: bool = False
    labels: tuple[str, ...]
    sample_rate: int
    multilabel: bool
    spectrogram: STFT

    @abstractmethod
    def features(self, waveform: Tensor) -> Tensor:
        """Input of `classify`, computed from a waveform (batch, samples), whose level is not changed."""

    @abstractmethod
    def classify(self, features: Tensor) -> Prediction:
        """Prediction of a batch of features."""

    @property
    def device(self) -> torch.device:
        """The classifier's device: that of its STFT's window, which moves along with its weights."""
        return self.spectrogram.window.device

    def features_of(self, batch: Batch) -> Tensor:
        """Features of a batch: `batch.features` if given, else computed from its waveform."""
        return self.features(batch.waveform) if batch.features is None else batch.features

    def forward(self, waveform: Tensor) -> Prediction:
        """Prediction of (batch, samples).

        Raises:
            ValueError: for a `Waveform` at another rate.
        """
        return self.classify(self.features(_at_rate(waveform, self)))

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        """Prediction of a (masked) complex STFT; through the inverse STFT unless the classifier reads magnitudes."""
        return self(self.spectrogram.inverse(stft, samples))

    def classify_maps(self, feature_maps: tuple[Tensor, ...]) -> Prediction:
        """Prediction from feature maps computed before, so that cached maps need no second pass.

        Raises:
            ValueError: if the classifier cannot predict from its feature maps.
        """
        raise ValueError(f"{type(self).__name__} cannot predict from feature maps; give batches without them")


class BandClassifier(Classifier):
    """A classifier whose features are the level, cosine and sine of log-frequency bands, (batch, 3, band).

    Attributes:
        log_frequency: the front end, with the bands' frequencies and the ways back from features to sound.
    """

    log_frequency: LogFrequency

    @property
    def bands(self) -> int:
        """Number of bands."""
        return len(self.log_frequency.frequencies)

    def features(self, waveform: Tensor) -> Tensor:
        """Level, cosine and sine of the bands, (batch, 3, band)."""
        return self.log_frequency(waveform)


class Interpreter(ABC):
    """Explains a classifier's decision with a sound: `Interpreter(classifier).interpret(waveform, target)`.

    The classifier's weights, mode, gradients and hooks are left unchanged. The result for a clip does not depend on the
    other clips of its batch.

    Attributes:
        needs_stem: True for oracle controls, which need the stem.
        passes: number of classifier passes for a clip of 5 s (a backward pass counts as two more).
        from_features: `passes` counts calls of `classify` only, as the clip's features are computed once.
        config: constructor arguments as plain values, from which a bundle builds a trained interpreter again.
    """

    needs_stem: bool = False
    from_features: bool = False
    config: dict[str, Any] | None = None

    def __init__(self, classifier: Classifier):
        check_classifier(classifier, type(self).__name__)
        self.classifier = classifier

    @property
    def passes(self) -> int:
        """Number of classifier passes for a clip of 5 s (a backward pass counts as two more)."""
        return 1

    def over_time(self, made: Interpretation) -> Tensor:
        """How relevant each moment is to the target, (batch, frames) of the classifier's STFT; any scale and sign.

        Here the energy of the explanation's sound; methods that score moments or bins return their scores.

        Args:
            made: an explanation that this method made.
        """
        return self.classifier.spectrogram(made.waveform * made.input_gain[:, None]).abs().square().sum(1)

    def chosen(self, made: Interpretation) -> list[str] | None:
        """Of an interpreter that chooses among methods, the name of the method shown for each clip; else None."""
        return None

    def scaleogram(self, made: Interpretation) -> list[tuple[Any, float, float, float, float]] | None:
        """What a figure of an explanation without a mask shows instead, see `results.figures`; None: nothing."""
        return None

    @abstractmethod
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Interpretation of (batch, samples); `stem`, the true sound, is for oracle controls only.

        Implementations bring the waveform into this form by `as_waveform`, so that arrays and single clips work.
        """

    def on(self, classifier: Classifier) -> Self:
        """The same method, with the same settings and weights, on another classifier: a copy, as sanity checks need."""
        twin = copy.copy(self)
        # Trained methods are modules; their classifier is no submodule.
        object.__setattr__(twin, "classifier", classifier)
        return twin

    def several_targets(self) -> AbstractContextManager[None]:
        """Within it, several targets of one clip are explained: work that does not depend on the target may be kept."""
        return nullcontext()


class Trainable(nn.Module, ABC):
    """A module that the training loop can train: it defines the losses and the parameters that they train.

    Attributes:
        lr_scales: group -> factor of the learning rate; 1 for groups that are not named.
        repeats: group -> number of steps on each batch; 1 for groups that are not named.
        label_sets: whether it takes labels as sets, (batch, classes), so that augmentation may unite the labels of
            mixed clips (`Remix` with `union`), also for a classifier of one label per clip.
    """

    lr_scales: Mapping[str, float] = {}
    repeats: Mapping[str, int] = {}
    label_sets: bool = False

    @abstractmethod
    def losses(self, batch: Batch, group: str) -> Mapping[str, Tensor]:
        """Named scalar losses of a batch; the recipe gives their weights."""

    @abstractmethod
    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Group name -> parameters; each group has its optimiser and is stepped in turn."""

    def on_start(self, batches: Iterable[Batch]) -> None:
        """Called once before the first step, with the batches of the first epoch."""

    def on_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch, from 0."""

    def scores(self, batch: Batch) -> Mapping[str, Tensor]:
        """Name -> value of each clip, (batch,), for the validation columns of the log."""
        return {}

    def epoch_scores(self) -> Mapping[str, float]:
        """Columns of the log with one value per epoch."""
        return {}


@contextmanager
def frozen(network: Network) -> Iterator[Network]:
    """A network in evaluation mode, its weights without gradient; mode and flags are restored, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    flags = [(each, each.requires_grad) for each in network.parameters()]
    try:
        network.eval()
        for each, _ in flags:
            each.requires_grad_(False)
        yield network
    finally:
        for module, mode in modes:
            module.training = mode
        for each, flag in flags:
            each.requires_grad_(flag)


def check_gradient(classifier: Classifier, method: str, logits: Tensor | None = None) -> None:
    """Checks that a method that needs gradients can have them.

    Args:
        classifier: the classifier to explain.
        method: name of the method, for the message.
        logits: computed from an input that requires a gradient; None: only what the classifier states is checked.

    Raises:
        ValueError: if no gradient of the logits reaches the waveform.
    """
    if classifier.no_gradient is None and (logits is None or logits.requires_grad):
        return
    reason = classifier.no_gradient or "its forward leaves torch or detaches its input"
    raise ValueError(
        f"{method} needs gradients, but none reaches the waveform through {type(classifier).__name__}: {reason}; "
        "lime, rise and occlusion need none"
    )


def check_classifier(classifier: object, method: str) -> None:
    """Checks that a method is made for a classifier, not for a bare module or a name.

    Raises:
        ValueError: saying how to make a classifier of it.
    """
    if isinstance(classifier, Classifier):
        return
    if isinstance(classifier, nn.Module):
        name = type(classifier).__name__
        raise ValueError(
            f"{method} explains a classifier, and {name} is a bare module; wrap it: "
            f"{method}(audiointerp.External(module, labels, sample_rate)), where module maps (batch, samples) to logits"
        )
    if isinstance(classifier, str):
        raise ValueError(
            f"{method} explains a classifier, not a text; load it: {method}(audiointerp.load({classifier!r}))"
        )
    raise ValueError(f"{method} explains a classifier, not a {type(classifier).__name__}; see audiointerp.External")


def as_waveform(waveform: Any, classifier: Classifier, target: Target = None, name: str = "waveform") -> Tensor:
    """A sound in the form that methods compute with: a float32 tensor (batch, samples) on the classifier's device.

    Args:
        waveform: a tensor or an array, (batch, samples), or (samples,) for one clip, of floating-point samples. A
            `Waveform` must be at the classifier's rate.
        classifier: the classifier that takes it.
        target: what is explained. Two rows with one common target that resemble each other are probably the channels of
            one recording, which a warning says.
        name: of the sound, in messages.

    Raises:
        ValueError: for another rate, other axes, integers, no samples, or NaN or infinite samples.
    """
    plain = _at_rate(waveform, classifier)
    plain = torch.as_tensor(plain) if isinstance(plain, (Tensor, np.ndarray, list, tuple)) else plain
    if not isinstance(plain, Tensor):
        what = f"{waveform!r}; read the file: audiointerp.read" if isinstance(waveform, str) else type(plain).__name__
        raise ValueError(f"{name} is {what}; give a tensor or an array (batch, samples)")
    if not plain.is_floating_point():
        raise ValueError(
            f"{name} has samples of type {plain.dtype}; give floating-point samples, nominally in [-1, 1], such as "
            "int16 samples divided by 32768"
        )
    plain = plain[None] if plain.ndim == 1 else plain
    check_waveform(plain, name)
    if plain.shape[1] <= FEW_SAMPLES and len(plain) >= MANY_ROWS:
        raise ValueError(
            f"{name} has shape {tuple(plain.shape)}, which would be {len(plain)} clips of {plain.shape[1]} samples; "
            "if it is (samples, channels), average the channels: waveform.mean(1)"
        )
    # Rows read by `read` are mono already, and a target for each row says that they are clips.
    one_target = target is None or isinstance(target, (int, str))
    if len(plain) == 2 and one_target and not isinstance(waveform, Waveform) and _alike(plain):
        warnings.warn(
            f"{name} {tuple(plain.shape)} is explained as two clips, but its rows resemble each other; if they are "
            "the channels of one recording, average them: waveform.mean(0)",
            stacklevel=3,
        )
    return plain.to(classifier.device, torch.float32)


def _at_rate(waveform: Any, classifier: Classifier) -> Any:
    """The waveform without its rate, which is the classifier's."""
    if not isinstance(waveform, Waveform):
        return waveform
    if waveform.sample_rate != classifier.sample_rate:
        rate = classifier.sample_rate
        raise ValueError(
            f"the waveform is at {waveform.sample_rate} Hz, {type(classifier).__name__} takes {rate} Hz; give "
            f"waveform.resample({rate}), or read the file with audiointerp.read(path, {rate})"
        )
    return waveform.plain


def _alike(rows: Tensor) -> bool:
    """Whether two different rows are correlated, at least as strongly as the channels of a recording."""
    first, second = (rows.detach().double() - rows.detach().double().mean(1, keepdim=True)).cpu()
    size = float(first.norm() * second.norm())
    return size > 0 and not torch.equal(first, second) and abs(float(first @ second)) > ALIKE * size


def label_names(labels: Any) -> tuple[str, ...]:
    """Class names in the order of the logits, from a sequence or from a Hugging Face `id2label` dictionary.

    >>> label_names({1: "rain", 0: "dog"}), label_names({"0": "dog", "1": "rain"}), label_names(["dog", "rain"])
    (('dog', 'rain'), ('dog', 'rain'), ('dog', 'rain'))

    Raises:
        ValueError: for a single text, or a dictionary whose keys are not the indices from 0.
    """
    if isinstance(labels, str):
        raise ValueError(f"labels is the text {labels!r}; give a list of class names, in the order of the logits")
    if not isinstance(labels, Mapping):
        return tuple(labels)
    numbers = {str(key): name for key, name in labels.items()}
    wanted = [str(index) for index in range(len(numbers))]
    if set(numbers) != set(wanted) or not all(isinstance(name, str) for name in numbers.values()):
        shown = ", ".join(f"{key!r}: {name!r}" for key, name in list(labels.items())[:3])
        raise ValueError(
            f"labels is a dictionary {{{shown}, ...}}; its keys must be the indices 0 to {len(numbers) - 1} and its "
            "values names, as in id2label of Hugging Face"
        )
    return tuple(numbers[each] for each in wanted)


def check_waveform(waveform: Tensor, name: str = "waveform") -> None:
    """Checks that a waveform, called by its name in messages, has samples and that all of them are finite.

    Raises:
        ValueError: if the waveform is not (batch, samples), is empty, or has NaN or infinite samples.
    """
    if waveform.ndim != 2 or waveform.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(waveform.shape)}; expected (batch, samples), at least 1 sample")
    if not torch.isfinite(waveform).all():
        raise ValueError(f"{name} has NaN or infinite samples; repair or leave out this recording")


def check_stem(stem: Tensor, waveform: Tensor) -> None:
    """Checks that a stem belongs to a waveform.

    Raises:
        ValueError: if it has another shape, or NaN or infinite samples.
    """
    if stem.shape != waveform.shape:
        raise ValueError(
            f"stem has shape {tuple(stem.shape)}, the waveform {tuple(waveform.shape)}; a stem is a part of the sound"
        )
    if not torch.isfinite(stem).all():
        raise ValueError("stem has NaN or infinite samples; repair or leave out this mixture")


def resolve_target(
    target: Target, prediction: Prediction, multilabel: bool, threshold: float = 0.5, labels: Sequence[str] = ()
) -> Tensor:
    """The classes to explain, (batch, classes) bool.

    Args:
        target: None for the predicted class (multilabel: every label above the threshold, or the likeliest if none
            is); an int or a class name for all rows; a LongTensor (batch,) or a list of indices or names, one for each
            row; or a BoolTensor (batch, classes), a set per row.
        prediction: the classifier's prediction on the batch.
        multilabel: whether several classes may apply to a clip.
        threshold: probability above which a label applies.
        labels: class names, for a target given by name.

    Raises:
        ValueError: if the class does not exist, the shape does not fit the batch, or a set is empty.
    """
    if isinstance(target, str):
        target = _index_of(target, labels)
    elif isinstance(target, (list, tuple)):
        target = torch.tensor([_index_of(each, labels) if isinstance(each, str) else each for each in target])
    batch, classes = prediction.logits.shape
    if isinstance(target, Tensor) and target.dtype == torch.bool:
        if target.shape != (batch, classes):
            raise ValueError(f"target has shape {tuple(target.shape)}; a set of classes is {(batch, classes)}")
        if not target.any(1).all():
            raise ValueError("target is an empty set of classes for some clip; name at least one class")
        return target.to(prediction.logits.device)
    strongest = nn.functional.one_hot(prediction.predicted, classes).bool()
    if target is None:
        above = prediction.probabilities > threshold
        return torch.where(above.any(1, keepdim=True), above, strongest) if multilabel else strongest
    index = torch.as_tensor(target, device=prediction.logits.device)
    index = index.expand(batch) if index.ndim == 0 else index
    if index.shape != (batch,) or index.is_floating_point():
        raise ValueError(
            f"target has shape {tuple(index.shape)}, type {index.dtype}; expected ({batch},) class indices"
        )
    if ((index < 0) | (index >= classes)).any():
        raise ValueError(f"target {index.tolist()} names a class outside 0..{classes - 1}")
    return nn.functional.one_hot(index.long(), classes).bool()


def _index_of(name: str, labels: Sequence[str]) -> int:
    """Index of the class of this name; capital letters do not matter."""
    if not labels:
        raise ValueError(f"target is {name!r}; give the class index, classifier.labels.index({name!r})")
    lowered = [each.lower() for each in labels]
    if name in labels:
        return list(labels).index(name)
    if name.lower() in lowered:
        return lowered.index(name.lower())
    shown = ", ".join(labels[:10]) + (f", ... ({len(labels)} in all)" if len(labels) > 10 else "")
    raise ValueError(f"target {name!r} is not a class{nearest(name, labels)}; the classes are {shown}")


def plot_comparison(interpretations: Mapping[str, Interpretation], row: int = 0) -> ShownFigure:
    """The figure of several explanations of one clip: the input, then a mask and an interpretation for each.

    All spectrograms are in dB relative to the input's loudest bin. A notebook shows it.

    Args:
        interpretations: name -> explanation of the same sound, such as one for each method or one for each class.
        row: of the batch.

    Raises:
        ValueError: if there is no explanation, or they explain different sounds.
        IndexError: if the batch has no such row.
    """
    from audiointerp.results.figures import draw_comparison

    if not interpretations:
        raise ValueError("no interpretation is given; name at least one, as in plot_comparison({'lime': made})")
    heard = [made._input()[row].detach().cpu() for made in interpretations.values()]
    for name, each in zip(interpretations, heard):
        if each.shape != heard[0].shape or not torch.allclose(each, heard[0], atol=1e-3):
            raise ValueError(
                f"{name!r} explains another sound than {next(iter(interpretations))!r}; compare those of one"
            )
    rows = {
        f"{name}: {made._title(row)}": (
            made.waveform[row].detach().cpu().numpy(),
            None if made.mask is None else made.mask[row].detach().cpu().numpy(),
        )
        for name, made in interpretations.items()
    }
    return draw_comparison(heard[0].numpy(), rows, next(iter(interpretations.values())).sample_rate)
