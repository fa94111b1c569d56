"""A dictionary of spectra learnt from clips, and the relevance of its components to each class."""
