"""L-MAC: its losses, its decoder's grid, what it is told, and a classifier that listens to one band."""

import copy
import math

import pytest
import torch
from cases import LABELS, WITH_FEATURE_MAPS, external, lmac, vggsound
from references import mask_losses as formulas
from tone_levels import HIGH, LOW, TwoTones, two_tones
from torch import nn
from torch.nn import functional
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import CNN14, EfficientAT, External, VGGSound
from audiointerp.contracts import frozen
from audiointerp.interpreters import LMAC
from audiointerp.interpreters.base import MapLayout, map_layouts
from audiointerp.interpreters.lmac import Guidance
from audiointerp.interpreters.lmac.decoder import MaskDecoder, cell_positions
from audiointerp.interpreters.lmac.targets import draw_likeliest
from audiointerp.interpreters.mask_losses import reconstruction
from audiointerp.sound.masking import StemMask
from audiointerp.training.loop import Trainer, TrainingSettings

TERMS = {"masked_in", "masked_out", "area", "tv"}


@pytest.fixture(params=WITH_FEATURE_MAPS, ids=str)
def classifier(request):
    return WITH_FEATURE_MAPS[request.param]()


# --- losses


@pytest.mark.parametrize("domain", ["log_magnitude", "magnitude"])
def test_losses_written_out(classifier, domain):
    interpreter = lmac(classifier, domain=domain, condition="predicted")
    waveform = noise()
    losses = interpreter.losses(batch_of(waveform))
    assert set(losses) == TERMS
    made = interpreter.interpret(waveform)
    stft = classifier.spectrogram(waveform)
    parts = []
    with torch.no_grad():
        for mask in (made.mask, 1 - made.mask):
            level = mask * stft.abs() if domain == "magnitude" else (1 + stft.abs()) ** mask - 1
            parts.append(classifier.classify_stft(torch.polar(level, stft.angle()), SAMPLES).logits)
    multilabel = classifier.multilabel
    expected = {
        "masked_in": formulas.masked_in(parts[0], made.target, multilabel),
        "masked_out": formulas.masked_out(parts[1], made.target, multilabel),
        "area": formulas.mean_area(made.mask, [True] * 3),
        "tv": formulas.total_variation(made.mask, [True] * 3, 2),
    }
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=1e-3), name


