"""Augmentation of notes: what moves, what stays, and how often."""

import math

import pytest
import torch
from band_classifiers import random_features

from audiointerp.datasets import BlankChannel, Equalize, Polarity, Transpose
from audiointerp.sound.logfrequency import LogFrequency

BANDS = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def notes(count: int) -> torch.Tensor:
    """Features (count, 3, band): one partial in band 30, power 1, and in each band a phase of its own."""
    angle = torch.linspace(0, 3, BANDS).expand(count, -1)
    level = torch.zeros(count, BANDS)
    level[:, 30] = math.log(1001)
    return torch.stack([level, angle.cos(), angle.sin()], 1)


def magnitude(features: torch.Tensor) -> torch.Tensor:
    return (features[:, 0].double().exp() - 1) / 1000


# --- Transpose


def test_a_partial_moves_with_its_phase():
    before = notes(200)
    after = Transpose(6.0)(before, seeded())
    place = after[:, 0].argmax(1)
    for row, there in zip(after, place.tolist()):
        torch.testing.assert_close(row[:, there], before[0, :, 30])
        # Every other band came along by as many places, as far as the axis goes.
        for band in range(BANDS):
            torch.testing.assert_close(row[1:, band], before[0, 1:, min(max(band - there + 30, 0), BANDS - 1)])
    moved = (place - 30).float()
    assert moved.unique().numel() > 10 and abs(float(moved.mean())) < 1.5 and 5 < float(moved.std()) < 7


def test_what_moves_in_is_silent_and_what_moves_out_is_gone():
    """A note whose level is its band's number plus 1, against a loop over the bands."""
    before = notes(50)
    before[:, 0] = torch.arange(BANDS) + 1.0
    after = Transpose(30.0)(before, seeded(1))
    moves = set()
    for row in after[:, 0]:
        first = next((band for band in range(BANDS) if row[band] > 0), None)
        if first is None:  # moved off the axis
            continue
        move = first + 1 - int(row[first])
        expected = [band - move + 1 if 0 <= band - move < BANDS else 0 for band in range(BANDS)]
        assert row.tolist() == expected
        moves.add(move)
    assert min(moves) < -10 and max(moves) > 10


@pytest.mark.parametrize("augment", [Transpose(0.0), Transpose(0.01), BlankChannel(0.0)])
def test_nothing_is_changed_by_nothing(augment):
    before = random_features(5, bands=BANDS)
    assert torch.equal(augment(before, seeded()), before)


# --- Equalize


def test_power_and_phases_stay():
    before = random_features(20, bands=BANDS)
    after = Equalize(6.0)(before, seeded())
    assert torch.equal(after[:, 1:], before[:, 1:])
    torch.testing.assert_close(magnitude(after).square().sum(1), torch.ones(20).double(), atol=1e-5, rtol=0)
    assert (after[:, 0] - before[:, 0]).abs().max() > 0.1


@pytest.mark.parametrize("points", [2, 5])
def test_the_gain_is_smooth(points):
    """In dB, a straight line between the points: its slope changes there and nowhere else."""
    before = notes(300)
    before[:, 0] = math.log(1 + 1000 / math.sqrt(BANDS))
    gain = 20 * (magnitude(Equalize(6.0, points)(before, seeded())) * math.sqrt(BANDS)).log10()
    slope = gain.diff(dim=1)
    bends = (slope.diff(dim=1).abs() > 0.02).float().mean(0) > 0.2
    at = [(BANDS - 1) * k / (points - 1) for k in range(1, points - 1)]
    expected = [any(abs(band + 1 - place) < 1 for place in at) for band in range(BANDS - 2)]
    assert bends.tolist() == expected
    # Two points of 6 dB each, independent: their difference does not depend on the level that power 1 needs.
    assert float((gain[:, -1] - gain[:, 0]).std()) == pytest.approx(6 * math.sqrt(2), rel=0.15)


def test_no_gain_changes_nothing_and_silence_stays():
    before = notes(3)
    torch.testing.assert_close(Equalize(0.0)(before, seeded()), before)
    before[1, 0] = 0
    after = Equalize(6.0)(before, seeded())
    assert after[1, 0].abs().max() == 0 and after.isfinite().all()
    # The only partial has all the power, whatever the gain.
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])


# --- Polarity


def test_half_of_the_notes_are_turned_over():
    before = random_features(400, bands=8)
    after = Polarity()(before, seeded())
    assert torch.equal(after[:, 0], before[:, 0])
    turned = (after[:, 1:] == -before[:, 1:]).flatten(1).all(1)
    same = (after[:, 1:] == before[:, 1:]).flatten(1).all(1)
    assert (turned ^ same).all() and 160 < int(turned.sum()) < 240


def test_a_waveform_upside_down_has_these_features():
    front_end = LogFrequency(bands=16, n_fft=8192)
    waveform = torch.randn(1, 4000, generator=seeded())
    before, upside_down = front_end(waveform).repeat(20, 1, 1), front_end(-waveform)
    after = Polarity()(before, seeded())
    near = [(after - each).abs().flatten(1).amax(1) < 1e-4 for each in (before, upside_down)]
    assert near[0].any() and near[1].any() and (near[0] ^ near[1]).all()


# --- BlankChannel


@pytest.mark.parametrize("probability", [0.2, 0.5])
def test_as_many_channels_are_blank_as_asked(probability):
    before = random_features(2000, bands=8)
    after = BlankChannel(probability)(before, seeded())
    no_level, no_phase = (after[:, part].flatten(1).abs().amax(1) == 0 for part in (slice(0, 1), slice(1, 3)))
    for blank in (no_level, no_phase):
        assert float(blank.float().mean()) == pytest.approx(probability, abs=0.04)
    assert not (no_level & no_phase).any()
    assert torch.equal(after[~no_level, :1], before[~no_level, :1])
    assert torch.equal(after[~no_phase, 1:], before[~no_phase, 1:])


# --- all


@pytest.mark.parametrize("augment", [Transpose(5.0), Equalize(4.0), Polarity(), BlankChannel(0.3)])
def test_the_generator_decides(augment):
    before = random_features(12, bands=BANDS)
    kept = before.clone()
    first, again, other = (augment(before, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, kept) and first.shape == before.shape


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Transpose(-1.0), "Transpose's std is -1.0"),
        (lambda: Equalize(-0.5), "Equalize's std is -0.5"),
        (lambda: Equalize(3.0, points=1), "points are 1"),
        (lambda: BlankChannel(-0.1), "-0.1; .* 0 to 0.5"),
        (lambda: BlankChannel(0.6), "0.6; .* 0 to 0.5"),
    ],
)
def test_what_cannot_be(make, words):
    with pytest.raises(ValueError, match=words):
        make()
