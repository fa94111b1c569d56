"""Attribution methods: a signed score of each bin for the target class, turned into a mask; one file per method."""

from audiointerp.interpreters.attribution.base import Attribution
from audiointerp.interpreters.attribution.extremal import ExtremalPerturbation
from audiointerp.interpreters.attribution.gradcam import GradCAM, GuidedGradCAM
from audiointerp.interpreters.attribution.gradients import GradientSHAP, IntegratedGradients, Saliency, SmoothGrad
from audiointerp.interpreters.attribution.igos import IGOSPlusPlus
from audiointerp.interpreters.attribution.lime import LIME
from audiointerp.interpreters.attribution.occlusion import Occlusion
from audiointerp.interpreters.attribution.rise import RISE
from audiointerp.interpreters.attribution.segments import SegmentSurrogate
from audiointerp.interpreters.attribution.shapley import Shapley

__all__ = [
    "LIME",
    "RISE",
    "Attribution",
    "ExtremalPerturbation",
    "GradCAM",
    "GradientSHAP",
    "GuidedGradCAM",
    "IGOSPlusPlus",
    "IntegratedGradients",
    "Occlusion",
    "Saliency",
    "SegmentSurrogate",
    "Shapley",
    "SmoothGrad",
]
