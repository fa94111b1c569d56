"""Rate-distortion solvers on problems whose answer is known in closed form."""

import dataclasses
from itertools import pairwise, product

import pytest
import torch

from audiointerp.interpreters.rde.problem import Problem
from audiointerp.interpreters.rde.solvers import (
    Concrete,
    MatchingPursuit,
    Relaxed,
    best_corner,
    corners,
    rate_distortion_curve,
)


class Linear(Problem):
    """Phi(z) = a z, one output; x is given, fillers are normal with a mean and a spread."""

    def __init__(self, weight, x=0.0, mean=0.0, spread=1.0, max_batch=None):
        self.weight = torch.as_tensor(weight, dtype=torch.float32)
        self.x, self.mean, self.spread = x, mean, spread
        self.count, self.max_batch = len(self.weight), max_batch
        self.deterministic = spread == 0
        self.heard = []

    def draw(self, n, generator):
        return self.mean + self.spread * torch.randn(n, self.count, generator=generator)

    def change(self, keep, drawn):
        assert keep.shape == drawn.shape and keep.shape[1] == self.count
        self.heard.append((len(keep), keep.requires_grad))
        return (self.weight * (1 - keep) * (self.x - drawn)).sum(1, keepdim=True)

    @property
    def passes(self):
        return sum(rows * (3 if gradient else 1) for rows, gradient in self.heard)


SMALL = {
    "concrete": Concrete(steps=150, samples=8),
    "relaxed": Relaxed(steps=150, samples=8),
    "pursuit": MatchingPursuit(samples=64),
    "backward": MatchingPursuit(samples=64, backward=True),
}


@pytest.fixture(params=SMALL)
def solver(request):
    return SMALL[request.param]


# --- what the quantities mean


def test_distortion_and_fall_by_hand():
    class Two(Problem):
        count, deterministic = 2, True

        def draw(self, n, generator):
            return torch.zeros(n, 0)

        def change(self, keep, drawn):  # two outputs: 3 (1 - k0) and 4 (1 - k1)
            return torch.tensor([3.0, 4.0]) * (1 - keep)

    made = MatchingPursuit(penalty=0.0, picks=1).solve(Two())
    assert made.empty == 12.5 and made.full == 0  # (9 + 16) / 2
    assert made.order.tolist() == [1] and made.end == 4.5 and made.fall == 1.5 and made.rate == 0.5
    assert MatchingPursuit(weight=0.5).solve(Two()).penalty == 6.25
    assert MatchingPursuit(weight=0.5, game="deletion").solve(Two()).penalty == 0.5 * 3.5  # mean of 3 and 4
    assert corners(Two()) == {(0, 0): 12.5, (1, 0): 8.0, (0, 1): 4.5, (1, 1): 0.0}


def test_expectations_are_over_the_filler():
    # a = (2, 1), fillers N(0, 1) about x = 0: D(keep) = 1/2 sum of a^2 over what is not kept.
    made = Relaxed(steps=1, samples=20000).solve(Linear([2.0, 1.0]))
    assert made.empty == pytest.approx(2.5, rel=0.03) and made.full == 0
    found = corners(Linear([2.0, 1.0]), samples=20000)
    expected = {(0, 0): 2.5, (1, 0): 0.5, (0, 1): 2.0, (1, 1): 0.0}
    assert found == pytest.approx(expected, rel=0.03)


# --- closed forms. Fillers N(0, 1) about x = 0: E D = 1/2 sum of a_i^2 (1 - k_i)^2, separable.

WEIGHTS = [3.0, 0.1, 2.0, 0.5, 0.05, 1.5, 0.2, 1.0]


