"""WAM: the theorem of gradients, completeness, planted tones, and the official code's defects, which it must lack."""

import numpy as np
import pandas as pd
import pytest
import pywt
import soundfile
import torch
from cases import external, vggsound

from audiointerp.__main__ import main
from audiointerp.classifiers import External
from audiointerp.contracts import Classifier, Prediction
from audiointerp.evaluation import judging
from audiointerp.interpreters import WAM
from audiointerp.interpreters.wam import split_levels
from audiointerp.metrics import curves
from audiointerp.metrics.separation import si_sdr
from audiointerp.sound.spectrogram import STFT

RATE, SAMPLES = 16000, 4800
PUBLISHED = {"average": "smooth", "within": "level", "threshold": 0.2}


class Hears(Classifier):
    """Logit 0 is the power between two bins (with `log`, its log1p in each bin); logit 1 is 0."""

    labels, sample_rate, multilabel = ("heard", "nothing"), RATE, False

    def __init__(self, bins=slice(186, 199), log=False):
        super().__init__()
        self.spectrogram, self.bins, self.log = STFT(), bins, log

    def features(self, waveform):
        return self.spectrogram(waveform).abs()

    def classify(self, features):
        power = features[:, self.bins].square()
        heard = (power.log1p() if self.log else power).mean((1, 2))
        return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)


class Sum(Classifier):
    """Logit 0 is a weighted sum of the samples, so that its gradient is known; logit 1 is 0."""

    labels, sample_rate, multilabel = ("heard", "nothing"), RATE, False

    def __init__(self, weight):
        super().__init__()
        self.spectrogram, self.weight = STFT(), weight

    def features(self, waveform):
        return waveform

    def classify(self, features):
        heard = features @ self.weight
        return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)


def tone(hertz, start=0.0, stop=1.0, samples=SAMPLES):
    time = torch.arange(samples) / RATE
    return torch.where((time >= start) & (time < stop), torch.sin(2 * torch.pi * hertz * time), 0.0)[None]


def noise(samples=SAMPLES, rows=1, seed=1):
    made = torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))
    return made / made.abs().amax(1, keepdim=True)


HIGH, LOW = tone(3000.0, 0.1, 0.2), tone(400.0)


# --- theorems


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8", "bior4.4"])
@pytest.mark.parametrize("samples", [4800, 4799])
def test_for_orthogonal_wavelets_the_gradient_is_the_transform_of_the_waveforms_gradient(wavelet, samples):
    classifier, waveform = vggsound(), noise(samples)
    made = (
        WAM(classifier, wavelet, levels=5, average="smooth", n_samples=1, noise=0.0)
        .interpret(waveform, 1)
        .details["relevance"][0]
    )
    inner = waveform.clone().requires_grad_()
    gradient = torch.autograd.grad(classifier(inner).logits[0, 1], inner)[0][0].numpy()
    expected = np.abs(np.concatenate(pywt.wavedec(gradient, wavelet, mode="zero", level=5)))
    difference = np.abs(made.numpy() - expected).max() / expected.max()
    assert difference < 1e-5 if pywt.Wavelet(wavelet).orthogonal else difference > 1e-2


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
def test_integrated_relevance_adds_up_to_the_change_of_the_logit(wavelet):
    classifier, both = external(), noise(rows=2)
    made = WAM(classifier, wavelet, average="integrated", n_samples=50).interpret(both, 2)
    with torch.no_grad():
        change = (classifier(both).logits - classifier(0 * both).logits)[:, 2]
    torch.testing.assert_close(made.details["relevance"].sum(1), change, rtol=0.02, atol=1e-3)
    assert (made.details["completeness"] < 0.02).all()


def test_smoothing_is_the_mean_gradient_at_noise_relative_to_the_range():
    classifier, waveform = Hears(log=True), noise()
    made = (
        WAM(classifier, levels=4, average="smooth", n_samples=3, noise=0.1, seed=5)
        .interpret(waveform, 0)
        .details["relevance"][0]
    )
    generator = torch.Generator().manual_seed(5)
    spread = 0.1 * float(waveform.max() - waveform.min())
    total = 0
    for _ in range(3):
        noisy = (waveform + spread * torch.randn(SAMPLES, generator=generator)).requires_grad_()
        gradient = torch.autograd.grad(classifier(noisy).logits[0, 0], noisy)[0][0].numpy()
        total = total + np.concatenate(pywt.wavedec(gradient, "db4", mode="zero", level=4)) / 3
    np.testing.assert_allclose(made, np.abs(total), atol=1e-4 * np.abs(total).max())


