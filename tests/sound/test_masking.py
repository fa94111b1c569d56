"""Masks against the formulas written out bin by bin, hand-worked levels, and two tones."""

import math

import numpy as np
import pytest
import torch
from references import mask_formulas

from audiointerp.sound import masking
from audiointerp.sound.spectrogram import STFT

DOMAINS = ["log_magnitude", "magnitude"]


def random_stft(*shape: int) -> torch.Tensor:
    """Complex bins whose magnitudes span 1e-9 to 1e3, as a clip's do."""
    rng = torch.Generator().manual_seed(0)
    magnitude = 10 ** (12 * torch.rand(*shape, generator=rng) - 9)
    return torch.polar(magnitude, 6.28 * torch.rand(*shape, generator=rng))


def random_mask(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def random_magnitude(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2)) ** 4 * 50


def tones(*frequencies: float) -> torch.Tensor:
    return sum(0.3 * torch.sin(2 * torch.pi * f * torch.arange(8000) / 16000) for f in frequencies)[None]


# apply_mask


@pytest.mark.parametrize("domain", DOMAINS)
def test_apply_mask_is_its_formula(domain):
    stft, mask = random_stft(2, 9, 11), random_mask(2, 9, 11)
    kept = masking.apply_mask(stft, mask, domain)
    for row in range(2):
        expected = mask_formulas.apply_mask(stft[row].to(torch.complex128).numpy(), mask[row].double().numpy(), domain)
        np.testing.assert_allclose(kept[row].numpy(), expected, rtol=2e-5, atol=1e-12)


@pytest.mark.parametrize(("magnitude", "decibels"), [(100, -20.9), (20, -14.9), (5, -10.8)])
def test_half_a_mask_attenuates_more_in_the_log_domain(magnitude, decibels):
    stft, half = torch.full((1, 1, 1), magnitude + 0j), torch.full((1, 1, 1), 0.5)
    gain = {domain: float(masking.apply_mask(stft, half, domain).abs() / magnitude) for domain in DOMAINS}
    assert 20 * math.log10(gain["log_magnitude"]) == pytest.approx(decibels, abs=0.05)
    assert 20 * math.log10(gain["magnitude"]) == pytest.approx(-6.02, abs=0.01)


def test_kept_and_left_out_add_up():
    stft, mask = random_stft(2, 9, 11), random_mask(2, 9, 11)
    kept, left = (masking.apply_mask(stft, each, "magnitude") for each in (mask, 1 - mask))
    torch.testing.assert_close(kept + left, stft, rtol=1e-6, atol=0)
    kept, left = (masking.apply_mask(stft, each, "log_magnitude").abs().log1p() for each in (mask, 1 - mask))
    torch.testing.assert_close(kept + left, stft.abs().log1p(), rtol=1e-5, atol=1e-7)


def test_waveforms_of_both_parts_add_up_to_the_input_in_the_magnitude_domain():
    front_end, waveform = STFT(), tones(440, 3000)
    stft, mask = front_end(waveform), random_mask(1, 513, 44)
    parts = [front_end.inverse(masking.apply_mask(stft, each, "magnitude"), 8000) for each in (mask, 1 - mask)]
    assert (parts[0] + parts[1] - waveform).abs().max() < 1e-5


def test_binary_masks_agree_in_both_domains_to_the_last_bit():
    stft, mask = random_stft(2, 9, 11), masking.binary_mask(random_mask(2, 9, 11))
    logarithmic, linear = (masking.apply_mask(stft, mask, domain) for domain in DOMAINS)
    assert torch.equal(logarithmic, linear)
    assert torch.equal(linear, stft * mask)


@pytest.mark.parametrize("domain", DOMAINS)
def test_silence_and_its_gradient_are_finite(domain):
    stft, mask = torch.zeros(1, 3, 2, dtype=torch.complex64), random_mask(1, 3, 2).requires_grad_()
    kept = masking.apply_mask(stft, mask, domain)
    assert not kept.abs().any()
    kept.real.sum().backward()
    assert mask.grad is not None
    assert not mask.grad.any()


def test_gradient_of_the_log_domain():
    stft = random_stft(1, 3, 4).to(torch.complex128) + 0.01
    mask = random_mask(1, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: masking.apply_mask(stft, m, "log_magnitude"), (mask,))


# From magnitudes to masks


def test_binary_mask_is_strict():
    assert masking.binary_mask(torch.tensor([0.2, 0.5, 0.6])).tolist() == [0, 0, 1]
    assert masking.binary_mask(torch.tensor([0.2, 0.5, 0.6]), 0.1).tolist() == [1, 1, 1]