def test_binary_optimum():
    # For k of 0 or 1, part i is worth keeping if a_i^2 / 2 > lambda / count.
    penalty = 8 * 0.3
    expected = (torch.tensor(WEIGHTS).square() / 2 > 0.3).float()
    assert expected.sum() == 4
    for solver in (
        Concrete(steps=400, samples=16, penalty=penalty),
        MatchingPursuit(samples=2000, penalty=penalty),
        MatchingPursuit(samples=2000, penalty=penalty, backward=True),
    ):
        made = solver.solve(Linear(WEIGHTS))
        assert torch.equal(made.keep.round(), expected), solver
        assert made.penalty == penalty
    assert made.end == pytest.approx(float((torch.tensor(WEIGHTS).square() * (1 - expected)).sum() / 2), rel=0.1)


def test_pursuit_is_greedy_by_hand():
    made = MatchingPursuit(samples=4000, penalty=8 * 0.3).solve(Linear(WEIGHTS))
    assert made.order.tolist() == [0, 2, 5, 7]  # by falling weight
    dropped = MatchingPursuit(samples=4000, penalty=8 * 0.3, backward=True).solve(Linear(WEIGHTS))
    assert dropped.order.tolist() == [4, 1, 6, 3]  # by rising weight


def test_relaxed_optimum():
    # d/dk: -a^2 (1 - k) + lambda / count = 0, so k = 1 - lambda / (count a^2), cut at 0.
    made = Relaxed(steps=600, lr=0.01, samples=256, penalty=8 * 0.5).solve(Linear(WEIGHTS))
    expected = (1 - 0.5 / torch.tensor(WEIGHTS).square()).clamp(min=0)
    torch.testing.assert_close(made.keep, expected, atol=0.03, rtol=0)


def test_parts_that_cancel_are_both_left_out():
    # Phi = z0 - z1, x = 1, filler 0: filling one changes the score, filling both does not, whatever the price.
    for solver in SMALL.values():
        made = dataclasses.replace(solver, penalty=0.1).solve(Linear([1.0, -1.0], x=1.0, spread=0.0))
        assert made.empty == 0 and made.keep.round().sum() == 0, solver


# --- planted parts


@pytest.mark.parametrize("game", ["sufficient", "deletion"])
def test_the_one_part_that_matters(solver, game):
    weight = torch.zeros(12)
    weight[7] = 5.0
    made = dataclasses.replace(solver, game=game).solve(Linear(weight, x=1.0, spread=0.3))
    assert made.chosen[7] > 0.85
    assert made.chosen[weight == 0].max() < 0.1
    assert made.keep[7] > 0.85 if game == "sufficient" else made.keep[7] < 0.15
    assert made.end < 0.01 * made.empty if game == "sufficient" else made.end > 0.9 * made.empty
    if solver == SMALL["pursuit"]:
        assert made.order.tolist() == [7]


def test_deletion_takes_away_what_speaks_for_the_score():
    # Parts 0 and 1 speak for it, part 2 against it: taking that away would raise the score.
    for solver in SMALL.values():
        solver = dataclasses.replace(solver, game="deletion")
        made = solver.solve(Linear([3.0, 2.0, -1.0, 0.0], x=1.0, spread=0.1))
        assert made.keep.round().tolist() == [0, 0, 1, 1], solver
        assert made.fall == pytest.approx(5, rel=0.1)
        assert made.penalty == pytest.approx(0.5 * 4, rel=0.1)  # 3 + 2 - 1


def test_the_deletion_pursuit_picks_the_greatest_fall():
    made = MatchingPursuit(game="deletion").solve(Linear([1.0, -9.0, 4.0], x=1.0, spread=0.1))
    assert made.order.tolist()[0] == 2


def test_backward_finds_what_no_part_does_alone():
    class Both(Linear):
        def change(self, keep, drawn):  # the score needs parts 2 and 3 together
            return 4 * (1 - keep[:, 2:3] * keep[:, 3:4])

    problem = Both(torch.ones(5), spread=0.0)
    assert MatchingPursuit().solve(problem).order.tolist() == []
    assert MatchingPursuit(backward=True).solve(problem).keep.tolist() == [0, 0, 1, 1, 0]


