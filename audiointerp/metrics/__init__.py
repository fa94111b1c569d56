"""Scores of interpretations: each a pure function with one value a clip; `names.INFO` says what each asks."""
