"""Activation maximisation with partial initialisation: the clip changed until an attribute is as strong as it can be.

Parekh et al. (2021), https://arxiv.org/abs/2010.09345, "Analysis tools for interpretability" (AM+PI):

    max_x  lambda_phi phi_j(x) - lambda_tv TV(x) - lambda_bo Bo(x),   from a faint version of a clip.

Here x is the log-magnitude of the clip's spectrogram, log1p|X|: a height above silence, so that a tenth of it is a fainter
version of the same sound. A tenth of a level in dB would be another sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiointerp.contracts import check_gradient, frozen
from audiointerp.interpreters.flint.model import FLINT
from audiointerp.interpreters.mask_losses import total_variation
from audiointerp.sound.spectrogram import log_magnitude

LEAST = 1e-4  # smallest log-magnitude: no gradient passes through the absolute value of a magnitude of exactly 0

__all__ = ["Maximisation", "maximise", "outside"]


@dataclass(frozen=True)
class Maximisation:
    """Settings of activation maximisation; the defaults are the paper's.

    Args:
        start: factor of the clip's log-magnitude at the beginning; 0.1 in the paper, 0.3 in its code.
        steps: of Adam; 300 in the paper, 600 in its code.
        lr: learning rate.
        halve_every: steps after which the learning rate is halved.
        attribute, variation, bounds: weights lambda of the attribute, of the total variation and of values above the
            clip's largest.
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


def outside(level: Tensor, most: Tensor) -> Tensor:
    """Bo(x): mean over bins of |x| where x is above its bound, (batch,).

    Args:
        level: (batch, freq, time), never negative.
        most: (batch,).

    >>> outside(torch.tensor([[[0.5, 3.0]]]), torch.tensor([2.0]))
    tensor([1.5000])
    """
    return torch.where(level > most[:, None, None], level, 0.0).mean((1, 2))


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
            most = whole.amax((1, 2))
            phase = None if classifier.reads_magnitude else stft.angle()

            def strength(level: Tensor) -> Tensor:
                magnitude = level.expm1()
                heard = magnitude if phase is None else torch.polar(magnitude, phase)
                maps = classifier.classify_stft(heard, samples).feature_maps
                return interpreter.describe(maps, samples).attributes.strength[:, attribute]

            found = (settings.start * whole).clamp(min=LEAST).requires_grad_()
            optimizer = torch.optim.Adam([found], settings.lr)
            halving = torch.optim.lr_scheduler.StepLR(optimizer, settings.halve_every, 0.5)
            with torch.enable_grad():
                first = strength(found)
                check_gradient(classifier, "activation maximisation", first)
                for _ in range(settings.steps):
                    smooth = total_variation(found, power=1.0) * len(found)
                    objective = settings.attribute * strength(found).sum() - settings.variation * smooth
                    objective = objective - settings.bounds * outside(found, most).sum()
                    optimizer.zero_grad()
                    (-objective).backward()
                    optimizer.step()
                    halving.step()
                    with torch.no_grad():
                        found.clamp_(min=LEAST)
            with torch.no_grad():
                return found.detach(), first.detach(), strength(found)
    finally:
        interpreter.train(training)