def test_a_batch_of_copies_has_the_losses_of_one():
    """Defect D21: no term is a sum over the batch."""
    interpreter, one = lmac(vggsound(), guidance=Guidance(0.0), condition="predicted"), noise(1)
    alone, many = interpreter.losses(batch_of(one)), interpreter.losses(batch_of(one.repeat(6, 1)))
    for name, value in alone.items():
        torch.testing.assert_close(many[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_guided_clips_lose_area_and_variation():
    classifier = vggsound()
    waveform = noise()
    plain = lmac(classifier, condition="predicted").losses(batch_of(waveform))
    never = lmac(classifier, guidance=Guidance(similar=1.0), condition="predicted").losses(batch_of(waveform))
    assert set(never) == TERMS | {"guidance"} and never["guidance"] == 0
    torch.testing.assert_close(never["area"], plain["area"])
    # A whole clip is the sound of the predicted class only.
    other = lmac(classifier, guidance=Guidance(similar=0.0), condition="label")
    told = other.losses(batch_of(waveform, (classifier(waveform).predicted + 1) % 4))
    assert told["guidance"] == 0 and told["area"] > 0
    always = lmac(classifier, guidance=Guidance(similar=0.0), condition="predicted")
    losses = always.losses(batch_of(waveform))
    assert losses["area"] == 0 and losses["tv"] == 0
    with torch.no_grad():
        stft, prediction = classifier.spectrogram(waveform), classifier(waveform)
        target = functional.one_hot(prediction.predicted, 4).bool()
        logits = always.mask_logits(prediction, target, stft, SAMPLES)
    expected = formulas.guidance(logits, stft, [True] * 3, 0.35)
    assert float(losses["guidance"].detach()) == pytest.approx(expected, rel=1e-3)


def test_a_stem_counts_only_where_its_class_is_explained():
    classifier = vggsound()
    waveform = noise(2)
    stem = 0.5 * waveform.roll(1, 0) * torch.linspace(0, 1, SAMPLES)
    predicted = classifier(waveform).predicted
    label = torch.stack([predicted[0], (predicted[1] + 1) % 4])  # the second stem is of a class that is not explained
    settings = {"condition": "predicted", "target_mask": StemMask(), "guidance": Guidance(similar=0.0)}
    interpreter = lmac(classifier, **settings)
    losses = interpreter.losses(batch_of(waveform, label, stem=stem))
    assert set(losses) == TERMS | {"guidance", "stems"}
    with torch.no_grad():
        stft, part = classifier.spectrogram(waveform), classifier.spectrogram(stem)
        target = functional.one_hot(predicted, 4).bool()
        logits = interpreter.mask_logits(classifier(waveform), target, stft, SAMPLES)
        goal = part.abs() / (part.abs() + (stft - part).abs()).clamp(min=1e-8)
        one = reconstruction(logits[:1], goal[:1], stft[:1], "weighted_bce")
    torch.testing.assert_close(losses["stems"].detach(), one / 2)  # mean over both clips
    assert float(losses["guidance"].detach()) == pytest.approx(
        formulas.guidance(logits, part, [True, False], 0.35), rel=1e-3
    )
    elsewhere = interpreter.losses(batch_of(waveform, (predicted + 1) % 4, stem=stem))
    assert elsewhere["stems"] == 0 and elsewhere["guidance"] == 0
    with pytest.raises(ValueError, match="needs known stems"):
        interpreter.losses(batch_of(waveform))


def test_classes_are_drawn_from_the_likeliest():
    torch.manual_seed(0)
    probabilities = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.97, 0.01, 0.01, 0.01], [0.02, 0.01, 0.01, 0.0]])
    drawn = torch.stack([draw_likeliest(probabilities, 2, 0.05) for _ in range(400)]).float()
    assert (drawn.sum(2) == 1).all()
    share = drawn.mean(0)
    assert share[0, :2].tolist() == pytest.approx([0.5, 0.5], abs=0.1) and share[0, 2:].sum() == 0
    assert share[1].tolist() == [1, 0, 0, 0]  # the second class is not heard
    assert share[2].tolist() == [1, 0, 0, 0]  # nothing is probable: the first


def test_training_needs_no_labels(classifier):
    interpreter = lmac(classifier)
    waveform = noise()
    given = []
    for label in (0, 3):
        torch.manual_seed(1)
        given.append(interpreter.losses(batch_of(waveform, torch.full((3,), label))))
    assert all(torch.equal(given[0][name], given[1][name]) for name in TERMS)


def test_condition_decides_which_class_is_explained(classifier):
    waveform = noise()
    with torch.no_grad():
        prediction = classifier(waveform)
    predicted = functional.one_hot(prediction.predicted, 4).bool()
    of_label = lmac(classifier, condition="label")
    sets = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0]])
    assert torch.equal(of_label.training_target(batch_of(waveform, sets), prediction), sets.bool())
    asked = of_label.training_target(batch_of(waveform, torch.tensor([2, 0, 1])), prediction)
    assert asked.nonzero()[:, 1].tolist() == [2, 0, 1]
    paper = lmac(classifier, conditional=False)
    found = paper.training_target(batch_of(waveform), prediction)
    assert (found & predicted).any(1).all() and (classifier.multilabel or torch.equal(found, predicted))


# --- what the classifier has to do with it


def test_the_classifier_is_not_changed_by_training(classifier):
    before = copy.deepcopy(dict(classifier.state_dict()))
    interpreter = lmac(classifier, guidance=Guidance(0.1)).train()
    own = copy.deepcopy(dict(interpreter.state_dict()))
    optimizer = torch.optim.AdamW(interpreter.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(interpreter.losses(batch_of(noise())).values()).backward()
        optimizer.step()
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)  # running statistics included
    assert all(each.grad is None and each.requires_grad for each in classifier.parameters())
    assert all(each.grad is not None for each in interpreter.parameters())
    unchanged = [name for name, each in interpreter.named_parameters() if torch.equal(each, own[name])]
    assert unchanged == [] and not any("classifier" in name for name in interpreter.state_dict())
    assert set(map(id, interpreter.parameter_groups()["interpreter"])) == set(map(id, interpreter.parameters()))


