"""Loss terms of trained masks written out, one clip, one class, one bin at a time; slow and literal."""

from __future__ import annotations

import math

from torch import Tensor


def probabilities(logits: list[float], multilabel: bool) -> list[float]:
    """Sigmoid of each logit, or the softmax of all."""
    if multilabel:
        return [1 / (1 + math.exp(-each)) for each in logits]
    total = sum(math.exp(each) for each in logits)
    return [math.exp(each) / total for each in logits]


def masked_in(logits: Tensor, target: Tensor, multilabel: bool) -> float:
    """-log p_c, averaged over the explained classes of a clip, then over clips."""
    per_clip = []
    for row, asked in zip(logits.tolist(), target.tolist()):
        p = probabilities(row, multilabel)
        terms = [-math.log(p[c]) for c in range(len(p)) if asked[c]]
        per_clip.append(sum(terms) / len(terms))
    return sum(per_clip) / len(per_clip)


def masked_out(logits: Tensor, target: Tensor, multilabel: bool) -> float:
    """-log(1 - p_c), averaged over the explained classes of a clip, then over clips."""
    per_clip = []
    for row, asked in zip(logits.tolist(), target.tolist()):
        p = probabilities(row, multilabel)
        terms = [-math.log(1 - p[c]) for c in range(len(p)) if asked[c]]
        per_clip.append(sum(terms) / len(terms))
    return sum(per_clip) / len(per_clip)


def classification(logits: Tensor, target: Tensor, multilabel: bool) -> float:
    """Equation (2) of the Explainer's paper, one class at a time; of one label per clip, the cross-entropy."""
    if not multilabel:
        return masked_in(logits, target, False)
    per_clip = []
    for row, asked in zip(logits.tolist(), target.tolist()):
        p = probabilities(row, True)
        terms = [math.log(p[c]) if asked[c] else math.log(1 - p[c]) for c in range(len(p))]
        per_clip.append(-sum(terms) / len(p))
    return sum(per_clip) / len(per_clip)


def negative_entropy(logits: Tensor) -> float:
    """Equation (3) of the Explainer's paper: (1 / C) sum_c p_c log p_c, averaged over clips."""
    per_clip = []
    for row in logits.tolist():
        p = probabilities(row, False)
        per_clip.append(sum(each * math.log(each) for each in p) / len(p))
    return sum(per_clip) / len(per_clip)


def area_bounds(mask: Tensor, least: float, most: float) -> float:
    """Equations (4) and (5) of the Explainer's paper for one mask (freq, time)."""
    values = sorted((float(each) for each in mask.flatten()), reverse=True)
    ones, some = math.floor(len(values) * least), math.floor(len(values) * most)
    lowest = [1.0] * ones + [0.0] * (len(values) - ones)
    highest = [1.0] * some + [0.0] * (len(values) - some)
    lacking = sum(max(q - v, 0.0) for q, v in zip(lowest, values)) / len(values)
    return lacking + sum(max(v - q, 0.0) for q, v in zip(highest, values)) / len(values)


def mean_area(mask: Tensor, counted: list[bool]) -> float:
    """Sum of |M| over bins divided by their number; the clips' sum divided by the number of all clips."""
    total = 0.0
    for clip, counts in zip(mask, counted):
        if counts:
            total += sum(abs(float(each)) for each in clip.flatten()) / clip.numel()
    return total / len(mask)


def total_variation(mask: Tensor, counted: list[bool], power: int) -> float:
    """Steps from each bin to the next frequency and to the next frame, to a power."""
    total = 0.0
    for clip, counts in zip(mask, counted):
        if not counts:
            continue
        freq, time = clip.shape
        steps = 0.0
        for f in range(freq):
            for t in range(time):
                if f + 1 < freq:
                    steps += abs(float(clip[f + 1, t] - clip[f, t])) ** power
                if t + 1 < time:
                    steps += abs(float(clip[f, t + 1] - clip[f, t])) ** power
        total += steps / (freq * time)
    return total / len(mask)


def similarity(mask: Tensor, stft: Tensor, clean: Tensor) -> list[float]:
    """<X_clean, M X> / (|X_clean| |M X|) over log-magnitudes, clip by clip."""
    made = []
    for m, x, y in zip(mask.flatten(1), stft.flatten(1), clean.flatten(1)):
        kept = [float(a) * math.log(1 + abs(complex(b))) for a, b in zip(m, x)]
        wanted = [math.log(1 + abs(complex(each))) for each in y]
        product = sum(a * b for a, b in zip(kept, wanted))
        made.append(product / math.sqrt(sum(a * a for a in kept) * sum(b * b for b in wanted)))
    return made


def guidance(logits: Tensor, clean: Tensor, counted: list[bool], threshold: float) -> float:
    """Binary cross-entropy of the mask with the clean sound's bins above a share of its largest log-magnitude."""
    total = 0.0
    for clip, sound, counts in zip(logits.flatten(1), clean.flatten(1), counted):
        if not counts:
            continue
        level = [math.log(1 + abs(complex(each))) for each in sound]
        terms = []
        for logit, each in zip(clip.tolist(), level):
            # m = 1 / (1 + exp(-logit)), so that -log m = log(1 + exp(-logit)) and -log(1 - m) = log(1 + exp(logit))
            terms.append(math.log(1 + math.exp(-logit if each > threshold * max(level) else logit)))
        total += sum(terms) / len(terms)
    return total / len(logits)
