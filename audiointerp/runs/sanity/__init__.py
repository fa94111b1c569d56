"""Checks that can fail a method."""