def test_corners_and_concrete_agree():
    # D of the four corners: 1/2 (a (1 - k))^2 with x - filler = 1.
    for weight, price in zip(([3.0, 0.2], [0.2, 3.0], [3.0, 3.0], [0.2, 0.1]), (0.5, 2.0, 0.5, 2.0)):
        problem = Linear(weight, x=1.0, spread=0.2)
        values = corners(problem, samples=200)
        best = best_corner(values, price)
        theta = Concrete(steps=250, samples=32, penalty=price).solve(problem).keep
        assert tuple(theta.round().int().tolist()) == best, (weight, price)
        by_hand = min(product((0, 1), repeat=2), key=lambda corner: values[corner] + price * sum(corner) / 2)
        assert best == by_hand


# --- prices, stops, seeds


def test_a_higher_price_buys_less(solver):
    weight = torch.linspace(0.02, 3, 24)
    made = rate_distortion_curve(Linear(weight), solver, (0.02, 0.1, 0.5, 2.0))
    rates, ends = [each.rate for each in made], [each.end for each in made]
    assert all(later <= earlier + 0.01 for earlier, later in pairwise(rates))
    assert rates[-1] < rates[0] - 0.2 and ends[-1] > ends[0]
    assert [each.penalty / made[0].empty for each in made] == pytest.approx([0.02, 0.1, 0.5, 2.0])


def test_pursuit_stops():
    problem = Linear(WEIGHTS, x=1.0, spread=0.0)
    assert MatchingPursuit(picks=2, penalty=0.0).solve(problem).order.tolist() == [0, 2]
    total = sum(WEIGHTS)  # D = (sum of a over what is not kept)^2 / 2
    made = MatchingPursuit(tolerance=0.25, penalty=0.0).solve(problem)
    assert ((total - 3) / total) ** 2 > 0.25 > ((total - 5) / total) ** 2
    assert made.order.tolist() == [0, 2] and made.keep.sum() == 2
    made = MatchingPursuit(backward=True, penalty=0.0, picks=2).solve(problem)
    assert made.keep.nonzero()[:, 0].tolist() == [0, 2]
    made = MatchingPursuit(backward=True, penalty=1e9, tolerance=0.02).solve(problem)
    left = sum(weight for weight, kept in zip(WEIGHTS, made.keep) if not kept)
    assert 0 < left / total <= 0.02**0.5 < (left + 0.5) / total
    # A price above what any part is worth: nothing is kept.
    assert MatchingPursuit(penalty=1e9).solve(problem).rate == 0


def test_where_nothing_matters_nothing_is_kept(solver):
    made = solver.solve(Linear(torch.zeros(4)))
    assert made.empty == made.rate == 0 and made.keep.tolist() == [0, 0, 0, 0]
    deleted = dataclasses.replace(solver, game="deletion").solve(Linear(torch.zeros(4)))
    assert deleted.keep.tolist() == [1, 1, 1, 1] and deleted.rate == 0


def test_same_seed_same_answer_and_the_global_generator_is_left_alone(solver):
    problem = Linear(torch.linspace(0, 2, 9))
    before = torch.get_rng_state()
    first, second = solver.solve(problem), solver.solve(problem)
    other = dataclasses.replace(solver, seed=1).solve(problem)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in vars(first).items():
        same = getattr(second, name)
        assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same
    assert other.empty != first.empty


