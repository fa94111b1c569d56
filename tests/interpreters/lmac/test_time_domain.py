"""LMAC-TD: its basis, its losses written out, what it is told, and tones that it must tell apart."""

import copy
import math

import numpy as np
import pytest
import torch
from cases import LABELS, WITH_FEATURE_MAPS, external, lmac_td, vggsound
from references import lmac_td as literal
from references import mask_losses as formulas
from tone_levels import HIGH, LOW, TwoTones, two_tones
from torch import nn
from torch.nn import functional
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import EfficientAT, External
from audiointerp.interpreters import LMACTD
from audiointerp.interpreters.base import map_layouts
from audiointerp.interpreters.lmac.basis import Basis, real_fourier
from audiointerp.interpreters.lmac.decoder import cell_positions
from audiointerp.interpreters.lmac.dual_path import DualPath
from audiointerp.interpreters.lmac.time_domain import negative_snr
from audiointerp.metrics.separation import si_sdr
from audiointerp.sound.spectrogram import log_magnitude
from audiointerp.training.loop import Trainer, TrainingSettings

TERMS = {"masked_in", "masked_out", "level"}
SMALL = {"width": 4, "fine_width": 4, "kernel": 16, "stride": 8, "channels": 18, "separator": 16, "chunk": 20}


@pytest.fixture(params=WITH_FEATURE_MAPS, ids=str)
def classifier(request):
    return WITH_FEATURE_MAPS[request.param]()


def learned(channels: int, kernel: int, stride: int) -> Basis:
    """A basis as after training: far from Fourier's."""
    torch.manual_seed(0)
    made = Basis(channels, kernel, stride)
    nn.init.normal_(made.directions)
    return made.requires_grad_(False)


# --- the basis


@pytest.mark.parametrize("sizes", [(8, 8, 4), (12, 8, 2), (6, 4, 1), (256, 16, 8), (256, 256, 128)], ids=str)
@pytest.mark.parametrize("samples", [1, 7, 8, 1000, 1001])
def test_all_coefficients_give_back_the_sound(sizes, samples):
    """Whatever was learned, at every length: no frame at an end is lost (defect D12)."""
    basis, waveform = learned(*sizes), noise(2, samples)
    coefficients = basis(waveform)
    assert coefficients.shape == (2, sizes[0], basis.frames(samples))
    torch.testing.assert_close(basis.inverse(coefficients, samples), waveform, atol=2e-6, rtol=0)
    filters = basis.filters()
    torch.testing.assert_close(filters.T @ filters, torch.eye(sizes[1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [(8, 8, 4), (10, 8, 2)], ids=str)
def test_the_basis_frame_by_frame(sizes):
    basis, waveform = learned(*sizes), noise(1, 53)
    coefficients = basis(waveform)
    filters, stride = basis.filters().double().numpy(), sizes[2]
    expected = np.array(literal.encode(waveform[0].tolist(), filters, stride)).T
    np.testing.assert_allclose(coefficients[0].numpy(), expected, atol=1e-5)
    masked = coefficients * torch.rand(coefficients.shape, generator=torch.Generator().manual_seed(1))
    decoded = literal.decode(masked[0].T.tolist(), filters, stride, 53)
    np.testing.assert_allclose(basis.inverse(masked, 53)[0].numpy(), decoded, atol=1e-5)


def test_frames_are_where_their_centres_are():
    """A click comes out strongest in the frame whose centre is nearest to it."""
    basis = learned(16, 16, 4)
    for place in (0, 50, 99):
        click = torch.zeros(1, 100)
        click[0, place] = 1
        loudest = int(basis(click)[0].square().sum(0).argmax())
        assert abs(float(basis.centres(100)[loudest]) - place) <= 2


@pytest.mark.parametrize("size", [2, 7, 16])
def test_the_basis_begins_as_fouriers(size):
    made = real_fourier(size).double()
    torch.testing.assert_close(made @ made.T, torch.eye(size, dtype=torch.float64), atol=1e-6, rtol=0)
    spectra = np.abs(np.fft.rfft(made.numpy(), axis=1))
    assert spectra.argmax(1).tolist() == [math.ceil(row / 2) for row in range(size)]
    torch.testing.assert_close(Basis(size, 2, 1).filters().detach(), made[:, :2].float(), atol=1e-6, rtol=0)


def test_mixed_precision_rounds_the_mask_but_not_the_sound():
    interpreter, waveform = lmac_td(vggsound()), noise()
    whole = interpreter.interpret(waveform, 1)
    with torch.autocast("cpu", torch.bfloat16):
        made = interpreter.interpret(waveform, 1)
        back = interpreter.basis.inverse(interpreter.basis(waveform), SAMPLES)
    assert made.waveform.dtype == made.details["basis_mask"].dtype == torch.float32
    torch.testing.assert_close(back, waveform, atol=2e-6, rtol=0)
    torch.testing.assert_close(made.waveform, whole.waveform, atol=0.05, rtol=0)
    assert not torch.equal(made.waveform, whole.waveform)


# --- the network that makes the mask


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 33])
def test_chunks_are_put_together_as_they_were_cut(frames):
    path = DualPath(16, 6, 2, (1, 1)).eval()
    for each in (*path.along, *path.across):
        nn.init.zeros_(each.norm.weight)  # so that no layer adds anything
    x = torch.randn(2, 16, frames)
    torch.testing.assert_close(path(x), x, atol=1e-6, rtol=0)


