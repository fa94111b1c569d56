"""One frame of a short-time Fourier transform, from the definition."""

import numpy as np


def frame(waveform, t, n_fft, win_length, hop_length):
    """X[k, t] = sum_n w[n] x[t hop - n_fft / 2 + n] exp(-2 pi i k n / n_fft); zeros beyond the ends.

    The window is a periodic Hamming of `win_length`, in the middle of the `n_fft` samples.
    """
    first = (n_fft - win_length) // 2
    n = np.arange(n_fft)
    window = np.where(
        (n >= first) & (n < first + win_length), 0.54 - 0.46 * np.cos(2 * np.pi * (n - first) / win_length), 0.0
    )
    where = t * hop_length - n_fft // 2 + n
    inside = (where >= 0) & (where < len(waveform))
    samples = np.where(inside, waveform[np.clip(where, 0, len(waveform) - 1)], 0.0)
    k = np.arange(n_fft // 2 + 1)[:, None]
    return (window * samples * np.exp(-2j * np.pi * k * n / n_fft)).sum(1)
