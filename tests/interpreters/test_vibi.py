"""VIBI: relaxed draws against the released code's, its losses, and its tiles."""

import copy
import math

import pytest
import torch
from cases import CLASSIFIERS, LABELS, vggsound, vibi
from magnitude_classifiers import OfMagnitude, band_level, tone
from torch import nn
from torch.distributions import RelaxedOneHotCategorical
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.interpreters import VIBI, RandomTiles
from audiointerp.interpreters.vibi import _means, _spread, relaxed_k_hot, tile_grid
from audiointerp.sound.spectrogram import STFT

PREFERENCE = torch.tensor([[0.87, 0.115, 0.015]])


@pytest.fixture(params=list(CLASSIFIERS), ids=str)
def classifier(request):
    return CLASSIFIERS[request.param]()


# --- draws


def test_draws_follow_the_preference_and_are_not_reversed():
    """The released code gives log-probabilities as probabilities: the least preferred chunk is drawn most."""
    torch.manual_seed(0)
    logits = PREFERENCE.log() + 3.0  # a constant does not matter
    drawn = relaxed_k_hot(logits.expand(20000, -1), 1, 0.05)
    shares = nn.functional.one_hot(drawn.argmax(1), 3).float().mean(0)
    assert shares.tolist() == pytest.approx(PREFERENCE[0].tolist(), abs=0.01)
    assert (drawn.amax(1) > 0.9).float().mean() > 0.9  # near one-hot at a low temperature
    released = RelaxedOneHotCategorical(0.05, probs=PREFERENCE.log(), validate_args=False).sample((20000,))[:, 0]
    reversed_shares = nn.functional.one_hot(released.argmax(1), 3).float().mean(0)
    assert reversed_shares[0] < 0.05 and reversed_shares[2] > 0.5


def test_draws_are_those_of_torchs_distribution():
    torch.manual_seed(0)
    ours = relaxed_k_hot(PREFERENCE.log().expand(40000, -1), 1, 0.7)
    theirs = RelaxedOneHotCategorical(torch.tensor(0.7), logits=PREFERENCE.log()).rsample((40000,))[:, 0]
    for power in (1, 2):
        assert ours.pow(power).mean(0).tolist() == pytest.approx(theirs.pow(power).mean(0).tolist(), abs=0.01)
    torch.testing.assert_close(ours.sum(1), torch.ones(40000))


def test_k_draws_are_the_largest_of_each():
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    together = relaxed_k_hot(logits, 4, 0.5)
    torch.manual_seed(3)
    uniform = torch.rand(2, 4, 6)
    expected = torch.zeros(2, 6)
    for row in range(2):
        for draw in range(4):
            z = [float(logits[row, i]) - math.log(-math.log(float(uniform[row, draw, i]))) for i in range(6)]
            total = sum(math.exp(each / 0.5) for each in z)
            for i in range(6):
                expected[row, i] = max(float(expected[row, i]), math.exp(z[i] / 0.5) / total)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-4)


def test_the_fidelity_term_alone_trains_the_selector():
    """The released code draws without a gradient, so that only the prior does."""
    interpreter = vibi(vggsound()).train()
    torch.manual_seed(0)
    interpreter.losses(batch_of(noise()))["approximation"].backward()
    for part in (interpreter.selector, interpreter.preference):
        assert sum(float(each.grad.abs().sum()) for each in part.parameters()) > 1e-6
    logits = PREFERENCE.log().requires_grad_()
    relaxed_k_hot(logits, 2, 0.5)[0, 0].backward()
    assert float(logits.grad.abs().sum()) > 0


# --- losses


