"""A classifier's layers whose outputs can be feature maps, with their shapes: what Grad-CAM, PIQ and L2I may read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from audiointerp.classifiers.external import External
from audiointerp.contracts import Classifier, frozen

__all__ = ["Layer", "list_layers"]


class Layer(NamedTuple):
    """A layer's output for 1 s of sound.

    Attributes:
        name: as in `External(layers=[...])`.
        shape: without the batch.
        grows: whether its last axis is longer for 2 s, as the time axis of a feature map is; of a module that takes one
            length only, whether it is longer than 1.
        used: whether it is one of the classifier's feature maps.
    """

    name: str
    shape: tuple[int, ...]
    grows: bool
    used: bool

    @property
    def use(self) -> str:
        """What the layer is good for, in words."""
        if self.used:
            return "in use: Grad-CAM, PIQ, L2I"
        if len(self.shape) != 3 or not self.grows:
            return "not (channel, freq, time): needs reshape"
        return "Grad-CAM, PIQ, L2I"


def list_layers(classifier: Classifier) -> list[Layer]:
    """Layers with an output of three or four axes, in the order in which they are called, each once.

    Args:
        classifier: any; of `External` the wrapped module's layers, under the names that `External` takes.
    """
    external = isinstance(classifier, External)
    module: nn.Module = classifier.module if external else classifier
    shapes = [_outputs(classifier, module, seconds) for seconds in (1, 2)]
    used = classifier.layers if external else ()
    one_length = external and classifier.samples is not None

    def grows(name: str, columns: int) -> bool:
        return columns > 1 if one_length else shapes[1].get(name, (columns,))[-1] > columns

    return [
        Layer(name, shape[1:], grows(name, shape[-1]), name in used)
        for name, shape in shapes[0].items()
        if len(shape) in (3, 4)
    ]


@torch.no_grad()
def _outputs(classifier: Classifier, module: nn.Module, seconds: int) -> dict[str, tuple[int, ...]]:
    """Shape of each submodule's output; its hooks are removed, also after an error."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str):
        def hook(_: nn.Module, inputs: tuple, output: object) -> None:
            made = output[0] if isinstance(output, tuple) and output else output
            if isinstance(made, Tensor):
                shapes.setdefault(name, tuple(made.shape))

        return hook

    hooks = [each.register_forward_hook(keep(name)) for name, each in module.named_modules() if name]
    try:
        with frozen(classifier):
            classifier(torch.zeros(1, seconds * classifier.sample_rate, device=classifier.device))
    finally:
        for each in hooks:
            each.remove()
    return shapes
