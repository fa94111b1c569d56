"""Kinds of run, listed in the registry; recipes construct the settings that this package exports."""

from audiointerp.runs.attributes.settings import AttributeSettings
from audiointerp.runs.class_masks.checks import ClassMasks
from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.concepts.settings import ConceptSettings
from audiointerp.runs.fit import Evaluation
from audiointerp.runs.notes.explaining import NoteExplanations
from audiointerp.runs.notes.magnitude_phase import MagnitudePhase
from audiointerp.runs.planted.truths import DeafTruth, FirstSecondTruth, PlantedTruth, SwappedTruth
from audiointerp.runs.sanity.checks import Sanity
from audiointerp.runs.tcav.testing import TCAV

__all__ = [
    "TCAV",
    "AttributeSettings",
    "ClassMasks",
    "Comparison",
    "ConceptSettings",
    "DeafTruth",
    "Evaluation",
    "FirstSecondTruth",
    "MagnitudePhase",
    "NoteExplanations",
    "PlantedTruth",
    "Sanity",
    "SwappedTruth",
]
