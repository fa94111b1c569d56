"""Notes: which magnitudes and phases must be kept for a classifier to recognise the instrument; fillers; inpainters."""