def test_losses_written_out(classifier):
    interpreter, waveform = vibi(classifier), noise()
    torch.manual_seed(1)
    losses = interpreter.losses(batch_of(waveform))
    assert set(losses) == {"approximation", "prior"}
    with torch.no_grad():
        stft, f = classifier.spectrogram(waveform), classifier(waveform).probabilities
        logits, place = interpreter.preferences(stft)
        count = interpreter.count(logits)
        torch.manual_seed(1)
        heard = interpreter.approximate(stft, _spread(relaxed_k_hot(logits, count, 0.5), place))
    fit = prior = 0.0
    for row in range(3):
        if classifier.multilabel:
            own = heard[row].sigmoid().tolist()
            terms = [p * math.log(q) + (1 - p) * math.log(1 - q) for p, q in zip(f[row].tolist(), own)]
            fit -= sum(terms) / len(terms) / 3
        else:
            own = heard[row].softmax(0).tolist()
            fit -= sum(p * math.log(q) for p, q in zip(f[row].tolist(), own)) / 3
        preference = logits[row].softmax(0).tolist()
        prior += count * sum(p * math.log(p * len(preference)) for p in preference) / 3
    assert float(losses["approximation"].detach()) == pytest.approx(fit, rel=1e-4)
    assert float(losses["prior"].detach()) == pytest.approx(prior, rel=1e-3, abs=1e-5)


def test_training_needs_neither_labels_nor_gradients_and_leaves_the_classifier():
    classifier = vggsound().train()
    classifier.no_gradient = "it calls numpy"
    interpreter = vibi(classifier).train()
    before, own = (copy.deepcopy(dict(each.state_dict())) for each in (classifier, interpreter))
    optimizer = torch.optim.AdamW(interpreter.parameters(), 0.01)
    for label in (0, 3):
        torch.manual_seed(0)
        optimizer.zero_grad()
        sum(interpreter.losses(batch_of(noise(), torch.full((3,), label))).values()).backward()
        optimizer.step()
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)
    assert classifier.training and all(each.grad is None for each in classifier.parameters())
    assert [name for name, each in interpreter.named_parameters() if torch.equal(each, own[name])] == []
    assert set(map(id, interpreter.parameter_groups()["interpreter"])) == set(map(id, interpreter.parameters()))


# --- tiles


