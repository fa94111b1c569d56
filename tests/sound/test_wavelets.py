"""The wavelet transform against PyWavelets, and its theorems."""

import warnings

import numpy as np
import pytest
import pywt
import torch

from audiointerp.sound.wavelets import WaveletTransform, default_levels

WAVELETS = ["haar", "db2", "db4", "db8", "sym8", "coif2", "bior4.4", "rbio3.3"]


def noise(samples, rows=2):
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("samples, levels", [(1, 1), (1, 4), (2, 2), (15, 3), (64, 3), (101, 6), (1000, 5)])
def test_coefficients_are_pywavelets(wavelet, samples, levels):
    waveform, transform = noise(samples), WaveletTransform(wavelet, levels)
    with warnings.catch_warnings():  # where levels reach beyond the edges, which zero padding allows
        warnings.simplefilter("ignore", UserWarning)
        expected = pywt.wavedec(waveform.numpy(), wavelet, mode="zero", level=levels)
    made = transform(waveform)
    assert [each.shape[1] for each in made] == transform.lengths(samples) == [each.shape[1] for each in expected]
    for ours, theirs in zip(made, expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
    back = transform.inverse(made, samples)
    np.testing.assert_allclose(back, waveform, atol=1e-8)
    np.testing.assert_allclose(back, pywt.waverec(expected, wavelet, mode="zero")[:, :samples], atol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8", "bior4.4"])
@pytest.mark.parametrize("samples", [80000, 16001, 7])
def test_all_coefficients_are_the_sound_in_float32(wavelet, samples):
    waveform, transform = noise(samples).float(), WaveletTransform(wavelet, 7)
    torch.testing.assert_close(transform.inverse(transform(waveform), samples), waveform, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_the_inverse_of_orthogonal_wavelets_is_the_transpose(wavelet):
    """The gradient with respect to coefficients is then the transform of the waveform's gradient."""
    transform, waveform, weight = WaveletTransform(wavelet, 4), noise(333), noise(333).flip(1).cos()
    flat = torch.cat(transform(waveform), 1).requires_grad_()
    sound = transform.inverse(flat.split(transform.lengths(333), 1), 333)
    gradient = torch.autograd.grad((weight * sound.sin()).sum(), flat)[0]
    expected = torch.cat(transform(weight * waveform.cos()), 1)
    assert transform.orthogonal == torch.allclose(gradient, expected, atol=1e-6)


def test_gradients_are_the_finite_differences():
    transform, waveform = WaveletTransform("bior4.4", 3), noise(40, 1)
    lengths = transform.lengths(40)
    flat = torch.cat(transform(waveform), 1)
    assert torch.autograd.gradcheck(
        lambda each: transform.inverse(each.split(lengths, 1), 40), flat.requires_grad_(), atol=1e-6
    )
    assert torch.autograd.gradcheck(lambda each: tuple(transform(each)), waveform.requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8"])
def test_levels_have_their_bands_and_times(wavelet):
    """A short tone is in the level of its frequency, at its time."""
    rate, samples = 16000, 16000
    transform = WaveletTransform(wavelet, 5)
    time = torch.arange(samples) / rate
    for hertz, at in ((6000.0, 0.3), (3000.0, 0.71), (375.0, 0.5)):
        burst = (torch.sin(2 * torch.pi * hertz * time) * torch.exp(-(((time - at) / 0.01) ** 2)))[None]
        levels = transform(burst)
        loudest = int(np.argmax([float(level.square().sum()) for level in levels]))
        low, high = transform.bands(rate)[loudest]
        assert low <= hertz <= high
        start, step = transform.times(rate)[loudest]
        energy = levels[loudest][0].square()
        centre = float((energy * (start + step * (torch.arange(len(energy)) + 0.5))).sum() / energy.sum())
        assert abs(centre - at) <= step


def test_default_levels_end_below_100_hz():
    for rate in (8000, 16000, 22050, 32000, 44100, 48000):
        bands = WaveletTransform("haar", default_levels(rate)).bands(rate)
        assert bands[0][1] < 100 <= 2 * bands[0][1] and bands[-1][1] == rate / 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WaveletTransform("db99", 1), "wavelet is 'db99'"),
        (lambda: WaveletTransform("mexh", 1), "wavelet is 'mexh'"),
        (lambda: WaveletTransform("dmey", 1), "wavelet is 'dmey'"),
        (lambda: WaveletTransform("haar", 0), "levels is 0"),
        (lambda: WaveletTransform("haar", 1).inverse([torch.ones(1, 3), torch.ones(1, 2)], 5), "have \\[3, 2\\]"),
        (lambda: WaveletTransform("haar", 2).inverse([torch.ones(1, 3), torch.ones(1, 3)], 5), "5 samples have"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
