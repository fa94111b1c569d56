"""L2I: Listen to Interpret.

Parekh, Parekh, Mozharovskyi, d'Alché-Buc, Richard (2022), https://arxiv.org/abs/2202.11479. A frozen classifier's
feature maps are turned into activations H of a dictionary W of spectral components learnt beforehand
(`audiointerp.sound.nmf`), from which a linear layer Theta is trained to repeat the classifier's prediction. The
explanation of a class consists of the components that contribute most to Theta's logit of that class.

    feature maps -> Psi -> H -> attention over time -> z -> Theta;  mask = (relevant components of W H) / (W H)

Departures from the released code: clips may have any number of frames; Theta is a submodule and is saved with the other
weights; the fidelity term is computed from log-softmax and summed over classes (the SpeechBrain recipe averages);
relevance is divided by the largest absolute contribution, so that it never exceeds 1; Theta starts at zero (see
`Theta`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.contracts import Batch, Classifier, Prediction, frozen, resolve_target
from audiointerp.interpreters.base import Scene, TrainedInterpreter, check_layers, map_layouts
from audiointerp.interpreters.l2i.by_design import DictionaryClassifier
from audiointerp.interpreters.l2i.networks import DictionaryNetwork, read_dictionary
from audiointerp.interpreters.l2i.relevance import class_relevance, component_mask, select
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.masking import Domain
from audiointerp.sound.spectrogram import log_magnitude

LAYERS = 3  # number of feature maps read by default

__all__ = ["L2I", "global_relevance"]


class L2I(TrainedInterpreter):
    """Masks of the dictionary components relevant to the target class; trained by the training loop.

    For a `DictionaryClassifier` it uses the classifier's own networks and dictionary and needs no training.

    Args:
        classifier: the classifier to explain, never changed; it must give feature maps.
        dictionary: an NMF, or a tensor (freq, components), never negative; it is not trained. None: zeros, which a
            bundle's weights replace.
        n_components: components of the dictionary, if none is given.
        layers: indices of the feature maps that are read; None: the last three, or all if there are fewer.
        width: of Psi's convolutions, see `ActivationNetwork`.
        threshold: components of higher relevance than this are selected.
        top_k: of them, only the `top_k` most relevant are selected; None: all.
        domain: the quantity that the mask multiplies; log_magnitude in the paper.
        binary: round masks at 0.5 when interpreting.
        fill: leave removed bins at the clip's noise floor when interpreting.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers`, an option cannot be used, or the dictionary does
            not fit the classifier's STFT.
    """

    def __init__(
        self,
        classifier: Classifier,
        dictionary: Any = None,
        n_components: int = 100,
        layers: Sequence[int] | None = None,
        width: int = 64,
        threshold: float = 0.2,
        top_k: int | None = None,
        domain: Domain = "log_magnitude",
        binary: bool = False,
        fill: bool = False,
    ):
        if not threshold < 1 or (top_k is not None and top_k < 1):
            raise ValueError(
                f"L2I would select no component with threshold {threshold}, top_k {top_k}; relevance is at most 1"
            )
        nn.Module.__init__(self)
        self.classifier = classifier
        self.by_design = isinstance(classifier, DictionaryClassifier)
        if isinstance(classifier, DictionaryClassifier):
            if dictionary is not None:
                raise ValueError("a DictionaryClassifier is explained by its own dictionary; leave out dictionary")
            object.__setattr__(self, "network", classifier.network)
            n_components, layers = classifier.dictionary.shape[1], classifier.network.layers
            width = classifier.width
        else:
            freq = classifier.spectrogram.n_fft // 2 + 1
            n_components = n_components if dictionary is None else read_dictionary(dictionary, freq).shape[1]
            layers, widths, strides = _layout(classifier, layers)
            labels = len(classifier.labels)
            self.network = DictionaryNetwork(freq, n_components, labels, widths, layers, width, strides)
            if dictionary is not None:
                self.network.set_dictionary(dictionary)
        self.threshold, self.top_k = threshold, top_k
        self.domain, self.binary, self.fill = domain, binary, fill
        self.config = {
            "n_components": n_components,
            "layers": list(layers),
            "width": width,
            "threshold": threshold,
            "top_k": top_k,
            "domain": domain,
            "binary": binary,
            "fill": fill,
        }

    @property
    def dictionary(self) -> Tensor:
        """W, (freq, components), columns of unit norm."""
        return self.network.dictionary

    # --- interpreting

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The mask of the selected components, and details.

        "activations" (batch, components, time); "relevance" of each component for the target, and "selected", 1 or 0,
        both (batch, components); "theta_probabilities" (batch, classes). From the activations
        `relevance.component_mask` makes the mask of any other selection.
        """
        self._check_dictionary()
        training = self.training
        self.eval()
        try:
            made = self.network(scene.prediction.feature_maps, scene.stft.shape[-1])
        finally:
            self.train(training)
        of_class = class_relevance(made.pooled, self.network.theta.weight)
        # For several target classes, the relevance of a component is the largest over them.
        relevance = of_class.masked_fill(~scene.target[:, :, None], -torch.inf).amax(1)
        selected = select(relevance, self.threshold, self.top_k)
        details = {
            "activations": made.activations,
            "relevance": relevance,
            "selected": selected,
            "theta_probabilities": self._probabilities(made.logits),
        }
        return component_mask(self.dictionary, made.activations, selected), details

    def _check_dictionary(self) -> None:
        if not self.dictionary.any():
            raise ValueError("L2I has no dictionary; give one learnt on the training clips (audiointerp.sound.nmf)")

    def _probabilities(self, logits: Tensor) -> Tensor:
        return Prediction.from_logits(logits, self.classifier.multilabel).probabilities

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group, Psi and Theta; no group for a `DictionaryClassifier`."""
        return {} if self.by_design else {"interpreter": list(self.parameters())}

    def on_start(self, batches: Iterable[Batch]) -> None:
        """Raises ValueError without a dictionary."""
        self._check_dictionary()

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The three terms of the paper, which the authors weight 10 : 0.8 : 1.

        "reconstruction": mean over bins of (X - W H)^2, X the log-magnitude. "sparsity": mean of H. "fidelity": see
        `fidelity_loss`.
        """
        with frozen(self.classifier):
            stft, prediction = self.look(batch)
            made = self.network(prediction.feature_maps, stft.shape[-1])
        error = log_magnitude(stft) - self.network.reconstruct(made.activations)
        return {
            "reconstruction": error.square().mean(),
            "sparsity": made.activations.mean(),
            "fidelity": fidelity_loss(made.logits, prediction.probabilities, self.classifier.multilabel),
        }

    @torch.no_grad()
    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Validation scores per clip: those of `scores_of`, "theta_fidelity" and "selected".

        "theta_fidelity": whether Theta predicts the classifier's class (multilabel: the share of the labels on which
        they agree); "selected": the number of components selected.
        """
        made = self.interpret(self.heard(batch))
        return {
            **self.scores_of(made, batch.waveform),
            "theta_fidelity": self._agreement(made.details["theta_probabilities"], made.prediction),
            "selected": made.details["selected"].sum(1),
        }

    def _agreement(self, theta: Tensor, prediction: Prediction) -> Tensor:
        if self.classifier.multilabel:
            return ((theta > 0.5) == (prediction.probabilities > 0.5)).float().mean(1)
        return (theta.argmax(1) == prediction.predicted).float()


def fidelity_loss(logits: Tensor, probabilities: Tensor, multilabel: bool) -> Tensor:
    """-f(x)^T log softmax(Theta), or binary cross-entropy with f(x); summed over classes, averaged over clips."""
    if multilabel:
        return functional.binary_cross_entropy_with_logits(logits, probabilities, reduction="none").sum(1).mean()
    return functional.cross_entropy(logits, probabilities)


@torch.no_grad()
def global_relevance(interpreter: L2I, waveforms: Iterable[Tensor]) -> Tensor:
    """Mean relevance of each component to each class, over the clips predicted as that class, (classes, components).

    NaN for a class that is never predicted.

    Args:
        interpreter: a trained L2I.
        waveforms: batches (batch, samples), at any level.
    """
    network, classifier = interpreter.network, interpreter.classifier
    total = torch.zeros(len(classifier.labels), interpreter.dictionary.shape[1], device=interpreter.dictionary.device)
    count = total.new_zeros(len(total), 1)
    training = interpreter.training
    interpreter.eval()
    try:
        for waveform in waveforms:
            scaled, _ = normalize_peak(waveform.to(total.device))
            with frozen(classifier):
                stft = classifier.spectrogram(scaled)
                prediction = classifier.classify_stft(stft, scaled.shape[-1])
                pooled = network(prediction.feature_maps, stft.shape[-1]).pooled
            predicted = resolve_target(None, prediction, classifier.multilabel).float()
            total += torch.einsum("bc,bck->ck", predicted, class_relevance(pooled, network.theta.weight))
            count += predicted.sum(0)[:, None]
    finally:
        interpreter.train(training)
    return total / count


def _layout(classifier: Classifier, layers: Sequence[int] | None) -> tuple[list[int], list[int], list[float | None]]:
    """Indices of the feature maps that are read, their channels, and the STFT frames per column of each (stride)."""
    maps = map_layouts(classifier)
    layers = list(range(-1, -1 - min(LAYERS, len(maps)), -1)) if layers is None else list(layers)
    check_layers("L2I", layers, maps)
    return layers, [maps[layer].channels for layer in layers], [maps[layer].stride for layer in layers]
