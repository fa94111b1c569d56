"""What every interpreter promises, whatever the classifier; the rows stand in cases.py."""

import copy

import pytest
import torch
from cases import CLASSIFIERS, INTERPRETERS, LABELS, NORMS, has_bands
from torch import nn

from audiointerp.classifiers import External
from audiointerp.interpreters import PIQ

RATE = 16000


def sounds(seconds: float = 0.3, rows: int = 3) -> torch.Tensor:
    """Tones on a little noise, each row another pitch and level."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = torch.tensor([300.0, 1100.0, 2900.0])[:rows, None]
    level = torch.tensor([0.8, 0.05, 0.3])[:rows, None]
    noise = torch.randn(rows, len(time), generator=generator)
    return level * (torch.sin(2 * torch.pi * pitch * time) + 0.1 * noise)


# The other three differ from it in their features, in the kind of their labels, or in what is known of them.
EVERY_CLASSIFIER = [pytest.param(name, marks=[] if name == "vggsound" else pytest.mark.slow) for name in CLASSIFIERS]


@pytest.fixture(scope="module", params=EVERY_CLASSIFIER, ids=str)
def classifier(request):
    return CLASSIFIERS[request.param]()


@pytest.fixture(params=INTERPRETERS, ids=lambda case: case.name)
def case(request, classifier):
    if not request.param.suits(classifier):
        pytest.skip("not a method for such a classifier")
    return request.param


@pytest.fixture
def interpret(case, classifier):
    interpreter = case.build(classifier)

    def run(waveform, target=None):
        return interpreter.interpret(
            waveform, target, stem=waveform * torch.linspace(0, 1, waveform.shape[-1]) if case.needs_stem else None
        )

    return run


@pytest.fixture(scope="module")
def interpretations(classifier):
    """Name of a case -> its interpretation of `sounds()`, for the tests of one classifier."""
    return {}


@pytest.fixture
def made(case, interpret, interpretations):
    """The interpretation of `sounds()`, made once for all tests; no test changes it."""
    if case.name not in interpretations:
        interpretations[case.name] = interpret(sounds())
    return interpretations[case.name]


def test_shapes_and_mask(case, classifier, made):
    waveform = sounds()
    assert made.waveform.shape == made.residual.shape == waveform.shape
    assert made.waveform.dtype == torch.float32
    assert made.target.shape == (3, len(LABELS)) and made.target.dtype == torch.bool
    assert made.sample_rate == RATE
    expected = classifier(waveform * made.input_gain[:, None])
    torch.testing.assert_close(made.prediction.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((waveform * made.input_gain[:, None]).abs().amax(1), torch.ones(3))
    assert case.mask == (made.mask is not None) == (made.domain is not None)
    if made.mask is not None:
        assert made.mask.shape == classifier.spectrogram(waveform).shape
        assert made.mask.min() >= 0 and made.mask.max() <= 1
        values = made.mask.unique()
        assert set(values.tolist()) <= {0.0, 1.0} if case.binary else len(values) > 2


def test_relevance_over_time(case, classifier):
    """One finite number for each frame; a silent clip has none that is not 0."""
    waveform, interpreter = sounds(), case.build(classifier)
    waveform[2] = 0
    made = interpreter.interpret(waveform, stem=waveform / 2 if case.needs_stem else None)
    found = interpreter.over_time(made)
    assert found.shape == (3, classifier.spectrogram(waveform).shape[2]) and bool(torch.isfinite(found).all())
    assert case.name == "random_moments" or not bool(found[2].any())


def test_what_the_mask_keeps_is_what_one_hears(case, classifier, made):
    waveform = sounds()
    if made.mask is None:
        pytest.skip("no mask")
    gain = made.input_gain[:, None]
    stft = classifier.spectrogram(waveform * gain)
    level = stft.abs()
    for mask, heard in ((made.mask, made.waveform), (1 - made.mask, made.residual)):
        kept = mask * level if made.domain == "magnitude" else (1 + level) ** mask - 1
        expected = classifier.spectrogram.inverse(torch.polar(kept, stft.angle()), waveform.shape[1])
        torch.testing.assert_close(heard * gain, expected, atol=1e-4, rtol=1e-3)


def test_additive(case, made):
    waveform = sounds()
    adds_up = torch.allclose(made.waveform + made.residual, waveform, atol=1e-5)
    assert adds_up == (case.additive or case.binary)


def test_row_of_a_batch_is_a_batch_of_one(interpret, made, classifier):
    waveform, together = sounds(), made
    for row in range(len(waveform)):
        alone = interpret(waveform[row : row + 1])
        gain = together.input_gain[row]
        torch.testing.assert_close(alone.waveform[0] * gain, together.waveform[row] * gain, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(alone.residual[0] * gain, together.residual[row] * gain, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(alone.target[0], together.target[row])
        for name, value in alone.details.items():
            # Shares of a logit jump where rounding decides on the phase of two equally strong bins.
            if not (has_bands(classifier) and name == "shares"):
                torch.testing.assert_close(value[0], together.details[name][row], atol=1e-4, rtol=1e-3)


def test_deterministic_and_leaves_the_input_alone(interpret):
    waveform = sounds()
    before = waveform.clone()
    first = interpret(waveform)
    torch.rand(7)  # the global generator moves on; results do not
    second = interpret(waveform)
    assert torch.equal(waveform, before)
    assert torch.equal(first.waveform, second.waveform) and torch.equal(first.residual, second.residual)


def test_on_another_classifier(case, classifier):
    """A copy that explains the other one, as the method made for it does; the method itself stays where it is."""
    other, waveform = copy.deepcopy(classifier), sounds(rows=1)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for each in other.parameters():
            each.add_(0.1 * each.abs().mean() * torch.randn(each.shape, generator=generator))
    stem = waveform / 2 if case.needs_stem else None
    method = case.build(classifier)
    before = method.interpret(waveform, stem=stem).waveform
    moved = method.on(other)
    assert moved.classifier is other and method.classifier is classifier and type(moved) is type(method)
    made = moved.interpret(waveform, stem=stem)
    torch.testing.assert_close(made.prediction.logits, other(waveform * made.input_gain[:, None]).logits)
    if not case.trained:
        expected = case.build(other).interpret(waveform, stem=stem)
        torch.testing.assert_close(made.waveform, expected.waveform)
    assert torch.equal(method.interpret(waveform, stem=stem).waveform, before)


def test_the_seed_alone_decides_what_is_drawn(case, classifier):
    if not case.stochastic:
        pytest.skip("draws nothing")
    waveform, interpreter = sounds(), case.build(classifier)
    first = _drawn(interpreter.interpret(waveform))
    torch.manual_seed(99)
    assert torch.equal(_drawn(case.build(classifier).interpret(waveform)), first)
    after = torch.rand(3)
    torch.manual_seed(99)
    assert torch.equal(after, torch.rand(3))  # the global generator is where it was
    interpreter.seed += 1
    assert not torch.allclose(_drawn(interpreter.interpret(waveform)), first, atol=1e-3)


def _drawn(made):
    return made.waveform if made.mask is None else made.mask


def test_silence_gives_silence_beside_a_sound(interpret):
    waveform = sounds()
    waveform[1] = 0
    made = interpret(waveform)
    assert made.waveform[1].abs().max() == 0 and made.residual[1].abs().max() == 0
    assert torch.isfinite(made.waveform).all() and torch.isfinite(made.residual).all()
    assert (made.waveform[0].abs() + made.residual[0].abs()).max() > 0
    if made.mask is not None:
        assert torch.isfinite(made.mask).all()


@pytest.mark.parametrize("samples", [1, 800, 3200, pytest.param(560_000, marks=pytest.mark.slow)])
def test_any_length(case, classifier, interpret, samples):
    if samples == 560_000 and classifier.multilabel:
        pytest.skip("35 s once an architecture")
    waveform = sounds(samples / RATE, rows=1)
    waveform[:, 0] = 0.5
    made = interpret(waveform)
    assert made.waveform.shape == made.residual.shape == waveform.shape
    assert torch.isfinite(made.waveform).all() and torch.isfinite(made.residual).all()
    if made.mask is not None:
        assert made.mask.shape[1:] == (513, 1 + samples // 186)


def test_any_level(interpret, made):
    """Powers of two, which float32 scales by without rounding: not even a bit may change."""
    waveform = sounds()
    for scale in (2.0**-3, 2.0**-10, 2.0**8):
        scaled = interpret(scale * waveform)
        assert torch.equal(scaled.waveform / scale, made.waveform)
        assert torch.equal(scaled.residual / scale, made.residual)
        assert torch.equal(scaled.input_gain * scale, made.input_gain)


def test_rounded_samples_change_nothing_one_can_hear(interpret, made, classifier):
    """A factor of 0.1 rounds every sample anew."""
    if has_bands(classifier):
        pytest.skip("its phase is that of a band's strongest bin, and rounding decides between two equally strong ones")
    scaled = interpret(0.1 * sounds())
    torch.testing.assert_close(scaled.waveform / 0.1, made.waveform, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scaled.residual / 0.1, made.residual, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scaled.input_gain * 0.1, made.input_gain)


def test_targets(case, classifier, interpret, made):
    waveform = sounds()
    if classifier.multilabel:
        expected = made.prediction.probabilities > 0.5
        strongest = nn.functional.one_hot(made.prediction.logits.argmax(1), 4).bool()
        expected = torch.stack([each if each.any() else best for each, best in zip(expected, strongest)])
    else:
        expected = nn.functional.one_hot(made.prediction.logits.argmax(1), 4).bool()
    assert torch.equal(made.target, expected)

    by_int, by_index = interpret(waveform, 2), interpret(waveform, torch.tensor([2, 0, 2]))
    assert by_int.target.tolist() == [[False, False, True, False]] * 3
    assert by_index.target.nonzero()[:, 1].tolist() == [2, 0, 2]
    torch.testing.assert_close(by_index.waveform[[0, 2]], by_int.waveform[[0, 2]], atol=1e-5, rtol=1e-4)
    assert torch.equal(by_index.waveform[1], by_int.waveform[1]) != case.by_class

    wanted = torch.tensor([[True, False, True, False], [False, True, False, False], [True] * 4])
    by_set = interpret(waveform, wanted)
    assert torch.equal(by_set.target, wanted)
    torch.testing.assert_close(by_set.waveform[1], interpret(waveform, 1).waveform[1], atol=1e-5, rtol=1e-4)


def test_several_targets_of_a_clip_are_explained_as_each_alone(case, classifier):
    waveform, interpreter = sounds(rows=2), case.build(classifier)
    stem = waveform * torch.linspace(0, 1, waveform.shape[-1]) if case.needs_stem else None
    alone = [interpreter.interpret(waveform, target, stem=stem) for target in (2, 0)]
    with interpreter.several_targets():
        together = [interpreter.interpret(waveform, target, stem=stem) for target in (2, 0)]
    for one, other in zip(alone, together):
        assert torch.equal(one.target, other.target)
        assert torch.equal(one.waveform, other.waveform) and torch.equal(one.residual, other.residual)
        assert all(torch.equal(value, other.details[name]) for name, value in one.details.items())


def test_another_classifier_is_explained_anew(case, classifier):
    """Also while several targets are explained: what this classifier said of the clip is not taken for the other's."""
    waveform, interpreter = sounds(rows=1), case.build(classifier)
    stem = waveform * torch.linspace(0, 1, waveform.shape[-1]) if case.needs_stem else None
    torch.manual_seed(1)
    other = copy.deepcopy(classifier)
    for weight in other.parameters():
        nn.init.normal_(weight, std=0.3)
    alone = interpreter.on(other).interpret(waveform, 1, stem=stem)
    with interpreter.several_targets():
        interpreter.interpret(waveform, 1, stem=stem)
        after = interpreter.on(other).interpret(waveform, 1, stem=stem)
    assert torch.equal(alone.waveform, after.waveform)


