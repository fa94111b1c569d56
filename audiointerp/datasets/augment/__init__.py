"""Augmentation: of waveforms, of notes, of spectrograms."""