def test_tiles_cover_the_grid():
    row, column = tile_grid(STFT(), 8, 0.4, 431)
    assert len(row) == 513 and len(column) == 431 and int(column[-1]) == 12
    assert (row.diff() >= 0).all() and row.unique().tolist() == list(range(8))
    mel = [1127 * math.log(1 + hertz / 700) for hertz in (0, 1000, 4000, 8000)]
    for hertz, value in zip((0, 1000, 4000), mel):
        assert int(row[round(hertz / 15.625)]) == int(8 * value / mel[-1])
    assert int(column[round(0.39 * 16000 / 186)]) == 0 and int(column[round(0.41 * 16000 / 186)]) == 1
    with pytest.raises(ValueError, match="400 rows of tiles are too many"):
        tile_grid(STFT(), 400, 0.4, 10)
    # Every bin of a tile has its value, and the mean over a tile of a map's cells is that of its bins.
    values = torch.rand(2, 8 * 13)
    mask = _spread(values, (row, column))
    assert mask.shape == (2, 513, 431) and float(mask[1, 100, 50]) == float(
        values[1, int(row[100]) * 13 + int(column[50])]
    )
    cells = torch.rand(2, 3, 32, 26)
    found = _means(_means(cells, 2, row), 3, column)
    whole = cells[:, :, (torch.arange(513) // 16).clamp(max=31)][..., (torch.arange(431) // 16).clamp(max=25)]
    one = whole[:, :, row == 3][..., column == 5].mean((2, 3))
    torch.testing.assert_close(found[:, :, 3, 5], one)


def test_the_preferred_tiles_are_kept_and_the_approximator_hears_them(classifier):
    interpreter, waveform = vibi(classifier, share=0.3), noise()
    made = interpreter.interpret(waveform)
    preference, tiles = made.details["preference"], made.details["tiles"]
    columns = 1 + int(25 * 186 / 16000 / 0.06)
    assert preference.shape == tiles.shape == (3, 5, columns) and set(tiles.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(preference.sum((1, 2)), torch.ones(3))
    assert (tiles.sum((1, 2)) == round(0.3 * 5 * columns)).all()
    for one, chosen in zip(preference, tiles):
        assert one[chosen == 1].min() >= one[chosen == 0].max()
    assert (made.details["theta_probabilities"].argmax(1) < len(LABELS)).all()
    scores = interpreter.scores(batch_of(waveform))
    agrees = made.details["theta_probabilities"].argmax(1) == made.prediction.predicted
    assert torch.equal(scores["approximator_fidelity"], agrees.float()) and {"fidelity", "mean_mask"} <= set(scores)


def test_random_tiles_are_as_many_and_others():
    interpreter = vibi(vggsound(), share=0.3)
    control = RandomTiles(interpreter.classifier).beside(interpreter)
    assert control.fits(interpreter) and not control.fits(control)
    own, drawn = (method.interpret(noise()).details["tiles"] for method in (interpreter, control))
    assert torch.equal(own.sum((1, 2)), drawn.sum((1, 2))) and not torch.equal(own, drawn)
    with pytest.raises(ValueError, match="give it as like"):
        RandomTiles(interpreter.classifier).interpret(noise())


@pytest.mark.parametrize(
    "settings", [{"rows": 0}, {"share": 0}, {"share": 1.1}, {"seconds": 0.0}, {"temperature": 0.0}]
)
def test_options_that_cannot_work(settings):
    with pytest.raises(ValueError, match="VIBI needs"):
        VIBI(vggsound(), **settings)


def test_bundles(tmp_path):
    interpreter = vibi(vggsound())
    bundle.save(interpreter, tmp_path / "bundle")
    loaded = bundle.load(tmp_path / "bundle")
    torch.testing.assert_close(loaded.interpret(noise()).mask, interpreter.interpret(noise()).mask)
    assert loaded.interpret(noise(1, 2 * SAMPLES)).mask.shape[2] == 1 + 2 * SAMPLES // 186


# --- a known answer

PITCHES, ROW = (720.0, 900.0), 2  # Hz; both in the third of eight rows, 613 to 1,104 Hz


def hears_pitch() -> OfMagnitude:
    """Says "lower" or "upper" by which of the two tones is louder; deaf to all else."""
    bins = [slice(round(hertz * 1024 / 16000) - 2, round(hertz * 1024 / 16000) + 3) for hertz in PITCHES]
    return OfMagnitude(lambda it: [6 * band_level(it, each) for each in bins], ("lower", "upper"))


def telling_clips(generator: torch.Generator, count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips with one of the tones in one half, beside a louder tone of 5,500 Hz; whether it is in the second half."""
    upper, late = (torch.rand(count, generator=generator) < 0.5 for _ in range(2))
    spans = {False: (0.02, 0.28), True: (0.32, 0.58)}
    parts = [tone(PITCHES[int(each)], *spans[bool(half)]) for each, half in zip(upper, late)]
    waveform = 0.4 * torch.cat(parts) + 0.8 * tone(5500.0, 0.0, 0.6)
    waveform = waveform + 0.003 * torch.randn(waveform.shape, generator=generator)
    return waveform / waveform.abs().amax(1, keepdim=True), late


@pytest.mark.slow
def test_the_tile_of_the_telling_tone_is_found_without_labels():
    """One tile of sixteen: the row of the two tones, and the half in which the clip's tone is."""
    torch.manual_seed(0)
    generator, classifier = torch.Generator().manual_seed(0), hears_pitch()
    interpreter = VIBI(classifier, rows=8, seconds=0.3, share=0.06, width=8).train()
    optimizer = torch.optim.Adam(interpreter.parameters(), 0.01)
    for _ in range(300):
        losses = interpreter.losses(batch_of(telling_clips(generator)[0]))
        optimizer.zero_grad()
        (losses["approximation"] + 0.01 * losses["prior"]).backward()
        optimizer.step()
    waveform, late = telling_clips(generator, 32)
    made = interpreter.interpret(waveform)
    tiles = made.details["tiles"][:, ROW]
    assert (tiles[torch.arange(32), late.long()] == 1).float().mean() >= 0.9
    heard = classifier(made.waveform * made.input_gain[:, None]).predicted
    chance = RandomTiles(classifier, interpreter).interpret(waveform)
    by_chance = classifier(chance.waveform * chance.input_gain[:, None]).predicted
    assert (heard == made.prediction.predicted).float().mean() >= 0.9
    assert (by_chance == made.prediction.predicted).float().mean() <= 0.8
