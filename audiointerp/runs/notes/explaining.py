"""What must stay in notes for the classifier to know their instrument: maps per note and per class, curves, sounds.

A recipe with `notes` explains test notes by rate-distortion (`interpreters.BandRDE`) once with each filler, so that
what is due to the filler can be told from what is due to the classifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from audiointerp.bundles import bundle
from audiointerp.contracts import Classifier, Interpretation
from audiointerp.datasets import ClipDataset
from audiointerp.evaluation.accuracy import accuracy_by_channel
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item, chosen_items
from audiointerp.interpreters import BandRDE, frozen
from audiointerp.interpreters.rde.bands import Outputs, listening_set
from audiointerp.interpreters.rde.fillers import Filler, fit_fillers
from audiointerp.interpreters.rde.inpainter import Inpainter
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed, rate_distortion_curve
from audiointerp.results.writing import write_table
from audiointerp.runs.notes import figures as note_figures
from audiointerp.runs.notes.magnitude_phase import MagnitudePhase
from audiointerp.sound import files as audio
from audiointerp.sound.recordings import Window

FILLERS = ("zeros", "noise", "donor", "generator")
SOUNDS = ("kept_random_phase", "inpainted")  # written beside interpretation and residual

__all__ = ["FILLERS", "NoteExplanations", "ask_notes", "explain_notes", "features_of", "load_fillers", "pick_notes"]


@dataclass(frozen=True)
class NoteExplanations:
    """What is explained, and how.

    Args:
        per_class: test notes of each class, drawn by the seed.
        fillers: by name; "generator" is left out where no trained inpainter is named.
        solver: of the minimisation.
        group: neighbouring bands that are kept or replaced as one.
        fill_fraction: share of the parts not kept that the filler fills; the others are left empty.
        outputs: "target", the predicted class's logit, or "all".
        curve_notes: notes with a rate-distortion curve, one of each class in turn; 0 for none.
        curve_weights: penalties of the curve, as shares of the distortion of nothing kept.
        class_notes: test notes at most that share a class's map; 0 for no such maps.
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


def load_fillers(path: str | None, train: ClipDataset, classifier: Classifier) -> dict[str, Filler]:
    """Fillers by name: an inpainter's, which knows its training notes, or those that need no training.

    Args:
        path: an inpainter's run or bundle; None: fillers are fitted to the training notes, without a generator.
        train: the training notes.
        classifier: of log-frequency bands, whose features are filled.

    Raises:
        ValueError: if the path holds no inpainter, or one of other bands.
    """
    device = classifier.spectrogram.window.device
    if path is None:
        fitted = fit_fillers(classifier.features_of(batch.to(device)).cpu() for batch in train.batches(64))
        return {name: each.to(device) for name, each in fitted.items()}
    inpainter = bundle.load(path)
    if not isinstance(inpainter, Inpainter):
        raise ValueError(f"fillers: {path} holds {type(inpainter).__name__}; name the run of inpainter.yaml")
    ours, theirs = getattr(classifier, "log_frequency", None), inpainter.log_frequency
    if ours is None or ours.config != theirs.config:
        raise ValueError(f"fillers: {path} fills {theirs.config}, but the classifier reads {ours and ours.config}")
    return inpainter.to(device).fillers()


