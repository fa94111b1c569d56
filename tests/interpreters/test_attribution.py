"""Attribution methods against worked cases, literal versions, captum and sounds with a known answer."""

import sys

import numpy as np
import pytest
import torch
from captum import attr
from cases import ATTRIBUTIONS, LABELS, external, vggsound
from sklearn.linear_model import Ridge as SklearnRidge
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from audiointerp.bundles import bundle
from audiointerp.classifiers import External
from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters import (
    LIME,
    RDE,
    RISE,
    GradCAM,
    GradientSHAP,
    GuidedGradCAM,
    IntegratedGradients,
    Occlusion,
    Saliency,
    Shapley,
    SmoothGrad,
)
from audiointerp.interpreters.attribution.base import FITTING, hear
from audiointerp.interpreters.attribution.lime import Ridge
from audiointerp.interpreters.attribution.memory import CLIPS, Memory
from audiointerp.interpreters.base import Scene
from audiointerp.interpreters.rde.solvers import MatchingPursuit
from audiointerp.metrics.separation import si_sdr
from audiointerp.sound.masking import AttributionMask
from audiointerp.sound.nmf import NMF
from audiointerp.sound.spectrogram import STFT

RATE, SAMPLES = 16000, 9600
CASES = {case.name: case for case in ATTRIBUTIONS}


class Hears(Classifier):
    """Logit 0 is the weighted sum of f(magnitude) over the bins; logit 1 is 0."""

    labels, sample_rate, multilabel = ("heard", "nothing"), RATE, False

    def __init__(self, weight, shape=torch.log1p, reads_magnitude=True):
        super().__init__()
        self.spectrogram, self.weight, self.shape, self.reads_magnitude = STFT(), weight, shape, reads_magnitude

    def features(self, waveform):
        return self.spectrogram(waveform).abs()

    def classify(self, features):
        heard = (self.weight * self.shape(features)).sum((1, 2))
        return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)

    def classify_stft(self, stft, samples):
        return self.classify(stft.abs())


class Hand(nn.Module):
    """Maps (batch, 2, 2, 2) of the first eight samples; logit 0 is a weighted sum of their squares."""

    weight = torch.tensor([[[1.0, 2.0], [3.0, -1.0]], [[-1.0, -2.0], [0.5, 0.0]]])

    def __init__(self):
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, waveform):
        maps = self.maps(waveform[:, :8].reshape(-1, 2, 2, 2))
        logit = (self.weight * maps.square()).sum((1, 2, 3)) / 2
        return torch.stack([logit, -logit], 1)


