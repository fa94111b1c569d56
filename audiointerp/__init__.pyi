from .bundles.bundle import load as load
from .bundles.bundle import save as save
from .classifiers import AST as AST
from .classifiers import External as External
from .classifiers import InstrumentClassifier as InstrumentClassifier
from .classifiers import VGGSound as VGGSound
from .contracts import Classifier as Classifier
from .contracts import Interpretation as Interpretation
from .contracts import Interpreter as Interpreter
from .contracts import Prediction as Prediction
from .interpreters import L2I as L2I
from .interpreters import PIQ as PIQ
from .interpreters import RDE as RDE
from .sound.files import read as read
from .sound.files import write as write
from .sound.nmf import NMF as NMF
from .sound.spectrogram import STFT as STFT

__version__: str
