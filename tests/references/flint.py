"""FLINT written out, one clip, one attribute, one cell at a time: Parekh et al. (2021), arXiv 2010.09345."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def entropy(values: list[float]) -> float:
    """E(v) = -sum_i p_i log p_i, p_i = exp(v_i) / sum_i exp(v_i)."""
    total = sum(math.exp(each) for each in values)
    p = [math.exp(each) / total for each in values]
    return -sum(each * math.log(each) for each in p if each > 0)


def conciseness(strength: Tensor) -> float:
    """The mean over clips of E(Phi(x)), the second term of L_cd."""
    rows = strength.tolist()
    return sum(entropy(row) for row in rows) / len(rows)


def diversity(strength: Tensor) -> float:
    """-E of the mean Phi of the batch, the first term of L_cd."""
    rows = strength.tolist()
    return -entropy([sum(row[j] for row in rows) / len(rows) for j in range(len(rows[0]))])


def sparsity(strength: Tensor) -> float:
    """The mean over clips of ||Phi(x)||_1, the last term of L_cd."""
    rows = strength.tolist()
    return sum(abs(each) for row in rows for each in row) / len(rows)


def output_fidelity(logits: Tensor, probabilities: Tensor, multilabel: bool) -> float:
    """L_of, g's prediction given as logits: -sum_c f_c log g_c; several labels: binary, summed over labels."""
    per_clip = []
    for row, goal in zip(logits.tolist(), probabilities.tolist()):
        if multilabel:
            g = [1 / (1 + math.exp(-each)) for each in row]
            terms = [f * math.log(own) + (1 - f) * math.log(1 - own) for f, own in zip(goal, g)]
        else:
            total = sum(math.exp(each) for each in row)
            terms = [f * math.log(math.exp(own) / total) for f, own in zip(goal, row)]
        per_clip.append(-sum(terms))
    return sum(per_clip) / len(per_clip)


def input_fidelity(rebuilt: Tensor, level: Tensor) -> float:
    """L_if: the mean over clips and bins of (d(Phi(x)) - x)^2."""
    pairs = zip(rebuilt.flatten().tolist(), level.flatten().tolist())
    return sum((one - other) ** 2 for one, other in pairs) / rebuilt.numel()


def relevance(strength: Tensor, weight: Tensor, label: int) -> list[list[float]]:
    """r_jc = phi_j w_cj / max_i |phi_i w_ci| of every clip, for one class."""
    rows = []
    for clip in strength.tolist():
        alpha = [phi * float(weight[label, j]) for j, phi in enumerate(clip)]
        largest = max(abs(each) for each in alpha)
        rows.append([each / largest if largest > 0 else 0.0 for each in alpha])
    return rows


def global_relevance(strength: Tensor, weight: Tensor, predicted: list[int]) -> list[list[float]]:
    """The mean of the relevance to class c over the clips predicted as c, (classes, attributes); NaN without clips."""
    table = []
    for label in range(len(weight)):
        rows = [row for row, own in zip(relevance(strength, weight, label), predicted) if own == label]
        table.append([sum(column) / len(rows) for column in zip(*rows)] if rows else [math.nan] * strength.shape[1])
    return table


def conciseness_at(relevances: list[list[float]], tau: float) -> list[int]:
    """CNS of every clip: the number of attributes with a relevance above 1 / tau."""
    return [sum(each > 1 / tau for each in row) for row in relevances]


def course(hidden: Tensor, weight: Tensor, bias: Tensor, bands: int) -> Tensor:
    """Attributes of every column: rows averaged to bands, one linear layer, ReLU; (batch, attributes, columns)."""
    batch, width, rows, columns = hidden.shape
    found = torch.zeros(batch, len(weight), columns)
    for clip in range(batch):
        for column in range(columns):
            pooled = []
            for channel in range(width):
                for band in range(bands):
                    first, last = (band * rows) // bands, -(-((band + 1) * rows) // bands)
                    pooled.append(float(hidden[clip, channel, first:last, column].mean()))
            for j in range(len(weight)):
                value = float(bias[j]) + sum(float(w) * each for w, each in zip(weight[j], pooled))
                found[clip, j, column] = max(0.0, value)
    return found


def decoder_mask(whole: Tensor, without: Tensor) -> Tensor:
    """M_j, bin by bin: clip((d(Phi) - d(Phi without j)) / d(Phi), 0, 1) of log-magnitudes, in linear magnitude."""
    mask = torch.zeros_like(whole)
    for place in range(whole.numel()):
        full, left = (math.expm1(float(each.flatten()[place])) for each in (whole, without))
        mask.view(-1)[place] = min(1.0, max(0.0, (full - left) / full)) if full > 0 else 0.0
    return mask
