"""Classifiers: ours, and a wrapper for any other."""

from audiointerp.classifiers.vggsound import VGGSound

__all__ = ["VGGSound"]
