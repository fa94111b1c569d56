"""RTIS: real-time image saliency, a mask decoded from the classifier's feature maps at the places of a named class.

Dabkowski and Gal (2017), "Real Time Image Saliency for Black Box Classifiers", https://arxiv.org/abs/1705.07857; the
trained baseline with which the Explainer is compared. A U-Net whose encoder is the classifier: the coarsest map A is
gated by how well each of its cells fits the class, sigmoid(<A, e_c>), with a learnt vector e_c for each class.

    preserved = -log f_c(x m);  destroyed = f_c(x (1 - m))^0.3;  area = mean (m + 0.0005)^0.3;  tv = squared variation

In training, some clips are asked for a class that they do not have. Such a mask must be empty: what it leaves must have
the clip's own class, and what it keeps must not.

Departures from the paper and its released code:

- Removed bins are silent; the paper replaces removed pixels by a blurred image or by noise.
- One training instead of two phases: the vectors e_c learn, with all else, from the term "exists", whether the class is
  in the clip. The released code trains them first and alone.
- The mask is a sigmoid (the code's "simple activation"), on the STFT's grid; all terms are means over the clips.
- Of a clip with several labels, one is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.contracts import Batch, Classifier, Prediction, frozen
from audiointerp.interpreters import mask_losses
from audiointerp.interpreters.base import Scene, TrainedInterpreter, check_layers, map_layouts
from audiointerp.interpreters.lmac.decoder import MaskDecoder, cell_positions, largest_of_targets
from audiointerp.processes import dividing
from audiointerp.sound.masking import Domain
from audiointerp.sound.spectrogram import log_magnitude

SAVED = ("layers", "width", "fine_width", "domain", "binary", "fill")
TINY_AREA = 0.0005  # keeps the power's gradient finite at a mask of 0

__all__ = ["RTIS"]


@dataclass(eq=False, repr=False)
class RTIS(TrainedInterpreter):
    """Masks decoded from feature maps that are gated by the target class; trained by the training loop, with labels.

    Args:
        classifier: the classifier to explain; its gradient trains the masks.
        layers: the feature maps that are read, the last of them gated; None: all. Negative indices count from the last.
        width: channels at the coarse levels.
        fine_width: channels at the levels of stride 4 and 2, and of the last layers.
        fakes: share of the training clips that are asked for a class that they do not have; 0.3 in the paper's code.
        power: of the terms "destroyed" and "area"; below 1, so that a small rest counts too.
        domain: the quantity that the mask multiplies.
        binary: round masks at 0.5 when interpreting.
        fill: leave removed bins at the clip's noise floor when interpreting.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers`, or an option cannot be used.
    """

    classifier: Classifier
    layers: Sequence[int] | None = None
    width: int = 32
    fine_width: int = 16
    fakes: float = 0.3
    power: float = 0.3
    domain: Domain = "magnitude"
    binary: bool = False
    fill: bool = False

    label_sets = True  # augmentation may unite the labels of mixed clips

    def __post_init__(self) -> None:
        """Builds the decoder and the vectors of the classes."""
        nn.Module.__init__(self)
        if self.domain not in get_args(Domain):
            raise ValueError(f"RTIS has no {self.domain!r}; choose from {', '.join(get_args(Domain))}")
        if not 0 <= self.fakes < 1 or not self.power > 0 or self.width < 1 or self.fine_width < 1:
            raise ValueError("RTIS needs fakes from 0 to below 1, power above 0, width and fine_width of at least 1")
        layouts = map_layouts(self.classifier)
        self.layers = list(range(len(layouts))) if self.layers is None else list(self.layers)
        check_layers("RTIS", self.layers, layouts)
        self.layouts = [layouts[layer] for layer in self.layers]
        self.config = {name: getattr(self, name) for name in SAVED}
        self.decoder = MaskDecoder(self.layouts, None, self.width, self.fine_width, detail=True)
        channels = self.layouts[-1].channels
        self.of_class = nn.Embedding(len(self.classifier.labels), channels)
        nn.init.normal_(self.of_class.weight, std=channels**-0.5)

    # --- interpreting

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask for the target classes, the largest of theirs in each bin; no further details."""
        training = self.training
        self.eval()
        try:
            samples = scene.waveform.shape[-1]

            def one(index: Tensor) -> Tensor:
                return self.mask_logits(scene.prediction, index, scene.stft, samples)[0]

            return largest_of_targets(scene.target, one).sigmoid(), {}
        finally:
            self.train(training)

    def mask_logits(self, prediction: Prediction, index: Tensor, stft: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Logits (batch, freq, time) of the mask for one class of each clip, and of that class's being in it, (batch,).

        Args:
            prediction: the classifier's, with feature maps.
            index: (batch,), of the class.
            stft: of the clips.
            samples: length of the clips.
        """
        assert self.layers is not None
        maps = [prediction.feature_maps[layer] for layer in self.layers]
        fit = (maps[-1] * self.of_class(index)[:, :, None, None]).sum(1, keepdim=True)
        maps[-1] = maps[-1] * fit.sigmoid()
        where = [cell_positions(self.classifier, each, one.shape[3], samples) for each, one in zip(self.layouts, maps)]
        return self.decoder(maps, where, index, log_magnitude(stft)), fit.mean((1, 2, 3))

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: decoder and vectors."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The terms "preserved", "destroyed", "area", "tv" and "exists", each a mean over the clips that have a label.

        Raises:
            ValueError: if no gradient passes through the classifier.
        """
        samples = batch.waveform.shape[-1]
        with frozen(self.classifier) as classifier:
            stft, prediction = self.look(batch)
            labels = batch.label > 0 if batch.label.ndim == 2 else _one_hot(batch.label, len(classifier.labels))
            own, asked, real = self._draw(labels)
            logits, exists = self.mask_logits(prediction, asked, stft, samples)
            mask = logits.sigmoid()
            kept, left = mask_losses.classify_parts(classifier, stft, mask, samples, self.domain)
        swap = ~real[:, None]
        having, lacking = torch.where(swap, left.logits, kept.logits), torch.where(swap, kept.logits, left.logits)
        log_p = [each.log_softmax(1) for each in (having, lacking)]
        if classifier.multilabel:
            log_p = [functional.logsigmoid(each) for each in (having, lacking)]
        preserved, destroyed = (each.gather(1, own[:, None])[:, 0] for each in log_p)
        certain = functional.binary_cross_entropy_with_logits(exists, real.to(exists), reduction="none")
        counted = labels.any(1)
        terms = {
            "preserved": -preserved,
            "destroyed": (self.power * destroyed).exp(),
            "area": (mask + TINY_AREA).pow(self.power).mean((1, 2)),
            "exists": certain,
        }
        clips = counted.sum().clamp(min=1)
        losses = {name: each.masked_fill(~counted, 0.0).sum() / clips for name, each in terms.items()}
        losses |= {"tv": mask_losses.total_variation(mask, counted) * len(labels) / clips}
        return {name: dividing.fair(each, counted.sum()) for name, each in losses.items()}

    def _draw(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One label of each clip; the class that is asked for; and whether that is the label, else one it lacks.

        Random numbers are drawn on the CPU, as many whatever the labels, so that a resumed run draws the same.
        """
        lottery, chance = (dividing.rand(*each).to(labels.device) for each in (labels.shape, labels.shape[:1]))
        own = lottery.masked_fill(~labels, -1.0).argmax(1)
        other = lottery.masked_fill(labels, -1.0).argmax(1)
        real = (chance >= self.fakes) | labels.all(1)
        return own, torch.where(real, own, other), real


def _one_hot(label: Tensor, classes: int) -> Tensor:
    return functional.one_hot(label, classes).bool()
