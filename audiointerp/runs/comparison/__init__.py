"""Comparison of methods on the same sounds: tables, figures and a page with a play button for each method."""