# --- planted sounds


@pytest.mark.parametrize("wavelet", ["db4", "sym8"])
def test_the_planted_tone_is_found(wavelet):
    """Of two tones the classifier hears the one at 3 kHz, in the level of 2 to 4 kHz."""
    method = WAM(Hears(), wavelet, levels=5, average="integrated", within="clip", threshold=0.02)
    made = method.interpret(HIGH + LOW, 0)
    assert si_sdr(made.waveform, HIGH) > 8 > 0 > si_sdr(made.waveform, LOW)
    levels = split_levels(made.details["relevance"][0].clamp(min=0), made.details["lengths"][0])
    bands = method.transform.bands(RATE)
    assert bands[int(np.argmax([float(level.sum()) for level in levels]))] == (2000.0, 4000.0)
    # And at its time: the coefficients kept of this level are about 0.1 to 0.2 s.
    kept = split_levels(made.details["kept"][0], made.details["lengths"][0])[bands.index((2000.0, 4000.0))]
    start, step = method.transform.times(RATE)[bands.index((2000.0, 4000.0))]
    times = start + step * ((kept > 0.5).nonzero()[:, 0] + 0.5)
    assert len(times) > 100 and times.min() > 0.09 and times.max() < 0.21


def test_the_explanation_is_made_of_the_kept_coefficients():
    classifier, waveform = vggsound(), 0.3 * noise()
    made = WAM(classifier, "db4", levels=4, n_samples=2).interpret(waveform, 1)
    assert made.mask is None and made.domain is None
    coefficients = pywt.wavedec(waveform[0].double().numpy(), "db4", mode="zero", level=4)
    kept = split_levels(made.details["kept"][0], [len(each) for each in coefficients])
    expected = pywt.waverec([c * k.numpy() for c, k in zip(coefficients, kept)], "db4", mode="zero")[:SAMPLES]
    np.testing.assert_allclose(made.waveform[0], expected, atol=1e-5)
    share = made.details["kept"].mean()
    assert 0 < share < 0.9
    torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-6, rtol=0)


# --- the official code's defects


def test_defect_1_the_front_end_is_the_classifiers_own():
    """The gradient is that of the classifier itself, by finite differences of its own logit."""
    classifier, waveform = Hears(slice(50, 400), log=True), noise()
    made = WAM(classifier, "haar", levels=3, average="smooth", n_samples=1, noise=0.0).interpret(waveform, 0).details
    coefficients = pywt.wavedec(waveform[0].double().numpy(), "haar", mode="zero", level=3)
    levels = split_levels(made["relevance"][0], made["lengths"][0])
    for number, level in enumerate(levels):
        place = int(level.argmax())
        heard = []
        for step in (1e-2, -1e-2):
            moved = [each.copy() for each in coefficients]
            moved[number][place] += step
            sound = torch.tensor(pywt.waverec(moved, "haar", mode="zero")[:SAMPLES], dtype=torch.float32)[None]
            with torch.no_grad():
                heard.append(float(classifier(sound).logits[0, 0]))
        assert abs(heard[0] - heard[1]) / 2e-2 == pytest.approx(float(level[place]), rel=0.02)


def test_defect_2_nothing_kept_is_silence_not_nan():
    """A logit that never changes has no relevance: the explanation is silent, and so are its scores' inputs."""
    made = WAM(Sum(torch.zeros(SAMPLES))).interpret(noise(), 0)
    assert made.waveform.abs().max() == 0 and torch.equal(made.residual, noise())
    assert torch.isfinite(judging.judge(made, noise(), Sum(torch.zeros(SAMPLES)))["faithfulness"]).all()


def test_defect_3_no_reconstruction_is_brought_to_its_own_peak():
    """Kept and removed parts are at the input's level, at any level of the input."""
    for level in (1.0, 0.01):
        made = WAM(vggsound(), n_samples=1).interpret(level * noise(), 1)
        torch.testing.assert_close(made.waveform + made.residual, level * noise(), atol=1e-6 * level, rtol=0)
        assert made.waveform.abs().max() < 1.5 * level


