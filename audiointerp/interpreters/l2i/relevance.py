"""Relevance of dictionary components to a class in L2I, and the mask of the selected components.

Parekh et al. (2022), "Listen to Interpret", https://arxiv.org/abs/2202.11479.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6  # as in the authors' code

__all__ = ["class_relevance", "component_mask", "select"]


def class_relevance(pooled: Tensor, theta: Tensor) -> Tensor:
    """r_kc = z_k theta_ck / max_j |z_j theta_cj|: a component's contribution to a class's logit, signed, at most 1.

    Shape:
        z (batch, components), theta (classes, components) -> (batch, classes, components); 0 where nothing contributes.

    >>> class_relevance(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, -1.0, 5.0], [0.0, 0.0, 1.0]]))
    tensor([[[ 0.5000, -1.0000,  0.0000],
             [ 0.0000,  0.0000,  0.0000]]])
    """
    contribution = pooled[:, None] * theta
    largest = contribution.abs().amax(2, keepdim=True)
    return contribution / torch.where(largest > 0, largest, 1.0)


def select(relevance: Tensor, threshold: float = 0.2, top_k: int | None = None) -> Tensor:
    """1 for components of relevance above the threshold (and among the `top_k` highest), else 0; (batch, components).

    >>> select(torch.tensor([[1.0, 0.5, 0.3, -1.0]]), 0.2, top_k=2)
    tensor([[1., 1., 0., 0.]])
    """
    chosen = relevance > threshold
    if top_k is not None:
        best = relevance.topk(min(top_k, relevance.shape[1]), 1).indices
        chosen &= torch.zeros_like(chosen).scatter(1, best, True)
    return chosen.to(relevance.dtype)


def component_mask(dictionary: Tensor, activations: Tensor, selected: Tensor) -> Tensor:
    """sum_k s_k w_k h_k / (W H + eps), (batch, freq, time): the share of the selected components in W H.

    0 where W H is 0.

    The masks of a selection and of its complement sum to W H / (W H + eps), nearly 1.

    Shape:
        dictionary (freq, components), activations (batch, components, time), selected (batch, components).
    """
    part = dictionary @ (activations * selected[:, :, None])
    # Rounding alone may bring a sum of some components above the sum of all.
    return (part / (dictionary @ activations + EPSILON)).clamp(max=1)