class LogMel(nn.Module):
    """dB of a mel-like power spectrogram, as many classifiers begin, then a small ReLU network with random weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.stft = STFT(RATE, 512, 400, 160)
        self.register_buffer("bands", torch.eye(32).repeat_interleave(8, 1).roll(1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(6, len(LABELS))

    def forward(self, waveform):
        power = self.stft(waveform).abs()[:, :256].square()
        decibel = 10 * (self.bands @ power).clamp(min=1e-10).log10()
        return self.head(self.body(decibel.unsqueeze(1) / 40).flatten(1))


def noise(samples=SAMPLES, rows=1):
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(1))


def tone(hertz, start, stop):
    """A tone from one time to another, in seconds, of 0.6."""
    time = torch.arange(SAMPLES) / RATE
    return torch.where((time >= start) & (time < stop), torch.sin(2 * torch.pi * hertz * time), 0.0)[None]


OVER_PARTS = {
    "lime": LIME,
    "shapley": Shapley,
    "rde": lambda it, **parts: RDE(it, filler="silence", solver=MatchingPursuit(weight=0.1), **parts),
}
WANTED, OTHER = tone(3000.0, 0.3, 0.4), tone(700.0, 0.0, 0.6)
FREQ, TIME = slice(128, 256), slice(26, 34)  # about the wanted tone: tile (1, 3) of 4 x 6


@pytest.fixture
def hears_one_tone():
    """A classifier that hears 2,900 to 3,100 Hz only."""
    weight = torch.zeros(513, 1)
    weight[186:199] = 0.1
    return Hears(weight)


# --- gradients


@pytest.mark.parametrize("reads_magnitude", [True, False])
def test_saliency_is_the_finite_difference(reads_magnitude):
    weight = torch.randn(513, 52, generator=torch.Generator().manual_seed(3))
    classifier = Hears(weight, torch.sqrt, reads_magnitude)
    waveform = noise() / noise().abs().max()
    signed = Saliency(classifier, absolute=False).interpret(waveform, 0).details["attribution"][0]
    magnitude = classifier.spectrogram(waveform).abs().double()
    for f, t in ((0, 0), (7, 30), (400, 11), (512, 51)):
        step = torch.zeros_like(magnitude)
        step[0, f, t] = 1e-4
        higher, lower = (classifier.classify(magnitude + sign * step).logits[0, 0] for sign in (1, -1))
        assert signed[f, t] == pytest.approx(float(higher - lower) / 2e-4, rel=1e-3)
    absolute = Saliency(classifier).interpret(waveform, 0).details["attribution"][0]
    assert torch.equal(absolute, signed.abs())


@pytest.mark.parametrize("classifier", [vggsound, external])
def test_smoothgrad_without_noise_is_saliency(classifier):
    made = SmoothGrad(classifier(), n_samples=5, noise=0.0, max_batch=2).interpret(noise(), 1)
    expected = Saliency(classifier()).interpret(noise(), 1)
    torch.testing.assert_close(made.details["attribution"], expected.details["attribution"], atol=1e-6, rtol=1e-4)


def test_smoothgrad_is_the_mean_gradient_at_noise_relative_to_the_range():
    classifier = Hears(torch.randn(513, 52, generator=torch.Generator().manual_seed(3)))
    made = SmoothGrad(classifier, n_samples=4, noise=0.2, seed=7).interpret(noise(), 0)
    magnitude = classifier.spectrogram(noise() / noise().abs().max()).abs()
    torch.manual_seed(7)
    noisy = magnitude + torch.normal(0, 0.2 * (magnitude.max() - magnitude.min()) * torch.ones(4, 513, 52))
    expected = (classifier.weight / (1 + noisy) * (noisy >= 0)).mean(0)
    assert 0.05 < (noisy < 0).float().mean() < 0.5
    torch.testing.assert_close(made.details["attribution"][0], expected.abs(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("path", ["log_spaced", "linear"])
def test_integrated_gradients_gives_each_bin_its_own_part(path):
    weight = torch.randn(513, 52, generator=torch.Generator().manual_seed(3))
    classifier = Hears(weight)
    made = IntegratedGradients(classifier, path=path, max_batch=7).interpret(noise(), 0)
    magnitude = classifier.spectrogram(noise() / noise().abs().max()).abs()[0]
    # The logit is a sum over bins, so integrating one bin's gradient gives its summand.
    torch.testing.assert_close(made.details["attribution"][0], weight * magnitude.log1p(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("path", ["log_spaced", "linear"])
def test_integrated_gradients_is_complete_behind_log1p(path):
    classifier = bundle.load("esc10-piq").classifier
    waveform = WANTED + OTHER
    made = IntegratedGradients(classifier, path=path).interpret(waveform, torch.tensor([7]))
    change = _change(classifier, waveform, [7])
    assert change.abs().min() > 0.5
    torch.testing.assert_close(made.details["attribution"].sum((1, 2)), change, rtol=0.01, atol=0)
    assert (made.details["completeness"] < 0.01).all()


def test_integrated_gradients_is_complete_behind_decibels_only_where_it_looks_near_silence():
    classifier = External(LogMel(), LABELS, RATE)
    made = IntegratedGradients(classifier).interpret(noise(), 1)
    change = _change(classifier, noise(), 1)
    assert change.abs() > 0.1
    torch.testing.assert_close(made.details["attribution"].sum((1, 2)), change, rtol=0.01, atol=0)
    assert made.details["completeness"] < 0.01
    assert IntegratedGradients(classifier, path="linear").interpret(noise(), 1).details["completeness"] > 0.2


def _change(classifier, waveform, target):
    """y(clip) - y(silence) at peak 1."""
    with torch.no_grad():
        scaled = waveform / waveform.abs().amax(1, keepdim=True)
        return (classifier.eval()(scaled).logits - classifier(0 * scaled).logits)[range(len(waveform)), target]


def test_gradient_shap_of_a_linear_classifier_is_known():
    weight = torch.randn(513, 52, generator=torch.Generator().manual_seed(3))
    classifier = Hears(weight, lambda magnitude: magnitude)
    peak = noise().abs().max()
    magnitude = classifier.spectrogram(noise() / peak).abs()[0]
    floor = torch.minimum(magnitude.quantile(0.1, 1, keepdim=True), magnitude)
    donor = 3 * noise(4000, 2)[1:]  # another level, too short
    repeated = classifier.spectrogram((donor / donor.abs().max()).repeat(1, 3)[:, :SAMPLES]).abs()[0]
    for arguments, baseline in (
        ({"baselines": ["silence"]}, 0),
        ({"baselines": ["noise_floor"]}, floor),
        ({"baselines": [], "donors": donor}, repeated),
    ):
        made = GradientSHAP(classifier, n_samples=5, max_batch=3, **arguments).interpret(noise(), 0)
        expected = weight * (magnitude - baseline)
        torch.testing.assert_close(made.details["attribution"][0], expected, atol=1e-4, rtol=1e-3)
    both = GradientSHAP(classifier, n_samples=12).interpret(noise(), 0).details["attribution"][0]
    share = ((weight * magnitude - both) / (weight * floor))[magnitude > 1.01 * floor]
    assert 0.2 < share.median() < 0.8 and share.std() < 0.01  # how often the floor was drawn, the same in every bin


# --- Grad-CAM


def hand_made(**arguments):
    """Grad-CAM of `Hand` at peak 1, and what it is by hand on the 2 x 2 grid."""
    waveform = 0.1 * noise(3000)
    waveform[0, :8] = torch.tensor([1.0, -0.5, 0.25, 0.5, 0.5, -1.0, 0.75, 0.25])
    classifier = External(Hand(), ["a", "b"], RATE, layers=["maps"], **arguments)
    maps = waveform[0, :8].view(2, 2, 2)
    gradient = Hand.weight * maps
    cam = (gradient.mean((1, 2), keepdim=True) * maps).sum(0)
    return GradCAM(classifier).interpret(waveform, 0).details["attribution"][0], cam


def test_gradcam_by_hand():
    made, cam = hand_made()
    assert (cam < 0).any() and (cam > 0).any()
    # Interpolation keeps the corners, and halves the way between two cells.
    corners = made[[0, 0, -1, -1], [0, -1, 0, -1]].view(2, 2)
    torch.testing.assert_close(corners, cam.clamp(min=0), atol=1e-4, rtol=1e-3)
    assert made[256, 0] == pytest.approx(float(cam.clamp(min=0)[:, 0].mean()), abs=1e-4)


def test_gradcam_of_tokens_takes_channels_for_channels():
    class Tokens(Hand):
        """The same maps as (batch, 1 + tokens, channel), after a token of something else."""

        def forward(self, waveform):
            tokens = waveform[:, :8].reshape(-1, 2, 4).transpose(1, 2)
            tokens = self.maps(torch.cat([100 + 0 * tokens[:, :1], tokens], 1))
            maps = tokens[:, 1:].transpose(1, 2).reshape(-1, 2, 2, 2)
            return torch.stack([(self.weight * maps.square()).sum((1, 2, 3)) / 2, maps[:, 0, 0, 0]], 1)

    waveform = noise(3000)
    tokens = External(
        Tokens(),
        ["a", "b"],
        RATE,
        layers=["maps"],
        reshape=lambda maps: maps[:, 1:].transpose(1, 2).unflatten(2, (2, 2)),
    )
    plain = External(Hand(), ["a", "b"], RATE, layers=["maps"])
    made, expected = (GradCAM(each).interpret(waveform, 0).details["attribution"] for each in (tokens, plain))
    assert expected.max() > 0
    torch.testing.assert_close(made, expected)


def test_gradcam_of_a_long_clip_joins_its_pieces():
    waveform = torch.cat([noise(3000), 0.5 * noise(3000).flip(1)], 1)
    pieces = External(Hand(), ["a", "b"], RATE, layers=["maps"], max_samples=3000)
    made = GradCAM(pieces).interpret(waveform, 0).details["attribution"][0]
    scaled = (waveform / waveform.abs().max())[0]
    maps = torch.cat([scaled[:8].view(2, 2, 2), scaled[3000:3008].view(2, 2, 2)], 2)
    gradient = torch.cat([Hand.weight, Hand.weight], 2) * maps / 2
    cam = (gradient.mean((1, 2), keepdim=True) * maps).sum(0).clamp(min=0)
    torch.testing.assert_close(made[[0, 0, -1, -1], [0, -1, 0, -1]].view(2, 2), cam[:, [0, -1]], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("layer", [0, -1])
def test_gradcams_are_captums(layer):
    classifier = vggsound()
    waveform = noise() / noise().abs().max()
    made, guided = (kind(classifier, layer=layer).interpret(waveform, 1) for kind in (GradCAM, GuidedGradCAM))

    class OfMagnitude(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = classifier

        def forward(self, magnitude):
            return classifier.classify(magnitude[:, 0].log1p()).logits

    module = classifier.encoder.residual if layer == -1 else classifier.encoder.stages[layer]
    magnitude = classifier.spectrogram(waveform).abs().unsqueeze(1).requires_grad_()
    cam = attr.LayerGradCam(OfMagnitude(), module).attribute(magnitude, 1, relu_attributions=True)
    whole = attr.LayerAttribution.interpolate(cam, (513, 52), "bilinear")[:, 0].detach()
    torch.testing.assert_close(made.details["attribution"], whole, atol=1e-6, rtol=1e-4)
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = attr.GuidedGradCam(OfMagnitude(), module).attribute(magnitude, 1, interpolate_mode="bilinear")
    assert expected.abs().max() > 0
    torch.testing.assert_close(guided.details["attribution"], expected[:, 0].detach(), atol=1e-6, rtol=1e-4)


class Functional(nn.Module):
    """Two ReLUs called as functions, and as many as modules as asked for."""

    def __init__(self, modules):
        super().__init__()
        self.maps, self.head = nn.Conv2d(1, 4, 64), nn.Linear(4, 4)
        self.relus = nn.Sequential(*(nn.ReLU() for _ in range(modules)))

    def forward(self, waveform):
        maps = self.maps(waveform[:, : 100 * 90].reshape(-1, 1, 100, 90))
        return self.head(self.relus(torch.relu(nn.functional.relu(maps))).mean((2, 3)))


def test_guided_gradcam_refuses_relus_it_cannot_guide():
    with pytest.raises(ValueError, match=r"needs torch.nn.ReLU modules, but External has none"):
        GuidedGradCAM(External(Functional(0), LABELS, RATE, layers=["maps"]))
    mixed = GuidedGradCAM(External(Functional(1), LABELS, RATE, layers=["maps"]))
    with pytest.raises(ValueError, match=r"cannot guide 2 of 3 ReLUs"):
        mixed.interpret(noise())


def test_hooks_are_removed_when_the_way_back_fails():
    classifier = external()

    def fail(_):
        raise InterruptedError

    def spoil(_, inputs, output):
        if output.requires_grad:
            output.register_hook(fail)

    classifier.module.norm.register_forward_hook(spoil)
    before = [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in classifier.modules()]
    for kind in (Saliency, SmoothGrad, IntegratedGradients, GradientSHAP, GuidedGradCAM):
        with pytest.raises(InterruptedError):
            kind(classifier).interpret(noise(), 0)
        assert before == [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in classifier.modules()]
        assert all(each.grad is None and each.requires_grad for each in classifier.parameters())


@pytest.mark.parametrize("kind", [GradCAM, GuidedGradCAM])
def test_a_missing_feature_map_is_named(kind):
    with pytest.raises(ValueError, match=r"External has no feature map 1 among its 1; name layers"):
        kind(external(), layer=1)
    with pytest.raises(ValueError, match=r"VGGSound has no feature map 5 among its 5"):
        kind(vggsound(), layer=5).interpret(noise())


# --- planted parts


def inside(mask, freq=FREQ, time=TIME):
    """Share of the mask that lies in a rectangle."""
    return float(mask[freq, time].sum() / mask.sum())


def test_lime_finds_the_tile(hears_one_tone):
    made = LIME(hears_one_tone, n_samples=200).interpret(WANTED + OTHER, 0)
    coefficients = made.details["coefficients"][0].view(4, 6)
    assert coefficients.argmax() == 1 * 6 + 3
    rest = coefficients.flatten().sort().values
    assert rest[-1] > 5 * rest[:-1].abs().max()
    assert made.mask[0, 129:256, 27:34].min() == 1 and inside(made.mask[0]) > 0.7
    assert si_sdr(made.waveform, WANTED) > 10


def test_lime_finds_the_band(hears_one_tone):
    made = LIME(hears_one_tone, parts="bands", n_components=6).interpret(WANTED + OTHER, 0)
    coefficients = made.details["coefficients"][0]
    wanted, rest = coefficients.max(), coefficients.sort().values[:-1]
    assert len(coefficients) == 6 and wanted > 5 * rest.abs().max()
    assert si_sdr(made.waveform, WANTED) > 10 > 0 > si_sdr(made.waveform, OTHER)


def test_lime_finds_the_component(hears_one_tone):
    made = LIME(hears_one_tone, parts="nmf", n_components=4).interpret(WANTED + OTHER, 0)
    assert si_sdr(made.waveform, WANTED) > 10 > 0 > si_sdr(made.waveform, OTHER)
    # From a given dictionary of the two tones, one component is the answer.
    stft = hears_one_tone.spectrogram
    dictionary = torch.cat([stft(each).abs().log1p().sum(2).T for each in (OTHER, WANTED)], 1)
    for given in (dictionary, _learnt(dictionary)):
        made = LIME(hears_one_tone, parts="nmf", dictionary=given).interpret(WANTED + OTHER, 0)
        first, second = made.details["coefficients"][0]
        assert second > 5 * first.abs() and si_sdr(made.waveform, WANTED) > 10


def test_lime_keeps_parts_whole_from_a_share_of_the_largest_coefficient(hears_one_tone):
    third, plain = (LIME(hears_one_tone, saturation=share) for share in (1 / 3, None))
    given = torch.tensor([3.0, 1.0, 0.5, -0.2, -9.0])
    torch.testing.assert_close(third._saturated(given), torch.tensor([1.0, 1.0, 0.5, -0.2, -1.0]))
    assert torch.equal(plain._saturated(given), given) and torch.equal(third._saturated(-given.abs()), -given.abs())
    for share in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(ValueError, match="in \\(0, 1\\]"):
            LIME(hears_one_tone, saturation=share)


@pytest.mark.parametrize("build", OVER_PARTS.values(), ids=OVER_PARTS.keys())
def test_the_layer_within_its_segment_is_found(hears_one_tone, build):
    """The tone of 0.1 s lies within one band and one segment, so that this part alone is nearly the tone."""
    parts = {"parts": ["bands", "onsets"], "n_components": 4, "n_segments": 3}
    made = build(hears_one_tone, **parts).interpret(WANTED + OTHER, 0)
    assert si_sdr(made.waveform, WANTED) > 10 > 0 > si_sdr(made.waveform, OTHER)
    torch.testing.assert_close(made.waveform + made.residual, WANTED + OTHER, atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", OVER_PARTS.values(), ids=OVER_PARTS.keys())
def test_the_percussive_layer_is_found(build):
    """A classifier of rises hears the clicks; one of a steady frequency hears the tone."""
    clicks, steady = torch.zeros(1, SAMPLES), tone(700.0, 0.0, 0.6)
    clicks[:, [2000, 4500, 7000]] = 8.0
    high, low = torch.zeros(513, 1), torch.zeros(513, 1)
    high[200:], low[40:50] = 0.01, 0.1
    for weight, wanted, other in ((high, clicks, steady), (low, steady, clicks)):
        made = build(Hears(weight), parts="harmonic_percussive").interpret(clicks + steady, 0)
        assert si_sdr(made.waveform, wanted) > 10 > 0 > si_sdr(made.waveform, other)


def _learnt(dictionary):
    made = NMF(2)
    made.dictionary = nn.functional.normalize(dictionary, dim=0)
    return made


@pytest.mark.parametrize("filler", ["silence", "noise_floor"])
@pytest.mark.parametrize(
    "build",
    [
        lambda it, filler: RISE(it, filler=filler, max_batch=32),
        lambda it, filler: RISE(it, patch=(1000.0, 0.1), filler=filler, max_batch=32),
        lambda it, filler: Occlusion(it, patch=(800.0, 0.1), filler=filler, max_batch=32),
    ],
)
def test_rise_and_occlusion_find_the_tile(hears_one_tone, build, filler):
    attribution = build(hears_one_tone, filler).interpret(WANTED + OTHER, 0).details["attribution"][0]
    peak = int(attribution.argmax())
    assert FREQ.start <= peak // 52 < FREQ.stop and TIME.start <= peak % 52 < TIME.stop
    outside = attribution.clone()
    outside[100:290, 17:43] = 0
    assert attribution.max() > 3 * outside.abs().max()


def test_occlusion_by_hand():
    weight = torch.randn(513, 52, generator=torch.Generator().manual_seed(3))
    classifier = Hears(weight, lambda magnitude: magnitude)
    interpreter = Occlusion(classifier, patch=(2000.0, 0.3), stride=0.5, max_batch=3)
    made = interpreter.interpret(noise(), 0).details["attribution"][0]
    loss = (weight * classifier.spectrogram(noise() / noise().abs().max()).abs())[0]
    total, count = torch.zeros(513, 52), torch.zeros(513, 52)
    for low in (0, 64, 128, 192, 256, 320, 384, 448):
        for early in (0, 13, 26, 39):  # 26 frames of 52, every 13; the last ones hang over the edge
            patch = slice(low, low + 128), slice(early, early + 26)
            total[patch] += loss[patch].sum()
            count[patch] += 1
            if early + 26 >= 52:
                break
    torch.testing.assert_close(made, total / count, atol=1e-2, rtol=1e-3)
    assert interpreter.passes_for(SAMPLES) == 1 + 8 * 3


def test_rise_is_its_formula():
    classifier = vggsound()
    interpreter = RISE(classifier, n_masks=6, cells=(3, 2), max_batch=4)
    waveform = noise() / noise().abs().max()
    made = interpreter.interpret(waveform, 2).details["attribution"][0]
    magnitude = classifier.spectrogram(waveform).abs()
    half = torch.cat(list(interpreter._masks(magnitude)))
    assert half.shape == (3, 513, 52) and half.min() >= 0 and half.max() <= 1 and 0.2 < half.mean() < 0.8
    masks = torch.cat([half, 1 - half])
    with torch.no_grad():
        heard = torch.stack([classifier.classify((mask * magnitude).log1p()).logits[0, 2] for mask in masks])
    expected = sum((y - heard.mean()) * (mask - 0.5) for y, mask in zip(heard, masks)) / (6 * 0.25)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-3)


def test_ridge_is_scikit_learns():
    generator = np.random.default_rng(0)
    z, y, weight = generator.integers(0, 2, (40, 6)), generator.normal(size=40), generator.random(40)
    ours = Ridge()
    data = TensorDataset(*(torch.tensor(each, dtype=torch.float32) for each in (z, y, weight)))
    ours.fit(DataLoader(data, batch_size=40))
    theirs = SklearnRidge(alpha=1.0).fit(z, y, weight)
    np.testing.assert_allclose(ours.representation()[0], theirs.coef_, atol=1e-5)
    assert float(ours.r2) == pytest.approx(theirs.score(z, y, weight), abs=1e-5)


def test_lime_hears_everything_first_and_all_selections_of_few_parts():
    few, many = LIME(vggsound(), tiles=(3, 3)), LIME(vggsound(), tiles=(3, 4), n_samples=50)
    chosen = few._choose(9)
    assert len(chosen.unique(dim=0)) == few.passes == 512 and chosen[0].min() == 1
    drawn = many._choose(12)
    assert drawn.shape == (50, 12) and many.passes == 50 and drawn[0].min() == 1
    assert 0.4 < drawn[1:].mean() < 0.6


def test_lime_tells_how_linear_the_classifier_is(hears_one_tone):
    linear = Hears(hears_one_tone.weight, lambda magnitude: magnitude)
    curved = Hears(hears_one_tone.weight.roll(-147, 0), lambda magnitude: (magnitude - 1).square())
    made = [LIME(each, tiles=(2, 4)).interpret(WANTED + OTHER, 0).details["r2"] for each in (linear, curved)]
    assert made[0] > 0.9 and 0 <= made[1] <= 1


def test_what_nothing_speaks_for_is_flagged():
    deaf = Hears(torch.zeros(513, 1))
    for build in (LIME, lambda it: RISE(it, n_masks=8), Saliency, lambda it: Occlusion(it, patch=(8000, 1))):
        made = build(deaf).interpret(WANTED, 0)
        assert made.details["all_zero"].tolist() == [True] and made.mask.max() == 0
        assert torch.isfinite(made.waveform).all()
    assert LIME(deaf).interpret(WANTED, 0).details["r2"] == 1
    assert not Saliency(Hears(torch.ones(513, 1))).interpret(WANTED, 0).details["all_zero"].any()


# --- all of them


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("classifier", [vggsound, external])
def test_silence_is_explained_by_nothing(name, classifier):
    made = CASES[name].build(classifier()).interpret(torch.zeros(2, 3000))
    assert made.mask.abs().max() == 0 and made.details["all_zero"].all()
    assert all(torch.isfinite(each).all() for each in made.details.values())


# Forward passes of which a gradient is asked, and others.
PASSES = {
    "saliency": (1, 0),
    "smoothgrad": (2, 0),
    "integrated_gradients": (2, 9),
    "gradient_shap": (3, 0),
    "gradcam": (1, 0),
    "guided_gradcam": (2, 0),
    "occlusion": (0, 5),
    "lime_tiles": (0, 8),
    "lime_nmf": (0, 4),
    "lime_layers": (0, 9),
    "extremal": (3 * 2, 2 + 2),
    "extremal_noise": (3, 1 + 2),
    "igos": (2 * 4 * 2, 2 + 4 + 2 * 4 * 2 + 2),
    "rise": (0, 4),
    "segments_forest": (0, 24),
    "segments_ridge": (0, 12),
    "shapley": (0, 8),
    "shapley_kernel": (0, 16),
    "shapley_permutation": (0, 2 + 4 * 5),
    "rde_tiles": (3 * 2, 1 + 2 + 1 + 2),
    "rde_nmf": (0, 1 + 1 + 1 + 3 + 1),
}


@pytest.mark.parametrize("name", CASES)
def test_passes_and_batches_are_as_announced(name):
    classifier = vggsound()
    interpreter = CASES[name].build(classifier)
    interpreter.max_batch, heard = 2, []
    classifier.head.register_forward_hook(lambda _, inputs, __: heard.append(len(inputs[0])))
    interpreter.interpret(noise(rows=3))
    with_gradient, without = PASSES[name]
    assert interpreter.passes_for(SAMPLES) == 3 * with_gradient + without
    assert sum(heard[1:]) == 3 * (with_gradient + without)  # three clips, after their prediction
    assert max(heard[1:]) <= 2
    assert interpreter.passes == interpreter.passes_for(5 * RATE)


def test_a_long_clip_has_more_patches():
    interpreter = Occlusion(vggsound())
    assert interpreter.passes == 1 + 16 * 19 and interpreter.passes_for(10 * RATE) == 1 + 16 * 39
    assert interpreter.passes_for(1600) == 1 + 16


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].stochastic])
def test_the_size_of_batches_does_not_matter(name):
    made = []
    for size in (1, 5):
        interpreter = CASES[name].build(vggsound())
        interpreter.max_batch = size
        made.append(interpreter.interpret(noise(), 1).details["attribution"])
    torch.testing.assert_close(*made, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", [Saliency, SmoothGrad, IntegratedGradients, GradientSHAP, Occlusion, LIME])
def test_without_captum_one_line_says_how_to_install_it(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ValueError, match=f"{kind.__name__} needs captum; install it with: pip install captum"):
        kind(vggsound())
    GradCAM(vggsound()).interpret(noise())
    RISE(vggsound(), n_masks=2).interpret(noise())


def test_a_root_of_zero_is_named():
    weight = torch.ones(513, 1)
    waveform = noise()
    waveform[:, :4000] = 0
    with pytest.raises(ValueError, match="NaN or infinite values from Hears; does its front end take a root"):
        Saliency(Hears(weight, torch.sqrt)).interpret(waveform)


BAD = [
    (Saliency, {"max_batch": 0}, "max_batch is 0"),
    (SmoothGrad, {"n_samples": 0}, "n_samples is 0"),
    (SmoothGrad, {"noise": -1.0}, "noise -1.0"),
    (IntegratedGradients, {"steps": 0}, "steps is 0"),
    (IntegratedGradients, {"path": "straight"}, "path 'straight'"),
    (GradientSHAP, {"n_samples": 0}, "n_samples is 0"),
    (GradientSHAP, {"baselines": []}, "at least one sample and one baseline or donor"),
    (GradientSHAP, {"baselines": "silence"}, "give a list"),
    (GradientSHAP, {"baselines": ["zeros"]}, "zeros"),
    (GradientSHAP, {"donors": torch.zeros(5)}, "(5,)"),
    (Occlusion, {"patch": (10.0, 0.5)}, "a bin of this spectrogram is 15.625 Hz x 0.011625 s"),
    (Occlusion, {"patch": (1000.0, 0.001)}, "1000 Hz x 0.001 s"),
    (Occlusion, {"stride": 0.0}, "stride is 0.0"),
    (Occlusion, {"stride": 1.5}, "stride is 1.5"),
    (Occlusion, {"filler": "zeros"}, "filler is 'zeros'"),
    (RISE, {"n_masks": 5}, "n_masks is 5"),
    (RISE, {"cells": (0, 3)}, "(0, 3)"),
    (RISE, {"patch": (1.0, 1.0)}, "patch is 1 Hz"),
    (RISE, {"filler": "mean"}, "filler is 'mean'"),
    (LIME, {"parts": "stems"}, "parts are 'stems'"),
    (LIME, {"parts": ["nmf", "stems"]}, "choose from tiles, bands"),
    (RDE, {"parts": ["segments", "onsets"]}, "divides time"),
    (RDE, {"parts": "onsets", "n_segments": 0}, "n_segments 0"),
    (LIME, {"parts": "harmonic_percussive", "margin": 0.5}, "margin is 0.5"),
    (LIME, {"tiles": (0, 2)}, "(0, 2)"),
    (LIME, {"n_samples": 0}, "n_samples is 0"),
    (LIME, {"parts": "nmf", "n_components": 0}, "n_components 0"),
    (LIME, {"dictionary": torch.ones(7, 2)}, "(7, 2); expected (513, components)"),
    (LIME, {"dictionary": -torch.ones(513, 2)}, "all 0 or more"),
    (LIME, {"filler": "noise"}, "filler is 'noise'"),
]


@pytest.mark.parametrize("kind, arguments, message", BAD)
def test_bad_arguments(kind, arguments, message):
    with pytest.raises(ValueError) as caught:
        kind(vggsound(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_mask_is_the_attributions():
    rule = AttributionMask(quantile=0.9, smooth=1)
    made = Saliency(vggsound(), to_mask=rule, domain="log_magnitude").interpret(noise())
    assert made.domain == "log_magnitude" and torch.equal(made.mask, rule(made.details["attribution"]))


@pytest.mark.parametrize("name", ["lime_tiles", "lime_nmf", "shapley", "rise", "occlusion", "gradcam"])
def test_a_further_target_of_a_clip_costs_no_passes(monkeypatch, name):
    classifier = vggsound()
    interpreter = CASES[name].build(classifier)
    clips = torch.randn(2, SAMPLES, generator=torch.Generator().manual_seed(1))
    classified = []
    original = classifier.classify_stft

    def counted(stft, samples):
        classified.append(len(stft))
        return original(stft, samples)

    monkeypatch.setattr(classifier, "classify_stft", counted)

    def passes(clip, target):
        classified.clear()
        interpreter.interpret(clip, target)
        return sum(classified)

    first, second = clips[:1], clips[1:]
    whole = passes(first, 0)
    with interpreter.several_targets():
        assert passes(first, 0) == whole
        further = passes(first, 2)
        assert passes(second, 2) == whole  # another clip is not the one before
        assert passes(first, 1) == further
    assert further == (whole if name == "gradcam" else 1)  # 1: the prediction for the clip itself
    assert passes(first, 2) == whole  # nothing is kept beyond the block, where the classifier may change


def test_the_clip_explained_longest_ago_is_forgotten():
    memory = Memory()
    clips = torch.arange(1.0, CLIPS + 2)[:, None, None]
    known = [memory.of(clip) for clip in clips[:CLIPS]]
    assert memory.of(clips[0]) is known[0]
    memory.of(clips[CLIPS])
    assert memory.of(clips[0]) is known[0] and memory.of(clips[1]) is not known[1]


@pytest.mark.parametrize("make", [vggsound, external])
def test_versions_are_classified_in_pieces_as_one_by_one(make):
    """As many as fit the caches of a CPU at a time; with a gradient all at once, whose feature maps are kept."""
    classifier = make().eval()
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    stft, made = classifier.spectrogram(waveform), classifier(waveform)
    scene = Scene(waveform, stft, made, torch.eye(len(made.logits[0]), dtype=torch.bool)[:2])
    several = torch.rand(2 * FITTING + 1, 1, 1, 1) * stft.abs()  # (version, row, freq, time)
    heard = hear(classifier, scene)
    with torch.no_grad():
        found = heard(several.flatten(0, 1))
        each_alone = [classifier.classify_stft(torch.polar(each, stft.angle()), 8000).logits for each in several]
        expected = torch.cat(each_alone)
    assert found.feature_maps == () and found.probabilities.shape == found.logits.shape
    torch.testing.assert_close(found.logits, expected, atol=1e-5, rtol=1e-4)
    assert len(heard(several.flatten(0, 1)).feature_maps[0]) == len(expected)
