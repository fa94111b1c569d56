"""Compares methods and controls on the same classifier, clips, mixtures and metrics.

A recipe with `methods` is a comparison. Trained methods are given as bundles or runs, the others as constructors;
controls are added, matched controls once for each method of `like`. Methods with soft masks of the log-magnitude run a
second time, as "<name>_magnitude", for the table in which all masks multiply magnitudes.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiointerp.contracts import Classifier, Interpreter, frozen
from audiointerp.datasets import ClipDataset
from audiointerp.datasets.limits import check_counts
from audiointerp.evaluation import judging
from audiointerp.evaluation.conditions import Condition
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import MaskInterpreter
from audiointerp.processes.world import current
from audiointerp.results.tables import Embeddings, forget_damaged, forget_replaced
from audiointerp.runs.comparison import tables as comparison_tables
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.methods import check_names, methods_of, names_of_runs
from audiointerp.runs.verdicts import overall, read_verdicts
from audiointerp.sound import files as audio
from audiointerp.training.progress import Progress

logger = logging.getLogger(__name__)

MAX_PASSES = 512  # largest number of classifier passes per item and method, scoring included

__all__ = ["Comparison", "MethodComparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Settings of a comparison: the conditions, and how each method takes part.

    Args:
        conditions: name -> condition, the first one clean; a condition without data is reported as "not run"; null
            leaves out one of an included recipe, with its subset.
        like: names of methods for which matched controls are made.
        costly: names of methods that explain the subset only.
        beyond: names of methods that may take more than 512 passes; the run's page lists them with their passes.
        subset: condition -> number of its items, drawn by the seed, that form its subset, for which there is a table
            with all methods; costly methods skip the other conditions. Only the WAVs of the subset are kept.
        other_class: names of methods that also explain the other class of a mixture.
        reference: name of the method that the others are tested against; None: the first.
        verdicts: the run of sanity.yaml whose verdicts are shown in the tables; None: no verdicts.
        curves: whether insertion and deletion are computed, which take 10 of the 14 passes of scoring.
        recognised: there are further tables of the questions in which the classifier gives the explained class at least
            this probability on the whole sound, between 0 and 1. What a classifier did not hear has no explanation that
            could be right; None: no such tables.
    Raises:
        ValueError: for a probability that is not above 0 and below 1.
    """

    conditions: Mapping[str, Condition | None] = field(default_factory=dict)
    like: tuple[str, ...] = ()
    costly: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    subset: Mapping[str, int] = field(default_factory=dict)
    other_class: tuple[str, ...] = ()
    reference: str | None = None
    verdicts: str | None = None
    curves: bool = True
    recognised: float | None = None

    def __post_init__(self) -> None:
        check_counts(**{f"subset.{name}": count for name, count in self.subset.items()})
        if self.recognised is not None and not 0 < self.recognised < 1:
            raise ValueError(f"recognised is {self.recognised:g}; give a probability above 0 and below 1, or null")
        left_out = {name for name, each in self.conditions.items() if each is None}
        object.__setattr__(self, "subset", {name: n for name, n in self.subset.items() if name not in left_out})

    @property
    def used(self) -> dict[str, Condition]:
        """The conditions that are not left out."""
        return {name: each for name, each in self.conditions.items() if each is not None}

    def without(self, names: Collection[str]) -> Comparison:
        """The same settings for fewer methods: names of methods that a recipe leaves out (`NAME: null`) are dropped."""
        lists = {each: getattr(self, each) for each in ("like", "costly", "beyond", "other_class")}
        return replace(self, **{key: tuple(name for name in each if name not in names) for key, each in lists.items()})

    def with_runs(self, several: Mapping[str, Sequence[str]]) -> Comparison:
        """The same settings with the names of a method's runs where a method is given as several runs."""
        lists = {each: getattr(self, each) for each in ("costly", "beyond", "other_class")}
        named = {key: tuple(run for name in names for run in several.get(name, [name])) for key, names in lists.items()}
        like = tuple(several.get(name, [name])[0] for name in self.like)
        reference = self.reference and several.get(self.reference, [self.reference])[0]
        return replace(self, **named, like=like, reference=reference)


