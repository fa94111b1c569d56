"""A classifier whose answer is known: is there more energy below or above 2 kHz?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiointerp.classifiers import External

RATE, BORDER = 16000, 2000.0


class TwoBands(nn.Module):
    """Waveform -> the natural logarithm of the energy below and above 2 kHz, plus a small constant.

    The networks that are explained have layers; here there is one, a factor of 1, through which the energies pass.
    """

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, waveform: Tensor) -> Tensor:
        power = torch.fft.rfft(waveform).abs().square() / waveform.shape[-1]
        hertz = torch.fft.rfftfreq(waveform.shape[-1], 1 / RATE, device=waveform.device)
        low = power * (hertz < BORDER)
        return self.layer(torch.stack([low.sum(1), (power - low).sum(1)], 1)).add(1e-3).log()


def two_bands() -> External:
    """The classifier, with the labels "low" and "high"."""
    return External(TwoBands(), ("low", "high"), RATE)


def tones(seconds: float = 1.0, low: float = 0.2, high: float = 0.3) -> Tensor:
    """A tone of 500 Hz and one of 4000 Hz, (samples,), with the given amplitudes."""
    time = torch.arange(round(seconds * RATE)) / RATE
    return low * torch.sin(2 * torch.pi * 500 * time) + high * torch.sin(2 * torch.pi * 4000 * time)
