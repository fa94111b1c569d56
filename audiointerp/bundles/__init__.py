"""Bundles: folders with a model and its card, to share; saving and loading them, and those shipped with the package."""

from audiointerp.bundles.bundle import BundleError, find, load, save

__all__ = ["BundleError", "find", "load", "save"]
