"""Concepts of a network: found by dictionaries and judged, or given by a user's sounds and tested."""
