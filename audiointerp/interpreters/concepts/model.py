"""A dictionary of concepts as an interpreter: a clip is explained by the concepts that raise the target's logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiointerp.contracts import Classifier
from audiointerp.interpreters.base import ModuleInterpreter, Scene
from audiointerp.interpreters.concepts.dictionaries import DICTIONARIES
from audiointerp.interpreters.concepts.representation import Representation
from audiointerp.sound.masking import attribution_mask

__all__ = ["Concepts", "concept_masks"]


class Concepts(ModuleInterpreter):
    """Keeps the sound of the concepts without which the target's logit falls most.

    Parekh et al. (2024), https://arxiv.org/abs/2406.08074, explain a sample by its most active concepts, whatever the
    target. Here a concept counts by its contribution: how far the target's mean logit falls when the concept's part of
    the layer's feature map is taken away. A concept has no frequencies and times of its own beyond the layer's grid, so
    that its sound is no sharper than the grid's cells, and cells also depend on the sound around them.

    `details` has "contributions" and "strengths" (the mean activation), each (batch, concept), and "selected", 1 for
    each concept that is kept.

    Args:
        classifier: any classifier that gives feature maps.
        dictionary: name of the kind of dictionary: semi_nmf, k_means, pca, nmf, sparse_autoencoder or random.
        n_concepts: number of concepts.
        layer: index of the feature map.
        sparsity, active, seed: see `ConceptDictionary`.
        top: at most this many concepts are kept, those of the largest positive contributions; the largest is always
            kept.
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time).
    Raises:
        ValueError: for an unknown dictionary, fewer than one concept to keep, or a classifier without the feature map.
    """

    def __init__(
        self,
        classifier: Classifier,
        dictionary: str = "semi_nmf",
        n_concepts: int = 20,
        layer: int = -1,
        sparsity: float = 0.05,
        active: int = 4,
        top: int = 3,
        seed: int = 0,
    ):
        nn.Module.__init__(self)
        self.classifier = classifier
        if dictionary not in DICTIONARIES:
            raise ValueError(f"dictionary is {dictionary!r}; choose one of {', '.join(DICTIONARIES)}")
        if top < 1:
            raise ValueError(f"top is {top}; at least one concept is kept")
        self.layer, self.top = layer, top
        self._representation = Representation(classifier, layer)
        self.dictionary = DICTIONARIES[dictionary](n_concepts, self._representation.channels, sparsity, active, seed)
        self.config = {
            "dictionary": dictionary,
            "n_concepts": n_concepts,
            "layer": layer,
            "sparsity": sparsity,
            "active": active,
            "top": top,
            "seed": seed,
        }

    @property
    def representation(self) -> Representation:
        """The layer of the classifier that is explained now."""
        if self._representation.classifier is not self.classifier:  # a copy, made by `on`
            self._representation = Representation(self.classifier, self.layer)
        return self._representation

    @property
    def passes(self) -> int:
        """One for the feature map, and one without each concept."""
        return 2 + len(self.dictionary.directions)

    def contributions(self, waveform: Tensor, target: Tensor, activations: Tensor) -> Tensor:
        """How far the target's mean logit falls without each concept, (concept,).

        Args:
            waveform: (1, samples), at peak 1.
            target: (1, classes) bool.
            activations: (concept, freq, time), of this waveform.
        """
        parts = self.dictionary.parts(activations)
        logits = self.representation.logits_after(waveform, torch.cat([torch.zeros_like(parts[:1]), -parts]))
        asked = logits[:, target[0]].mean(1)
        return asked[0] - asked[1:]

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the concepts with the largest contributions."""
        masks, details = [], []
        for row, maps in enumerate(scene.prediction.feature_maps[self.layer]):
            waveform, target = scene.waveform[row : row + 1], scene.target[row : row + 1]
            found = self.dictionary.activations(maps[None])[0]
            fall = self.contributions(waveform, target, found)
            order = fall.argsort(descending=True)[: self.top]
            selected = torch.zeros_like(fall).index_fill(0, order, 1.0) * (fall > 0)
            selected[order[0]] = 1.0
            # Each concept's contribution is shared among its cells by their activation.
            positive = found.clamp(min=0)
            shares = positive / positive.sum((1, 2), keepdim=True).clamp(min=1e-12)
            weights = selected * fall.clamp(min=1e-12)
            score = (weights[:, None, None] * shares).sum(0, keepdim=True)
            mask = concept_masks(self.representation.placed(score, waveform.shape[1]))
            masks.append(mask * (scene.stft[row : row + 1] != 0).any())
            strengths = found.mean((1, 2))
            details.append({"contributions": fall, "strengths": strengths, "selected": selected})
        return torch.cat(masks), {name: torch.stack([each[name] for each in details]) for name in details[0]}


def concept_masks(placed: Tensor) -> Tensor:
    """Masks (n, freq, time) of activations on the STFT's grid: their positive part, 1 from its 0.99 quantile on."""
    return attribution_mask(placed, quantile=0.99, smooth=1)