def test_steps_on_the_masked_terms_lower_them(classifier):
    """The gradient passes through the classifier's front end, for External through the inverse STFT."""
    torch.manual_seed(0)
    interpreter = LMAC(classifier, width=4, fine_width=4, condition="predicted").train()
    batch = batch_of(noise())
    optimizer = torch.optim.Adam(interpreter.parameters(), 0.02)
    values = []
    for _ in range(12):
        losses = interpreter.losses(batch)
        loss = losses["masked_in"] + losses["masked_out"]
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < values[0] - 1e-3, values


def test_cached_feature_maps_save_a_pass():
    classifier = vggsound()
    interpreter, batch = lmac(classifier, condition="predicted"), batch_of(noise())
    expected = interpreter.losses(batch)
    with torch.no_grad():
        maps = classifier(batch.waveform).feature_maps
    passes = []
    hook = classifier.encoder.register_forward_hook(lambda module, inputs, outputs: passes.append(len(inputs[0])))
    cached = interpreter.losses(batch.replace(feature_maps=maps))
    hook.remove()
    assert passes == [2 * len(batch)]  # the kept and the left part of each clip, in one pass
    for name, value in expected.items():
        torch.testing.assert_close(cached[name], value)


# --- the decoder's grid


@pytest.mark.parametrize("build", [EfficientAT, CNN14], ids=["efficientat", "cnn14"])
def test_published_networks_give_a_mask_and_a_gradient(build):
    """Mel rows, other sample rates, 4 maps of different heights; untrained, as only the wiring is in question."""
    torch.manual_seed(0)
    classifier = EfficientAT(0.1) if build is EfficientAT else CNN14(channels=2, sample_rate=16000)
    interpreter = LMAC(classifier, width=4, fine_width=4)
    assert interpreter.decoder.start == 32 and sum(each.numel() for each in interpreter.parameters()) < 50_000
    waveform = noise(2, classifier.sample_rate)
    losses = interpreter.train().losses(batch_of(waveform))
    sum(losses.values()).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in interpreter.parameters())
    made = interpreter.eval().interpret(waveform[:1, :7000], 3)
    assert made.mask.shape == classifier.spectrogram(waveform[:1, :7000]).shape
    # Nothing else than the mask's own gradient makes the decoder learn what to keep.
    assert float(losses["masked_in"].detach()) > 0 and losses["masked_in"].requires_grad


def test_size_at_the_shipped_and_the_papers_width():
    with torch.device("meta"):
        sizes = [sum(each.numel() for each in LMAC(VGGSound(LABELS, width)).parameters()) for width in (32, 256)]
    assert 100_000 < sizes[0] < sizes[1] < 1_000_000


