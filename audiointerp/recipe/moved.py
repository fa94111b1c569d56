"""Names that recipes of earlier versions use, and their present names."""

from __future__ import annotations

import re

MOVED = {
    "audiointerp.datasets.EnergyMask": "audiointerp.datasets.WeakBinMask",
    "audiointerp.rate_distortion.Concrete": "audiointerp.interpreters.rde.Concrete",
    "audiointerp.rate_distortion.Relaxed": "audiointerp.interpreters.rde.Relaxed",
    "audiointerp.rate_distortion.MatchingPursuit": "audiointerp.interpreters.rde.MatchingPursuit",
    "audiointerp.masking.StemMask": "audiointerp.sound.StemMask",
    "audiointerp.masking.EnergyMask": "audiointerp.sound.EnergyMask",
    "audiointerp.masking.ThresholdMask": "audiointerp.sound.ThresholdMask",
    "audiointerp.masking.AttributionMask": "audiointerp.sound.AttributionMask",
    "audiointerp.conditions.CleanClips": "audiointerp.evaluation.CleanClips",
    "audiointerp.conditions.Mixtures": "audiointerp.evaluation.Mixtures",
    "audiointerp.conditions.Noise": "audiointerp.evaluation.Noise",
    "audiointerp.comparison.Comparison": "audiointerp.runs.Comparison",
    "audiointerp.experiment.Evaluation": "audiointerp.runs.Evaluation",
    "audiointerp.recipe_keys.Evaluation": "audiointerp.runs.Evaluation",
    "audiointerp.sanity.Sanity": "audiointerp.runs.Sanity",
    "audiointerp.note_explanations.NoteExplanations": "audiointerp.runs.NoteExplanations",
    "audiointerp.magnitude_phase.MagnitudePhase": "audiointerp.runs.MagnitudePhase",
    "audiointerp.nmf.NMF": "audiointerp.sound.NMF",
    "audiointerp.spectrogram.STFT": "audiointerp.sound.STFT",
    "audiointerp.inpainting.Inpainter": "audiointerp.interpreters.Inpainter",
    "audiointerp.classifiers.DictionaryClassifier": "audiointerp.interpreters.DictionaryClassifier",
    "audiointerp.classifiers.DictionaryTraining": "audiointerp.interpreters.DictionaryTraining",
    "audiointerp.schedules.Schedule": "audiointerp.training.schedules.Schedule",
    "audiointerp.training.Schedule": "audiointerp.training.schedules.Schedule",
}

__all__ = ["MOVED", "names_of_today"]

_OLD = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, MOVED))})(?![\w.])")


def names_of_today(text: str) -> str:
    """A recipe's text with the names of earlier versions replaced.

    >>> names_of_today("nmf: !name:audiointerp.nmf.NMF")
    'nmf: !name:audiointerp.sound.NMF'
    """
    return _OLD.sub(lambda found: MOVED[found[0]], text)
