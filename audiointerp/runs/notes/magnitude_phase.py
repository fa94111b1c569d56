"""Magnitude or phase: which of the two must be kept in the notes of a class to preserve the classifier's scores.

Table 1 of Heiss et al. (2020), https://arxiv.org/abs/2007.00758: one mask of two parts, the whole magnitude spectrum
and the whole phase spectrum, shared by all notes of a class. Each part is kept or not, which gives four corners; the
expected loss is linear in each part's probability to be kept, so that its minimum is at a corner and is found by trying
all four. The table also has the probabilities theta of the paper, by gradient descent on the concrete relaxation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import torch
from torch import Tensor, nn

from audiointerp.classifiers.instrument import check_bands
from audiointerp.contracts import Classifier, frozen
from audiointerp.datasets import ClipDataset
from audiointerp.evaluation.accuracy import accuracy_by_channel
from audiointerp.interpreters.rde.band_problem import NoteProblem
from audiointerp.interpreters.rde.fillers import Filler
from audiointerp.interpreters.rde.solvers import Concrete, Corner, best_corner, corners
from audiointerp.results.writing import write_table
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.notes.data import features_of, load_fillers, pick_notes

QueriedOutputs = Literal["predicted", "label", "all"]

COLUMNS = (
    *("filler", "class", "notes", "D00", "D10", "D01", "best_magnitude", "best_phase", "theta_magnitude"),
    *("theta_phase", "penalty", "own_magnitude", "own_phase", "own_penalty", "seconds", "theta_seconds"),
)

CORNERS: tuple[Corner, ...] = ((0, 0), (1, 0), (0, 1))  # the corners at which something is replaced

__all__ = ["COLUMNS", "MagnitudeOrPhase", "MagnitudePhase", "ask_notes", "corner_distortions"]


@dataclass(frozen=True)
class MagnitudePhase:
    """The query: `MagnitudePhase()(classifier, features, label, fillers)` is a table, one row per filler and class.

    The penalty lambda is the same for all classes of a filler, as in the paper (30, which fits their logits only); the
    "own" columns have the best corner with a separate penalty for each class.

    Args:
        weight: lambda as a share of D00, averaged over the classes.
        penalty: lambda itself, instead of `weight`.
        samples: draws of the filler for each note; one if the filler is not random.
        max_notes: largest number of notes of a class, drawn at random.
        outputs: the distortion is the change of the logit of the class "predicted" for the note, of the logit of its
            "label", or of "all" logits, summed. (The paper: "the pre-softmax scores for each class".)
        steps, lr, draws, temperature: of the concrete relaxation; with 0 steps it is left out (theta is NaN).
        max_batch: notes that the classifier classifies at once.
        seed: of all draws; the same for each class.
    Raises:
        ValueError: for unknown outputs, or if `samples`, `max_notes` or `max_batch` is below 1 or `steps` below 0.
    """

    weight: float = 0.5
    penalty: float | None = None
    samples: int = 16
    max_notes: int = 100
    outputs: QueriedOutputs = "predicted"
    steps: int = 300
    lr: float = 0.1
    draws: int = 16
    temperature: float = 0.1
    max_batch: int = 64
    seed: int = 0

    def __post_init__(self):
        if self.outputs not in get_args(QueriedOutputs):
            raise ValueError(f"outputs are {self.outputs!r}; choose 'predicted', 'label' or 'all'")
        if min(self.samples, self.max_notes, self.max_batch) < 1 or self.steps < 0:
            raise ValueError(
                f"samples is {self.samples}, max_notes {self.max_notes}, max_batch {self.max_batch}, steps "
                f"{self.steps}; at least 1 each, steps at least 0"
            )

    def __call__(
        self, classifier: Classifier, features: Tensor, label: Tensor, fillers: Mapping[str, Filler]
    ) -> pd.DataFrame:
        """The table, with columns `COLUMNS`; corners are 0 or 1, times in seconds.

        Args:
            classifier: of log-frequency bands; its state is not changed.
            features: (notes, 3, band).
            label: (notes,), class indices; a class without notes has no row.
            fillers: by name.
        Raises:
            ValueError: if there is no note, if the labels are not one per note, or if a label is not a class index.
        """
        _check(classifier, features, label)
        rows = []
        for name, filler in fillers.items():
            with frozen(classifier), frozen(filler):
                rows += self._rows(classifier, features, label, name, filler)
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _rows(
        self, classifier: Classifier, features: Tensor, label: Tensor, name: str, filler: Filler
    ) -> list[dict[str, object]]:
        problems, found, seconds = {}, {}, {}
        for index in label.unique().tolist():
            start = time.perf_counter()
            problems[index] = self._problem(classifier, features, label, index, filler)
            found[index] = corner_distortions(problems[index], self.samples, self.seed, self.max_batch)
            seconds[index] = time.perf_counter() - start
        mean = sum(each[0, 0] for each in found.values()) / len(found)
        penalty = self.weight * mean if self.penalty is None else self.penalty
        rows = []
        for index, problem in problems.items():
            start = time.perf_counter()
            theta = self._theta(problem, penalty)
            own = self.weight * found[index][0, 0]
            values = (
                *(name, classifier.labels[index], len(problem.features), *(found[index][each] for each in CORNERS)),
                *(*best_corner(found[index], penalty), *theta, penalty, *best_corner(found[index], own), own),
                *(seconds[index], time.perf_counter() - start),
            )
            rows.append(dict(zip(COLUMNS, values)))
        return rows

    def _problem(
        self, classifier: Classifier, features: Tensor, label: Tensor, index: int, filler: Filler
    ) -> NoteProblem:
        own = (label == index).nonzero()[:, 0].cpu()
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(self.seed))
        notes = features[own[order[: self.max_notes].sort().values].to(features.device)]
        target = None
        if self.outputs == "label":
            target = torch.full((len(notes),), index, device=features.device)
        elif self.outputs == "predicted":
            with torch.no_grad():
                target = classifier.classify(notes).predicted
        asked = None if target is None else nn.functional.one_hot(target, len(classifier.labels)).bool()
        return NoteProblem(classifier, notes, filler, asked, group=features.shape[2])

    def _theta(self, problem: NoteProblem, penalty: float) -> tuple[float, float]:
        if self.steps == 0:
            return float("nan"), float("nan")
        solver = Concrete(
            steps=self.steps,
            lr=self.lr,
            samples=self.draws,
            temperature=self.temperature,
            penalty=penalty,
            seed=self.seed,
        )
        magnitude, phase = solver.solve(problem).keep.tolist()
        return magnitude, phase


class MagnitudeOrPhase(Kind):
    """Runs a recipe with the key `query`: whether magnitude or phase must be kept in the notes of each class."""

    name = "query"
    scored = False
    key = "query"
    keys = {"query": MagnitudePhase, "fillers": str | None}
    defaults = {"fillers": None}
    required = ("classifier",)
    needs_test = True

    def run(self, context: Context) -> None:
        """Evaluates the query and writes the table and the page."""
        classifier, data = check_bands(context.classifier), context.data
        fillers = load_fillers(context.values["fillers"], data["train"], classifier)
        context.start()
        results = ask_notes(context.values["query"], classifier, fillers, data["test"], context.folder)
        context.finish(results=results)
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the results next to the paper's Table 1, as Markdown and as a page."""
        from audiointerp.runs.notes import magnitude_phase_page

        return magnitude_phase_page.write(folder)


