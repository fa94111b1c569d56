"""Loss terms of trained masks: against literal formulas, their bounds, and the official code's defects."""

import math

import pytest
import torch
from cases import LABELS, external, vggsound
from references import mask_losses as formulas
from torch.nn import functional

from audiointerp.contracts import frozen
from audiointerp.interpreters.mask_losses import (
    area_bounds,
    classification,
    classify_parts,
    guidance,
    masked_in,
    masked_out,
    mean_area,
    negative_entropy,
    similarity,
    total_variation,
)

TARGET = torch.tensor([[True, False, False, False], [False, True, False, True], [False, False, True, False]])
COUNTED = [True, False, True]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("multilabel", [False, True])
def test_masked_terms_are_the_formulas(multilabel):
    logits = 2 * drawn(3, 4)
    assert float(masked_in(logits, TARGET, multilabel)) == pytest.approx(
        formulas.masked_in(logits, TARGET, multilabel), rel=1e-5
    )
    assert float(masked_out(logits, TARGET, multilabel)) == pytest.approx(
        formulas.masked_out(logits, TARGET, multilabel), rel=1e-5
    )


def test_of_one_class_they_are_torchs_cross_entropies():
    logits, classes = drawn(3, 4), torch.tensor([0, 3, 2])
    target = functional.one_hot(classes, 4).bool()
    torch.testing.assert_close(masked_in(logits, target, False), functional.cross_entropy(logits, classes))
    # The paper's own: minus the cross-entropy.
    torch.testing.assert_close(
        masked_out(logits, target, False, bounded=False), -functional.cross_entropy(logits, classes)
    )
    alone = logits[:, :1]
    expected = functional.binary_cross_entropy_with_logits(alone, torch.ones(3, 1))
    torch.testing.assert_close(masked_in(alone, torch.ones(3, 1).bool(), True), expected)
    expected = functional.binary_cross_entropy_with_logits(alone, torch.zeros(3, 1))
    torch.testing.assert_close(masked_out(alone, torch.ones(3, 1).bool(), True), expected)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_left_parts_term_is_bounded_below_and_keeps_its_gradient(multilabel):
    """Defect D21: the official negative cross-entropy falls without end once the class is gone."""
    target = torch.tensor([[True, False]])
    for far in (-10.0, -100.0, -1e4):
        logits = torch.tensor([[far, 0.0]])
        assert 0 <= float(masked_out(logits, target, multilabel)) < 1e-4
        assert float(masked_out(logits, target, multilabel, bounded=False)) == pytest.approx(far, abs=1e-3)
    # With a probability that rounds to 1, the term is finite and pushes with its full strength.
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = masked_out(logits, target, multilabel)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(200) and float(logits.grad[0, 0]) == pytest.approx(1)


def test_a_single_class_of_a_softmax_is_refused():
    with pytest.raises(ValueError, match="single class"):
        masked_out(torch.zeros(2, 1), torch.ones(2, 1).bool(), False)


def test_area_and_variation_are_the_formulas():
    mask = drawn(3, 5, 7).sigmoid()
    for counted in (None, torch.tensor(COUNTED)):
        given = [True] * 3 if counted is None else COUNTED
        assert float(mean_area(mask, counted)) == pytest.approx(formulas.mean_area(mask, given))
        for power in (1, 2):
            found = float(total_variation(mask, counted, power))
            assert found == pytest.approx(formulas.total_variation(mask, given, power))


def test_no_term_grows_with_the_batch():
    """Defect D21: the official code sums area and total variation over the batch."""
    mask, logits, clean = (
        drawn(1, 5, 7).sigmoid(),
        drawn(1, 4),
        torch.polar(drawn(1, 5, 7).exp(), drawn(1, 5, 7, seed=1)),
    )
    target, yes = TARGET[:1], torch.tensor([True])
    terms = {
        "area": lambda n: mean_area(mask.expand(n, -1, -1)),
        "tv": lambda n: total_variation(mask.expand(n, -1, -1)),
        "in": lambda n: masked_in(logits.expand(n, -1), target.expand(n, -1), False),
        "out": lambda n: masked_out(logits.expand(n, -1), target.expand(n, -1), False),
        "guidance": lambda n: guidance(mask.expand(n, -1, -1), clean.expand(n, -1, -1), yes.expand(n)),
    }
    for name, term in terms.items():
        torch.testing.assert_close(term(16), term(1), msg=name)
    # Nor with the length of the clip, repeated in time (but for the steps between the repetitions).
    long = mask.repeat(1, 1, 50)
    torch.testing.assert_close(mean_area(long), mean_area(mask))
    assert float(total_variation(long)) == pytest.approx(float(total_variation(mask)), rel=0.3)