def test_every_frame_hears_every_other():
    torch.manual_seed(0)
    path = DualPath(16, 4, 1, (1, 1))
    x = torch.randn(1, 16, 30, requires_grad=True)
    for frame in (0, 13, 29):
        (reach,) = torch.autograd.grad(path(x)[0, :, frame].square().sum(), x)
        assert (reach.abs().sum((0, 1)) > 0).all()


def test_the_first_mask_is_the_decoders_at_each_channels_frequency_and_time(classifier):
    interpreter = LMACTD(classifier, **SMALL | {"alpha": 1.0}).eval()
    waveform = noise(2)
    target = functional.one_hot(torch.tensor([1, 3]), 4).bool()
    with torch.no_grad():
        stft, prediction = classifier.spectrogram(waveform), classifier(waveform)
        coefficients = interpreter.basis(waveform)
        logits = interpreter.mask_logits(prediction, target, stft, coefficients, SAMPLES)
        layouts = map_layouts(classifier)
        positions = [
            cell_positions(classifier, layout, each.shape[3], SAMPLES)
            for layout, each in zip(layouts, prediction.feature_maps)
        ]
        decoded = interpreter.decoder(prediction.feature_maps, positions, torch.tensor([1, 3]), log_magnitude(stft))
    hop, bins = classifier.spectrogram.hop_length, stft.shape[1]
    for channel, frame in ((0, 0), (3, 100), (10, 301), (17, 600)):
        at = min(max((frame * 8 - 8 + 8) / hop, 0), stft.shape[2] - 1)
        bin_ = math.ceil(channel / 2) / 18 * 2 * (bins - 1)
        for row in range(2):
            by_time = [np.interp(at, np.arange(stft.shape[2]), each) for each in decoded[row].numpy()]
            expected = np.interp(bin_, np.arange(bins), by_time)
            assert float(logits[row, channel, frame]) == pytest.approx(expected, abs=1e-3)


def test_alpha_decides_between_maps_and_sound():
    """With alpha 1, another sound with the same maps has the same mask."""
    classifier, waveform = vggsound(), noise(1)
    target = functional.one_hot(torch.tensor([1]), 4).bool()
    differ = []
    for alpha in (0.5, 1.0):
        interpreter = lmac_td(classifier, alpha=alpha)
        with torch.no_grad():
            stft, prediction = classifier.spectrogram(waveform), classifier(waveform)
            masks = [
                interpreter.mask_logits(prediction, target, stft, interpreter.basis(each), SAMPLES)
                for each in (waveform, waveform.flip(1))
            ]
        differ.append(float((masks[0] - masks[1]).abs().max()))
    assert differ[0] > 0.1 and differ[1] == 0


# --- losses


def test_losses_written_out(classifier):
    interpreter, waveform = lmac_td(classifier, condition="label", stems=True), noise()
    stem = 0.5 * waveform.roll(1, 0)
    label = torch.tensor([2, 0, 1])
    losses = interpreter.losses(batch_of(waveform, label, stem=stem))
    assert set(losses) == TERMS | {"stems"}
    made = interpreter.interpret(waveform, label)
    with torch.no_grad():
        kept, left = classifier(made.waveform).logits, classifier(waveform - made.waveform).logits
    level = classifier.spectrogram(made.waveform).abs().numpy()
    snr = [literal.negative_snr(y, s) for y, s in zip(made.waveform.tolist(), stem.tolist())]
    expected = {
        "masked_in": formulas.masked_in(kept, made.target, classifier.multilabel),
        "masked_out": formulas.masked_out(left, made.target, classifier.multilabel),
        "level": literal.mean_level(level),
        "stems": sum(snr) / 3,
    }
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=1e-3), name


