"""Extremal perturbation: smooth masks against their formula, areas, and a planted tone."""

import math

import numpy as np
import pytest
import torch
from cases import vggsound
from magnitude_classifiers import HIGH_BINS, RATE, SAMPLES, OfMagnitude, band_level, tone

from audiointerp.classifiers import External
from audiointerp.interpreters import ExtremalPerturbation
from audiointerp.interpreters.attribution.batched import SmoothCells
from audiointerp.interpreters.attribution.extremal import smallest_sufficient
from audiointerp.metrics.separation import si_sdr

FAST = {"steps": 60, "lr": 0.1, "cells": (16, 16)}


def hears_more(bins: slice = HIGH_BINS) -> OfMagnitude:
    """Logit 0 is the level of the bins, logit 1 that of the whole clip."""
    return OfMagnitude(lambda it: (band_level(it, bins), band_level(it, slice(None))), ("heard", "else"))


HIGH, LOW = tone(3000.0, 0.2, 0.4), tone(700.0, 0.0, 0.6)


def smooth_mask_by_hand(cells, sigma, place):
    """Equation 5 at one point, cell by cell: the smooth maximum of kernel times value, over that of a grid of ones."""

    def maximum(grid):
        top, bottom = 0.0, 0.0
        for (row, column), value in np.ndenumerate(grid):
            down, right = abs(row - place[0]), abs(column - place[1])
            distance = math.hypot(down, right)
            if max(abs(row - round(place[0])), abs(column - round(place[1]))) > math.ceil(2 * sigma):
                continue
            x = math.exp(-2 * max(distance / sigma - 0.5, 0) ** 2) * value
            top += x * math.exp(20 * x)
            bottom += math.exp(20 * x)
        return top / bottom

    return min(maximum(cells) / maximum(np.ones_like(cells)), 1.0)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_smooth_masks_are_their_formula(sigma):
    grid = torch.rand(2, 6, 9, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    grid[1] = (grid[1] > 0.8).float()
    points = SmoothCells((6, 9), sigma, grid.device).points(grid)
    assert points.shape == (2, 12, 18)
    for which, row, column in [(0, 0, 0), (0, 5, 7), (1, 6, 6), (1, 11, 17), (0, 4, 13), (1, 3, 0)]:
        place = (row - 0.5) / 2, (column - 0.5) / 2
        expected = smooth_mask_by_hand(grid[which].double().numpy(), sigma, place)
        assert float(points[which, row, column]) == pytest.approx(expected, abs=1e-5)


def test_a_grid_of_ones_keeps_everything_and_one_cell_its_surroundings():
    smooth = SmoothCells((8, 8), 1.5, torch.device("cpu"))
    grid = torch.zeros(3, 8, 8)
    grid[0], grid[1, 4, 4] = 1, 1
    masks = smooth.enlarge(smooth.points(grid), (80, 64))
    assert masks.shape == (3, 80, 64)
    assert torch.equal(masks[0], torch.ones(80, 64)) and torch.equal(masks[2], torch.zeros(80, 64))
    assert masks[1, 45, 36] > 0.99 and masks[1, :10].max() < 0.01
    # Smooth: from point to point, a tenth of a cell here, the mask hardly changes.
    assert masks[1].diff(dim=0).abs().max() < 0.15


def test_the_smallest_sufficient_area_rises_with_the_reward():
    shares = torch.rand(40, 5, generator=torch.Generator().manual_seed(1))
    before = torch.zeros(40).long()
    for wanted in torch.linspace(0, 1, 11):
        chosen, sufficient = smallest_sufficient(shares, wanted)
        assert (chosen >= before).all()
        for row in range(40):
            reaching = [area for area in range(5) if shares[row, area] >= wanted]
            assert int(chosen[row]) == (reaching[0] if reaching else 4) and bool(sufficient[row]) == bool(reaching)
        before = chosen
    assert before.min() == 4


@pytest.mark.parametrize("game", ["sufficient", "deletion"])
@pytest.mark.parametrize("filler", ["silence", "noise_floor"])
def test_the_planted_tone_is_found(game, filler):
    """Both tones are equally loud; the classifier hears the one of 3 kHz between 0.2 and 0.4 s only."""
    made = ExtremalPerturbation(hears_more(), filler=filler, game=game, **FAST).interpret(HIGH + LOW, 0)
    mask, areas = made.mask[0], made.details["mean_masks"][0]
    # The tone's bins are kept, those of the other tone are not.
    assert mask[190:195, 18:34].mean() > 0.8 > 0.2 > mask[40:50].mean()
    assert si_sdr(made.waveform, HIGH) > 10 > 0 > si_sdr(made.waveform, LOW)
    assert bool(made.details["sufficient"][0]) and made.details["area"] < 0.3
    np.testing.assert_allclose(areas, [0.05, 0.1, 0.2, 0.3], atol=0.04)


@pytest.mark.parametrize("game", ["sufficient", "deletion"])
def test_the_planted_tone_is_found_among_noise(game):
    """The noise has each frequency's mean level, so that it replaces a part of the tone: the evidence is less clear."""
    made = ExtremalPerturbation(hears_more(), filler="noise", game=game, **FAST).interpret(HIGH + LOW, 0)
    mask = made.mask[0]
    assert mask[190:195, 18:34].mean() > 0.6 > 0.3 > mask[40:50].mean()
    assert si_sdr(made.waveform, HIGH) > 5 > 0 > si_sdr(made.waveform, LOW)


def test_a_harder_demand_needs_no_smaller_area():
    """The area is monotone in the demand; all demands share their masks, so that only the choice differs."""
    wide = hears_more(slice(150, 400))
    sound = torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(2))
    made = [
        ExtremalPerturbation(wide, enough=enough, areas=(0.1, 0.3, 0.5, 0.7), **FAST).interpret(sound, 0).details
        for enough in (0.05, 0.4, 0.8)
    ]
    for other in made[1:]:
        assert torch.equal(other["shares"], made[0]["shares"])
    shares, areas = made[0]["shares"][0], [float(each["area"]) for each in made]
    assert areas == sorted(areas) and areas[0] < areas[-1]
    # A larger mask keeps more of the evidence.
    assert (shares.diff() > 0).all() and 0 < shares[0] < shares[-1] <= 1.001


