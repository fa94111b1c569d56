"""Runs a recipe that asks for which classes of the data a concept speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from audiointerp.classifiers.targets import likeliest_count, parse_target
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.tcav import asking
from audiointerp.sound import files as audio

__all__ = ["TCAV", "ConceptTesting"]


@dataclass(frozen=True)
class TCAV:
    """Settings of a test of a concept.

    Args:
        has, lacks: files and folders of sounds that have, and that lack, the concept; at least four of each.
        name: of the concept; "": the name of the first folder of `has`.
        targets: classes asked about; none: every class of the data.
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
        if self.draws < 2 or self.clips < 1:
            raise ValueError(f"draws is {self.draws}, clips {self.clips}; a test needs at least 2 draws and 1 clip")
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers are {list(self.layers)}; give each once, at least one")
        for name, given in (("has", self.has), ("lacks", self.lacks)):
            if not given:
                raise ValueError(f"{name} is empty; name files or folders of sounds")
        if several := [each for each in self.targets if likeliest_count(each) is not None]:
            raise ValueError(f"targets has {several[0]!r}; a concept is tested for a class, name it")

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
        questions, classifier = _questions(wanted, context), context.classifier
        heard = {name: asking.read_sounds(wanted.paths(name), classifier, f"tcav.{name}") for name in ("has", "lacks")}
        context.start(data={"test": context.data["test"]})
        table, drawn = asking.ask(
            classifier, questions, heard["has"], heard["lacks"], wanted.layers, wanted.draws, context.seed
        )
        name = wanted.name or Path(wanted.paths("has")[0]).resolve().name
        rate = classifier.sample_rate
        asking.write(context.folder, name, table, drawn, {key: (rate, sounds) for key, sounds in heard.items()})
        said = [asking.verdict(row) for row in table.to_dict("records")]
        context.finish(results={each: said.count(each) for each in ("for", "against", "neither", "unknown")})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the table, the figure and the page."""
        from audiointerp.runs.tcav import page

        return page.write(folder)


def _questions(wanted: TCAV, context: Context) -> list[asking.Question]:
    """The classes asked about, each with its test clips."""
    classifier, test = context.classifier, context.data["test"]
    found, given = [], test.labels_of()
    has_label = given > 0 if given.ndim == 2 else functional.one_hot(given, len(test.labels)) > 0
    for name in wanted.targets or context.splits.labels:
        chosen = parse_target(name, classifier.labels)
        target = torch.tensor([[n in chosen for n in range(len(classifier.labels))]], device=classifier.device)
        clips = has_label[:, sorted(chosen)].any(1).nonzero()[:, 0]
        if not len(clips):
            raise ValueError(f"targets has {name!r}, of which there is no test clip; ask about another class")
        order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(context.seed))[: wanted.clips]
        waveforms = [test.batch([int(clips[n])]).waveform.to(classifier.device) for n in sorted(order.tolist())]
        sounds = [audio.normalize_peak(each)[0] for each in waveforms if float(each.abs().max()) > audio.SILENCE]
        if not sounds:
            raise ValueError(f"targets has {name!r}, whose test clips are silent; ask about another class")
        found.append(asking.Question(" + ".join(classifier.labels[n] for n in chosen), target, sounds))
    return found
