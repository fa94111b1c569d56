"""Runs a recipe that asks for which classes of the data a concept speaks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.datasets import ClipDataset
from audiointerp.interpreters.concepts.directions import check_draws
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.tcav import asking
from audiointerp.sound import files as audio

SETS = ("has", "lacks")
logger = logging.getLogger(__name__)

__all__ = ["TCAV", "ConceptTesting"]


@dataclass(frozen=True)
class TCAV:
    """Settings of a test of a concept.

    Args:
        has, lacks: files and folders of sounds that have, and that lack, the concept; at least four of each.
        name: of the concept; "": the name of the first folder of `has`.
        targets: classes that are tested; none: every class of the data that has a test clip.
        layers: indices of the classifier's feature maps; negative indices count from the last.
        draws: number of draws, see `try_concept`.
        clips: largest number of test clips of a class, drawn by the seed.
    """

    has: Sequence[str] | str
    lacks: Sequence[str] | str
    name: str = ""
    targets: Sequence[str] = ()
    layers: Sequence[int] = (-1,)
    draws: int = 30
    clips: int = 40

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if self.clips < 1:
            raise ValueError(f"clips is {self.clips}; a test needs at least 1 clip of a class")
        asking.check_once("layers", self.layers)
        if self.targets:
            asking.check_once("targets", self.targets)
        for name, given in (("has", self.has), ("lacks", self.lacks)):
            if not given:
                raise ValueError(f"{name} is empty; name files or folders of sounds")

    def paths(self, name: str) -> list[str]:
        """The files and folders of "has" or "lacks"."""
        given = getattr(self, name)
        return [given] if isinstance(given, str) else list(given)


class ConceptTesting(Kind):
    """Runs a recipe with the key `tcav`: for which classes a concept speaks, against random directions."""

    name = "tcav"
    scored = False
    key = "tcav"
    keys = {"tcav": TCAV}
    required = ("classifier",)
    needs_test = True

    def run(self, context: Context) -> None:
        """Tests the concept for every class; writes the tables and the page."""
        wanted: TCAV = context.values["tcav"]
        asking.check_sets(wanted.paths("has"), wanted.paths("lacks"))
        name = asking.concept_name(wanted.name, wanted.paths("has"))
        classifier, questions = context.classifier, _questions(wanted, context)
        asking.check_layers(classifier, wanted.layers)
        examples = {name: asking.read_sounds(wanted.paths(name), classifier, f"tcav.{name}") for name in SETS}
        hashes = {name: _Hashed(asking.hash_of(sounds)) for name, sounds in examples.items()}
        context.start(data={"test": context.data["test"], **hashes})
        given = (examples["has"], examples["lacks"], wanted.layers, wanted.draws, context.seed)
        table, drawn = asking.ask(classifier, questions, *given)
        asking.write(context.folder, name, table, drawn, examples, classifier.sample_rate)
        said = [asking.verdict(row) for row in table.to_dict("records")]
        context.finish(results={each: said.count(each) for each in ("for", "against", "neither", "unknown")})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the table, the figure and the page."""
        from audiointerp.runs.tcav import page

        return page.write(folder)


class _Hashed(NamedTuple):
    """Data of which a run records the hash only."""

    content_hash: str


class _Clips(Sequence[Tensor]):
    """Clips of a data set at peak 1, (1, samples) each, read when they are needed."""

    def __init__(self, data: ClipDataset, numbers: Sequence[int], device: torch.device):
        self.data, self.numbers, self.device = data, numbers, device

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: Any) -> Any:
        return audio.normalize_peak(self.data.batch([self.numbers[place]]).waveform.to(self.device))[0]


def _questions(wanted: TCAV, context: Context) -> list[asking.Question]:
    """The classes that are tested, each with its test clips; by default those of the data that have any."""
    classifier, test = context.classifier, context.data["test"]
    found, given = [], test.labels_of()
    has_label = given > 0 if given.ndim == 2 else functional.one_hot(given, len(test.labels)) > 0
    for name in wanted.targets or context.splits.labels:
        question = asking.Question.of(str(name), classifier, ())
        clips = has_label[:, question.target[0].cpu()].any(1).nonzero()[:, 0]
        order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(context.seed))[: wanted.clips]
        chosen = sorted(int(clips[n]) for n in order)
        audible = [n for n in chosen if float(test.batch([n]).waveform.abs().max()) > audio.SILENCE]
        if audible:
            found.append(question._replace(sounds=_Clips(test, audible, classifier.device)))
        elif wanted.targets:
            raise ValueError(f"targets has {name!r}, which has no test clip that can be heard; name another class")
        else:
            logger.warning("%s is left out: no test clip of it can be heard", name)
    if not found:
        raise ValueError("no class of the data has a test clip that can be heard; name other test_folds")
    return found
