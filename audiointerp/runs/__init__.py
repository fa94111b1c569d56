"""Kinds of run."""
