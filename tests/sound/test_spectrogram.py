"""The front end: sizes, exactness, and what a tone looks like."""

import librosa
import numpy as np
import pytest
import torch
from references import fourier

from audiointerp.sound.spectrogram import STFT, log_magnitude


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.3


def test_five_seconds_have_513_frequencies_and_431_frames():
    stft = STFT()
    assert stft(noise(2, 80000)).shape == (2, 513, 431)
    assert stft.inverse(stft(noise(2, 80000)), 80000).shape == (2, 80000)


@pytest.mark.parametrize("samples", [1, 2, 100, 185, 186, 187, 371, 372, 373, 511, 512, 513, 800, 1023, 16000, 80000])
def test_round_trip_at_every_length(samples):
    stft, waveform = STFT(), noise(2, samples)
    spectrogram = stft(waveform)
    back = stft.inverse(spectrogram, samples)
    assert spectrogram.shape[2] == 1 + samples // 186
    assert back.shape == waveform.shape
    assert (back - waveform).abs().max() < 1e-5


@pytest.mark.parametrize("config", [(16000, 512, 512, 128), (8000, 256, 200, 80), (44100, 1024, 1024, 512)])
def test_round_trip_of_other_front_ends(config):
    stft, waveform = STFT(*config), noise(1, 5001)
    assert (stft.inverse(stft(waveform), 5001) - waveform).abs().max() < 1e-5


@pytest.mark.parametrize("t", [0, 1, 4])
def test_a_frame_is_the_fourier_sum(t):
    waveform = noise(1, 800)
    expected = fourier.frame(waveform[0].double().numpy(), t, 1024, 372, 186)
    np.testing.assert_allclose(STFT()(waveform)[0, :, t].numpy(), expected, atol=1e-4)


def test_agrees_with_librosa():
    waveform = noise(1, 16000)
    theirs = librosa.stft(waveform[0].numpy(), n_fft=1024, hop_length=186, win_length=372, window="hamming")
    np.testing.assert_allclose(STFT()(waveform)[0].numpy(), theirs, atol=1e-4)


def test_a_tone_lies_in_its_bin():
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    magnitude = STFT()(tone).abs()[0, :, 40]
    assert magnitude.argmax() == 1000 * 1024 // 16000
    # A sine of amplitude a stands at a / 2 times the sum of the window, 0.54 win_length.
    assert float(magnitude.max()) == pytest.approx(0.25 * 0.54 * 372, rel=1e-3)


def test_an_impulse_lies_in_its_frame():
    waveform = torch.zeros(1, 16000)
    waveform[0, 186 * 20] = 1
    assert STFT()(waveform).abs()[0].sum(0).argmax() == 20


def test_log_magnitude_is_the_logarithm_of_one_plus_linear_amplitude():
    stft = torch.tensor([[[3 + 4j, 0j, -100j]]])
    assert log_magnitude(stft)[0, 0].tolist() == pytest.approx([np.log(6), 0, np.log(101)], rel=1e-6)


def test_silence_stays_silence():
    stft, silence = STFT(), torch.zeros(1, 1000)
    assert not log_magnitude(stft(silence)).any()
    assert not stft.inverse(stft(silence), 1000).any()


@pytest.mark.parametrize("sizes", [(256, 200, 0), (256, 200, 201), (256, 300, 100)])
def test_sizes_that_lose_samples_are_refused(sizes):
    with pytest.raises(ValueError, match=f"got {sizes[2]}, {sizes[1]}, {sizes[0]}"):
        STFT(16000, *sizes)


def test_config_rebuilds_the_same_transform():
    first = STFT(8000, 256, 200, 80)
    again = STFT(**first.config)
    assert again.sample_rate == 8000
    assert torch.equal(again(noise(1, 1000)), first(noise(1, 1000)))
    assert not first.state_dict(), "the window is a function of its length, not a weight"
