"""The kinds of run, in the order in which their keys are looked up in a recipe. To add a kind, add its line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from audiointerp.results.page import write_report
from audiointerp.results.paths import why_not_inside
from audiointerp.results.reading import Run
from audiointerp.runs.kind import Kind

# "module:class", imported when a recipe is run or a page is written.
KINDS = [
    "audiointerp.runs.class_masks.checks:ClassMasking",
    "audiointerp.runs.planted.checks:PlantedTruthChecks",
    "audiointerp.runs.sanity.checks:SanityChecks",
    "audiointerp.runs.concepts.learning:ConceptLearning",
    "audiointerp.runs.tcav.testing:ConceptTesting",
    "audiointerp.runs.comparison.compare:MethodComparison",
    "audiointerp.runs.dictionary.learning:DictionaryLearning",
    "audiointerp.runs.notes.explaining:NoteExplaining",
    "audiointerp.runs.notes.magnitude_phase:MagnitudeOrPhase",
    "audiointerp.runs.notes.inpainter:InpainterTraining",
    "audiointerp.runs.fit:InterpreterTraining",
    "audiointerp.runs.fit:ClassifierTraining",
]

__all__ = ["KINDS", "all_kinds", "kind_of", "page_of"]


def all_kinds() -> Iterator[Kind]:
    """Every kind of run."""
    return (resolve_name(each)() for each in KINDS)


def kind_of(values: Mapping[str, Any]) -> Kind:
    """The kind of a recipe's values: the first kind whose key they have.

    Recipes of most kinds name a classifier, so the kind with the key `classifier` comes last, wherever it is listed; it
    is also the kind of a recipe that has no kind's key.
    """
    kinds = sorted(all_kinds(), key=lambda kind: kind.key == "classifier")
    return next((kind for kind in kinds if kind.key in values), kinds[-1])


def page_of(folder: Path) -> Path:
    """Writes the page of a run folder according to the run's kind; returns its path.

    Raises:
        ValueError: if it is not a run folder, one of its tables cannot be read or does not fit the others, or a folder
            that the page writes into is a symbolic link that leads out of the run folder.
    """
    for own in ("figures", "tables"):
        if reason := why_not_inside(folder, own):
            raise ValueError(f"{folder}: {own!r} {reason}")
    name = Run.read(folder).about.get("kind")
    kind = next((kind for kind in all_kinds() if kind.name == name), None)
    if kind is None:
        return write_report([folder])
    try:
        return kind.page(folder)
    # A page joins several tables; a row or cell that somebody changed in one of them can be missed at any of its steps.
    except (LookupError, TypeError, ArithmeticError, AttributeError) as error:
        if not Run.read(folder).about.get("finished"):
            raise ValueError(f"{folder}: the run is not finished; repeat its command, which resumes it") from error
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(
            f"{folder}: its tables do not fit together ({cause}); run its recipe again in a new folder, or see --debug"
        ) from error
    except ValueError as error:
        if any(str(each) in str(error) for each in (folder.resolve(), folder) if len(str(each)) > 2):
            raise
        raise ValueError(f"{folder}: {error}") from error
