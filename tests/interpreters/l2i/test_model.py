"""L2I: its theorems, its equations against literal ones, its life in a bundle, and two tones with a known answer."""

import pytest
import torch
from cases import LABELS, WITH_FEATURE_MAPS, TinyConv, by_design, external, l2i, vggsound
from references import l2i as formulas
from torch import nn
from torch.nn import functional
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import External, Supervised, VGGSound
from audiointerp.contracts import Classifier, Prediction, Trainable
from audiointerp.interpreters import L2I
from audiointerp.interpreters.l2i.by_design import DictionaryClassifier, DictionaryTraining
from audiointerp.interpreters.l2i.model import global_relevance
from audiointerp.interpreters.l2i.networks import ActivationNetwork, AttentionPooling, read_dictionary
from audiointerp.interpreters.l2i.relevance import class_relevance, component_mask, select
from audiointerp.sound.spectrogram import STFT, log_magnitude


@pytest.fixture(params=[*WITH_FEATURE_MAPS, "by_design", "by_design_multilabel"])
def classifier(request):
    if request.param.startswith("by_design"):
        return by_design(multilabel="multilabel" in request.param)
    return WITH_FEATURE_MAPS[request.param]()


@pytest.fixture
def interpreter(classifier):
    return L2I(classifier).eval() if isinstance(classifier, DictionaryClassifier) else l2i(classifier)


# --- theorems


def test_relevance_never_exceeds_1(interpreter):
    for target in (None, *range(len(LABELS)), torch.ones(3, len(LABELS), dtype=torch.bool)):
        relevance = interpreter.interpret(noise(), target).details["relevance"]
        assert relevance.abs().max() <= 1 and (relevance < 1).any()
    of_class = class_relevance(torch.rand(50, 7), torch.randn(5, 7))
    torch.testing.assert_close(of_class.abs().amax(2), torch.ones(50, 5))  # one component has all of it


def test_nothing_contributes_nothing_is_relevant():
    assert torch.equal(class_relevance(torch.zeros(2, 3), torch.randn(4, 3)), torch.zeros(2, 4, 3))


def test_selected_and_rest_make_up_the_reconstruction(interpreter):
    made = interpreter.interpret(noise())
    w, h, chosen = interpreter.dictionary, made.details["activations"], made.details["selected"]
    assert set(chosen.unique().tolist()) == {0.0, 1.0}
    whole = w @ h
    rest = component_mask(w, h, 1 - chosen)
    torch.testing.assert_close(made.mask + rest, whole / (whole + 1e-6))
    torch.testing.assert_close((made.mask + rest) * whole, whole, atol=1e-5, rtol=1e-5)
    each = sum(component_mask(w, h, chosen * part) for part in torch.eye(chosen.shape[1]))
    torch.testing.assert_close(each, made.mask)


def test_where_the_reconstruction_is_silent_nothing_is_kept():
    w = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.6, 0.8]])
    h = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    expected = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]])
    torch.testing.assert_close(component_mask(w, h, torch.ones(1, 2)), expected)


def test_masks_stay_below_1_whatever_the_rounding():
    torch.manual_seed(0)
    w, h = torch.rand(64, 50) * 1e3, torch.rand(8, 50, 40) * 1e3
    chosen = torch.ones(8, 50)
    chosen[:, 7] = 0
    h[:, 7] = 1e-6
    assert component_mask(w, h, chosen).max() <= 1


def test_top_k_narrows_the_threshold():
    relevance = torch.tensor([[0.9, -1.0, 0.3, 0.1, 0.5]])
    assert select(relevance, 0.2).tolist() == [[1, 0, 1, 0, 1]]
    assert select(relevance, 0.2, 2).tolist() == [[1, 0, 0, 0, 1]]
    assert select(relevance, 0.2, 9).tolist() == [[1, 0, 1, 0, 1]]
    assert select(relevance, -2.0, 3).tolist() == [[1, 0, 1, 0, 1]]


