"""One note or many behind one mask of magnitudes and phases, against loops written out."""

import pytest
import torch
from band_classifiers import BANDS, LinearBands, random_features
from torch import nn

from audiointerp.classifiers.instrument import check_bands
from audiointerp.interpreters.rde.band_problem import NoteProblem, composites
from audiointerp.interpreters.rde.fillers import Donors, GaussianNoise, Zeros
from audiointerp.interpreters.rde.solvers import Concrete


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear() -> LinearBands:
    return LinearBands(torch.randn(3, 3, BANDS, generator=seeded(1)))


def test_the_change_is_that_of_the_composite_written_out():
    features, bank, classifier = random_features(1), random_features(5, seed=2), linear()
    problem = NoteProblem(classifier, features, Donors(bank), torch.tensor([[True, False, True]]), group=5)
    assert problem.count == 2 * 4  # bands 0-4, 5-9, 10-14 and 15
    keep = torch.rand(6, problem.count, generator=seeded(3))
    drawn = problem.draw(6, seeded(4))
    made = problem.change(keep, drawn)
    assert made.shape == (6, 1)
    for row in range(6):
        composite = torch.empty(3, BANDS)
        for channel in range(3):
            for band in range(BANDS):
                s = keep[row, band // 5 if channel == 0 else 4 + band // 5]
                composite[channel, band] = s * features[0, channel, band] + (1 - s) * drawn[1][row, channel, band]
        logits = [(classifier.weight[each] * (features[0] - composite)).sum() for each in range(3)]
        torch.testing.assert_close(made[row, 0], (logits[0] + logits[2]) / 2, atol=1e-4, rtol=1e-4)


def test_all_logits():
    problem = NoteProblem(linear(), random_features(2), GaussianNoise(torch.zeros(BANDS), torch.ones(BANDS)))
    keep = torch.rand(7, 2 * BANDS, generator=seeded())
    drawn = problem.draw(7, seeded())
    assert problem.change(keep, drawn).shape == (7, 3)
    for each in range(3):
        target = nn.functional.one_hot(torch.tensor([each, each]), 3).bool()
        one = NoteProblem(problem.classifier, problem.features, problem.filler, target)
        torch.testing.assert_close(one.change(keep, drawn)[:, 0], problem.change(keep, drawn)[:, each])


def test_nothing_changes_where_all_is_kept():
    problem = NoteProblem(linear(), random_features(4), Donors(random_features(5, seed=2)))
    change = problem.change(torch.ones(9, problem.count), problem.draw(9, seeded()))
    torch.testing.assert_close(change, torch.zeros(9, 3), atol=1e-5, rtol=0)


def test_gradient_reaches_the_mask():
    problem = NoteProblem(linear(), random_features(1))
    keep = torch.full((1, problem.count), 0.5, requires_grad=True)
    problem.change(keep, problem.draw(1, seeded()))[0, 0].backward()
    features, weight = problem.features[0], problem.classifier.weight[0]
    expected = torch.stack([-(weight * features)[0], -(weight * features)[1:].sum(0)]).flatten()
    torch.testing.assert_close(keep.grad[0], expected, atol=1e-5, rtol=1e-4)


def test_notes_are_drawn_as_evenly_as_can_be():
    problem = NoteProblem(linear(), random_features(5), Donors(random_features(3, seed=1)))
    note, noise, _ = problem.draw(13, seeded())
    assert sorted(note[:5].tolist()) == sorted(note[5:10].tolist()) == list(range(5))
    assert len(set(note[10:].tolist())) == 3
    assert noise.shape == (13, 3, BANDS)
    each = problem.draw_each(3, seeded())
    assert each[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert len(each[1]) == 15


def test_fill_fraction_fills_that_share_and_empties_the_rest():
    bank = torch.full((1, 3, BANDS), 7.0)
    problem = NoteProblem(linear(), random_features(1), Donors(bank), group=2, fill_fraction=0.25)
    made = problem.composite(torch.zeros(400, problem.count), problem.draw(400, seeded()))
    assert set(made.unique().tolist()) == {0.0, 7.0}
    assert abs((made == 7).float().mean() - 0.25) < 0.02
    assert torch.equal(made[:, 1], made[:, 2]) and not torch.equal(made[:, 0], made[:, 1])  # a phase is one part
    assert torch.equal(made[..., 0::2], made[..., 1::2])  # and so is a group
    # What is kept is never touched.
    kept = problem.composite(torch.ones(5, problem.count), problem.draw(5, seeded()))
    torch.testing.assert_close(kept, problem.features.expand(5, -1, -1))
    empty = NoteProblem(linear(), random_features(1), Donors(bank), fill_fraction=0.0)
    assert empty.composite(torch.zeros(3, empty.count), empty.draw(3, seeded())).abs().max() == 0


def test_many_notes_share_the_mask_that_serves_their_mean():
    """Logit 0 reads band 3 of all notes alike, and band 9, where but one of six notes has a level."""
    weight = torch.zeros(1, 3, BANDS)
    weight[0, 0, 3], weight[0, 0, 9] = 2.0, 2.0
    features = random_features(6)
    features[:, 0, 3], features[:, 0, 9] = 2.0, 0.0
    features[0, 0, 9] = 0.4
    problem = NoteProblem(LinearBands(weight), features)
    solution = Concrete(steps=150, samples=6).solve(problem)
    assert solution.empty == pytest.approx((5 * 0.5 * 4**2 + 0.5 * 4.8**2) / 6)  # each note once among six draws
    assert solution.keep[3] > 0.9 and solution.keep.topk(2).values[1] < 0.1
    # For the one note alone, at a price that it can pay, the other band counts too.
    alone = Concrete(steps=150, weight=0.05).solve(NoteProblem(LinearBands(weight), features[:1]))
    assert alone.keep.topk(2).indices.tolist() == [3, 9] and alone.keep[9] > 0.9


@pytest.mark.parametrize(
    ("filler", "fraction", "same"),
    [(Zeros(), 1.0, True), (Zeros(), 0.0, True), (Zeros(), 0.5, False), (Donors(random_features(2)), 1.0, False)],
)
def test_where_one_draw_tells_all(filler, fraction, same):
    one = NoteProblem(linear(), random_features(1), filler, fill_fraction=fraction)
    many = NoteProblem(linear(), random_features(2), filler, fill_fraction=fraction)
    assert one.deterministic == one.always_same == many.always_same == same
    assert not many.deterministic  # which note is drawn is random


def test_composites_round_the_mask_and_draw_alike_for_each_note():
    features, bank = random_features(2), random_features(6, seed=2)
    keep = torch.tensor([0.4, 0.6]).repeat(2, 2, BANDS // 2)
    made = composites(features, keep, Donors(bank), seed=3)
    donor = Donors(bank).draw(1, seeded(3))[0]
    for row in range(2):
        assert torch.equal(made[row, :, 1::2], features[row, :, 1::2])
        assert torch.equal(made[row, :, 0::2], donor[:, 0::2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(3, BANDS)}, "expected (notes, 3, band)"),
        ({"features": torch.zeros(0, 3, BANDS)}, "at least 1 note"),
        ({"filler": Donors(torch.zeros(1, 3, 9))}, "the filler is for 9 bands"),
        ({"group": 0}, "group is 0"),
        ({"group": BANDS + 1}, f"1 to {BANDS} bands"),
        ({"fill_fraction": 1.5}, "fill_fraction is 1.5"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError) as caught:
        NoteProblem(**{"classifier": linear(), "features": random_features(1)} | change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bands_of_a_classifier():
    assert check_bands(linear()).bands == BANDS
    with pytest.raises(ValueError, match="does not read log-frequency bands"):
        check_bands(nn.Identity())
