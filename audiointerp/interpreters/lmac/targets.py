"""The classes that L-MAC and LMAC-TD explain in training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.contracts import Batch, Prediction, resolve_target
from audiointerp.processes import dividing

TrainedOn = Literal["likeliest", "predicted", "label"]

__all__ = ["TrainedOn", "draw_likeliest", "is_label", "training_target"]


def training_target(
    batch: Batch, prediction: Prediction, multilabel: bool, condition: TrainedOn, likeliest: int, least: float
) -> Tensor:
    """The classes that are explained in training, (batch, classes) bool.

    Args:
        batch: the clips; their labels are read with "label" only.
        prediction: the classifier's.
        multilabel: whether several classes may apply to a clip.
        condition: "likeliest", see `draw_likeliest`; "predicted": the most probable one (multilabel: all above 0.5);
            "label": the clip's label.
        likeliest, least: see `draw_likeliest`.
    """
    if condition == "predicted":
        return resolve_target(None, prediction, multilabel)
    if condition == "label":
        return resolve_target(batch.label.bool() if batch.label.ndim == 2 else batch.label, prediction, multilabel)
    return draw_likeliest(prediction.probabilities, likeliest, least)


def is_label(batch: Batch, target: Tensor) -> Tensor:
    """(batch,) bool: whether all classes explained, (batch, classes) bool, are labels of the clip."""
    label = batch.label if batch.label.ndim == 2 else functional.one_hot(batch.label, target.shape[1])
    return ~(target & (label <= 0)).any(1)


def draw_likeliest(probabilities: Tensor, count: int, least: float) -> Tensor:
    """One class for each row, at equal chance among its `count` most probable ones of at least `least`.

    The most probable class is always among them. Random numbers are drawn on the CPU, one for each row, so that a
    resumed run draws the same on any device.
    """
    values, classes = probabilities.topk(min(count, probabilities.shape[1]), 1)
    possible = (values >= least).sum(1).clamp(min=1)
    drawn = (dividing.rand(len(values)).to(values.device) * possible).long()
    chosen = classes.gather(1, drawn[:, None])
    return torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, chosen, True)
