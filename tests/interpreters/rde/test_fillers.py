"""Fillers: what is drawn, from which generator, and how it is put in."""

from math import pi

import pytest
import torch

from audiointerp.interpreters.rde.fillers import Donors, GaussianNoise, Zeros, compose, fit_fillers


def notes(count=40, bands=16, seed=0):
    """Notes with a level that grows with the band, in the front end's form."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.linspace(0.2, 4, bands) * (0.5 + torch.rand(count, bands, generator=generator))
    angle = 2 * pi * torch.rand(count, bands, generator=generator)
    return torch.stack([level, angle.cos(), angle.sin()], 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def same_rows(rows, among):
    """Whether each row is one of `among`."""
    return torch.stack([(among == row).flatten(1).all(1).any() for row in rows]).all()


def test_compose_is_the_literal_loop():
    x, filled = notes(3, 5), notes(3, 5, seed=1)
    keep = torch.rand(3, 2, 5, generator=seeded())
    out = compose(x, keep, filled)
    for note in range(3):
        for channel, row in ((0, 0), (1, 1), (2, 1)):
            for band in range(5):
                k = keep[note, row, band]
                expected = x[note, channel, band] * k + filled[note, channel, band] * (1 - k)
                torch.testing.assert_close(out[note, channel, band], expected)


def test_compose_is_exact_at_the_ends_and_differentiable_between():
    x, filled = notes(4, 8), notes(4, 8, seed=1)
    assert torch.equal(compose(x, torch.ones(4, 2, 8), filled), x)
    assert torch.equal(compose(x, torch.zeros(4, 2, 8), filled), filled)
    keep = torch.full((4, 2, 8), 0.5, requires_grad=True)
    compose(x, keep, filled).sum().backward()
    assert keep.grad is not None
    torch.testing.assert_close(keep.grad[:, 0], (x - filled)[:, 0])
    torch.testing.assert_close(keep.grad[:, 1], (x - filled)[:, 1:].sum(1))


def test_zeros():
    x, drawn = notes(4), Zeros().draw(4, seeded())
    assert drawn.shape == (4, 0)
    assert torch.equal(Zeros().fill(x, torch.ones(4, 2, 16), drawn), torch.zeros_like(x))


def test_noise_has_the_asked_distribution():
    mean, std = torch.tensor([3.0, 2.0, 0.0]), torch.tensor([0.5, 0.0, 1.0])
    filler = GaussianNoise(mean, std)
    drawn = filler.draw(20_000, seeded())
    assert drawn.shape == (20_000, 3, 3)
    level, phasor = drawn[:, 0], drawn[:, 1:]
    torch.testing.assert_close(level.mean(0)[:2], mean[:2], atol=0.02, rtol=0)
    torch.testing.assert_close(level.std(0)[:2], std[:2], atol=0.02, rtol=0)
    # Half of a centred normal is clamped at 0: the mean of the positive part is 1 / sqrt(2 pi).
    assert level.min() == 0
    torch.testing.assert_close(level[:, 2].mean(), torch.tensor((2 * pi) ** -0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(phasor.square().sum(1), torch.ones(20_000, 3))
    # A uniform phase has no preferred direction, and none at twice the angle either.
    angle = torch.atan2(phasor[:, 1], phasor[:, 0])
    for order in (1, 2):
        assert torch.polar(torch.ones_like(angle), order * angle).mean(0).abs().max() < 0.03
    assert torch.equal(filler.fill(notes(5, 3), torch.ones(5, 2, 3), drawn[:5]), drawn[:5])


def test_donors_are_notes_of_the_bank_all_of_them():
    bank = notes(6)
    drawn = Donors(bank).draw(200, seeded())
    assert same_rows(drawn, bank) and same_rows(bank, drawn)


def test_half_precision_bank_fills_in_single_precision():
    drawn = Donors(notes(6).half()).draw(3, seeded())
    assert drawn.dtype == torch.float32


@pytest.mark.parametrize("filler", [GaussianNoise(torch.ones(16), torch.ones(16)), Donors(notes(50))])
def test_draws_come_from_the_generator_alone(filler):
    before = torch.get_rng_state()
    first, again, other = filler.draw(8, seeded(1)), filler.draw(8, seeded(1)), filler.draw(8, seeded(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_fitted_statistics_and_bank():
    x = notes(300)
    fillers = fit_fillers(x, donors=20)
    assert list(fillers) == ["zeros", "noise", "donor"]
    noise, donor = fillers["noise"], fillers["donor"]
    torch.testing.assert_close(noise.mean, x[:, 0].mean(0))
    torch.testing.assert_close(noise.std, x[:, 0].std(0, correction=0))
    assert donor.bank.shape == (20, 3, 16)
    assert same_rows(donor.bank, x)
    assert len(donor.bank.unique(dim=0)) == 20  # each note once
    assert torch.equal(fit_fillers(x, donors=20)["donor"].bank, donor.bank)
    assert not torch.equal(fit_fillers(x, donors=20, seed=1)["donor"].bank, donor.bank)


def test_batches_give_what_the_whole_gives():
    x = notes(100)
    whole, parts = fit_fillers(x), fit_fillers(iter(x.split(7)))
    torch.testing.assert_close(parts["noise"].mean, whole["noise"].mean)
    torch.testing.assert_close(parts["noise"].std, whole["noise"].std)
    assert same_rows(x, parts["donor"].bank) and len(parts["donor"].bank) == 100


def test_bank_is_a_fair_choice_among_batches():
    """The last batch is as likely to be in the bank as the first: no note is preferred for when it came."""
    x = notes(40)
    hits = torch.zeros(40)
    for seed in range(200):
        bank = fit_fillers(iter(x.split(10)), donors=10, seed=seed)["donor"].bank
        hits += (x[:, None] == bank).flatten(2).all(2).any(1)
    assert hits.sum() == 2000
    # 50 expected each, standard deviation 6.1.
    assert hits.min() > 25 and hits.max() < 75
    assert (hits.view(4, 10).sum(1) - 500).abs().max() < 80


def test_silent_notes_are_left_out():
    x = notes(10)
    x[3:6] = 0
    fillers = fit_fillers(x)
    assert len(fillers["donor"].bank) == 7
    torch.testing.assert_close(fillers["noise"].mean, x[[0, 1, 2, 6, 7, 8, 9], 0].mean(0))


def test_state_survives_a_round_trip():
    fillers = fit_fillers(notes(30), donors=5)
    for name in ("noise", "donor"):
        fresh = fit_fillers(notes(30, seed=1), donors=5)[name]
        fresh.load_state_dict(fillers[name].state_dict())
        assert torch.equal(fresh.draw(3, seeded()), fillers[name].draw(3, seeded()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(torch.ones(3), torch.ones(4)), "mean is .3,. and std .4,."),
        (lambda: GaussianNoise(torch.ones(3), -torch.ones(3)), "at least 0"),
        (lambda: Donors(torch.ones(0, 3, 4)), "at least 1 note"),
        (lambda: Donors(torch.ones(2, 4)), "notes, 3, band"),
        (lambda: fit_fillers(torch.ones(5, 2, 4)), "notes, 3, band"),
        (lambda: fit_fillers(torch.zeros(5, 3, 4)), "all notes are silent"),
        (lambda: fit_fillers(iter([])), "all notes are silent"),
        (lambda: fit_fillers(notes(), donors=0), "donors is 0"),
        (lambda: Donors(notes(4)).fill(notes(4, 8), torch.ones(4, 2, 8), notes(4)), "fit it on the same bands"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