def test_guidance_and_similarity_are_the_formulas():
    logits, mask = drawn(3, 5, 7), drawn(3, 5, 7).sigmoid()
    stft, clean = (torch.polar(drawn(3, 5, 7, seed=s).exp(), drawn(3, 5, 7, seed=s + 9)) for s in (1, 2))
    torch.testing.assert_close(similarity(mask, stft, clean), torch.tensor(formulas.similarity(mask, stft, clean)))
    found = float(guidance(logits, clean, torch.tensor(COUNTED), 0.5))
    assert found == pytest.approx(formulas.guidance(logits, clean, COUNTED, 0.5))
    silent = torch.zeros(1, 5, 7) + 0j
    assert float(similarity(mask[:1], silent, silent)) == 0
    assert math.isfinite(float(guidance(logits[:1], silent, torch.tensor([True]))))


@pytest.mark.parametrize("multilabel", [False, True])
def test_explainers_terms_are_the_formulas(multilabel):
    logits, classes = 2 * drawn(3, 4), 4
    found = float(classification(logits, TARGET, multilabel))
    assert found == pytest.approx(formulas.classification(logits, TARGET, multilabel), rel=1e-5)
    # Ours is the entropy over log C, the paper's over C.
    paper = formulas.negative_entropy(logits)
    assert float(negative_entropy(logits)) * math.log(classes) / classes == pytest.approx(paper, rel=1e-5)
    mask = drawn(3, 6, 7).sigmoid()
    expected = [formulas.area_bounds(each, 0.1, 0.35) for each in mask]
    assert area_bounds(mask, 0.1, 0.35).tolist() == pytest.approx(expected, rel=1e-5)


def test_entropy_is_least_for_a_uniform_prediction_whatever_the_number_of_classes():
    """Of 10, 20, 50 classes, the paper's term reaches -0.230, -0.150, -0.078 only; ours reaches -1."""
    for classes, paper in ((10, -0.230), (20, -0.150), (50, -0.078)):
        uniform, sure = torch.full((1, classes), 3.0), torch.zeros(1, classes)
        sure[0, 0] = 1000.0
        assert formulas.negative_entropy(uniform) == pytest.approx(paper, abs=5e-4)
        assert float(negative_entropy(uniform)) == pytest.approx(-1) and float(negative_entropy(sure)) == 0
    with pytest.raises(ValueError, match="single class"):
        negative_entropy(torch.zeros(1, 1))


def test_area_bounds_of_constant_masks_and_of_masks_between_the_bounds():
    """A constant mask v has a (1 - v) + (1 - b) v."""
    for value, expected in ((0.0, 0.05), (0.5, 0.375), (1.0, 0.70)):
        assert float(area_bounds(torch.full((1, 20, 30), value), 0.05, 0.3)) == pytest.approx(expected)
    for share, expected in ((0.0, 0.05), (0.05, 0), (0.2, 0), (0.3, 0), (0.5, 0.2)):
        mask = torch.zeros(600)
        mask[: round(600 * share)] = 1.0
        mask = mask[torch.randperm(600, generator=torch.Generator().manual_seed(0))].view(1, 20, 30)
        assert float(area_bounds(mask, 0.05, 0.3)) == pytest.approx(expected, abs=1e-6), share


@pytest.mark.parametrize("domain", ["log_magnitude", "magnitude"])
@pytest.mark.parametrize("build", [vggsound, lambda: vggsound(multilabel=True), external], ids=["cnn", "tags", "own"])
def test_both_parts_are_classified_as_each_alone_and_the_mask_gets_the_gradient(build, domain):
    classifier = build()
    waveform = drawn(2, 3200) / 4
    with frozen(classifier):
        stft = classifier.spectrogram(waveform)
        mask = drawn(*stft.shape).sigmoid().requires_grad_()
        kept, left = classify_parts(classifier, stft, mask, 3200, domain)
        for made, part in ((kept, mask), (left, 1 - mask)):
            level, part = stft.abs(), part.detach()
            level = part * level if domain == "magnitude" else (1 + level) ** part - 1
            alone = classifier(classifier.spectrogram.inverse(torch.polar(level, stft.angle()), 3200))
            direct = classifier.classify_stft(torch.polar(level, stft.angle()), 3200)
            torch.testing.assert_close(made.logits, direct.logits, atol=1e-4, rtol=1e-4)
            assert made.logits.shape == alone.logits.shape == (2, len(LABELS))
    target = functional.one_hot(kept.logits.argmax(1), len(LABELS)).bool()
    masked_in(kept.logits, target, classifier.multilabel).backward(retain_graph=True)
    assert torch.isfinite(mask.grad).all() and mask.grad.abs().sum() > 0
    assert all(each.grad is None and each.requires_grad for each in classifier.parameters())


def test_a_classifier_without_gradient_is_refused():
    classifier = external()
    classifier.no_gradient = "it calls numpy"
    stft = classifier.spectrogram(drawn(1, 800))
    mask = torch.full(stft.shape, 0.5, requires_grad=True)
    with pytest.raises(ValueError, match="it calls numpy"):
        classify_parts(classifier, stft, mask, 800, "magnitude")