BAD_TARGETS = {
    "a class too many": (4, "outside 0..3"),
    "negative": (-1, "outside 0..3"),
    "one index too few": (torch.tensor([0, 1]), "expected (3,)"),
    "float": (torch.tensor([0.0, 1.0, 2.0]), "float32"),
    "another batch's set": (torch.ones(2, 4, dtype=torch.bool), "(3, 4)"),
    "set without a batch axis": (torch.ones(4, dtype=torch.bool), "(3, 4)"),
    "empty set": (torch.tensor([[True] * 4, [False] * 4, [True] * 4]), "empty set"),
    "name of no class": ("no such class", "is not a class"),
}


def test_bad_targets(interpret):
    for what, (target, message) in BAD_TARGETS.items():
        with pytest.raises(ValueError) as caught:
            interpret(sounds(0.05), target)
        assert message in str(caught.value) and "\n" not in str(caught.value), what


BAD_WAVEFORMS = [
    (torch.zeros(1, 2, 800), "expected (batch, samples)"),
    (torch.zeros(1, 0), "at least 1 sample"),
    (torch.full((1, 800), torch.nan), "NaN"),
    (torch.full((1, 800), torch.inf), "infinite"),
]


def test_bad_waveforms(interpret):
    for waveform, message in BAD_WAVEFORMS:
        with pytest.raises(ValueError) as caught:
            interpret(waveform)
        assert message in str(caught.value), message


