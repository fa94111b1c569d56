"""Planted truth: whether methods show the sound that a classifier is known to decide by."""