def test_defect_4_removed_coefficients_are_silent_not_0_db():
    """The classifier of dB hears less without the tone's coefficients, not a loud 0 dB."""

    class Decibels(Hears):
        def classify(self, features):
            heard = 20 * features[:, self.bins].mean((1, 2)).clamp(min=1e-5).log10()
            return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)

    classifier = Decibels()
    method = WAM(classifier, average="integrated", within="clip", threshold=0.0)
    made = method.interpret(0.01 * HIGH + 0.01 * LOW, 0)
    gain = made.input_gain[:, None]
    with torch.no_grad():
        whole, left, none = (
            float(classifier(each * gain).logits[0, 0]) for each in (0.01 * (HIGH + LOW), made.residual, 0 * HIGH)
        )
    assert none == pytest.approx(-100) and left < whole - 10


def test_defect_5_weak_insertion_is_not_hidden_by_its_own_peak():
    """Our curves are mean probabilities: a mask that reaches 0.1 at most scores a tenth of one that reaches 1."""
    mask, stft = torch.rand(1, 5, 6), torch.randn(1, 5, 6, dtype=torch.complex64)
    strong, weak = (
        curves.insertion_and_deletion(mask, stft, lambda heard, top=top: torch.full((len(heard),), top))[0]
        for top in (1.0, 0.1)
    )
    torch.testing.assert_close(weak, 0.1 * strong)
    # A probability that is the share of the energy has the area 1/2, whatever the number of steps.
    energy = stft.abs().square().sum()
    linear = curves.insertion_and_deletion(mask, stft, lambda heard: heard.abs().square().sum((1, 2)) / energy)
    torch.testing.assert_close(linear[0], torch.tensor([0.5]), atol=1e-4, rtol=0)


def test_defect_6_a_level_with_only_negative_gradients_keeps_its_largest():
    """Relevance is divided by the largest magnitude: turning the sign of the logit changes no coefficient."""
    weight = noise(seed=3)[0]
    up, down = (
        WAM(Sum(sign * weight), levels=4, n_samples=1, **PUBLISHED).interpret(noise(), 0) for sign in (1.0, -1.0)
    )
    assert torch.equal(up.details["kept"], down.details["kept"])
    both = (split_levels(up.details[name][0], up.details["lengths"][0]) for name in ("relevance", "kept"))
    for level, kept in zip(*both):
        assert kept[level.argmax()] == 1 and kept[level.argmin()] == 0


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8"])
@pytest.mark.parametrize("samples", [220500, 4801, 301])
def test_defect_7_levels_are_divided_where_they_end(wavelet, samples):
    """Also where the number of samples is odd and wavelets are longer than Haar's, at any padding of PyWavelets."""
    transform = WAM(Sum(torch.zeros(samples)), wavelet, levels=3).transform
    for mode in ("zero", "reflect", "symmetric"):
        lengths = [len(each) for each in pywt.wavedec(np.zeros(samples), wavelet, mode=mode, level=3)]
        assert transform.lengths(samples) == lengths
    if (wavelet, samples) == ("haar", 220500):
        assert lengths == [27563, 27563, 55125, 110250]
    levels = transform(noise(samples))
    flat = torch.cat(levels, 1)[0]
    for ours, theirs in zip(split_levels(flat, lengths), levels):
        assert torch.equal(ours, theirs[0])


@pytest.mark.parametrize("average", ["smooth", "integrated"])
@pytest.mark.parametrize("max_batch", [1, 2, 8])
def test_defect_8_a_clips_gradient_is_not_divided_by_the_batch(average, max_batch):
    """Clips are explained together, and as if each were alone."""
    both, classifier = noise(rows=3), vggsound()
    settings = {"levels": 3, "average": average, "n_samples": 3, "threshold": 0.2}
    together = WAM(classifier, max_batch=max_batch, **settings).interpret(both, 1)
    for row in range(3):
        alone = WAM(classifier, **settings).interpret(both[row : row + 1], 1).details
        for name, value in alone.items():
            torch.testing.assert_close(together.details[name][row], value[0].to(value.dtype), atol=1e-5, rtol=1e-3)


