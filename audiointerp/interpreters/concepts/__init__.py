"""Concepts of a network: directions in a layer's representation, found by a dictionary."""

from audiointerp.interpreters.concepts.dictionaries import DICTIONARIES, ConceptDictionary
from audiointerp.interpreters.concepts.model import Concepts, concept_masks
from audiointerp.interpreters.concepts.representation import Representation, cells_of

__all__ = ["DICTIONARIES", "ConceptDictionary", "Concepts", "Representation", "cells_of", "concept_masks"]
