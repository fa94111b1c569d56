"""Spectrograms and masks as bytes for the page, one byte a value, on one grid so that they lie over each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

RANGE_DB = 80.0  # shown below the loudest bin
MOST_COLUMNS, MOST_ROWS = 1200, 1100  # of a picture; more would be narrower than a pixel

__all__ = ["RANGE_DB", "cells", "mask_picture", "spectrogram_picture"]


def cells(freq: int, frames: int) -> tuple[int, int]:
    """Numbers of bins and of frames that share a value of the picture of a (freq, frames) spectrogram.

    >>> cells(513, 2581)
    (1, 3)
    """
    return -(-freq // MOST_ROWS), -(-frames // MOST_COLUMNS)


def spectrogram_picture(stft: Tensor) -> np.ndarray:
    """Level of each bin in dB below the loudest one, 0 (80 dB or more below, or silence) to 255 (the loudest).

    Args:
        stft: (1, freq, time), complex.

    Returns:
        (freq, columns) uint8, lowest frequency first. Where neighbours share a value, it is their maximum.
    """
    magnitude = _pooled(stft[0].abs().cpu().numpy(), np.max)
    loudest = float(magnitude.max()) or 1.0
    decibels = 20 * np.log10(np.maximum(magnitude / loudest, 10 ** (-RANGE_DB / 20)))
    return np.round(255 * (1 + decibels / RANGE_DB)).astype(np.uint8)


def mask_picture(mask: Tensor) -> np.ndarray:
    """A mask (1, freq, time) in [0, 1] as (freq, columns) uint8 on the grid of its spectrogram's picture; means."""
    return np.round(255 * _pooled(mask[0].cpu().numpy(), np.mean).clip(0, 1)).astype(np.uint8)


def _pooled(image: np.ndarray, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    for axis, group in enumerate(cells(*image.shape)):
        if group > 1:
            width = [(0, 0), (0, 0)]
            width[axis] = (0, -image.shape[axis] % group)
            padded = np.pad(image, width, mode="edge")
            shape = (*padded.shape[:axis], -1, group, *padded.shape[axis + 1 :])
            image = reduce(padded.reshape(shape), axis=axis + 1)
    return image
