"""Rate-distortion explanations."""