@pytest.mark.parametrize("top_k", [None, 1])
def test_mask_is_the_equations_written_out(classifier, top_k):
    if isinstance(classifier, DictionaryClassifier):
        interpreter = L2I(classifier, top_k=top_k).eval()
    else:
        interpreter = l2i(classifier, top_k=top_k)
    waveform = noise(2, 1500)
    wanted = torch.tensor([[False, True, False, False], [True, False, False, True]])
    made = interpreter.interpret(waveform, wanted)
    pool, theta = interpreter.network.theta.pool.requires_grad_(False), interpreter.network.theta.weight.detach()
    for row in range(2):
        h = made.details["activations"][row]
        z = formulas.attention_pooling(h, pool.v.weight, pool.u.weight, pool.w.weight[0])
        r = formulas.relevance(z, theta, wanted[row].nonzero()[:, 0].tolist())
        torch.testing.assert_close(made.details["relevance"][row], torch.tensor(r), atol=1e-5, rtol=1e-4)
        chosen = formulas.selection(r, 0.2, top_k)
        assert made.details["selected"][row].nonzero()[:, 0].tolist() == chosen
        expected = formulas.mask(interpreter.dictionary, h, chosen)
        torch.testing.assert_close(made.mask[row], expected, atol=1e-5, rtol=1e-4)


def test_losses_are_the_equations_written_out(classifier, interpreter):
    waveform = noise()
    losses = interpreter.losses(batch_of(waveform))
    made = interpreter.interpret(waveform)
    h = made.details["activations"]
    logits = interpreter.network.theta(h)[0].detach()
    x = log_magnitude(classifier.spectrogram(waveform))
    heard = made.prediction.probabilities
    expected = formulas.losses(x, interpreter.dictionary, h, logits, heard, classifier.multilabel)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name


def test_theta_answers_as_the_classifier_does_by_design():
    for multilabel in (False, True):
        made = L2I(by_design(multilabel)).interpret(noise())
        torch.testing.assert_close(made.details["theta_probabilities"], made.prediction.probabilities)


# --- grid


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2.0])
def test_any_length(interpreter, seconds):
    waveform = noise(2, round(seconds * 16000))
    made = interpreter.interpret(waveform, torch.ones(2, len(LABELS), dtype=torch.bool))
    frames = 1 + waveform.shape[1] // 186
    assert made.waveform.shape == waveform.shape and made.mask.shape == (2, 513, frames)
    assert made.details["activations"].shape[2] == frames
    assert made.mask.isfinite().all() and made.mask.max() > 0.1


def test_silence_gives_silence(interpreter):
    made = interpreter.interpret(torch.zeros(1, 3200))
    assert not made.waveform.any() and not made.residual.any()
    assert all(each.isfinite().all() for each in (made.mask, *made.details.values()))


def test_a_frame_keeps_its_place_when_the_clip_goes_on():
    interpreter = l2i(vggsound())
    classifier = interpreter.classifier
    stft = classifier.spectrogram(torch.randn(1, 186 * 430, generator=torch.Generator().manual_seed(2)))
    with torch.no_grad():
        whole = interpreter.network(classifier.classify_stft(stft, 1).feature_maps, 431).activations
        for frames in (200, 257, 350):
            maps = classifier.classify_stft(stft[..., :frames], 1).feature_maps
            part = interpreter.network(maps, frames).activations
            torch.testing.assert_close(part[..., : frames - 130], whole[..., : frames - 130], atol=1e-4, rtol=1e-4)


