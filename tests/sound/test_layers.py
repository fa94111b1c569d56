"""Harmonic and percussive layers and onsets, against librosa and sounds whose answer is known."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from audiointerp.sound.components import Components
from audiointerp.sound.layers import harmonic_percussive_masks, onset_borders, onset_strength
from audiointerp.sound.spectrogram import STFT

RATE, SAMPLES, HOP = 16000, 32000, 186
SPECTROGRAM = STFT()


def clicks(*seconds: float) -> torch.Tensor:
    """Short bursts of noise at the given times."""
    generator = torch.Generator().manual_seed(0)
    sound = torch.zeros(SAMPLES)
    for each in seconds:
        start = round(each * RATE)
        sound[start : start + 80] = torch.randn(80, generator=generator)
    return sound[None]


def steady(hertz: float = 700.0) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(SAMPLES) / RATE)[None]


def noise(freq: int, time: int) -> torch.Tensor:
    return torch.rand(freq, time, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("margin", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("shape", [(60, 80), (40, 7), (5, 90), (1, 1)])
def test_layers_are_librosas(margin, shape):
    magnitude = noise(*shape) ** 4
    magnitude[:, :2] = 0
    made = harmonic_percussive_masks(magnitude, margin)
    expected = librosa.decompose.hpss(magnitude.numpy(), kernel_size=31, margin=margin, mask=True)
    for ours, theirs in zip(made, expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(made) == (2 if margin == 1 else 3)
    torch.testing.assert_close(made.sum(0), torch.ones(shape))


def test_a_tone_is_harmonic_and_a_click_percussive():
    tone, click = steady(), 3 * clicks(0.4, 1.1, 1.7)
    stft = SPECTROGRAM(tone + click)[0]
    harmonic, percussive, _ = Components.harmonic_percussive(stft).waveforms(SPECTROGRAM, SAMPLES)
    for layer, own, other in ((harmonic, tone[0], click[0]), (percussive, click[0], tone[0])):
        assert torch.cosine_similarity(layer, own, dim=0) > 0.9 > 0.2 > torch.cosine_similarity(layer, other, dim=0)


def test_onset_strength_is_librosas():
    magnitude = SPECTROGRAM(clicks(0.3, 1.2) + 0.1 * steady())[0].abs()
    theirs = librosa.onset.onset_strength(S=magnitude.log1p().numpy(), center=False, sr=RATE)
    np.testing.assert_allclose(onset_strength(magnitude), theirs, atol=1e-5)


def test_segments_begin_at_the_clicks():
    seconds = [0.35, 0.8, 1.0, 1.62]
    magnitude = SPECTROGRAM(clicks(*seconds) + 0.01 * steady())[0].abs()
    borders = onset_borders(magnitude, 5)
    # A frame hears one hop to either side, and the flux is lowest before that: at most three frames, 35 ms, too early.
    for border, second in zip(borders, seconds):
        assert -3 <= border - second * RATE / HOP <= 0.5
    strongest = onset_borders(SPECTROGRAM(clicks(0.35) + 0.1 * clicks(1.2))[0].abs(), 2)
    assert abs(strongest[0] - 0.35 * RATE / HOP) <= 2


def test_a_segment_begins_at_the_minimum_before_its_onset():
    """As librosa's backtracking from the same peaks."""
    magnitude = SPECTROGRAM(clicks(0.3, 0.9, 1.5) + 0.05 * steady())[0].abs()
    strength = onset_strength(magnitude).numpy()
    peaks = [int(p) for p in np.argsort(-strength) if 0 < p < len(strength) - 1]
    peaks = sorted([p for p in peaks if strength[p] > strength[p - 1] and strength[p] >= strength[p + 1]][:3])
    assert onset_borders(magnitude, 4) == librosa.onset.onset_backtrack(np.array(peaks), strength).tolist()


def test_a_steady_sound_is_divided_in_time_too():
    for magnitude in (torch.ones(4, 16), torch.zeros(4, 16)):
        assert onset_borders(magnitude, 4) == [4, 8, 12]
        assert onset_borders(magnitude, 16) == list(range(1, 16)) and onset_borders(magnitude, 1) == []
    rising = torch.ones(4, 16)
    rising[:, 10:] = 5
    # Frame 9 is the last without the rise; the longer segment, before it, is halved.
    assert onset_borders(rising, 3) == [4, 9]


@pytest.mark.parametrize("arguments", [(0.9, 31), (float("nan"), 31), (2.0, 4), (2.0, 0)])
def test_bad_settings(arguments):
    with pytest.raises(ValueError, match="margin of 1 or more and an odd kernel"):
        harmonic_percussive_masks(torch.ones(3, 3), *arguments)


@pytest.mark.parametrize("segments", [0, 6])
def test_bad_numbers_of_segments(segments):
    with pytest.raises(ValueError, match=f"{segments} segments of 5 frames"):
        onset_borders(torch.ones(3, 5), segments)
