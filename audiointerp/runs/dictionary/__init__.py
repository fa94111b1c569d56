"""A dictionary of spectra, learnt."""
