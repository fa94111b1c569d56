"""A local server that collects listeners' answers."""