def explain_notes(
    wanted: NoteExplanations,
    classifier: Classifier,
    fillers: Mapping[str, Filler],
    test: ClipDataset,
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    """Explains into the run folder; goes on where it was stopped.

    Writes scores.csv, manifest.csv, WAVs and a figure a note and filler; curves.csv; class_maps.csv.

    Returns:
        The classifier's accuracy on the test notes, as it is and with magnitudes or phases alone.
    Raises:
        ValueError: if none of the fillers that are asked for is there.
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


def ask_notes(
    query: MagnitudePhase, classifier: Classifier, fillers: Mapping[str, Filler], test: ClipDataset, folder: Path
) -> dict[str, Any]:
    """Magnitude or phase, of the notes of each class of the test folds: writes magnitude_vs_phase.csv.

    Returns:
        The classifier's accuracy on the same notes, as it is and with magnitudes or phases alone.
    """
    if not (folder / "magnitude_vs_phase.csv").is_file():
        chosen = pick_notes(test, query.max_notes, query.seed)
        features, labels = features_of(classifier, test, chosen), test.labels_of()[chosen]
        write_table(
            folder / "magnitude_vs_phase.csv", query(classifier, features, labels.to(features.device), fillers), "%.6g"
        )
    return accuracy_by_channel(classifier, test)


def pick_notes(data: ClipDataset, per_class: int, seed: int) -> list[int]:
    """Indices of so many notes of each class (fewer where there are fewer), class by class."""
    labels, generator = data.labels_of(), torch.Generator().manual_seed(seed)
    chosen = []
    for number in range(len(data.labels)):
        notes = (labels == number).nonzero()[:, 0]
        chosen += notes[torch.randperm(len(notes), generator=generator)[:per_class]].tolist()
    return chosen


def _in_turn(data: ClipDataset, chosen: list[int]) -> list[int]:
    """The same notes, the first of each class before the second of any."""
    labels, seen = data.labels_of().tolist(), Counter[int]()
    rank = {}
    for note in chosen:
        rank[note] = seen[labels[note]]
        seen[labels[note]] += 1
    return sorted(chosen, key=rank.__getitem__)


@torch.no_grad()
def features_of(classifier: Classifier, data: ClipDataset, notes: list[int]) -> Tensor:
    """Features of notes by index, (notes, 3, band)."""
    return classifier.features_of(data.batch(notes).to(classifier.spectrogram.window.device))


class _Picture:
    """Draws the importance map of each note, writes its numbers and the sounds that only this method has."""

    def __init__(self, classifier: Classifier, methods: Mapping[str, BandRDE], folder: Path):
        self.classifier, self.methods, self.folder = classifier, methods, folder
        self.frequencies = _frequencies(classifier)

    def __call__(self, item: Item, name: str, window: Window, made: Interpretation) -> None:
        theta = made.details["theta"]
        waveform = window.waveform.to(theta.device)
        with frozen(self.classifier), torch.no_grad():
            features = self.classifier.features(audio.normalize_peak(waveform)[0])
        label = self.classifier.labels[int(made.target[0].int().argmax())]
        path = self.folder / "figures" / f"{item.item_id}_{name}.png"
        title = f"{Path(item.source).stem}: why {label}? ({name})"
        arrays = features[0].cpu().numpy(), theta[0].cpu().numpy()
        note_figures.plot_importance(path, self.frequencies, *arrays, title)
        columns = {"band_hz": self.frequencies, "magnitude": arrays[1][0], "phase": arrays[1][1]}
        write_table(path.with_suffix(".csv"), pd.DataFrame(columns), "%.6g")
        method = self.methods[name]
        sounds = listening_set(self.classifier, waveform, theta, method.filler, method.seed, method.solver.game)
        for kind in SOUNDS:
            target = self.folder / "audio" / item.item_id / f"{name}_{kind}.wav"
            sound = sounds[kind][0].cpu()
            # What a filler adds may be louder than the note; players clip above 1.
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
                        {"method": name, "source": str(test.clips[note].path), "weight": weight, **_numbers(solution)}
                    )
    return pd.DataFrame(rows)


def _class_maps(wanted: NoteExplanations, methods: Mapping[str, BandRDE], test: ClipDataset, seed: int) -> pd.DataFrame:
    """One mask shared by the notes of a class: a row a band."""
    tables = []
    for name, method in methods.items():
        for label, notes in notes_by_class(test, wanted.class_notes, seed):
            with frozen(method.classifier), frozen(method.filler):
                features = features_of(method.classifier, test, notes)
                problem = method.problem(features, _asked(method.classifier, features))
                # At least one draw for each note: the distortions told, and a pursuit's picks, are of the whole class.
                samples = max(method.solver.samples, len(notes))
                solution = replace(method.solver, samples=samples, seed=method.seed).solve(problem)
            theta = problem.by_band(solution.chosen[None])[0].cpu().numpy()
            columns = {"band_hz": _frequencies(method.classifier), "magnitude": theta[0], "phase": theta[1]}
            tables.append(pd.DataFrame({"method": name, "class": label, **columns, **_numbers(solution)}))
    return pd.concat(tables)


def notes_by_class(data: ClipDataset, most: int, seed: int) -> Iterator[tuple[str, list[int]]]:
    """Each class with at most so many of its notes; classes without notes are left out."""
    labels = data.labels_of()
    for i in pick_notes(data, 1, seed):
        number = int(labels[i])
        everyone = (labels == number).nonzero()[:, 0]
        order = torch.randperm(len(everyone), generator=torch.Generator().manual_seed(seed))
        yield data.labels[number], everyone[order[:most]].tolist()


def _asked(classifier: Classifier, features: Tensor) -> Tensor:
    predicted = classifier.classify(features).predicted
    return torch.nn.functional.one_hot(predicted, len(classifier.labels)).bool()


def _numbers(solution: Any) -> dict[str, float]:
    return {name: float(getattr(solution, name)) for name in ("penalty", "rate", "empty", "end", "saturated")}


def _frequencies(classifier: Classifier) -> Any:
    return getattr(classifier, "log_frequency").frequencies.numpy()  # noqa: B009
