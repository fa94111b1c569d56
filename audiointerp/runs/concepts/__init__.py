"""Concepts of a network, found by dictionaries and judged on clips that they have not seen."""