def test_a_batch_of_copies_has_the_losses_of_one():
    """Defect D21: no term is a sum over the batch."""
    interpreter, one = lmac_td(vggsound(), condition="predicted", stems=True), noise(1)
    label = vggsound()(one).predicted
    alone = interpreter.losses(batch_of(one, label, stem=one / 2))
    many = interpreter.losses(batch_of(one.repeat(6, 1), label.repeat(6), stem=one.repeat(6, 1) / 2))
    for name, value in alone.items():
        torch.testing.assert_close(many[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_a_stem_counts_only_where_its_class_is_explained():
    classifier, waveform = vggsound(), noise(2)
    predicted = classifier(waveform).predicted
    interpreter = lmac_td(classifier, condition="predicted", stems=True)
    stem = waveform / 2
    both = interpreter.losses(batch_of(waveform, predicted, stem=stem))["stems"]
    first = torch.stack([predicted[0], (predicted[1] + 1) % 4])
    one = interpreter.losses(batch_of(waveform, first, stem=stem))["stems"]
    kept = interpreter.interpret(waveform).waveform
    expected = [literal.negative_snr(y, s) for y, s in zip(kept.tolist(), stem.tolist())]
    assert float(both.detach()) == pytest.approx(sum(expected) / 2, rel=1e-3)
    assert float(one.detach()) == pytest.approx(expected[0] / 2, rel=1e-3)
    assert interpreter.losses(batch_of(waveform, (predicted + 1) % 4, stem=stem))["stems"] == 0
    with pytest.raises(ValueError, match="needs known stems"):
        interpreter.losses(batch_of(waveform))


def test_negative_snr_against_si_sdr():
    """Of an estimate at the stem's level with an error at right angles, SNR and SI-SDR are the same far below 10 dB."""
    stem = noise(3, 500)
    error = noise(4, 500)[3:].expand(3, -1)
    error = error - (error * stem).sum(1, keepdim=True) / stem.square().sum(1, keepdim=True) * stem
    error = error * (stem.norm(dim=1) / error.norm(dim=1))[:, None]
    estimate = stem + 10 * error
    torch.testing.assert_close(-negative_snr(estimate, stem).double(), si_sdr(estimate, stem), atol=0.01, rtol=0)
    assert si_sdr(estimate, stem).tolist() == pytest.approx([-20.0] * 3, abs=1e-3)
    assert negative_snr(stem, stem).tolist() == pytest.approx([-10.0] * 3, abs=1e-3)
    # Unlike SI-SDR, it asks for the level; silence is no stem.
    assert negative_snr(0.5 * stem, stem)[0] == pytest.approx(10 * math.log10(0.25 + 0.1), abs=1e-3)
    assert negative_snr(stem, torch.zeros_like(stem)).tolist() == [0, 0, 0]


def test_training_needs_no_labels(classifier):
    interpreter, waveform, given = lmac_td(classifier), noise(), []
    for label in (0, 3):
        torch.manual_seed(1)
        given.append(interpreter.losses(batch_of(waveform, torch.full((3,), label))))
    assert all(torch.equal(given[0][name], given[1][name]) for name in TERMS)


# --- what the classifier has to do with it


def test_the_classifier_is_not_changed_by_training(classifier):
    before = copy.deepcopy(dict(classifier.state_dict()))
    interpreter = lmac_td(classifier, stems=True, condition="label").train()
    own = copy.deepcopy(dict(interpreter.state_dict()))
    optimizer = torch.optim.AdamW(interpreter.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(interpreter.losses(batch_of(noise(), stem=noise() / 2)).values()).backward()
        optimizer.step()
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)  # running statistics included
    assert all(each.grad is None and each.requires_grad for each in classifier.parameters())
    unchanged = [name for name, each in interpreter.named_parameters() if torch.equal(each, own[name])]
    assert unchanged == [] and not any("classifier" in name for name in interpreter.state_dict())
    assert set(map(id, interpreter.parameter_groups()["interpreter"])) == set(map(id, interpreter.parameters()))
    # What was learned is still a basis: nothing of the sound is lost.
    waveform = noise()
    torch.testing.assert_close(
        interpreter.basis.inverse(interpreter.basis(waveform), SAMPLES), waveform, atol=1e-5, rtol=0
    )


def test_scores_are_of_the_sounds(classifier):
    interpreter, waveform = lmac_td(classifier), noise()
    scores, made = interpreter.scores(batch_of(waveform)), interpreter.interpret(waveform)
    with torch.no_grad():
        kept, left = classifier(made.waveform), classifier(made.residual)
    target = made.target.float()
    right = [bool(made.target[row, kept.logits[row].argmax()]) for row in range(3)]
    assert scores["fidelity"].tolist() == [float(each) for each in right]
    fall = (made.prediction.probabilities - left.probabilities) * target
    torch.testing.assert_close(scores["faithfulness"], fall.sum(1) / target.sum(1), atol=1e-4, rtol=1e-3)
    assert scores["mean_mask"].tolist() == pytest.approx([float(each.mean()) for each in made.details["basis_mask"]])


def test_several_targets_are_the_largest_of_their_masks(classifier):
    interpreter = lmac_td(classifier)
    masks = [interpreter.interpret(noise(), label).details["basis_mask"] for label in range(4)]
    wanted = torch.tensor([[True, False, True, False], [False, True, False, False], [True] * 4])
    found = interpreter.interpret(noise(), wanted).details["basis_mask"]
    expected = [torch.maximum(masks[0][0], masks[2][0]), masks[1][1], torch.stack(masks)[:, 2].amax(0)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_the_papers_own_is_not_told_the_class():
    interpreter = lmac_td(vggsound(), conditional=False)
    made = [interpreter.interpret(noise(), label).waveform for label in (0, 2)]
    assert torch.equal(*made)
    with torch.no_grad():
        predicted = vggsound()(noise()).predicted
    assert torch.equal(interpreter.interpret(noise()).target.nonzero()[:, 1], predicted)


def test_a_published_network_at_another_rate():
    """EfficientAT at 32 kHz: mel rows, four maps of different heights; untrained, as only the wiring is in question."""
    torch.manual_seed(0)
    classifier = EfficientAT(0.1)
    interpreter, waveform = LMACTD(classifier, **SMALL), noise(2, classifier.sample_rate // 2)
    sum(interpreter.train().losses(batch_of(waveform)).values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in interpreter.parameters() if each.grad is not None)
    made = interpreter.eval().interpret(waveform[:1, :7001], 3)
    torch.testing.assert_close(made.waveform + made.residual, waveform[:1, :7001], atol=1e-6, rtol=0)


def test_size_at_the_recipes_settings():
    with torch.device("meta"):
        size = sum(each.numel() for each in LMACTD(vggsound()).parameters())
    assert size < 1_000_000


# --- resuming, bundles and refusals


@pytest.mark.slow
def test_a_run_that_is_stopped_at_any_step_ends_alike(tmp_path):
    batches = [batch_of(noise(4, 1600 + 186 * step)) for step in range(3)]

    def trainer(folder):
        torch.manual_seed(3)
        made = LMACTD(vggsound(), least=0.0, **SMALL)
        settings = TrainingSettings(epochs=2, lr=0.01, seed=5, checkpoint_minutes=0.0)
        return made, Trainer(made, folder, settings, len(batches))

    whole, loop = trainer(tmp_path / "whole")
    loop.fit(lambda epoch: batches)
    for stop_at in (1, 4):
        folder, seen = tmp_path / str(stop_at), []

        def fail(batch, generator, seen=seen, stop_at=stop_at):
            seen.append(batch)
            if len(seen) > stop_at:
                raise InterruptedError("killed")
            return batch

        with pytest.raises(InterruptedError):
            trainer(folder)[1].fit(lambda epoch: batches, augment=fail)
        resumed, loop = trainer(folder)
        torch.rand(stop_at)
        loop.fit(lambda epoch: batches)
        torch.testing.assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{}, {"conditional": False, "layers": [-1], "depth": (2, 1)}], ids=str)
def test_a_bundle_gives_the_same_sounds(classifier, settings, tmp_path):
    interpreter = lmac_td(classifier, stems=True, **settings)
    bundle.save(interpreter, tmp_path / "bundle")
    again = bundle.load(tmp_path / "bundle", None if classifier.config else classifier)
    expected = interpreter.interpret(noise(), 2).waveform
    torch.testing.assert_close(again.interpret(noise(), 2).waveform, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: LMACTD(vggsound(), layers=[5]), "reads feature map 5 of the classifier, which gives 5"),
        (lambda: LMACTD(External(nn.Sequential(nn.AdaptiveAvgPool1d(4)), LABELS, 16000)), "gives 0; name its layers"),
        (lambda: LMACTD(vggsound(), condition="any"), "LMACTD has no 'any'; choose from"),
        (lambda: LMACTD(vggsound(), alpha=0.0), "an alpha above 0"),
        (lambda: LMACTD(vggsound(), likeliest=0), "at least 1"),
        (lambda: LMACTD(vggsound(), kernel=16, stride=12), "has no exact inverse"),
        (lambda: LMACTD(vggsound(), kernel=16, stride=16), "has no exact inverse"),
        (lambda: LMACTD(vggsound(), kernel=512), "at least as many channels"),
        (lambda: LMACTD(vggsound(), separator=24), "multiple of 16"),
        (lambda: LMACTD(vggsound(), chunk=5), "an even number"),
        (lambda: LMACTD(vggsound(), depth=(1, 0)), "two numbers from 1"),
        (lambda: LMACTD(vggsound(), depth=(1,)), "two numbers from 1"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_classifier_without_gradient_cannot_be_trained_on():
    classifier = external()
    interpreter = lmac_td(classifier)
    classifier.no_gradient = "it calls numpy"
    assert interpreter.interpret(noise()).waveform is not None
    with pytest.raises(ValueError, match="it calls numpy"):
        interpreter.losses(batch_of(noise()))


def test_one_silent_clip_trains():
    interpreter = lmac_td(vggsound(), stems=True, condition="label").train()
    silent = torch.zeros(1, 3200)
    sum(interpreter.losses(batch_of(silent, stem=silent)).values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in interpreter.parameters())


# --- known answer


def trained_on_tones(batches, weights, **settings) -> LMACTD:
    """LMAC-TD after 120 steps, with weighted terms, on batches for which `TwoTones` has an answer."""
    torch.manual_seed(0)
    made = LMACTD(TwoTones(), width=8, fine_width=8, separator=16, chunk=10, **settings).train()
    optimizer = torch.optim.Adam(made.parameters(), 0.01)
    for step in range(120):
        losses = made.losses(batches[step % len(batches)])
        loss = sum(weight * losses[name] for name, weight in weights.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made


@pytest.mark.slow
def test_the_sound_kept_is_the_tone_that_speaks_for_the_class():
    generator = torch.Generator().manual_seed(0)
    batches = [two_tones(4, generator) for _ in range(4)]
    weights = {"masked_in": 4.0, "masked_out": 1.0, "level": 1.0}
    interpreter = trained_on_tones(batches, weights, least=0.0)  # both classes in turn
    waveform, classifier = two_tones(8, generator).waveform, interpreter.classifier
    for label, (own, other) in enumerate([(LOW, HIGH), (HIGH, LOW)]):
        made = interpreter.interpret(waveform, label)
        whole, kept = (classifier.spectrogram(each).abs()[:, :, 3:-3].mean(2) for each in (waveform, made.waveform))
        assert (kept[:, own] > 0.7 * whole[:, own]).all() and (kept[:, other] < 0.3 * whole[:, other]).all()
        with torch.no_grad():
            heard, rest = (classifier(each).probabilities for each in (made.waveform, made.residual))
        assert (heard[:, label] > 0.8).all() and (heard[:, 1 - label] < 0.2).all()
        assert (rest[:, label] < 0.2).all() and (rest[:, 1 - label] > 0.8).all()


@pytest.mark.slow
def test_stems_alone_teach_which_tone_is_asked_for():
    """Of the two tones, the one of the label is known in training; both are found in new clips."""
    generator = torch.Generator().manual_seed(0)
    time, batches = torch.arange(3720) / 16000, []
    for _ in range(5):
        phase, level = torch.rand(2, 4, 1, generator=generator), 0.25 + 0.25 * torch.rand(2, 4, 1, generator=generator)
        hertz = torch.tensor([LOW, HIGH])[:, None, None] * 15.625
        tones = level * torch.sin(2 * torch.pi * (hertz * time + phase))
        label = torch.tensor([0, 1, 0, 1])
        batches.append(batch_of(tones.sum(0), label, stem=tones[label, torch.arange(4)]))
    interpreter, new = trained_on_tones(batches[:4], {"stems": 0.1}, condition="label", stems=True), batches[4]
    made = interpreter.interpret(new.waveform, new.label)
    gained = si_sdr(made.waveform, new.stem) - si_sdr(new.waveform, new.stem)
    assert (gained > 8).all(), gained
    swapped = interpreter.interpret(new.waveform, 1 - new.label)
    gained = si_sdr(swapped.waveform, new.waveform - new.stem) - si_sdr(new.waveform, new.waveform - new.stem)
    assert (gained > 8).all(), gained
