"""Methods that explain a classifier's decision with a sound; one file or one folder per method."""

from audiointerp.interpreters.attribution import (
    LIME,
    RISE,
    GradCAM,
    GradientSHAP,
    GuidedGradCAM,
    IntegratedGradients,
    Occlusion,
    Saliency,
    Shapley,
    SmoothGrad,
)
from audiointerp.interpreters.base import MaskInterpreter
from audiointerp.interpreters.controls import AllPass, Beside, Empty, Loudest, RandomMask, TargetMasking, Threshold
from audiointerp.interpreters.l2i import L2I, DictionaryClassifier, DictionaryTraining, RandomComponents
from audiointerp.interpreters.piq import PIQ
from audiointerp.interpreters.rde import RDE, BandRDE, Inpainter

__all__ = [
    "L2I",
    "LIME",
    "PIQ",
    "RDE",
    "RISE",
    "AllPass",
    "BandRDE",
    "Beside",
    "DictionaryClassifier",
    "DictionaryTraining",
    "Empty",
    "GradCAM",
    "GradientSHAP",
    "GuidedGradCAM",
    "Inpainter",
    "IntegratedGradients",
    "Loudest",
    "MaskInterpreter",
    "Occlusion",
    "RandomComponents",
    "RandomMask",
    "Saliency",
    "Shapley",
    "SmoothGrad",
    "TargetMasking",
    "Threshold",
]
