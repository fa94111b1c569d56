"""A run folder -> a study."""
