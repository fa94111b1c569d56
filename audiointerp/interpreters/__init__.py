"""Methods that explain a classifier's decision with a sound; one file or one folder per method."""

from audiointerp.interpreters.attribution import (
    LIME,
    RISE,
    ExtremalPerturbation,
    GradCAM,
    GradientSHAP,
    GuidedGradCAM,
    IGOSPlusPlus,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SegmentSurrogate,
    Shapley,
    SmoothGrad,
)
from audiointerp.interpreters.base import MaskInterpreter
from audiointerp.interpreters.concepts import Concepts
from audiointerp.interpreters.controls import (
    AllPass,
    Beside,
    Empty,
    IdealParts,
    Loudest,
    RandomMask,
    RandomMoments,
    TargetMasking,
    Threshold,
)
from audiointerp.interpreters.explainer import Explainer
from audiointerp.interpreters.flint import FLINT, JointFLINT
from audiointerp.interpreters.l2i import L2I, DictionaryClassifier, DictionaryTraining, RandomComponents
from audiointerp.interpreters.lmac import LMAC, LMACTD
from audiointerp.interpreters.most_faithful import MostFaithful
from audiointerp.interpreters.piq import PIQ
from audiointerp.interpreters.rde import RDE, BandRDE, CartoonX, Inpainter
from audiointerp.interpreters.rtis import RTIS
from audiointerp.interpreters.vibi import VIBI, RandomTiles
from audiointerp.interpreters.wam import WAM

__all__ = [
    "FLINT",
    "L2I",
    "LIME",
    "LMAC",
    "LMACTD",
    "PIQ",
    "RDE",
    "RISE",
    "RTIS",
    "VIBI",
    "WAM",
    "AllPass",
    "BandRDE",
    "Beside",
    "CartoonX",
    "Concepts",
    "DictionaryClassifier",
    "DictionaryTraining",
    "Empty",
    "Explainer",
    "ExtremalPerturbation",
    "GradCAM",
    "GradientSHAP",
    "GuidedGradCAM",
    "IGOSPlusPlus",
    "IdealParts",
    "Inpainter",
    "IntegratedGradients",
    "JointFLINT",
    "Loudest",
    "MaskInterpreter",
    "MostFaithful",
    "Occlusion",
    "RandomComponents",
    "RandomMask",
    "RandomMoments",
    "RandomTiles",
    "Saliency",
    "SegmentSurrogate",
    "Shapley",
    "SmoothGrad",
    "TargetMasking",
    "Threshold",
]
