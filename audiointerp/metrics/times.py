"""Does an explanation point to the time of the sound? Pure functions, one value per clip.

Relevance and known events are compared in steps of time of equal length. A clip without an event has no score (NaN);
where every step is active, AUC and pointing game are decided beforehand and have no score either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

STEP = 0.1  # seconds, the segments of Bolanos et al. (2025)
LEAST = 0.1  # share of a step that events must cover for the step to be active
THRESHOLD = 0.5  # of the largest relevance, above which a step counts as detected

__all__ = ["LEAST", "STEP", "THRESHOLD", "active_steps", "by_step", "pointing_game", "time_auc", "time_f1", "time_iou"]


def active_steps(
    events: Sequence[tuple[float, float]], seconds: float, step: float = STEP, least: float = LEAST
) -> Tensor:
    """Which steps of a clip are active, (steps,) bool: those of which events cover at least a tenth.

    The last step may be shorter than the others; its share is of its own length.

    Args:
        events: start and end of each event in seconds from the clip's beginning; they may overlap.
        seconds: length of the clip.
        step: length of a step in seconds.
        least: share of a step that must be covered.

    Raises:
        ValueError: for a clip or step without length, or an event that ends before it begins.

    >>> active_steps([(0.15, 0.3)], seconds=0.45)
    tensor([False,  True,  True, False, False])
    """
    count = _steps(seconds, step)
    if wrong := [event for event in events if not event[0] <= event[1]]:
        raise ValueError(f"event {wrong[0]} ends before it begins; give start and end in seconds")
    first = torch.arange(count, dtype=torch.float64) * step
    last = (first + step).clamp(max=seconds)
    covered, end = torch.zeros(count, dtype=torch.float64), -math.inf
    for start, stop in sorted(events):
        start = max(start, end)  # what an earlier event covers does not count twice
        covered += (last.clamp(max=stop) - first.clamp(min=start)).clamp(min=0) if stop > start else 0
        end = max(end, stop)
    return covered >= least * (last - first) - 1e-9


def by_step(relevance: Tensor, frame_seconds: float, seconds: float, step: float = STEP) -> Tensor:
    """Mean relevance of the frames whose centre lies in each step, (batch, frames) -> (batch, steps).

    A step without a frame's centre takes the nearest frame.

    Args:
        relevance: of the frames of an STFT; frame t is centred on t * `frame_seconds`.
        frame_seconds: distance of frames in seconds.
        seconds: length of the clip.
        step: length of a step in seconds.

    Raises:
        ValueError: if the relevance is not (batch, frames) or not finite, or the clip or a step has no length.

    >>> by_step(torch.tensor([[1.0, 3.0, 5.0, 7.0]]), 0.05, 0.2)
    tensor([[2., 6.]], dtype=torch.float64)
    """
    if relevance.ndim != 2 or not relevance.shape[1] or not bool(torch.isfinite(relevance).all()):
        raise ValueError(f"relevance has shape {tuple(relevance.shape)}; expected (batch, frames), all of them finite")
    count, frames = _steps(seconds, step), relevance.shape[1]
    centre = torch.arange(frames, dtype=torch.float64, device=relevance.device) * frame_seconds
    index = (centre / step + 1e-9).long().clamp(max=count - 1)
    total = relevance.new_zeros(len(relevance), count, dtype=torch.float64).index_add_(1, index, relevance.double())
    number = index.bincount(minlength=count)
    middle = (torch.arange(count, dtype=torch.float64, device=relevance.device) + 0.5) * step
    nearest = (middle / frame_seconds).round().long().clamp(max=frames - 1)
    return torch.where(number > 0, total / number.clamp(min=1), relevance.double()[:, nearest])


def time_auc(relevance: Tensor, active: Tensor) -> Tensor:
    """Area under the ROC curve of the relevance for active steps, (batch, steps) each -> (batch,); 0.5 is chance.

    The share of pairs of an active and an inactive step in which the active one is more relevant, ties counted half:
    Bolanos et al. (2025), https://arxiv.org/abs/2506.04391. Theirs leaves out steps that an event covers partly; here a
    step is active or not, see `active_steps`, so that short events count.

    >>> time_auc(torch.tensor([[0.9, 0.2, 0.4, 0.4]]), torch.tensor([[True, False, True, False]]))
    tensor([0.8750], dtype=torch.float64)
    """
    relevance = _checked(relevance, active)
    pairs = active[:, :, None] & ~active[:, None, :]
    difference = relevance[:, :, None] - relevance[:, None, :]
    won = ((difference > 0).double() + 0.5 * (difference == 0)) * pairs
    return torch.where(_mixed(active), won.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1), torch.nan)


def pointing_game(relevance: Tensor, active: Tensor) -> Tensor:
    """1 if the most relevant step is active, else 0, (batch, steps) each -> (batch,).

    Zhang et al. (2016), https://arxiv.org/abs/1608.00507, in time as Dumpis & Virtanen (2026),
    https://arxiv.org/abs/2605.23293. Of equal steps the first counts; if all steps are equal, 0.

    >>> pointing_game(torch.tensor([[0.9, 0.2, 0.4], [1, 1, 1]]), torch.tensor([[True, False, False]] * 2))
    tensor([1., 0.], dtype=torch.float64)
    """
    relevance = _checked(relevance, active)
    found = active.gather(1, relevance.argmax(1, keepdim=True))[:, 0] & (relevance.amax(1) > relevance.amin(1))
    return torch.where(_mixed(active), found.double(), torch.nan)


def time_iou(relevance: Tensor, active: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Intersection over union of detected and active steps, (batch, steps) each -> (batch,), in [0, 1].

    A step is detected if its relevance is at least the threshold's share of the clip's largest; none is if no
    relevance is above 0. Dumpis & Virtanen (2026), https://arxiv.org/abs/2605.23293, judge by IoU and F1; the
    threshold is ours.

    >>> time_iou(torch.tensor([[1.0, 0.6, 0.2, -1.0]]), torch.tensor([[True, False, True, False]])).round(decimals=3)
    tensor([0.3330], dtype=torch.float64)
    """
    both, either = _counts(relevance, active, threshold)
    return torch.where(active.any(1), both / either.clamp(min=1), torch.nan)