# --- the rest


def test_a_recording_is_explained_from_the_command_line(tmp_path):
    """Its sounds, figure, scores and page are made, though there is no mask."""
    time = np.arange(8000) / RATE
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 3000 * time), RATE)
    out = tmp_path / "out"
    assert main(["interpret", "esc10-piq", str(tmp_path / "a.wav"), "-o", str(out), "--method", "wam,shapley"]) == 0
    scores = pd.read_csv(out / "scores.csv").set_index("method")
    assert set(scores.index) == {"wam", "shapley"} and np.isfinite(scores["faithfulness"]).all()
    assert [path.name.split("_")[-1] for path in sorted((out / "figures").iterdir())] == ["shapley.png", "wam.png"]
    item = scores["item_id"].iloc[0]
    parts = [soundfile.read(out / "audio" / item / name)[0] for name in ("wam.wav", "wam_residual.wav", "mixture.wav")]
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-5)
    assert "wam" in (out / "report.html").read_text()


def test_all_coefficients_are_the_clip():
    weight = torch.ones(SAMPLES)
    made = WAM(Sum(weight), "db4", average="integrated", within="clip", threshold=0.0).interpret(weight[None], 0)
    # Every coefficient of a constant speaks for the sum of the samples, but for those that are 0.
    torch.testing.assert_close(made.waveform, weight[None], atol=1e-5, rtol=0)


def test_the_scaleogram_has_seconds_and_hertz():
    method = WAM(Hears(), levels=5, average="integrated")
    shown = method.scaleogram(method.interpret(HIGH + LOW, 0))
    assert [each[3:] for each in shown] == method.transform.bands(RATE)
    values, start, step, low, high = max(shown, key=lambda each: each[0].max())
    assert (low, high) == (2000.0, 4000.0)
    assert 0.09 < start + step * (values.argmax() + 0.5) < 0.21


def test_a_classifier_without_gradients_is_refused_in_one_line():
    class Detached(torch.nn.Module):
        def forward(self, waveform):
            loud = waveform.detach().square().mean(1, keepdim=True)
            return torch.cat([loud, -loud], 1)

    with pytest.raises(ValueError, match="WAM needs gradients, but none reaches the waveform") as caught:
        WAM(External(Detached(), ["a", "b"], RATE)).interpret(HIGH)
    assert "\n" not in str(caught.value)
    known = external()
    known.no_gradient = "it runs on another machine"
    with pytest.raises(ValueError, match="it runs on another machine"):
        WAM(known)


def test_a_root_of_zero_is_named():
    class Root(Hears):
        def classify(self, features):
            heard = features[:, self.bins].square().mean(1).sqrt().sum(1)
            return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)

    with pytest.raises(ValueError, match="NaN or infinite gradients from Root"):
        WAM(Root(), average="smooth", n_samples=1, noise=0.0).interpret(tone(3000.0, 0.2, 0.21, 16000))


@pytest.mark.parametrize("average", ["smooth", "integrated"])
def test_passes_are_as_announced(average):
    classifier, heard = vggsound(), []
    method = WAM(classifier, average=average, n_samples=3, max_batch=2)
    classifier.head.register_forward_hook(lambda _, inputs, __: heard.append(len(inputs[0])))
    method.interpret(noise(rows=3))
    assert max(heard[1:]) <= 2
    with_gradient, without = 3, 0 if average == "smooth" else 9
    assert sum(heard[1:]) == 3 * (with_gradient + without) and method.passes == 3 * with_gradient + without


BAD = [
    ({"wavelet": "db99"}, "wavelet is 'db99'"),
    ({"wavelet": "morl"}, "wavelet is 'morl'"),
    ({"levels": 0}, "levels is 0"),
    ({"average": "mean"}, "average is 'mean'"),
    ({"within": "all"}, "within 'all'"),
    ({"n_samples": 0}, "n_samples is 0"),
    ({"max_batch": 0}, "max_batch 0"),
    ({"noise": -1.0}, "noise is -1.0"),
    ({"threshold": 1.0}, "threshold 1.0"),
]


@pytest.mark.parametrize("arguments, message", BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        WAM(external(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
