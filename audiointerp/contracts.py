"""What flows along the chain, and what a classifier, an interpreter and a trainable object are. Read first.

Axes everywhere: waveforms (batch, samples); spectrograms (batch, freq, time); feature maps (batch, channel, freq,
time); scores (batch, classes). Waveforms are mono float32, nominally in [-1, 1]; magnitudes are linear amplitudes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from audiointerp.sound import files as audio
from audiointerp.sound.masking import Domain

if TYPE_CHECKING:
    from audiointerp.sound.spectrogram import STFT

Target = int | Tensor | None

__all__ = [
    "Batch",
    "Classifier",
    "Interpretation",
    "Interpreter",
    "Prediction",
    "Target",
    "Trainable",
    "resolve_target",
]


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a batch.

    Attributes:
        logits: (batch, classes), before softmax or sigmoid.
        probabilities: (batch, classes), softmax of the logits, or their sigmoid when multilabel. Computed once, here.
        embedding: (batch, channel), mean over frequency and time of the last feature map, or None.
        feature_maps: each (batch, channel, freq, time), earliest first; may be empty.
    """

    logits: Tensor
    probabilities: Tensor
    embedding: Tensor | None = None
    feature_maps: tuple[Tensor, ...] = ()

    @classmethod
    def from_logits(cls, logits: Tensor, multilabel: bool, **rest) -> Prediction:
        """Prediction whose probabilities are the one softmax (or sigmoid) of the logits."""
        probabilities = logits.sigmoid() if multilabel else logits.softmax(-1)
        return cls(logits, probabilities, **rest)

    @property
    def predicted(self) -> Tensor:
        """Index of the highest logit, (batch,)."""
        return self.logits.argmax(-1)


@dataclass(frozen=True)
class Interpretation:
    """A sound that explains a decision, at the level and length of the input.

    Attributes:
        waveform: (batch, samples), what the mask keeps.
        residual: (batch, samples), what `1 - mask` keeps in the same domain.
        target: (batch, classes) bool, the set of classes explained.
        prediction: the classifier's prediction on the input.
        input_gain: (batch,), the factor that brought each input to peak 1. Waveform and residual are judged at it:
            `classifier(waveform * input_gain[:, None])`.
        mask: (batch, freq, time) in [0, 1], 1 = keep, or None where the method has no mask on the STFT grid.
        domain: what the mask multiplies, "log_magnitude" or "magnitude"; None without a mask.
        details: what this method alone knows (codes, relevances, ...).
        sample_rate: in Hz.
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
    """Clips on their way into training.

    Attributes:
        waveform: (batch, samples).
        label: (batch,) class indices, or (batch, classes) float: a distribution over classes (mixup) or a 0/1 set of
            labels (multilabel).
        index: (batch,), position of each clip in its dataset.
        feature_maps: the frozen classifier's, when they were computed before.
        stem: (batch, samples), the part of the waveform that is the sound of `label`, where it is known.
        features: the classifier's front end's, when they were computed before; the waveform may then be (batch, 0).
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

    def to(self, device: torch.device | str) -> Batch:
        """A copy on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        if self.feature_maps is not None:
            moved["feature_maps"] = tuple(each.to(device) for each in self.feature_maps)
        return replace(self, **moved)


class Classifier(nn.Module, ABC):
    """Waveform -> Prediction, in two steps so that a masked spectrogram can be judged without a detour.

    Attributes:
        labels: class names; their order is the class index.
        sample_rate: in Hz.
        multilabel: sigmoid instead of softmax; several labels may hold.
        spectrogram: the STFT that masks live on.
        config: constructor arguments as plain values, from which a bundle builds it again; None for a classifier that
            stays with its owner.
        reads_magnitude: `classify_stft` looks at magnitudes only, and takes them real as well as complex.
    """

    config: dict[str, Any] | None = None
    reads_magnitude: bool = False
    labels: tuple[str, ...]
    sample_rate: int
    multilabel: bool
    spectrogram: STFT

    @abstractmethod
    def features(self, waveform: Tensor) -> Tensor:
        """What `classify` reads, of (batch, samples). The waveform is taken as it is, never rescaled."""

    @abstractmethod
    def classify(self, features: Tensor) -> Prediction:
        """Prediction of a batch of features."""

    def features_of(self, batch: Batch) -> Tensor:
        """Features of a batch: those computed before, else of its waveform."""
        return self.features(batch.waveform) if batch.features is None else batch.features

    def forward(self, waveform: Tensor) -> Prediction:
        """Prediction of (batch, samples)."""
        return self.classify(self.features(waveform))

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        """Prediction of a (masked) complex STFT; through the inverse STFT unless the classifier reads magnitudes."""
        return self(self.spectrogram.inverse(stft, samples))


class Interpreter(ABC):
    """Explains a classifier's decision with a sound: `Interpreter(classifier).interpret(waveform, target)`.

    The classifier's weights, mode, gradients and hooks are left as found. A row of a batch equals a batch of one.

    Attributes:
        needs_stem: an oracle control, which explains only where the stem is given.
    """

    needs_stem: bool = False

    def __init__(self, classifier: Classifier):
        self.classifier = classifier

    @abstractmethod
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Interpretation of (batch, samples); `stem`, the known true part, is for oracle controls only."""


@runtime_checkable
class Trainable(Protocol):
    """What the one training loop can train (a `torch.nn.Module` with these two methods).

    Optional: `on_start(batches)` once before the first step, `on_epoch(epoch)` at the start of each epoch,
    `scores(batch) -> {name: (batch,) values}` for the validation columns of the log, and
    `epoch_scores() -> {name: number}` for columns that are known once an epoch; `lr_scales`, group -> factor of the
    learning rate; `repeats`, group -> its steps on each batch.
    """

    def losses(self, batch: Batch, group: str) -> Mapping[str, Tensor]:
        """Named scalar losses of a batch; their weights stand in the recipe."""
        ...

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Group name -> parameters; each group has its optimiser and is stepped in turn."""
        ...


def resolve_target(target: Target, prediction: Prediction, multilabel: bool, threshold: float = 0.5) -> Tensor:
    """The classes to explain, (batch, classes) bool.

    Args:
        target: None for the predicted class (multilabel: every label above the threshold, or the strongest if none
            is); an int for all rows; a LongTensor (batch,); or a BoolTensor (batch, classes), a set per row.
        prediction: the classifier's, on the batch.
        multilabel: whether several classes may hold.
        threshold: probability above which a label holds.

    Raises:
        ValueError: if the class does not exist, the shape does not fit the batch, or a set is empty.
    """
    if isinstance(target, str):
        raise ValueError(f"target is {target!r}; give the class index, classifier.labels.index({target!r})")
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