def time_f1(relevance: Tensor, active: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """F1 score of detected and active steps, 2 IoU / (1 + IoU), see `time_iou`; (batch, steps) each -> (batch,).

    >>> time_f1(torch.tensor([[1.0, 0.6, 0.2, -1.0]]), torch.tensor([[True, False, True, False]]))
    tensor([0.5000], dtype=torch.float64)
    """
    both, either = _counts(relevance, active, threshold)
    return torch.where(active.any(1), 2 * both / (both + either).clamp(min=1), torch.nan)


def _counts(relevance: Tensor, active: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Number of steps that are detected and active, and that are one of both."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it is a share of the largest relevance, in (0, 1]")
    relevance = _checked(relevance, active)
    largest = relevance.amax(1, keepdim=True)
    detected = (relevance >= threshold * largest) & (largest > 0)
    return (detected & active).sum(1).double(), (detected | active).sum(1).double()


def _mixed(active: Tensor) -> Tensor:
    return active.any(1) & ~active.all(1)


def _checked(relevance: Tensor, active: Tensor) -> Tensor:
    check_alike(2, relevance=relevance, active=active)
    if active.dtype != torch.bool or not bool(torch.isfinite(relevance).all()):
        raise ValueError(f"active is {active.dtype}, expected bool; and every relevance must be finite")
    return relevance.double()


def _steps(seconds: float, step: float) -> int:
    if not (0 < seconds < math.inf and 0 < step < math.inf):
        raise ValueError(f"a clip of {seconds} s in steps of {step} s; both must be above 0 and finite")
    return max(1, math.ceil(seconds / step - 1e-9))
