"""Literal, slow versions of what the package computes fast; read beside the formula, used by tests only."""
