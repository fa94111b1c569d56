"""The log-frequency representation of one clip and its two ways back, from the definition, a bin at a time."""

import cmath
import math

import numpy as np


def centres(bands, low, high):
    return [low * (high / low) ** (k / (bands - 1)) for k in range(bands)]


def band_of(frequency, f):
    """The band whose centre is nearest on the log axis; 0 Hz is nearest to the lowest."""
    if frequency == 0:
        return 0
    return min(range(len(f)), key=lambda k: abs(math.log(frequency) - math.log(f[k])))


def first_loud_sample(clip, share):
    peak = max(abs(each) for each in clip)
    return next(n for n, each in enumerate(clip) if abs(each) >= share * peak)


def features(clip, sample_rate, bands, low, high, n_fft, onset):
    """(3, band) of (samples,): log(1 + 1000 m), cosine and sine."""
    f = centres(bands, low, high)
    reach = 0.5 * math.log(f[1] / f[0])  # half the distance of two centres
    begin = first_loud_sample(clip, onset)
    # Time 0 at the onset: what came before it goes to the end of the padded clip, which a transform takes as circular.
    padded = np.roll(np.concatenate([clip, np.zeros(n_fft - len(clip))]), -begin)
    spectrum = np.fft.rfft(padded)
    members = [[] for _ in f]
    for j in range(1, len(spectrum)):
        frequency = j * sample_rate / n_fft
        k = band_of(frequency, f)
        if abs(math.log(frequency / f[k])) <= reach:
            members[k].append(j)
    for k, each in enumerate(members):
        if not each:
            each.append(min(range(1, len(spectrum)), key=lambda j: abs(j * sample_rate / n_fft - f[k])))
    m = np.array([math.sqrt(sum(abs(spectrum[j]) ** 2 for j in each)) for each in members])
    m /= math.sqrt(sum(m**2))
    phase = [cmath.phase(max((spectrum[j] for j in each), key=abs)) for each in members]
    return np.stack([np.log(1 + 1000 * m), np.cos(phase), np.sin(phase)])


def changed(clip, sample_rate, bands, low, high, gain, turn):
    """The clip with each bin of the unpadded spectrum scaled and turned as its band says; gain and turn are (band,)."""
    f = centres(bands, low, high)
    spectrum = np.fft.rfft(clip)
    for j in range(len(spectrum)):
        k = band_of(j * sample_rate / len(clip), f)
        spectrum[j] *= gain[k] * cmath.exp(1j * turn[k])
    return np.fft.irfft(spectrum, len(clip))
