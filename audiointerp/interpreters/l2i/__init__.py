"""L2I: masks of the dictionary components relevant to the target class; for any classifier, or by design."""

from audiointerp.interpreters.l2i.by_design import DictionaryClassifier, DictionaryTraining
from audiointerp.interpreters.l2i.model import L2I
from audiointerp.interpreters.l2i.random_components import RandomComponents

__all__ = ["L2I", "DictionaryClassifier", "DictionaryTraining", "RandomComponents"]
