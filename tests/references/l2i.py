"""L2I's equations written out, one component, one class, one bin at a time; slow and literal."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention_pooling(h: Tensor, v: Tensor, u: Tensor, w: Tensor) -> list[float]:
    """z = sum_t a_t h_t, a = softmax_t(w . [tanh(V h_t) * ReLU(U h_t)]); h (components, time)."""
    h, v, u, w = (each.tolist() for each in (h, v, u, w))  # numbers; an element of a tensor takes microseconds
    scores = []
    for t in range(len(h[0])):
        score = 0.0
        for row in range(len(v)):
            left = math.tanh(sum(v[row][k] * h[k][t] for k in range(len(h))))
            right = max(0.0, sum(u[row][k] * h[k][t] for k in range(len(h))))
            score += w[row] * left * right
        scores.append(math.exp(score))
    whole = sum(scores)
    return [sum(scores[t] / whole * h[k][t] for t in range(len(scores))) for k in range(len(h))]


def relevance(z: list[float], theta: Tensor, classes: list[int]) -> list[float]:
    """z_k theta_ck over the largest absolute value among the components; of several classes the highest."""
    best = [-math.inf] * len(z)
    for c in classes:
        contribution = [z[k] * float(theta[c, k]) for k in range(len(z))]
        largest = max(abs(each) for each in contribution)
        for k in range(len(z)):
            best[k] = max(best[k], contribution[k] / largest if largest else 0.0)
    return best


def selection(r: list[float], threshold: float, top_k: int | None = None) -> list[int]:
    """Components of relevance above the threshold, and among the k most relevant."""
    ranked = sorted(range(len(r)), key=lambda k: -r[k])[:top_k]
    return sorted(k for k in ranked if r[k] > threshold)


def mask(w: Tensor, h: Tensor, selected: list[int], epsilon: float = 1e-6) -> Tensor:
    """sum over the selected of w_k h_k, over W H + eps, for one clip: (freq, time)."""
    w, h = w.tolist(), h.tolist()
    made = []
    for row in w:
        made.append([])
        for t in range(len(h[0])):
            parts = [row[k] * h[k][t] for k in range(len(h))]
            made[-1].append(sum(parts[k] for k in selected) / (sum(parts) + epsilon))
    return torch.tensor(made)


def losses(x: Tensor, w: Tensor, h: Tensor, theta_logits: Tensor, heard: Tensor, multilabel: bool) -> dict[str, float]:
    """The three terms: x (batch, freq, time), h (batch, components, time), Theta's logits and f(x) (batch, classes)."""
    squared, total, fidelity = 0.0, 0.0, 0.0
    for b in range(len(x)):
        squared += float((x[b] - w @ h[b]).double().square().sum())
        total += float(h[b].double().abs().sum())
        logits = [float(each) for each in theta_logits[b]]
        for c, logit in enumerate(logits):
            wanted = float(heard[b, c])
            if multilabel:
                said = 1 / (1 + math.exp(-logit))
                fidelity -= wanted * math.log(said) + (1 - wanted) * math.log(1 - said)
            else:
                fidelity -= wanted * math.log(math.exp(logit) / sum(math.exp(other) for other in logits))
    return {"reconstruction": squared / x.numel(), "sparsity": total / h.numel(), "fidelity": fidelity / len(x)}
