"""Kinds of run: what a recipe does. The registry lists them; recipes name what is exported here."""

from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.fit import Evaluation
from audiointerp.runs.notes.explaining import NoteExplanations
from audiointerp.runs.notes.magnitude_phase import MagnitudePhase
from audiointerp.runs.sanity.checks import Sanity

__all__ = ["Comparison", "Evaluation", "MagnitudePhase", "NoteExplanations", "Sanity"]
