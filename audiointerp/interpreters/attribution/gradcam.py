"""Grad-CAM and guided Grad-CAM: the cells of a feature map that raise the logit of the target class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from audiointerp.classifiers.external import External
from audiointerp.contracts import Classifier, Interpretation, Interpreter, Prediction, check_gradient
from audiointerp.interpreters.attribution.base import Attribution, Details, Score, asked_logit, hear, require
from audiointerp.interpreters.base import Scene

__all__ = ["GradCAM", "GuidedGradCAM"]


@dataclass(eq=False, repr=False)
class GradCAM(Attribution):
    """relu(sum over channels of a_k A_k), a_k = mean over freq and time of dy/dA_k, for a feature map A.

    Selvaraju et al. (2017), https://arxiv.org/abs/1610.02391, with the paper's ReLU (captum leaves it out). The result
    is interpolated bilinearly from the feature map's grid to the STFT's. The feature maps of the prediction are always
    (batch, channel, freq, time), also where a layer's output has another layout, as in a transformer
    (`External(reshape=...)`).

    Args:
        classifier, to_mask, domain, max_batch: see `Attribution`.
        layer: index into `Prediction.feature_maps`; by default the last feature map.
    Raises:
        ValueError: if the classifier gives no such feature map.
    """

    needs_gradient = True
    layer: int = -1

    def __post_init__(self) -> None:
        """Checks the layer, if the number of the classifier's feature maps is known before the first prediction."""
        super().__post_init__()
        if isinstance(self.classifier, External):
            self._check_layer(len(self.classifier.layers))

    @property
    def passes(self) -> int:
        """One forward pass, and a backward pass, which counts as two."""
        return 3

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The map on the STFT's grid."""
        self._check_layer(len(clip.prediction.feature_maps))
        maps, gradient = self._map_and_gradient(clip)
        cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).clamp(min=0)
        if isinstance(self.classifier, External):  # External knows the frequency and time of each cell
            return self.classifier.place(cam[:, 0], clip.waveform.shape[1]), {}
        return functional.interpolate(cam, clip.stft.shape[1:], mode="bilinear", align_corners=False)[:, 0], {}

    def over_time(self, made: Interpretation) -> Tensor:
        """The energy of the explanation's sound, (batch, frames).

        Not the map's sum over a frame: a cell covers many bins, of which some hold no sound, and says nothing of their
        level.
        """
        return Interpreter.over_time(self, made)

    def _check_layer(self, count: int) -> None:
        if not -count <= self.layer < count:
            lacking = "names no layer" if not count else f"has no feature map {self.layer} among its {count}"
            raise ValueError(
                f"{type(self).__name__} reads a layer of the classifier, but {type(self.classifier).__name__} "
                f"{lacking}; name layers with External(layers=[...]), which `audiointerp layers MODEL` lists, or leave "
                "this method out"
            )

    def _map_and_gradient(self, clip: Scene) -> tuple[Tensor, Tensor]:
        """The feature map and the gradient of the target's logit with respect to it, each (1, channel, freq, time)."""
        heard, magnitude = hear(self.classifier, clip), clip.stft.abs().requires_grad_()
        if not isinstance(self.classifier, External):
            prediction = heard(magnitude)
            maps = prediction.feature_maps[self.layer]
            return maps.detach(), self._gradients(prediction, clip, [maps])[0]
        # The logits are computed from the layer's raw outputs, not from `External`'s feature maps (which are reshaped
        # and joined over the pieces of a long clip), so the gradient is taken at the raw outputs.
        reshape = self.classifier.reshape or _same
        with _outputs(self.classifier.module.get_submodule(self.classifier.layers[self.layer])) as outputs:
            prediction = heard(magnitude)
            gradients = self._gradients(prediction, clip, outputs)
        both = [torch.cat([reshape(each.detach()) for each in parts], -1) for parts in (outputs, gradients)]
        return both[0], both[1]

    def _gradients(self, prediction: Prediction, clip: Scene, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        check_gradient(self.classifier, type(self).__name__, prediction.logits)
        return torch.autograd.grad(asked_logit(prediction, clip.target).sum(), inputs)


class GuidedGradCAM(GradCAM):
    """Grad-CAM times the gradient of guided backpropagation: Grad-CAM's coarse map at the resolution of the STFT.

    Selvaraju et al. (2017), https://arxiv.org/abs/1610.02391; Springenberg et al. (2015),
    https://arxiv.org/abs/1412.6806: in the backward pass, negative gradients are set to 0 at each ReLU.
    captum does so for `torch.nn.ReLU` modules and silently ignores a ReLU called as a function; a classifier with such
    calls is refused.

    Args:
        classifier, to_mask, domain, max_batch, layer: see `GradCAM`.
    Raises:
        ValueError: without captum; if the classifier has no `torch.nn.ReLU` module, or calls a ReLU as a function.
    """

    def __post_init__(self) -> None:
        """Checks that captum is installed and that the classifier has ReLU modules."""
        super().__post_init__()
        require("captum", self)
        if not any(isinstance(each, nn.ReLU) for each in self.classifier.modules()):
            raise ValueError(
                f"GuidedGradCAM needs torch.nn.ReLU modules, but {type(self.classifier).__name__} has none; use GradCAM"
            )
        self._guidable = False  # until the ReLUs of a first clip were counted

    @property
    def passes(self) -> int:
        """Three for Grad-CAM and three for a guided gradient."""
        return 6

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """Grad-CAM times the guided gradient, signed."""
        from captum import attr

        if self._guidable:
            cam, details = super().attribute(clip, score)
        else:
            with _relus_counted(self.classifier) as counts:
                cam, details = super().attribute(clip, score)
            self._check_relus(counts["called"], counts["modules"])
        guided = attr.GuidedBackprop(_Scored(self.classifier, score))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
            gradient = guided.attribute(clip.stft.abs().requires_grad_())
        return cam * gradient, details

    def _check_relus(self, called: int, modules: int) -> None:
        if called > modules:
            raise ValueError(
                f"GuidedGradCAM cannot guide {called - modules} of {called} ReLUs of {type(self.classifier).__name__}: "
                "they are called as functions; make them torch.nn.ReLU modules or use GradCAM"
            )
        self._guidable = True


class _Scored(nn.Module):
    """A score as a module that contains the classifier, so that captum finds the classifier's ReLUs."""

    def __init__(self, classifier: Classifier, score: Score):
        super().__init__()
        self.classifier, self.score = classifier, score

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.score(magnitude)


class _CountReLUs(TorchDispatchMode):
    """Counts calls of ReLU, both by modules and by functions."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name in ("aten::relu", "aten::relu_")
        return func(*args, **kwargs or {})


def _same(maps: Tensor) -> Tensor:
    return maps


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the outputs of a module; its hook is removed afterwards, also after an exception."""
    made: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        made.append(output[0] if isinstance(output, tuple) else output)

    hook = module.register_forward_hook(keep)
    try:
        yield made
    finally:
        hook.remove()


@contextmanager
def _relus_counted(classifier: Classifier) -> Iterator[dict[str, int]]:
    """Counts all ReLU calls of a pass and those made by modules; "called" is set when the context ends."""
    counts = {"called": 0, "modules": 0}

    def count(*_: object) -> None:
        counts["modules"] += 1

    hooks = [each.register_forward_hook(count) for each in classifier.modules() if isinstance(each, nn.ReLU)]
    try:
        with _CountReLUs() as mode:
            yield counts
        counts["called"] = mode.count
    finally:
        for hook in hooks:
            hook.remove()
