"""Wraps any `waveform -> logits` module as a classifier that the interpreters can explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from audiointerp.contracts import Classifier, Prediction, label_names
from audiointerp.sound.mel import mel
from audiointerp.sound.spectrogram import STFT

Reshape = Callable[[Tensor], Tensor]
Axis = Callable[[Tensor], Tensor]

__all__ = ["Axis", "External", "Reshape", "between", "mel_axis"]


class External(Classifier):
    """Wraps a module of which only `forward` is used; masked spectrograms are classified through the inverse STFT.

    Args:
        module: (batch, samples) -> logits (batch, classes).
        labels: class names in the order of the logits, or a dictionary from index to name (`id2label` of Hugging Face).
        sample_rate: that the module expects, in Hz.
        multilabel: sigmoid instead of softmax.
        layers: names of submodules (as in `named_modules`) whose outputs are the feature maps, earliest first.
        reshape: turns a layer's output into (batch, channel, freq, time), for modules whose maps are laid out
            otherwise; such as `lambda maps: maps.transpose(2, 3)`.
        max_samples: longer inputs are classified in equal pieces of at most this length, the pieces' logits averaged.
        samples: for a module that takes inputs of one length only: shorter ones are followed by silence up to this
            length, longer ones cut into pieces of exactly this length, the last one filled with silence, and the
            pieces' logits averaged by the share of each that is not filled.
        spectrogram: STFT that masks live on; None: 64 ms FFT with the default's overlap at this rate.
        frequency_axis: Hz -> share of a feature map's height, 0 to 1; None: even from 0 to half the rate. Give
            `mel_axis(low, high)` for a module with a mel filter bank, or Grad-CAM places its maps at wrong frequencies.
    Raises:
        ValueError: for a layer that does not exist, a length below 1, both lengths, a module that fails, or logits that
            do not fit the labels.

    >>> class Loudness(nn.Module):
    ...     def forward(self, waveform):
    ...         return torch.stack([waveform.abs().mean(1), 0.1 + 0 * waveform[:, 0]], 1)
    >>> External(Loudness(), ["loud", "quiet"], 16000)(torch.ones(1, 800)).predicted
    tensor([0])
    """

    def __init__(
        self,
        module: nn.Module,
        labels: Sequence[str] | Mapping[int, str] | Mapping[str, str],
        sample_rate: int,
        multilabel: bool = False,
        layers: Sequence[str] = (),
        reshape: Reshape | None = None,
        max_samples: int | None = None,
        spectrogram: STFT | None = None,
        frequency_axis: Axis | None = None,
        samples: int | None = None,
    ):
        super().__init__()
        if isinstance(module, Classifier) or not isinstance(module, nn.Module):
            name = type(module).__name__
            raise ValueError(f"External wraps a torch.nn.Module that maps (batch, samples) to logits, not a {name}")
        known = dict(module.named_modules())
        missing = [name for name in layers if name not in known]
        if missing:
            raise ValueError(
                f"layers {missing} are not in {type(module).__name__}; it has {sorted(known)[1:][:20]} ..."
            )
        self.module, self.labels, self.sample_rate, self.multilabel = (
            module,
            label_names(labels),
            sample_rate,
            multilabel,
        )
        lengths = [each for each in (samples, max_samples) if each is not None]
        if len(lengths) > 1 or min(lengths, default=1) < 1:
            given = f"samples is {samples}, max_samples {max_samples}"
            raise ValueError(f"{given}; give one of them, at least 1: samples is the module's only length")
        self.layers, self.reshape, self.samples = tuple(layers), reshape, samples
        self.max_samples = max_samples if samples is None else samples
        self.spectrogram = spectrogram or _default_stft(sample_rate)
        self.frequency_axis = frequency_axis

    def features(self, waveform: Tensor) -> Tensor:
        """The waveform itself: the module has its own front end."""
        return waveform

    def classify(self, features: Tensor) -> Prediction:
        """Prediction of waveforms (batch, samples)."""
        parts = self.pieces(features)
        if len(parts) == 1:
            logits, maps = self._run(parts[0])
        else:
            pieces = [self._run(piece) for piece in parts]
            every = torch.stack([logits for logits, _ in pieces])
            logits = every.mean(0) if self.samples is None else self._weighted(every, features.shape[1])
            # Pieces follow one another in time, so their maps do too.
            maps = tuple(torch.cat(each, -1) for each in zip(*(maps for _, maps in pieces)))
        embedding = maps[-1].mean((2, 3)) if maps else None
        return Prediction.from_logits(logits, self.multilabel, embedding=embedding, feature_maps=maps)

    def pieces(self, waveform: Tensor) -> list[Tensor]:
        """The waveforms that the module is given for (batch, samples), one after the other in time."""
        length, limit = waveform.shape[1], self.max_samples
        if limit is None or (length <= limit and self.samples is None):
            return [waveform]
        count = -(-length // limit)
        if self.samples is None:
            return list(waveform.tensor_split(count, dim=1))
        return list(nn.functional.pad(waveform, (0, count * limit - length)).split(limit, dim=1))

    def place(self, values: Tensor, samples: int) -> Tensor:
        """Values on a feature map's grid, interpolated bilinearly to the STFT's grid.

        Args:
            values: (batch, freq, time) of a feature map.
            samples: length of the clip, over which (and over the silence that fills it) the map's columns are spread
                evenly.
        Returns:
            (batch, freq, time) of the STFT.
        """
        frames = 1 + samples // self.spectrogram.hop_length
        filled = samples if self.samples is None else -(-samples // self.samples) * self.samples
        # As torch.nn.functional.interpolate with align_corners=False.
        share = (torch.arange(frames, device=values.device) + 0.5) / frames * (samples / filled)
        column = share * values.shape[2] - 0.5
        return self._interpolate(values, column)

    def _interpolate(self, values: Tensor, column: Tensor) -> Tensor:
        """Values at fractional columns, and at the rows of the STFT's frequencies."""
        n_fft, rows = self.spectrogram.n_fft, values.shape[1]
        bins = torch.arange(n_fft // 2 + 1, device=values.device)
        if self.frequency_axis is None:
            share = (bins + 0.5) / len(bins)
        else:
            share = self.frequency_axis(bins * (self.sample_rate / n_fft))
        return between(between(values, share * rows - 0.5, 1), column, 2)

    def _weighted(self, logits: Tensor, length: int) -> Tensor:
        """Mean of (pieces, batch, classes) in which the last piece counts by its share that is not filled."""
        assert self.samples is not None
        last = length / self.samples - (len(logits) - 1)
        return (logits[:-1].sum(0) + last * logits[-1]) / (len(logits) - 1 + last)

    def _run(self, waveform: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        captured: dict[str, Tensor] = {}
        modules = dict(self.module.named_modules())
        hooks = [modules[name].register_forward_hook(_keep(captured, name)) for name in self.layers]
        try:
            logits = self.module(waveform)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise self._failed(error, tuple(waveform.shape)) from error
        finally:
            for hook in hooks:
                hook.remove()
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (len(waveform), len(self.labels)):
            raise ValueError(
                f"{type(self.module).__name__} returned logits of shape {shape}; "
                f"expected (batch, {len(self.labels)}), one per label"
            )
        if not bool(torch.isfinite(logits).all()):
            raise ValueError(f"{type(self.module).__name__} returned NaN or infinite logits; repair the module")
        if unused := [name for name in self.layers if name not in captured]:
            raise ValueError(f"layers {unused} were not called by {type(self.module).__name__}.forward; name others")
        maps = tuple(captured[name] if self.reshape is None else self.reshape(captured[name]) for name in self.layers)
        if folded := [name for name, each in zip(self.layers, maps) if each.shape[:1] != logits.shape[:1]]:
            raise ValueError(
                f"layers {folded} give maps of another batch size than the input's {len(logits)}; does forward fold "
                "crops into the batch? Name layers before or after that, or pass reshape to put them back"
            )
        wrong = [name for name, each in zip(self.layers, maps) if not isinstance(each, Tensor) or each.ndim != 4]
        if wrong:
            raise ValueError(
                f"layers {wrong} do not give (batch, channel, freq, time); pass reshape to lay them out so"
            )
        return logits, maps

    def _failed(self, error: Exception, shape: tuple[int, ...]) -> Exception:
        """What to raise for an error of the module; errors of memory and of the GPU as they are."""
        said = " ".join(str(error).split())[:200]
        if isinstance(error, torch.OutOfMemoryError) or "memory" in said.lower() or "CUDA" in said:
            return error
        what = f"{type(self.module).__name__} fails for waveforms of shape {shape}"
        return ValueError(
            f"{what} ({type(error).__name__}: {said}). If it takes one length only, "
            "wrap it with External(samples=LENGTH)"
        )


def mel_axis(low: float, high: float) -> Axis:
    """Hz -> share of the height of a mel spectrogram from `low` to `high` Hz; see `External`.

    Raises:
        ValueError: unless 0 <= low < high.

    >>> mel_axis(0, 8000)(torch.tensor([0.0, 1000.0, 8000.0]))
    tensor([0.0000, 0.3521, 1.0000])
    """
    if not 0 <= low < high:
        raise ValueError(f"mel_axis is from {low} to {high} Hz; the lower end comes first, and neither is below 0")
    bottom, top = mel(torch.tensor([low, high], dtype=torch.float64)).tolist()
    return lambda hertz: (mel(hertz) - bottom) / (top - bottom)


def between(values: Tensor, position: Tensor, axis: int) -> Tensor:
    """Values at fractional positions of an axis, linearly interpolated; beyond its ends, the last value."""
    position = position.clamp(0, values.shape[axis] - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=values.shape[axis] - 1)
    weight = (position - below).to(values.dtype)
    weight = weight.view([-1 if each == axis else 1 for each in range(values.ndim)])
    return torch.lerp(values.index_select(axis, below), values.index_select(axis, above), weight)


def _keep(captured: dict[str, Tensor], name: str) -> Callable:
    def hook(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        captured[name] = output[0] if isinstance(output, tuple) else output

    return hook


def _default_stft(sample_rate: int) -> STFT:
    """An STFT with the default's lengths in seconds, at another rate; its FFT is the power of two from 64 ms up."""
    hop = round(186 / 16000 * sample_rate)
    n_fft = 1 << (round(1024 / 16000 * sample_rate) - 1).bit_length()
    return STFT(sample_rate, n_fft, 2 * hop, hop)