@pytest.mark.parametrize("samples", [1, 186, 2976, 2977, 16000, 80123])
def test_any_length_and_no_frame_is_lost(samples):
    """Defect D12: the official decoder loses 6 of 431 frames."""
    interpreter = lmac(vggsound())
    made = interpreter.interpret(noise(1, samples))
    assert made.mask.shape == (1, 513, 1 + samples // 186) and made.waveform.shape == (1, samples)


def test_a_frame_keeps_its_place_when_the_clip_goes_on(classifier):
    """External spreads its columns over the clip, so that its frames move by a part of a column."""
    interpreter = lmac(classifier)
    target = torch.tensor([[True, False, False, False]])
    whole = noise(1, 186 * 430)
    made = []
    with torch.no_grad(), frozen(classifier):
        for frames in (431, 257):
            samples = 186 * (frames - 1)
            stft = classifier.spectrogram(whole)[..., :frames]
            prediction = classifier.classify_stft(stft, samples)
            made.append(interpreter.mask_logits(prediction, target, stft, samples)[..., :140])
    atol = 0.2 if isinstance(classifier, External) else 1e-4
    torch.testing.assert_close(made[0], made[1], atol=atol, rtol=atol)


def test_cells_lie_where_the_convolutions_put_them():
    """Row j of a map of stride s is centred on bin s (j + 1/2) - 1/2, and an impulse there comes out there."""
    classifier = vggsound()
    layouts = map_layouts(classifier)
    assert [each.stride for each in layouts] == [2, 4, 8, 16, 16]
    assert [each.rows for each in layouts] == [256, 128, 64, 32, 32]
    for layout in layouts:
        rows, columns = cell_positions(classifier, layout, 200, 186 * 430)
        stride = int(layout.stride)
        for j in (0, 3, 7):
            before = math.floor(stride * (j + 0.5) - 0.5)  # the centre lies between this bin and the next
            assert float(rows[before : before + 2].mean()) == pytest.approx(j, abs=1e-3)
            assert float(columns[before : before + 2].mean()) == pytest.approx(j, abs=1e-3)
    decoder = MaskDecoder([MapLayout(1, 32, 16.0), MapLayout(1, 256, 2.0)], None, 4, 4).eval().requires_grad_(False)
    for part in decoder.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.constant_(part.weight, 0.1)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    positions = [cell_positions(classifier, layouts[at], columns, 186 * 255) for at, columns in ((3, 16), (0, 128))]
    for at, cell, stride in ((0, (10, 5), 16), (1, (90, 41), 2)):
        maps = [torch.zeros(1, 1, 32, 16), torch.zeros(1, 1, 256, 128)]
        still = decoder(maps, positions, torch.zeros(1).long(), torch.zeros(1, 513, 256))
        maps[at][0, 0, cell[0], cell[1]] = 1
        moved = (decoder(maps, positions, torch.zeros(1).long(), torch.zeros(1, 513, 256)) - still)[0].abs()
        for axis, place in enumerate(cell):
            weight = moved.sum(1 - axis)
            centre = float((weight * torch.arange(len(weight))).sum() / weight.sum())
            assert centre == pytest.approx(stride * (place + 0.5) - 0.5, abs=0.6)


def test_mel_rows_are_read_at_their_frequencies():
    """Row of a mel map at a bin, against the filter bank's own formula."""
    classifier = EfficientAT(0.1)
    layout = map_layouts(classifier)[0]
    rows, columns = cell_positions(classifier, layout, 50, 64000)
    hertz = torch.tensor([100.0, 1000.0, 5000.0])
    bins = (hertz / classifier.sample_rate * classifier.spectrogram.n_fft).round().long()
    hertz = bins * classifier.sample_rate / classifier.spectrogram.n_fft
    mel = 1127 * torch.log(1 + hertz / 700)
    top = 1127 * math.log(1 + 15000 / 700)
    expected = (mel / top * 129 - 1) / (128 / layout.rows)
    torch.testing.assert_close(rows[bins], expected, atol=0.05, rtol=0.01)
    assert columns.diff().min() >= 0 and len(columns) == 1 + 64000 // classifier.spectrogram.hop_length


@pytest.mark.parametrize("columns, frames", [(3, 20), (1, 1)])
def test_maps_of_one_size_are_spread_over_the_clip(columns, frames):
    classifier = vggsound()
    _, at = cell_positions(classifier, MapLayout(4, 8, None), columns, 186 * (frames - 1))
    assert len(at) == frames and float(at.mean()) == pytest.approx((columns - 1) / 2)


def test_several_targets_are_the_largest_of_their_masks(classifier):
    interpreter = lmac(classifier)
    masks = [interpreter.interpret(noise(), label).mask for label in range(4)]
    wanted = torch.tensor([[True, False, True, False], [False, True, False, False], [True] * 4])
    found = interpreter.interpret(noise(), wanted).mask
    expected = [torch.maximum(masks[0][0], masks[2][0]), masks[1][1], torch.stack(masks)[:, 2].amax(0)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)


# --- resuming


def test_a_run_that_is_stopped_at_any_step_ends_alike(tmp_path):
    """The classes that are drawn, too: their random numbers go on where the checkpoint was written."""
    batches = [batch_of(noise(4, 1600 + 186 * step)) for step in range(3)]

    def trainer(folder):
        torch.manual_seed(3)
        made = LMAC(vggsound(), width=4, fine_width=4, least=0.0)
        settings = TrainingSettings(epochs=2, lr=0.01, seed=5, checkpoint_minutes=0.0)
        return made, Trainer(made, folder, settings, len(batches))

    whole, loop = trainer(tmp_path / "whole")
    loop.fit(lambda epoch: batches)
    for stop_at in range(1, 6):
        folder = tmp_path / str(stop_at)
        seen = []

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


# --- bundles and refusals


@pytest.mark.parametrize("settings", [{}, {"conditional": False, "layers": [-1], "detail": True}], ids=str)
def test_a_bundle_gives_the_same_masks(classifier, settings, tmp_path):
    interpreter = lmac(classifier, guidance=Guidance(), target_mask=StemMask(), **settings)
    bundle.save(interpreter, tmp_path / "bundle")
    again = bundle.load(tmp_path / "bundle", None if classifier.config else classifier)
    expected = interpreter.interpret(noise(), 2).mask
    torch.testing.assert_close(again.interpret(noise(), 2).mask, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: LMAC(vggsound(), layers=[5]), "reads feature map 5 of the classifier, which gives 5"),
        (lambda: LMAC(External(nn.Sequential(nn.AdaptiveAvgPool1d(4)), LABELS, 16000)), "gives 0; name its layers"),
        (lambda: LMAC(vggsound(), condition="any"), "LMAC has no 'any'; choose from"),
        (lambda: LMAC(vggsound(), domain="power"), "LMAC has no 'power'; choose from"),
        (lambda: LMAC(vggsound(), likeliest=0), "at least 1"),
        (lambda: Guidance(similar=2.0), "from 0 to 1"),
    ],
    ids=["layer", "no maps", "condition", "domain", "likeliest", "guidance"],
)
def test_refusals(build, message):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_classifier_without_gradient_cannot_be_trained_on():
    classifier = external()
    interpreter = lmac(classifier)
    classifier.no_gradient = "it calls numpy"
    assert interpreter.interpret(noise()).mask is not None
    with pytest.raises(ValueError, match="it calls numpy"):
        interpreter.losses(batch_of(noise()))


