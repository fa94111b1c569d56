"""L-MAC: masks decoded from the classifier's feature maps, judged by the classifier on the masked sound.

LMAC-TD: the same with a mask in a learned waveform basis.
"""

from audiointerp.interpreters.lmac.model import LMAC, Guidance
from audiointerp.interpreters.lmac.time_domain import LMACTD

__all__ = ["LMAC", "LMACTD", "Guidance"]
