"""PIQ's equations written out, one vector, one class, one bin at a time; slow and literal."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def nearest_codes(vectors: Tensor, codebook: Tensor, owner: list[int], allowed: Tensor) -> Tensor:
    """Index of the nearest code that a row's classes own (owner -1: everybody's), (batch, freq, time)."""
    batch, _, freq, time = vectors.shape
    codes = torch.zeros(batch, freq, time, dtype=torch.long)
    values, words = vectors.permute(0, 2, 3, 1).tolist(), codebook.tolist()  # numbers are faster than elements
    for b in range(batch):
        for f in range(freq):
            for t in range(time):
                best, best_distance = -1, math.inf
                for k in range(len(codebook)):
                    if owner[k] >= 0 and not allowed[b, owner[k]]:
                        continue
                    distance = sum((v - c) ** 2 for v, c in zip(values[b][f][t], words[k]))
                    if distance < best_distance:
                        best, best_distance = k, distance
                codes[b, f, t] = best
    return codes


def official_owner(codes: int, classes: int) -> list[int]:
    """Class of each code by the released rule, Python's round being half to even."""
    return [round(-0.5 + i * (classes - 0.01) / (codes - 1)) for i in range(codes)]


def masked_log_magnitude(stft: Tensor, mask: Tensor, domain: str) -> Tensor:
    """log1p of what a mask keeps of |stft|, in the mask's own domain."""
    level = stft.abs()
    kept = mask * level if domain == "magnitude" else torch.exp(mask * torch.log(1 + level)) - 1
    return torch.log(1 + kept)


def separation(heard: list[tuple[int, Tensor]]) -> float:
    """Equation (5)'s term: pairs of a class k and f(m_k x), the probabilities when class k alone is interpreted.

    -[e log f + (1 - e) log(1 - f)] with e the one-hot of k, averaged over pairs and classes.
    """
    total, count = 0.0, 0
    for wanted, probabilities in heard:
        for label, probability in enumerate(probabilities.tolist()):
            total -= math.log(probability) if label == wanted else math.log(1 - probability)
            count += 1
    return total / count