class MethodComparison(Kind):
    """Runs a recipe with the key `methods`: compares them on the same classifier, clips, mixtures and metrics."""

    name = "comparison"
    key = "methods"
    keys = {"methods": Mapping, "controls": Mapping, "comparison": Comparison}
    defaults = {"controls": {}, "comparison": Comparison()}
    required = ("classifier",)
    needs_test = True
    trains = False
    divides = True

    def run(self, context: Context) -> None:
        """Scores the items that have not been scored yet and writes tables, figures and the page."""
        methods, controls = methods_of(context)
        test = context.data["test"]
        context.start(data={"test": test})
        for line in current().once(lambda: forget_damaged(context.folder)):
            logger.warning("%s", line)
        makers = context.values["methods"]
        left_out = {name for name, make in makers.items() if make is None}
        comparison, several = context.values["comparison"].without(left_out), names_of_runs(makers)
        facts = compare(comparison, methods, controls, test, context.folder, context.seed, several)
        context.finish(results={}, comparison=facts)
        current().once(lambda: str(self.page(context.folder)))

    def page(self, folder: Path) -> Path:
        """Writes tables, figures and a page with a play button for every method."""
        from audiointerp.runs.comparison import page

        return page.write(folder)


def compare(
    comparison: Comparison,
    methods: Mapping[str, Interpreter],
    controls: Mapping[str, Interpreter],
    test: ClipDataset,
    folder: Path,
    seed: int,
    several: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Scores all methods under all conditions in the run folder; resumes an interrupted comparison.

    Args:
        comparison: the settings.
        methods, controls: by name.
        test: the clips.
        folder: of the run.
        seed: of every draw.
        several: name -> the names in `methods` of its runs, which the tables show as one method.

    Returns:
        The facts that the tables need besides the scores: methods, controls, subset, conditions not run.

    Raises:
        ValueError: if the comparison names an unknown method, or a method would take too many passes.
    """
    several = several or {}
    comparison = comparison.with_runs(several)
    _check_names(comparison, [*methods, *controls])
    if wrong := [name for name in comparison.like if name in controls]:
        raise ValueError(f"comparison.like names {wrong[0]!r}, a control; name methods")
    everything = {**methods, **controls}
    costly = {
        *comparison.costly,
        *(key for key, each in controls.items() if _beside(each, methods) in comparison.costly),
    }
    _check(comparison, everything)
    everything |= {f"{name}_magnitude": _in_magnitude(each) for name, each in everything.items() if _is_soft_log(each)}
    reference = comparison.reference or next(iter(methods))
    skipped = {name: condition.missing for name, condition in comparison.used.items() if condition.missing}
    subsets = _judge_all(comparison, set(skipped), everything, costly, test, folder, seed)
    return {
        "verdicts": _verdicts(comparison.verdicts, everything, controls, methods, several),
        "methods": _roles(everything, methods, controls, costly),
        "reference": next((name for name, runs in several.items() if reference in runs), reference),
        "several": {name: list(runs) for name, runs in several.items()},
        "beyond": {name: everything[name].passes for name in comparison.beyond},
        "recognised": comparison.recognised,
        "subset": subsets,
        "not_run": skipped,
        "conditions": [name for name in comparison.used if name not in skipped],
    }


def _judge_all(
    comparison: Comparison,
    skipped: set[str],
    everything: Mapping[str, Interpreter],
    costly: set[str],
    test: ClipDataset,
    folder: Path,
    seed: int,
) -> dict[str, list[str]]:
    """Scores all methods under every condition that is not skipped; returns the items of each condition's subset."""
    subsets: dict[str, list[str]] = {}
    known: set[str] = set()
    for name, condition in comparison.used.items():
        if name in skipped:
            continue
        items = list(condition.items(name, test, folder, seed))
        _check_items(name, items, known, folder)
        known |= {item.item_id for item in items}
        if not subsets:  # the first condition is the clean one
            classifier = next(iter(everything.values())).classifier
            current().once(partial(_embed_inputs, items, classifier, folder))
        subsets[name] = _draw_subset(items, comparison.subset.get(name, 0), seed)
        _judge(comparison, name, items, subsets[name], everything, costly, folder)
    return subsets


def _roles(
    everything: Mapping[str, Interpreter],
    methods: Mapping[str, Interpreter],
    controls: Mapping[str, Interpreter],
    costly: set[str],
) -> dict[str, dict[str, Any]]:
    """Of each method, whether it is a control, whether it is costly, and which method it is matched to."""
    return {
        name: {
            "control": (own := name.removesuffix("_magnitude")) in controls,
            "costly": own in costly,
            "like": _beside(controls.get(own), methods),
        }
        for name in everything
    }


def _check_items(condition: str, items: list[Item], known: set[str], folder: Path) -> None:
    """Refuses items of an earlier condition, and forgets the results of items whose files were replaced since."""
    if again := known & {item.item_id for item in items}:
        raise ValueError(
            f"condition {condition} has items of an earlier condition, such as {min(again)}; use each clip in one only"
        )
    for line in current().once(lambda: forget_replaced(folder, {item.item_id: item.made_of for item in items})):
        logger.warning("%s", line)


def _judge(
    comparison: Comparison,
    condition: str,
    items: list[Item],
    subset: list[str],
    methods: Mapping[str, Interpreter],
    costly: set[str],
    folder: Path,
) -> None:
    """Scores all methods on a condition's subset, and those that are not costly also on its other items."""
    wanted = Wanted(
        other_class=comparison.other_class,
        figures=False,
        curves=comparison.curves,
        embeddings=True,
        sounds=lambda item_id: item_id in subset,
    )
    cheap = {name: each for name, each in methods.items() if name.removesuffix("_magnitude") not in costly}
    chosen = [item for item in items if item.item_id in subset]
    others = [item for item in items if item.item_id not in subset]
    for name, some, used in ((f"{condition}, subset", chosen, methods), (condition, others, cheap)):
        with Progress(len(some), name) as progress:
            evaluate(some, used, folder, wanted, done=progress.step)


def _verdicts(
    run: str | None,
    everything: Mapping[str, Interpreter],
    controls: Mapping[str, Interpreter],
    methods: Mapping[str, Interpreter],
    several: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Method -> its verdict in a run of sanity checks, for the methods that were checked.

    Sanity checks run a control once; here it appears once per matched method, so its verdict is looked up by base name.
    A run of several is looked up by its own name, then by the method's.
    """
    verdicts = overall(read_verdicts(run)) if run else {}
    whole = {run: name for name, runs in several.items() for run in runs}
    found = {}
    for name in everything:
        like = _beside(controls.get(name), methods) or ""
        base = name.removesuffix(f"_{whole.get(like, like)}")
        verdict = verdicts.get(name) or verdicts.get(base) or verdicts.get(whole.get(name, name))
        if verdict is not None:
            found[name] = verdict
    return found


def _beside(control: Interpreter | None, methods: Mapping[str, Interpreter]) -> str | None:
    """The name of the method that a control is matched to, or None."""
    return next((name for name, each in methods.items() if each is getattr(control, "like", None)), None)


def _check_names(comparison: Comparison, names: list[str]) -> None:
    """Checks names, which are used in columns and file names; names of conditions also begin item ids."""
    if not any(not each.missing for each in comparison.used.values()):
        why = "; ".join(f"{name}: {each.missing}" for name, each in comparison.used.items())
        raise ValueError(f"comparison.conditions has no condition with data ({why or 'it is empty'}); give one")
    if wrong := [name for name in comparison.used if not re.fullmatch(r"[a-z][a-z0-9_]{0,24}", name)]:
        raise ValueError(f"condition {wrong[0]!r}: use at most 25 characters of a-z, 0-9 and _, first a letter")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is the name of a method and of a control; rename one")
    check_names(names)


def _check(comparison: Comparison, methods: Mapping[str, Interpreter]) -> None:
    named = {
        "like": comparison.like,
        "costly": comparison.costly,
        "beyond": comparison.beyond,
        "other_class": comparison.other_class,
        "reference": (comparison.reference,) if comparison.reference else (),
    }
    for key, names in named.items():
        if unknown := [name for name in names if name not in methods]:
            raise ValueError(f"comparison.{key} names {unknown[0]!r}; the methods are {', '.join(methods)}")
    if unknown := [name for name in comparison.subset if name not in comparison.used]:
        raise ValueError(f"comparison.subset names {unknown[0]!r}; conditions are {', '.join(comparison.used)}")
    for name, method in methods.items():
        passes = method.passes + judging.PASSES + judging.CURVE_PASSES * comparison.curves
        if passes > MAX_PASSES and name not in comparison.beyond:
            raise ValueError(
                f"method {name} takes {passes} classifier passes per item; more than {MAX_PASSES} are only allowed for "
                "methods in comparison.beyond"
            )


def _is_soft_log(method: Interpreter) -> bool:
    """Whether its masks are soft and multiply the log-magnitude; binary masks sound the same in both domains."""
    if not isinstance(method, MaskInterpreter) or method.only_binary or method.binary:
        return False
    return method.domain == "log_magnitude"


def _in_magnitude(method: Interpreter) -> Interpreter:
    twin: Any = copy.copy(method)
    twin.domain = "magnitude"
    return twin


def _embed_inputs(items: list[Item], classifier: Classifier, folder: Path) -> None:
    """Writes the embeddings of the clips, to which the Frechet distance compares those of the interpretations."""
    table = Embeddings(folder)
    for item in items:
        waveform = audio.normalize_peak(next(item.windows()).waveform.to(classifier.device))[0]
        with frozen(classifier), torch.no_grad():
            embedding = classifier(waveform).embedding
        if embedding is not None:
            table.add(item.item_id, comparison_tables.INPUT, item.condition, embedding[0].tolist())


def _draw_subset(items: list[Item], count: int, seed: int) -> list[str]:
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    return [items[i].item_id for i in sorted(order[:count])]
