"""Methods that explain a decision with a sound; one file a method."""

from audiointerp.interpreters.controls import AllPass, Beside, Empty, Loudest, RandomMask, TargetMasking, Threshold
from audiointerp.interpreters.gradcam import GradCAM, GuidedGradCAM
from audiointerp.interpreters.gradients import GradientSHAP, IntegratedGradients, Saliency, SmoothGrad
from audiointerp.interpreters.l2i import L2I
from audiointerp.interpreters.lime import LIME
from audiointerp.interpreters.masked import MaskInterpreter, frozen
from audiointerp.interpreters.occlusion import Occlusion
from audiointerp.interpreters.piq import PIQ
from audiointerp.interpreters.random_components import RandomComponents
from audiointerp.interpreters.rde import RDE
from audiointerp.interpreters.rde_bands import BandRDE
from audiointerp.interpreters.rise import RISE

__all__ = [
    "L2I",
    "LIME",
    "PIQ",
    "RDE",
    "RISE",
    "AllPass",
    "BandRDE",
    "Beside",
    "Empty",
    "GradCAM",
    "GradientSHAP",
    "GuidedGradCAM",
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
