"""Concepts of a network: directions in a layer's representation, found by a dictionary or given by examples.

`directions`, for concepts that are given by examples, is imported where it is used: it needs SciPy's optimisers, for
which explaining a file shall not wait.
"""

from audiointerp.interpreters.concepts.dictionaries import DICTIONARIES, ConceptDictionary
from audiointerp.interpreters.concepts.model import Concepts, concept_masks
from audiointerp.interpreters.concepts.representation import Representation, cells_of

__all__ = ["DICTIONARIES", "ConceptDictionary", "Concepts", "Representation", "cells_of", "concept_masks"]
