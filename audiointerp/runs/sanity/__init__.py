"""Sanity checks: whether a mask depends on the model, the labels and the target class, but not on inaudible noise."""
