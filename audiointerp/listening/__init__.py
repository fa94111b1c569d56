"""A run folder -> listening tests in a browser, webMUSHRA or a plain folder; answers -> opinion scores and tests.

manifest        reads a run's manifest.csv and checks it against the WAVs
preparation     one rate, equal lengths, matched loudness, 16-bit PCM
study           the trials, their blind sounds, and the order of each session
export          writes a study as one HTML page, for webMUSHRA, or as a folder of WAVs
answers         every result format -> one tidy table;  screening, agreement, analysis: table -> numbers and a report
"""