def test_columns_stand_at_the_frames_they_were_made_of():
    """A ramp over time, sampled as the encoder's strided stages sample, comes back as the same ramp."""
    psi = ActivationNetwork([1, 1], 2, width=1, strides=[8, 16], rows=1)
    for module in psi.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)
    ramp = torch.arange(431.0)
    maps = [ramp[: 431 // stride * stride].view(1, 1, 1, -1, stride).mean(4) for stride in (8, 16)]
    with torch.no_grad():
        made = psi(maps, 431)[0, 0]
    torch.testing.assert_close(made[16:408], 2 * ramp[16:408])


def test_strides_are_found(classifier):
    if not isinstance(classifier, DictionaryClassifier):
        expected = {1: (16.0,), 5: (16.0, 16.0, 8.0)}[len(classifier(noise()).feature_maps)]
        assert l2i(classifier).network.psi.strides == expected


def test_a_map_that_does_not_grow_is_resized():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.AdaptiveAvgPool2d((2, 3))

        def forward(self, waveform):
            return self.maps(waveform[:, None, None]).flatten(1)[:, :4]

    interpreter = l2i(External(Fixed(), LABELS, 16000, layers=["maps"]))
    assert interpreter.network.psi.strides == (None,)
    assert interpreter.interpret(noise()).mask.shape == (3, 513, 26)


# --- bundles


@pytest.mark.parametrize(
    "arguments", [{}, {"domain": "magnitude", "threshold": 0.0, "top_k": 2}, {"fill": True}], ids=str
)
def test_theta_survives_saving_and_loading(tmp_path, arguments):
    interpreter = l2i(vggsound(), **arguments)
    again = bundle.load(bundle.save(interpreter, tmp_path / "l2i"))
    assert torch.equal(again.network.theta.weight, interpreter.network.theta.weight)
    assert torch.equal(again.dictionary, interpreter.dictionary) and again.dictionary.any()
    made, remade = interpreter.interpret(noise()), again.interpret(noise())
    assert again.config == interpreter.config
    for name, value in made.details.items():
        assert torch.equal(value, remade.details[name])
    assert torch.equal(made.waveform, remade.waveform)


def test_an_external_classifier_is_given_again(tmp_path):
    classifier = external()
    interpreter = l2i(classifier, layers=[0])
    again = bundle.load(bundle.save(interpreter, tmp_path / "l2i"), classifier=classifier)
    assert torch.equal(again.interpret(noise()).mask, interpreter.interpret(noise()).mask)


def test_by_design_classifier_and_interpreter_in_bundles(tmp_path):
    classifier = by_design(multilabel=True)
    again = bundle.load(bundle.save(classifier, tmp_path / "classifier"))
    assert torch.equal(again.dictionary, classifier.dictionary)
    assert torch.equal(again(noise()).logits, classifier(noise()).logits)
    interpreter = L2I(classifier, threshold=0.1)
    loaded = bundle.load(bundle.save(interpreter, tmp_path / "l2i"))
    assert torch.equal(loaded.interpret(noise()).mask, interpreter.interpret(noise()).mask)
    assert loaded.network is loaded.classifier.network and not loaded.state_dict()


# --- by design


def test_by_design_reads_features_stft_or_maps():
    classifier = by_design()
    waveform = noise(2, 186 * 30)
    expected = classifier(waveform)
    assert expected.embedding.shape == (2, 4) and len(expected.feature_maps) == 5
    torch.testing.assert_close(expected.embedding, expected.feature_maps[-1].mean((2, 3)))
    stft = classifier.spectrogram(waveform)
    torch.testing.assert_close(classifier.classify_stft(stft, waveform.shape[1]).logits, expected.logits)
    assert torch.equal(classifier.classify_maps(expected.feature_maps, 31).logits, expected.logits)
    torch.testing.assert_close(
        classifier.classify_maps(expected.feature_maps).logits, expected.logits, atol=0.1, rtol=0.1
    )


def test_by_design_has_nothing_left_to_train():
    interpreter = L2I(by_design())
    assert interpreter.parameter_groups() == {} and not list(interpreter.parameters())
    assert interpreter.config["n_components"] == 6 and interpreter.config["layers"] == [-1, -2, -3]


@pytest.mark.parametrize("multilabel", [False, True])
def test_by_design_learns_and_explains_itself(multilabel):
    torch.manual_seed(0)
    classifier = DictionaryClassifier(["low", "high"], channels=4, n_components=4, width=4, multilabel=multilabel)
    training = DictionaryTraining(classifier, TONES, label_smoothing=0.1).train()
    assert isinstance(training, Trainable) and torch.equal(classifier.dictionary, TONES)
    pitch = torch.tensor([[LOW], [HIGH]] * 4) * 15.625
    waveform = torch.sin(2 * torch.pi * pitch * torch.arange(2400) / 16000)
    label = torch.tensor([0, 1] * 4)
    batch = batch_of(waveform, functional.one_hot(label).float() if multilabel else label)
    optimizer = torch.optim.Adam(training.parameter_groups()["classifier"], 0.01)
    totals = []
    for _ in range(40):
        losses = training.losses(batch)
        assert set(losses) == {"classification", "reconstruction", "sparsity"}
        total = losses["classification"] + 10 * losses["reconstruction"] + 0.1 * losses["sparsity"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.7 * totals[0]
    assert torch.equal(classifier.dictionary, TONES)
    classifier.eval()
    made = L2I(classifier).interpret(waveform[:2])
    assert made.target.int().argmax(1).tolist() == [0, 1]
    relevance = made.details["relevance"]
    assert relevance[0].argmax() == 0 and relevance[1].argmax() == 1
    assert Supervised.scores(training, batch)["accuracy"].min() == 1


def test_a_lone_silent_clip_trains():
    training = DictionaryTraining(by_design().train())
    sum(training.losses(batch_of(torch.zeros(1, 800))).values()).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in training.parameters())


def test_by_design_losses_written_out():
    classifier = by_design()
    batch = batch_of(noise(), torch.tensor([1, 0, 3]))
    losses = DictionaryTraining(classifier).losses(batch)
    made = L2I(classifier).interpret(batch.waveform)
    one_hot = functional.one_hot(batch.label, 4)
    expected = formulas.losses(
        classifier.features(batch.waveform),
        classifier.dictionary,
        made.details["activations"],
        made.prediction.logits,
        one_hot,
        False,
    )
    assert losses["classification"].item() == pytest.approx(expected["fidelity"], rel=1e-4)
    assert losses["reconstruction"].item() == pytest.approx(expected["reconstruction"], rel=1e-4)
    assert losses["sparsity"].item() == pytest.approx(expected["sparsity"], rel=1e-4)


# --- training


def test_the_classifier_gets_no_gradient_and_the_dictionary_none():
    for classifier in (vggsound(), vggsound(multilabel=True), external()):
        interpreter = l2i(classifier).train()
        before = {name: each.clone() for name, each in classifier.state_dict().items()}
        sum(interpreter.losses(batch_of(noise())).values()).backward()
        assert all(each.grad is None and each.requires_grad for each in classifier.parameters())
        torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)
        assert [name for name, each in interpreter.named_parameters() if each.grad is None] == []
        group = interpreter.parameter_groups()["interpreter"]
        assert set(map(id, group)) == set(map(id, interpreter.parameters()))
        assert not any(each is interpreter.dictionary for each in group)
        assert not any("classifier" in name for name in interpreter.state_dict())


def test_cached_feature_maps_save_the_encoders_pass():
    classifier = vggsound()
    interpreter = l2i(classifier)
    batch = batch_of(noise())
    expected = interpreter.losses(batch)
    with torch.no_grad():
        maps = classifier(batch.waveform).feature_maps
    calls = []
    classifier.encoder.register_forward_hook(lambda *_: calls.append(1))
    cached = interpreter.losses(batch.replace(feature_maps=maps))
    assert not calls
    for name, value in expected.items():
        torch.testing.assert_close(cached[name], value)
    interpreter.losses(batch)
    assert len(calls) == 1


def test_a_hopeless_theta_still_has_a_finite_loss_and_a_gradient():
    interpreter = l2i(vggsound()).train()
    with torch.no_grad():
        interpreter.network.theta.linear.weight.mul_(1e5)
    loss = interpreter.losses(batch_of(noise()))["fidelity"]
    loss.backward()
    assert loss.isfinite() and interpreter.network.theta.linear.weight.grad.abs().max() > 0


def test_every_component_starts_alive():
    for build in (vggsound, external):
        interpreter = L2I(build(), torch.rand(513, 40), width=4)
        h = interpreter.interpret(noise()).details["activations"]
        assert (h.amax((0, 2)) > 0).all()


def test_moving_it_moves_classifier_and_dictionary():
    interpreter = l2i(vggsound()).double()
    everything = (*interpreter.parameters(), *interpreter.classifier.parameters(), interpreter.dictionary)
    assert all(each.dtype == torch.float64 for each in everything)
    own = L2I(by_design()).double()
    assert own.dictionary.dtype == torch.float64 and own.dictionary is own.classifier.dictionary


# --- scores


def test_scores_written_out(classifier, interpreter):
    waveform = noise()
    scores = interpreter.scores(batch_of(waveform))
    assert set(scores) == {"fidelity", "faithfulness", "mean_mask", "theta_fidelity", "selected"}
    for row in range(3):
        clip = waveform[row : row + 1]
        made = interpreter.interpret(clip)
        explained = made.target[0].nonzero()[:, 0].tolist()
        stft = classifier.spectrogram(clip)

        def judge(mask, stft=stft):
            kept = torch.exp(mask * torch.log(1 + stft.abs())) - 1
            return classifier.classify_stft(torch.polar(kept, stft.angle()), SAMPLES).probabilities[0]

        with torch.no_grad():
            whole, kept, left = classifier(clip).probabilities[0], judge(made.mask), judge(1 - made.mask)
        assert float(scores["fidelity"][row]) == float(int(kept.argmax()) in explained)
        fall = sum(float(whole[label] - left[label]) for label in explained) / len(explained)
        assert float(scores["faithfulness"][row]) == pytest.approx(fall, abs=1e-4)
        assert float(scores["mean_mask"][row]) == pytest.approx(float(made.mask.mean()), abs=1e-5)
        assert float(scores["selected"][row]) == made.details["selected"].sum()
        theta = made.details["theta_probabilities"][0]
        if classifier.multilabel:
            agreed = sum(bool(a > 0.5) == bool(b > 0.5) for a, b in zip(theta, whole)) / len(LABELS)
        else:
            agreed = float(theta.argmax() == whole.argmax())
        assert float(scores["theta_fidelity"][row]) == pytest.approx(agreed)


def test_global_relevance_is_the_mean_over_clips_predicted_as_a_class(classifier, interpreter):
    waveform = noise(6) * torch.tensor([1.0, 0.3, 2, 1, 1, 1])[:, None]
    made = interpreter.interpret(waveform)
    found = global_relevance(interpreter.train(), waveform.split(4))
    assert interpreter.training and found.shape == (len(LABELS), 6)
    for label in range(len(LABELS)):
        rows = made.target[:, label].nonzero()[:, 0].tolist()
        if not rows:
            assert found[label].isnan().all()
            continue
        expected = [interpreter.interpret(waveform[row : row + 1], label).details["relevance"][0] for row in rows]
        torch.testing.assert_close(found[label], torch.stack(expected).mean(0), atol=1e-4, rtol=1e-4)


# --- refusals


@pytest.mark.parametrize(
    "source, message",
    [
        ("nmf", "load it first"),
        (3, "is a int"),
        (torch.rand(513), "tensor (freq, components)"),
        (torch.rand(201, 4), "201 rows, the classifier's STFT 513 bins"),
        (-torch.ones(513, 4), "negative"),
        (torch.full((513, 4), torch.nan), "NaN"),
    ],
    ids=["path", "number", "vector", "bins", "negative", "nan"],
)
def test_a_dictionary_that_does_not_fit(source, message):
    for build in (lambda: L2I(vggsound(), source), lambda: DictionaryTraining(by_design(), source)):
        with pytest.raises(ValueError) as caught:
            build()
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_dictionary_from_whatever_has_one():
    with_one = l2i(vggsound())
    assert torch.equal(L2I(vggsound(), with_one).dictionary, with_one.dictionary)
    torch.testing.assert_close(read_dictionary(torch.rand(9, 3), 9).norm(dim=0), torch.ones(3))
    assert not read_dictionary(torch.zeros(9, 3), 9).any()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: L2I(vggsound(), layers=[5]), "reads feature map 5 of the classifier, which gives 5"),
        (lambda: L2I(External(TinyConv(len(LABELS)), LABELS, 16000)), "gives 0; name its layers"),
        (lambda: L2I(vggsound(), threshold=1.0), "select no component"),
        (lambda: L2I(vggsound(), top_k=0), "select no component"),
        (lambda: L2I(vggsound()).interpret(noise()), "has no dictionary"),
        (lambda: L2I(vggsound()).on_start([]), "has no dictionary"),
        (lambda: L2I(by_design(), torch.rand(513, 6)), "its own dictionary"),
        (lambda: DictionaryTraining(vggsound(), torch.rand(513, 6)), "not a VGGSound"),
        (lambda: DictionaryTraining(DictionaryClassifier(LABELS, 4)), "needs a dictionary"),
        (lambda: DictionaryTraining(by_design(), torch.rand(513, 7)), "give n_components=7"),
        (lambda: DictionaryClassifier([], 4), "give a list of class names"),
        (lambda: DictionaryClassifier("dog", 4), "give a list of class names"),
        (lambda: DictionaryClassifier(LABELS, 4, layers=[0, 5]), "feature map 5"),
    ],
)  # fmt: skip
def test_refusals(build, message):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value) and "\n" not in str(caught.value)


