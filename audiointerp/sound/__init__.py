"""Sound itself: files, recordings, spectrograms, log-frequency bands, masks, NMF and components."""
