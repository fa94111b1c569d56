"""A run folder: opened, appended to, read, drawn and shown as a page. Reads and writes files only: no torch."""
