"""RTIS: its losses written out, classes that a clip does not have, and the gate of the class."""

import copy
import math

import pytest
import torch
from cases import WITH_FEATURE_MAPS, rtis, vggsound
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.interpreters import RTIS
from audiointerp.sound.masking import apply_mask

SETS = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0]])


@pytest.fixture(params=WITH_FEATURE_MAPS, ids=str)
def classifier(request):
    return WITH_FEATURE_MAPS[request.param]()


@pytest.mark.parametrize("fake", [False, True])
def test_losses_written_out(classifier, fake, monkeypatch):
    """Of a class that the clip does not have, the part left must have the clip's label and the part kept must not."""
    interpreter, waveform = rtis(classifier), noise()
    own, asked = torch.tensor([0, 1, 1]), torch.tensor([2, 3, 2]) if fake else torch.tensor([0, 1, 1])
    monkeypatch.setattr(RTIS, "_draw", lambda *_: (own, asked, torch.full((3,), not fake)))
    losses = interpreter.losses(batch_of(waveform, SETS))
    made = interpreter.interpret(waveform, asked)
    stft = classifier.spectrogram(waveform)
    with torch.no_grad():
        kept, left = (
            classifier.classify_stft(apply_mask(stft, mask, "magnitude"), SAMPLES).probabilities
            for mask in (made.mask, 1 - made.mask)
        )
        _, exists = interpreter.mask_logits(classifier(waveform), asked, stft, SAMPLES)
    having, lacking = (left, kept) if fake else (kept, left)
    expected = dict.fromkeys(("preserved", "destroyed", "area", "tv", "exists"), 0.0)
    for row, label in enumerate(own.tolist()):
        mask = made.mask[row]
        expected["preserved"] -= math.log(float(having[row, label])) / 3
        expected["destroyed"] += float(lacking[row, label]) ** 0.3 / 3
        expected["area"] += float(((mask + 0.0005) ** 0.3).mean()) / 3
        steps = float((mask[1:] - mask[:-1]).square().sum() + (mask[:, 1:] - mask[:, :-1]).square().sum())
        expected["tv"] += steps / mask.numel() / 3
        sign = -1 if fake else 1
        expected["exists"] += math.log(1 + math.exp(-sign * float(exists[row]))) / 3
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=2e-3), name


def test_fakes_are_classes_that_the_clip_lacks():
    interpreter, labels = rtis(vggsound(), fakes=0.3), torch.cat([SETS, torch.ones(1, 4)]).bool()
    torch.manual_seed(0)
    drawn = [interpreter._draw(labels) for _ in range(500)]
    real = torch.stack([each[2] for each in drawn]).float().mean(0)
    assert real[:3].tolist() == pytest.approx([0.7] * 3, abs=0.07) and real[3] == 1  # it lacks no class
    rows = torch.arange(4)
    for own, asked, is_real in drawn:
        assert labels[rows, own].all() and torch.equal(labels[rows, asked], is_real)
    assert {int(each[0][0]) for each in drawn} == {0, 3}


def test_the_class_gates_the_coarsest_map():
    """Where no cell fits the class, nothing of the coarsest map is read."""
    classifier = vggsound()
    interpreter, waveform = rtis(classifier, layers=[-1]), noise()
    with torch.no_grad():
        prediction, stft = classifier(waveform), classifier.spectrogram(waveform)
        interpreter.of_class.weight.zero_()
        half, exists = interpreter.mask_logits(prediction, torch.tensor([0, 1, 2]), stft, SAMPLES)
        assert torch.equal(exists, torch.zeros(3))  # <A, 0> = 0: the gate is 1/2 in every cell
        halved = [each / 2 for each in prediction.feature_maps]
        interpreter.of_class.weight.fill_(1e6)
        prediction.feature_maps[-1].abs_()
        full, _ = interpreter.mask_logits(prediction, torch.tensor([0, 1, 2]), stft, SAMPLES)
    assert not torch.equal(half, full) and halved[-1].shape == prediction.feature_maps[-1].shape


def test_training_leaves_the_classifier_bit_for_bit(classifier):
    classifier.train()
    interpreter = rtis(classifier).train()
    before, own = (copy.deepcopy(dict(each.state_dict())) for each in (classifier, interpreter))
    optimizer = torch.optim.AdamW(interpreter.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(interpreter.losses(batch_of(noise(), SETS)).values()).backward()
        optimizer.step()
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)
    assert all(each.grad is None and each.requires_grad for each in classifier.parameters())
    assert [name for name, each in interpreter.named_parameters() if torch.equal(each, own[name])] == []


def test_clips_without_labels_do_not_count():
    interpreter = rtis(vggsound(multilabel=True), fakes=0.0)
    labels, waveform = torch.zeros(3, 4), noise()
    assert all(value == 0 for value in interpreter.losses(batch_of(waveform, labels)).values())
    labels[1, 2] = 1
    some, alone = (interpreter.losses(batch_of(*each)) for each in ((waveform, labels), (waveform[1:2], labels[1:2])))
    for name, value in alone.items():
        torch.testing.assert_close(some[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_steps_lower_the_preserving_and_destroying_terms(classifier):
    torch.manual_seed(0)
    interpreter = RTIS(classifier, width=4, fine_width=4, fakes=0.0).train()
    batch = batch_of(noise(), classifier(noise()).predicted)
    optimizer, values = torch.optim.Adam(interpreter.parameters(), 0.02), []
    for _ in range(10):
        losses = interpreter.losses(batch)
        loss = losses["preserved"] + losses["destroyed"] + losses["exists"]
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < values[0] - 1e-3, values


@pytest.mark.parametrize("settings", [{"fakes": 1.0}, {"power": 0.0}, {"width": 0}])
def test_options_that_cannot_work(settings):
    with pytest.raises(ValueError, match="RTIS needs"):
        RTIS(vggsound(), **settings)


def test_bundles(tmp_path):
    interpreter = rtis(vggsound())
    bundle.save(interpreter, tmp_path / "bundle")
    loaded = bundle.load(tmp_path / "bundle")
    torch.testing.assert_close(loaded.interpret(noise(), 1).mask, interpreter.interpret(noise(), 1).mask)
