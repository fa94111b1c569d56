"""Explaining sounds with interpreters: items, conditions, and the WAVs, figures and scores that are written."""

from audiointerp.evaluation.conditions import CleanClips, Condition, Mixtures, Noise, Scenes
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item

__all__ = ["CleanClips", "Condition", "Item", "Mixtures", "Noise", "Scenes", "Wanted", "evaluate"]