# --- known answer

LOW, HIGH = 40, 168  # bins of the two tones: 625 Hz and 2,625 Hz


def _tones():
    """Spectra of the two tones as the front end sees them, and two others: a band of noise in the middle, and all."""
    time = torch.arange(4096) / 16000
    columns = [torch.sin(2 * torch.pi * k * 15.625 * time) for k in (LOW, HIGH)]
    spectra = log_magnitude(STFT()(torch.stack(columns)))[:, :, 8:-8].mean(2)
    band = torch.zeros(513)
    band[80:120] = 1
    return functional.normalize(torch.stack([*spectra, band, torch.ones(513)], 1), dim=0)


TONES = _tones()


class HearsLow(Classifier):
    """Says "low" when the tone at 625 Hz is strong and "nothing" when it is not, whatever the other tone does."""

    labels, sample_rate, multilabel = ("low", "nothing"), 16000, False

    def __init__(self):
        super().__init__()
        self.spectrogram = STFT()
        self.pool = nn.AvgPool2d((16, 8))

    def features(self, waveform):
        return log_magnitude(self.spectrogram(waveform))

    def classify(self, features):
        maps = self.pool(features.unsqueeze(1))
        level = features[:, LOW].mean(1)
        logits = 2 * torch.stack([level - 3, 3 - level], 1)
        return Prediction.from_logits(logits, False, embedding=maps.mean((2, 3)), feature_maps=(maps,))


