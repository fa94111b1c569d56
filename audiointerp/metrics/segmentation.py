"""How well a mask covers the known bins of a sound: pure functions of two masks, one value per clip.

The four scores with which Stalder et al. (2022), https://arxiv.org/abs/2205.11266, compare masks with segmentations of
images. Here the known mask is the ideal mask of a stem in a mixture. Masks are soft, (batch, freq, time) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

LEAST_AREA = 0.05  # a smaller mask does not lower the saliency score further

__all__ = ["accuracy", "iou", "mean_absolute_error", "saliency"]


def accuracy(mask: Tensor, ideal: Tensor) -> Tensor:
    """Mean over bins of m g + (1 - m)(1 - g), (batch,): the share of bins that are right, for binary masks.

    >>> accuracy(torch.full((1, 2, 2), 0.5), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    tensor([0.5000])
    """
    check_alike(3, mask=mask, ideal=ideal)
    return (mask * ideal + (1 - mask) * (1 - ideal)).mean((1, 2))


def iou(mask: Tensor, ideal: Tensor) -> Tensor:
    """Intersection over union, sum min(m, g) / sum max(m, g), (batch,); 1 if both masks are empty.

    >>> iou(torch.full((1, 2, 2), 0.5), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    tensor([0.2000])
    """
    check_alike(3, mask=mask, ideal=ideal)
    union = torch.maximum(mask, ideal).sum((1, 2))
    return torch.where(union > 0, torch.minimum(mask, ideal).sum((1, 2)) / union, 1.0)


def mean_absolute_error(mask: Tensor, ideal: Tensor) -> Tensor:
    """Mean over bins of |m - g|, (batch,).

    >>> mean_absolute_error(torch.full((1, 2, 2), 0.5), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    tensor([0.5000])
    """
    check_alike(3, mask=mask, ideal=ideal)
    return (mask - ideal).abs().mean((1, 2))


def saliency(mask: Tensor, probability: Tensor) -> Tensor:
    """log max(mean(m), 0.05) - log p, (batch,), lower is better: a small mask that keeps the classifier sure.

    Dabkowski and Gal (2017), https://arxiv.org/abs/1705.07857, with the area of the mask instead of that of the
    smallest rectangle around it, as Stalder et al. have it.

    Args:
        mask: (batch, freq, time).
        probability: (batch,), softmax probability of the explained classes together, on the masked clip.

    >>> saliency(torch.ones(1, 2, 2), torch.tensor([1.0]))
    tensor([0.])
    """
    tiny = torch.finfo(probability.dtype).tiny
    return mask.mean((1, 2)).clamp(min=LEAST_AREA).log() - probability.clamp(min=tiny).log()
