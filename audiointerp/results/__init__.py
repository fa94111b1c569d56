"""Run folders: opening them, adding rows, reading, drawing, and writing pages. Works on files only, without torch."""
