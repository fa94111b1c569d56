"""When a recording sounds: the times at which its level is above its own floor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 0.01  # seconds over which a level is measured
FLOOR = 0.1  # quantile of the levels that is taken for the level of the background
# A block sounds if it is less than RANGE below the loudest and more than MARGIN above the floor, in dB.
RANGE, MARGIN = 30.0, 10.0

__all__ = ["Times", "active_times", "shifted", "union"]

Times = tuple[tuple[float, float], ...]


def active_times(waveform: Tensor, sample_rate: int, bridge: float = 0.2, least: float = 0.03) -> Times:
    """Start and end of each stretch in which a recording of one sound is active, in seconds, rising.

    A block of 10 ms is active if its level is less than 30 dB below the loudest block's and more than 10 dB above the
    floor, the level that a tenth of the blocks do not exceed. In a steady sound, whose floor is its own level, blocks
    are active if they are less than 10 dB below the loudest.

    Args:
        waveform: (samples,), a sound without others in it.
        sample_rate: in Hz.
        bridge: stretches that are at most this far apart become one, in seconds, as the syllables of one bark.
        least: shorter stretches are left out, in seconds.

    Raises:
        ValueError: if the waveform is not (samples,), is empty or not finite, or a setting is negative.

    >>> click = torch.zeros(16000)
    >>> click[4000:8000] = 1
    >>> active_times(click, 16000)
    ((0.25, 0.5),)
    """
    if waveform.ndim != 1 or not len(waveform) or not bool(torch.isfinite(waveform).all()):
        raise ValueError(f"waveform has shape {tuple(waveform.shape)}; activity is of (samples,), all of them finite")
    if not (bridge >= 0 and least >= 0):
        raise ValueError(f"bridge is {bridge} and least {least}; both are seconds, 0 or more")
    block = max(1, round(BLOCK * sample_rate))
    padded = torch.nn.functional.pad(waveform.double(), (0, -len(waveform) % block))
    power = padded.view(-1, block).square().mean(1)
    if float(power.max()) <= 0:
        return ()
    level = 10 * torch.log10(power.clamp(min=1e-300))
    peak, floor = float(level.max()), float(level.quantile(FLOOR))
    active = level > max(peak - RANGE, min(floor + MARGIN, peak - MARGIN))
    edges = torch.nn.functional.pad(active.int(), (1, 1)).diff().nonzero()[:, 0].double() * block / sample_rate
    joined: list[list[float]] = []
    for start, end in edges.view(-1, 2).tolist():
        if joined and start - joined[-1][1] <= bridge + 1e-9:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    seconds = len(waveform) / sample_rate
    return tuple((start, min(end, seconds)) for start, end in joined if end - start >= least - 1e-9)


def union(times: Times) -> Times:
    """The same times without overlap, rising.

    >>> union(((2.0, 3.0), (0.0, 1.0), (0.5, 1.5)))
    ((0.0, 1.5), (2.0, 3.0))
    """
    made: list[tuple[float, float]] = []
    for start, end in sorted(times):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], end))
        else:
            made.append((start, end))
    return tuple(made)


def shifted(times: Times, by: float, seconds: float = math.inf) -> Times:
    """The times in a stretch that begins `by` seconds later and lasts `seconds`; what lies outside of it is cut off.

    >>> shifted(((0.5, 1.5), (3.0, 4.0)), 1.0, 2.5)
    ((0.0, 0.5), (2.0, 2.5))
    """
    inside = ((max(0.0, start - by), min(seconds, end - by)) for start, end in times)
    return tuple((start, end) for start, end in inside if end > start)
