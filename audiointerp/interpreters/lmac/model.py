"""L-MAC: listenable maps for audio classifiers.

Paissan, Della Libera, Ravanelli, Subakan (2024), https://arxiv.org/abs/2403.13086. A frozen classifier's feature maps
are decoded into a mask on the STFT. It is trained by what the classifier says about the masked sound: the part that the
mask keeps must still be of the explained class, the part that it leaves must not, and the mask must be small.

    feature maps, target class -> decoder -> M;   x_in = expm1(M log1p|X|),   x_out = expm1((1 - M) log1p|X|)
    w_in CE(f(x_in), c) + w_out (-log(1 - f_c(x_out))) + w_1 mean|M| + w_tv TV(M)

Departures from the paper and its released code (SpeechBrain):

- The mask depends on the target class, so that a user can ask for the sound of any class; the paper's explains the
  predicted class only (`conditional=False`).
- The term of the part left is bounded (`mask_losses.masked_out`); area and total variation are means over the batch.
- The decoder is small and works for any classifier with feature maps and clips of any length; no frame is lost.
- `guidance` with known stems compares with the stem of the explained class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from audiointerp.contracts import Batch, Classifier, Prediction, frozen
from audiointerp.interpreters import mask_losses
from audiointerp.interpreters.base import Scene, TrainedInterpreter, check_layers, map_layouts
from audiointerp.interpreters.lmac import targets
from audiointerp.interpreters.lmac.decoder import MaskDecoder, cell_positions, largest_of_targets
from audiointerp.interpreters.lmac.targets import TrainedOn
from audiointerp.interpreters.mask_losses import MaskLoss
from audiointerp.sound.masking import Domain, TargetMask
from audiointerp.sound.spectrogram import log_magnitude

# Settings that the mask depends on, saved in bundles; the others only matter in training.
SAVED = ("layers", "width", "fine_width", "detail", "conditional", "domain", "binary", "fill")

__all__ = ["LMAC", "Guidance"]


@dataclass(frozen=True)
class Guidance:
    """Settings of L-MAC's fine-tuning: masks that are already like the sound are drawn towards its loud bins.

    Args:
        similar: clips whose `mask_losses.similarity` is at least this get the term "guidance", and neither "area" nor
            "tv"; 0.6 in the paper's code.
        threshold: share of the clip's largest log-magnitude above which a bin belongs to the goal; 0.35 there.
    Raises:
        ValueError: if one of them is outside [0, 1].
    """

    similar: float = 0.6
    threshold: float = 0.35

    def __post_init__(self) -> None:
        """Checks the range of both."""
        for name, value in (("similar", self.similar), ("threshold", self.threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"Guidance has {name} {value}; it is a number from 0 to 1")


@dataclass(eq=False, repr=False)
class LMAC(TrainedInterpreter):
    """Masks decoded from feature maps for a target class; trained by the training loop, without labels.

    The target class scales and shifts the channels of every feature map that is read, by two learnt vectors a class
    (an embedding; Perez et al., 2018, "FiLM", https://arxiv.org/abs/1709.07871). The mask of several target classes is
    the largest of their masks at each bin.

    Args:
        classifier: the classifier to explain, never changed; it must give feature maps, and gradients in training.
        layers: indices of the feature maps that are read; None: all.
        width: channels of the decoder's coarse levels.
        fine_width: channels of its fine levels.
        detail: the decoder's last layers also read the clip's log-magnitude, which the classifier's maps do not resolve
            if all of them are coarse; the paper's decoder reads feature maps only.
        conditional: False gives the paper's own decoder, which is not told the class and is trained on the predicted
            one: the mask is the same for every target.
        condition: the class explained in training. "likeliest": drawn at equal chance among the `likeliest` most
            probable classes whose probability is at least `least`, so that both sounds of a mixture are explained;
            "predicted": the most probable one (multilabel: all above 0.5); "label": the clip's label (for mixtures:
            that of the known stem).
        likeliest: number of classes to draw from.
        least: probability below which a class is not drawn, unless it is the most probable one.
        domain: the quantity that the mask multiplies; log_magnitude in the paper.
        guidance: adds L-MAC's fine-tuning term "guidance": towards the label's stem where it is known and the label is
            explained, else towards the clip where the predicted class is explained; None: not.
        target_mask: adds the term "stems", (stft, stem's stft) -> the mask to learn where the stem of the explained
            class is known, such as `StemMask`; None: not.
        mask_loss: of the term "stems", see `mask_losses.reconstruction`.
        binary: round masks at 0.5 when interpreting.
        fill: leave removed bins at the clip's noise floor when interpreting.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers`, or an option cannot be used.
    """

    classifier: Classifier
    layers: Sequence[int] | None = None
    width: int = 64
    fine_width: int = 16
    detail: bool = False
    conditional: bool = True
    condition: TrainedOn = "likeliest"
    likeliest: int = 2
    least: float = 0.05
    domain: Domain = "log_magnitude"
    guidance: Guidance | None = None
    target_mask: TargetMask | None = None
    mask_loss: MaskLoss = "weighted_bce"
    binary: bool = False
    fill: bool = False

    def __post_init__(self) -> None:
        """Builds the decoder for the classifier's feature maps."""
        nn.Module.__init__(self)
        for given, known in ((self.condition, TrainedOn), (self.mask_loss, MaskLoss), (self.domain, Domain)):
            if given not in get_args(known):
                raise ValueError(f"LMAC has no {given!r}; choose from {', '.join(get_args(known))}")
        if self.likeliest < 1 or self.width < 1 or self.fine_width < 1:
            raise ValueError("LMAC needs likeliest, width and fine_width of at least 1")
        layouts = map_layouts(self.classifier)
        self.layers = list(range(len(layouts))) if self.layers is None else list(self.layers)
        check_layers("LMAC", self.layers, layouts)
        self.layouts = [layouts[layer] for layer in self.layers]
        self.config = {name: getattr(self, name) for name in SAVED}
        classes = len(self.classifier.labels) if self.conditional else None
        self.decoder = MaskDecoder(self.layouts, classes, self.width, self.fine_width, self.detail)

    # --- interpreting

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask for the target classes; no further details."""
        training = self.training
        self.eval()
        try:
            samples = scene.waveform.shape[-1]
            logits = self.mask_logits(scene.prediction, scene.target, scene.stft, samples)
        finally:
            self.train(training)
        return logits.sigmoid(), {}

    def mask_logits(self, prediction: Prediction, target: Tensor, stft: Tensor, samples: int) -> Tensor:
        """Logits (batch, freq, time) of the mask for the target classes of each clip.

        Args:
            prediction: the classifier's, with feature maps.
            target: (batch, classes) bool; of several classes, each bin's largest logit counts.
            stft: of the clips.
            samples: length of the clips.
        """
        assert self.layers is not None
        maps = [prediction.feature_maps[layer] for layer in self.layers]
        positions = [
            cell_positions(self.classifier, layout, each.shape[3], samples) for layout, each in zip(self.layouts, maps)
        ]
        level = log_magnitude(stft)
        if not self.conditional:
            return self.decoder(maps, positions, target.to(torch.uint8).argmax(1), level)
        return largest_of_targets(target, lambda index: self.decoder(maps, positions, index, level))

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: the decoder."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The terms "masked_in", "masked_out", "area" and "tv", see `mask_losses`; "guidance" and "stems" if set.

        Raises:
            ValueError: if no gradient passes through the classifier, or `target_mask` needs stems and there are none.
        """
        with frozen(self.classifier) as classifier:
            stft, prediction = self.look(batch)
            samples = batch.waveform.shape[-1]
            target = self.training_target(batch, prediction)
            logits = self.mask_logits(prediction, target, stft, samples)
            mask = logits.sigmoid()
            kept, left = mask_losses.classify_parts(classifier, stft, mask, samples, self.domain)
            wanted = batch.stem is not None and (self.guidance is not None or self.target_mask is not None)
            stem = classifier.spectrogram(batch.stem) if wanted else None
        losses = {
            "masked_in": mask_losses.masked_in(kept.logits, target, classifier.multilabel),
            "masked_out": mask_losses.masked_out(left.logits, target, classifier.multilabel),
        }
        # The stem is the sound of the label, and a whole clip that of the predicted class; about the sound of another
        # class they say nothing.
        own = target.gather(1, prediction.predicted[:, None])[:, 0] if stem is None else targets.is_label(batch, target)
        small = None
        if self.guidance is not None:
            clean = stft if stem is None else stem
            guided = own & (mask_losses.similarity(mask.detach(), stft, clean) >= self.guidance.similar)
            losses["guidance"] = mask_losses.guidance(logits, clean, guided, self.guidance.threshold)
            small = ~guided
        losses |= {"area": mask_losses.mean_area(mask, small), "tv": mask_losses.total_variation(mask, small)}
        if self.target_mask is not None:
            losses["stems"] = self._stems(logits, stft, stem, own)
        return losses

    def training_target(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The classes that are explained in training, (batch, classes) bool; see `condition`."""
        condition = self.condition if self.conditional else "predicted"
        return targets.training_target(
            batch, prediction, self.classifier.multilabel, condition, self.likeliest, self.least
        )

    def _stems(self, logits: Tensor, stft: Tensor, stem: Tensor | None, own: Tensor) -> Tensor:
        """Mean over clips of the loss between the mask and its goal; clips explained for another class count 0."""
        assert self.target_mask is not None
        with torch.no_grad():
            goal = self.target_mask(stft, stem)
        if not own.any():
            return 0.0 * logits.sum()
        loss = mask_losses.reconstruction(logits[own], goal[own], stft[own], self.mask_loss)
        return loss * own.float().mean()