def test_one_silent_clip_trains():
    interpreter = lmac(vggsound(), guidance=Guidance()).train()
    total = sum(interpreter.losses(batch_of(torch.zeros(1, 3200))).values())
    total.backward()
    assert all(torch.isfinite(each.grad).all() for each in interpreter.parameters())


# --- known answer


def test_the_mask_keeps_the_band_that_speaks_for_the_class():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    classifier = TwoTones()
    batches = [two_tones(4, generator) for _ in range(4)]
    interpreter = LMAC(classifier, width=8, fine_width=8, least=0.0).train()  # both classes in turn
    optimizer = torch.optim.Adam(interpreter.parameters(), 0.01)
    for step in range(80):
        losses = interpreter.losses(batches[step % 4])
        loss = 4 * losses["masked_in"] + losses["masked_out"] + losses["area"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = two_tones(8, generator)
    for label, (own, other) in enumerate([(LOW, HIGH), (HIGH, LOW)]):
        made = interpreter.interpret(unseen.waveform, label)
        kept, left = (made.mask[:, each - 2 : each + 3, 3:-3].mean((1, 2)) for each in (own, other))
        assert (kept > 0.7).all() and (left < 0.3).all(), (kept, left)
        assert made.mask.mean() < 0.3
        with torch.no_grad():
            heard = classifier(made.waveform * made.input_gain[:, None]).probabilities
            rest = classifier(made.residual * made.input_gain[:, None]).probabilities
        assert (heard[:, label] > 0.8).all() and (heard[:, 1 - label] < 0.2).all()
        assert (rest[:, label] < 0.2).all() and (rest[:, 1 - label] > 0.8).all()
