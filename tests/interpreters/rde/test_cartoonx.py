"""CartoonX for sounds: the problem against its formula, a planted tone, and refusals."""

import numpy as np
import pytest
import pywt
import torch
from cases import external, vggsound

from audiointerp.classifiers import External
from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters import CartoonX
from audiointerp.interpreters.rde import MatchingPursuit, Relaxed
from audiointerp.interpreters.rde.cartoonx import WaveletProblem
from audiointerp.metrics.separation import si_sdr
from audiointerp.sound.spectrogram import STFT

RATE, SAMPLES = 16000, 4800
PURSUIT = MatchingPursuit(weight=0.2, samples=2)


class Hears(Classifier):
    """Logit 0 is the mean log1p power between two bins; logit 1 is 0."""

    labels, sample_rate, multilabel = ("heard", "nothing"), RATE, False

    def __init__(self):
        super().__init__()
        self.spectrogram = STFT()

    def features(self, waveform):
        return self.spectrogram(waveform).abs()

    def classify(self, features):
        heard = features[:, 186:199].square().log1p().mean((1, 2))
        return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)


def tone(hertz, start=0.0, stop=1.0):
    time = torch.arange(SAMPLES) / RATE
    return torch.where((time >= start) & (time < stop), torch.sin(2 * torch.pi * hertz * time), 0.0)[None]


HIGH, LOW = tone(3000.0, 0.1, 0.2), tone(400.0)


@pytest.mark.parametrize("n_segments", [3, None])
def test_the_problem_is_its_formula(n_segments):
    classifier, waveform = external(), (HIGH + LOW) / (HIGH + LOW).abs().max()
    method = CartoonX(classifier, "db3", levels=4, n_segments=n_segments)
    blocks, target = method._blocks(SAMPLES), torch.tensor([[False, True, False, False]])
    with torch.no_grad():
        problem = WaveletProblem(method, waveform, target, blocks)
        drawn = problem.draw(2, torch.Generator().manual_seed(0))
        keep = torch.rand(2, problem.count, generator=torch.Generator().manual_seed(1))
        made = problem.change(keep, drawn)
        levels = pywt.wavedec(waveform[0].double().numpy(), "db3", mode="zero", level=4)
        whole = classifier(waveform).logits[0, 1]
    lengths = [len(level) for level in levels]
    assert problem.count == (5 * 3 if n_segments else sum(lengths))
    for version in range(2):
        shares = np.split(keep[version][blocks].double().numpy(), np.cumsum(lengths)[:-1])
        fillers = np.split(drawn[version].double().numpy(), np.cumsum(lengths)[:-1])
        mixed = [c * s + f * (1 - s) for c, s, f in zip(levels, shares, fillers)]
        sound = torch.tensor(pywt.waverec(mixed, "db3", mode="zero")[:SAMPLES], dtype=torch.float32)[None]
        with torch.no_grad():
            expected = whole - classifier(sound).logits[0, 1]
        torch.testing.assert_close(made[version, 0], expected, atol=1e-4, rtol=1e-3)


def test_the_noise_has_the_levels_own_mean_and_deviation():
    """Not N(0, 1), as the authors' package draws whatever the level's scale."""
    method, waveform = CartoonX(Hears(), levels=3), 0.5 + 0.5 * HIGH + LOW
    problem = WaveletProblem(method, waveform, torch.tensor([[True, False]]), method._blocks(SAMPLES))
    drawn = problem.draw(400, torch.Generator().manual_seed(0))
    for level, noise in zip(method.transform(waveform), drawn.split(method.transform.lengths(SAMPLES), 1)):
        assert float(noise.std()) == pytest.approx(float(level.std()), rel=0.05)
        assert float(noise.mean()) == pytest.approx(float(level.mean()), abs=0.05 * float(level.std()))


def test_blocks_are_segments_of_levels():
    method = CartoonX(Hears(), "haar", levels=3, n_segments=2)
    assert method._blocks(16).tolist() == [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7]
    assert CartoonX(Hears(), "haar", levels=1, n_segments=5)._blocks(4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("solver", [PURSUIT, Relaxed(steps=60, lr=0.1, samples=2, weight=0.2)])
def test_the_planted_tone_is_found(solver):
    """The tone of 3 kHz from 0.1 to 0.2 s is in the third and fourth of six segments, in the level of 2 to 4 kHz."""
    method = CartoonX(Hears(), "db8", levels=5, n_segments=6, filler="silence", solver=solver)
    made = method.interpret(HIGH + LOW, 0)
    theta = made.details["theta"][0].view(6, 6)
    level = method.transform.bands(RATE).index((2000.0, 4000.0))
    assert theta[level, 2:4].min() > 0.5 and theta[0].max() < 0.5
    assert si_sdr(made.waveform, HIGH) > 5 > 0 > si_sdr(made.waveform, LOW)
    assert made.mask is None and made.details["end"] < 0.2 * made.details["empty"]
    torch.testing.assert_close(made.waveform + made.residual, HIGH + LOW, atol=1e-5, rtol=0)
    values, start, step, low, high = method.scaleogram(made)[level]
    assert (low, high) == (2000.0, 4000.0) and 0.05 < start + step * values.argmax() < 0.25


def test_each_coefficient_may_be_a_part():
    made = CartoonX(vggsound(), levels=3, n_segments=None, solver=Relaxed(steps=2, samples=1)).interpret(HIGH + LOW, 0)
    assert made.details["theta"].shape[1] == sum(CartoonX(vggsound(), levels=3).transform.lengths(SAMPLES))


def test_gradients_are_needed_by_the_solver_only():
    class Detached(torch.nn.Module):
        def forward(self, waveform):
            loud = waveform.detach().square().mean(1, keepdim=True)
            return torch.cat([loud, -loud], 1)

    classifier = External(Detached(), ["a", "b"], RATE)
    with pytest.raises(ValueError, match="no gradient of the model's scores reaches its input; take the solver"):
        CartoonX(classifier).interpret(HIGH)
    made = CartoonX(classifier, n_segments=3, levels=2, solver=PURSUIT).interpret(HIGH, 0)
    assert made.waveform.abs().max() > 0


BAD = [
    ({"wavelet": "dmey"}, "wavelet is 'dmey'"),
    ({"levels": 0}, "levels is 0"),
    ({"n_segments": 0}, "n_segments is 0"),
    ({"max_batch": 0}, "max_batch 0"),
    ({"filler": "zeros"}, "filler is 'zeros'"),
]


@pytest.mark.parametrize("arguments, message", BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        CartoonX(vggsound(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
