"""Insertion and deletion at equal energy: hand-worked cases, and a literal version in exact fractions."""

import math

import pytest
import torch
from references.curves import kept_energy_of_bins

from audiointerp.metrics.curves import SHARES, energy_ranked_masks, insertion_and_deletion


def grid(*values: float) -> torch.Tensor:
    """One clip of one frequency."""
    return torch.tensor([[list(values)]])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_shares_are_midpoints_of_equal_parts():
    n = len(SHARES)
    assert pytest.approx([(2 * i + 1) / (2 * n) for i in range(n)]) == SHARES


def test_highest_bins_first_whatever_their_loudness():
    # Energies 1, 4, 4, 1 of ten; the mask ranks the second, first, fourth, third.
    kept = energy_ranked_masks(grid(0.6, 0.9, 0.1, 0.2), grid(1.0, 2.0, 2.0, 1.0), (0.2, 0.4, 0.45, 0.5, 0.6, 0.8))
    expected = [[0, 0.5, 0, 0], [0, 1, 0, 0], [0.5, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1], [1, 1, 0.5, 1]]
    torch.testing.assert_close(kept[0, :, 0].square(), torch.tensor(expected), atol=1e-6, rtol=0)


def test_equal_bins_enter_together():
    # A binary mask: no order within the ones, none within the zeros.
    kept = energy_ranked_masks(grid(1.0, 0.0, 1.0, 0.0), grid(3.0, 1.0, 1.0, 3.0), (0.25, 0.5, 0.75))
    expected = [[0.5, 0, 0.5, 0], [1, 0, 1, 0], [1, 0.5, 1, 0.5]]
    torch.testing.assert_close(kept[0, :, 0].square(), torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_mask_attenuates_everything_alike(value):
    magnitude = drawn(2, 4, 5)
    kept = energy_ranked_masks(torch.full((2, 4, 5), value), magnitude)
    expected = torch.tensor(SHARES).sqrt()[None, :, None, None].expand_as(kept)
    torch.testing.assert_close(kept, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("levels", [2, 3, 7, None])
def test_literal_version(levels):
    """Few levels: many ties. Magnitudes over 60 dB, some of them zero."""
    mask, magnitude = drawn(3, 4, 5), 10 ** (3 * drawn(3, 4, 5, seed=1) - 3)
    magnitude[drawn(3, 4, 5, seed=2) < 0.2] = 0
    if levels:
        mask = (mask * levels).floor() / levels
    shares = (0.1, 0.37, 0.5, 0.99)
    kept = energy_ranked_masks(mask, magnitude, shares).double().square()
    for row in range(3):
        power = magnitude[row].double().square().flatten().tolist()
        for place, share in enumerate(shares):
            expected = torch.tensor(kept_energy_of_bins(mask[row].flatten().tolist(), power, share))
            heard = torch.tensor(power) > 0  # what is silent may be kept or not
            torch.testing.assert_close(
                kept[row, place].flatten()[heard], expected.double()[heard], atol=1e-6, rtol=1e-4
            )


@pytest.mark.parametrize("mask", [drawn(2, 16, 20), (drawn(2, 16, 20) > 0.7).float(), torch.ones(2, 16, 20)])
def test_energy_is_exact_for_every_mask(mask):
    """What makes methods comparable: each hears the same energy, and each is robbed of the same."""
    magnitude = torch.randn(2, 16, 20, generator=torch.Generator().manual_seed(0)).exp()
    kept = energy_ranked_masks(mask, magnitude)
    power = magnitude.double().square()
    share = (kept.double().square() * power[:, None]).sum((2, 3)) / power.sum((1, 2))[:, None]
    torch.testing.assert_close(share, torch.tensor(SHARES, dtype=torch.float64).expand(2, -1), atol=1e-6, rtol=0)
    assert kept.min() >= 0 and kept.max() <= 1


def test_masks_of_growing_share_are_nested():
    kept = energy_ranked_masks((4 * drawn(1, 8, 9)).floor(), drawn(1, 8, 9, seed=1))
    assert (kept[:, 1:] >= kept[:, :-1]).all()


def test_only_the_order_counts():
    mask, magnitude = drawn(2, 6, 7), drawn(2, 6, 7, seed=1)
    assert torch.equal(energy_ranked_masks(mask, magnitude), energy_ranked_masks(mask**3 / 2, magnitude))
    assert not torch.equal(energy_ranked_masks(mask, magnitude), energy_ranked_masks(1 - mask, magnitude))
    torch.testing.assert_close(energy_ranked_masks(mask, magnitude), energy_ranked_masks(mask, 1000 * magnitude))


def share_heard_in(first: int):
    """A listener whose probability is the share of its energy that lies in the lower `first` frequencies."""

    def probability(stft: torch.Tensor) -> torch.Tensor:
        power = stft.abs().square()
        return power[:, :first].sum((1, 2)) / power.sum((1, 2))

    return probability


def test_curves_by_hand():
    """A right and a wrong mask of two bands of equal energy, heard by someone who knows only the lower band."""
    stft = torch.polar(torch.ones(2, 4, 3), drawn(2, 4, 3))
    lower = (torch.arange(4) < 2).float()[:, None].expand(4, 3)
    insertion, deletion = insertion_and_deletion(torch.stack([lower, 1 - lower]), stft, share_heard_in(2))
    # Up to a half the lower band alone is heard, then .5/.7 and .5/.9 of it. Deletion leaves .4/.9, .2/.7, 0, 0, 0.
    late = (5 / 7 + 5 / 9) / 5
    torch.testing.assert_close(insertion, torch.tensor([0.6 + late, 0.4 - late]))
    gone = (4 / 9 + 2 / 7) / 5
    torch.testing.assert_close(deletion, torch.tensor([gone, 1 - gone]))


def test_a_mask_that_says_nothing_has_no_advantage():
    stft = torch.polar(drawn(1, 6, 5) + 0.1, drawn(1, 6, 5, seed=1))
    mine = share_heard_in(2)
    for value in (0.0, 1.0):
        for score in insertion_and_deletion(torch.full((1, 6, 5), value), stft, mine):
            torch.testing.assert_close(score, mine(stft))


def test_clips_stand_side_by_side_and_do_not_mix():
    stft, mask = torch.polar(drawn(3, 6, 5) + 0.1, drawn(3, 6, 5, seed=1)), drawn(3, 6, 5, seed=2)
    together = insertion_and_deletion(mask, stft, share_heard_in(2))
    for row in range(3):
        alone = insertion_and_deletion(mask[row : row + 1], stft[row : row + 1], share_heard_in(2))
        for one, all_of_them in zip(alone, together):
            torch.testing.assert_close(one[0], all_of_them[row])


def test_silent_clips_have_no_curve():
    stft = torch.polar(drawn(3, 4, 5) + 0.1, drawn(3, 4, 5))
    stft[1] = 0
    for score in insertion_and_deletion(drawn(3, 4, 5, seed=1), stft, lambda heard: heard.abs().mean((1, 2))):
        assert [math.isnan(each) for each in score.tolist()] == [False, True, False]
    assert torch.isfinite(energy_ranked_masks(drawn(3, 4, 5), stft.abs())).all()


def test_phase_is_kept_and_the_listener_hears_five_of_each():
    stft, heard = torch.polar(drawn(2, 4, 5) + 0.1, 6 * drawn(2, 4, 5, seed=1)), []

    def listen(each: torch.Tensor) -> torch.Tensor:
        heard.append(each)
        return each.abs().mean((1, 2))

    insertion_and_deletion(drawn(2, 4, 5, seed=2), stft, listen)
    inserted, deleted = heard
    assert inserted.shape == deleted.shape == (10, 4, 5)
    whole = stft.repeat_interleave(len(SHARES), 0)
    for part in heard:
        here = part.abs() > 1e-4
        torch.testing.assert_close((part / whole).imag[here], torch.zeros(int(here.sum())), atol=1e-5, rtol=0)
    # Inserted and removed energies add up to the clip's, bin by bin.
    torch.testing.assert_close(inserted.abs().square() + deleted.abs().square(), whole.abs().square())
