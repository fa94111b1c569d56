"""Augmentation of training batches, waveforms in and out; for spectrograms see `spectrograms`.

Everything random comes from the torch.Generator passed in, which is on the CPU for data on any device, so that
a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from audiointerp.contracts import Batch
from audiointerp.datasets.mixtures import mix
from audiointerp.sound.files import SILENCE

__all__ = [
    "Chain",
    "Gain",
    "Mixup",
    "Remix",
    "RemixPairs",
    "TimeRoll",
    "one_hot_labels",
]


class Chain:
    """Several augmentations in turn, all of waveforms or all of spectrograms."""

    def __init__(self, steps: Sequence[Callable[[Any, Generator], Any]]):
        self.steps = list(steps)

    def __call__(self, data: Any, generator: Generator) -> Any:
        """The data after the last step."""
        for step in self.steps:
            data = step(data, generator)
        return data


class TimeRoll:
    """Rolls each clip in time by a random amount; samples that leave at the end return at the start."""

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Waveform and stem rolled alike."""
        shift = _shifts(batch.waveform, generator)
        stem = None if batch.stem is None else roll(batch.stem, shift)
        return _changed(batch, roll(batch.waveform, shift), stem)


class Gain:
    """A random gain for each clip, uniform in dB.

    Args:
        low_db, high_db: range, in dB.
    Raises:
        ValueError: if low_db is above high_db.
    """

    def __init__(self, low_db: float, high_db: float):
        _check_range("Gain", low_db, high_db)
        self.low_db, self.high_db = low_db, high_db

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Waveform and stem scaled alike."""
        level = self.low_db + (self.high_db - self.low_db) * _uniform(batch.waveform, generator)
        gain = 10 ** (level[:, None] / 20)
        return _changed(batch, batch.waveform * gain, None if batch.stem is None else batch.stem * gain)


class Mixup:
    """Convex combinations of two clips and of their labels: `w a + (1 - w) b`, w ~ Beta(alpha, alpha).

    Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412. Here w is
    drawn for each clip; the authors' code draws one w for each batch.

    Args:
        alpha: above 0; the larger, the closer w to 1/2.
    Raises:
        ValueError: if alpha is not above 0, or labels are indices (see `one_hot_labels`).
    """

    def __init__(self, alpha: float):
        if not alpha > 0:
            raise ValueError(f"Mixup's alpha is {alpha}; it must be above 0")
        self.alpha = alpha

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Labels (batch, classes) are mixed as the waveforms are."""
        from scipy.special import betaincinv  # a tenth of the start-up time, and few runs need it

        if batch.label.ndim != 2:
            raise ValueError("Mixup needs labels (batch, classes); apply one_hot_labels to class indices first")
        uniform = torch.rand(len(batch), generator=generator, dtype=torch.float64)
        weight = torch.from_numpy(betaincinv(self.alpha, self.alpha, uniform.numpy()))  # inverse of Beta's CDF
        weight = weight.to(batch.waveform)[:, None]
        partner = torch.randperm(len(batch), generator=generator).to(batch.waveform.device)

        def blend(value: Tensor) -> Tensor:
            return weight * value + (1 - weight) * value[partner]

        stem = None if batch.stem is None else blend(batch.stem)
        return _changed(batch, blend(batch.waveform), stem).replace(label=blend(batch.label))


class Remix:
    """Mixes clips with others of the batch that share none of their labels; the stem is the clip's part of the mixture.

    A partner is drawn per clip and rolled in time by a random amount; unit-norm stems are summed at an SNR (level
    of the clip above its partner) uniform in dB, and the sum is scaled to peak 1, as `mixtures.mix` does. The label
    stays the clip's own. A clip stays clean, with itself as stem, if it is silent or every other clip is silent or
    shares a label with it.

    Args:
        snr_low, snr_high: range of the SNR, in dB.
        probability: of mixing a clip.
        union: the label becomes both clips' classes, for a multilabel classifier, and no stem is kept.
    Raises:
        ValueError: if snr_low is above snr_high, the probability is outside [0, 1], the batch is mixed already, or
            union is set and clips have one label each.
    """

    def __init__(self, snr_low: float = -5.0, snr_high: float = 15.0, probability: float = 1.0, union: bool = False):
        _check_range("Remix", snr_low, snr_high)
        if not 0 <= probability <= 1:
            raise ValueError(f"Remix's probability is {probability}; it must be in [0, 1]")
        self.snr_low, self.snr_high, self.probability, self.union = snr_low, snr_high, probability, union

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Waveform: the mixtures; stem: each clip's own scaled part of its mixture."""
        if batch.stem is not None:
            raise ValueError("Remix needs clean clips; this batch has stems already")
        if self.union and batch.label.ndim != 2:
            raise ValueError("Remix with union needs labels (batch, classes); set multilabel to true")
        waveform = batch.waveform
        size = len(batch)
        # The number of draws never depends on the labels, so that later draws do not depend on them either.
        chance, lottery = torch.rand(size, generator=generator), torch.rand(size, size, generator=generator)
        snr_db = self.snr_low + (self.snr_high - self.snr_low) * torch.rand(size, generator=generator)
        shift = _shifts(waveform, generator)

        allowed = _mixable(batch)
        own = [row for row in range(size) if chance[row] < self.probability and allowed[row].any()]
        if not own:
            return _changed(batch, waveform, waveform)
        partner = lottery.masked_fill(~allowed, -1).argmax(1)[own]
        gain = (10 ** (-snr_db[own] / 20)).to(waveform)
        mixed, stem = waveform.clone(), waveform.clone()
        mixed[own], stem[own], _ = mix(
            waveform[own], roll(waveform[partner], shift[own]), base_gain=1.0, other_gain=gain
        )
        if not self.union:
            return _changed(batch, mixed, stem)
        label = batch.label.clone()
        label[own] = torch.maximum(label[own], label[partner])
        return _changed(batch, mixed, None).replace(label=label)


