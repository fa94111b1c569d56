"""FLINT: its losses, attributes and relevance against the formulas, the released code's defects, and bundles."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from cases import LABELS, WITH_FEATURE_MAPS, flint, vggsound
from references import flint as formulas
from torch import nn
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import VGGSound
from audiointerp.interpreters import FLINT
from audiointerp.interpreters.flint.losses import attribute_losses, softmax_entropy
from audiointerp.interpreters.flint.model import conciseness, decoder_masks, global_relevance
from audiointerp.interpreters.flint.networks import spread
from audiointerp.interpreters.l2i.relevance import class_relevance
from audiointerp.sound.spectrogram import log_magnitude
from audiointerp.training.loop import Trainer, TrainingSettings

TERMS = {"output_fidelity", "input_fidelity", "conciseness", "diversity", "sparsity"}


@pytest.fixture(params=WITH_FEATURE_MAPS, ids=str)
def classifier(request):
    return WITH_FEATURE_MAPS[request.param]()


def described(interpreter, waveform):
    """Log-magnitude, f's prediction, g's attributes and logits."""
    stft, prediction, made = interpreter.observe(waveform)
    return log_magnitude(stft), prediction, made.attributes, made.logits


# --- losses


def test_losses_written_out(classifier):
    interpreter, waveform = flint(classifier), noise()
    with torch.no_grad():
        losses = interpreter.losses(batch_of(waveform))
        assert set(losses) == TERMS
        level, prediction, attributes, logits = described(interpreter, waveform)
        rebuilt = interpreter.rebuild(attributes.course, level)
    strength = attributes.strength
    expected = {
        "output_fidelity": formulas.output_fidelity(logits, prediction.probabilities, classifier.multilabel),
        "input_fidelity": formulas.input_fidelity(rebuilt, level),
        "conciseness": formulas.conciseness(strength),
        "diversity": formulas.diversity(strength),
        "sparsity": formulas.sparsity(strength),
    }
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_entropies_of_known_attributes():
    """E is log J of equal values, and nearly 0 if one is far above the others."""
    assert softmax_entropy(torch.ones(2, 5)).tolist() == pytest.approx([math.log(5)] * 2)
    assert float(softmax_entropy(torch.tensor([30.0, 0, 0, 0]))) == pytest.approx(0, abs=1e-6)
    zeros = torch.zeros(2, 3, 4)
    own, same = (
        attribute_losses(strength, torch.zeros(2, 2), zeros, zeros, torch.full((2, 2), 0.5), False)
        for strength in (30 * torch.eye(2, 4), torch.tensor([[30.0, 0, 0, 0]] * 2))
    )
    # Both are concise; only the batch whose clips have attributes of their own is diverse.
    assert float(own["conciseness"]) == pytest.approx(0, abs=1e-6) == float(same["conciseness"])
    assert float(own["diversity"]) == pytest.approx(-math.log(2), abs=1e-4)
    assert float(same["diversity"]) == pytest.approx(0, abs=1e-6)


def test_sparsity_and_conciseness_do_not_depend_on_unused_attributes():
    """The released code takes means over attributes, so that its weights mean another thing for another J."""
    strength, zeros = 20 * torch.rand(3, 4), torch.zeros(3, 2, 2)
    wider = torch.cat([strength + 20, torch.zeros(3, 6)], 1)
    few, many = (
        attribute_losses(each, torch.zeros(3, 2), zeros, zeros, torch.full((3, 2), 0.5), False)
        for each in (strength + 20, wider)
    )
    assert float(many["sparsity"]) == pytest.approx(float(few["sparsity"]))
    # An attribute 20 below the others has a share of exp(-20) of their softmax.
    assert float(many["conciseness"]) == pytest.approx(float(few["conciseness"]), abs=1e-4)


def test_no_term_grows_with_the_batch():
    interpreter, one = flint(vggsound()), noise(1)
    alone, many = (interpreter.losses(batch_of(one.repeat(n, 1))) for n in (1, 5))
    for name, value in alone.items():
        torch.testing.assert_close(many[name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("mode", [True, False])
def test_training_leaves_the_classifier_bit_for_bit_and_reaches_every_weight(mode):
    """The released notebook's optimiser leaves out the layer h."""
    classifier = vggsound().train(mode)
    classifier.no_gradient = "it calls numpy"  # post hoc, none is needed
    interpreter = flint(classifier).train()
    before, own = (copy.deepcopy(dict(each.state_dict())) for each in (classifier, interpreter))
    optimizer = torch.optim.AdamW(interpreter.parameter_groups()["interpreter"], 0.01)
    for label in (0, 3):  # labels do not count
        optimizer.zero_grad()
        sum(interpreter.losses(batch_of(noise(), torch.full((3,), label))).values()).backward()
        optimizer.step()
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)
    assert classifier.training == mode and all(each.grad is None for each in classifier.parameters())
    assert [name for name, each in interpreter.named_parameters() if torch.equal(each, own[name])] == []
    assert "h.linear.weight" in own and not any(name.startswith("classifier") for name in own)


