"""BandRDE on classifiers whose important bands are known."""

import copy

import pytest
import torch
from band_classifiers import BANDS, LinearBands, random_features, reads
from cases import vggsound

from audiointerp.interpreters import BandRDE
from audiointerp.interpreters.rde.bands import listening_set
from audiointerp.interpreters.rde.fillers import Donors, GaussianNoise
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed
from audiointerp.sound.logfrequency import level_to_magnitude

FEW = Concrete(steps=60)
THETA = ("theta", "empty", "end", "rate", "saturated", "penalty")


def notes(rows: int = 3, seconds: float = 0.3) -> torch.Tensor:
    """Harmonic tones that fade, with noise in between, so that no band is silent; each row another pitch and level."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(round(seconds * 16000)) / 16000
    pitch, level = torch.tensor([110.0, 220.0, 90.0]), torch.tensor([0.8, 0.05, 0.3])
    partials = sum(torch.sin(2 * torch.pi * k * pitch[:rows, None] * time) / k for k in range(1, 9))
    noise = torch.randn(rows, len(time), generator=generator)
    return level[:rows, None] * (0.3 * partials + 0.03 * noise) * torch.exp(-5 * time)


def one_band(channel: int, band: int, scale: float = 5.0) -> LinearBands:
    """Logit 0 reads one magnitude (channel 0) or one phase (1), the other two nothing."""
    weight = torch.zeros(3, 3, BANDS)
    weight[0, channel, band] = scale
    return LinearBands(weight)


@pytest.mark.parametrize("solver", [FEW, Relaxed(steps=60), MatchingPursuit()], ids=lambda it: type(it).__name__)
@pytest.mark.parametrize(("channel", "group"), [(0, 1), (1, 1), (0, 4)])
def test_keeps_the_band_that_is_read_and_little_else(solver, channel, group):
    band = 11
    waveform = notes(1)
    classifier = one_band(channel, band)
    filler = Donors(random_features(8))
    made = BandRDE(classifier, filler, solver, group=group).interpret(waveform, 0)
    theta = made.details["theta"][0]
    assert theta.shape == (2, BANDS)
    first = band // group * group
    read = torch.zeros(2, BANDS, dtype=torch.bool)
    read[channel, first : first + group] = True
    assert theta[read].min() > 0.9 and theta[~read].max() < 0.1
    assert made.details["end"] < 0.05 * made.details["empty"]
    torch.testing.assert_close(made.details["rate"][0], theta.mean(), atol=1e-4, rtol=1e-3)
    assert ("order" in made.details) == isinstance(solver, MatchingPursuit)


def test_the_deletion_game_finds_it_too():
    waveform, classifier = notes(1), one_band(0, 11)
    made = BandRDE(classifier, solver=Concrete(steps=60, game="deletion")).interpret(waveform, 0)
    theta = made.details["theta"][0]
    assert theta[0, 11] > 0.9 and theta.flatten().topk(2).values[1] < 0.1
    heard = classifier.log_frequency(made.waveform)
    assert heard[0, 0].argmax() == 11  # the important band, not all but it


def test_one_hears_each_band_as_loud_as_theta_says():
    waveform, classifier = notes(), reads("magnitude")
    made = BandRDE(classifier, solver=FEW).interpret(waveform)
    keep = made.details["theta"].clone()
    assert keep[:, 0].min() < 0.2 < 0.8 < keep[:, 0].max()
    keep[:, 1] = 1
    expected = classifier.log_frequency.masked_waveform(waveform, keep, torch.Generator())
    torch.testing.assert_close(made.waveform, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-6, rtol=0)
    assert made.mask is None and made.domain is None
    torch.testing.assert_close(made.prediction.logits, classifier(waveform * made.input_gain[:, None]).logits)


def test_distortions_are_what_the_definition_says():
    waveform, classifier = notes(), one_band(0, 11, scale=2.0)
    level = classifier.features(waveform)[:, 0, 11]
    made = BandRDE(classifier, solver=Concrete(steps=1, weight=0.25)).interpret(waveform, 0)
    torch.testing.assert_close(made.details["empty"], 0.5 * (2 * level) ** 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made.details["penalty"], 0.25 * made.details["empty"])
    # All logits: the second is read from the phase.
    classifier.weight.data[1, 1, 3] = 4.0
    cosine = classifier.features(waveform)[:, 1, 3]
    made = BandRDE(classifier, solver=Concrete(steps=1), outputs="all").interpret(waveform, 0)
    torch.testing.assert_close(
        made.details["empty"], 0.5 * ((2 * level) ** 2 + (4 * cosine) ** 2), atol=1e-4, rtol=1e-4
    )
    # Of several classes, their mean.
    both = torch.tensor([[True, True, False]] * 3)
    made = BandRDE(classifier, solver=Concrete(steps=1)).interpret(waveform, both)
    torch.testing.assert_close(made.details["empty"], 0.5 * ((2 * level + 4 * cosine) / 2) ** 2, atol=1e-4, rtol=1e-4)


def noisy() -> GaussianNoise:
    return GaussianNoise(torch.full((BANDS,), 1.0), torch.full((BANDS,), 0.5))


@pytest.mark.parametrize("solver", [Concrete(steps=8), MatchingPursuit(samples=4, picks=3)])
def test_a_row_of_a_batch_is_a_batch_of_one(solver):
    waveform, explain = notes(), BandRDE(reads("phase"), noisy(), solver, group=3, fill_fraction=0.8)
    together = explain.interpret(waveform)
    for row in range(3):
        alone = explain.interpret(waveform[row : row + 1])
        torch.testing.assert_close(alone.waveform[0], together.waveform[row], atol=1e-6, rtol=1e-4)
        for name in THETA:
            torch.testing.assert_close(alone.details[name][0], together.details[name][row], atol=1e-4, rtol=1e-3)
    if isinstance(solver, MatchingPursuit):
        order = together.details["order"]
        assert order.shape == (3, 12) and (order[:, :2] >= 0).all() and (order[:, 3:] == -1).all()
        theta = together.details["theta"][:, :, ::3].flatten(1)  # a value a group
        for row in range(3):
            assert sorted(order[row][order[row] >= 0].tolist()) == theta[row].nonzero()[:, 0].tolist()


def test_the_seed_alone_decides_what_is_drawn():
    waveform = notes(1)
    explain = BandRDE(reads("phase"), noisy(), Concrete(steps=8))
    first = explain.interpret(waveform).details["theta"]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(explain.interpret(waveform).details["theta"], first)
    assert torch.equal(torch.get_rng_state(), before)
    explain.seed = 1
    assert not torch.allclose(explain.interpret(waveform).details["theta"], first, atol=1e-3)


def test_the_level_does_not_matter():
    waveform, explain = notes(), BandRDE(reads("magnitude"), noisy(), Concrete(steps=8))
    made, quiet = explain.interpret(waveform), explain.interpret(1e-3 * waveform)
    torch.testing.assert_close(1e3 * quiet.waveform, made.waveform, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(quiet.details["theta"], made.details["theta"], atol=1e-3, rtol=1e-3)


def test_silence_gives_silence_beside_a_sound():
    waveform = notes()
    waveform[1] = 0
    made = BandRDE(reads("magnitude"), noisy(), Concrete(steps=8)).interpret(waveform)
    assert made.waveform[1].abs().max() == made.residual[1].abs().max() == 0
    assert torch.isfinite(made.waveform).all() and made.waveform[0].abs().max() > 0
    for name in THETA:
        assert torch.isfinite(made.details[name]).all() and made.details[name][1].abs().max() == 0


@pytest.mark.parametrize("samples", [1, 700, 20000])
def test_any_length(samples):
    waveform = torch.full((1, samples), 0.5)
    made = BandRDE(reads("magnitude"), noisy(), Concrete(steps=2)).interpret(waveform)
    assert made.waveform.shape == made.residual.shape == waveform.shape
    assert torch.isfinite(made.waveform).all()


def test_the_classifier_and_the_filler_are_left_as_found():
    classifier = reads("magnitude").train()
    classifier.bias.requires_grad_(False)
    filler = noisy().train()
    before = copy.deepcopy(classifier.state_dict())
    BandRDE(classifier, filler, Concrete(steps=2)).interpret(notes())
    assert classifier.training and filler.training and classifier.log_frequency.training
    assert classifier.weight.requires_grad and not classifier.bias.requires_grad
    assert classifier.weight.grad is None
    torch.testing.assert_close(classifier.state_dict(), before)


def test_passes_are_those_of_the_solver_with_two_parts_a_group():
    solver = MatchingPursuit(samples=2)
    assert BandRDE(reads("phase"), noisy(), solver, group=5).passes == solver.passes(8)
    assert BandRDE(reads("phase"), solver=solver, group=5).passes == solver.passes(8, deterministic=True)
    assert BandRDE(reads("phase"), noisy(), FEW).passes == FEW.passes(2 * BANDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier": vggsound()}, "does not read log-frequency bands"),
        ({"group": 17}, "group is 17"),
        ({"fill_fraction": -0.1}, "fill_fraction is -0.1"),
        ({"outputs": "logits"}, "choose 'target' or 'all'"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError) as caught:
        BandRDE(**{"classifier": reads("phase")} | change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_waveforms():
    for waveform, message in ((torch.zeros(1, 2, 5), "samples"), (torch.full((1, 5), torch.nan), "NaN")):
        with pytest.raises(ValueError, match=message):
            BandRDE(reads("phase")).interpret(waveform)


def test_listening_set():
    waveform, classifier = notes(seconds=8192 / 16000), reads("magnitude")  # as long as the transform: no leakage
    theta = torch.zeros(3, 2, BANDS)
    theta[:, 0, 4:] = 1
    theta[:, 1, :8] = 1
    bank = random_features(4)
    sounds = listening_set(classifier, waveform, theta, Donors(bank), seed=2)
    assert set(sounds) == {"original", "kept", "kept_random_phase", "removed", "inpainted"}
    assert all(each.shape == waveform.shape and torch.isfinite(each).all() for each in sounds.values())
    torch.testing.assert_close(sounds["kept"] + sounds["removed"], waveform, atol=1e-6, rtol=0)
    # Dropped phases change neither the spectrum's magnitudes nor what is kept.
    kept, smeared = (torch.fft.rfft(sounds[name]) for name in ("kept", "kept_random_phase"))
    torch.testing.assert_close(smeared.abs(), kept.abs(), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(sounds["kept"], sounds["kept_random_phase"], atol=1e-3)
    # In the inpainted note, the donor's bands are to the kept ones as the donor's levels are to the note's.
    donor = Donors(bank).draw(1, torch.Generator().manual_seed(2))[0]
    features = classifier.features(waveform)
    magnitude = level_to_magnitude(classifier.features(sounds["inpainted"])[:, 0])
    composite = level_to_magnitude(torch.cat([donor[0, :4].expand(3, -1), features[:, 0, 4:]], 1))
    composite = composite / composite.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(magnitude, composite, atol=0.01, rtol=0.05)
    # All kept is the note; a row is a batch of one.
    whole = listening_set(classifier, waveform, torch.ones(3, 2, BANDS), Donors(bank))
    for name in ("kept", "kept_random_phase", "inpainted"):
        torch.testing.assert_close(whole[name], waveform, atol=1e-5, rtol=0)
    alone = listening_set(classifier, waveform[1:2], theta[1:2], Donors(bank), seed=2)
    for name, each in sounds.items():
        torch.testing.assert_close(alone[name][0], each[1], atol=1e-6, rtol=1e-4)


def test_in_the_deletion_game_the_filler_replaces_what_is_important():
    waveform, classifier = notes(), reads("magnitude")
    theta = torch.zeros(3, 2, BANDS)
    theta[:, :, 4:] = 1
    deleted = listening_set(classifier, waveform, theta, game="deletion")
    torch.testing.assert_close(deleted["inpainted"], listening_set(classifier, waveform, 1 - theta)["inpainted"])
    kept = listening_set(classifier, waveform, theta)
    torch.testing.assert_close(deleted["kept"], kept["kept"])
    assert not torch.allclose(deleted["inpainted"], kept["inpainted"], atol=1e-3)


def test_listening_set_of_another_classifier():
    with pytest.raises(ValueError, match=r"expected \(3, 2, 16\)"):
        listening_set(reads("phase"), notes(), torch.zeros(3, 2, 8))
