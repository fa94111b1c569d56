"""Masks bin by bin: one clip, python loops, complex numbers written out."""

import cmath
import math

import numpy as np


def apply_mask(stft, mask, domain):
    """Magnitude and phase taken apart, the magnitude masked (through its logarithm), and put together again."""
    kept = np.zeros_like(stft)
    for bin_ in np.ndindex(stft.shape):
        magnitude, phase = abs(stft[bin_]), cmath.phase(stft[bin_])
        if domain == "log_magnitude":
            magnitude = math.exp(mask[bin_] * math.log(1 + magnitude)) - 1
        else:
            magnitude = mask[bin_] * magnitude
        kept[bin_] = magnitude * (math.cos(phase) + 1j * math.sin(phase))
    return kept


def energy_mask(magnitude, share, quantile):
    """Takes the bin with the most energy above its frequency's floor, again and again, until the share is reached."""
    above = np.zeros_like(magnitude)
    for k, row in enumerate(magnitude):
        floor = np.quantile(row, quantile)
        for t, value in enumerate(row):
            above[k, t] = max(0.0, value**2 - floor**2)
    mask, held = np.zeros_like(magnitude), 0.0
    while held < share * above.sum():
        loudest = np.unravel_index(np.argmax(np.where(mask == 1, -1.0, above)), above.shape)
        mask[loudest] = 1
        held += above[loudest]
    return mask


def noise_floor_fill(mask, magnitude, domain, quantile):
    """In the mask's domain, the level between a bin's own (mask 1) and its frequency's floor (mask 0), over its own."""
    filled = np.zeros_like(mask)
    for k, t in np.ndindex(mask.shape):
        level, floor = magnitude[k, t], min(np.quantile(magnitude[k], quantile), magnitude[k, t])
        if domain == "log_magnitude":
            level, floor = math.log(1 + level), math.log(1 + floor)
        filled[k, t] = (mask[k, t] * level + (1 - mask[k, t]) * floor) / level
    return filled