def test_the_log_has_the_mean_of_the_batches_whatever_the_size_of_the_last(tmp_path, monkeypatch):
    """The released code divides an epoch's sum by the size of its last batch."""
    interpreter, seen, original = flint(vggsound()), [], FLINT.losses

    def listen(self, batch, group="interpreter"):
        seen.append(original(self, batch, group))
        return seen[-1]

    monkeypatch.setattr(FLINT, "losses", listen)
    trainer = Trainer(interpreter, tmp_path, TrainingSettings(epochs=1, lr=0.001), steps_per_epoch=2)
    row = trainer.fit(lambda _: [batch_of(noise(3)), batch_of(noise(1))])
    for name in TERMS:
        assert row[name] == pytest.approx(sum(float(each[name].detach()) for each in seen) / 2, rel=1e-5), name


def test_a_new_h_says_nothing_and_learns():
    interpreter = FLINT(vggsound(), n_attributes=5, width=4)
    assert not interpreter.h.weight.any()
    interpreter.losses(batch_of(noise()))["output_fidelity"].backward()
    assert interpreter.h.linear.weight.grad.abs().sum() > 0


# --- attributes


def test_attributes_written_out():
    interpreter, waveform, seen = flint(vggsound()), noise(2), []
    hook = interpreter.phi.join.register_forward_hook(lambda _, __, made: seen.append(made.relu()))
    _, _, attributes, logits = described(interpreter, waveform)
    hook.remove()
    layer = interpreter.phi.attribute
    expected = formulas.course(seen[0], layer.weight.detach(), layer.bias.detach(), bands=3)
    torch.testing.assert_close(attributes.course, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(attributes.strength, expected.mean(2), atol=1e-5, rtol=1e-4)
    # What the cells of a column add up to is the attribute before its ReLU, exactly.
    whole = attributes.cells.sum(2) + layer.bias[:, None]
    torch.testing.assert_close(whole, attributes.before)
    torch.testing.assert_close(whole.clamp(min=0), attributes.course)
    assert (whole < 0).any() and (attributes.course > 0).any()
    torch.testing.assert_close(logits, attributes.strength @ interpreter.h.weight.T + interpreter.h.linear.bias)


def test_attributes_are_never_negative(classifier):
    """The released code's LeakyReLU lets them be."""
    interpreter = flint(classifier)
    nn.init.normal_(interpreter.phi.attribute.weight, std=5.0)
    for waveform in (noise(), -noise(), torch.zeros(1, SAMPLES)):
        course = described(interpreter, waveform)[2].course
        assert course.min() >= 0
        assert (course == 0).any() and (course > 0).any()


def test_a_longer_clip_of_the_same_sound_has_the_same_attributes():
    interpreter = flint(vggsound())
    # A cell has 16 frames of 186 samples: in a whole number of them the tone has a whole number of periods.
    time = torch.arange(16 * 186 * 40, dtype=torch.float64)
    sound = torch.sin(2 * torch.pi * 16 / 186 * time)[None].float()
    short, long = (described(interpreter, sound[:, : 16 * 186 * columns])[2] for columns in (20, 40))
    assert long.course.shape[2] == pytest.approx(2 * short.course.shape[2], abs=1)
    inside = short.course[..., 5:-5].mean(2)
    torch.testing.assert_close(long.course[..., 5:-5].mean(2), inside, atol=1e-3, rtol=1e-3)
    # Only the ends, where the convolutions see silence, count half as much in the longer clip.
    edges = (short.strength - inside).abs()
    assert ((long.strength - inside).abs() <= 0.6 * edges + 1e-3).all()


def test_cells_are_where_they_are_in_the_spectrogram():
    """A tone that begins late and high changes the cells there only, but for the reach of the convolutions."""
    interpreter = flint(vggsound())
    level, _, attributes, _ = described(interpreter, noise(1))
    cells = torch.zeros(1, interpreter.phi.rows, attributes.cells.shape[3])
    cells[0, 10, 1] = 1.0
    fine = spread(cells, interpreter.phi.level, *level.shape[1:])
    assert fine.shape == level.shape
    # Cell j is centred between bins 16 j + 7 and 16 j + 8.
    assert fine[0, 167:169, 23:25].min() > 0.9 and fine.argmax() // level.shape[2] in (167, 168)
    torch.testing.assert_close(spread(torch.ones(1, 32, 2), 16, 513, 26), torch.ones(1, 513, 26))


# --- relevance


def test_relevance_written_out(classifier):
    interpreter, waveform = flint(classifier), noise()
    for label in range(4):
        made = interpreter.interpret(waveform, label)
        expected = torch.tensor(formulas.relevance(made.details["attributes"], interpreter.h.weight.detach(), label))
        torch.testing.assert_close(made.details["relevance"], expected)
        assert torch.equal(made.details["selected"], (expected > 0.2).float())
        torch.testing.assert_close(expected.abs().amax(1), torch.ones(3))
    several = interpreter.interpret(waveform, torch.tensor([[True, True, False, False]] * 3))
    one, other = (interpreter.interpret(waveform, label).details["relevance"] for label in (0, 1))
    torch.testing.assert_close(several.details["relevance"], torch.maximum(one, other))


def test_relevance_keeps_its_sign_without_a_positive_contribution():
    """The released code's global relevance divides by the signed maximum: all signs flip, or it divides by zero."""
    strength, weight = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[-1.0, -2.0, 0.0], [0.0, 0.0, 3.0]])
    found = class_relevance(strength, weight)
    assert found.tolist() == [[[-0.25, -1.0, 0.0], [0.0, 0.0, 0.0]]]
    alpha = strength * weight[:1]
    released = alpha / alpha[:, :2].amax(1)
    assert released[0, 1] > 0  # what speaks most against the class would speak most for it


