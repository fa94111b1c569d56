"""Class-specific masks: mixtures of two classes, masked with the mask of every class in turn.

Section 4.2 of Stalder et al. (2022), https://arxiv.org/abs/2205.11266, on sounds. Of a mixture that contains the class
r, the mask of the class c is made binary at nine thresholds, and the softmax probability of r on the masked mixture is
averaged over them. In the table of all r (rows) and c (columns), the diagonal should be high and all else low: if the
mask of another class leaves r just as probable, the masks do not depend on the class.

Section 4.3 of the paper: the mask of each class that is present is compared with the ideal mask of its stem. The
constant masks 0, 0.5 and 1 and the ideal mask itself are scored too, which shows what each score gives to a trivial
mask.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpretation, Interpreter, frozen
from audiointerp.datasets.limits import check_counts, check_items, check_level
from audiointerp.evaluation.items import Item, mixture_items
from audiointerp.evaluation.made_mixtures import made_mixtures
from audiointerp.metrics import segmentation
from audiointerp.results.paths import inside
from audiointerp.results.reading import read_table
from audiointerp.results.writing import write_table
from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.methods import methods_of
from audiointerp.sound import files as audio
from audiointerp.sound.masking import Domain, StemMask, apply_mask
from audiointerp.training.progress import Progress

THRESHOLDS = tuple(number / 10 for number in range(1, 10))
CONSTANTS = (0.0, 0.5, 1.0)

__all__ = ["ClassMasking", "ClassMasks", "constant_rows", "mask_rows", "summarize"]


@dataclass(frozen=True)
class ClassMasks:
    """Settings of the table of class-specific masks.

    Args:
        mixtures: number of mixtures of two classes, drawn by the seed.
        snr_db: level of a mixture's first clip above its second, in dB.
        thresholds: a bin is kept if its mask is above the threshold; 0.1 to 0.9 in the paper.
        ideal: the mask of the known stem that masks are compared with, "binary" or "ratio".
        min_ratio: a method fails if the mean of the table's diagonal is below this many times the mean of its other
            cells.
        sounds: number of mixtures of which the sound of every class's mask is kept.
    """

    mixtures: int = 40
    snr_db: float = 0.0
    thresholds: Sequence[float] = THRESHOLDS
    ideal: str = "binary"
    min_ratio: float = 3.0
    sounds: int = 3

    def __post_init__(self) -> None:
        check_items(self.mixtures, "mixtures", "mixtures")
        check_counts(sounds=self.sounds)
        check_level("snr_db", self.snr_db)
        if not self.thresholds or not all(0 <= each < 1 for each in self.thresholds):
            raise ValueError(f"thresholds are {list(self.thresholds)}; name one or more numbers from 0 to below 1")
        StemMask(self.ideal)  # pyright: ignore[reportArgumentType]  # raises for other kinds


class ClassMasking(Kind):
    """Runs a recipe with the key `class_masks`: whether the mask of each class keeps that class only."""

    name = "class_masks"
    scored = False
    key = "class_masks"
    keys = {"class_masks": ClassMasks, "methods": Mapping, "controls": Mapping, "comparison": Comparison}
    defaults = {"controls": {}, "comparison": Comparison()}
    required = ("classifier", "methods")
    needs_test = True
    trains = False

    def run(self, context: Context) -> None:
        """Masks the mixtures with the methods that are not in the tables yet; writes the summary and the page."""
        methods, controls = methods_of(context)
        test = context.data["test"]
        context.start(data={"test": test})
        wanted: ClassMasks = context.values["class_masks"]
        settings = {"items": wanted.mixtures, "seed": context.seed, "snr_db": wanted.snr_db}
        table = made_mixtures(test, context.folder / "mixtures", context.folder, **settings)
        items = list(mixture_items(table, test.sample_rate))
        _mask_with_every_method(wanted, {**methods, **controls}, items, context)
        summary = summarize(*_tables(context.folder), wanted)
        write_table(context.folder / "summary.csv", summary)
        context.finish(results={"mixtures": len(items)})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the tables, the figures and the page."""
        from audiointerp.runs.class_masks import page

        return page.write(folder)


