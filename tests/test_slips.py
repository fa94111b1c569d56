"""Sounds, targets, labels and models as people first give them: they work, or one line says what to do."""

import numpy as np
import pytest
import torch
from two_tones import RATE, tones, two_bands

import audiointerp
from audiointerp import Waveform
from audiointerp.contracts import as_waveform, label_names, resolve_target
from audiointerp.interpreters import LIME, PIQ, WAM, GradCAM, Loudest, Occlusion, Saliency


@pytest.fixture
def classifier():
    return two_bands()


SOUND = tones(0.5)  # (samples,), "high" to the classifier


# Sounds


def test_a_file_keeps_its_rate(tmp_path, classifier):
    audiointerp.write(tmp_path / "a.wav", torch.randn(44100).mul(0.1), 44100)
    sound = audiointerp.read(tmp_path / "a.wav")
    assert sound.sample_rate == 44100 and sound.shape == (1, 44100)
    assert audiointerp.read(tmp_path / "a.wav", 16000).sample_rate == 16000
    for call in (Loudest(classifier).interpret, Saliency(classifier).interpret, WAM(classifier).interpret, classifier):
        with pytest.raises(ValueError, match=r"is at 44100 Hz, .* takes 16000 Hz; give waveform.resample\(16000\)"):
            call(sound)
    explained = Loudest(classifier).interpret(sound.resample(16000))
    assert explained.waveform.shape == (1, 16000) and type(explained.waveform) is torch.Tensor
    assert torch.equal(sound.resample(16000).plain, audiointerp.read(tmp_path / "a.wav", 16000).plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it[:, 100:200],
        lambda it: it[0],
        lambda it: 0.5 * it - it / 3,
        lambda it: -it.clone().to(torch.float64),
        lambda it: torch.cat([it, it]),
        lambda it: torch.nn.functional.pad(it, (0, 5)),
        lambda it: torch.cat([it, 2 * it]).mean(0, keepdim=True),
    ],
)
def test_what_is_still_sound_keeps_the_rate(change):
    plain = torch.randn(1, 500)
    changed = change(Waveform(plain, 22050))
    assert isinstance(changed, Waveform) and changed.sample_rate == 22050
    assert torch.equal(changed.plain, change(plain))


@pytest.mark.parametrize("change", [lambda it: it[:, ::2], lambda it: it.abs().sum(), torch.fft.rfft])
def test_what_is_no_sound_at_this_rate_loses_it(change):
    plain = torch.randn(1, 500)
    changed = change(Waveform(plain, 22050))
    assert type(changed) is torch.Tensor and torch.equal(changed, change(plain))


def test_sounds_of_two_rates_are_not_put_together():
    with pytest.raises(ValueError, match="waveforms of 16000 and 44100 Hz are put together"):
        torch.cat([Waveform(torch.zeros(1, 9), 44100), Waveform(torch.zeros(1, 9), 16000)])


@pytest.mark.parametrize(
    "given", [SOUND.numpy(), SOUND.double(), SOUND.numpy().astype(np.float64)[None], SOUND, SOUND.tolist()]
)
@pytest.mark.parametrize("method", [Loudest, Saliency, WAM])
def test_arrays_doubles_and_single_clips_are_explained(classifier, given, method):
    expected, made = method(classifier).interpret(SOUND[None], 0), method(classifier).interpret(given, 0)
    assert torch.equal(made.waveform, expected.waveform) and made.waveform.dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((SOUND * 32767).to(torch.int16), "int16 samples divided by 32768"),
        (SOUND.repeat(2, 1).T, "average the channels: waveform.mean"),
        (SOUND.expand(1, 1, -1), r"shape \(1, 1, 8000\); expected \(batch, samples\)"),
        ("my.wav", "'my.wav'; read the file: audiointerp.read"),
        (None, "waveform is NoneType; give a tensor or an array"),
    ],
)
def test_sounds_that_cannot_be(classifier, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        Loudest(classifier).interpret(given)
    assert "\n" not in str(caught.value)


def test_two_channels_are_not_silently_two_clips(classifier, recwarn):
    generator = torch.Generator().manual_seed(0)
    left, right, other = torch.randn(3, 8000, generator=generator)
    stereo = torch.stack([left + 0.5 * right, left - 0.5 * right])  # correlation (1 - 1/4) / (1 + 1/4) = 0.6
    with pytest.warns(UserWarning, match=r"\(2, 8000\) is explained as two clips.*average them: waveform.mean\(0\)"):
        as_waveform(stereo, classifier)
    recwarn.clear()
    as_waveform(torch.stack([left, other]), classifier)  # two sounds
    as_waveform(stereo, classifier, torch.tensor([0, 1]))  # a target for each row: they are meant as clips
    as_waveform(Waveform(stereo, RATE), classifier)  # each row was read as a clip
    as_waveform(left.expand(2, -1), classifier)  # one clip twice
    assert not recwarn.list


# Targets


@pytest.mark.parametrize(
    ("target", "index"), [("low", 0), ("High", 1), (["high"], 1), ([0], 0), (np.int64(1), 1), (np.array([1]), 1)]
)
def test_classes_by_name(classifier, target, index):
    made = Loudest(classifier).interpret(SOUND, target)
    assert made.target.nonzero()[:, 1].tolist() == [index]
    assert WAM(classifier, n_samples=1).interpret(SOUND, target).target.equal(made.target)


def test_a_name_for_each_row(classifier):
    prediction = classifier(SOUND.repeat(2, 1))
    found = resolve_target(["high", "low"], prediction, False, labels=classifier.labels)
    assert found.int().tolist() == [[0, 1], [1, 0]]


def test_a_misspelt_name(classifier):
    with pytest.raises(
        ValueError, match=r"target 'hihg' is not a class \(did you mean 'high'\?\); the classes are low"
    ):
        Loudest(classifier).interpret(SOUND, "hihg")


# Labels and models


def test_id2label_is_read_as_names():
    module = torch.nn.Linear(4, 3)
    wrapped = audiointerp.External(module, {2: "c", 0: "a", 1: "b"}, 16000)
    assert wrapped.labels == ("a", "b", "c") and wrapped(torch.randn(1, 4)).logits.shape == (1, 3)
    for wrong in ({1: "a", 2: "b"}, {"a": 0, "b": 1}, {0: 1}):
        with pytest.raises(ValueError, match="its keys must be the indices 0 to"):
            label_names(wrong)
    with pytest.raises(ValueError, match="labels is the text 'dog'; give a list of class names"):
        audiointerp.External(module, "dog", 16000)


@pytest.mark.parametrize("method", [GradCAM, LIME, Occlusion, WAM, Loudest, PIQ])
def test_a_bare_module_is_told_of_external(method):
    with pytest.raises(ValueError, match=r"Linear is a bare module; wrap it: .*External\(module, labels, sample_rate"):
        method(torch.nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"not a text; load it: .*audiointerp.load\('esc10-piq'\)"):
        method("esc10-piq")


def test_only_a_module_is_wrapped(classifier):
    for wrong in (classifier, len):
        with pytest.raises(ValueError, match=r"External wraps a torch\.nn\.Module"):
            audiointerp.External(wrong, ["a"], 16000)
