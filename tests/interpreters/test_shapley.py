"""Shapley values against their definition, captum, the axioms, and sounds whose answer is known."""

from functools import cache

import numpy as np
import pytest
import torch
from captum import attr
from cases import vggsound
from magnitude_classifiers import HIGH_BINS, LOW_BINS, RATE, SAMPLES, OfMagnitude, band_level, hears, tone
from references.shapley import shapley_values

from audiointerp.classifiers import External
from audiointerp.interpreters import Shapley
from audiointerp.interpreters.attribution.shapley import (
    all_selections,
    exact_values,
    kernel_values,
    permutation_values,
)
from audiointerp.metrics.separation import si_sdr

ESTIMATORS = {"kernel": kernel_values, "permutation": lambda *given: permutation_values(*given)[0]}


class Table:
    """A game given by the value of each selection; counts what it is asked."""

    def __init__(self, values):
        self.values, self.asked = values.double(), 0

    def __call__(self, kept):
        self.asked += len(kept)
        count = kept.shape[1]
        return self.values[(kept.long() << torch.arange(count)).sum(1)]

    def ends(self):
        return self.values[0], self.values[-1]


def random_game(count, seed=0):
    return torch.randn(2**count, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_exact_values_are_the_mean_gain_over_all_orders(count):
    table = random_game(count)
    expected = shapley_values(lambda kept: float(table[sum(2**part for part in kept)]), count)
    np.testing.assert_allclose(exact_values(table), expected, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4, 6])
def test_exact_values_are_captums(count):
    """captum's ShapleyValues also goes through all orders, with its own code."""
    game = Table(random_game(count, 3))
    theirs = attr.ShapleyValues(game).attribute(torch.ones(1, count))
    np.testing.assert_allclose(exact_values(game.values), theirs[0], atol=1e-5)


def test_estimates_agree_with_captums():
    """On a game of 5 parts with enough samples both libraries' estimates are near the exact values."""
    game, count = Table(random_game(5, 4)), 5
    exact = exact_values(game.values)
    torch.manual_seed(0)
    np.random.seed(0)
    whole = torch.ones(1, count)
    theirs = {
        "kernel": attr.KernelShap(game).attribute(whole, n_samples=4000),
        "permutation": attr.ShapleyValueSampling(game).attribute(whole, n_samples=2000),
    }
    for name, estimate in ESTIMATORS.items():
        ours = estimate(game, *game.ends(), count, 4000, seeded())
        np.testing.assert_allclose(theirs[name][0], exact, atol=0.15)
        np.testing.assert_allclose(ours, exact, atol=0.15)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_kernel_shap_of_all_selections_is_exact(count):
    game = Table(random_game(count))
    made = kernel_values(game, *game.ends(), count, 2**count, seeded())
    np.testing.assert_allclose(made, exact_values(game.values), atol=1e-8)
    assert game.asked == 2**count - 2


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_come_near_the_values_with_more_samples(name):
    game = Table(random_game(10) + 3 * all_selections(10).sum(1))
    exact = exact_values(game.values)
    errors = []
    for samples in (60, 6000):
        runs = [ESTIMATORS[name](game, *game.ends(), 10, samples, seeded(run)) for run in range(8)]
        errors.append(float((torch.stack(runs) - exact).square().mean().sqrt()))
    # 100 times as many samples: the error falls tenfold, or more where sizes are enumerated.
    assert errors[1] < errors[0] / 5


def test_the_standard_error_is_that_of_the_estimate():
    game = Table(random_game(8))
    exact = exact_values(game.values)
    made = [permutation_values(game, *game.ends(), 8, 400, seeded(run)) for run in range(60)]
    spread = torch.stack([values for values, _ in made]).std(0)
    told = torch.stack([error for _, error in made]).mean(0)
    assert (told / spread > 0.7).all() and (told / spread < 1.4).all()
    within = torch.stack([((values - exact).abs() < 2 * error).double() for values, error in made]).mean()
    assert 0.9 < within < 0.99


