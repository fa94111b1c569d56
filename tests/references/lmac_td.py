"""LMAC-TD's basis and losses written out, one frame, one coefficient, one sample at a time; slow and literal."""

from __future__ import annotations

import math

import numpy as np


def root_hann(kernel: int) -> list[float]:
    """The square root of the periodic Hann window (1 - cos(2 pi n / kernel)) / 2."""
    return [math.sqrt((1 - math.cos(2 * math.pi * n / kernel)) / 2) for n in range(kernel)]


def encode(waveform: list[float], filters: np.ndarray, stride: int) -> list[list[float]]:
    """Coefficients of each frame that contains a sample of the sound; the first frame has `stride` of them."""
    kernel, window = filters.shape[1], root_hann(filters.shape[1])
    made, start = [], stride - kernel
    while start < len(waveform):
        frame = [waveform[start + n] if 0 <= start + n < len(waveform) else 0.0 for n in range(kernel)]
        made.append([sum(q * w * x for q, w, x in zip(row, window, frame)) for row in filters.tolist()])
        start += stride
    return made


def decode(coefficients: list[list[float]], filters: np.ndarray, stride: int, samples: int) -> list[float]:
    """Frames Q' c, windowed and added up, divided by the sum of the squared windows at each sample."""
    kernel, window = filters.shape[1], root_hann(filters.shape[1])
    total, weight = [0.0] * samples, [0.0] * samples
    for number, frame in enumerate(coefficients):
        start = stride - kernel + number * stride
        for n in range(kernel):
            if 0 <= start + n < samples:
                value = sum(c * float(filters[k, n]) for k, c in enumerate(frame))
                total[start + n] += window[n] * value
                weight[start + n] += window[n] ** 2
    return [a / b for a, b in zip(total, weight)]


def mean_level(magnitudes: np.ndarray) -> float:
    """Mean over clips and bins of log(1 + |X|)."""
    values = [math.log(1 + float(each)) for each in magnitudes.ravel()]
    return sum(values) / len(values)


def negative_snr(estimate: list[float], stem: list[float]) -> float:
    """-10 log10(|s|^2 / (|s - y|^2 + 0.1 |s|^2)) of one clip."""
    energy = sum(s * s for s in stem)
    error = sum((s - y) ** 2 for s, y in zip(stem, estimate))
    return -10 * math.log10(energy / (error + 0.1 * energy))
