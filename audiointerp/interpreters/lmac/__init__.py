"""L-MAC: masks decoded from the classifier's feature maps, judged by the classifier on the masked sound."""

from audiointerp.interpreters.lmac.model import LMAC, Guidance

__all__ = ["LMAC", "Guidance"]
