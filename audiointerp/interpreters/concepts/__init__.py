"""Concepts of a network: directions in a layer's representation, found by a dictionary or given by examples."""

from audiointerp.interpreters.concepts.dictionaries import DICTIONARIES, ConceptDictionary
from audiointerp.interpreters.concepts.directions import ConceptTest, concept_direction, tcav_score, try_concept
from audiointerp.interpreters.concepts.model import Concepts, concept_masks
from audiointerp.interpreters.concepts.representation import Representation, cells_of

__all__ = [
    "DICTIONARIES",
    "ConceptDictionary",
    "ConceptTest",
    "Concepts",
    "Representation",
    "cells_of",
    "concept_direction",
    "concept_masks",
    "tcav_score",
    "try_concept",
]
