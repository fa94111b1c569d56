"""L2I by design: a classifier whose logits are computed from activations of a dictionary, and its training.

Parekh et al. (2023), https://arxiv.org/abs/2305.07132.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from audiointerp.classifiers.supervised import Supervised
from audiointerp.classifiers.vggsound import Encoder
from audiointerp.contracts import Batch, Classifier, Prediction
from audiointerp.interpreters.l2i.networks import DictionaryNetwork
from audiointerp.sound.spectrogram import STFT, log_magnitude

STRIDES = (2, 4, 8, 16, 16)  # STFT frames per column of each of the encoder's feature maps

__all__ = ["DictionaryClassifier", "DictionaryTraining"]


class DictionaryClassifier(Classifier):
    """L2I by design: a classifier whose logits come from activations of a dictionary, which also explain it.

    The encoder of `VGGSound` is followed by Psi and Theta, and the logits are Theta's. Train it with
    `audiointerp.interpreters.DictionaryTraining`, explain it with `audiointerp.interpreters.L2I(classifier)`.

    Args:
        labels: class names.
        channels: channels of the encoder's convolutions.
        n_components: components of the dictionary, which is zero until training sets it or a bundle is loaded.
        layers: indices of the encoder's five feature maps that Psi reads.
        width: of Psi, see `ActivationNetwork`.
        multilabel: sigmoid instead of softmax.
        spectrogram: front end; None: the STFT of the PIQ paper.
    Shape:
        waveform (batch, samples) -> logits (batch, classes).
    Raises:
        ValueError: if there are no labels, or a layer does not exist.
    """

    reads_magnitude = True

    def __init__(
        self,
        labels: Sequence[str],
        channels: int = 256,
        n_components: int = 100,
        layers: Sequence[int] = (-1, -2, -3),
        width: int = 64,
        multilabel: bool = False,
        spectrogram: STFT | None = None,
    ):
        super().__init__()
        if isinstance(labels, str) or not labels:
            raise ValueError(f"labels is {labels!r}; give a list of class names")
        if wrong := [layer for layer in layers if not -len(STRIDES) <= layer < len(STRIDES)]:
            raise ValueError(f"layers names feature map {wrong[0]}; the encoder gives {len(STRIDES)}")
        self.config = {
            "labels": list(labels),
            "channels": channels,
            "n_components": n_components,
            "layers": list(layers),
            "width": width,
            "multilabel": multilabel,
        }
        self.labels, self.multilabel, self.width = tuple(labels), multilabel, width
        self.spectrogram = spectrogram or STFT()
        self.sample_rate = self.spectrogram.sample_rate
        self.encoder = Encoder(channels)
        self.network = DictionaryNetwork(
            self.spectrogram.n_fft // 2 + 1,
            n_components,
            len(self.labels),
            [channels] * len(layers),
            layers,
            width,
            [STRIDES[layer] for layer in layers],
        )

    @property
    def dictionary(self) -> Tensor:
        """W, (freq, components)."""
        return self.network.dictionary

    def features(self, waveform: Tensor) -> Tensor:
        """log_magnitude (batch, freq, time)."""
        return log_magnitude(self.spectrogram(waveform))

    def classify(self, features: Tensor) -> Prediction:
        """Prediction of log-magnitudes (batch, freq, time)."""
        return self.classify_maps(self.encoder(features), features.shape[-1])

    def classify_maps(self, feature_maps: tuple[Tensor, ...], frames: int | None = None) -> Prediction:
        """Prediction from the encoder's feature maps.

        If `frames` is None, the number of STFT frames is taken to be that of the finest map times its stride, which is
        one frame too few if the number is odd.
        """
        logits = self.network(feature_maps, frames or STRIDES[0] * feature_maps[0].shape[3]).logits
        return Prediction.from_logits(
            logits, self.multilabel, embedding=feature_maps[-1].mean((2, 3)), feature_maps=feature_maps
        )

    def classify_stft(self, stft: Tensor, samples: int) -> Prediction:
        """Prediction of a complex STFT, computed from it directly, without an inverse transform."""
        return self.classify(log_magnitude(stft))


class DictionaryTraining(Supervised):
    """Joint training of L2I by design (Parekh et al., 2023, https://arxiv.org/abs/2305.07132).

    The dictionary W is not trained; encoder, Psi and Theta are. We do not know the paper's loss weights and schedule:
    the losses are those of L2I with the labels instead of the classifier's probabilities, and the recipe sets their
    weights, which may change by epoch.

    Args:
        classifier: trained in place.
        dictionary: an NMF or a tensor (freq, components), copied into the classifier; None: the classifier keeps its
            own.
        label_smoothing, augment_features, positive_weight: see `Supervised`.
    Raises:
        ValueError: for another kind of classifier, without a dictionary, or for one that does not fit the classifier.
    """

    classifier: DictionaryClassifier

    def __init__(
        self,
        classifier: Classifier,
        dictionary: Any = None,
        label_smoothing: float = 0.0,
        augment_features: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        positive_weight: float = 1.0,
    ):
        if not isinstance(classifier, DictionaryClassifier):
            raise ValueError(f"DictionaryTraining trains a DictionaryClassifier, not a {type(classifier).__name__}")
        super().__init__(classifier, label_smoothing, augment_features, positive_weight)
        if dictionary is not None:
            classifier.network.set_dictionary(dictionary)
        elif not classifier.dictionary.any():
            raise ValueError("DictionaryTraining needs a dictionary; learn one with audiointerp.sound.nmf")

    def losses(self, batch: Batch, group: str = "classifier") -> dict[str, Tensor]:
        """{"classification", "reconstruction": mean (X - W H)^2 over bins of the log-magnitude, "sparsity": mean H}."""
        features = self._augmented(self.classifier.features(batch.waveform))
        network = self.classifier.network
        made = network(self.classifier.encoder(features), features.shape[-1])
        return {
            "classification": self._classification(made.logits, batch.label),
            "reconstruction": (features - network.reconstruct(made.activations)).square().mean(),
            "sparsity": made.activations.mean(),
        }
