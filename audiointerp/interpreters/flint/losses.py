"""FLINT's loss terms: functions of the attributes Phi(x), (batch, attributes), each a mean over the clips.

Parekh et al. (2021), https://arxiv.org/abs/2010.09345, "Imposing interpretability properties". The paper's

    L_cd = zeta [-mu E(mean_x Phi(x)) + sum_x E(Phi(x))] + eta sum_x ||Phi(x)||_1,   L_if = sum_x (d(Phi(x)) - x)^2

are the terms `diversity`, `conciseness`, `sparsity` and `input_fidelity`, and their weights stand in the recipe: in the
released code the weight of the diversity is 1, whatever mu is. `output_fidelity` is the cross-entropy of g's
prediction with f's as the goal, as in the code; the paper's formula exchanges the two.
"""

from __future__ import annotations

from torch import Tensor

from audiointerp.interpreters.l2i.model import fidelity_loss
from audiointerp.processes import dividing

__all__ = ["attribute_losses", "softmax_entropy"]


def softmax_entropy(values: Tensor) -> Tensor:
    """E(v) = -sum_j p_j log p_j of p = softmax(v), in nats: (..., attributes) -> (...).

    The released code takes the mean over attributes instead of the sum, so that its weights depend on their number.

    >>> import torch
    >>> softmax_entropy(torch.tensor([[1.0, 1.0], [50.0, 0.0]])).exp()
    tensor([2., 1.])
    """
    log_p = values.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def attribute_losses(
    strength: Tensor, logits: Tensor, rebuilt: Tensor, log_magnitude: Tensor, probabilities: Tensor, multilabel: bool
) -> dict[str, Tensor]:
    """The five terms by name.

    "output_fidelity": cross-entropy of g's prediction with f's probabilities, through which no gradient passes
    (multilabel: binary, summed over labels). "input_fidelity": mean over bins of (d(Phi) - X)^2, X the log-magnitude.
    "conciseness": E(Phi(x)), low if few attributes are strong in a clip. "diversity": -E of the batch's mean Phi, low
    if many attributes are strong in some clip. "sparsity": ||Phi(x)||_1, without which the entropies could always be
    lowered by larger attributes.

    Args:
        strength: Phi(x), (batch, attributes), never negative.
        logits: of g, (batch, classes).
        rebuilt: d(Phi(x)), (batch, freq, time).
        log_magnitude: X, of the same shape.
        probabilities: of f, (batch, classes).
        multilabel: whether f's probabilities are sigmoids.
    """
    return {
        "output_fidelity": fidelity_loss(logits, probabilities.detach(), multilabel),
        "input_fidelity": (rebuilt - log_magnitude).square().mean(),
        "conciseness": softmax_entropy(strength).mean(),
        "diversity": -softmax_entropy(_mean_of_batch(strength)),
        "sparsity": strength.sum(1).mean(),
    }


def _mean_of_batch(strength: Tensor) -> Tensor:
    """Mean Phi over the batch, (attributes,), also over the rows that other processes compute."""
    share = dividing.divided()
    return strength.mean(0) if share is None else dividing.summed(strength.sum(0)) / share.total
