"""Measures how plausible the notes are that a filler makes, and decides whether to accept a filler.

If a filler makes implausible notes, an explanation describes the classifier's behaviour on inputs unlike its training
data. Three measures, all on notes to which the filler was not fitted:

- entropy of the classes predicted for notes that are replaced as a whole, compared with that of real notes: low if
  nearly all are classified alike;
- diversity: the distance of two fillings of the same note and mask, relative to the distance of two real notes;
- AUC of a discriminator, trained for this measure only, between composites and real notes: 0.5 if it cannot separate
  them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor
from torch.nn import functional

from audiointerp.contracts import Classifier, frozen
from audiointerp.interpreters.rde.fillers import Filler, compose
from audiointerp.interpreters.rde.inpainter import sample_masks
from audiointerp.interpreters.rde.inpainter_networks import Discriminator

_BATCH = 64  # notes classified at once

__all__ = ["Diversity", "accepted", "class_entropy", "diversity", "judge_fillers", "rank_auc", "train_discriminator"]


class Diversity(NamedTuple):
    """Mean distance of two draws over that of two real notes: for all channels, the level, and the phasors.

    NaN if the real notes do not differ at the filled places, for example because nothing is filled.
    """

    both: float
    level: float
    phase: float


def judge_fillers(
    fillers: Mapping[str, Filler],
    classifier: Classifier,
    train: Tensor,
    held_out: Tensor,
    *,
    steps: int = 300,
    batch: int = 32,
    width: int = 16,
    seeds: Sequence[int] = (0, 1, 2),
    resamples: int = 1000,
) -> pandas.DataFrame:
    """Entropy, diversity and AUC of every filler, one row per filler.

    Args:
        fillers: by name, on the notes' device.
        classifier: predicts the classes; its weights, mode and gradients are not changed.
        train: (notes, 3, band), on which the discriminators are trained.
        held_out: (notes, 3, band), on which all measures are taken; at least 2.
        steps: training steps of a discriminator.
        batch: number of real notes, and of composites, in each step.
        width: channels of the discriminator.
        seeds: for each, one discriminator and one mask per held-out note; the AUCs are averaged.
        resamples: of the held-out notes, for the 95 % bootstrap interval of the AUC.
    Returns:
        Columns filler; entropy (nats) and entropy_share (of log classes) of the mean class distribution of notes that
        are replaced as a whole, information (nats): that entropy minus the mean entropy of each note's distribution;
        the same three for real notes with the prefix real_; diversity, level_diversity, phase_diversity; auc, auc_low,
        auc_high for masks that do not keep everything, and auc_replaced for notes replaced as a whole.
    Raises:
        ValueError: for a multilabel classifier, too few notes, or settings below 1.
    """
    if classifier.multilabel:
        raise ValueError("the classifier is multilabel; the entropy of classes needs probabilities that add up to 1")
    if len(train) < 1 or len(held_out) < 2:
        raise ValueError(f"{len(train)} training and {len(held_out)} held-out notes; give at least 1 and 2")
    if min(steps, batch, width, resamples, len(seeds)) < 1:
        raise ValueError("steps, batch, width, resamples and the number of seeds are all at least 1")
    real = {f"real_{name}": value for name, value in _classes(classifier, held_out).items()}
    rows: list[dict[str, Any]] = []
    for name, filler in fillers.items():
        generator = torch.Generator().manual_seed(seeds[0])
        nothing = torch.zeros_like(held_out[:, :2])
        row = {"filler": name, **_classes(classifier, _composites(filler, held_out, nothing, generator)), **real}
        spread = diversity(filler, held_out, _open_masks(held_out, generator), generator)
        row |= {"diversity": spread.both, "level_diversity": spread.level, "phase_diversity": spread.phase}
        rows.append(row | _told_apart(filler, train, held_out, steps, batch, width, seeds, resamples))
    return pandas.DataFrame(rows)


def accepted(
    row: Mapping[str, Any],
    *,
    min_entropy: float = 0.5,
    min_diversity: float = 0.1,
    max_auc: float = 0.95,
    donor_auc: float | None = None,
) -> tuple[bool, list[str]]:
    """Whether to accept a filler, and the reasons against it.

    Args:
        row: a row of `judge_fillers`.
        min_entropy: smallest entropy of replaced notes as a share of the real notes'. Half of log(10) is log(3.2):
            below it, replaced notes are in effect of three classes, and a part may seem important only because the note
            is of another class.
        min_diversity: smallest diversity of level and of phase, as a share of two real notes' distance. Two draws for
            one mask may be more similar than two notes; a tenth shows that the filler depends on its noise, so that
            the expected distortion differs from that of a single draw.
        max_auc: largest AUC; above 0.95, nearly every composite is less plausible than nearly every real note. After
            300 steps on 716 sampled notes, zeros and noise are at 0.97 and donor notes at 0.70.
        donor_auc: the AUC of donor notes, the default filler without training; an AUC below it is accepted too.

    >>> row = {"entropy": 0.2, "real_entropy": 2, "level_diversity": 0.5, "phase_diversity": 0.5, "auc": 0.9}
    >>> accepted(row)
    (False, ["entropy 0.20 is below 0.5 of the real notes' 2.00"])
    """
    reasons = []
    if not row["entropy"] >= min_entropy * row["real_entropy"]:
        reasons.append(
            f"entropy {row['entropy']:.2f} is below {min_entropy:g} of the real notes' {row['real_entropy']:.2f}"
        )
    for name in ("level", "phase"):
        if not row[f"{name}_diversity"] >= min_diversity:
            reasons.append(f"diversity of the {name} {row[f'{name}_diversity']:.2f} is below {min_diversity:g}")
    if not row["auc"] <= max_auc and not (donor_auc is not None and row["auc"] < donor_auc):
        beside = "" if donor_auc is None else f" and not below {donor_auc:.3f} of donor notes"
        reasons.append(f"AUC {row['auc']:.3f} is above {max_auc:g}{beside}")
    return not reasons, reasons


def class_entropy(probabilities: Tensor) -> float:
    """Entropy in nats of the mean over notes of class distributions (notes, classes).

    >>> round(class_entropy(torch.eye(4)), 4), class_entropy(torch.eye(4)[:1])
    (1.3863, 0.0)
    """
    return float(torch.special.entr(probabilities.double().mean(0)).sum())


@torch.no_grad()
def diversity(filler: Filler, features: Tensor, keep: Tensor, generator: torch.Generator) -> Diversity:
    """Distance of two fillings of the same note and mask, relative to that of two notes at the same places.

    Args:
        filler: the filler.
        features: (notes, 3, band), at least 2.
        keep: (notes, 2, band), 1 = keep.
        generator: of the draws and the pairs.
    """
    first, second = (filler.fill(features, keep, filler.draw(len(features), generator)) for _ in range(2))
    shift = int(torch.randint(1, len(features), (), generator=generator, device=generator.device))
    gone = 1 - keep[:, [0, 1, 1]]
    between_draws, between_notes = (first - second) * gone, (features - features.roll(shift, 0)) * gone
    parts = (slice(None), slice(0, 1), slice(1, 3))
    lengths = [(_length(between_draws[:, part]), _length(between_notes[:, part])) for part in parts]
    return Diversity(*(draws / notes if notes else np.nan for draws, notes in lengths))


def rank_auc(real: ArrayLike, composite: ArrayLike) -> float:
    """Probability that a real note scores higher than a composite; ties count half (Mann & Whitney's U).

    >>> rank_auc([3, 2], [1, 2])
    0.875
    """
    above, below = np.asarray(real, dtype=float), np.asarray(composite, dtype=float)
    ranks = stats.rankdata(np.concatenate([above, below]))
    u = ranks[: len(above)].sum() - len(above) * (len(above) + 1) / 2
    return float(u / (len(above) * len(below)))


def train_discriminator(
    filler: Filler, features: Tensor, *, steps: int = 300, batch: int = 32, width: int = 16, seed: int = 0
) -> Discriminator:
    """Trains a new discriminator between real notes and composites, with masks that do not keep everything.

    Adam at 1e-3 on the cross-entropy of the mean score over patches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Discriminator(width).to(features.device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(steps):
        chosen = torch.randint(len(features), (2 * batch,), generator=generator).to(features.device)
        real, other = features[chosen].chunk(2)
        fake = _composites(filler, other, _open_masks(other, generator), generator)
        score = judge(torch.cat([real, fake])).mean(1)
        label = (torch.arange(2 * batch, device=score.device) < batch).to(score)
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(score, label).backward()
        optimizer.step()
    return judge.eval()


def _told_apart(
    filler: Filler,
    train: Tensor,
    held_out: Tensor,
    steps: int,
    batch: int,
    width: int,
    seeds: Sequence[int],
    resamples: int,
) -> dict[str, float]:
    """AUCs of fresh discriminators on held-out notes, averaged over seeds, and a bootstrap interval."""
    wins, replaced = [], []
    for seed in seeds:
        judge = train_discriminator(filler, train, steps=steps, batch=batch, width=width, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        real = _scores(judge, held_out)
        masked = _composites(filler, held_out, _open_masks(held_out, generator), generator)
        whole = _composites(filler, held_out, torch.zeros_like(held_out[:, :2]), generator)
        wins.append((np.sign(real[:, None] - _scores(judge, masked)) + 1) / 2)
        replaced.append(rank_auc(real, _scores(judge, whole)))
    win = np.mean(wins, 0)
    notes = len(win)
    # A resample contains each note as often as its composite, and equally often for all seeds.
    weight = np.random.default_rng(seeds[0]).multinomial(notes, np.full(notes, 1 / notes), resamples)
    low, high = np.quantile(((weight @ win) * weight).sum(1) / notes**2, [0.025, 0.975])
    return {
        "auc": float(win.mean()),
        "auc_low": float(low),
        "auc_high": float(high),
        "auc_replaced": float(np.mean(replaced)),
    }


@torch.no_grad()
def _scores(judge: Discriminator, features: Tensor) -> np.ndarray:
    return torch.cat([judge(part).mean(1) for part in features.split(_BATCH)]).double().cpu().numpy()


@torch.no_grad()
def _composites(filler: Filler, features: Tensor, keep: Tensor, generator: torch.Generator) -> Tensor:
    parts = []
    for some, mask in zip(features.split(_BATCH), keep.split(_BATCH)):
        parts.append(compose(some, mask, filler.fill(some, mask, filler.draw(len(some), generator))))
    return torch.cat(parts)


def _open_masks(features: Tensor, generator: torch.Generator) -> Tensor:
    """Masks as in training, except masks that keep everything, for which nothing is filled."""
    count, _, bands = features.shape
    keep = sample_masks(count, bands, generator)
    while (full := keep.flatten(1).all(1)).any():
        keep[full] = sample_masks(int(full.sum()), bands, generator)
    return keep.to(features)


def _classes(classifier: Classifier, features: Tensor) -> dict[str, float]:
    with frozen(classifier), torch.no_grad():
        each = torch.cat([classifier.classify(part).probabilities for part in features.split(_BATCH)]).double()
    entropy = class_entropy(each)
    doubt = float(torch.special.entr(each).sum(1).mean())
    return {"entropy": entropy, "entropy_share": entropy / np.log(each.shape[1]), "information": entropy - doubt}


def _length(difference: Tensor) -> float:
    return float(difference.flatten(1).norm(dim=1).mean())