def state_of(classifier):
    """Everything about a classifier that explaining it might disturb."""
    modules = dict(classifier.named_modules())
    parameters = dict(classifier.named_parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights": copy.deepcopy(classifier.state_dict()),
        "training": {name: module.training for name, module in modules.items()},
        "requires_grad": {name: each.requires_grad for name, each in parameters.items()},
        "grad": {name: None if each.grad is None else each.grad.clone() for name, each in parameters.items()},
        "hooks": {(name, kind): list(getattr(module, kind)) for name, module in modules.items() for kind in hooks},
    }


def assert_same_state(before, after):
    for name in ("training", "requires_grad", "hooks"):
        assert before[name] == after[name], name
    torch.testing.assert_close(after["weights"], before["weights"], rtol=0, atol=0)
    for name, grad in before["grad"].items():
        assert (grad is None and after["grad"][name] is None) or torch.equal(grad, after["grad"][name])


@pytest.fixture
def unusual(classifier):
    """A copy in a mixed state: training but for one module, one weight frozen, gradients present."""
    made = copy.deepcopy(classifier).train()
    next(module for module in made.modules() if isinstance(module, NORMS)).eval()
    first, second, *_ = made.parameters()
    first.requires_grad_(False)
    second.grad = torch.ones_like(second)
    list(made.modules())[-1].register_forward_hook(lambda *_: None)  # the owner's
    return made