class RemixPairs:
    """Mixes clips in pairs of different labels; both rows of a pair hold the same mixture, each with its own stem.

    The two rows have the same sound but different targets, so a method cannot explain both by keeping the loudest bins
    and must distinguish the classes.

    Args:
        max_db: the SNR of a pair is uniform in [-max_db, max_db], so the SNRs of the two rows are opposite.
        probability: of mixing a pair; the others stay clean, with themselves as stem.
    Raises:
        ValueError: if max_db is negative, the probability is outside [0, 1], or the batch is mixed already.
    """

    def __init__(self, max_db: float = 10.0, probability: float = 0.85):
        _check_range("RemixPairs", -max_db, max_db)
        if not 0 <= probability <= 1:
            raise ValueError(f"RemixPairs' probability is {probability}; it must be in [0, 1]")
        self.max_db, self.probability = max_db, probability

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Waveform: the mixtures; stem: each clip's own scaled part of its mixture."""
        if batch.stem is not None:
            raise ValueError("RemixPairs needs clean clips; this batch has stems already")
        size, waveform = len(batch), batch.waveform
        order = torch.randperm(size, generator=generator).tolist()
        chance, uniform = torch.rand(2, size, generator=generator)
        mixed, stem = waveform.clone(), waveform.clone()
        for one, two in _pair_up(order, _mixable(batch)):
            if chance[one] < self.probability:
                snr_db = float(2 * uniform[one] - 1) * self.max_db
                mixture, *stems = mix(waveform[one], waveform[two], base_gain=1.0, other_gain=10 ** (-snr_db / 20))
                mixed[one] = mixed[two] = mixture
                stem[one], stem[two] = stems
        return _changed(batch, mixed, stem)


def one_hot_labels(batch: Batch, classes: int) -> Batch:
    """The batch with labels (batch, classes), float; labels that are so already are unchanged.

    Raises:
        ValueError: if the labels name another number of classes.
    """
    if batch.label.ndim == 1:
        if len(batch) and int(batch.label.max()) >= classes:
            raise ValueError(f"label {int(batch.label.max())} does not fit {classes} classes")
        return batch.replace(label=nn.functional.one_hot(batch.label, classes).to(batch.waveform.dtype))
    if batch.label.shape[1] != classes:
        raise ValueError(f"labels have {batch.label.shape[1]} classes; expected {classes}")
    return batch


def roll(waveform: Tensor, shift: Tensor) -> Tensor:
    """(batch, samples) rolled to the right by its own number of samples per row.

    >>> roll(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([1, 0]))
    tensor([[3, 1, 2],
            [4, 5, 6]])
    """
    return torch.stack([row.roll(count) for row, count in zip(waveform, shift.tolist())])


def _changed(batch: Batch, waveform: Tensor, stem: Tensor | None) -> Batch:
    # Feature maps computed before are those of the unchanged waveform.
    return batch.replace(waveform=waveform, stem=stem, feature_maps=None)


def _uniform(waveform: Tensor, generator: Generator) -> Tensor:
    return torch.rand(len(waveform), generator=generator).to(waveform)


def _shifts(waveform: Tensor, generator: Generator) -> Tensor:
    return torch.randint(waveform.shape[1], (len(waveform),), generator=generator)


def _mixable(batch: Batch) -> Tensor:
    """(batch, batch) bool, on the CPU: pairs of rows that are both audible and have no class in common."""
    audible = (batch.waveform.abs().amax(1) > SILENCE).cpu()
    return _disjoint(batch.label).cpu() & audible[:, None] & audible


def _pair_up(order: list[int], allowed: Tensor) -> list[tuple[int, int]]:
    """Each row in turn with the first later one that it may be mixed with; rows without one are left out."""
    pairs, left = [], list(order)
    while left:
        one = left.pop(0)
        two = next((each for each in left if allowed[one, each]), None)
        if two is not None:
            left.remove(two)
            pairs.append((one, two))
    return pairs


def _disjoint(label: Tensor) -> Tensor:
    """(batch, batch) bool: pairs of rows with no class in common."""
    if label.ndim == 1:
        return label[:, None] != label
    held = (label > 0).float()
    return held @ held.T == 0


def _check_range(name: str, low: float, high: float) -> None:
    if not low <= high:
        raise ValueError(f"{name}'s range {low} to {high} dB is empty; the first must not be above the second")
