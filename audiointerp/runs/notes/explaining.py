"""Explains notes by the magnitudes and phases that must be kept: maps per note and per class, curves, sounds.

A recipe with `notes` explains test notes by rate-distortion (`interpreters.BandRDE`) once with each filler, so that
effects of the filler can be distinguished from properties of the classifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from audiointerp.classifiers.instrument import check_bands
from audiointerp.contracts import Classifier, Interpretation, frozen
from audiointerp.datasets import ClipDataset
from audiointerp.evaluation.accuracy import accuracy_by_channel
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item, chosen_items
from audiointerp.interpreters import BandRDE
from audiointerp.interpreters.rde.bands import listening_set
from audiointerp.interpreters.rde.fillers import Filler
from audiointerp.interpreters.rde.problem import Outputs
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed, rate_distortion_curve
from audiointerp.results.paths import inside
from audiointerp.results.writing import write_table
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.notes.data import features_of, load_fillers, notes_by_class, pick_notes
from audiointerp.sound import files as audio
from audiointerp.sound.recordings import Window

FILLERS = ("zeros", "noise", "donor", "generator")
SOUNDS = ("kept_random_phase", "inpainted")  # written in addition to interpretation and residual

__all__ = ["FILLERS", "NoteExplaining", "NoteExplanations", "explain_notes"]


@dataclass(frozen=True)
class NoteExplanations:
    """Settings of a run that explains notes.

    Args:
        per_class: number of test notes of each class, drawn by the seed.
        fillers: names of fillers; "generator" is left out if the recipe has no trained inpainter.
        solver: of the minimisation.
        group: number of neighbouring bands that are kept or replaced together.
        fill_fraction: share of the removed parts that the filler fills; the others are set to 0.
        outputs: "target", the predicted class's logit, or "all" logits.
        curve_notes: number of notes with a rate-distortion curve, one of each class in turn; 0 for none.
        curve_weights: penalties of the curve, as shares of the distortion with nothing kept.
        class_notes: largest number of test notes that share a class's map; 0 for no such maps.
    """

    per_class: int = 2
    fillers: tuple[str, ...] = FILLERS
    solver: Concrete | Relaxed | MatchingPursuit = field(default_factory=Concrete)
    group: int = 1
    fill_fraction: float = 1.0
    outputs: Outputs = "target"
    curve_notes: int = 10
    curve_weights: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    class_notes: int = 32

    def __post_init__(self):
        if unknown := [name for name in self.fillers if name not in FILLERS]:
            raise ValueError(f"notes.fillers names {unknown[0]!r}; choose from {', '.join(FILLERS)}")
        if self.per_class < 1:
            raise ValueError(f"notes.per_class is {self.per_class}; explain at least 1 note of each class")


class NoteExplaining(Kind):
    """Runs a recipe with the key `notes`: rate-distortion explanations of test notes, once with each filler."""

    name = "notes"
    key = "notes"
    keys = {"notes": NoteExplanations, "fillers": str | None}
    defaults = {"fillers": None}
    required = ("classifier",)
    needs_test = True

    def run(self, context: Context) -> None:
        """Explains the notes that have not been explained yet and writes tables, figures and the page."""
        classifier, data = check_bands(context.classifier), context.data
        fillers = load_fillers(context.values["fillers"], data["train"], classifier)
        context.start()
        wanted, test = context.values["notes"], data["test"]
        context.finish(results=explain_notes(wanted, classifier, fillers, test, context.folder, context.seed))
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes figures, tables and a page with players."""
        from audiointerp.runs.notes import page

        return page.write(folder)


