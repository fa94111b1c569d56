"""Any waveform -> logits module as a classifier: hooks, pieces, layouts, errors."""

import math

import pytest
import torch
from cases import LABELS, TinyConv
from torch import nn

from audiointerp.classifiers import External
from audiointerp.classifiers.external import mel_axis
from audiointerp.interpreters import (
    LIME,
    RISE,
    GradCAM,
    GradientSHAP,
    GuidedGradCAM,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
)
from audiointerp.sound.spectrogram import STFT


class Mean(nn.Module):
    """Logits are the mean and the peak of the waveform."""

    def forward(self, waveform):
        return torch.stack([waveform.mean(1), waveform.amax(1)], 1)


class Layers(nn.Module):
    """Layers of several layouts, and one that is never called."""

    def __init__(self):
        super().__init__()
        self.conv, self.pair, self.unused = nn.Conv1d(1, 6, 8, stride=8), Pair(), nn.Identity()

    def forward(self, waveform):
        maps = self.conv(waveform.unsqueeze(1))
        return self.pair(maps)[0].mean((2, 3))[:, :2]


class Pair(nn.Module):
    """(batch, 6, time) -> (batch, 2, time, 3) and something else."""

    def forward(self, x):
        return x.unflatten(1, (2, 3)).transpose(2, 3), "rest"


def hooks(module):
    return sum(len(each._forward_hooks) for each in module.modules())


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return TinyConv(len(LABELS)).eval()


def test_equals_the_module_and_captures_its_layers_in_order(tiny):
    waveform = torch.randn(2, 16000)
    seen = {}
    for name in ("maps", "norm"):
        getattr(tiny, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    before = hooks(tiny)
    classifier = External(tiny, LABELS, 16000, layers=["maps", "norm"])
    prediction = classifier(waveform)
    torch.testing.assert_close(prediction.logits, tiny(waveform))
    assert len(prediction.feature_maps) == 2
    torch.testing.assert_close(prediction.feature_maps[0], seen["maps"])
    torch.testing.assert_close(prediction.feature_maps[1], seen["norm"])
    torch.testing.assert_close(prediction.embedding, seen["norm"].mean((2, 3)))
    assert hooks(tiny) == before == 2


def test_without_layers_there_is_no_embedding():
    prediction = External(Mean(), ["mean", "peak"], 16000)(torch.ones(1, 10))
    assert prediction.feature_maps == () and prediction.embedding is None
    assert prediction.logits.tolist() == [[1.0, 1.0]] and prediction.probabilities.tolist() == [[0.5, 0.5]]


def test_multilabel():
    prediction = External(Mean(), ["mean", "peak"], 16000, multilabel=True)(torch.zeros(1, 10))
    assert prediction.probabilities.tolist() == [[0.5, 0.5]]
    assert External(Mean(), ["mean", "peak"], 16000, multilabel=True)(torch.ones(1, 9)).probabilities.sum() > 1.4


def test_hooks_are_removed_after_an_exception(tiny):
    classifier = External(tiny, LABELS, 16000, layers=["maps", "norm"])
    tiny.head.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(InterruptedError("in the middle")))
    with pytest.raises(InterruptedError):
        classifier(torch.randn(1, 16000))
    assert hooks(tiny) == 0


def test_long_inputs_are_judged_in_pieces(tiny):
    classifier = External(tiny, LABELS, 16000, layers=["maps"], max_samples=4000)
    waveform = torch.randn(2, 10_000)
    whole = classifier(waveform)
    # three pieces, as equal as 10,000 samples allow
    pieces = [tiny(waveform[:, a:b]) for a, b in ((0, 3334), (3334, 6667), (6667, 10_000))]
    torch.testing.assert_close(whole.logits, (pieces[0] + pieces[1] + pieces[2]) / 3)
    each = External(tiny, LABELS, 16000, layers=["maps"])
    maps = torch.cat([each(waveform[:, a:b]).feature_maps[0] for a, b in ((0, 3334), (3334, 6667), (6667, 10_000))], 3)
    torch.testing.assert_close(whole.feature_maps[0], maps)


