"""Regions of a spectrogram against a literal loop over its bins, and against tones whose answer is known."""

import pytest
import torch
from two_tones import tones, two_bands

from audiointerp.explore import Brush, Region, region_mask
from audiointerp.explore.regions import MOST_REGIONS, read_regions
from audiointerp.sound.spectrogram import STFT

BOTH = [Region(300, 700, 0.1, 0.6, keep=True), Region(0, 8000, 0.2, 0.3), Region(3000, 5000, 0.0, 0.05, keep=True)]


def literal(regions, spectrogram, frames):
    """The rule, one bin after the other."""
    mask = torch.zeros(1, spectrogram.n_fft // 2 + 1, frames)
    for k in range(mask.shape[1]):
        for t in range(frames):
            hertz = k * spectrogram.sample_rate / spectrogram.n_fft
            second = t * spectrogram.hop_length / spectrogram.sample_rate
            inside = [r for r in regions if r.low_hz <= hertz <= r.high_hz and r.start_s <= second <= r.end_s]
            kept = any(r.keep for r in inside) or not any(r.keep for r in regions)
            mask[0, k, t] = float(kept and all(r.keep for r in inside))
    return mask


@pytest.mark.parametrize("regions", [BOTH, BOTH[:1], BOTH[1:2], [Region(0, 0, 0, 0)]], ids=str)
def test_the_mask_is_that_of_a_loop(regions):
    spectrogram = STFT(16000, 256, 256, 128)
    mask = region_mask(regions, spectrogram, 80)
    assert torch.equal(mask, literal(regions, spectrogram, 80))
    assert 0 < mask.mean() < 1


def test_what_is_left_is_the_inverse_of_the_masked_stft():
    classifier = two_bands()
    waveform = tones(0.25)[None] + 0.01 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    made = Brush(classifier, BOTH).interpret(waveform)
    stft = classifier.spectrogram(waveform)  # its own level: masking is linear
    expected = classifier.spectrogram.inverse(stft * literal(BOTH, classifier.spectrogram, stft.shape[-1]), 4000)
    assert torch.allclose(made.waveform, expected, atol=1e-6)
    assert torch.allclose(made.waveform + made.residual, waveform, atol=1e-7)


def test_a_muted_tone_changes_the_answer():
    classifier = two_bands()
    waveform = tones(1.0, low=0.2, high=0.3)[None]
    assert int(classifier(waveform).predicted) == 1
    without = Brush(classifier, [Region(3500, 4500, 0, 1)]).interpret(waveform)
    assert int(classifier(without.waveform).predicted) == 0
    middle = slice(800, -800)  # a frame at the edge holds half a window
    assert torch.allclose(without.waveform[0, middle], tones(1.0, 0.2, 0.0)[middle], atol=2e-3)
    only = Brush(classifier, [Region(3500, 4500, 0, 1, keep=True)]).interpret(waveform)
    assert torch.allclose(only.waveform[0, middle], tones(1.0, 0.0, 0.3)[middle], atol=2e-3)


@pytest.mark.parametrize("edges", [(5, 1, 0, 1), (0, 1, 2, 1), (0, float("nan"), 0, 1), (0, float("inf"), 0, 1)])
def test_no_rectangle(edges):
    with pytest.raises(ValueError, match="no rectangle"):
        Region(*edges)


GOOD = {"low_hz": 0, "high_hz": 1.5, "start_s": 0, "end_s": 1, "keep": False}


@pytest.mark.parametrize(
    "given",
    [
        *([], None, {}, [1], [{}], [GOOD] * (MOST_REGIONS + 1), [{**GOOD, "more": 1}], [{**GOOD, "keep": 1}]),
        *([{**GOOD, "low_hz": "0"}], [{**GOOD, "low_hz": True}], [{**GOOD, "low_hz": None}], [{**GOOD, "low_hz": 2}]),
        [{**GOOD, "high_hz": 10**400}],
    ],
)
def test_requests_of_another_shape(given):
    assert read_regions([GOOD]) == (Region(0.0, 1.5, 0.0, 1.0),)
    with pytest.raises(ValueError, match=r"region"):
        read_regions(given)
