"""FLINT on a classifier whose feature maps and answer are known: is there noise below, or above 4 kHz?"""

from __future__ import annotations

import pytest
import torch
from magnitude_classifiers import OfMagnitude, band_level
from torch import Tensor
from torch.nn import functional
from training_batches import batch_of

from audiointerp.contracts import Prediction
from audiointerp.interpreters import FLINT
from audiointerp.interpreters.flint.maximisation import Maximisation, maximise
from audiointerp.interpreters.flint.model import conciseness, decoder_masks, global_relevance
from audiointerp.sound.masking import apply_mask
from audiointerp.sound.spectrogram import STFT, log_magnitude

BANDS = slice(10, 246), slice(266, 502)  # 150 to 3,850 Hz, and 4,150 to 7,850 Hz
SAMPLES = 16 * 186 * 4

pytestmark = pytest.mark.slow  # a training


class TwoBands(OfMagnitude):
    """Of several labels: "low" and "high", each if its band is loud; its one feature map is the averaged level."""

    multilabel = True

    def __init__(self):
        super().__init__(lambda it: [40 * (band_level(it, bins) - 0.1) for bins in BANDS], ("low", "high"))

    def classify(self, features: Tensor) -> Prediction:
        heard = functional.avg_pool2d(features[:, None, :512].log1p(), (16, 8), ceil_mode=True)
        logits = torch.stack(list(self.logits(features)), 1)
        return Prediction.from_logits(logits, True, feature_maps=(heard,))


def bursts(low: float, high: float, halves: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise in the two bands with the given amplitudes, each in the first or the second half; (1, samples)."""
    stft, total = STFT(), torch.zeros(1, SAMPLES)
    for level, half, bins in zip((low, high), halves, BANDS):
        noise = torch.randn(1, SAMPLES, generator=generator)
        spectrum = stft(noise)
        band = torch.zeros(513)
        band[bins] = 1
        sound = stft.inverse(spectrum * band[:, None], SAMPLES)
        on = torch.arange(SAMPLES) // (SAMPLES // 2) == half
        total = total + level * sound * on
    return total


def sounds(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Clips with one or both bands at peak 1, and which bands they have, (clips, 2) bool."""
    kinds = torch.randint(1, 4, (count,), generator=generator)
    has = torch.stack([kinds % 2 == 1, kinds >= 2], 1)
    halves = torch.randint(0, 2, (count, 2), generator=generator).tolist()
    clips = [bursts(float(row[0]), float(row[1]), tuple(half), generator) for row, half in zip(has, halves)]
    waveform = torch.cat(clips)
    return waveform / waveform.abs().amax(1, keepdim=True), has


@pytest.fixture(scope="module")
def trained() -> FLINT:
    """FLINT with six attributes after 150 steps, in the paper's order: first L_if, then L_of, then the entropies."""
    torch.manual_seed(0)
    made = FLINT(TwoBands(), n_attributes=6, width=8, fine_width=8, layers=[0]).train()
    optimizer = torch.optim.AdamW(made.parameter_groups()["interpreter"], 0.005)
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        losses = made.losses(batch_of(sounds(generator, 8)[0]))
        total = 5 * losses["input_fidelity"]
        if step >= 20:
            total = total + losses["output_fidelity"] + 0.01 * losses["sparsity"]
        if step >= 40:
            total = total + 0.1 * (losses["conciseness"] + losses["diversity"])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return made.eval()


@pytest.fixture(scope="module")
def speaking(trained) -> tuple[int, int]:
    """The attribute most relevant to "low", and that to "high"."""
    relevance = global_relevance(trained, [sounds(torch.Generator().manual_seed(1), 16)[0]])
    return int(relevance[0].argmax()), int(relevance[1].argmax())


def one(which: int, half: int = 0) -> Tensor:
    """A clip of one band at peak 1."""
    waveform = bursts(float(which == 0), float(which == 1), (half, half), torch.Generator().manual_seed(3))
    return waveform / waveform.abs().max()


def test_it_says_what_the_classifier_says_with_an_attribute_of_its_own_for_each_label(trained, speaking):
    clips, has = sounds(torch.Generator().manual_seed(2), 20)
    made = trained.interpret(clips)
    own = made.details["theta_probabilities"]
    assert torch.equal(made.prediction.probabilities > 0.5, has)
    assert ((own > 0.5) == has).float().mean() > 0.9
    assert speaking[0] != speaking[1]
    assert conciseness(trained.relevance_to_own(made.details["attributes"], own), 2.0).float().mean() <= 3


@pytest.mark.parametrize("mask_from", ["cells", "decoder"])
def test_the_mask_of_a_label_keeps_its_band(trained, mask_from):
    """Both bands at once: the mask of each label keeps its own, and none of the silence."""
    both = bursts(1.0, 1.0, (0, 0), torch.Generator().manual_seed(4))
    twin = trained.on(trained.classifier)
    twin.mask_from = mask_from
    half = (1 + SAMPLES // 186) // 2
    for label, (bins, others) in enumerate((BANDS, BANDS[::-1])):
        mask = twin.interpret(both, label).mask[0]
        kept, left = mask[bins, :half].mean(), mask[others, :half].mean()
        assert kept > 2 * left and kept > 0.2


def test_the_attribute_is_active_when_its_band_sounds(trained, speaking):
    for which, number in enumerate(speaking):
        course = trained.observe(one(which, half=1))[2].attributes.course[0, number]
        half = len(course) // 2
        assert course[half:].sum() > 3 * course[:half].sum()


def test_the_attribute_carries_its_band_through_the_decoder(trained, speaking):
    for which, (number, bins) in enumerate(zip(speaking, BANDS)):
        stft, _, made = trained.observe(one(which))
        level, heard = log_magnitude(stft), []
        for factor in (0.0, 1.0, 2.0, 4.0):
            course = made.attributes.course.clone()
            course[:, number] *= factor
            with torch.no_grad():
                heard.append(float(trained.rebuild(course, level)[:, bins].mean()))
        assert heard[1] == pytest.approx(float(level[:, bins].mean()), rel=0.5)
        assert heard[0] < 0.5 * heard[1] and heard == sorted(heard)
        mask = decoder_masks(trained, made.attributes.course, level, [number])[number]
        energy = [float(apply_mask(stft, each, "magnitude").abs().square().sum()) for each in (mask, 1 - mask)]
        assert energy[0] > energy[1]


def test_maximisation_brings_out_the_band(trained, speaking):
    """From a faint clip of both bands, the attribute grows, and its own band becomes the louder one."""
    both = bursts(1.0, 1.0, (0, 0), torch.Generator().manual_seed(4))
    both = both / both.abs().max()
    for number, (own, other) in zip(speaking, (BANDS, BANDS[::-1])):
        found, before, after = maximise(trained, both, number, Maximisation(steps=60))
        assert found.min() > 0 and after > 2 * before
        levels = [float(found[:, bins].mean()) for bins in (own, other)]
        assert levels[0] > 2 * levels[1]