def test_threshold_mask_by_hand():
    magnitude = torch.tensor([[[99.0, 40.0, 30.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]])
    # log1p: 4.61, 3.71, 3.43, 1.61, threshold 1.61 (0.35 times the first, just above the last)
    logarithmic = masking.threshold_mask(magnitude, 0.35)
    assert logarithmic.tolist() == [[[1, 1, 1, 0]], [[0, 0, 0, 0]]]
    assert masking.threshold_mask(magnitude, 0.35, "magnitude").tolist() == [[[1, 1, 0, 0]], [[0, 0, 0, 0]]]


def test_threshold_mask_looks_at_each_clip_alone():
    magnitude = random_magnitude(2, 9, 11) * torch.tensor([1.0, 100.0])[:, None, None]
    for row in range(2):
        alone = masking.threshold_mask(magnitude[row : row + 1])
        assert torch.equal(masking.threshold_mask(magnitude)[row : row + 1], alone)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.6, 1.0])
def test_loudest_mask_counts_and_keeps_the_loudest(share):
    magnitude = random_magnitude(2, 9, 11)
    mask = masking.loudest_mask(magnitude, share)
    assert mask.sum((1, 2)).tolist() == [round(share * 99)] * 2
    for row in range(2):
        kept, left = magnitude[row][mask[row] == 1], magnitude[row][mask[row] == 0]
        assert not len(kept) or not len(left) or kept.min() >= left.max()


def test_loudest_mask_takes_a_share_per_clip_and_ties_do_not_change_the_count():
    mask = masking.loudest_mask(torch.ones(3, 10, 10), torch.tensor([0.25, 0.0, 1.0]))
    assert mask.sum((1, 2)).tolist() == [25, 0, 100]


@pytest.mark.parametrize(("share", "quantile"), [(0.9, 0.1), (0.5, 0.3), (0.99, 0.0)])
def test_energy_mask_keeps_the_fewest_bins(share, quantile):
    magnitude = random_magnitude(2, 9, 11)
    mask = masking.energy_mask(magnitude, share, quantile)
    for row in range(2):
        expected = mask_formulas.energy_mask(magnitude[row].double().numpy(), share, quantile)
        np.testing.assert_array_equal(mask[row].numpy(), expected)


def test_energy_mask_by_hand():
    # No floor (quantile 0 of rows that hold a zero); powers 16, 4, 4, 1: the share says how many of them.
    magnitude = torch.tensor([[[4.0, 2.0, 0.0], [2.0, 1.0, 0.0]]])
    for share, count in [(0.1, 1), (0.64, 1), (0.65, 2), (0.8, 2), (0.95, 3), (0.97, 4), (1.0, 4)]:
        assert int(masking.energy_mask(magnitude, share, 0.0).sum()) == count


def test_energy_mask_of_everything_leaves_out_what_has_no_energy():
    magnitude = random_magnitude(1, 300, 400)
    magnitude[:, :, ::2] = 0
    assert not masking.energy_mask(magnitude, 1.0, 0.0)[:, :, ::2].any()


def test_energy_mask_of_silence_and_of_steady_hum_is_empty():
    assert not masking.energy_mask(torch.zeros(1, 4, 5)).any()
    assert not masking.energy_mask(torch.rand(1, 4, 1).expand(1, 4, 5)).any()


def test_energy_mask_finds_the_event_in_the_hum():
    hum_and_event = torch.full((1, 5, 20), 3.0)
    hum_and_event[0, 2, 8:11] += 4
    expected = torch.zeros(5, 20)
    expected[2, 8:11] = 1
    assert torch.equal(masking.energy_mask(hum_and_event)[0], expected)


def test_noise_floor_is_a_quantile_over_time():
    magnitude = torch.arange(11.0).flip(0).expand(2, 3, 11) * torch.tensor([1.0, 2.0, 0.0])[:, None]
    assert masking.noise_floor(magnitude, 0.1).tolist() == [[[1], [2], [0]]] * 2


# Filling


