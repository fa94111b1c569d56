"""Activation maximisation of attributes: its settings, and that it leaves the networks as they were."""

import pytest
import torch
from cases import external, flint, vggsound
from training_batches import noise

from audiointerp.contracts import frozen
from audiointerp.interpreters.flint.maximisation import Maximisation, maximise, outside


def test_maximisation_has_the_papers_settings_and_its_objective():
    """300 steps from 0.1 x, Adam at 0.05 halved every 50, lambda 2, 6, 10; the code has 600 from 0.3 x."""
    paper = Maximisation()
    assert (paper.start, paper.steps, paper.lr, paper.halve_every) == (0.1, 300, 0.05, 50)
    assert (paper.attribute, paper.variation, paper.bounds) == (2.0, 6.0, 10.0)
    assert outside(torch.tensor([[[0.5, 3.0], [1.0, -5.0]], [[0.0, 0.2], [1.0, 0.9]]])).tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match="at least 1"):
        Maximisation(steps=0)


@pytest.mark.parametrize("build", [vggsound, external])
def test_maximisation_raises_attributes_of_any_classifier_and_leaves_it(build):
    classifier = build().train()
    interpreter, waveform = flint(classifier).train(), noise(1)
    before = {name: each.clone() for name, each in classifier.state_dict().items()}
    strengths = interpreter.observe(waveform)[2].attributes.strength[0]
    number = int(strengths.argmax())
    settings = Maximisation(start=0.3, steps=20)
    _, first, last = maximise(interpreter, waveform, number, settings)
    assert last > first
    assert classifier.training and interpreter.training
    assert all(torch.equal(each, before[name]) for name, each in classifier.state_dict().items())
    for module in (classifier, interpreter):
        assert all(each.grad is None and each.requires_grad for each in module.parameters())
    with frozen(classifier), torch.no_grad():  # callers need not enable gradients
        again = maximise(interpreter, waveform, number, settings)
    torch.testing.assert_close(again[2], last)


def test_maximisation_needs_gradients():
    interpreter = flint(vggsound())
    interpreter.classifier.no_gradient = "it calls numpy"
    with pytest.raises(ValueError, match="activation maximisation needs gradients"):
        maximise(interpreter, noise(1), 0, Maximisation(steps=1))