def test_no_piece_is_longer_than_allowed():
    lengths = []

    class Watch(Mean):
        def forward(self, waveform):
            lengths.append(waveform.shape[1])
            return super().forward(waveform)

    classifier = External(Watch(), ["mean", "peak"], 16000, max_samples=300)
    for samples, expected in ((300, [300]), (301, [151, 150]), (899, [300, 300, 299])):
        lengths.clear()
        classifier(torch.zeros(1, samples))
        assert lengths == expected


class OneLength(nn.Module):
    """Takes 300 samples only: the energy of each of 30 blocks as a map, their means as logits."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, waveform):
        blocks = self.maps(waveform.view(-1, 1, 1, 30, 10).square().mean(-1))
        return torch.cat([blocks[..., :15].mean((2, 3)), blocks[..., 15:].mean((2, 3))], 1)


def one_length() -> External:
    return External(OneLength(), ["early", "late"], 16000, layers=["maps"], samples=300)


@pytest.mark.parametrize("samples", [1, 299, 300, 301, 750])
def test_a_module_of_one_length_gets_this_length(samples):
    waveform = torch.randn(2, samples)
    filled = nn.functional.pad(waveform, (0, -samples % 300))
    made = one_length()(waveform)
    pieces = [OneLength()(piece) for piece in filled.split(300, 1)]
    real = [min(1.0, samples / 300 - number) for number in range(len(pieces))]
    expected = sum(share * piece for share, piece in zip(real, pieces)) / sum(real)
    torch.testing.assert_close(made.logits, expected)
    assert made.feature_maps[0].shape == (2, 1, 1, 30 * len(pieces))


def test_the_places_of_a_filled_map_are_those_of_the_sound():
    """A burst at 400 of 450 samples: block 40 of 60, of which 45 are of the sound."""
    stft = STFT(16000, 64, 20, 10)
    classifier = External(OneLength(), ["early", "late"], 16000, layers=["maps"], samples=300, spectrogram=stft)
    waveform = torch.zeros(1, 450)
    waveform[:, 400:410] = 1
    blocks = classifier(waveform).feature_maps[0][:, 0]
    assert int(blocks.argmax()) == 40
    placed = classifier.place(blocks.expand(-1, 2, -1), 450)[0, 0]
    assert len(placed) == 46 and abs(int(placed.argmax()) - 40.5 / 45 * 46) <= 1


def test_one_length_in_methods():
    waveform = 0.1 * torch.randn(1, 16000)
    waveform[:, 8000:8100] += 1
    for method in (GradCAM, IntegratedGradients):
        made = method(one_length()).interpret(waveform, 0)
        assert made.waveform.shape == waveform.shape and float(made.mask.max()) > 0


@pytest.mark.parametrize("given", [{"samples": 0}, {"max_samples": 0}, {"samples": 300, "max_samples": 300}])
def test_lengths_that_cannot_be(given):
    with pytest.raises(ValueError, match="give one of them, at least 1: samples is the module's only length"):
        External(OneLength(), ["early", "late"], 16000, **given)


def test_a_module_that_fails_is_told_in_one_line():
    classifier = External(OneLength(), ["early", "late"], 16000)
    with pytest.raises(
        ValueError, match=r"OneLength fails for waveforms of shape \(1, 299\) \(RuntimeError: shape "
    ) as told:
        classifier(torch.zeros(1, 299))
    assert str(told.value).endswith("wrap it with External(samples=LENGTH)") and "\n" not in str(told.value)


def test_reshape_lays_out_the_maps():
    waveform = torch.randn(1, 80)
    straight = External(Layers(), ["a", "b"], 16000, layers=["pair"])
    torch.manual_seed(0)
    turned = External(straight.module, ["a", "b"], 16000, layers=["pair"], reshape=lambda maps: maps.transpose(2, 3))
    assert straight(waveform).feature_maps[0].shape == (1, 2, 10, 3)  # the first of the layer's pair
    torch.testing.assert_close(turned(waveform).feature_maps[0], straight(waveform).feature_maps[0].transpose(2, 3))


def test_wrong_layers():
    with pytest.raises(ValueError, match=r"layers \['con'\] are not in Layers; it has \['conv', 'pair', 'unused'\]"):
        External(Layers(), ["a", "b"], 16000, layers=["conv", "con"])
    with pytest.raises(ValueError, match=r"layers \['conv'\] do not give .*pass reshape"):
        External(Layers(), ["a", "b"], 16000, layers=["conv"])(torch.zeros(1, 80))
    with pytest.raises(ValueError, match=r"layers \['unused'\] were not called by Layers.forward"):
        External(Layers(), ["a", "b"], 16000, layers=["unused"])(torch.zeros(1, 80))


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "c"]])
def test_logits_that_do_not_fit_the_labels(labels):
    with pytest.raises(ValueError, match=rf"Mean returned logits of shape \(2, 2\); expected \(batch, {len(labels)}\)"):
        External(Mean(), labels, 16000)(torch.zeros(2, 80))


@pytest.mark.parametrize(
    "result", [lambda x: x, lambda x: x[:, 0], lambda x: (x[:, :2],), lambda x: {"logits": x[:, :2]}]
)
@pytest.mark.parametrize("max_samples", [None, 30])
def test_what_is_not_logits(result, max_samples):
    class Odd(nn.Module):
        def forward(self, waveform):
            return result(waveform)

    with pytest.raises(ValueError, match="Odd returned logits of shape") as caught:
        External(Odd(), ["a", "b"], 16000, max_samples=max_samples)(torch.zeros(2, 80))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rate, hop, n_fft", [(16000, 186, 1024), (8000, 93, 512), (32000, 372, 2048), (44100, 513, 4096)]
)
def test_masks_live_on_a_grid_of_the_same_seconds(rate, hop, n_fft):
    stft = External(Mean(), ["mean", "peak"], rate).spectrogram
    assert (stft.hop_length, stft.win_length, stft.n_fft) == (hop, 2 * hop, n_fft)
    waveform = torch.randn(1, rate // 4)
    torch.testing.assert_close(stft.inverse(stft(waveform), rate // 4), waveform, atol=1e-5, rtol=1e-4)


def test_a_masked_spectrogram_is_judged_through_the_inverse(tiny):
    classifier = External(tiny, LABELS, 16000)
    waveform = torch.randn(1, 5000)
    stft = classifier.spectrogram(waveform)
    torch.testing.assert_close(classifier.classify_stft(stft, 5000).logits, tiny(waveform), atol=1e-4, rtol=1e-4)
    mask = (torch.arange(513) < 100)[:, None]
    expected = tiny(classifier.spectrogram.inverse(stft * mask, 5000))
    torch.testing.assert_close(classifier.classify_stft(stft * mask, 5000).logits, expected)


class Ear(nn.Module):
    """Hears what is above 30 % and below 50 % of half the rate, on a spectrogram of its own; or on its mel bands."""

    def __init__(self, bank=None):
        super().__init__()
        self.register_buffer("window", torch.hann_window(512))
        self.register_buffer("heard", ((torch.arange(257) > 77) & (torch.arange(257) < 128)).float()[:, None])
        self.bank, self.maps = bank, nn.ReLU()

    def forward(self, waveform):
        stft = torch.stft(waveform, 512, 256, window=self.window, pad_mode="constant", return_complex=True)
        power = (stft.real.square() + stft.imag.square()) * self.heard
        maps = self.maps(((power if self.bank is None else self.bank @ power) + 1e-6).sqrt().unsqueeze(1))
        loud = maps.mean((1, 2, 3)).add(1e-3).log()
        return torch.stack([loud, 0 * loud], 1)


def tones(rate, *shares, seconds=0.4):
    """One tone after another, at shares of half the rate, each as long; on a little noise."""
    time = torch.arange(round(seconds * rate)) / rate
    turn = (time * len(shares) / seconds).long().clamp(max=len(shares) - 1)
    pitch = torch.tensor(shares)[turn]
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return (torch.sin(torch.pi * pitch * rate * time) + 1e-3 * noise)[None]


METHODS = {
    "saliency": Saliency,
    "smoothgrad": lambda it: SmoothGrad(it, n_samples=4),
    "integrated_gradients": lambda it: IntegratedGradients(it, steps=8),
    "gradient_shap": lambda it: GradientSHAP(it, n_samples=4),
    "gradcam": GradCAM,
    "guided_gradcam": GuidedGradCAM,
    "occlusion": lambda it: Occlusion(it, patch=(it.sample_rate / 16, 1.0)),
    "lime_tiles": lambda it: LIME(it, tiles=(8, 1)),
    "lime_nmf": lambda it: LIME(it, parts="nmf", n_components=3),
    "rise": lambda it: RISE(it, n_masks=60, cells=(8, 1)),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [22050, 44100])
def test_of_two_tones_every_method_keeps_the_one_that_is_heard(method, rate):
    classifier = External(Ear(), ["loud", "quiet"], rate, layers=["maps"])
    waveform = tones(rate, 0.4, 0.8)
    made = METHODS[method](classifier).interpret(waveform, 0)
    assert made.waveform.shape == waveform.shape and made.sample_rate == rate
    mask = made.mask[0].split(-(-made.mask.shape[2] // 2), 1)
    heard, unheard = (half[round(share * len(half))].mean() for half, share in zip(mask, (0.4, 0.8)))
    assert heard > 0.3 and heard > 3 * unheard
    assert hooks(classifier) == 0


@pytest.mark.parametrize("low, high", [(0.0, 8000.0), (125.0, 7500.0)])
def test_mel_axis(low, high):
    def to_mel(hertz):
        return 2595 * math.log10(1 + hertz / 700)  # the other way to write it

    axis = mel_axis(low, high)
    for hertz in (low, 440.0, 3000.0, high):
        expected = (to_mel(hertz) - to_mel(low)) / (to_mel(high) - to_mel(low))
        assert float(axis(torch.tensor(hertz))) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("low, high", [(-1, 8000), (8000, 8000), (8000, 20)])
def test_mel_axis_of_no_width(low, high):
    with pytest.raises(ValueError, match=f"mel_axis is from {low} to {high} Hz"):
        mel_axis(low, high)


@pytest.mark.parametrize("shape", [(5, 7), (513, 30), (1, 1), (600, 3)])
def test_maps_are_placed_as_torch_interpolates(shape):
    values = torch.rand(2, *shape)
    placed = External(Mean(), ["mean", "peak"], 16000).place(values, 16000)
    expected = nn.functional.interpolate(values[:, None], (513, 87), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(placed, expected, atol=2e-4, rtol=1e-3)


def mel_bank(rate, bands, bins):
    """Slaney-style triangles would do as well; here bands are boxes, evenly spaced in mel from 0 to half the rate."""
    edges = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + rate / 1400), bands + 1) / 2595) - 1)
    hertz = torch.arange(bins) / (bins - 1) * rate / 2
    return ((hertz >= edges[:-1, None]) & (hertz < edges[1:, None])).float()


def test_grad_cam_of_a_mel_front_end_is_at_the_right_pitch():
    rate = 22050
    ear = Ear(mel_bank(rate, 40, 257))
    classifier = External(ear, ["loud", "quiet"], rate, layers=["maps"], frequency_axis=mel_axis(0, rate / 2))
    attribution = GradCAM(classifier).interpret(tones(rate, 0.4), 0).details["attribution"][0]
    peak = int(attribution.mean(1).argmax()) / attribution.shape[0]
    assert peak == pytest.approx(0.4, abs=0.03)  # row 26 of 40, which without the axis would be shown at 0.66
