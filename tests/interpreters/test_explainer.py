"""Explainer: its losses, its masks of all classes from one pass, the official code's defects, and known answers."""

import copy

import pytest
import torch
from cases import CLASSIFIERS, LABELS, explainer, external, vggsound
from magnitude_classifiers import HIGH_BINS, LOW_BINS, OfMagnitude, band_level, tone
from references import mask_losses as formulas
from torch.nn import functional
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import VGGSound
from audiointerp.interpreters import Explainer
from audiointerp.interpreters.explainer import _draw_one, _largest
from audiointerp.sound.masking import apply_mask

TERMS = {"classification", "entropy", "area", "area_others", "bounds", "tv"}
SETS = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0]])
EVERY = list(CLASSIFIERS)


@pytest.fixture(params=EVERY, ids=str)
def classifier(request):
    return CLASSIFIERS[request.param]()


# --- losses


@pytest.mark.parametrize("domain", ["magnitude", "log_magnitude"])
def test_losses_written_out(classifier, domain):
    """The maxima over the labels and over the other classes, one clip and one class at a time."""
    interpreter, waveform = explainer(classifier, domain=domain, least_area=0.05), noise()
    losses = interpreter.losses(batch_of(waveform, SETS))
    assert set(losses) == TERMS
    masks, stft = interpreter.class_masks(waveform), classifier.spectrogram(waveform)
    whole, others, bounds = [], [], []
    for clip, labels in zip(masks, SETS.bool().tolist()):
        own = [mask for mask, has in zip(clip, labels) if has]
        whole.append(torch.stack(own).amax(0))
        others.append(torch.stack([mask for mask, has in zip(clip, labels) if not has]).amax(0))
        bounds.append(sum(formulas.area_bounds(each, 0.05, 0.3) for each in own) / len(own))
    whole, others = torch.stack(whole), torch.stack(others)
    with torch.no_grad():
        kept, left = (
            classifier.classify_stft(apply_mask(stft, each, domain), SAMPLES).logits for each in (whole, 1 - whole)
        )
    every = [True] * 3
    variation = [formulas.total_variation(each, every, 1) for each in (whole, others)]
    expected = {
        "classification": formulas.classification(kept, SETS, classifier.multilabel),
        "entropy": formulas.negative_entropy(left) * 4 / torch.tensor(4.0).log().item(),
        "area": formulas.mean_area(whole, every),
        "area_others": formulas.mean_area(others, every),
        "bounds": sum(bounds) / 3,
        "tv": sum(variation),
    }
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=2e-3, abs=1e-5), name


def test_bounds_are_averaged_over_the_labels_of_a_clip():
    """The released code sums them: a clip of two labels with equal masks would count twice."""
    interpreter = explainer(vggsound())
    for each in (interpreter.decoder.decoder.last.weight, interpreter.decoder.decoder.last.bias):
        torch.nn.init.zeros_(each)  # every mask is 0.5 everywhere
    one, two = (interpreter.losses(batch_of(noise(), labels)) for labels in (torch.tensor([0, 1, 3]), SETS))
    for losses in (one, two):
        assert float(losses["bounds"].detach()) == pytest.approx(0.02 * 0.5 + 0.7 * 0.5, abs=1e-3)
        assert float(losses["area"].detach()) == pytest.approx(0.5) and losses["tv"] == 0


