"""PIQ: its theorems, its losses against literal formulas, its grid, and two tones with a known answer."""

import math

import pytest
import torch
from cases import LABELS, WITH_FEATURE_MAPS, external, piq, vggsound
from references import piq_formulas
from torch import nn
from torch.nn import functional
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import VGGSound
from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters import PIQ
from audiointerp.interpreters.mask_losses import reconstruction
from audiointerp.sound.masking import StemMask
from audiointerp.sound.spectrogram import STFT, log_magnitude


@pytest.fixture(params=WITH_FEATURE_MAPS, ids=str)
def classifier(request):
    return WITH_FEATURE_MAPS[request.param]()


# --- theorems


@pytest.mark.parametrize("shared", [0, 3])
def test_clips_of_a_class_use_only_its_codes(classifier, shared):
    interpreter = piq(classifier, shared=shared)
    owner = interpreter.codebook.owner
    for label in range(4):
        codes = interpreter.interpret(noise(), label).details["codes"]
        assert set(owner[codes].unique().tolist()) <= ({label, -1} if shared else {label})
    wanted = torch.tensor([[True, False, True, False]] * 3)
    both = interpreter.interpret(noise(), wanted).details["codes"]
    assert {0, 2} <= set(owner[both].unique().tolist()) <= {0, 2, -1}


def test_codes_of_one_class_change_the_masks_of_that_class_only(classifier):
    interpreter = piq(classifier)
    before = [interpreter.interpret(noise(), label).mask for label in range(4)]
    with torch.no_grad():
        interpreter.codebook.weight[interpreter.codebook.owner == 2] = torch.randn(4, 4)
    after = [interpreter.interpret(noise(), label).mask for label in range(4)]
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [True, True, False, True]


def test_mask_depends_on_the_classifier_through_the_codes_alone():
    interpreter = piq(vggsound())
    made = interpreter.interpret(noise())
    code_vectors = interpreter.codebook.weight[made.details["codes"]].permute(0, 3, 1, 2)
    stft = interpreter.classifier.spectrogram(noise())
    with torch.no_grad():
        logits = interpreter.decoder(code_vectors, log_magnitude(stft))
    torch.testing.assert_close(made.mask, logits.sigmoid(), atol=1e-5, rtol=1e-4)


# --- grid


