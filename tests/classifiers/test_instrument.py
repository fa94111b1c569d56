"""The instrument classifier: size, what it reads, odd clips, bundles, and that it learns from each of its inputs."""

import math

import pytest
import torch
from torch import nn

from audiointerp.bundles import bundle
from audiointerp.classifiers import InstrumentClassifier, Supervised
from audiointerp.contracts import Batch
from audiointerp.sound.logfrequency import LogFrequency
from audiointerp.sound.spectrogram import STFT

LABELS = ("flute", "organ", "string")


def instrument(**arguments) -> InstrumentClassifier:
    """A tiny one, whose batch norms have seen something, so that its logits differ."""
    torch.manual_seed(0)
    made = InstrumentClassifier(LABELS, **({"bands": 64, "channels": 4} | arguments))
    made.log_frequency.n_fft = 4096  # short clips, quick tests
    for _ in range(3):
        made.classify(made.features(noise(8)))
    return made.eval()


def noise(batch=2, samples=2000, seed=0):
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def test_size_and_shapes():
    default = InstrumentClassifier(LABELS)
    kernels = 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 256)
    assert sum(each.numel() for each in default.encoder.parameters()) == kernels + 2 * (32 + 64 + 128 + 256 + 256)
    assert sum(each.numel() for each in default.head.parameters()) == 256 * 3 + 3
    prediction = InstrumentClassifier(LABELS, channels=4)(noise(2, 16000))
    assert prediction.logits.shape == (2, 3) and prediction.embedding.shape == (2, 32)
    assert prediction.feature_maps == ()
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(2))


def test_written_out():
    classifier = instrument()
    x = features = classifier.features(noise())
    for stage in classifier.encoder.stages:
        conv, norm, relu = stage
        assert (conv.kernel_size, conv.stride, type(relu)) == ((9,), (2,), nn.ReLU)
        x = norm(nn.functional.conv1d(nn.functional.pad(x, (4, 4)), conv.weight, stride=2)).clamp(min=0)
    assert x.shape == (2, 32, 2)  # of 64 bands, halved five times
    pooled = x.mean(2)
    prediction = classifier.classify(features)
    torch.testing.assert_close(prediction.embedding, pooled)
    torch.testing.assert_close(prediction.logits, pooled @ classifier.head[1].weight.T + classifier.head[1].bias)


def test_features_are_those_of_the_front_end_and_levels_do_not_matter():
    classifier = InstrumentClassifier(LABELS, bands=64, channels=4).eval()
    assert torch.equal(classifier.features(noise()), LogFrequency(bands=64)(noise()))
    torch.testing.assert_close(classifier(0.01 * noise()).logits, classifier(noise()).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("reads, blind", [("magnitude", [1, 2]), ("phase", [0]), ("both", [])])
@pytest.mark.parametrize("training", [False, True])
def test_what_is_not_read_changes_nothing(reads, blind, training):
    classifier = instrument(reads=reads, dropout=0.0).train(training)
    features = torch.randn(4, 3, 64, requires_grad=True)
    logits = classifier.classify(features).logits
    (gradient,) = torch.autograd.grad(logits.square().sum(), features)
    for channel in range(3):
        other = features.detach().clone()
        other[:, channel] = torch.randn(4, 64)
        same = torch.equal(classifier.classify(other).logits, logits)
        assert same == (channel in blind)
        assert gradient[:, channel].any() == (channel not in blind)


@pytest.mark.parametrize("clip", [torch.zeros(1, 2000), noise(1, 100), torch.zeros(1, 1), noise(1, 9000)], ids=len)
def test_odd_clips(clip):
    clip = clip.clone().requires_grad_()
    prediction = instrument()(clip)
    assert prediction.logits.isfinite().all()
    prediction.logits.sum().backward()
    assert clip.grad is not None and clip.grad.isfinite().all()


@pytest.mark.parametrize("bands", [2, 5, 31, 512])
def test_any_number_of_bands(bands):
    assert instrument(bands=bands)(noise()).logits.isfinite().all()


def test_a_masked_spectrogram_is_judged_through_the_inverse_stft():
    classifier = instrument()
    stft = classifier.spectrogram(noise())
    torch.testing.assert_close(
        classifier.classify_stft(stft, 2000).logits, classifier(noise()).logits, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    "arguments", [{}, {"reads": "phase", "multilabel": True, "dropout": 0.0, "bands": 33}], ids=str
)
def test_bundle_round_trip(tmp_path, arguments):
    classifier = InstrumentClassifier(LABELS, STFT(8000), **({"bands": 64, "channels": 4} | arguments)).train()
    classifier(noise(4, 4000))  # moves the batch norms' statistics
    again = bundle.load(bundle.save(classifier, tmp_path / "mine"))
    assert isinstance(again, InstrumentClassifier) and not again.training
    assert (again.labels, again.config, again.sample_rate) == (LABELS, classifier.config, 8000)
    assert again.log_frequency.config == classifier.log_frequency.config
    assert again.log_frequency.config["high"] == 4000  # half the rate
    assert torch.equal(again(noise()).logits, classifier.eval()(noise()).logits)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_training_step_with_features_computed_before(rows):
    classifier = instrument(bands=16).train()
    waveform = noise(rows)
    features = classifier.features(waveform)
    batch = Batch(waveform[:, :0], torch.arange(rows), torch.arange(rows), features=features)
    loss = Supervised(classifier).losses(batch)["classification"]
    loss.backward()
    assert loss.isfinite() and classifier.training
    assert all(each.grad is not None and each.grad.isfinite().all() for each in classifier.parameters())


def planted(rows, by, seed):
    """Features of two classes that differ in one band's level, or in how the phases of neighbours relate."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(rows) % 2
    level = torch.rand(rows, 64, generator=generator)
    phase = 2 * math.pi * torch.rand(rows, 1, generator=generator)
    turn = math.pi * torch.rand(rows, 64, generator=generator)
    if by == "magnitude":
        level[label == 1, 20] += 3
    else:
        turn = torch.where(label[:, None] == 1, 0.3, turn)
    angle = phase + turn.cumsum(1)
    return torch.stack([level, angle.cos(), angle.sin()], 1), label


@pytest.mark.parametrize("by", ["magnitude", "phase"])
@pytest.mark.parametrize("reads", ["both", "magnitude", "phase"])
def test_learns_what_it_reads_and_nothing_else(by, reads):
    classifier = instrument(reads=reads)
    training = Supervised(classifier.train())
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-2)
    features, label = planted(128, by, seed=1)
    batch = Batch(torch.zeros(128, 0), label, torch.arange(128), features=features)
    for _ in range(20):
        optimizer.zero_grad()
        training.losses(batch)["classification"].backward()
        optimizer.step()
    unseen, truth = planted(200, by, seed=2)
    accuracy = (classifier.eval().classify(unseen).predicted == truth).float().mean()
    if reads in ("both", by):
        assert accuracy > 0.85
    else:
        assert accuracy < 0.65


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"labels": []}, r"labels is \[\]; give a list of class names"),
        ({"labels": "flute"}, "labels is 'flute'; give a list"),
        ({"channels": 0}, "channels is 0"),
        ({"reads": "pitch"}, "reads is 'pitch'; choose one of 'both', 'magnitude', 'phase'"),
        ({"bands": 1}, "bands is 1"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        InstrumentClassifier(**({"labels": LABELS} | arguments))


def test_features_of_another_axis_are_refused():
    with pytest.raises(ValueError, match=r"features have shape \(2, 3, 32\); this classifier reads \(batch, 3, 64\)"):
        instrument().classify(torch.zeros(2, 3, 32))