def test_global_relevance_written_out():
    interpreter, waveforms = flint(vggsound()), [noise(3), 0.3 * noise(2).flip(1)]
    found = global_relevance(interpreter, waveforms)
    every = [interpreter.interpret(each).details for each in waveforms]
    strength = torch.cat([each["attributes"] for each in every])
    predicted = torch.cat([each["theta_probabilities"].argmax(1) for each in every]).tolist()
    expected = torch.tensor(formulas.global_relevance(strength, interpreter.h.weight.detach(), predicted))
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found.isnan().any() and found[predicted[0]].abs().max() <= 1 + 1e-6


def test_conciseness_written_out():
    relevances = [[1.0, 0.5, 0.34, -1.0], [1.0, 0.9, 0.8, 0.7], [0.0, 0.0, 0.0, 0.0]]
    counts = []
    for tau in (1.5, 2.0, 2.5, 3.0, 5.0):
        found = conciseness(torch.tensor(relevances), tau).tolist()
        assert found == formulas.conciseness_at(relevances, tau)
        counts.append(found)
    assert counts[0] == [1, 4, 0] and counts[-1] == [3, 4, 0]
    assert all(low <= high for one, other in pairwise(counts) for low, high in zip(one, other))
    with pytest.raises(ValueError, match="tau is 1; it must be above 1"):
        conciseness(torch.zeros(1, 2), 1)


def test_contributions_add_up_to_the_logit():
    """Without attribute j, g's logit of class c falls by alpha_jc."""
    interpreter = flint(vggsound())
    _, _, attributes, logits = described(interpreter, noise())
    weight, bias = interpreter.h.weight.detach(), interpreter.h.linear.bias.detach()
    alpha = attributes.strength[:, None] * weight
    torch.testing.assert_close(alpha.sum(2) + bias, logits)
    without = attributes.course.clone()
    without[:, 2] = 0
    torch.testing.assert_close(logits - interpreter.h(without.mean(2)), alpha[:, :, 2], atol=1e-5, rtol=1e-4)


