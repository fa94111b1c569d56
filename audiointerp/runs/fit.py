"""Runs that train a classifier or an interpreter: training, keeping the best weights, evaluation, and the page."""

from __future__ import annotations

import inspect
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from audiointerp import datasets
from audiointerp.bundles import bundle
from audiointerp.classifiers import Supervised
from audiointerp.contracts import Batch, Classifier, Interpreter, Trainable
from audiointerp.datasets import ClipDataset
from audiointerp.datasets.limits import check_counts, check_level
from audiointerp.evaluation.accuracy import evaluate_classifier
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import clip_items, mixture_items
from audiointerp.evaluation.made_mixtures import made_mixtures
from audiointerp.interpreters import FLINT, L2I
from audiointerp.processes.world import current
from audiointerp.recipe.signatures import UNKNOWN
from audiointerp.results.page import write_report
from audiointerp.results.tables import forget_damaged
from audiointerp.runs.attributes.settings import AttributeSettings
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.methods import build_controls, build_methods
from audiointerp.training.progress import tracked
from audiointerp.training.schedules import Schedule, is_weight

logger = logging.getLogger(__name__)

__all__ = ["ClassifierTraining", "Evaluation", "InterpreterTraining", "Training"]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of an interpreter after training: clips of the test folds, and mixtures of them.

    Args:
        clips: number of clean clips; None for all.
        mixtures: number of two-class mixtures; 0 for none.
        snr_db: level of a mixture's first clip above its second, in dB.
        gains: of the first and the second clip, both at unit norm, instead of `snr_db`.
        figures: whether to draw each interpretation.
    """

    clips: int | None = None
    mixtures: int = 0
    snr_db: float = 0.0
    gains: tuple[float, float] | None = None
    figures: bool = True

    def __post_init__(self) -> None:
        check_counts(clips=self.clips, mixtures=self.mixtures)
        check_level("snr_db", self.snr_db)


class Training(Kind):
    """A kind of run that trains a model; subclasses build the model, evaluate it, and write the page."""

    keys = {
        "weight_decay": float,
        "betas": tuple[float, float],
        "loss_weights": Mapping,
        "schedule": Schedule,
        "augment": Any,
        "select": str | None,
        "model_card": str,
    }
    defaults = {
        "weight_decay": 0.01,
        "betas": (0.9, 0.999),
        "loss_weights": {},
        "schedule": Schedule(),
        "augment": None,
        "select": None,
        "model_card": "",
    }
    required = ("classifier", "epochs", "lr")
    divides = True

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """The problems of every kind, and a `select` by validation scores without validation folds."""
        found = super().problems(values)
        select = values["select"]
        if (select or "").startswith("valid_") and not values["valid_folds"]:
            found.append(f"select is {select!r}, but valid_folds is empty; name folds, or give --select null")
        weights = values["loss_weights"]  # not a mapping yet, where a function makes it
        for name, weight in weights.items() if isinstance(weights, Mapping) else ():
            if weight is not UNKNOWN and not is_weight(weight):
                told = "a number of at least 0, or a list of [epoch, number]"
                found.append(f"loss_weights.{name} is {weight!r}; it must be {told}")
        if not 0 <= values["weight_decay"] < math.inf:
            found.append(f"weight_decay is {values['weight_decay']}; it must be a number of at least 0")
        return found

    @abstractmethod
    def build(self, context: Context) -> tuple[Trainable, Any]:
        """The object to train, and the model that is saved as a bundle."""

    @abstractmethod
    def judge(self, best: Any, context: Context) -> dict[str, Any]:
        """Evaluates the best weights on the test folds into the run folder; returns the results for run.json."""

    def augmented(self, context: Context, batch: Batch) -> Batch:
        """A training batch, prepared for the recipe's augmentation."""
        return batch

    def run(self, context: Context) -> None:
        """Trains to the last epoch, keeps the best weights, evaluates them and writes the page."""
        trainable, model = self.build(context)
        context.start()
        kept = self._train(trainable.to(context.device), model, context)
        current().once(lambda: None)  # process 0, which saves the best weights, is here
        best = bundle.load(context.folder / "best", None if context.classifier.config else context.classifier)
        best = best.to(context.device)
        current().once(lambda: _draw_log(context.folder))
        context.finish(kept=kept, results=self.judge(best, context))
        current().once(lambda: str(self.page(context.folder)))

    def page(self, folder: Path) -> Path:
        """Writes the standard page of a run."""
        return write_report([folder])

    def _train(self, trainable: Trainable, model: Any, context: Context) -> dict[str, float]:
        # Imported here, since lightning loads much of torch, which explaining does not need.
        from audiointerp.training.devices import make_fabric
        from audiointerp.training.loop import Trainer, TrainingSettings, epoch_seed

        values, train, valid = context.values, context.data["train"], context.data.get("valid")
        size = values["batch_size"]
        settings = TrainingSettings(
            epochs=values["epochs"],
            lr=values["lr"],
            weight_decay=values["weight_decay"],
            betas=tuple(values["betas"]),
            loss_weights=values["loss_weights"],
            schedule=values["schedule"],
            seed=context.seed,
            select=values["select"],
        )
        fabric = make_fabric(values["device"], values["precision"])
        trainer = Trainer(trainable, context.folder, settings, -(-len(train) // size), fabric)

        def batches(epoch: int, first: int = 0) -> Iterator[Batch]:
            for batch in train.batches(size, shuffle_seed=epoch_seed(context.seed, epoch), first=first):
                batch = self.augmented(context, batch)
                yield datasets.one_hot_labels(batch, len(train.labels)) if trainable.label_sets else batch

        def save(row: dict[str, float]) -> None:
            bundle.save(model, context.folder / "best", metrics=row, card=values["model_card"])

        judged = (lambda: valid.batches(size)) if valid else None
        return trainer.fit(batches, judged, values["augment"], save, later_batches=batches)


class ClassifierTraining(Training):
    """Runs a recipe without the key of any other kind: trains the recipe's classifier."""

    name = "classifier"
    scored = False
    key = "classifier"
    keys = {**Training.keys, "training": Callable, "dictionary": str | None}
    defaults = {**Training.defaults, "training": Supervised, "dictionary": None}

    def build(self, context: Context) -> tuple[Trainable, Classifier]:
        """The recipe's training object, and its classifier."""
        classifier = context.classifier
        return context.values["training"](classifier, **_dictionary(context)), classifier

    def augmented(self, context: Context, batch: Batch) -> Batch:
        """A batch with labels as distributions over classes, which augmentation may mix."""
        if context.values["multilabel"]:
            return batch
        return datasets.one_hot_labels(batch, len(context.data["train"].labels))

    def judge(self, best: Classifier, context: Context) -> dict[str, Any]:
        """Accuracy on the test folds."""
        test = context.data.get("test")
        size = context.values["batch_size"]
        return {} if test is None else current().once(lambda: evaluate_classifier(best, test, context.folder, size))


class InterpreterTraining(Training):
    """Runs a recipe with the key `interpreter`: trains an interpreter of the recipe's classifier."""

    name = "interpreter"
    key = "interpreter"
    keys = {
        **Training.keys,
        "interpreter": Callable,
        "training": Callable,
        "start_from": str | None,
        "dictionary": str | None,
        "controls": Mapping,
        "evaluation": Evaluation,
        "attributes": AttributeSettings,
    }
    defaults = {
        **Training.defaults,
        "start_from": None,
        "dictionary": None,
        "controls": {},
        "evaluation": Evaluation(),
        "attributes": AttributeSettings(),
    }

    def build(self, context: Context) -> tuple[Trainable, Interpreter]:
        """The recipe's interpreter of its classifier; with `start_from`, it has the weights of a trained one.

        With `training`, the recipe's training object of the interpreter, which may train its classifier too.
        """
        interpreter = context.values["interpreter"](
            context.classifier, **_dictionary(context), **self._classes(context)
        )
        if context.values["start_from"]:
            _start_from(interpreter, context.values["start_from"])
        training = context.values.get("training")
        return interpreter if training is None else training(interpreter), interpreter

    def _classes(self, context: Context) -> dict[str, Any]:
        """The argument `classes`, for an interpreter that has it, if the data lacks classes of the classifier."""
        make, labels = context.values["interpreter"], context.splits.labels
        given = getattr(make, "keywords", {})
        parameters = inspect.signature(make).parameters
        if set(labels) == set(context.classifier.labels) or "classes" in given or "classes" not in parameters:
            return {}
        return {"classes": list(labels)}

    def judge(self, best: Interpreter, context: Context) -> dict[str, Any]:
        """Explains and scores clips of the test folds and mixtures of them, with the interpreter and the controls."""
        test = context.data.get("test")
        if test is None:
            return {}
        if isinstance(best, L2I):
            from audiointerp.runs.dictionary import relevance

            current().once(partial(relevance.write, best, test, context.folder))
        results = {}
        if isinstance(best, FLINT):
            from audiointerp.runs.attributes import judging

            wanted, train = context.values["attributes"], context.data["train"]
            results = current().once(lambda: judging.write(best, test, train, context.folder, wanted, context.seed))
        logger.info("%d interpretations made", _explain(best, test, context))
        return results

    def page(self, folder: Path) -> Path:
        """Writes the standard page; for L2I also one of the components of each class, for FLINT of the attributes."""
        if (folder / "attributes.csv").is_file():
            from audiointerp.runs.attributes import page

            page.write(folder)
        if (folder / "relevance.csv").is_file():
            from audiointerp.runs.dictionary import relevance

            relevance.write_page(folder)
        return super().page(folder)


def _start_from(interpreter: Any, source: str) -> None:
    """Copies the weights of a trained interpreter of the same kind, shape and classifier.

    Raises:
        ValueError: naming the source and what differs.
    """
    trained = build_methods({"start_from": source}, interpreter.classifier)["start_from"]
    if type(trained) is not type(interpreter):
        raise ValueError(f"start_from {source}: is a {type(trained).__name__}, not a {type(interpreter).__name__}")
    try:
        interpreter.load_state_dict(trained.state_dict())  # pyright: ignore[reportAttributeAccessIssue]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"start_from {source}: its weights do not fit this interpreter ({reason})") from None


def _dictionary(context: Context) -> dict[str, Any]:
    path = context.values["dictionary"]
    return {"dictionary": bundle.load(path)} if path else {}


def _draw_log(folder: Path) -> None:
    import pandas

    from audiointerp.results import figures

    try:
        figures.plot_training(folder / "figures" / "training.png", pandas.read_csv(folder / "log.csv"))
    except (ValueError, TypeError, LookupError) as error:  # text or another shape where a number is due
        raise ValueError(f"{folder / 'log.csv'}: {' '.join(str(error).split())}") from None


def _explain(interpreter: Interpreter, test: ClipDataset, context: Context) -> int:
    """Explains the clips and mixtures of the recipe's `evaluation`; returns the number of interpretations made."""
    wanted: Evaluation = context.values["evaluation"]
    for line in current().once(lambda: forget_damaged(context.folder)):
        logger.warning("%s", line)
    own = {context.name: interpreter}
    methods = own | build_controls(context.values["controls"], interpreter.classifier, own)
    plain = Wanted(figures=wanted.figures)
    clips = min(len(test), len(test) if wanted.clips is None else wanted.clips)
    items = tracked(clip_items(test, wanted.clips, context.seed), clips, "explaining clips")
    made = evaluate(items, methods, context.folder, plain)
    if wanted.mixtures:
        settings = {"items": wanted.mixtures, "seed": context.seed, "snr_db": wanted.snr_db, "gains": wanted.gains}
        table = made_mixtures(test, context.folder / "mixtures", context.folder, **settings)
        both = Wanted(figures=wanted.figures, other_class=(context.name,))
        mixtures = tracked(mixture_items(table, test.sample_rate), wanted.mixtures, "explaining mixtures")
        made += evaluate(mixtures, methods, context.folder, both)
    return made
