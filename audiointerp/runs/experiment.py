"""A recipe, run: data, model, training, best weights, evaluation, report; resumes by itself.

results/<name>/<seed>/  recipe.yaml run.json log.csv checkpoints/ best/ audio/ figures/ scores.csv report.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import torch
from lightning_fabric import Fabric
from torch import nn

from audiointerp import datasets, recipe
from audiointerp.bundles import bundle
from audiointerp.classifiers import Supervised
from audiointerp.contracts import Batch, Classifier, Interpreter
from audiointerp.datasets import Clip, ClipDataset, FeatureDataset, Splits
from audiointerp.evaluation import items as sources
from audiointerp.evaluation.accuracy import evaluate_classifier
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.interpreters import L2I
from audiointerp.interpreters.rde.band_problem import check_bands
from audiointerp.results import figures
from audiointerp.results import folder as runfolder
from audiointerp.results import page as report
from audiointerp.runs.comparison import page as comparison_report
from audiointerp.runs.comparison.compare import Comparison, build_controls, build_methods, compare
from audiointerp.runs.dictionary import learning as dictionary_learning
from audiointerp.runs.dictionary import relevance as relevance_report
from audiointerp.runs.keys import DEFAULTS, REQUIRED, SCHEMA, Evaluation, kind_of, value_problems
from audiointerp.runs.notes import explaining as note_explanations
from audiointerp.runs.notes import inpainter as inpainting_report
from audiointerp.runs.notes import magnitude_phase_page as magnitude_phase_report
from audiointerp.runs.notes import page as note_report
from audiointerp.runs.sanity import page as sanity_report
from audiointerp.runs.sanity.checks import Sanity, check_methods
from audiointerp.training.devices import make_fabric
from audiointerp.training.loop import Trainer, epoch_seed

logger = logging.getLogger(__name__)

__all__ = ["Evaluation", "Experiment", "load_any"]


class Experiment:
    """One run of a recipe in its own folder.

    Args:
        path: the recipe.
        overrides: command-line changes, as `recipe.parse_overrides` gives them.
        subfolder: appended to the run folder, for rotated folds.
    Raises:
        RecipeError: for every problem the recipe has, before anything is loaded.
    """

    def __init__(self, path: str | Path, overrides: Mapping[str, str], subfolder: str = ""):
        self.name = Path(path).stem
        values = recipe.load(path, overrides, SCHEMA)
        self.kind = kind_of(values)
        if missing := [key for key in REQUIRED[self.kind] if key not in values]:
            raise recipe.RecipeError([f"{path}: has no {key}; every recipe needs it" for key in missing])
        self.values = DEFAULTS | values
        if problems := value_problems(self.values):
            raise recipe.RecipeError([f"{path}: {problem}" for problem in problems])
        self.text = recipe.resolve(path, overrides, SCHEMA)
        self.seed = self.values["seed"]
        self.folder = Path(self.values["output_folder"]) / self.name / str(self.seed) / subfolder

    def run(self) -> Path:
        """Does what is not done yet; returns the run folder."""
        splits = self._splits()
        fabric = make_fabric(self.values["device"], self.values["precision"])
        torch.manual_seed(self.seed)
        if self.kind == "dictionary":
            return self._learn_dictionary(splits, fabric)
        classifier = self._classifier(splits.labels, self.values["multilabel"]).to(fabric.device)
        data = {
            part: self._dataset(clips, classifier) for part, clips in vars(splits).items() if part != "labels" and clips
        }
        kinds = {
            "comparison": self._compare,
            "sanity": self._check_methods,
            "notes": self._explain_notes,
            "query": self._ask_notes,
        }
        work = kinds.get(self.kind, self._fit)
        work(classifier, data, fabric)
        return self.folder

    def _start(self, labels: tuple[str, ...], data: dict[str, ClipDataset], fabric: Fabric) -> dict[str, Any]:
        return runfolder.start(
            self.folder, self.text, name=self.name, kind=self.kind, seed=self.seed, labels=list(labels),
            device=str(fabric.device), data_hash={part: each.content_hash for part, each in data.items()},
        )  # fmt: skip

    def _learn_dictionary(self, splits: Splits, fabric: Fabric) -> Path:
        train = ClipDataset(splits.train, splits.labels, seconds=self.values["seconds"])
        info = self._start(splits.labels, {"train": train}, fabric)
        model = self.values["nmf"](seed=self.seed).to(fabric.device)
        results = dictionary_learning.learn(model, train, self.folder, self.values["epochs"], self.values["minibatch"])
        runfolder.finish(self.folder, info, results=results)
        dictionary_learning.write_page(self.folder)
        return self.folder

    def _methods(self, classifier: Classifier) -> tuple[dict[str, Interpreter], dict[str, Interpreter]]:
        """The recipe's methods and its controls."""
        methods = build_methods(self.values["methods"], classifier)
        likes = {name: methods[name] for name in self.values["comparison"].like if name in methods}
        return methods, build_controls(self.values["controls"], classifier, likes)

    def _compare(self, classifier: Classifier, data: dict[str, ClipDataset], fabric: Fabric) -> None:
        wanted: Comparison = self.values["comparison"]
        methods, controls = self._methods(classifier)
        info = self._start(classifier.labels, {"test": data["test"]}, fabric)
        facts = compare(wanted, methods, controls, data["test"], self.folder, self.seed)
        runfolder.finish(self.folder, info, results={}, comparison=facts)
        comparison_report.write(self.folder)

    def _check_methods(self, classifier: Classifier, data: dict[str, ClipDataset], fabric: Fabric) -> None:
        wanted: Sanity = self.values["sanity"]
        methods, controls = self._methods(classifier)
        retrained = {name: bundle.load(path) for name, path in wanted.retrained.items()}
        info = self._start(classifier.labels, {"test": data["test"]}, fabric)
        costly = self.values["comparison"].costly
        check_methods(wanted, {**methods, **controls}, retrained, costly, data["test"], self.folder, self.seed)
        runfolder.finish(self.folder, info, results={})
        sanity_report.write(self.folder)

    def _explain_notes(self, classifier: Classifier, data: dict[str, ClipDataset], fabric: Fabric) -> None:
        fillers = note_explanations.load_fillers(self.values["fillers"], data["train"], classifier)
        info = self._start(classifier.labels, data, fabric)
        wanted = self.values["notes"]
        results = note_explanations.explain_notes(wanted, classifier, fillers, data["test"], self.folder, self.seed)
        runfolder.finish(self.folder, info, results=results)
        note_report.write(self.folder)

    def _ask_notes(self, classifier: Classifier, data: dict[str, ClipDataset], fabric: Fabric) -> None:
        fillers = note_explanations.load_fillers(self.values["fillers"], data["train"], classifier)
        info = self._start(classifier.labels, data, fabric)
        results = note_explanations.ask_notes(self.values["query"], classifier, fillers, data["test"], self.folder)
        runfolder.finish(self.folder, info, results=results)
        magnitude_phase_report.write(self.folder)

    def _fit(self, classifier: Classifier, data: dict[str, ClipDataset], fabric: Fabric) -> None:
        extra = {"dictionary": bundle.load(self.values["dictionary"])} if self.values["dictionary"] else {}
        if self.kind == "inpainter":
            trainable = model = inpainting_report.build(self.values["inpainter"], classifier).to(fabric.device)
        elif self.kind == "interpreter":
            trainable = model = self.values["interpreter"](classifier, **extra).to(fabric.device)
        else:
            model = classifier
            trainable = self.values.get("training", Supervised)(model, **extra).to(fabric.device)
        info = self._start(classifier.labels, data, fabric)
        kept = self._train(trainable, model, data, fabric)
        best = bundle.load(self.folder / "best", None if classifier.config else classifier).to(fabric.device)
        if fabric.is_global_zero:
            figures.plot_training(self.folder / "figures" / "training.png", pandas.read_csv(self.folder / "log.csv"))
        if self.kind == "inpainter":
            results = inpainting_report.judge(best, classifier, data, self.folder, self.seed)
        else:
            results = self._evaluate(best, data, fabric)
        runfolder.finish(self.folder, info, kept=kept, results=results)
        if fabric.is_global_zero:
            if (self.folder / "relevance.csv").is_file():
                relevance_report.write_page(self.folder)
            if self.kind == "inpainter":
                inpainting_report.write(self.folder)
            else:
                report.write_report([self.folder])

    # --- data and model

    def _splits(self) -> Splits:
        clips: list[Clip] = self.values["clips"]()
        splits = datasets.split(clips, *(self.values[f"{part}_folds"] for part in ("train", "valid", "test")))
        if not self.values["shuffle_labels"]:
            return splits
        return replace(splits, train=datasets.shuffle_labels(splits.train, self.seed))

    def _dataset(self, clips: list[Clip], classifier: Classifier) -> ClipDataset:
        facts = (classifier.sample_rate, self.values["seconds"], self.values["multilabel"])
        if not self.values["cache_features"]:
            return ClipDataset(clips, classifier.labels, *facts)
        front_end = getattr(classifier, "log_frequency", None)
        if front_end is None:
            raise ValueError(
                f"cache_features: {type(classifier).__name__} has no front end apart from its weights; set it to false"
            )
        return FeatureDataset(clips, classifier.labels, front_end, *facts)

    def _classifier(self, labels: tuple[str, ...], multilabel: bool) -> Classifier:
        given = self.values["classifier"]
        if isinstance(given, str):
            classifier = bundle.load(given)
        elif isinstance(given, Classifier):
            classifier = given
        else:
            classifier = given(labels=labels, multilabel=multilabel)
        if isinstance(classifier, Interpreter):
            classifier = classifier.classifier
        if not isinstance(classifier, Classifier):
            raise ValueError(f"classifier is a {type(classifier).__name__}; name a classifier's bundle or run")
        if self.kind in ("inpainter", "notes", "query"):
            check_bands(classifier)
        if unknown := sorted(set(labels) - set(classifier.labels)):
            raise ValueError(f"the data has classes that the classifier lacks: {', '.join(unknown)}")
        if self.values["pretrained"]:
            bundle.start_from(classifier, bundle.load(self.values["pretrained"]), self.values["pretrained"])
        return classifier

    # --- training

    def _train(
        self, trainable: nn.Module, model: nn.Module, data: dict[str, ClipDataset], fabric: Fabric
    ) -> dict[str, float]:
        values = self.values
        train, size = data["train"], values["batch_size"]
        classes = len(train.labels) if self.kind == "classifier" and not values["multilabel"] else None
        trainer = Trainer(
            trainable,
            self.folder,
            epochs=values["epochs"],
            steps_per_epoch=-(-len(train) // size),
            lr=values["lr"],
            weight_decay=values["weight_decay"],
            betas=tuple(values["betas"]),
            loss_weights=values["loss_weights"],
            schedule=values["schedule"],
            seed=self.seed,
            select=values["select"],
            fabric=fabric,
        )

        def batches(epoch: int) -> Iterator[Batch]:
            for batch in train.batches(size, shuffle_seed=epoch_seed(self.seed, epoch)):
                yield datasets.one_hot_labels(batch, classes) if classes else batch

        def save(row: dict[str, float]) -> None:
            bundle.save(model, self.folder / "best", metrics=row, card=values["model_card"])  # pyright: ignore

        valid = data.get("valid")
        return trainer.fit(batches, (lambda: valid.batches(size)) if valid else None, values["augment"], save)

    # --- evaluation

    def _evaluate(self, model: Any, data: dict[str, ClipDataset], fabric: Fabric) -> dict[str, Any]:
        test = data.get("test")
        if test is None or not fabric.is_global_zero:
            return {}
        if isinstance(model, L2I):
            relevance_report.write(model, test, self.folder)
        if isinstance(model, Interpreter):
            return self._evaluate_interpreter(model, test)
        return evaluate_classifier(model, test, self.folder, self.values["batch_size"])

    def _evaluate_interpreter(self, interpreter: Interpreter, test: ClipDataset) -> dict[str, Any]:
        wanted: Evaluation = self.values["evaluation"]
        own = {self.name: interpreter}
        methods = own | build_controls(self.values["controls"], interpreter.classifier, own)
        plain = Wanted(figures=wanted.figures)
        made = evaluate(sources.clip_items(test, wanted.clips, self.seed), methods, self.folder, plain)
        if wanted.mixtures:
            table = self.folder / "mixtures" / "mixtures.csv"
            if not table.is_file():
                datasets.write_mixtures(
                    test, table.parent, items=wanted.mixtures, seed=self.seed, snr_db=wanted.snr_db, gains=wanted.gains
                )
            both = Wanted(figures=wanted.figures, other_class=(self.name,))
            made += evaluate(sources.mixture_items(table, test.sample_rate), methods, self.folder, both)
        logger.info("%d interpretations made", made)
        return {}


def load_any(path: str | Path, overrides: Mapping[str, str] | None = None) -> Any:
    """The model of a bundle, a run, or the finished run of a recipe; ValueError if there is none."""
    if str(path).endswith((".yaml", ".yml")):
        done = Experiment(path, overrides or {})
        if not (done.folder / "best").is_dir():
            raise ValueError(f"{path}: has no finished run in {done.folder}; run it first: audiointerp run {path}")
        return bundle.load(done.folder)
    return bundle.load(path)