def test_clips_without_labels_keep_the_term_of_the_other_masks():
    """The released code's maximum over no class fails."""
    interpreter, waveform = explainer(vggsound(multilabel=True)), noise()
    labels = torch.zeros(3, 4)
    none = interpreter.losses(batch_of(waveform, labels))
    assert all(none[name] == 0 for name in ("classification", "entropy", "area", "bounds"))
    largest = interpreter.class_masks(waveform).amax(1)
    assert float(none["area_others"].detach()) == pytest.approx(float(largest.mean()), rel=1e-4)
    sum(none.values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in interpreter.parameters() if each.grad is not None)
    labels[1] = torch.tensor([0.0, 1, 0, 1])
    some, alone = (interpreter.losses(batch_of(*given)) for given in ((waveform, labels), (waveform[1:2], labels[1:2])))
    for name in ("classification", "entropy", "area", "bounds"):
        torch.testing.assert_close(3 * some[name], alone[name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_clip_of_every_label_has_no_other_masks():
    losses = explainer(vggsound(multilabel=True)).losses(batch_of(noise(), torch.ones(3, 4)))
    assert losses["area_others"] == 0 and all(torch.isfinite(each) for each in losses.values())


def test_no_term_grows_with_the_batch():
    interpreter, one = explainer(vggsound()), noise(1)
    alone, many = (interpreter.losses(batch_of(one.repeat(n, 1))) for n in (1, 5))
    for name, value in alone.items():
        torch.testing.assert_close(many[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_one_label_at_a_time_asks_each_mask_for_its_own_class():
    classifier = vggsound()
    waveform, labels = noise(1), torch.tensor([[True, False, True, False]])
    one = explainer(classifier, labels_kept="one")
    stft, masks = classifier.spectrogram(waveform), one.class_masks(waveform)
    with torch.no_grad():
        heard = {c: classifier.classify_stft(stft * masks[:, c], SAMPLES).logits for c in (0, 2)}
    expected = {c: functional.cross_entropy(heard[c], torch.tensor([c])) for c in heard}
    torch.manual_seed(0)
    found = [one.losses(batch_of(waveform, labels.float()))["classification"].detach() for _ in range(24)]
    nearest = [min(expected, key=lambda c: abs(float(expected[c] - value))) for value in found]
    assert set(nearest) == {0, 2}
    for c, value in zip(nearest, found):
        torch.testing.assert_close(value, expected[c], atol=1e-4, rtol=1e-3)
    drawn = torch.stack([_draw_one(labels) for _ in range(400)]).float().mean(0)[0]
    assert drawn.tolist() == pytest.approx([0.5, 0, 0.5, 0], abs=0.1)
    # Of clips of one label, it is the same.
    single = [explainer(classifier, labels_kept=each).losses(batch_of(noise())) for each in ("all", "one")]
    assert all(torch.equal(single[0][name], single[1][name]) for name in TERMS)


def test_labels_or_predictions():
    classifier = vggsound(multilabel=True)
    waveform = noise()
    with torch.no_grad():
        prediction = classifier(waveform)
    by_label, by_prediction = explainer(classifier), explainer(classifier, learns_from="predictions")
    assert torch.equal(by_label.training_target(batch_of(waveform, SETS), None), SETS.bool())
    found = by_prediction.training_target(batch_of(waveform, SETS), prediction)
    assert (found == (prediction.probabilities > 0.5)).all(1).sum() >= (prediction.probabilities > 0.5).any(1).sum()
    given = [by_prediction.losses(batch_of(waveform, labels)) for labels in (SETS, 1 - SETS)]
    assert all(torch.equal(given[0][name], given[1][name]) for name in TERMS)


@pytest.mark.parametrize("encoder", ["own", "classifier"])
def test_training_leaves_the_classifier_bit_for_bit(encoder):
    """The released code's frozen classifier is in training mode: its dropout acts, its running statistics drift."""
    classifier = vggsound().train()
    interpreter = explainer(classifier, encoder=encoder).train()
    before = copy.deepcopy(dict(classifier.state_dict()))
    own = copy.deepcopy(dict(interpreter.state_dict()))
    again = [copy.deepcopy(interpreter).losses(batch_of(noise(), SETS)) for _ in range(2)]
    assert all(torch.equal(again[0][name], again[1][name]) for name in TERMS)  # no dropout
    optimizer = torch.optim.AdamW(interpreter.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(interpreter.losses(batch_of(noise(), SETS)).values()).backward()
        optimizer.step()
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)
    assert classifier.training and all(each.grad is None and each.requires_grad for each in classifier.parameters())
    assert [name for name, each in interpreter.named_parameters() if torch.equal(each, own[name])] == []
    assert set(map(id, interpreter.parameter_groups()["interpreter"])) == set(map(id, interpreter.parameters()))


# --- all masks at the cost of one


def test_every_target_is_a_mask_of_the_same_pass(classifier):
    interpreter, waveform = explainer(classifier), noise()
    masks = interpreter.class_masks(waveform)
    assert masks.shape == (3, 4, 513, 1 + SAMPLES // 186)
    passes = []
    hook = interpreter.decoder.register_forward_hook(lambda *_: None)
    original = interpreter.mask_logits
    interpreter.mask_logits = lambda *given: passes.append(1) or original(*given)
    with interpreter.several_targets():
        for label in range(4):
            made = interpreter.interpret(waveform, label)
            torch.testing.assert_close(made.mask, masks[:, label])
            torch.testing.assert_close(made.details["areas"], masks.mean((2, 3)))
        both = interpreter.interpret(waveform, SETS.bool())
    hook.remove()
    assert len(passes) == 1
    expected = [clip[labels].amax(0) for clip, labels in zip(masks, SETS.bool())]
    torch.testing.assert_close(both.mask, torch.stack(expected))
    interpreter.interpret(waveform, 0)
    assert len(passes) == 2  # nothing is kept outside


def test_largest_is_the_maximum():
    values, chosen = torch.randn(3, 4, 5, 6), torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()
    expected = torch.stack([value[row].amax(0) for value, row in zip(values, chosen)])
    assert torch.equal(_largest(values, chosen), expected)


def test_masks_of_some_classes_only():
    classifier = vggsound()
    interpreter, waveform = explainer(classifier, classes=["rain", "cat"]), noise()
    assert interpreter.class_masks(waveform).shape[1] == 2
    made = interpreter.interpret(waveform, LABELS.index("rain"))
    torch.testing.assert_close(made.mask, interpreter.class_masks(waveform)[:, 0])
    assert (made.details["areas"][:, [LABELS.index("bell"), LABELS.index("dog")]] == 0).all()
    with pytest.raises(ValueError, match="no mask for dog; it was trained to explain rain, cat"):
        interpreter.interpret(waveform, LABELS.index("dog"))
    # A label without a mask is no label; the other terms are as if it were not there.
    some, none = (
        interpreter.losses(batch_of(waveform, torch.full((3,), LABELS.index(each)))) for each in ("cat", "dog")
    )
    assert some["classification"] > 0 and none["classification"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "deeplab"}, "no 'deeplab'; choose from own, classifier"),
        ({"least_area": 0.4}, "the first below the second"),
        ({"classes": ["cow"]}, "lacks"),
        ({"classes": []}, "no class"),
        ({"encoder": "classifier", "layers": [9]}, "reads feature map 9"),
        ({"width": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        Explainer(vggsound(), **settings)


@pytest.mark.parametrize("encoder", ["own", "classifier"])
def test_bundles_and_other_rates(tmp_path, encoder):
    classifier = vggsound()
    interpreter, waveform = explainer(classifier, encoder=encoder, classes=["cat", "rain"]), noise()
    bundle.save(interpreter, tmp_path / "bundle")
    loaded = bundle.load(tmp_path / "bundle")
    torch.testing.assert_close(loaded.class_masks(waveform), interpreter.class_masks(waveform))
    outside = external()
    made = explainer(outside, encoder=encoder).interpret(waveform, 1)
    assert made.mask.shape == outside.spectrogram(waveform).shape


def test_size_at_the_shipped_and_the_papers_width():
    """An encoder of its own has one size; the network that reads the classifier's maps grows with them."""
    with torch.device("meta"):
        own, small, large = (
            sum(each.numel() for each in Explainer(VGGSound(LABELS, width), encoder).parameters())
            for width, encoder in ((256, "own"), (32, "classifier"), (256, "classifier"))
        )
    assert small < own < 200_000 and small < large < 200_000


# --- known answers


def two_bands() -> OfMagnitude:
    """Says "low" by the level around 700 Hz, "high" by that around 3,000 Hz, and "neither" if both are quiet."""

    def logits(magnitude):
        levels = [3 * band_level(magnitude, bins) for bins in (LOW_BINS, HIGH_BINS)]
        return *levels, torch.full_like(levels[0], 2.0)

    return OfMagnitude(logits, ("low", "high", "neither"))


def clips(generator: torch.Generator):
    """A clip of each tone and two of both, over a bed of noise, with the labels of the tones that sound."""
    parts = torch.stack([tone(700.0, 0.05, 0.55)[0], tone(3000.0, 0.05, 0.55)[0]])
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]])
    level = labels[:, :2] * (0.5 + 0.5 * torch.rand(4, 2, generator=generator))
    waveform = level @ parts + 0.01 * torch.randn(4, parts.shape[1], generator=generator)
    return batch_of(waveform / waveform.abs().amax(1, keepdim=True), labels)


def test_each_mask_keeps_its_own_tone_and_absent_classes_keep_nothing():
    torch.manual_seed(0)
    generator, classifier = torch.Generator().manual_seed(0), two_bands()
    settings = {"width": 8, "fine_width": 8, "labels_kept": "one", "least_area": 0.005}
    interpreter = Explainer(classifier, **settings).train()
    weights = {"entropy": 0.15, "bounds": 1.0, "area": 0.3, "area_others": 1.0, "tv": 0.1}
    optimizer = torch.optim.Adam(interpreter.parameters(), 0.02)
    for _ in range(70):
        losses = interpreter.losses(clips(generator))
        optimizer.zero_grad()
        (losses["classification"] + sum(weight * losses[name] for name, weight in weights.items())).backward()
        optimizer.step()
    unseen = clips(generator)
    masks = interpreter.class_masks(unseen.waveform)[..., 6:46]
    low, high = (masks[:, :, bins].mean((2, 3)) for bins in (LOW_BINS, HIGH_BINS))
    both = unseen.label[:, :2].all(1)
    assert (low[both, 0] > 0.5).all() and (high[both, 1] > 0.5).all(), (low, high)
    assert (low[both, 1] < 0.2).all() and (high[both, 0] < 0.2).all(), (low, high)
    assert (masks[:, 2].mean((1, 2)) < 0.1).all()  # why not "neither": nothing speaks for it
    for label in (0, 1):
        made = interpreter.interpret(unseen.waveform[both], label)
        heard = classifier(made.waveform * made.input_gain[:, None]).probabilities
        assert (heard.argmax(1) == label).all(), heard
        assert (heard[:, 1 - label] < made.prediction.probabilities[:, 1 - label]).all(), heard