def test_the_size_of_batches_does_not_matter(solver):
    weight = torch.linspace(0, 2, 9)
    whole, split = solver.solve(Linear(weight)), Linear(weight, max_batch=3)
    made = solver.solve(split)
    assert max(rows for rows, _ in split.heard) == 3
    torch.testing.assert_close(made.keep, whole.keep, atol=1e-3, rtol=0)
    assert made.end == pytest.approx(whole.end, rel=1e-4) and torch.equal(made.order, whole.order)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_passes_are_as_announced(solver, spread):
    problem, updates = Linear(torch.ones(6), x=1.0, spread=spread), []
    # Every part is worth its price, but a step more is never tried.
    solver = dataclasses.replace(solver, penalty=0.0)
    solver.solve(problem, updates.append)
    assert problem.passes == sum(updates)
    announced = solver.passes(6, deterministic=spread == 0)
    if solver == dataclasses.replace(SMALL["backward"], penalty=0.0):
        assert problem.passes < announced  # the first part is missed, and that ends it
        every = dataclasses.replace(solver, penalty=1e9)
        problem.heard.clear()
        every.solve(problem)
    assert problem.passes == announced


def test_passes_by_hand():
    assert Concrete(steps=100, samples=4).passes(64) == 3 * 100 * 4 + 2 * 4 + 1
    assert Concrete(steps=100, samples=4).passes(64, deterministic=True) == 3 * 100 * 4 + 2 + 1
    assert MatchingPursuit(samples=16).passes(10, deterministic=True) == 55 + 3
    assert MatchingPursuit(samples=2, picks=2).passes(10) == 2 * (10 + 9) + 5
    assert MatchingPursuit(samples=2, picks=8, backward=True).passes(10) == 2 * (10 + 9) + 5


def test_a_thousand_parts_saturate():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1024, generator=generator)
    problem = Linear(weight, x=1.0, spread=1.0)
    made = Concrete(steps=1000, lr=0.05, samples=16).solve(problem)
    assert made.saturated > 0.8
    assert made.saturated == pytest.approx(float(((made.keep < 0.1) | (made.keep > 0.9)).float().mean()))
    assert made.end < made.empty / 2 and made.history.shape == (1000,)
    assert made.history[-50:].mean() < made.history[:50].mean()


# --- bad input


@pytest.mark.parametrize(
    "kind, arguments, message",
    [
        (Concrete, {"game": "minimal"}, "game 'minimal'; choose 'sufficient' or 'deletion'"),
        (Concrete, {"steps": 0}, "steps 0"),
        (Concrete, {"samples": 0}, "samples 0"),
        (Concrete, {"samples": 1.5}, "samples 1.5"),
        (Concrete, {"lr": 0.0}, "lr 0.0"),
        (Concrete, {"temperature": -1.0}, "temperature -1.0"),
        (Concrete, {"limit": float("inf")}, "limit inf"),
        (Concrete, {"weight": -0.5}, "weight -0.5"),
        (Relaxed, {"penalty": float("nan")}, "penalty nan"),
        (Relaxed, {"steps": -3}, "steps -3"),
        (MatchingPursuit, {"picks": 0}, "picks 0"),
        (MatchingPursuit, {"max_batch": 0}, "max_batch 0"),
        (MatchingPursuit, {"tolerance": 1.0}, "tolerance 1.0"),
        (MatchingPursuit, {"game": "sufficent"}, "MatchingPursuit has game 'sufficent'"),
    ],
)
def test_bad_settings(kind, arguments, message):
    with pytest.raises(ValueError) as caught:
        kind(**arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_corners_need_two_parts():
    with pytest.raises(ValueError, match=r"corners of 3 parts with 16 samples; give 2 parts"):
        corners(Linear(torch.ones(3)))


def test_scores_that_are_not_finite_are_named(solver):
    with pytest.raises(ValueError, match="NaN or infinite scores where parts are filled"):
        solver.solve(Linear([torch.inf, 1.0]))


def test_gradients_that_are_not_finite_are_named():
    class Root(Linear):
        def change(self, keep, drawn):
            return (keep * 0).sqrt().sum(1, keepdim=True) + super().change(keep, drawn)

    for solver in (SMALL["concrete"], SMALL["relaxed"]):
        with pytest.raises(ValueError, match="gradient of the model's scores is NaN"):
            solver.solve(Root(torch.ones(3)))
