"""Targets of an export: a study -> an HTML page, webMUSHRA configs, or a plain folder."""
