"""Rate-distortion explanations of notes."""
