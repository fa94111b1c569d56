"""A dictionary of spectra learnt from clips; which of its components speak for each class."""
