"""Answers -> tables and a report."""