def explain_notes(
    wanted: NoteExplanations,
    classifier: Classifier,
    fillers: Mapping[str, Filler],
    test: ClipDataset,
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    """Explains notes and writes to the run folder; resumes an interrupted run.

    Writes scores.csv, manifest.csv, WAVs and a figure per note and filler; curves.csv; class_maps.csv.

    Returns:
        The classifier's accuracy on the test notes, from all features and from magnitudes or phases alone.
    Raises:
        ValueError: if none of the wanted fillers exists.
    """
    used = {name: fillers[name] for name in wanted.fillers if name in fillers}
    if not used:
        raise ValueError(f"notes.fillers is {list(wanted.fillers)}; choose at least one of {', '.join(fillers)}")
    methods = {
        f"rde_{name}": BandRDE(
            classifier,
            filler,
            wanted.solver,
            wanted.group,
            wanted.fill_fraction,
            wanted.outputs,
            seed=seed,
        )
        for name, filler in used.items()
    }
    chosen = pick_notes(test, wanted.per_class, seed)
    picture = _Picture(classifier, methods, folder)
    evaluate(chosen_items(test, chosen), methods, folder, Wanted(figures=False, more=picture))
    if wanted.curve_notes and not (folder / "curves.csv").is_file():
        notes = _in_turn(test, chosen)[: wanted.curve_notes]
        write_table(folder / "curves.csv", _curves(wanted, methods, test, notes), "%.6g")
    if wanted.class_notes and not (folder / "class_maps.csv").is_file():
        write_table(folder / "class_maps.csv", _class_maps(wanted, methods, test, seed), "%.6g")
    return accuracy_by_channel(classifier, test)


def _in_turn(data: ClipDataset, chosen: list[int]) -> list[int]:
    """The same notes, the first of each class before the second of any."""
    labels, seen = data.labels_of().tolist(), Counter[int]()
    rank = {}
    for note in chosen:
        rank[note] = seen[labels[note]]
        seen[labels[note]] += 1
    return sorted(chosen, key=rank.__getitem__)


class _Picture:
    """Draws the importance map of each note, and writes its numbers and the sounds that only this method has."""

    def __init__(self, classifier: Classifier, methods: Mapping[str, BandRDE], folder: Path):
        self.classifier, self.methods, self.folder = classifier, methods, folder
        self.frequencies = _frequencies(classifier)

    def __call__(self, item: Item, name: str, window: Window, made: Interpretation) -> None:
        from audiointerp.runs.notes import figures

        theta = made.details["theta"]
        waveform = window.waveform.to(theta.device)
        with frozen(self.classifier), torch.no_grad():
            features = self.classifier.features(audio.normalize_peak(waveform)[0])
        label = self.classifier.labels[int(made.target[0].int().argmax())]
        path = inside(self.folder, "figures", f"{item.item_id}_{name}.png")
        title = f"{Path(item.source).stem}: importance for {label} ({name})"
        arrays = features[0].cpu().numpy(), theta[0].cpu().numpy()
        figures.plot_importance(path, self.frequencies, *arrays, title)
        columns = {"band_hz": self.frequencies, "magnitude": arrays[1][0], "phase": arrays[1][1]}
        write_table(path.with_suffix(".csv"), pd.DataFrame(columns), "%.6g")
        method = self.methods[name]
        sounds = listening_set(self.classifier, waveform, theta, method.filler, method.seed, method.solver.game)
        for kind in SOUNDS:
            target = inside(self.folder, "audio", item.item_id, f"{name}_{kind}.wav")
            sound = sounds[kind][0].cpu()
            # A filled sound may be louder than the note, and players clip above 1.
            audio.write(target, sound / sound.abs().max().clamp(min=1), item.sample_rate)


def _curves(
    wanted: NoteExplanations, methods: Mapping[str, BandRDE], test: ClipDataset, notes: list[int]
) -> pd.DataFrame:
    rows = []
    for name, method in methods.items():
        with frozen(method.classifier), frozen(method.filler):
            features = features_of(method.classifier, test, notes)
            asked = _asked(method.classifier, features)
            for note, one, target in zip(notes, features.split(1), asked.split(1)):
                solver = replace(method.solver, seed=method.seed)
                solved = rate_distortion_curve(method.problem(one, target), solver, wanted.curve_weights)
                for weight, solution in zip(wanted.curve_weights, solved):
                    rows.append(
                        {"method": name, "source": test.clips[note].name, "weight": weight, **_numbers(solution)}
                    )
    return pd.DataFrame(rows)


def _class_maps(wanted: NoteExplanations, methods: Mapping[str, BandRDE], test: ClipDataset, seed: int) -> pd.DataFrame:
    """For each class one mask shared by its notes, one row per band."""
    tables = []
    for name, method in methods.items():
        for label, notes in notes_by_class(test, wanted.class_notes, seed):
            with frozen(method.classifier), frozen(method.filler):
                features = features_of(method.classifier, test, notes)
                problem = method.problem(features, _asked(method.classifier, features))
                # At least one draw per note, so that distortions and a pursuit's picks are of all notes of the class.
                samples = max(method.solver.samples, len(notes))
                solution = replace(method.solver, samples=samples, seed=method.seed).solve(problem)
            theta = problem.by_band(solution.chosen[None])[0].cpu().numpy()
            columns = {"band_hz": _frequencies(method.classifier), "magnitude": theta[0], "phase": theta[1]}
            tables.append(pd.DataFrame({"method": name, "class": label, **columns, **_numbers(solution)}))
    return pd.concat(tables)


def _asked(classifier: Classifier, features: Tensor) -> Tensor:
    predicted = classifier.classify(features).predicted
    return torch.nn.functional.one_hot(predicted, len(classifier.labels)).bool()


def _numbers(solution: Any) -> dict[str, float]:
    return {name: float(getattr(solution, name)) for name in ("penalty", "rate", "empty", "end", "saturated")}


def _frequencies(classifier: Classifier) -> Any:
    return check_bands(classifier).log_frequency.frequencies.numpy()
