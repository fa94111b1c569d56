"""A waveform that knows its sample rate, so that a sound at one rate is not explained as if it were at another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiointerp.sound import files

# Operations whose results are still sound at the same rate; those of all others are plain tensors.
KEEPING = frozenset(
    {
        *("add", "sub", "mul", "div", "neg", "__radd__", "__rsub__", "__rmul__", "__neg__", "__getitem__", "clamp"),
        *("__add__", "__sub__", "__mul__", "__truediv__", "to", "cpu", "cuda", "float", "double", "clone", "detach"),
        *("contiguous", "cat", "concatenate", "stack", "unsqueeze", "squeeze", "expand", "repeat", "pad", "mean"),
    }
)

__all__ = ["Waveform", "read"]


class Waveform(Tensor):
    """A tensor (batch, samples) or (samples,) that knows its sample rate; `audiointerp.read` returns one.

    It is used like any tensor. What is still sound at the same rate afterwards (a slice, a product with a number, the
    rows of several put together) knows its rate, too; all other results are plain tensors.

    Args:
        samples: a tensor, an array or a list.
        sample_rate: in Hz.
    Raises:
        ValueError: if waveforms of different rates are put together or added.

    >>> sound = Waveform(torch.zeros(1, 44100), 44100)
    >>> (0.5 * sound[:, :22050]).sample_rate, sound.resample(16000).shape, type(sound.abs().sum()).__name__
    (44100, torch.Size([1, 16000]), 'Tensor')
    """

    sample_rate: int

    def __new__(cls, samples: Any, sample_rate: int) -> Waveform:
        """The same samples, which are not copied, with a rate."""
        made = torch.as_tensor(samples).detach().as_subclass(cls)
        made.sample_rate = sample_rate
        return made

    # A tensor's own initialiser takes no arguments.
    def __init__(self, samples: Any, sample_rate: int):
        pass

    def __repr__(self, *, tensor_contents: object = None) -> str:
        """One line instead of samples.

        >>> Waveform(torch.tensor([[0.0, 0.5]]), 8000)
        Waveform(shape=(1, 2), 8000 Hz, 0.00025 s, peak=0.5)
        """
        seconds = self.shape[-1] / self.sample_rate if self.ndim else 0.0
        peak = float(self.plain.abs().max()) if self.numel() else 0.0
        return f"Waveform(shape={tuple(self.shape)}, {self.sample_rate} Hz, {seconds:.6g} s, peak={peak:.3g})"

    @property
    def plain(self) -> Tensor:
        """The same samples as a tensor that knows no rate."""
        return self.as_subclass(Tensor)

    def resample(self, sample_rate: int) -> Waveform:
        """The sound at another rate in Hz, see `audiointerp.sound.resample`."""
        return Waveform(files.resample(self.plain, self.sample_rate, sample_rate), sample_rate)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation on plain tensors, and gives its result the rate if it is still sound at this rate."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            # Conversions that change nothing return the same object, which knows its rate already.
            if not isinstance(result, Tensor) or getattr(func, "__name__", "") not in KEEPING:
                return result
            given = list(_waveforms(args))
            rates = sorted({each.sample_rate for each in given})
            if len(rates) > 1:
                raise ValueError(
                    f"waveforms of {' and '.join(map(str, rates))} Hz are put together; bring them to one rate first, "
                    f"waveform.resample({rates[0]})"
                )
            if isinstance(result, cls) or not rates or _skips(func, args):
                return result
            return cls(result, rates[0]) if not result.requires_grad else result


def _waveforms(values: Iterable[Any]) -> Iterable[Waveform]:
    for each in values:
        if isinstance(each, Waveform):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from _waveforms(each)


def _skips(func: Any, args: Any) -> bool:
    """Whether an index leaves out samples, such as every second one, so that the rate is another one."""
    if getattr(func, "__name__", "") != "__getitem__":
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    whole = all(isinstance(each, (int, slice)) or each is Ellipsis or each is None for each in index)
    return not whole or any(isinstance(each, slice) and each.step not in (None, 1) for each in index)


def read(path: str | Path, sample_rate: int | None = None, channel: int | None = None) -> Waveform:
    """A file as mono float32, at its own level, shape (1, samples), which knows its sample rate.

    Args:
        path: WAV, FLAC, OGG, MP3 or any other format that libsndfile reads.
        sample_rate: in Hz; soxr resamples the file to it. None keeps the file's rate.
        channel: the channel to read, counted from 0. None: the mean of all channels.

    Raises:
        AudioError: see `audiointerp.sound.files.read`.
    """
    samples, rate = files.read_with_rate(path, channel)
    wanted = rate if sample_rate is None else sample_rate
    return Waveform(files.resample(samples, rate, wanted), wanted)
