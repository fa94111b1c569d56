"""The base classes of interpreters with a mask on the STFT grid (level, prediction, target, mask -> waveform), and of
those with weights of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiointerp.contracts import (
    Batch,
    Classifier,
    Interpretation,
    Interpreter,
    Prediction,
    Target,
    Trainable,
    as_waveform,
    check_classifier,
    check_stem,
    frozen,
    resolve_target,
)
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.masking import Domain, apply_mask, binary_mask, fill_with_noise_floor
from audiointerp.sound.waveform import Waveform

__all__ = [
    "MapLayout",
    "MaskInterpreter",
    "ModuleInterpreter",
    "NetworkInterpreter",
    "Scene",
    "TrainedInterpreter",
    "TrainedNetwork",
    "check_layers",
    "map_layouts",
    "part_scores",
]


@dataclass(frozen=True)
class Scene:
    """The data from which a method makes its mask.

    Attributes:
        waveform: (batch, samples), at peak 1.
        stft: complex, (batch, freq, time).
        prediction: the classifier's prediction for the waveform.
        target: (batch, classes) bool, the classes to explain.
        stem: complex STFT of the target's known stem in a mixture, for oracle controls only.
    """

    waveform: Tensor
    stft: Tensor
    prediction: Prediction
    target: Tensor
    stem: Tensor | None = None


class MaskInterpreter(Interpreter):
    """An interpreter that makes a mask; subclasses write `make_mask`.

    Attributes:
        domain: the quantity that the mask multiplies, "magnitude" or "log_magnitude".
        binary: round the mask at 0.5 (the PIQ paper's binary-masking mode).
        fill: leave removed bins at the clip's noise floor instead of at silence.
        only_binary: whether all values of its masks are 0 or 1, so that both domains give the same sound.
    """

    domain: Domain = "magnitude"
    only_binary: bool = False
    binary: bool = False
    fill: bool = False

    @abstractmethod
    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask (batch, freq, time) in [0, 1], and the method's further results by name, each (batch, ...)."""

    def finished_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The mask that is applied to the sound: `make_mask`, rounded and filled as `binary` and `fill` state."""
        mask, details = self.make_mask(scene)
        mask = binary_mask(mask) if self.binary else mask
        return fill_with_noise_floor(mask, scene.stft.abs(), self.domain) if self.fill else mask, details

    @torch.no_grad()
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Explains the classifier's decision on each row of (batch, samples).

        Args:
            waveform: at any level; the classifier takes each row at peak 1.
            target: the classes to explain, see `contracts.resolve_target`.
            stem: (batch, samples), the target's stem at the waveform's level, for oracle controls only.

        Raises:
            ValueError: if the waveform is not (batch, samples), is empty, or has NaN or infinite samples; if the stem
                has another shape; if the classifier returns NaN.
        """
        waveform = as_waveform(waveform, self.classifier, target)
        if stem is not None:
            stem = as_waveform(stem, self.classifier, (), "stem")  # of rows that were looked at above
            check_stem(stem, waveform)
        scaled, gain = normalize_peak(waveform)
        samples = waveform.shape[-1]
        with frozen(self.classifier) as classifier:
            stft = classifier.spectrogram(scaled)
            prediction = classifier.classify_stft(stft, samples)
            asked = resolve_target(target, prediction, classifier.multilabel, labels=classifier.labels)
            stem_stft = None if stem is None else classifier.spectrogram(stem * gain[:, None])
            scene = Scene(scaled, stft, prediction, asked, stem_stft)
            mask, details = self.finished_mask(scene)
        kept, left = (apply_mask(stft, each, self.domain) for each in (mask, 1 - mask))
        inverse = classifier.spectrogram.inverse
        interpretation = Interpretation(
            waveform=inverse(kept, samples) / gain[:, None],
            residual=inverse(left, samples) / gain[:, None],
            target=asked,
            prediction=prediction,
            input_gain=gain,
            sample_rate=classifier.sample_rate,
            mask=mask,
            domain=self.domain,
            details=details,
            labels=tuple(classifier.labels),
            explained=waveform,
        )
        return replace(interpretation, residual=waveform - interpretation.waveform) if self.additive else interpretation

    @property
    def additive(self) -> bool:
        """Whether waveform + residual = input; true in the magnitude domain, where the inverse STFT is linear."""
        return self.domain == "magnitude"


class NetworkInterpreter(Interpreter, nn.Module, ABC):
    """An interpreter with weights of its own, with or without a mask on the STFT grid.

    The classifier is not a submodule, so that training the interpreter never trains the classifier, saves its weights
    with each step, or switches it to training mode. `to` moves the classifier together with the interpreter.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "classifier":
            check_classifier(value, type(self).__name__)
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NetworkInterpreter:
        self.classifier._apply(fn, recurse)
        return super()._apply(fn, recurse)


class ModuleInterpreter(MaskInterpreter, NetworkInterpreter, ABC):
    """An interpreter with weights of its own that makes a mask on the STFT grid."""


class TrainedNetwork(NetworkInterpreter, Trainable):
    """An interpreter with weights of its own, trained by gradients on a frozen classifier's predictions."""

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[Tensor, Prediction]:
        """STFT and prediction; runs the classifier once per clip, or only its head when its feature maps are cached."""
        stft = self.classifier.spectrogram(batch.waveform)
        if batch.feature_maps is not None:
            return stft, self.classifier.classify_maps(batch.feature_maps)
        return stft, self.classifier.classify_stft(stft, batch.waveform.shape[-1])

    def heard(self, batch: Batch) -> Waveform:
        """A batch's clips with their rate: two of them are no channels of one recording."""
        return Waveform(batch.waveform, self.classifier.sample_rate)

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Validation scores per clip, see `scores_of`."""
        return self.scores_of(self.interpret(self.heard(batch)), batch.waveform)

    @abstractmethod
    def scores_of(self, made: Interpretation, waveform: Tensor) -> dict[str, Tensor]:
        """The scores that a trained method logs on a validation batch, each (batch,).

        "fidelity": whether the kept part is classified as a target class; "faithfulness": the fall of the target's
        probability on the residual; "mean_mask": the mean of the mask.
        """


class TrainedInterpreter(ModuleInterpreter, TrainedNetwork):
    """A trained interpreter that makes a mask on the STFT grid."""

    @torch.no_grad()
    def scores_of(self, made: Interpretation, waveform: Tensor) -> dict[str, Tensor]:
        """Fidelity, faithfulness and mean of the mask, by the classifier on the masked STFT."""
        assert made.mask is not None
        mask, samples = made.mask, waveform.shape[-1]
        with frozen(self.classifier) as classifier:
            stft = classifier.spectrogram(waveform * made.input_gain[:, None])
            kept, left = (
                classifier.classify_stft(apply_mask(stft, each, self.domain), samples) for each in (mask, 1 - mask)
            )
        return part_scores(made, kept, left) | {"mean_mask": mask.mean((1, 2))}


def part_scores(made: Interpretation, kept: Prediction, left: Prediction) -> dict[str, Tensor]:
    """The scores "fidelity" and "faithfulness", each (batch,), see `TrainedNetwork.scores_of`.

    Args:
        made: the explanation.
        kept, left: the classifier's predictions for the part that it keeps and for the rest.
    """
    target = made.target
    fall = ((made.prediction.probabilities - left.probabilities) * target).sum(1) / target.sum(1)
    return {"fidelity": target.gather(1, kept.predicted[:, None])[:, 0].float(), "faithfulness": fall}


class MapLayout(NamedTuple):
    """Size of a feature map of a classifier.

    Attributes:
        channels: number of channels.
        rows: number of rows, which does not depend on the clip's length.
        stride: STFT frames per column; None for a map whose number of columns does not depend on the clip's length.
    """

    channels: int
    rows: int
    stride: float | None


def map_layouts(classifier: Classifier) -> list[MapLayout]:
    """Layout of each feature map, earliest first, measured by two passes over silence of 64 and 448 frames."""
    sizes, frames = [], (64, 448)
    spectrogram = classifier.spectrogram
    with frozen(classifier), torch.no_grad():
        for each in frames:
            silence = torch.zeros(1, (each - 1) * spectrogram.hop_length, device=classifier.device)
            maps = classifier.classify_stft(spectrogram(silence), silence.shape[1]).feature_maps
            sizes.append([each.shape for each in maps])
    layouts = []
    for short, long in zip(*sizes):
        grown = long[3] - short[3]
        layouts.append(MapLayout(long[1], long[2], (frames[1] - frames[0]) / grown if grown > 0 else None))
    return layouts


def check_layers(method: str, layers: Sequence[int], maps: Sequence[Any]) -> None:
    """Checks that a classifier gives the feature maps that a method reads.

    Args:
        method: its name, for the message.
        layers: indices of feature maps; negative indices count from the last.
        maps: the classifier's feature maps, or their layouts.

    Raises:
        ValueError: if a feature map is missing, or `layers` is empty.
    """
    wrong = [layer for layer in layers if not -len(maps) <= layer < len(maps)]
    if wrong or not layers:
        asked = f"feature map {wrong[0]}" if wrong else "feature maps"
        raise ValueError(
            f"{method} reads {asked} of the classifier, which gives {len(maps)}; name its layers (layers=...)"
        )
