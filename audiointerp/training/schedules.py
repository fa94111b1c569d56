"""Values that change during training: the learning rate by the step, the losses' weights by the epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

Weight = float | list[list[float]]

__all__ = ["Schedule", "Weight", "is_weight", "weight_at"]


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the whole run.

    Args:
        kind: "one_cycle" (up over the first `warmup` share of all steps, then cosine down to zero) or "constant".
        warmup: share of the steps, in (0, 1).
    """

    kind: str = "one_cycle"
    warmup: float = 0.3

    def build(self, optimizer: torch.optim.Optimizer, lr: float, steps: int) -> LRScheduler:
        """A scheduler to step after every optimiser step; `lr` is its peak, `steps` those of the whole run.

        Raises:
            ValueError: for a kind that does not exist, or a warmup outside (0, 1).
        """
        if not 0 < self.warmup < 1:
            raise ValueError(f"schedule's warmup is {self.warmup}; give a share of the steps between 0 and 1")
        if self.kind == "one_cycle":
            # torch divides by the length of the ramp, so the ramp must take at least one step.
            steps = max(steps, 3)
            return OneCycleLR(optimizer, lr, total_steps=steps, pct_start=max(self.warmup, 2 / steps))
        if self.kind == "constant":
            return ConstantLR(optimizer, factor=1.0)
        raise ValueError(f"schedule {self.kind!r} does not exist; choose one_cycle or constant")


def is_weight(value: Any) -> bool:
    """Whether a value can be a loss weight: a finite number of at least 0, or a list of [epoch, number].

    >>> is_weight(0.5), is_weight([[0, 1.0], [5, 0]]), is_weight(-1), is_weight("nan"), is_weight([[1]])
    (True, True, False, False, False)
    """
    if isinstance(value, (list, tuple)):
        pairs = all(isinstance(each, (list, tuple)) and len(each) == 2 for each in value)
        return bool(value) and pairs and all(map(_is_nonnegative, (number for each in value for number in each)))
    return _is_nonnegative(value)


def _is_nonnegative(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def weight_at(weight: Weight, epoch: int) -> float:
    """A loss weight at an epoch: a number, or [[epoch, weight], ...], of which the latest one reached is used.

    >>> weight_at([[0, 1.0], [5, 0.1]], 4), weight_at([[0, 1.0], [5, 0.1]], 5)
    (1.0, 0.1)
    """
    if isinstance(weight, (int, float)):
        return float(weight)
    reached = [value for start, value in sorted(weight) if start <= epoch]
    return float(reached[-1]) if reached else 0.0
