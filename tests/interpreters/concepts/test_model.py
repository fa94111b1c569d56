"""The interpreter: contributions as computed by hand, the sound that it keeps, and its bundle."""

import cell_maps
import pytest
import torch

from audiointerp.bundles import bundle
from audiointerp.interpreters import Concepts
from audiointerp.interpreters.concepts import cells_of


@pytest.fixture(scope="module")
def model():
    made = Concepts(cell_maps.classifier(), n_concepts=6, top=1, sparsity=0.02)
    sounds = torch.stack([cell_maps.tone(label, seed=n) for n in range(3) for label in cell_maps.LABELS])
    made.dictionary.fit(cells_of(made.representation.of(sounds)))
    return made


def two_tones():
    return (cell_maps.tone("low", seed=1) + cell_maps.tone("middle", seed=2))[None] / 2


def energy(waveform, label):
    """Energy within 60 Hz of the label's pitch."""
    spectrum = torch.fft.rfft(waveform).abs().square()
    hertz = torch.arange(len(spectrum)) * (cell_maps.RATE / len(waveform))
    return float(spectrum[(hertz - cell_maps.PITCHES[label]).abs() < 60].sum())


def test_contributions_of_a_linear_head(model):
    waveform = two_tones()
    waveform = waveform / waveform.abs().max()
    made = model.interpret(waveform, 1)
    codes = model.dictionary.activations(model.representation.of(waveform))[0]
    weight = model.classifier.module.head.weight[1]
    expected = model.dictionary.scale * (model.dictionary.directions @ weight) * codes.mean((1, 2))
    torch.testing.assert_close(made.details["contributions"][0], expected.detach(), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(made.details["strengths"][0], codes.mean((1, 2)))
    assert made.details["selected"][0].nonzero()[:, 0].tolist() == [int(expected.argmax())]


@pytest.mark.parametrize(("label", "other"), [("low", "middle"), ("middle", "low")])
def test_the_sound_of_the_class_is_kept(model, label, other):
    waveform = two_tones()
    kept = model.interpret(waveform, cell_maps.LABELS.index(label)).waveform[0]
    shares = [energy(kept, each) / energy(waveform[0], each) for each in (label, other)]
    assert shares[0] > 0.3 and shares[0] > 10 * shares[1]


def test_silence(model):
    made = model.interpret(torch.zeros(1, 4000))
    assert not made.waveform.any() and not made.mask.any()


def test_bundle(model, tmp_path):
    bundle.save(model, tmp_path / "b")
    again = bundle.load(tmp_path / "b", classifier=model.classifier)
    waveform = two_tones()
    assert torch.equal(again.interpret(waveform).waveform, model.interpret(waveform).waveform)


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="dictionary is 'lda'; choose one of semi_nmf"):
        Concepts(cell_maps.classifier(), "lda")
    with pytest.raises(ValueError, match="top is 0"):
        Concepts(cell_maps.classifier(), top=0)
