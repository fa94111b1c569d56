"""Scores of interpretations: pure functions with one value per clip; `names.INFO` describes each score."""
