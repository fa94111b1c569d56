"""Activation maximisation with partial initialisation: the clip changed until an attribute is as strong as it can be.

Parekh et al. (2021), https://arxiv.org/abs/2010.09345, "Analysis tools for interpretability" (AM+PI):

    max_x  lambda_phi phi_j(x) - lambda_tv TV(x) - lambda_bo Bo(x),   from a faint version of a clip.

Here x is the log-magnitude of the clip's spectrogram, log1p|X|, divided by its largest value, so that it lies in [0, 1]
as the pixels of the paper's images do. It is a height above silence, so that a tenth of it is a fainter version of the
same sound; a tenth of a level in dB would be another sound. The attribute is maximised before its ReLU, through which
an attribute that is 0 for the faint clip would pass no gradient. TV is that of Mahendran and Vedaldi (2016) with power
2, and Bo the mean of |x| outside of [0, 1]; both are means over bins, so that their weights do not depend on length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiointerp.contracts import check_gradient, frozen
from audiointerp.interpreters.flint.model import FLINT
from audiointerp.interpreters.flint.networks import Attributes
from audiointerp.interpreters.mask_losses import total_variation
from audiointerp.sound.spectrogram import log_magnitude

LEAST = 1e-4  # smallest x: no gradient passes through the absolute value of a magnitude of exactly 0

__all__ = ["Maximisation", "maximise", "outside"]


@dataclass(frozen=True)
class Maximisation:
    """Settings of activation maximisation; the defaults are the paper's.

    Args:
        start: factor of the clip's x at the beginning; 0.1 in the paper, 0.3 in its code.
        steps: of Adam; 300 in the paper, 600 in its code.
        lr: learning rate.
        halve_every: steps after which the learning rate is halved.
        attribute, variation, bounds: weights lambda of the attribute, of the total variation, and of values above 1.
    """

    start: float = 0.1
    steps: int = 300
    lr: float = 0.05
    halve_every: int = 50
    attribute: float = 2.0
    variation: float = 6.0
    bounds: float = 10.0

    def __post_init__(self) -> None:
        if min(self.start, self.lr) <= 0 or min(self.steps, self.halve_every) < 1:
            raise ValueError("Maximisation needs a start and lr above 0, steps and halve_every of at least 1")


def outside(x: Tensor) -> Tensor:
    """Bo(x): mean over bins of |x| where x is not in [0, 1], (batch, freq, time) -> (batch,).

    >>> outside(torch.tensor([[[0.5, 3.0], [-1.0, 1.0]]]))
    tensor([1.])
    """
    return torch.where((x < 0) | (x > 1), x.abs(), 0.0).mean((1, 2))


def maximise(
    interpreter: FLINT, waveform: Tensor, attribute: int, settings: Maximisation
) -> tuple[Tensor, Tensor, Tensor]:
    """Maximises an attribute of clips.

    Args:
        interpreter: a trained FLINT, whose classifier must pass gradients to its input.
        waveform: (batch, samples), at peak 1.
        attribute: its number j.
        settings: of the optimisation.

    Returns:
        The log-magnitude found, (batch, freq, time); phi_j at the faint beginning and at the end, both (batch,).

    Raises:
        ValueError: if no gradient of the attribute reaches the spectrogram.
    """
    samples, training = waveform.shape[-1], interpreter.training
    interpreter.eval()
    try:
        with frozen(interpreter.classifier) as classifier, frozen(interpreter):
            stft = classifier.spectrogram(waveform)
            whole = log_magnitude(stft)
            most = whole.amax((1, 2), keepdim=True).clamp(min=torch.finfo(whole.dtype).tiny)
            phase = None if classifier.reads_magnitude else stft.angle()

            def activation(x: Tensor) -> Attributes:
                magnitude = (x * most).expm1()
                heard = magnitude if phase is None else torch.polar(magnitude, phase)
                maps = classifier.classify_stft(heard, samples).feature_maps
                return interpreter.describe(maps, samples).attributes

            found = (settings.start * whole / most).clamp(min=LEAST).requires_grad_()
            optimizer = torch.optim.Adam([found], settings.lr)
            halving = torch.optim.lr_scheduler.StepLR(optimizer, settings.halve_every, 0.5)
            with torch.enable_grad():
                first = activation(found)
                check_gradient(classifier, "activation maximisation", first.before)
                for _ in range(settings.steps):
                    strong = activation(found).before[:, attribute].mean(1).sum()
                    penalties = settings.variation * total_variation(found) * len(found)
                    penalties = penalties + settings.bounds * outside(found).sum()
                    optimizer.zero_grad()
                    (penalties - settings.attribute * strong).backward()
                    optimizer.step()
                    halving.step()
                    with torch.no_grad():
                        found.clamp_(min=LEAST)
            with torch.no_grad():
                before, after = (each.strength[:, attribute].detach() for each in (first, activation(found)))
                return (found * most).detach(), before, after
    finally:
        interpreter.train(training)