def mask_rows(
    wanted: ClassMasks, name: str, method: Interpreter, item: Item, labels: Sequence[str], folder: Path | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One mixture masked with one method's mask of every class.

    Args:
        wanted: thresholds, and the kind of ideal mask.
        name: of the method.
        method: makes masks on the STFT grid.
        item: the mixture, with the stems of its two classes.
        labels: the classes whose masks are made; an oracle control makes only those whose stem is known.
        folder: where to write the sound of every class's mask, as `<method>_<number of the class>.wav`; None: nowhere.

    Returns:
        Rows of class_masks.csv: for each mask ("target") and each class present ("label"), "probability", the mean over
        the thresholds, and "whole" and "silence", the probability of that class on the mixture and on silence. Rows of
        segmentation.csv: the scores of the soft masks of the classes present.

    Raises:
        ValueError: if the method makes no mask on the STFT grid.
    """
    classifier = method.classifier
    clip = _Clip(item, classifier, wanted)
    rows, covered, known = [], [], None
    with method.several_targets():
        for label in labels:
            stem = clip.stem(label)
            if method.needs_stem and stem is None:
                continue
            start = time.perf_counter()
            made = method.interpret(clip.waveform, classifier.labels.index(label), stem=stem)
            seconds = time.perf_counter() - start
            if made.mask is None or made.domain is None:
                raise ValueError(f"method {name} makes no mask on the STFT grid; leave it out of this recipe")
            if known is None or not torch.equal(made.mask, known[0]):  # a method may have one mask for all classes
                known = made.mask, clip.probabilities(_above(made.mask, wanted.thresholds), made.domain).mean(0)
            place = {"item_id": item.item_id, "method": name, "target": label}
            for present in item.stems:
                at = classifier.labels.index(present)
                heard = {"probability": known[1][at], "whole": clip.whole[at], "silence": clip.silence[at]}
                shares = {"mean_mask": float(made.mask.mean()), "seconds": seconds}
                rows.append({**place, "label": present, **{key: float(p) for key, p in heard.items()}, **shares})
            if label in item.stems:
                covered.append({**place, **clip.cover(label, made.mask, made.domain)})
            if folder is not None:
                _write_sound(folder, item, f"{name}_{classifier.labels.index(label):03d}", made)
    return rows, covered


def constant_rows(wanted: ClassMasks, item: Item, classifier: Classifier) -> list[dict[str, Any]]:
    """Rows of segmentation.csv for the constant masks 0, 0.5 and 1 (of the magnitude), and for the ideal mask."""
    clip, rows = _Clip(item, classifier, wanted), []
    for label in item.stems:
        ideal = clip.ideal(label)
        masks = {f"constant_{value:g}": torch.full_like(ideal, value) for value in CONSTANTS} | {"ideal": ideal}
        for name, mask in masks.items():
            place = {"item_id": item.item_id, "method": name, "target": label}
            rows.append({**place, **clip.cover(label, mask, "magnitude")})
    return rows


def summarize(rows: pd.DataFrame, covered: pd.DataFrame, wanted: ClassMasks) -> pd.DataFrame:
    """One row per method: means of the table's cells, their ratio, the verdict, and the means of the four scores.

    "diagonal" and "others" are means over the cells of the table, each of which is a mean over mixtures.
    "other_present" is the mean over mixtures of the probability with the mask of the other class that is present.
    """
    out = []
    for method, scores in covered.groupby("method", sort=False):
        row: dict[str, Any] = {"method": method, "n": scores["item_id"].nunique()}
        group = rows[rows["method"] == method]
        if len(group):
            cells = group.groupby(["label", "target"])["probability"].mean()
            own = cells.index.get_level_values("label") == cells.index.get_level_values("target")
            both = group.groupby("item_id")["label"].unique().to_dict()
            beside = [each.target != each.label and each.target in both[each.item_id] for each in group.itertuples()]
            row |= {"diagonal": cells[own].mean(), "others": cells[~own].mean()}
            row |= {"other_present": group.loc[beside, "probability"].mean(), "seconds": group["seconds"].mean()}
            ratio = row["diagonal"] / row["others"] if row["others"] > 0 else math.nan
            rule = f"diagonal >= {wanted.min_ratio:g} times the other cells"
            row |= {"ratio": ratio, "rule": rule, "verdict": "pass" if ratio >= wanted.min_ratio else "fail"}
        out.append(row | {name: scores[name].mean() for name in ("accuracy", "iou", "saliency", "mae", "mean_mask")})
    return pd.DataFrame(out)


class _Clip:
    """A mixture of two classes for a classifier, at peak 1, and what is known of it whatever the method."""

    def __init__(self, item: Item, classifier: Classifier, wanted: ClassMasks):
        self.item, self.classifier, self.kind = item, classifier, wanted.ideal
        self.waveform = next(item.windows()).waveform.to(classifier.device)
        scaled, self.gain = audio.normalize_peak(self.waveform)
        with torch.no_grad():
            self.stft = classifier.spectrogram(scaled)
        ends = torch.stack([torch.ones_like(self.stft[0].abs()), torch.zeros_like(self.stft[0].abs())])
        self.whole, self.silence = self.probabilities(ends, "magnitude")

    def stem(self, label: str) -> Tensor | None:
        """The part of the mixture that is the class's, if it is present."""
        stem = self.item.stems.get(label)
        return None if stem is None else stem.to(self.classifier.device)

    def ideal(self, label: str) -> Tensor:
        """Ideal mask of a class that is present, (1, freq, time)."""
        with torch.no_grad():
            stem = self.classifier.spectrogram(self.item.stems[label].to(self.waveform) * self.gain[:, None])
        return StemMask(self.kind)(self.stft, stem)  # pyright: ignore[reportArgumentType]

    def probabilities(self, masks: Tensor, domain: Domain) -> Tensor:
        """Softmax probabilities (masks, classes) on the mixture with each of (masks, freq, time).

        The softmax is taken for classifiers of several labels too: it says how probable a class is beside the others.
        """
        with torch.no_grad(), frozen(self.classifier) as classifier:
            masked = apply_mask(self.stft.expand(len(masks), -1, -1), masks, domain)
            return classifier.classify_stft(masked, self.waveform.shape[1]).logits.softmax(1)

    def cover(self, label: str, mask: Tensor, domain: Domain) -> dict[str, float]:
        """The four scores of a soft mask (1, freq, time) against the ideal mask of a class that is present."""
        ideal, at = self.ideal(label), self.classifier.labels.index(label)
        scores = {
            "accuracy": segmentation.accuracy(mask, ideal),
            "iou": segmentation.iou(mask, ideal),
            "saliency": segmentation.saliency(mask, self.probabilities(mask, domain)[:, at]),
            "mae": segmentation.mean_absolute_error(mask, ideal),
            "mean_mask": mask.mean((1, 2)),
            "ideal_area": ideal.mean((1, 2)),
        }
        return {name: float(value[0]) for name, value in scores.items()}


def _mask_with_every_method(
    wanted: ClassMasks, methods: Mapping[str, Interpreter], items: Sequence[Item], context: Context
) -> None:
    """Adds the rows of the methods that are not in the two tables yet."""
    folder, labels = context.folder, context.splits.labels
    rows, covered = (table.to_dict("records") for table in _tables(folder))
    finished = {row["method"] for row in covered}
    if "ideal" not in finished:
        covered += [row for item in items for row in constant_rows(wanted, item, context.classifier)]
    for name, method, left in _unfinished(methods, finished, len(items)):
        for number, item in enumerate(items):
            # A control's mask is the same for every class, so that its sounds would fill the page.
            where = folder if number < wanted.sounds and name in context.values["methods"] else None
            if where is not None:
                _write_mixture(where, item)
            made = mask_rows(wanted, name, method, item, labels, where)
            rows, covered = rows + made[0], covered + made[1]
            left.step()
        write_table(folder / "class_masks.csv", pd.DataFrame(rows))
        write_table(folder / "segmentation.csv", pd.DataFrame(covered))  # last: a method in it is finished


def _unfinished(
    methods: Mapping[str, Interpreter], finished: set[str], items: int
) -> Iterator[tuple[str, Interpreter, Progress]]:
    """The methods that are not finished, each with the progress over all of them."""
    left = {name: method for name, method in methods.items() if name not in finished}
    with Progress(len(left) * items, "class masks") as progress:
        for name, method in left.items():
            yield name, method, progress


def _tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """class_masks.csv and segmentation.csv, without rows of methods that are not finished."""
    needed = ("item_id", "method", "target")
    rows = read_table(folder / "class_masks.csv", (*needed, "label", "probability", "whole", "silence"))
    covered = read_table(folder / "segmentation.csv", (*needed, "accuracy", "iou", "saliency", "mae"))
    finished = set(covered["method"]) if len(covered) else set()
    return (pd.DataFrame(rows[rows["method"].isin(finished)]) if len(rows) else rows), covered


def _above(mask: Tensor, thresholds: Sequence[float]) -> Tensor:
    """(1, freq, time) -> (thresholds, freq, time), 1 where the mask is above each threshold."""
    return torch.cat([(mask > threshold).to(mask.dtype) for threshold in thresholds])


def _write_sound(folder: Path, item: Item, name: str, made: Interpretation) -> None:
    audio.write(inside(folder, "audio", item.item_id, f"{name}.wav"), made.waveform[0].cpu(), item.sample_rate)


def _write_mixture(folder: Path, item: Item) -> None:
    path = inside(folder, "audio", item.item_id, "mixture.wav")
    if not path.is_file():
        audio.write(path, next(item.windows()).waveform[0], item.sample_rate)