@pytest.mark.parametrize("decoder, per_row, rest", [("paper", 16, 1), ("light", 16, 0)])
def test_decoder_covers_every_length_without_resizing(decoder, per_row, rest):
    classifier = VGGSound(["a"], channels=2).eval()
    interpreter = PIQ(classifier, codes=2, decoder=decoder).eval()
    decoded = []
    last = interpreter.decoder.stages if decoder == "paper" else interpreter.decoder.last
    last.register_forward_hook(lambda _, __, out: decoded.append(out.shape[3] * (1 if decoder == "paper" else 2)))
    with torch.no_grad():
        for frames in range(1, 601, 1 if decoder == "paper" else 5):
            features = torch.rand(1, 17, frames)
            prediction = classifier.classify(features)
            rows = max(1, frames // 16)
            assert prediction.feature_maps[-1].shape == (1, 2, 1, rows)
            logits, _ = interpreter.mask_logits(prediction, torch.ones(1, 1).bool(), features + 0j)
            assert logits.shape == (1, 17, frames)
            padded = 2 * max(1, math.ceil((frames - 1) / 32))
            assert decoded[-1] == per_row * padded + rest
            # The light decoder's grid may lack the last frame, which then repeats the one before.
            assert decoded[-1] >= frames - (decoder == "light") and padded - 2 <= rows <= padded


@pytest.mark.parametrize("decoder", ["paper", "light"])
def test_a_frame_keeps_its_place_when_the_clip_goes_on(decoder):
    interpreter = piq(vggsound(), decoder=decoder)
    classifier = interpreter.classifier
    stft = classifier.spectrogram(torch.randn(1, 186 * 430, generator=torch.Generator().manual_seed(2)))
    allowed = torch.tensor([[True, False, False, False]])
    with torch.no_grad():
        whole, _ = interpreter.mask_logits(classifier.classify_stft(stft, 1), allowed, stft)
        for frames in (200, 257, 350):
            part, _ = interpreter.mask_logits(
                classifier.classify_stft(stft[..., :frames], 1), allowed, stft[..., :frames]
            )
            torch.testing.assert_close(part[..., : frames - 110], whole[..., : frames - 110], atol=1e-4, rtol=1e-4)


def latent_of(shape, grid):
    """PIQ's latent of a random feature map on an STFT grid, the map, and the adapter."""
    interpreter = piq(vggsound())
    features = torch.randn(1, 4, *shape)
    prediction = Prediction(torch.zeros(1, 4), torch.zeros(1, 4), None, (features,))
    with torch.no_grad():
        return interpreter.latent(prediction, torch.zeros(1, *grid) + 0j), features, interpreter.adapter


@pytest.mark.parametrize("shape", [(32, 26), (32, 27), (31, 28), (30, 28)])
def test_fitting_maps_are_padded_with_zeros(shape):
    latent, features, adapter = latent_of(shape, (513, 431))
    padded = torch.zeros(1, 4, 32, 28)
    padded[:, :, : shape[0], : shape[1]] = features
    with torch.no_grad():
        torch.testing.assert_close(latent, adapter(padded))


def test_finer_maps_are_averaged_and_coarser_ones_repeated():
    latent, features, adapter = latent_of((64, 112), (513, 431))
    with torch.no_grad():
        torch.testing.assert_close(latent, adapter(features.view(1, 4, 32, 2, 28, 4).mean((3, 5))))
        latent, features, adapter = latent_of((8, 27), (513, 431))
        repeated = functional.pad(features.repeat_interleave(4, 2), (0, 1))
        torch.testing.assert_close(latent, adapter(repeated))


def test_several_layers_are_folded_to_one_grid_without_loss():
    classifier = vggsound()
    interpreter = piq(classifier, layers=(1, 2, -1), temperature=1.0)
    assert interpreter.folds == [4, 2, 1]
    stft = classifier.spectrogram(noise(1))  # 26 frames; codes' grid 32 x 2
    prediction = classifier.classify_stft(stft, SAMPLES)
    folded = []
    for layer, fold in ((1, 4), (2, 2), (-1, 1)):
        have = prediction.feature_maps[layer]
        full = torch.zeros(1, 4, 32 * fold, 2 * fold)
        full[:, :, : have.shape[2], : have.shape[3]] = have
        # channel, then row and column within the block of fold x fold bins that becomes one
        folded.append(full.view(1, 4, 32, fold, 2, fold).permute(0, 1, 3, 5, 2, 4).reshape(1, 4 * fold**2, 32, 2))
    with torch.no_grad():
        expected = interpreter.adapter(interpreter.join(torch.cat(folded, 1)))
        torch.testing.assert_close(interpreter.latent(prediction, stft), expected)
    sum(interpreter.losses(batch_of(noise(1))).values()).backward()
    assert all(each.grad is not None for each in interpreter.parameters())


def test_parameters_at_the_papers_width():
    classifier = VGGSound([str(k) for k in range(50)])
    interpreter = PIQ(classifier)
    sizes = {name: sum(each.numel() for each in part.parameters()) for name, part in interpreter.named_children()}
    assert sizes == {"join": 0, "adapter": 656_896 + 1_048_832, "codebook": 262_144, "decoder": 1_048_832 + 3_775_489}
    assert sum(sizes.values()) == 6_792_193


# --- losses


LOGITS = torch.tensor([[[0.0, 2.0], [-1.0, 3.0]]])
GOAL = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
STFT_OF = torch.tensor([[[1.0, 3j], [0.0, 7.0]]])


def test_reconstruction_by_hand():
    p = [1 / (1 + math.exp(-x)) for x in (0, 2, -1, 3)]
    each = [-math.log(p[0]), -math.log(p[1]), -math.log(1 - p[2]), -math.log(1 - p[3])]
    assert float(reconstruction(LOGITS, GOAL, STFT_OF, "bce")) == pytest.approx(sum(each) / 4)
    levels = [math.log(2), math.log(4), 0.0, math.log(8)]
    weighted = sum(level * loss for level, loss in zip(levels, each)) / sum(levels)
    assert float(reconstruction(LOGITS, GOAL, STFT_OF, "weighted_bce")) == pytest.approx(weighted)
    dice = 1 - (2 * (p[0] + p[1]) + 1) / (sum(p) + 2 + 1)
    assert float(reconstruction(LOGITS, GOAL, STFT_OF, "dice")) == pytest.approx(dice)


def test_a_saturated_wrong_bin_keeps_its_gradient():
    logits = torch.full((1, 1, 1), 40.0, requires_grad=True)
    reconstruction(logits, torch.zeros(1, 1, 1), torch.ones(1, 1, 1) + 0j, "bce").backward()
    assert float(logits.grad) == pytest.approx(1.0)


def test_losses_are_equation_2(classifier):
    interpreter = piq(classifier)
    waveform = noise()
    losses = interpreter.losses(batch_of(waveform))
    assert set(losses) == {"reconstruction", "codebook", "commitment"}
    made = interpreter.interpret(waveform)
    log_level = classifier.spectrogram(waveform).abs().log1p()
    goal = torch.stack([(each > 0.35 * each.max()).float() for each in log_level])
    expected = -(goal * made.mask.log() + (1 - goal) * (1 - made.mask).log()).mean()
    torch.testing.assert_close(losses["reconstruction"], expected, atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        latent = interpreter.latent(classifier(waveform), classifier.spectrogram(waveform))
        codes = interpreter.codebook.weight[made.details["codes"]].permute(0, 3, 1, 2)
    for name in ("codebook", "commitment"):
        torch.testing.assert_close(losses[name], (latent - codes).square().mean(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("domain", ["log_magnitude", "magnitude"])
def test_separation_is_equation_5_written_out(classifier, domain):
    interpreter = piq(classifier, domain=domain, separate_classes=True)
    waveform = noise()
    value = interpreter.losses(batch_of(waveform))["separation"]
    heard = []
    with torch.no_grad():
        for row in waveform.split(1):
            stft, prediction = classifier.spectrogram(row), classifier(row)
            for label in range(4):
                probabilities = prediction.probabilities[0]
                chosen = probabilities[label] > 0.5 if classifier.multilabel else probabilities.argmax() == label
                if not chosen:
                    continue
                mask = interpreter.interpret(row, label).mask
                level = piq_formulas.masked_log_magnitude(stft, mask, domain)
                if isinstance(classifier, VGGSound):
                    judged = classifier.classify(level)
                else:
                    kept = torch.polar(level.exp() - 1, stft.angle())
                    judged = classifier(classifier.spectrogram.inverse(kept, SAMPLES))
                heard.append((label, judged.probabilities[0]))
    assert len(heard) >= 3
    assert value.item() == pytest.approx(piq_formulas.separation(heard), rel=1e-3)


@pytest.mark.parametrize("build", [lambda: vggsound(multilabel=True), external], ids=["vggsound", "external"])
def test_steps_on_separation_lower_the_other_classes(build):
    classifier = build()
    interpreter = piq(classifier, separate_classes=True)
    batch = batch_of(noise())
    optimizer = torch.optim.Adam(interpreter.parameters(), 0.01)

    def others():
        with torch.no_grad():
            chosen = classifier(batch.waveform).predicted
            interpretation = interpreter.interpret(batch.waveform, chosen)
            stft = classifier.spectrogram(batch.waveform)
            level = interpretation.mask * stft.abs().log1p()
            heard = classifier.classify_stft(torch.polar(level.exp() - 1, stft.angle()), SAMPLES).probabilities
            return float(heard.sum() - heard.gather(1, chosen[:, None]).sum())

    before = others()
    for _ in range(8):
        loss = interpreter.losses(batch)["separation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert others() < before - 1e-3


def owners_used(interpreter, batch):
    interpreter.train()
    interpreter.codebook.usage.zero_()
    interpreter.losses(batch)
    return set(interpreter.codebook.owner[interpreter.codebook.usage > 0].tolist())


def test_condition_decides_whose_codes_are_trained():
    classifier, waveform = vggsound(), noise()
    predicted = set(classifier(waveform).predicted.tolist())
    other = next(label for label in range(4) if label not in predicted)
    batch = batch_of(waveform, torch.full((3,), other))
    assert owners_used(piq(classifier), batch) == predicted
    assert owners_used(piq(classifier, condition="label"), batch) == {other}


def test_condition_label_of_several_labels():
    sets = torch.tensor([[1.0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0]])
    used = owners_used(piq(vggsound(multilabel=True), condition="label"), batch_of(noise(), sets))
    assert used <= {0, 3} and 0 in used


def test_the_classifier_gets_no_gradient(classifier):
    interpreter = piq(classifier, separate_classes=True).train()
    before = {name: each.clone() for name, each in classifier.state_dict().items()}
    sum(interpreter.losses(batch_of(noise())).values()).backward()
    assert all(each.grad is None and each.requires_grad for each in classifier.parameters())
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)  # running statistics included
    missing = [name for name, each in interpreter.named_parameters() if each.grad is None]
    assert missing == []
    assert not any("classifier" in name for name in interpreter.state_dict())
    assert set(map(id, interpreter.parameter_groups()["interpreter"])) == set(map(id, interpreter.parameters()))


def test_cached_feature_maps_save_the_encoders_pass():
    classifier = vggsound()
    interpreter = piq(classifier)
    batch = batch_of(noise())
    expected = interpreter.losses(batch)
    with torch.no_grad():
        maps = classifier(batch.waveform).feature_maps
    classifier.encoder.register_forward_hook(lambda *_: pytest.fail("the encoder ran"))
    cached = interpreter.losses(batch.replace(feature_maps=maps))
    for name, value in expected.items():
        torch.testing.assert_close(cached[name], value)


@pytest.mark.parametrize("kind", ["bce", "weighted_bce", "dice"])
@pytest.mark.parametrize("decoder", ["paper", "light"])
def test_one_silent_clip_trains(kind, decoder):
    interpreter = piq(vggsound(), mask_loss=kind, decoder=decoder, detail=decoder == "light", separate_classes=True)
    total = sum(interpreter.train().losses(batch_of(torch.zeros(1, 800))).values())
    total.backward()
    assert all(torch.isfinite(each.grad).all() for each in interpreter.parameters() if each.grad is not None)


def test_stem_mask_without_stems_is_an_error():
    with pytest.raises(ValueError, match="needs known stems"):
        piq(vggsound(), target_mask=StemMask()).losses(batch_of(noise()))


def test_layer_that_does_not_exist():
    with pytest.raises(ValueError, match=r"reads feature map 5 .* which gives 5"):
        PIQ(vggsound(), codes=8, layers=(5,))


@pytest.mark.parametrize("option", ["mask_loss", "condition", "decoder"])
def test_option_that_does_not_exist(option):
    with pytest.raises(ValueError, match="PIQ has no 'other'; choose from"):
        piq(vggsound(), **{option: "other"})


# --- codebook's life, and scores


def test_codes_start_from_the_representations_of_their_class():
    classifier = vggsound()
    interpreter = piq(classifier, condition="label")
    waveform = noise(2)
    before = interpreter.codebook.weight.detach().clone()
    interpreter.on_start([batch_of(waveform, torch.tensor([1, 3]))])
    owner, weight = interpreter.codebook.owner, interpreter.codebook.weight.detach()
    for label in (0, 2):
        assert torch.equal(weight[owner == label], before[owner == label])
    with torch.no_grad():
        latent = interpreter.latent(classifier(waveform), classifier.spectrogram(waveform)).flatten(2)
    for row, label in enumerate((1, 3)):  # k-means centres lie among the vectors of that clip
        low, high = latent[row].amin(1), latent[row].amax(1)
        block = weight[owner == label]
        assert ((block >= low - 1e-5) & (block <= high + 1e-5)).all() and not torch.equal(block, before[owner == label])


def test_epochs_mark_dead_codes_and_log_the_codebooks_health():
    interpreter = piq(vggsound()).train()
    interpreter.losses(batch_of(noise()))
    used = int((interpreter.codebook.usage > 0).sum())
    logged = interpreter.epoch_scores()
    assert logged["unused_codes"] == 16 - used and {f"perplexity_{name}" for name in LABELS} < set(logged)
    assert 1 <= logged["perplexity"] <= 4
    interpreter.on_epoch(0)
    assert interpreter.codebook.usage.sum() > 0 and not interpreter.codebook.dead.any()
    interpreter.on_epoch(1)
    assert interpreter.codebook.usage.sum() == 0


@pytest.mark.parametrize("arguments", [{}, {"domain": "magnitude"}, {"binary": True}], ids=str)
def test_scores_written_out(classifier, arguments):
    interpreter = piq(classifier, **arguments)
    waveform = noise()
    scores = interpreter.scores(batch_of(waveform))
    assert set(scores) == {"fidelity", "faithfulness", "mean_mask"}
    domain = arguments.get("domain", "log_magnitude")
    for row in range(3):
        clip = waveform[row : row + 1]
        made = interpreter.interpret(clip)
        stft, (explained,) = classifier.spectrogram(clip), made.target.tolist()
        explained = [label for label in range(4) if explained[label]]

        def judge(mask, stft=stft):
            level = piq_formulas.masked_log_magnitude(stft, mask, domain)
            return classifier.classify_stft(torch.polar(level.exp() - 1, stft.angle()), SAMPLES).probabilities[0]

        with torch.no_grad():
            whole, kept, left = classifier(clip).probabilities[0], judge(made.mask), judge(1 - made.mask)
        assert float(scores["fidelity"][row]) == float(int(kept.argmax()) in explained)
        fall = sum(float(whole[label] - left[label]) for label in explained) / len(explained)
        assert float(scores["faithfulness"][row]) == pytest.approx(fall, abs=1e-4)
        assert float(scores["mean_mask"][row]) == pytest.approx(float(made.mask.mean()), abs=1e-5)


# --- known answer


LOW, HIGH = 40, 168  # bins of the two tones: 625 Hz and 2,625 Hz


class Bands(Classifier):
    """Hears "low" below 1,500 Hz and "high" above: the loudest band of each part is its logit."""

    labels, sample_rate, multilabel = ("low", "high"), 16000, False

    def __init__(self):
        super().__init__()
        self.spectrogram = STFT()

    def features(self, waveform):
        return log_magnitude(self.spectrogram(waveform))

    def classify(self, features):
        pooled = functional.avg_pool2d(features.unsqueeze(1), 16, ceil_mode=True)[:, :, :32]
        low = (torch.arange(32) < 6).float()[:, None]
        maps = torch.cat([pooled * low, pooled * (1 - low)], 1)
        logits = 10 * maps.amax(2).mean(2)
        return Prediction.from_logits(logits, False, embedding=maps.mean((2, 3)), feature_maps=(maps,))


def two_tones(rows, generator):
    """Mixtures of two tones, their stems, and which one is louder."""
    time = torch.arange(5600) / 16000
    tones = [
        torch.sin(2 * torch.pi * (k * 15.625 * time + torch.rand(rows, 1, generator=generator))) for k in (LOW, HIGH)
    ]
    label = torch.randint(2, (rows,), generator=generator)
    soft = 0.3 + 0.3 * torch.rand(rows, 1, generator=generator)
    low, high = (torch.where((label == k)[:, None], 1.0, soft) * tone for k, tone in enumerate(tones))
    stem = torch.where((label == 0)[:, None], low, high)
    peak = (low + high).abs().amax(1, keepdim=True)
    return batch_of((low + high) / peak, label, stem=stem / peak)


def test_the_mask_keeps_the_tone_that_is_explained():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    classifier = Bands()
    batches = [two_tones(8, generator) for _ in range(8)]
    assert all(torch.equal(classifier(each.waveform).predicted, each.label) for each in batches)
    interpreter = PIQ(classifier, channels=8, codes=8, target_mask=StemMask("binary"), mask_loss="weighted_bce")
    interpreter.on_start(batches)
    optimizer = torch.optim.Adam(interpreter.parameters(), 2e-3)
    interpreter.train()
    for step in range(90):
        loss = sum(interpreter.losses(batches[step % 8]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    unseen = two_tones(8, generator)
    made = interpreter.interpret(unseen.waveform)
    kept = made.mask[:, [LOW, HIGH], 4:-4].mean(2)  # (clip, tone)
    heard = kept.gather(1, unseen.label[:, None])
    unheard = kept.gather(1, 1 - unseen.label[:, None])
    assert (heard > unheard + 0.3).all(), kept
    # Asked for the softer tone, the same mixtures give that one.
    kept = interpreter.interpret(unseen.waveform, 1 - unseen.label).mask[:, [LOW, HIGH], 4:-4].mean(2)
    assert (kept.gather(1, 1 - unseen.label[:, None]) > kept.gather(1, unseen.label[:, None]) + 0.3).all(), kept


def test_decoder_starts_as_released():
    for module in PIQ(vggsound(), codes=4).decoder.modules():
        if isinstance(module, nn.ConvTranspose2d):
            fan = sum(module.weight.shape[:2]) * module.weight[0, 0].numel()
            assert module.weight.abs().max() <= math.sqrt(6 / fan) + 1e-6  # Xavier, uniform
            assert not module.bias.any()


def test_moving_it_moves_the_classifier():
    classifier = vggsound()
    made = piq(classifier).double()
    assert all(each.dtype == torch.float64 for each in (*made.parameters(), *classifier.parameters()))


# --- codes for some classes only, as for a tagger with hundreds of labels


def test_only_the_named_classes_have_codes():
    classifier = vggsound()
    interpreter = piq(classifier, codes=6, classes=[LABELS[1], LABELS[3]])
    assert interpreter.codebook.owner.tolist() == [1, 1, 1, 3, 3, 3]
    made = interpreter.interpret(noise(), 3)
    assert set(interpreter.codebook.owner[made.details["codes"]].unique().tolist()) == {3}
    together = interpreter.interpret(noise(), torch.tensor([[True, True, False, False]] * 3))  # class 0 has no codes
    assert set(interpreter.codebook.owner[together.details["codes"]].unique().tolist()) == {1}
    with pytest.raises(
        ValueError, match=f"no codes for {LABELS[0]}; it was trained to explain {LABELS[1]}, {LABELS[3]}"
    ):
        interpreter.interpret(noise(), 0)


def test_with_all_classes_named_nothing_changes():
    classifier = vggsound()
    torch.manual_seed(0)
    plain = piq(classifier)
    torch.manual_seed(0)
    named = piq(classifier, classes=list(LABELS))
    torch.testing.assert_close(plain.interpret(noise(), 2).mask, named.interpret(noise(), 2).mask, rtol=0, atol=0)


def test_classes_that_do_not_fit_are_refused():
    classifier = vggsound()
    with pytest.raises(ValueError, match="which the classifier lacks"):
        piq(classifier, classes=["no such label"])
    with pytest.raises(ValueError, match="cannot give each of 3 classes one"):
        piq(classifier, codes=2, classes=list(LABELS[:3]))


def test_named_classes_are_kept_in_a_bundle_and_learn(tmp_path):
    interpreter = piq(vggsound(), classes=[LABELS[1], LABELS[3]], condition="label", normalize=True)
    batch = batch_of(noise(), torch.tensor([1, 3, 1]))
    interpreter.train()
    interpreter.on_start([batch])
    interpreter.on_epoch(0)
    losses = interpreter.losses(batch)
    assert all(torch.isfinite(each) for each in losses.values())
    scores = interpreter.epoch_scores()
    assert {name for name in scores if name.startswith("perplexity_")} == {f"perplexity_{LABELS[i]}" for i in (1, 3)}
    assert scores["perplexity"] >= 1
    bundle.save(interpreter.eval(), tmp_path / "bundle")
    again = bundle.load(tmp_path / "bundle")
    assert list(again.classes) == [LABELS[1], LABELS[3]]
    torch.testing.assert_close(again.interpret(noise(), 3).mask, interpreter.interpret(noise(), 3).mask, rtol=0, atol=0)
