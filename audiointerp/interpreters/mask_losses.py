"""Loss terms of explainers that are trained to make masks. Each is a mean over the clips of a batch.

A mask M is (batch, freq, time) in [0, 1]; a target (batch, classes) bool, the classes S of each clip to explain. Logits
are the frozen classifier's, for the part of the clip that M keeps (x_in) or for the part that it leaves (x_out).

    kept, left = classify_parts(classifier, stft, mask, samples, domain)
    masked_in(kept.logits, target, multilabel) + masked_out(left.logits, target, multilabel) + mean_area(mask)

L-MAC: Paissan, Della Libera, Ravanelli, Subakan (2024), https://arxiv.org/abs/2403.13086. Its released code
(SpeechBrain) sums area and total variation over the batch, so that their strength grows with the batch size, while the
cross-entropies are means; and it subtracts the cross-entropy of the left part, which has no lower bound.

Explainer: Stalder et al. (2022), https://arxiv.org/abs/2205.11266, equations (2) to (8): `classification`,
`negative_entropy`, `area_bounds`, and `total_variation` with power 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.contracts import Classifier, Prediction, check_gradient
from audiointerp.sound.masking import Domain, apply_mask, threshold_mask
from audiointerp.sound.spectrogram import log_magnitude

MaskLoss = Literal["bce", "weighted_bce", "dice"]

__all__ = [
    "MaskLoss",
    "area_bounds",
    "classification",
    "classify_masked",
    "classify_parts",
    "guidance",
    "masked_in",
    "masked_out",
    "mean_area",
    "negative_entropy",
    "reconstruction",
    "similarity",
    "total_variation",
]


def classify_parts(
    classifier: Classifier, stft: Tensor, mask: Tensor, samples: int, domain: Domain
) -> tuple[Prediction, Prediction]:
    """Predictions for the part that a mask keeps and for the part that it leaves, see `classify_masked`."""
    kept, left = classify_masked(classifier, stft, (mask, 1 - mask), samples, domain)
    return kept, left


def classify_masked(
    classifier: Classifier, stft: Tensor, masks: Sequence[Tensor], samples: int, domain: Domain
) -> list[Prediction]:
    """Predictions for the clips multiplied by each mask; gradients reach the masks.

    All masked clips are classified in one pass. Call it within `contracts.frozen(classifier)`.

    Args:
        classifier: the classifier.
        stft: complex, (batch, freq, time).
        masks: in [0, 1], each of the same shape.
        samples: length of the clips, for classifiers that take waveforms.
        domain: the quantity that the mask multiplies.

    Raises:
        ValueError: if no gradient of the logits reaches the masks although one of them requires one.
    """
    # A magnitude needs half the work of a complex number, and most of the time is spent on this multiplication.
    whole = stft.abs() if classifier.reads_magnitude else stft
    every = torch.cat([apply_mask(whole, each, domain) for each in masks])
    made = classifier.classify_stft(every, samples)
    if any(mask.requires_grad for mask in masks):
        check_gradient(classifier, "training on masked sounds", made.logits)
    parts = made.logits.tensor_split(len(masks))
    return [Prediction.from_logits(logits, classifier.multilabel) for logits in parts]


def masked_in(logits: Tensor, target: Tensor, multilabel: bool) -> Tensor:
    """How improbable the explained classes are on the kept part: mean over clips and classes of S of -log p_c(x_in).

    p is the softmax of the logits, so that this is the cross-entropy; or their sigmoid when multilabel, so that it is
    the binary cross-entropy of the explained labels. The other labels' probabilities do not count then.

    >>> float(masked_in(torch.tensor([[0.0, 0.0]]), torch.tensor([[True, False]]), False).exp())
    2.0...
    """
    log_p = functional.logsigmoid(logits) if multilabel else logits.log_softmax(1)
    return -_over_classes(log_p, target).mean()


def masked_out(logits: Tensor, target: Tensor, multilabel: bool, bounded: bool = True) -> Tensor:
    """How probable the explained classes still are on the part left: mean over clips and S of -log(1 - p_c(x_out)).

    It is 0 when no explained class is heard in the part left. p as in `masked_in`; 1 - p is computed from the logits,
    so that a p that rounds to 1 gives neither infinity nor a vanishing gradient.

    Args:
        logits: (batch, classes), of the part left.
        target: (batch, classes) bool.
        multilabel: sigmoid instead of softmax.
        bounded: False gives log p_c(x_out), the paper's negative cross-entropy, which falls without end.
    Raises:
        ValueError: if there is only one class and p is a softmax, which is always 1.
    """
    if not bounded:
        return -masked_in(logits, target, multilabel)
    if multilabel:
        return -_over_classes(functional.logsigmoid(-logits), target).mean()
    classes = logits.shape[1]
    if classes < 2:
        raise ValueError("a classifier of a single class gives it the probability 1 whatever is left; name two classes")
    itself = torch.eye(classes, dtype=torch.bool, device=logits.device)
    # log(1 - p_c) = log of the sum of the other classes' exponentials - log of the sum of all
    others = logits[:, None].masked_fill(itself, -torch.inf).logsumexp(2) - logits.logsumexp(1, keepdim=True)
    return -_over_classes(others, target).mean()


def classification(logits: Tensor, target: Tensor, multilabel: bool) -> Tensor:
    """Whether the kept part has the labels of the clip: Explainer's equation (2), the mean over clips.

    When multilabel, the mean over all classes of the binary cross-entropy with the set of labels; else `masked_in`, the
    cross-entropy.

    Args:
        logits: (batch, classes), of the part kept.
        target: (batch, classes) bool, the labels of each clip, at least one.
        multilabel: whether the classifier's probabilities are sigmoids.

    >>> float(classification(torch.tensor([[0.0, 0.0]]), torch.tensor([[True, False]]), True).exp())
    2.0...
    """
    if multilabel:
        return functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
    return masked_in(logits, target, False)


def negative_entropy(logits: Tensor) -> Tensor:
    """How surely the part left has a class: mean over clips of sum_c p_c log p_c / log C, in [-1, 0], -1 if uniform.

    Explainer's equation (3) divides by C instead of by log C. Its weight lambda_e is therefore C / log C times smaller
    here for the same strength (1 at 20 classes is 0.15), and a weight means the same for every number of classes.
    The softmax is taken whatever the classifier's labels, as in the paper.

    Args:
        logits: (batch, classes), of the part left.
    Raises:
        ValueError: if there is only one class, whose probability is always 1.

    >>> float(negative_entropy(torch.zeros(1, 4)))
    -1.0
    """
    classes = logits.shape[1]
    if classes < 2:
        raise ValueError("a classifier of a single class has no entropy to raise; name two classes")
    log_p = logits.log_softmax(1)
    return (log_p.exp() * log_p).sum(1).mean() / math.log(classes)


def area_bounds(mask: Tensor, least: float, most: float) -> Tensor:
    """By how much a mask's area is outside of two bounds, (batch,): Explainer's equation (5).

    Of Z bins, the floor(least Z) largest values should be 1 and all but the floor(most Z) largest should be 0; the mean
    over bins of what they lack and of what they have too much. Between the bounds, no area is preferred.

    Args:
        mask: (batch, freq, time), in [0, 1].
        least, most: bounds of the area, as shares of the bins.

    >>> area_bounds(torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(-1, 10, 10), 0.05, 0.3)
    tensor([0.0500, 0.3750, 0.7000])
    """
    ordered = mask.flatten(1).sort(1, descending=True).values
    bins = ordered.shape[1]
    rank = torch.arange(bins, device=mask.device)
    lowest, highest = ((rank < math.floor(bins * share)).to(mask.dtype) for share in (least, most))
    return (lowest - ordered).clamp(min=0).mean(1) + (ordered - highest).clamp(min=0).mean(1)


def mean_area(mask: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean over clips of mean over bins of M: the L1 norm per bin, as M is never negative.

    Args:
        mask: (batch, freq, time).
        counted: (batch,) bool; clips that are False count 0. None: all count.
    """
    return _over_clips(mask.mean((1, 2)), counted)