@pytest.mark.parametrize("domain", DOMAINS)
def test_fill_is_its_formula(domain):
    mask, magnitude = random_mask(1, 6, 9), random_magnitude(1, 6, 9) + 0.1
    filled = masking.fill_with_noise_floor(mask, magnitude, domain, 0.2)
    expected = mask_formulas.noise_floor_fill(mask[0].double().numpy(), magnitude[0].double().numpy(), domain, 0.2)
    np.testing.assert_allclose(filled[0].numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("domain", DOMAINS)
def test_removed_bins_are_left_at_the_floor_and_kept_ones_as_they_were(domain):
    stft = random_stft(2, 6, 9) + 0.01
    magnitude, mask = stft.abs(), masking.binary_mask(random_mask(2, 6, 9))
    heard = masking.apply_mask(stft, masking.fill_with_noise_floor(mask, magnitude, domain), domain).abs()
    floor = torch.minimum(masking.noise_floor(magnitude), magnitude)
    torch.testing.assert_close(heard, torch.where(mask == 1, magnitude, floor), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("domain", DOMAINS)
def test_filled_masks_stay_masks(domain):
    for magnitude in (random_magnitude(1, 6, 9), torch.zeros(1, 6, 9), torch.ones(1, 6, 9)):
        filled = masking.fill_with_noise_floor(random_mask(1, 6, 9), magnitude, domain)
        assert ((filled >= 0) & (filled <= 1 + 1e-6)).all()


# Known stems


def test_ideal_masks_keep_their_tone():
    front_end = STFT()
    low, high = front_end(tones(500)).abs(), front_end(tones(4000)).abs()
    ratio, binary = masking.ideal_ratio_mask(low, high), masking.ideal_binary_mask(low, high)
    low_bin, high_bin, middle = 500 * 1024 // 16000, 4000 * 1024 // 16000, slice(5, -5)
    assert (ratio[0, low_bin, middle] > 0.99).all()
    assert (ratio[0, high_bin, middle] < 0.01).all()
    assert (binary[0, low_bin, middle] == 1).all()
    assert (binary[0, high_bin, middle] == 0).all()


@pytest.mark.parametrize("ideal", [masking.ideal_ratio_mask, masking.ideal_binary_mask])
def test_the_ideal_mask_of_a_mixture_gives_the_tone_back(ideal):
    front_end = STFT()
    wanted, other = tones(500), tones(4000)
    mask = ideal(front_end(wanted).abs(), front_end(other).abs())
    heard = front_end.inverse(masking.apply_mask(front_end(wanted + other), mask, "magnitude"), 8000)
    inner = slice(500, -500)
    error = (heard - wanted)[0, inner].square().sum() / wanted[0, inner].square().sum()
    assert 10 * math.log10(float(error)) < -30


def test_ideal_masks_by_hand():
    stem, rest = torch.tensor([[[3.0, 1.0, 2.0, 0.0]]]), torch.tensor([[[1.0, 3.0, 2.0, 0.0]]])
    assert masking.ideal_ratio_mask(stem, rest).tolist() == [[[0.75, 0.25, 0.5, 0]]]
    assert masking.ideal_binary_mask(stem, rest).tolist() == [[[1, 0, 0, 0]]]


# Target masks as objects


def test_target_masks_are_the_functions_on_the_magnitude():
    stft = STFT()(tones(500, 4000))
    magnitude = stft.abs()
    assert torch.equal(masking.ThresholdMask(0.2)(stft), masking.threshold_mask(magnitude, 0.2))
    assert torch.equal(
        masking.ThresholdMask(0.2, "magnitude")(stft), masking.threshold_mask(magnitude, 0.2, "magnitude")
    )
    assert torch.equal(masking.EnergyMask(0.7, 0.3)(stft), masking.energy_mask(magnitude, 0.7, 0.3))


def test_stem_mask_takes_the_rest_as_mixture_minus_stem():
    front_end = STFT()
    wanted, other = front_end(tones(500)), front_end(tones(4000))
    ratio, binary = masking.StemMask()(wanted + other, wanted), masking.StemMask("binary")(wanted + other, wanted)
    torch.testing.assert_close(ratio, masking.ideal_ratio_mask(wanted.abs(), other.abs()), rtol=0, atol=2e-2)
    assert (binary == masking.ideal_binary_mask(wanted.abs(), other.abs())).float().mean() > 0.99


def test_stem_mask_without_a_stem_says_what_to_do():
    with pytest.raises(ValueError, match="known stems; train on mixtures"):
        masking.StemMask()(STFT()(tones(500)))


def test_stem_mask_with_a_share_keeps_only_what_has_energy():
    stem, rest = torch.randn(2, 1, 6, 9, dtype=torch.complex64)
    mixture = stem + rest
    whole, part = masking.StemMask()(mixture, stem), masking.StemMask(share=0.5)(mixture, stem)
    kept = masking.energy_mask(mixture.abs(), 0.5)
    assert torch.equal(part, whole * kept)
    assert 0 < kept.mean() < 1
