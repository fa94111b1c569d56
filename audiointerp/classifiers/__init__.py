"""Classifiers of this package, and a wrapper for any other."""

from audiointerp.classifiers.audio_spectrogram_transformer import AST
from audiointerp.classifiers.clap import CLAP
from audiointerp.classifiers.cnn14 import CNN14
from audiointerp.classifiers.constrained import deaf, first_seconds, swapped
from audiointerp.classifiers.efficientat import EfficientAT
from audiointerp.classifiers.external import External
from audiointerp.classifiers.huggingface import HuggingFace
from audiointerp.classifiers.instrument import InstrumentClassifier
from audiointerp.classifiers.supervised import Supervised
from audiointerp.classifiers.vggsound import VGGSound

__all__ = [
    "AST",
    "CLAP",
    "CNN14",
    "EfficientAT",
    "External",
    "HuggingFace",
    "InstrumentClassifier",
    "Supervised",
    "VGGSound",
    "deaf",
    "first_seconds",
    "swapped",
]
