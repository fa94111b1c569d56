"""Sound itself: files, recordings of any length, spectrograms, log-frequency bands, masks, NMF and audible components.

This package imports no classifier and no interpreter. Names are imported at first use, so that reading a file's
length needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
