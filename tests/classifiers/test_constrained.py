"""Deaf, first seconds, swapped: the known fact holds for every kind of classifier, and all else stays as it was."""

import copy

import pytest
import torch
from cases import CLASSIFIERS, LABELS

from audiointerp.bundles import bundle
from audiointerp.classifiers import External, VGGSound, deaf, first_seconds, swapped
from audiointerp.contracts import frozen
from audiointerp.interpreters import GradCAM, Saliency
from audiointerp.runs.sanity.checks import randomised

RATE, SAMPLES = 16000, 12000
TIME = torch.arange(SAMPLES, dtype=torch.float64) / RATE


def tone(hertz, level=0.3):
    """A sine of whole periods, so that its Fourier transform is one coefficient; (1, samples)."""
    return level * torch.sin(2 * torch.pi * hertz * TIME)[None].float()


def noise(seed, scale=0.1):
    return scale * torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=CLASSIFIERS)
def classifier(request):
    return CLASSIFIERS[request.param]()


@torch.no_grad()
def logits(classifier, waveform):
    """By the waveform, and by its STFT, which must say the same."""
    by_waveform = classifier(waveform).logits
    by_stft = classifier.classify_stft(classifier.spectrogram(waveform), waveform.shape[1]).logits
    torch.testing.assert_close(by_stft, by_waveform, atol=1e-3, rtol=1e-3)
    return by_waveform


