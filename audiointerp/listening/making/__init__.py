"""A run folder -> a study: sounds checked, selected, prepared, blinded and packed."""
