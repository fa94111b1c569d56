"""Answers -> cleaned tables, statistics, figures and a report."""