def total_variation(mask: Tensor, counted: Tensor | None = None, power: float = 2.0) -> Tensor:
    """Mean over clips of (sum |M(f+1, t) - M(f, t)|^power + sum |M(f, t+1) - M(f, t)|^power) / (freq * time).

    `power` is 2 in L-MAC's code (which divides by 2 instead of by the number of bins, so that long clips count more);
    1 is the anisotropic total variation. `counted` as in `mean_area`.

    >>> float(total_variation(torch.tensor([[[0.0, 1.0], [0.0, 0.5]]])))
    0.375
    """
    bins = mask.shape[1] * mask.shape[2]
    steps = (mask.diff(dim=1), mask.diff(dim=2))
    return _over_clips(sum((each.abs().pow(power).sum((1, 2)) for each in steps), torch.zeros(())) / bins, counted)


def similarity(mask: Tensor, stft: Tensor, clean: Tensor) -> Tensor:
    """Cosine of M * log1p|X| and the clean sound's log1p|X|, (batch,); 0 where one of them is silent.

    Args:
        mask: (batch, freq, time).
        stft: X of the clip that is masked.
        clean: X of the clean sound: the clip itself, or its stem if the clip is a mixture.
    """
    kept, wanted = (mask * log_magnitude(stft)).flatten(1), log_magnitude(clean).flatten(1)
    return functional.cosine_similarity(kept, wanted, dim=1)


