"""Bundles, which people share: saved, loaded, and those that ship with the package."""

from audiointerp.bundles.bundle import BundleError, find, load, save

__all__ = ["BundleError", "find", "load", "save"]