def two_tones(rows, generator):
    """Each tone at a level of its own, a bed of noise in the middle."""
    time = torch.arange(2400) / 16000

    def level():
        return 10 ** (-2 * torch.rand(rows, 1, generator=generator))

    waveform = 0.02 * torch.randn(rows, 2400, generator=generator)
    for bin_ in (LOW, HIGH):
        phase = torch.rand(rows, 1, generator=generator)
        waveform = waveform + level() * torch.sin(2 * torch.pi * (bin_ * 15.625 * time + phase))
    return batch_of(waveform / waveform.abs().amax(1, keepdim=True))


def test_the_component_of_the_tone_that_is_heard_is_selected():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    classifier = HearsLow()
    interpreter = L2I(classifier, TONES, width=8).train()
    batches = [two_tones(8, generator) for _ in range(16)]
    optimizer = torch.optim.AdamW(interpreter.parameters(), 0.02)  # optimiser and schedule as the training loop's
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=400)
    interpreter.on_start(batches)
    for step in range(400):
        losses = interpreter.losses(batches[step % 16])
        loss = 10 * losses["reconstruction"] + 0.8 * losses["sparsity"] + losses["fidelity"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(interpreter.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    time = torch.arange(4800) / 16000
    both = sum(torch.sin(2 * torch.pi * bin_ * 15.625 * time) for bin_ in (LOW, HIGH))[None] / 2
    made = interpreter.interpret(both)
    assert made.target.tolist() == [[True, False]] and made.details["theta_probabilities"].argmax() == 0
    assert made.details["selected"][0, :2].tolist() == [1.0, 0.0], made.details["relevance"]
    assert made.details["relevance"][0].argmax() == 0
    assert made.mask[0, LOW].mean() > 0.8 and made.mask[0, HIGH].mean() < 0.2
    wave, rest = (abs(torch.fft.rfft(each[0])) for each in (made.waveform, made.residual))
    low, high = (round(bin_ * 15.625 * 4800 / 16000) for bin_ in (LOW, HIGH))
    assert wave[low] > 5 * wave[high] and rest[high] > 5 * rest[low]
    unseen = two_tones(64, generator)
    assert interpreter.scores(unseen)["theta_fidelity"].mean() > 0.9
    assert global_relevance(interpreter, [unseen.waveform])[0].argmax() == 0


def test_attention_looks_at_the_frames_it_scores_highest():
    pool = AttentionPooling(2, hidden=1)
    with torch.no_grad():
        pool.v.weight.copy_(torch.tensor([[100.0, 0.0]]))
        pool.u.weight.copy_(torch.tensor([[100.0, 0.0]]))
        pool.w.weight.fill_(1.0)
    h = torch.tensor([[[0.0, 1.0, 0.0], [5.0, 3.0, 1.0]]])
    torch.testing.assert_close(pool.eval()(h), torch.tensor([[1.0, 3.0]]))


def test_parameters_at_the_papers_width():
    with torch.device("meta"):
        psi = ActivationNetwork([256] * 3, 100, strides=[16, 16, 8])
        assert VGGSound(["a"], 256).encoder.stages[0][0].out_channels == 256
    assert sum(each.numel() for each in psi.parameters()) == 3 * (256 * 9 * 64 + 64 + 1024 * 128 + 128) + (
        128 * 5 * 128 + 128 + 128 * 5 * 100 + 100
    )
