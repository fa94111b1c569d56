"""A run folder -> listening tests in a browser, webMUSHRA or a plain folder; answers -> opinion scores and tests.

manifest        what a run wrote, checked
preparation     one rate, equal lengths, matched loudness, 16-bit PCM
study           what is asked, of which blind sounds, in which orders
export          a study written for people: page (one HTML file), webmushra, folder
answers         every result format -> one tidy table;  screening, agreement, analysis: table -> numbers and a report
"""
