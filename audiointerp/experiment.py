"""A recipe, run: data, model, training, best weights, evaluation, report; resumes by itself.

results/<name>/<seed>/  recipe.yaml run.json log.csv checkpoints/ best/ audio/ figures/ scores.csv report.html
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiointerp import bundle, datasets, figures, recipe, report, runfolder, sources
from audiointerp.classifiers import Supervised
from audiointerp.contracts import Batch, Classifier, Interpreter
from audiointerp.datasets import Clip, ClipDataset, Splits
from audiointerp.evaluation import evaluate
from audiointerp.training import Schedule, Trainer, epoch_seed

logger = logging.getLogger(__name__)

__all__ = ["SCHEMA", "Evaluation", "Experiment", "evaluate_classifier", "load_any", "make_fabric"]


@dataclass(frozen=True)
class Evaluation:
    """What an interpreter is judged on after training: clips of the test folds, and mixtures of them.

    Args:
        clips: clean clips, None for all.
        mixtures: number of two-class mixtures; 0 for none.
        snr_db: of the mixtures.
        gains: of the unit-norm base and other clip, instead of `snr_db`.
        figures: whether to draw each interpretation.
    """

    clips: int | None = None
    mixtures: int = 0
    snr_db: float = 0.0
    gains: tuple[float, float] | None = None
    figures: bool = True


SCHEMA: dict[str, Any] = {
    "seed": int,
    "data_folder": str,
    "download": bool,
    "train_folds": list[int],
    "valid_folds": list[int],
    "test_folds": list[int],
    "output_folder": str,
    "device": str,
    "precision": str,
    "channels": int,
    "batch_size": int,
    "epochs": int,
    "lr": float,
    "weight_decay": float,
    "seconds": float,
    "multilabel": bool,
    "clips": Callable,
    "classifier": Any,
    "pretrained": str | None,
    "interpreter": Callable,
    "training": Callable,
    "augment": Any,
    "loss_weights": Mapping,
    "schedule": Schedule,
    "select": str | None,
    "controls": Mapping,
    "evaluation": Evaluation,
    "model_card": str,
}
DEFAULTS: dict[str, Any] = {
    "valid_folds": [],
    "test_folds": [],
    "device": "auto",
    "precision": "32-true",
    "weight_decay": 0.01,
    "seconds": 5.0,
    "multilabel": False,
    "pretrained": None,
    "augment": None,
    "loss_weights": {},
    "schedule": Schedule(),
    "select": None,
    "controls": {},
    "evaluation": Evaluation(),
    "model_card": "",
}
REQUIRED = ("seed", "clips", "classifier", "train_folds", "output_folder", "batch_size", "epochs", "lr")


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
        if missing := [key for key in REQUIRED if key not in values]:
            raise recipe.RecipeError([f"{path}: has no {key}; every recipe needs it" for key in missing])
        self.values = DEFAULTS | values
        if problems := _value_problems(self.values):
            raise recipe.RecipeError([f"{path}: {problem}" for problem in problems])
        self.text = recipe.resolve(path, overrides, SCHEMA)
        self.seed = self.values["seed"]
        self.folder = Path(self.values["output_folder"]) / self.name / str(self.seed) / subfolder
        self.kind = "interpreter" if "interpreter" in values else "classifier"

    def run(self) -> Path:
        """Trains and evaluates what is not done yet; returns the run folder."""
        splits, multilabel = self._splits(), self.values["multilabel"]
        fabric = make_fabric(self.values["device"], self.values["precision"])
        torch.manual_seed(self.seed)
        classifier = self._classifier(splits.labels, multilabel).to(fabric.device)
        model = self.values["interpreter"](classifier).to(fabric.device) if self.kind == "interpreter" else classifier
        data = {
            part: self._dataset(clips, classifier) for part, clips in vars(splits).items() if part != "labels" and clips
        }
        info = runfolder.start(
            self.folder, self.text, name=self.name, kind=self.kind, seed=self.seed, labels=list(classifier.labels),
            device=str(fabric.device), data_hash={part: each.content_hash for part, each in data.items()},
        )  # fmt: skip
        kept = self._train(model, data, fabric)
        best = bundle.load(self.folder / "best", None if classifier.config else classifier).to(fabric.device)
        if fabric.is_global_zero:
            figures.plot_training(self.folder / "figures" / "training.png", pandas.read_csv(self.folder / "log.csv"))
        results = self._evaluate(best, data, fabric)
        runfolder.finish(self.folder, info, kept=kept, results=results)
        if fabric.is_global_zero:
            report.write_report([self.folder])
        return self.folder

    # --- data and model

    def _splits(self) -> Splits:
        clips: list[Clip] = self.values["clips"]()
        return datasets.split(clips, *(self.values[f"{part}_folds"] for part in ("train", "valid", "test")))

    def _dataset(self, clips: list[Clip], classifier: Classifier) -> ClipDataset:
        return ClipDataset(
            clips, classifier.labels, classifier.sample_rate, self.values["seconds"], self.values["multilabel"]
        )

    def _classifier(self, labels: tuple[str, ...], multilabel: bool) -> Classifier:
        given = self.values["classifier"]
        if isinstance(given, str):
            classifier = bundle.load(given)
        elif isinstance(given, Classifier):
            classifier = given
        else:
            classifier = given(labels=labels, multilabel=multilabel)
        if not isinstance(classifier, Classifier):
            raise ValueError(f"classifier is a {type(classifier).__name__}; name a classifier's bundle or run")
        if unknown := sorted(set(labels) - set(classifier.labels)):
            raise ValueError(f"the data has classes that the classifier lacks: {', '.join(unknown)}")
        if self.values["pretrained"]:
            runfolder.start_from(classifier, bundle.load(self.values["pretrained"]), self.values["pretrained"])
        return classifier

    # --- training

    def _train(self, model: nn.Module, data: dict[str, ClipDataset], fabric: Fabric) -> dict[str, float]:
        values = self.values
        trainable = model if self.kind == "interpreter" else values.get("training", Supervised)(model)
        train, size = data["train"], values["batch_size"]
        classes = len(train.labels) if self.kind == "classifier" and not values["multilabel"] else None
        trainer = Trainer(
            trainable,
            self.folder,
            epochs=values["epochs"],
            steps_per_epoch=-(-len(train) // size),
            lr=values["lr"],
            weight_decay=values["weight_decay"],
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
        if isinstance(model, Interpreter):
            return self._evaluate_interpreter(model, test)
        return evaluate_classifier(model, test, self.folder, self.values["batch_size"])

    def _evaluate_interpreter(self, interpreter: Interpreter, test: ClipDataset) -> dict[str, Any]:
        wanted: Evaluation = self.values["evaluation"]
        methods = {self.name: interpreter}
        methods |= {
            name: make(interpreter.classifier, like=interpreter) for name, make in self.values["controls"].items()
        }
        made = evaluate(sources.clip_items(test, wanted.clips, self.seed), methods, self.folder, draw=wanted.figures)
        if wanted.mixtures:
            table = self.folder / "mixtures" / "mixtures.csv"
            if not table.is_file():
                datasets.write_mixtures(
                    test, table.parent, items=wanted.mixtures, seed=self.seed, snr_db=wanted.snr_db, gains=wanted.gains
                )
            items = sources.mixture_items(table, test.sample_rate)
            made += evaluate(items, methods, self.folder, other_class=True, draw=wanted.figures)
        logger.info("%d interpretations made", made)
        return {}


def _value_problems(values: Mapping[str, Any]) -> list[str]:
    """Numbers that no run can use, and a choice of weights that nothing informs."""
    whole = [key for key in ("epochs", "batch_size", "channels") if values.get(key, 1) < 1]
    problems = [f"{key} is {values[key]}; it must be at least 1" for key in whole]
    problems += [f"{key} is {values[key]}; it must be above 0" for key in ("lr", "seconds") if not values[key] > 0]
    if (values["select"] or "").startswith("valid_") and not values["valid_folds"]:
        problems.append(f"select is {values['select']!r}, but valid_folds is empty; name folds, or give --select null")
    return problems


@torch.no_grad()
def evaluate_classifier(classifier: Classifier, test: ClipDataset, folder: Path, batch_size: int) -> dict[str, Any]:
    """Test accuracy; for one label a clip also the confusion matrix, as a figure."""
    device = next(classifier.parameters()).device
    predictions = [classifier(batch.waveform.to(device)) for batch in test.batches(batch_size)]
    probabilities = torch.cat([each.probabilities for each in predictions]).cpu()
    labels = test.labels_of()
    if classifier.multilabel:
        right = ((probabilities > 0.5) == labels.bool()).float()
        return {
            "test_clips": len(test),
            "test_label_accuracy": float(right.mean()),
            "test_exact": float(right.all(1).float().mean()),
        }
    predicted = probabilities.argmax(1)
    counts = _confusion(labels, predicted, len(classifier.labels))
    figures.plot_confusion(folder / "figures" / "confusion.png", counts.numpy(), classifier.labels)
    return {"test_clips": len(test), "test_accuracy": float((predicted == labels).float().mean())}


def _confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes): row = true, column = predicted."""
    return (labels * classes + predicted).bincount(minlength=classes * classes).view(classes, classes)


def make_fabric(device: str, precision: str = "32-true") -> Fabric:
    """One device by name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps"; ValueError if absent."""
    kind, _, which = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"device {device!r} is unknown; give auto, cpu, cuda, cuda:N or mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if which and not which.isdecimal():
        raise ValueError(f"device {device!r} is unknown; one device is used, give its number as in cuda:0")
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if int(which or 0) >= available:
        raise ValueError(f"device {device} was asked for, but torch sees {available} of {kind}; give --device cpu")
    devices: Any = [int(which)] if which and kind == "cuda" else 1
    fabric = Fabric(accelerator=kind, devices=devices, precision=precision)  # pyright: ignore[reportArgumentType]
    fabric.launch()
    return fabric


def load_any(path: str | Path, overrides: Mapping[str, str] | None = None) -> Any:
    """The model of a bundle, a run, or the finished run of a recipe; ValueError if there is none."""
    if str(path).endswith((".yaml", ".yml")):
        done = Experiment(path, overrides or {})
        if not (done.folder / "best").is_dir():
            raise ValueError(f"{path}: has no finished run in {done.folder}; run it first: audiointerp run {path}")
        return bundle.load(done.folder)
    return bundle.load(path)