@pytest.mark.parametrize("name", ["exact", *ESTIMATORS])
def test_axioms(name):
    """Efficiency, symmetry, dummy and linearity, in a game of seven parts with products of parts."""
    z = all_selections(7).double()
    # Parts 0 and 1 act alike, part 2 does nothing, parts 3 and 4 need each other, 5 and 6 add alone.
    first = 2 * z[:, 0] + 2 * z[:, 1] - z[:, 0] * z[:, 1] + 4 * z[:, 3] * z[:, 4] + z[:, 5] - 3 * z[:, 6]
    second = random_game(7, 5)

    def values(table):
        game = Table(table)
        if name == "exact":
            return exact_values(table)
        return ESTIMATORS[name](game, *game.ends(), 7, 128, seeded())

    made = values(first)
    assert float(made.sum()) == pytest.approx(float(first[-1] - first[0]), abs=1e-6)
    assert float(values(second).sum()) == pytest.approx(float(second[-1] - second[0]), abs=1e-5)
    expected = [1.5, 1.5, 0, 2, 2, 1, -3]
    # Orders in pairs with their reverses are exact for products of two parts.
    np.testing.assert_allclose(made, expected, atol=1e-6)
    both = values(first + 2 * second)
    np.testing.assert_allclose(both, made + 2 * values(second), atol=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("count, samples", [(2, 1), (3, 2), (13, 40), (13, 600), (20, 512), (30, 100)])
def test_no_more_selections_than_announced(name, count, samples):
    game = Table(torch.zeros(1))
    game.values = torch.zeros(1)
    asked = []

    def counting(kept):
        assert kept.shape[1] == count and ((kept == 0) | (kept == 1)).all()
        assert (kept.sum(1) > 0).all() and (kept.sum(1) < count).all()
        asked.append(len(kept))
        return kept.double() @ torch.arange(count).double()

    top = torch.tensor(count * (count - 1) / 2).double()
    made = ESTIMATORS[name](counting, torch.zeros(()).double(), top, count, samples, seeded())
    settings = {"parts": "bands", "n_components": count, "estimator": name, "n_samples": samples}
    interpreter = Shapley(vggsound(), exact_parts=0, **settings)
    assert interpreter.passes == 2 + sum(asked)
    assert sum(asked) + 2 <= max(samples, 4 * (count - 1) + 2)
    if samples > 2 * count or name == "permutation":
        np.testing.assert_allclose(made, torch.arange(count), atol=1e-6)  # an additive game


def hears_both() -> OfMagnitude:
    """Logit 0 is high only if a tone of 3,000 and one of 700 Hz are there."""

    def logits(magnitude):
        heard = band_level(magnitude, HIGH_BINS) * band_level(magnitude, LOW_BINS)
        return heard, 0 * heard

    return OfMagnitude(logits, ("heard", "nothing"))


HIGH, LOW = tone(3000.0, 0.3, 0.4), tone(700.0, 0.0, 0.6)


@pytest.mark.parametrize("arguments", [{}, {"exact_parts": 0}, {"exact_parts": 0, "estimator": "permutation"}])
def test_the_part_that_counts_is_found(arguments):
    parts = {"parts": ["bands", "onsets"], "n_components": 3, "n_segments": 4}
    made = Shapley(hears(), **parts, **arguments).interpret(HIGH + LOW, 0)
    assert si_sdr(made.waveform, HIGH) > 10 > 0 > si_sdr(made.waveform, LOW)
    values = made.details["values"][0]
    with torch.no_grad():
        change = hears()((HIGH + LOW) / (HIGH + LOW).abs().max()).logits[0, 0]
    assert float(values.sum()) == pytest.approx(float(change), rel=1e-4)
    assert float(made.details["completeness"]) < 1e-5
    torch.testing.assert_close(made.waveform + made.residual, HIGH + LOW, atol=1e-5, rtol=0)


def test_two_sounds_that_need_each_other_share_alike():
    """The band below 1 kHz and the band around 3 kHz are worth nothing alone: each gets half."""
    made = Shapley(hears_both(), parts="bands", n_components=2).interpret(HIGH + LOW, 0).details["values"][0]
    assert made[0] == pytest.approx(float(made[1]), rel=0.02) and made[0] > 0


def test_values_on_a_network_are_those_of_the_literal_enumeration():
    classifier, waveform = vggsound(), (HIGH + LOW) / (HIGH + LOW).abs().max()
    interpreter = Shapley(classifier, parts=["harmonic_percussive", "segments"], n_segments=2, filler="noise_floor")
    made = interpreter.interpret(waveform, 1).details["values"][0]
    stft = classifier.spectrogram(waveform)
    components = interpreter.split(stft, 0)

    @torch.no_grad()
    def value(kept):
        selection = torch.tensor([[float(part in kept) for part in range(6)]])
        return float(classifier.classify_stft(components.render(selection, "noise_floor"), SAMPLES).logits[0, 1])

    expected = shapley_values(cache(value), 6)
    np.testing.assert_allclose(made, expected, atol=1e-5, rtol=1e-3)


def test_a_classifier_without_gradients_is_explained():
    class Detached(torch.nn.Module):
        def forward(self, waveform):
            with torch.no_grad():
                loud = waveform.square().mean(1, keepdim=True)
            return torch.cat([loud, -loud], 1)

    made = Shapley(External(Detached(), ["a", "b"], RATE), parts="segments", n_segments=3).interpret(HIGH, 0)
    assert made.details["values"][0].argmax() == 1  # 0.2 to 0.4 s


BAD = [
    ({"parts": "stems"}, "parts are 'stems'"),
    ({"exact_parts": 17}, "exact_parts is 17"),
    ({"exact_parts": -1}, "exact_parts is -1"),
    ({"estimator": "shap"}, "estimator is 'shap'"),
    ({"n_samples": 0}, "n_samples 0"),
    ({"filler": "mean"}, "filler is 'mean'"),
]


@pytest.mark.parametrize("arguments, message", BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        Shapley(vggsound(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
