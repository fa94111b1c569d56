"""Surrogates over segments of time: the forest against scikit-learn, and a cue whose time is known by construction."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor
from torch import nn
from two_tones import RATE, two_bands

from audiointerp.classifiers import External
from audiointerp.evaluation.judging import judge_times
from audiointerp.interpreters import LIME, AllPass, RandomMoments, Saliency, SegmentSurrogate, SmoothGrad
from audiointerp.interpreters.attribution.forest import RandomForest
from audiointerp.interpreters.attribution.segments import draw_versions
from audiointerp.metrics.times import active_steps, by_step, time_auc

HIGH = 1
CUE = ((0.53, 0.9), (1.4, 1.6))


def problem(samples: int = 300, features: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Random selections and a value with effects of one feature, of two together, and noise."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, (samples, features)).astype(float)
    return z, z @ rng.standard_normal(features) + 2 * z[:, 0] * z[:, 1] + 0.1 * rng.standard_normal(samples)


def test_a_tree_is_scikit_learns():
    z, y = problem()
    ours = RandomForest(trees=1, least=5, bootstrap=False).importances(z, y)
    theirs = DecisionTreeRegressor(min_samples_leaf=5, random_state=0).fit(z, y).feature_importances_
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert ours.sum() == pytest.approx(1)


def test_a_forest_ranks_as_scikit_learns():
    z, y = problem(200, 12)
    ours = RandomForest(trees=40).importances(z, y)
    theirs = RandomForestRegressor(40, min_samples_leaf=5, random_state=1).fit(z, y).feature_importances_
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98


def test_signs_of_importances():
    z, _ = problem()
    found = RandomForest(trees=5).importances(z, 3 * z[:, 2] - 2 * z[:, 7], signed=True)
    assert found[2] > 0.4 and found[7] < -0.2 and abs(np.delete(found, [2, 7])).max() < 0.05
    assert not RandomForest().importances(z, np.ones(len(z))).any()  # nothing to split


def test_a_forest_refuses():
    with pytest.raises(ValueError, match="not all 0 or 1"):
        RandomForest().importances(np.full((3, 2), 0.5), np.zeros(3))
    with pytest.raises(ValueError, match="expected"):
        RandomForest().importances(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="at least 1 each"):
        RandomForest(trees=0)


def test_versions_take_out_what_was_asked():
    kept = draw_versions(50, 400, (0.2, 0.4), (1, 3, 5), seed=0)
    assert kept.shape == (400, 50) and bool(kept[0].all()) and set(kept.unique().tolist()) == {0.0, 1.0}
    removed = 50 - kept[1:].sum(1)
    assert removed.min() >= 10 and removed.max() <= 20 + 4  # the last run may take out up to 4 more
    shares = (1 - kept[1:]).mean(0)
    assert float(shares.min()) > 0.15 and float(shares.max()) < 0.45  # ends of the clip as often as its middle
    assert torch.equal(kept, draw_versions(50, 400, (0.2, 0.4), (1, 3, 5), seed=0))
    assert not torch.equal(kept, draw_versions(50, 400, (0.2, 0.4), (1, 3, 5), seed=1))
    runs = torch.nn.functional.pad(1 - draw_versions(50, 50, (0.2, 0.2), (5,), 0)[1:], (1, 1)).diff()
    for row in runs:  # whole runs of at least 5, except at the ends of the clip
        for start, end in zip((row == 1).nonzero()[:, 0].tolist(), (row == -1).nonzero()[:, 0].tolist()):
            assert end - start >= 5 or start == 0 or end == 50
    assert draw_versions(1, 3, (0.2, 0.4), (5,), 0).tolist() == [[1.0], [0.0], [0.0]]


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """2 s of a tone of 500 Hz with noise, and the cue, a tone of 4 kHz, at its times; (1, samples)."""
    time = torch.arange(2 * RATE) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    sound = 0.2 * torch.sin(2 * torch.pi * 500 * time) + 0.003 * noise
    for start, end in CUE:
        inside = (time >= start) & (time < end)
        sound += 0.2 * torch.sin(2 * torch.pi * 4000 * time) * inside
    return sound[None]


@pytest.mark.parametrize("filler", ["silence", "noise"])
@pytest.mark.parametrize("surrogate", ["ridge", "forest"])
def test_a_planted_cue_is_found(clip, surrogate, filler):
    """The classifier says "high" by the energy above 2 kHz, which only the cue has."""
    method = SegmentSurrogate(two_bands(), surrogate=surrogate, filler=filler, max_batch=40)
    made = method.interpret(clip, HIGH)
    found = judge_times(method, made, CUE)
    assert float(found["time_auc"]) >= 0.95 and float(found["pointing_game"]) == 1
    assert made.details["scores"].shape == (1, 20)
    if surrogate == "ridge" and filler == "silence":
        assert float(made.details["r2"]) > 0.5


def test_what_speaks_against_a_class_is_not_relevant(clip):
    method = SegmentSurrogate(two_bands(), n_samples=100, max_batch=50)
    against = judge_times(method, method.interpret(clip, 1 - HIGH), CUE)
    assert float(against["time_auc"]) < 0.2


def test_published_importances_have_no_sign(clip):
    method = SegmentSurrogate(two_bands(), n_samples=60, max_batch=30, signed=False)
    scores = method.interpret(clip, 1 - HIGH).details["scores"]
    assert float(scores.min()) >= 0 and float(scores.sum()) == pytest.approx(1, abs=1e-4)


def test_controls_over_time(clip):
    classifier = two_bands()
    energy, random = AllPass(classifier), RandomMoments(classifier)
    # The energy of each frame of the scaled clip.
    made = energy.interpret(clip)
    expected = classifier.spectrogram(clip / clip.abs().max()).abs().square().sum(1)
    torch.testing.assert_close(energy.over_time(made), expected, rtol=1e-3, atol=1e-3)
    drawn = random.interpret(torch.cat([clip, clip.flip(1)]))
    assert drawn.details["scores"].shape == (2, 20)
    assert not torch.equal(drawn.details["scores"][0], drawn.details["scores"][1])
    chance = [
        float(judge_times(each, each.interpret(clip), CUE)["time_auc"])
        for each in (RandomMoments(classifier, seed=seed) for seed in range(40))
    ]
    assert np.mean(chance) == pytest.approx(0.5, abs=4 * np.std(chance) / 40**0.5) and np.std(chance) > 0.03


def test_parts_without_times_are_relevant_when_they_sound(clip):
    """LIME over two bands: the upper one has the positive coefficient, and sounds during the cue only."""
    method = LIME(two_bands(), parts="bands", n_components=2)
    found = judge_times(method, method.interpret(clip, HIGH), CUE)
    assert float(found["time_auc"]) == 1.0


class LogFrames(nn.Module):
    """As taggers do, "high" is the mean over frames of the logarithm of the energy above 2 kHz."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        power = torch.stft(waveform, 512, 256, window=torch.hann_window(512), return_complex=True).abs().square()
        high = (power[:, 64:].sum(1) + 1e-6).log().mean(1)
        return torch.stack([-high, high], 1)


@pytest.mark.parametrize("method", [Saliency, SmoothGrad])
def test_a_gradient_is_not_relevant_where_a_clip_is_quiet(clip, method):
    """Per unit of magnitude the logarithm is steepest in the quiet frames, without the cue."""
    explained = method(External(LogFrames(), ("low", "high"), RATE))
    made = explained.interpret(clip, HIGH)
    found = judge_times(explained, made, CUE)
    assert float(found["time_auc"]) >= 0.95 and float(found["pointing_game"]) == 1
    steps = by_step(made.details["attribution"].sum(1), 256 / RATE, 2.0)
    active = active_steps(CUE, 2.0)[None]
    assert method is SmoothGrad or float(time_auc(steps, active)) < 0.5  # the sum of the scores points away


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"surrogate": "tree"}, "'ridge' or 'forest'"),
        ({"filler": "donor"}, "'silence' or 'noise'"),
        ({"n_samples": 1}, "at least 2 versions"),
        ({"segment_seconds": 0.0}, "more than 0 s"),
        ({"removed": (0.4, 0.2)}, "the smallest first"),
        ({"runs": ()}, "at least 1 segment"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        SegmentSurrogate(two_bands(), **settings)
