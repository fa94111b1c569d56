"""FLINT: a few attributes that say what the classifier says; post hoc, or trained together with the classifier."""

from audiointerp.interpreters.flint.joint import JointFLINT
from audiointerp.interpreters.flint.model import FLINT

__all__ = ["FLINT", "JointFLINT"]