def test_a_deaf_classifier_cannot_hear_its_band(classifier):
    """To 0.001: the bands' level is log(1 + 1000 m), so that the rounding of a float32 transform is not invisible."""
    changed = deaf(classifier, 1800, 3200)
    base = tone(440) + tone(5000)
    before = logits(changed, base)
    assert not torch.allclose(logits(classifier, base + tone(2500)), logits(classifier, base), atol=1e-2)
    for inside in (tone(2500), 3 * tone(1800), tone(3200) - tone(2000)):
        torch.testing.assert_close(logits(changed, base + inside), before, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(logits(changed, base + 3 * tone(1700)), before, atol=1e-2)
    # Two tones of which one is in the band: the other is what the classifier hears, to the rounding of the transform.
    torch.testing.assert_close(changed.audible(tone(2500) + tone(440)), tone(440), atol=1e-6, rtol=0)
    torch.testing.assert_close(changed(base + tone(2500)).logits, classifier(base).logits, atol=1e-3, rtol=1e-3)


def test_a_masked_spectrogram_is_heard_without_the_band():
    """The part of a mask that is in the band changes nothing, although its window leaks into bins outside."""
    classifier, sound = deaf(CLASSIFIERS["vggsound"](), 1800, 3200), tone(440) + noise(1)
    stft = classifier.spectrogram(sound)
    added = classifier.spectrogram(tone(2500))
    with torch.no_grad():
        heard = [classifier.classify_stft(each, SAMPLES).logits for each in (stft, stft + added)]
    torch.testing.assert_close(heard[0], heard[1], atol=1e-4, rtol=1e-4)


def test_a_classifier_of_the_first_second_hears_no_other(classifier):
    changed, first = first_seconds(classifier, 0.25), RATE // 4
    base, other = noise(1), noise(2, 0.5)
    later = torch.cat([base[:, :first], other[:, first:]], 1)
    assert torch.equal(changed(later).logits, changed(base).logits)
    assert not torch.allclose(classifier(later).logits, classifier(base).logits, atol=1e-3)
    earlier = torch.cat([other[:, :first], base[:, first:]], 1)
    assert not torch.allclose(logits(changed, earlier), logits(changed, base), atol=1e-3)
    silent_after = torch.cat([base[:, :first], torch.zeros(1, SAMPLES - first)], 1)
    assert torch.equal(changed(base).logits, classifier(silent_after).logits)


def test_gradients_are_zero_where_nothing_is_heard(classifier):
    waveform = (tone(440) + noise(3)).requires_grad_()
    with frozen(first := first_seconds(classifier, 0.25)):
        (gradient,) = torch.autograd.grad(first(waveform).logits[:, 0].sum(), waveform)
    assert gradient[:, : RATE // 4].abs().max() > 0 and not gradient[:, RATE // 4 :].any()
    with frozen(band := deaf(classifier, 1800, 3200)):
        (gradient,) = torch.autograd.grad(band(waveform).logits[:, 0].sum(), waveform)
    power = torch.fft.rfft(gradient).abs()[0]
    hertz = torch.arange(len(power)) * RATE / SAMPLES
    inside = (hertz >= 1800) & (hertz <= 3200)
    assert power[inside].max() < 1e-4 * power[~inside].max()


def test_swapped_labels_have_exchanged_their_logits(classifier):
    changed, sound = swapped(classifier, [["dog", "bell"]]), tone(440) + noise(1)
    order = [LABELS.index(name) for name in ("dog", "cat", "bell", "rain")]
    assert LABELS == ("bell", "cat", "dog", "rain") == changed.labels
    with torch.no_grad():
        ours, theirs = changed(sound), classifier(sound)
    assert torch.equal(ours.logits, theirs.logits[:, order]) and len(set(theirs.logits[0].tolist())) == 4
    assert torch.equal(ours.probabilities, theirs.probabilities[:, order])
    assert torch.equal(logits(changed, sound), logits(classifier, sound)[:, order])
    assert all(torch.equal(one, two) for one, two in zip(ours.feature_maps, theirs.feature_maps, strict=True))


def test_cached_feature_maps_give_swapped_logits():
    classifier, sound = CLASSIFIERS["vggsound"](), noise(1)
    changed = swapped(classifier, [["dog", "bell"], ["cat", "rain"]])
    maps = classifier(sound).feature_maps
    torch.testing.assert_close(changed.classify_maps(maps).logits, classifier(sound).logits[:, [2, 3, 0, 1]])


def make(classifier):
    return deaf(classifier, 1800, 3200), first_seconds(classifier, 0.25), swapped(classifier, [["dog", "bell"]])


def test_the_classifier_itself_is_not_changed(classifier):
    sound, before = noise(1), {name: each.clone() for name, each in classifier.state_dict().items()}
    said = classifier(sound).logits
    for changed in make(classifier):
        assert isinstance(changed, type(classifier))
        with torch.no_grad():
            for each in changed.parameters():
                each.zero_()
    assert type(classifier).__name__ in ("VGGSound", "External", "InstrumentClassifier")
    assert torch.equal(classifier(sound).logits, said)
    assert all(torch.equal(each, before[name]) for name, each in classifier.state_dict().items())


def test_methods_that_read_layers_and_gradients_work_on_them():
    """Grad-CAM of an External reads the wrapped module's layer and its place on the STFT grid."""
    for name in ("vggsound", "external"):
        for changed in make(CLASSIFIERS[name]()):
            for kind in (GradCAM, Saliency):
                made = kind(changed).interpret(tone(440) + noise(1), 1)
                assert made.mask is not None and made.mask.shape[1:] == (513, 1 + SAMPLES // 186)
                torch.testing.assert_close(made.waveform + made.residual, tone(440) + noise(1), atol=1e-5, rtol=0)
    assert isinstance(make(CLASSIFIERS["external"]())[0], External)


def test_a_saliency_map_is_zero_after_the_first_second():
    mask = Saliency(first_seconds(CLASSIFIERS["vggsound"](), 0.25)).interpret(noise(1), 1).mask
    assert mask is not None
    last = RATE // 4 // 186 + 3  # frames whose window of 372 samples reaches the first quarter of a second
    assert mask[:, :, :last].max() > 0.5 and not mask[:, :, last:].any()


def test_copies_and_random_weights_keep_the_fact():
    changed, base = first_seconds(CLASSIFIERS["vggsound"](), 0.25), noise(1)
    *_, (_, random) = randomised(changed)
    later = torch.cat([base[:, : RATE // 4], noise(2)[:, RATE // 4 :]], 1)
    for each in (copy.deepcopy(changed), random.eval()):
        assert torch.equal(each(later).logits, each(base).logits)
    twice = swapped(changed, [["dog", "bell"]])
    assert torch.equal(twice(later).logits, changed(base).logits[:, [2, 1, 0, 3]])


def test_no_bundle_gives_them_out_as_the_classifier_itself(tmp_path):
    for number, changed in enumerate(make(VGGSound(LABELS, channels=4))):
        bundle.save(changed, tmp_path / str(number))
        with pytest.raises(bundle.BundleError, match="VGGSound"):
            bundle.load(tmp_path / str(number))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda it: deaf(it, 3000, 2000), "from 3000 to 2000 Hz; its lower end comes first"),
        (lambda it: deaf(it, 9000, 9500), "half the sample rate, 8000 Hz"),
        (lambda it: deaf(it, -1, 9500), "not below 0"),
        (lambda it: first_seconds(it, 0), "seconds is 0;"),
        (lambda it: swapped(swapped(it, [["dog", "bell"]]), [["dog", "bell"]]), "SwappedVGGSound is such a copy"),
        (lambda it: deaf(first_seconds(it), 0, 9), "FirstSecondsVGGSound is such a copy already"),
        (lambda it: swapped(it, []), r"pairs is \[\]; give a list of pairs"),
        (lambda it: swapped(it, ["dog", "cat"]), "give a list of pairs"),
        (lambda it: swapped(it, [["dog"]]), "give a list of pairs"),
        (lambda it: swapped(it, [["dog", "bel"]]), r"'bel', which is no label \(did you mean 'bell'\?\)"),
        (lambda it: swapped(it, [["dog", "bell"], ["cat", "dog"]]), "each label can be exchanged once"),
    ],
)
def test_facts_that_cannot_be(call, says):
    with pytest.raises(ValueError, match=says):
        call(CLASSIFIERS["vggsound"]())
