"""Settings of a run of concepts."""

from __future__ import annotations

from dataclasses import dataclass

from audiointerp.interpreters.concepts import DICTIONARIES

__all__ = ["ConceptSettings"]


@dataclass(frozen=True)
class ConceptSettings:
    """Settings of a run of concepts.

    Args:
        n_concepts: number of concepts of each dictionary.
        layer: index of the classifier's feature map; negative indices count from the last.
        dictionaries: kinds of dictionaries that are learnt and judged: semi_nmf, k_means, pca, nmf, sparse_autoencoder,
            random.
        shown: the kind whose concepts the page shows and plays, and that the run's bundle holds.
        sparsity: weight of the sum of the activations, for vectors of mean square norm 1; not of k_means, pca and
            sparse_autoencoder.
        active: concepts that are active in a cell; of sparse_autoencoder only.
        cells: largest number of cells that dictionaries are learnt from, as many from each training clip.
        clips: largest number of test clips, drawn by the seed; their feature maps are kept in memory.
        strongest: number of clips that ground a concept.
        window: length in seconds of the stretch of a clip in which a concept is strongest.
        removed: number of a concept's strongest clips whose sound of the concept is removed.
        named: number of classes named for a concept.
    """

    n_concepts: int = 20
    layer: int = -1
    dictionaries: tuple[str, ...] | list[str] = ("semi_nmf", "k_means", "pca", "nmf", "sparse_autoencoder", "random")
    shown: str = "semi_nmf"
    sparsity: float = 0.05
    active: int = 4
    cells: int = 8192
    clips: int = 400
    strongest: int = 5
    window: float = 1.0
    removed: int = 2
    named: int = 3

    def __post_init__(self) -> None:
        if unknown := [each for each in self.dictionaries if each not in DICTIONARIES]:
            raise ValueError(f"dictionaries has {unknown[0]!r}; choose from {', '.join(DICTIONARIES)}")
        if self.shown not in self.dictionaries:
            raise ValueError(f"shown is {self.shown!r}, which is none of the dictionaries {list(self.dictionaries)}")
        least = {"n_concepts": 1, "active": 1, "cells": 1, "clips": 2, "strongest": 1, "removed": 1, "named": 1}
        if wrong := [name for name, number in least.items() if getattr(self, name) < number]:
            raise ValueError(f"{wrong[0]} is {getattr(self, wrong[0])}; it must be at least {least[wrong[0]]}")
        if self.n_concepts > self.cells:
            raise ValueError(f"n_concepts is {self.n_concepts}, above cells, {self.cells}, from which they are learnt")
        if self.active > self.n_concepts:
            raise ValueError(f"active is {self.active}, above n_concepts, {self.n_concepts}")
        if not 0 <= self.sparsity < float("inf") or not 0 < self.window < float("inf"):
            raise ValueError(f"sparsity is {self.sparsity}, window {self.window} s; neither may be negative")
