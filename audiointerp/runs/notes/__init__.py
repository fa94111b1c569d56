"""Notes: which magnitudes and phases must stay for a classifier to know the instrument; fillers of the rest."""
