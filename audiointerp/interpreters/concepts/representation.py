"""A layer of a classifier, read and changed: its feature map, the logits after a change of it, and their gradient.

A cell is one place (frequency, time) of a feature map; its values over the channels are one vector. Concepts are
directions among these vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers import External
from audiointerp.contracts import Classifier, frozen
from audiointerp.interpreters.base import check_layers

CLOSE = 1e-3  # largest relative difference of logits that are computed in two ways

__all__ = ["Representation", "cells_of"]


class Representation:
    """One layer of a classifier, by the index of its feature map.

    Args:
        classifier: any classifier that gives feature maps; its weights, mode and hooks are left as found.
        layer: index into `Prediction.feature_maps`; negative indices count from the last.

    Raises:
        ValueError: if there is no such feature map, or the layer's output cannot be changed.
    """

    def __init__(self, classifier: Classifier, layer: int = -1):
        self.classifier, self.layer = classifier, layer
        self._frames: dict[tuple[int, int, int], Tensor] = {}
        seconds = torch.randn(1, classifier.sample_rate, generator=torch.Generator().manual_seed(0))
        probe = (seconds / seconds.abs().max()).to(classifier.device)
        with frozen(classifier), torch.no_grad():
            maps = classifier(probe).feature_maps
            check_layers("a dictionary of concepts", (layer,), maps)
            self.channels = maps[layer].shape[1]
            self._module = self._find(probe)
            self._spreads = False  # whether one clip with n changes may be classified in one pass from the layer on
            self._spreads = self._check(probe, maps[layer])

    def of(self, waveform: Tensor) -> Tensor:
        """The layer's feature map (batch, channel, freq, time) of waveforms (batch, samples) at peak 1."""
        with frozen(self.classifier), torch.no_grad():
            return self.classifier(waveform).feature_maps[self.layer]

    def logits_after(self, waveform: Tensor, changes: Tensor, most: int = 32) -> Tensor:
        """Logits (n, classes) of one clip after each of n changes is added to its feature map.

        Args:
            waveform: (1, samples), at peak 1.
            changes: (n, channel, freq, time).
            most: changes that are classified at once; limits memory.
        """
        with frozen(self.classifier), torch.no_grad():
            return torch.cat([self._changed(waveform, part) for part in changes.split(most)])

    def gradient(self, waveform: Tensor, target: Tensor) -> Tensor:
        """Gradient of the target's mean logit with respect to a vector that is added to every cell, (batch, channel).

        It is the sum of the gradient over the cells. Its product with a direction is the directional derivative of
        Kim et al. (2018), https://arxiv.org/abs/1711.11279, equation 1, for a direction that is the same in every cell.

        Args:
            waveform: (batch, samples), at peak 1.
            target: (batch, classes) bool.

        Raises:
            ValueError: if no gradient of the logits reaches the layer.
        """
        outputs: list[Tensor] = []

        def leaf(output: Tensor) -> Tensor:
            outputs.append(output.detach().requires_grad_())
            return outputs[-1]

        with frozen(self.classifier), torch.enable_grad(), self._hooked(leaf):
            logits = self.classifier(waveform).logits
            if not logits.requires_grad:
                raise ValueError(
                    f"no gradient of the logits of {type(self.classifier).__name__} reaches its feature map "
                    f"{self.layer}; its forward leaves torch or detaches the layer's output"
                )
            asked = ((logits * target).sum(1) / target.sum(1)).sum()
            gradients = torch.autograd.grad(asked, outputs)
        return torch.cat([self._laid_out(each) for each in gradients], -1).sum((2, 3))

    def placed(self, values: Tensor, samples: int) -> Tensor:
        """Values (n, freq, time) on the layer's grid, interpolated to the STFT's grid of a clip of `samples`."""
        if isinstance(self.classifier, External):  # External knows the frequency and time of each cell
            return self.classifier.place(values, samples)
        spectrogram = self.classifier.spectrogram
        shape = spectrogram.n_fft // 2 + 1, 1 + samples // spectrogram.hop_length
        return functional.interpolate(values[:, None], shape, mode="bilinear", align_corners=False)[:, 0]

    def over_time(self, values: Tensor, samples: int) -> Tensor:
        """Values (n, freq, time) on the layer's grid, averaged over frequency, at the STFT's frames: (n, frames)."""
        rows, columns = values.shape[1:]
        key = rows, columns, samples
        if key not in self._frames:
            # Interpolation is linear, and over time the same for every frequency: a matrix (time, frames) does it.
            each = torch.eye(columns, device=values.device)[:, None].expand(-1, rows, -1)
            self._frames = {key: self.placed(each, samples)[:, 0]}
        return values.mean(1) @ self._frames[key]

    def _changed(self, waveform: Tensor, changes: Tensor) -> Tensor:
        clips = waveform if self._spreads else waveform.expand(len(changes), -1)
        columns = 0

        def add(output: Tensor) -> Tensor:
            nonlocal columns
            # A long clip is classified in pieces that follow one another in time; each gets its part of the change.
            laid_out = self._laid_out(output)
            part = changes[..., columns : columns + laid_out.shape[-1]]
            columns += laid_out.shape[-1]
            return output + self._as_output(output, part)

        with self._hooked(add):
            if self._spreads and isinstance(self.classifier, External):
                return self.classifier.module(clips)  # External refuses more rows than clips
            return self.classifier(clips).logits

    def _laid_out(self, output: Tensor) -> Tensor:
        reshape = self.classifier.reshape if isinstance(self.classifier, External) else None
        return output if reshape is None else reshape(output)

    def _as_output(self, output: Tensor, change: Tensor) -> Tensor:
        """A change (n, channel, freq, time) in the layout of the layer's output, (n, ...).

        `External.reshape` moves values and may leave some out, so its transpose, which autograd gives, moves them back.
        """
        reshape = self.classifier.reshape if isinstance(self.classifier, External) else None
        if reshape is None:
            return change
        with torch.enable_grad():
            zero = output.new_zeros(len(change), *output.shape[1:]).requires_grad_()
            return torch.autograd.grad(reshape(zero), zero, change)[0]

    @contextmanager
    def _hooked(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Within it, the layer's output passes through `change`."""

        def hook(module: nn.Module, inputs: tuple, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        handle = self._module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _find(self, probe: Tensor) -> nn.Module:
        """The module whose output is the feature map; of nested ones, the outermost, as it is called last."""
        classifier = self.classifier
        if isinstance(classifier, External):
            return classifier.module.get_submodule(classifier.layers[self.layer])
        made: list[tuple[nn.Module, Any]] = []
        handles = [
            each.register_forward_hook(lambda module, _, output: made.append((module, output)))
            for each in classifier.modules()
            if each is not classifier
        ]
        try:
            wanted = classifier(probe).feature_maps[self.layer]
        finally:
            for each in handles:
                each.remove()
        if found := [module for module, output in made if output is wanted]:
            return found[-1]
        raise ValueError(
            f"feature map {self.layer} of {type(classifier).__name__} is no module's output, so that it cannot be "
            "changed; wrap the network with External(layers=...)"
        )

    def _check(self, probe: Tensor, maps: Tensor) -> bool:
        """Checks that changes reach the logits as they are stated; returns whether they can share one pass.

        Raises:
            ValueError: if a change of the output is another change of the feature map.
        """
        generator = torch.Generator().manual_seed(1)
        changes = torch.randn((2, *maps.shape[1:]), generator=generator).to(maps) * maps.std().clamp(min=1e-3)
        seen: list[Tensor] = []
        if isinstance(self.classifier, External) and self.classifier.reshape is not None:
            with self._hooked(lambda output: seen.append(output) or output):
                self.classifier(probe)
            first = seen[0]
            part = changes[..., : self._laid_out(first).shape[-1]]
            moved = self._laid_out(first + self._as_output(first, part)) - self._laid_out(first)
            if not torch.allclose(moved, part, atol=CLOSE * float(part.abs().max())):
                raise ValueError("reshape does more than move the layer's values, so that concepts cannot be removed")
        apart = self._changed(probe, changes)
        self._spreads = not (isinstance(self.classifier, External) and self.classifier.max_samples is not None)
        try:
            together = self._changed(probe, changes) if self._spreads else apart[:0]
        except (RuntimeError, ValueError):
            return False
        near = together.shape == apart.shape and float((together - apart).abs().max())
        return near is not False and near <= CLOSE * float(apart.abs().max().clamp(min=1.0))


def cells_of(maps: Tensor) -> Tensor:
    """The vectors of all cells of feature maps (batch, channel, freq, time), (batch * freq * time, channel).

    >>> cells_of(torch.zeros(2, 5, 3, 4)).shape
    torch.Size([24, 5])
    """
    return maps.movedim(1, -1).flatten(0, 2)