def test_clips_of_a_batch_are_explained_apart():
    both = torch.cat([HIGH + LOW, 0.1 * (HIGH.flip(1) + LOW)])
    settings = FAST | {"steps": 10}
    together = ExtremalPerturbation(hears_more(), max_batch=3, **settings).interpret(both, 0)
    for row in range(2):
        alone = ExtremalPerturbation(hears_more(), max_batch=8, **settings).interpret(both[row : row + 1], 0)
        torch.testing.assert_close(alone.mask[0], together.mask[row], atol=1e-3, rtol=0)
        torch.testing.assert_close(alone.details["shares"][0], together.details["shares"][row], atol=1e-3, rtol=0)


def test_shares_are_measured_on_the_masked_sound():
    classifier = vggsound()
    waveform = (HIGH + LOW) / (HIGH + LOW).abs().max()
    made = ExtremalPerturbation(classifier, areas=(0.3,), steps=5, cells=(6, 6)).interpret(waveform, 2)
    stft = classifier.spectrogram(waveform)
    with torch.no_grad():
        whole, none, kept = (
            classifier.classify_stft(each * stft, SAMPLES).logits[0, 2] for each in (1.0, 0.0, made.mask)
        )
    expected = (kept - none) / (whole - none).abs()
    torch.testing.assert_close(made.details["shares"][0, 0], expected, atol=1e-4, rtol=1e-3)


def test_the_margin_is_that_to_the_best_other_class():
    """The other class hears everything, so that the margin wants the other tone out even at a large area."""
    settings = FAST | {"areas": (0.3,)}
    by_logit, by_margin = (
        ExtremalPerturbation(hears_more(), reward=reward, **settings).interpret(HIGH + LOW, 0)
        for reward in ("logit", "margin")
    )
    assert by_margin.mask[0, 30:60].mean() <= by_logit.mask[0, 30:60].mean() + 1e-3
    every = ExtremalPerturbation(hears_more(), reward="margin", **settings)
    assert torch.isfinite(every.interpret(HIGH, torch.tensor([[True, True]])).mask).all()


class Detached(torch.nn.Module):
    """Its forward leaves torch's graph."""

    def forward(self, waveform):
        loud = waveform.detach().square().mean(1, keepdim=True)
        return torch.cat([loud, -loud], 1)


def test_a_classifier_without_gradients_is_refused_in_one_line():
    with pytest.raises(ValueError, match="ExtremalPerturbation needs gradients, but none reaches") as caught:
        ExtremalPerturbation(External(Detached(), ["a", "b"], RATE)).interpret(HIGH)
    assert "\n" not in str(caught.value)


BAD = [
    ({"areas": ()}, "areas are []"),
    ({"areas": (0.3, 0.1)}, "areas are [0.3, 0.1]"),
    ({"areas": (0.5, 1.0)}, "above 0 and below 1"),
    ({"areas": (float("nan"),)}, "areas are [nan]"),
    ({"game": "dual"}, "game is 'dual'"),
    ({"filler": "blur"}, "filler is 'blur'"),
    ({"reward": "probability"}, "reward is 'probability'"),
    ({"cells": (0, 4)}, "cells (0, 4)"),
    ({"steps": 0}, "steps is 0"),
    ({"enough": 0.0}, "enough is 0.0"),
    ({"sigma": -1.0}, "sigma is -1.0"),
    ({"lr": float("inf")}, "lr is inf"),
    ({"weight": 0.0}, "weight is 0.0"),
]


@pytest.mark.parametrize("arguments, message", BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        ExtremalPerturbation(vggsound(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
