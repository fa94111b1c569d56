"""Methods that explain a decision with a sound; one file a method."""

from audiointerp.interpreters.attribution.gradcam import GradCAM, GuidedGradCAM
from audiointerp.interpreters.attribution.gradients import GradientSHAP, IntegratedGradients, Saliency, SmoothGrad
from audiointerp.interpreters.attribution.lime import LIME
from audiointerp.interpreters.attribution.occlusion import Occlusion
from audiointerp.interpreters.attribution.rise import RISE
from audiointerp.interpreters.base import MaskInterpreter, frozen
from audiointerp.interpreters.controls import AllPass, Beside, Empty, Loudest, RandomMask, TargetMasking, Threshold
from audiointerp.interpreters.l2i.by_design import DictionaryClassifier, DictionaryTraining
from audiointerp.interpreters.l2i.model import L2I
from audiointerp.interpreters.l2i.random_components import RandomComponents
from audiointerp.interpreters.piq.model import PIQ
from audiointerp.interpreters.rde.bands import BandRDE
from audiointerp.interpreters.rde.clips import RDE
from audiointerp.interpreters.rde.inpainter import Inpainter

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
    "SmoothGrad",
    "TargetMasking",
    "Threshold",
    "frozen",
]
