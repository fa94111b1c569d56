"""L2I: Listen to Interpret.

Parekh, Parekh, Mozharovskyi, d'Alché-Buc, Richard (2022), https://arxiv.org/abs/2202.11479. A frozen classifier's
feature maps are turned into activations H of a dictionary W of spectral components learnt beforehand
(`audiointerp.sound.nmf`), from which a linear layer Theta must repeat the classifier's answer. What is heard of a class
are the components that Theta counts for it.

    feature maps -> Psi -> H -> attention over time -> z -> Theta;  mask = (relevant components of W H) / (W H)

Departures from the released codes: any number of frames; Theta is one module with the rest, so it is saved with it;
the fidelity term is summed over classes (the SpeechBrain recipe averages) from log-softmax; relevance is divided by the
largest absolute contribution, so that it never exceeds 1; Theta starts at zero (see `Theta`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.contracts import Batch, Classifier, Prediction, frozen, resolve_target
from audiointerp.interpreters.base import Scene, TrainedInterpreter, check_layers
from audiointerp.interpreters.l2i.by_design import DictionaryClassifier
from audiointerp.interpreters.l2i.networks import DictionaryNetwork, read_dictionary
from audiointerp.interpreters.l2i.relevance import class_relevance, component_mask, select
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.masking import Domain
from audiointerp.sound.spectrogram import log_magnitude

LAYERS = 3  # feature maps read unless named

__all__ = ["L2I", "global_relevance"]


class L2I(TrainedInterpreter):
    """Masks of the dictionary's components that speak for the asked class; trained by the training loop.

    Of a `DictionaryClassifier` it uses the classifier's own networks and dictionary and has nothing to train.

    Args:
        classifier: explained, never changed; it must give feature maps.
        dictionary: an NMF, or a tensor (freq, components), never negative; it is not trained. None: zeros, which a
            bundle's weights replace.
        n_components: of the dictionary, where none is given.
        layers: which feature maps are read; None: the last three, or as many as there are.
        width: of Psi's convolutions, see `ActivationNetwork`.
        threshold: components are selected whose relevance is above it.
        top_k: and that are among this many most relevant ones; None: all.
        domain: what the mask multiplies; log_magnitude in the paper.
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
                f"L2I would select nothing with threshold {threshold}, top_k {top_k}; relevance is at most 1"
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
        """Mask, and of the components: activations (batch, components, time); relevance for the asked classes and
        whether selected, 1 or 0, (batch, components); and Theta's probabilities (batch, classes).

        `relevance.component_mask` makes the mask of any other selection from them.
        """  # fmt: skip
        self._check_dictionary()
        training = self.training
        self.eval()
        try:
            made = self.network(scene.prediction.feature_maps, scene.stft.shape[-1])
        finally:
            self.train(training)
        of_class = class_relevance(made.pooled, self.network.theta.weight)
        # Of a set of classes: a component matters if it does for any of them.
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
        """One group: Psi and Theta; none by design."""
        return {} if self.by_design else {"interpreter": list(self.parameters())}

    def on_start(self, batches: Iterable[Batch]) -> None:
        """Refuses to train without a dictionary."""
        self._check_dictionary()

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The three terms of the paper; the authors weigh them 10 : 0.8 : 1.

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
        """Per clip, as `MaskInterpreter.scores_of`; does Theta say what the classifier says (several labels: on what
        share of them); how many components are selected.
        """  # fmt: skip
        made = self.interpret(batch.waveform)
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
    """Mean relevance of each component for each class, over the clips predicted as it, (classes, components).

    NaN for a class that is never predicted.

    Args:
        interpreter: trained.
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
    """Which feature maps are read, their channels, and how many STFT frames a column of each stands for.

    Found by two passes over silence, of 64 and 448 frames; a map that does not grow has no stride.
    """
    columns, frames = [], (64, 448)
    spectrogram = classifier.spectrogram
    with frozen(classifier), torch.no_grad():
        for each in frames:
            silence = torch.zeros(1, (each - 1) * spectrogram.hop_length, device=classifier.device)
            maps = classifier.classify_stft(spectrogram(silence), silence.shape[1]).feature_maps
            columns.append([each.shape[3] for each in maps])
    layers = list(range(-1, -1 - min(LAYERS, len(maps)), -1)) if layers is None else list(layers)
    check_layers("L2I", layers, maps)
    grown = [columns[1][layer] - columns[0][layer] for layer in layers]
    strides = [(frames[1] - frames[0]) / each if each > 0 else None for each in grown]
    return layers, [maps[layer].shape[1] for layer in layers], strides
