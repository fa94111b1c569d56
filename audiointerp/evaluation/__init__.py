"""Sounds explained by interpreters: which sounds, under which conditions, into WAVs, figures and scores."""

from audiointerp.evaluation.conditions import CleanClips, Condition, Mixtures, Noise
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item

__all__ = ["CleanClips", "Condition", "Item", "Mixtures", "Noise", "Wanted", "evaluate"]