def guidance(logits: Tensor, clean: Tensor, counted: Tensor, threshold: float = 0.35) -> Tensor:
    """L-MAC's fine-tuning term: binary cross-entropy of M with 1[log1p|X| > threshold * max log1p|X|].

    Mean over bins, then over clips; X is the clean sound's STFT. In the paper it counts for the clips whose
    `similarity` is at least 0.6, and area and total variation count for the others. A silent sound's goal is an empty
    mask.

    Args:
        logits: of M, (batch, freq, time).
        clean: complex STFT of the clean sound, of the same shape.
        counted: (batch,) bool; clips that are False count 0.
        threshold: share of the clip's largest log-magnitude; 0.35 as PIQ's training target.
    """
    goal = threshold_mask(clean.abs(), threshold)
    return _over_clips(
        functional.binary_cross_entropy_with_logits(logits, goal, reduction="none").mean((1, 2)), counted
    )


def reconstruction(logits: Tensor, goal: Tensor, stft: Tensor, kind: str) -> Tensor:
    """Loss between the mask, given as logits, and its goal, both (batch, freq, time).

    "bce": mean binary cross-entropy over bins. "weighted_bce": each bin is weighted by its log-magnitude over the
    clip's mean, so that the many silent bins do not dominate. "dice": 1 - Dice overlap (Sudre et al., 2017), mean over
    clips.
    """
    if kind == "bce":
        return functional.binary_cross_entropy_with_logits(logits, goal)
    if kind == "weighted_bce":
        level = stft.abs().log1p()
        weight = level / level.mean((1, 2), keepdim=True).clamp(min=1e-8)
        return functional.binary_cross_entropy_with_logits(logits, goal, weight=weight)
    mask = logits.sigmoid()
    overlap = 2 * (mask * goal).sum((1, 2)) + 1
    return (1 - overlap / (mask.sum((1, 2)) + goal.sum((1, 2)) + 1)).mean()


def _over_classes(values: Tensor, target: Tensor) -> Tensor:
    """Mean over the explained classes, (batch,); values of other classes may be infinite."""
    return values.masked_fill(~target, 0.0).sum(1) / target.sum(1)


def _over_clips(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean over all clips of (batch,), those that are not counted with the value 0."""
    return (values if counted is None else values * counted).mean()