def ask_notes(
    query: MagnitudePhase, classifier: Classifier, fillers: Mapping[str, Filler], test: ClipDataset, folder: Path
) -> dict[str, Any]:
    """Evaluates the query on the notes of each class of the test folds and writes magnitude_vs_phase.csv.

    Returns:
        The classifier's accuracy on the test notes, from all features and from magnitudes or phases alone.
    """
    if not (folder / "magnitude_vs_phase.csv").is_file():
        chosen = pick_notes(test, query.max_notes, query.seed)
        features, labels = features_of(classifier, test, chosen), test.labels_of()[chosen]
        write_table(
            folder / "magnitude_vs_phase.csv", query(classifier, features, labels.to(features.device), fillers), "%.6g"
        )
    return accuracy_by_channel(classifier, test)


@torch.no_grad()
def corner_distortions(
    problem: NoteProblem, samples: int = 16, seed: int = 0, max_batch: int = 64
) -> dict[Corner, float]:
    """1/2 E |Phi(x) - Phi(z)|^2 if (magnitude, phase) are kept or not: over every note, with `samples` draws for each.

    As `solvers.corners`, but every note is used equally often. The draws are the same at every corner.

    Raises:
        ValueError: if the problem does not have two parts.
    """
    drawn = problem.draw_each(1 if problem.always_same else samples, torch.Generator().manual_seed(seed))
    return corners(problem, drawn=drawn, max_batch=max_batch)


def _check(classifier: Classifier, features: Tensor, label: Tensor) -> None:
    if features.ndim != 3 or features.shape[1] != 3 or len(features) == 0:
        raise ValueError(f"features have shape {tuple(features.shape)}; expected (notes, 3, band), at least 1 note")
    if label.shape != (len(features),) or label.is_floating_point():
        raise ValueError(
            f"label has shape {tuple(label.shape)}, type {label.dtype}; expected ({len(features)},) indices"
        )
    if int(label.min()) < 0 or int(label.max()) >= len(classifier.labels):
        raise ValueError(
            f"label has indices {int(label.min())} to {int(label.max())}; the classifier's are 0 to "
            f"{len(classifier.labels) - 1}"
        )