# --- masks


def test_masks_of_the_decoder_written_out():
    interpreter, waveform = flint(vggsound(), mask_from="decoder"), noise(1, 1600)
    level, _, attributes, _ = described(interpreter, waveform)
    found = decoder_masks(interpreter, attributes.course, level, range(6))
    with torch.no_grad():
        whole = interpreter.rebuild(attributes.course, level)
        for j, mask in found.items():
            without = attributes.course.clone()
            without[:, j] = 0
            expected = formulas.decoder_mask(whole, interpreter.rebuild(without, level))
            torch.testing.assert_close(mask, expected, atol=1e-5, rtol=1e-4)
    assert any((mask > 0).any() for mask in found.values())
    made = interpreter.interpret(waveform, 1)
    weight = made.details["relevance"] * made.details["selected"]
    total = sum(float(weight[0, j]) * found[j] for j in range(6))
    torch.testing.assert_close(made.mask, total.clamp(max=1), atol=1e-5, rtol=1e-4)


def test_an_irrelevant_attribute_is_not_heard():
    interpreter = flint(vggsound())
    with torch.no_grad():
        interpreter.h.linear.weight[2] = torch.tensor([1.0, 0, 0, 0, 0, 0])
        interpreter.h.linear.weight[3] = -1.0
    waveform = noise()
    made = interpreter.interpret(waveform, 2)
    # Only what the cells add to the first attribute counts for class 2; nothing speaks for class 3.
    _, _, attributes, _ = described(interpreter, waveform)
    assert (attributes.strength[:, 0] > 0).all()
    own = (attributes.cells[:, 0].clamp(min=0) * (attributes.course[:, :1] > 0)).amax((1, 2)) > 0
    assert torch.equal(made.mask.amax((1, 2)) > 0, own) and own.any()
    assert not interpreter.interpret(waveform, 3).mask.any()


def test_the_decoder_reads_the_means_alone_as_in_the_paper():
    interpreter = flint(vggsound(), course=False)
    level, _, attributes, _ = described(interpreter, noise())
    with torch.no_grad():
        flipped, same = (interpreter.rebuild(each, level) for each in (attributes.course.flip(2), attributes.course))
        torch.testing.assert_close(flipped, same, atol=1e-5, rtol=1e-5)
        interpreter.course = True
        assert not torch.allclose(interpreter.rebuild(attributes.course.flip(2), level), same, atol=1e-4)


# --- options and bundles


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_attributes": 0}, "at least 1"),
        ({"threshold": 1.0}, "relevance is at most 1"),
        ({"bands": 33}, "33 bands for 32 rows"),
        ({"layers": [9]}, "reads feature map 9"),
        ({"mask_from": "attention"}, "no 'attention'; choose from cells, decoder"),
    ],
)
def test_options_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        FLINT(vggsound(), **settings)
    assert "\n" not in str(caught.value)


def test_bundles_and_scores(tmp_path):
    interpreter = flint(vggsound(), mask_from="decoder", n_attributes=5)
    bundle.save(interpreter, tmp_path / "bundle")
    loaded = bundle.load(tmp_path / "bundle")
    made, again = interpreter.interpret(noise()), loaded.interpret(noise())
    torch.testing.assert_close(again.mask, made.mask)
    assert loaded.interpret(noise(1, 2 * SAMPLES)).mask.shape[2] == 1 + 2 * SAMPLES // 186
    scores = interpreter.scores(batch_of(noise()))
    agrees = made.details["theta_probabilities"].argmax(1) == made.prediction.predicted
    assert torch.equal(scores["theta_fidelity"], agrees.float())
    own = made.details["theta_probabilities"].argmax(1)
    of_own = interpreter.interpret(noise(), own).details["relevance"]
    assert scores["concise"].tolist() == formulas.conciseness_at(of_own.tolist(), 2.0)


def test_size_at_the_papers_width():
    with torch.device("meta"):
        sizes = [sum(each.numel() for each in FLINT(VGGSound(LABELS, width)).parameters()) for width in (32, 256)]
    assert sizes[0] < sizes[1] < 200_000
