"""Methods that explain a decision with a sound; one file a method."""

from audiointerp.interpreters.controls import Loudest, TargetMasking, Threshold
from audiointerp.interpreters.masked import MaskInterpreter, frozen
from audiointerp.interpreters.piq import PIQ

__all__ = ["PIQ", "Loudest", "MaskInterpreter", "TargetMasking", "Threshold", "frozen"]
