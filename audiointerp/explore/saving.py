"""Saves what a person made on the page as an ordinary run folder, by the code that writes those of `interpret`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audiointerp.classifiers.targets import suffix_of
from audiointerp.contracts import Classifier, Interpretation, Interpreter, Target
from audiointerp.evaluation.explaining import TAKEN, Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.evaluation.likeliest import note_likeliest
from audiointerp.explore.workbench import Made, View
from audiointerp.results import folder as run_folder
from audiointerp.results.page import write_report
from audiointerp.results.paths import inside
from audiointerp.results.tables import Scores, forget_damaged
from audiointerp.results.writing import write_bytes

__all__ = ["Archive", "Saved"]


class _Remembered(Interpreter):
    """Gives the interpretation that was heard on the page, so that saving does not compute it a second time."""

    def __init__(self, classifier: Classifier, made: Made):
        super().__init__(classifier)
        self.made = made

    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """The interpretation of the waveform that was explained, with the time that it took."""
        assert torch.equal(waveform, self.made.view.waveform)
        interpretation = self.made.interpretation
        return replace(interpretation, details=interpretation.details | {TAKEN: torch.tensor([self.made.seconds])})


@dataclass(frozen=True)
class Saved:
    """A run folder after a save.

    Attributes:
        folder: the run folder.
        page: its report.html.
        item_id: name of the part that was saved.
        methods: the names under which its explanations are in the tables, in the order given.
    """

    folder: Path
    page: Path
    item_id: str
    methods: tuple[str, ...]


class Archive:
    """The run folder of a session; it is created by the first save, and later saves add to it.

    Args:
        folder: the run folder.
        model: the model as the user named it.
        device: as the user named it.
        classifier: the explained classifier.
        recipe_text: text of the recipe that described the model, or "".
        force: whether to write into a folder that is not empty.

    Raises:
        ValueError: if the folder may not be written into.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        device: str,
        classifier: Classifier,
        recipe_text: str = "",
        force: bool = False,
    ):
        if folder.exists():  # else it is created by the first save
            run_folder.prepare_output(folder, force)
        self.folder, self.model, self.device, self.classifier = folder, model, device, classifier
        self.recipe_text = f"# audiointerp explore {model}\n{recipe_text}"
        self._names: dict[str, str] = {}
        self._turn = threading.Lock()

    def save(self, made: Sequence[Made]) -> Saved:
        """Adds explanations of one part to the run folder, and writes its page; what is in it already stays.

        A method's name stands alone for the first label that it explains in a part, and ends with the label for others,
        as in runs of `interpret`.

        Raises:
            ValueError: without explanations, for explanations of several parts, or if the folder cannot be added to.
            OSError: if a file cannot be written.
        """
        views = {(each.view.sound.sound_id, each.view.part) for each in made}
        if len(views) != 1:
            raise ValueError("there is nothing to save yet; click a label or brush the spectrogram first")
        with self._turn:
            return self._save(made[0].view, made)

    def _save(self, view: View, made: Sequence[Made]) -> Saved:
        item_id, labels = view.sound.item_id(view.part), self.classifier.labels
        facts = {"kind": "interpret", "model": self.model, "labels": list(labels), "device": self.device}
        info = run_folder.start(self.folder, self.recipe_text, name=self.folder.name, **facts)
        source = self._source(view)
        forget_damaged(self.folder, {source: ()})
        item = Item.of_waveform(item_id, source, view.waveform.cpu(), self.classifier.sample_rate)
        note_likeliest(item, self.classifier, self.folder)
        scores, names = Scores(self.folder), []
        for each in made:
            name = self._names.get(each.key)
            if name is None or not scores.has(item_id, name):
                name = self._names[each.key] = _free(scores, item_id, each.method, labels[each.label])
                wanted = Wanted(each.interpretation.target)
                evaluate([item], {name: _Remembered(self.classifier, each)}, self.folder, wanted)
                scores = Scores(self.folder)
            names.append(name)
        run_folder.finish(self.folder, info, results={}, failed=[])
        page = write_report([self.folder])
        return Saved(self.folder, self.folder / page.name, item_id, tuple(names))  # both as the user named the folder

    def _source(self, view: View) -> str:
        """Path of the sound's file; of an uploaded one, a copy in the run folder."""
        sound = view.sound
        if not sound.temporary:
            return str(sound.path)
        path = inside(self.folder, "inputs", f"{sound.item_id(0)}{sound.suffix}")
        if not path.is_file():
            write_bytes(path, sound.path.read_bytes())
        return str(path)


def _free(scores: Scores, item_id: str, method: str, label: str) -> str:
    """A name of a method that the item has no row of: alone, with its label, or with a number."""
    if not scores.has(item_id, method):
        return method
    base = f"{method}{suffix_of([label])}"
    names = (base if number == 1 else f"{base}_{number}" for number in range(1, 10_000))
    return next(name for name in names if not scores.has(item_id, name))
