"""How well interpretation and residual account for the decision: pure functions of probabilities, one value per clip.

p is the probability of the explained class on the input, o on the interpretation, q on the residual; softmax (or
sigmoid) was applied to them exactly once. For several explained classes, p, o and q are means over these classes.
Definitions: Paissan et al. (2023), https://arxiv.org/abs/2303.12659, equations (3) and (4); average increase, drop and
gain as in Paissan et al. (2024), https://arxiv.org/abs/2403.13086. The released code takes the softmax of
probabilities before the average drop, which gives 54.6 for a fall from 0.9 to 0.1 among 50 classes instead of 88.9.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

__all__ = [
    "average_drop",
    "average_gain",
    "average_increase",
    "faithfulness",
    "fidelity",
    "fidelity_rank",
    "in_top",
    "mean_over_target",
    "target_probability",
]


def target_probability(probabilities: Tensor, target: Tensor) -> Tensor:
    """Mean probability of the explained classes; (batch, classes) and (batch, classes) bool -> (batch,).

    Raises:
        ValueError: if the target is not bool, or its shape is not that of the probabilities.
    """
    return mean_over_target(probabilities, target)


def mean_over_target(scores: Tensor, target: Tensor) -> Tensor:
    """Mean score (logit or probability) of the explained classes; shapes and errors as `target_probability`."""
    _check(scores, target)
    return (scores * target).sum(1) / target.sum(1)


def in_top(probabilities: Tensor, predicted: Tensor, k: int) -> Tensor:
    """1 where the predicted class, (batch, 1), is among the k likeliest of (batch, classes): L2I's top-k fidelity.

    >>> scores = torch.tensor([[0.5, 0.3, 0.2]])
    >>> in_top(scores, torch.tensor([[1]]), 1), in_top(scores, torch.tensor([[1]]), 2)
    (tensor([0.]), tensor([1.]))
    """
    if predicted.shape != (len(probabilities), 1):
        raise ValueError(f"predicted is {tuple(predicted.shape)}; {len(probabilities)} clips have (clips, 1) classes")
    likeliest = probabilities.topk(min(k, probabilities.shape[1]), 1).indices
    return (likeliest == predicted).any(1).float()


def fidelity(probabilities: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """1 where one of the explained classes is among the k likeliest on the interpretation (equation 3, where k is 1).

    Raises:
        ValueError: as `target_probability`.

    >>> fidelity(torch.tensor([[0.2, 0.8]]), torch.tensor([[False, True]]))
    tensor([1.])
    >>> scores, target = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[False, True, False]])
    >>> fidelity(scores, target), fidelity(scores, target, k=2)
    (tensor([0.]), tensor([1.]))
    """
    _check(probabilities, target)
    return target.gather(1, probabilities.topk(min(k, probabilities.shape[1]), 1).indices).any(1).float()


def fidelity_rank(classes: int, multilabel: bool) -> int:
    """How many of the likeliest classes count in `fidelity`: 1; of several labels a tenth, at least 1 and at most 5.

    A tagger gives a general label such as "Animal" nearly always a higher probability than the label below it, such as
    "Dog". With only the likeliest label, an explanation of "Dog" would fail although "Dog" is still recognised.

    >>> fidelity_rank(50, False), fidelity_rank(10, True), fidelity_rank(527, True)
    (1, 1, 5)
    """
    return min(5, max(1, classes // 10)) if multilabel else 1


def faithfulness(p: Tensor, q: Tensor) -> Tensor:
    """p - q: how far the probability (or logit) falls when the interpretation is taken away (equation 4)."""
    check_alike(1, p=p, q=q)
    return p - q


def average_increase(p: Tensor, o: Tensor, tolerance: float = 0.0) -> Tensor:
    """100 where the probability on the interpretation, o, exceeds p by more than the tolerance, else 0 (per cent)."""
    check_alike(1, p=p, o=o)
    return 100.0 * (o > p + tolerance)


def average_drop(p: Tensor, o: Tensor) -> Tensor:
    """100 max(0, p - o) / p: the share of the probability that the interpretation loses (per cent).

    >>> round(float(average_drop(torch.tensor([0.9]), torch.tensor([0.1]))), 1)
    88.9
    """
    check_alike(1, p=p, o=o)
    return 100 * (p - o).clamp(min=0) / p.clamp(min=torch.finfo(p.dtype).tiny)


def average_gain(p: Tensor, o: Tensor) -> Tensor:
    """100 max(0, o - p) / (1 - p): the interpretation's share of the missing probability (per cent); 0 where p is 1."""
    check_alike(1, p=p, o=o)
    missing = 1 - p
    return torch.where(missing > 0, 100 * (o - p).clamp(min=0) / missing.clamp(min=1e-12), torch.zeros_like(p))


def _check(probabilities: Tensor, target: Tensor) -> None:
    if probabilities.shape != target.shape or target.dtype != torch.bool:
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} need a bool target of that shape, got {tuple(target.shape)} "
            f"{target.dtype}; give a set of classes, not class indices"
        )