def test_classifier_is_left_as_found(case, unusual):
    before = state_of(unusual)
    interpreter = case.build(unusual)
    waveform = sounds()
    interpreter.interpret(waveform, stem=waveform if case.needs_stem else None)
    assert_same_state(before, state_of(unusual))


@pytest.mark.parametrize("call", [1, 2, 3])
def test_classifier_is_left_as_found_after_an_exception(case, unusual, call):
    before = state_of(unusual)
    interpreter = case.build(unusual)
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == call:
            raise InterruptedError("in the middle")

    head = next(each for each in reversed(list(unusual.modules())) if isinstance(each, nn.Linear))
    hook = head.register_forward_hook(fail)
    waveform = sounds()
    try:
        interpreter.interpret(waveform, stem=waveform if case.needs_stem else None)
    except InterruptedError:
        assert len(calls) == call
    else:
        assert 1 <= len(calls) < call  # it asks the classifier less often
    hook.remove()
    assert_same_state(before, state_of(unusual))


def test_classifier_is_left_as_found_after_a_failing_mask(case, unusual, monkeypatch):
    before = state_of(unusual)
    interpreter = case.build(unusual)
    if not hasattr(interpreter, "make_mask"):
        pytest.skip("makes no mask")

    def fail(scene):
        assert not any(module.training for module in unusual.modules())
        assert not any(each.requires_grad for each in unusual.parameters())
        raise InterruptedError("in the middle")

    monkeypatch.setattr(interpreter, "make_mask", fail)
    with pytest.raises(InterruptedError):
        interpreter.interpret(sounds())
    assert_same_state(before, state_of(unusual))


def test_own_weights_are_left_as_found(case, classifier):
    if not case.trained:
        pytest.skip("no weights of its own")
    interpreter = case.build(classifier).train()
    before = state_of(interpreter)
    interpreter.interpret(sounds())
    assert_same_state(before, state_of(interpreter))
    assert not set(map(id, interpreter.parameters())) & set(map(id, classifier.parameters()))


def test_piq_without_feature_maps(classifier):
    with pytest.raises(ValueError, match=r"gives 0; name its layers"):
        PIQ(External(nn.Sequential(nn.Unflatten(1, (1, -1)), nn.AdaptiveAvgPool1d(4), nn.Flatten()), LABELS, RATE))
