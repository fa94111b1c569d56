"""FLINT: a few attributes that together say what the classifier says, and from which the sound can be rebuilt.

Parekh, Mozharovskyi, d'Alche-Buc (2021), "A Framework to Learn with Interpretation",
https://arxiv.org/abs/2010.09345. The classifier f gives feature maps x^I; attributes phi_j(x^I) >= 0, j = 1..J, are
computed from them; g, a linear layer h on the attributes, is trained to say what f says; a decoder d rebuilds the clip
from the attributes, so that they stand for something that is heard; entropies ask for few attributes in each clip and
for many over all clips:

    feature maps -> Phi -> attributes -> h -> g's prediction
                               `-> d -> log-magnitude

    alpha_jc = phi_j(x) w_jc;   relevance r_jc = alpha_jc / max_i |alpha_ic|  (the bias of h is not counted)

The paper trains f together with Phi, h and d: `JointFLINT`. `FLINT` alone is trained post hoc, for a frozen classifier.

Departures from the paper and its released code:

- Attributes have a course over time, see `networks`; phi_j(x) is its mean. The decoder reads the course, so that it
  can place a sound in time; `course: false` gives it the means only, J numbers for a whole clip, as in the paper.
- The decoder gives the STFT's log-magnitude, so that its result can be heard with the clip's phase.
- Attributes are never negative (ReLU); the released code's LeakyReLU lets them be.
- Relevance is always divided by the largest absolute contribution, and is 0 where nothing contributes. The released
  code divides the global relevance by the largest signed contribution, which reverses all signs if none is positive.
- Losses are sums over attributes and means over clips, see `losses`; the weights of all of them are in the recipe.
- The layer h belongs to the one group of parameters; the released notebook's optimiser leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from audiointerp.contracts import Batch, Classifier, Prediction, frozen, resolve_target
from audiointerp.interpreters.base import MapLayout, Scene, TrainedInterpreter, check_layers, map_layouts
from audiointerp.interpreters.flint.losses import attribute_losses
from audiointerp.interpreters.flint.networks import (
    AttributeDecoder,
    AttributeNetwork,
    Attributes,
    ClassScores,
    spread,
)
from audiointerp.interpreters.l2i.relevance import class_relevance
from audiointerp.interpreters.lmac.decoder import cell_positions
from audiointerp.metrics.faithfulness import in_top
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.masking import Domain, attribution_mask
from audiointerp.sound.spectrogram import log_magnitude

MaskFrom = Literal["cells", "decoder"]
LAYERS = 2  # number of feature maps read by default, the last ones
SAVED = ("n_attributes", "layers", "width", "fine_width", "bands", "course", "mask_from", "threshold", "domain")
SAVED += ("binary", "fill")

__all__ = ["FLINT", "Description", "conciseness", "decoder_masks", "global_relevance"]


class Description(NamedTuple):
    """What g says of a batch.

    Attributes:
        attributes: of each clip.
        logits: h(Phi(x)), (batch, classes).
    """

    attributes: Attributes
    logits: Tensor


@dataclass(eq=False, repr=False)
class FLINT(TrainedInterpreter):
    """The sound of the attributes that are relevant to a class; trained by the training loop, without labels.

    The paper shows attributes as images; the mask, and with it the sound, is ours. With `mask_from: cells` it is the
    sum over the attributes j of relevance above `threshold` of r_j A_j / phi_j, A_j the part that each cell of the
    feature maps adds to attribute j, spread over the STFT's bins; with `mask_from: decoder` it is the sum of r_j M_j,
    at most 1, M_j the share of the decoded magnitude that is lost when attribute j is set to 0, see `decoder_masks`.

    `details` has the attributes Phi(x) as "attributes", their "relevance" to the target (the largest over several
    target classes), and "selected", 1 for those above `threshold`, each (batch, attributes); and g's probabilities as
    "theta_probabilities", (batch, classes), from which evaluations compute `theta_top1`, FLINT's fidelity.

    Args:
        classifier: the classifier to explain; it must give feature maps, and needs no gradient.
        n_attributes: number J of attributes.
        layers: indices of the feature maps that are read; None: the last two, or the only one.
        width: channels of Phi and of the decoder's coarse levels.
        fine_width: channels of the decoder at half the STFT's resolution.
        bands: of frequency, to which Phi averages; 3 in the paper.
        course: the decoder reads the course of the attributes over time; False: their means only, as in the paper.
        mask_from: "cells" or "decoder", see above.
        threshold: attributes of higher relevance than this are heard; 1 / tau in the paper.
        domain: the quantity that the mask multiplies.
        binary: round masks at 0.5 when interpreting.
        fill: leave removed bins at the clip's noise floor when interpreting.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers`, or an option cannot be used.
    """

    classifier: Classifier
    n_attributes: int = 24
    layers: Sequence[int] | None = None
    width: int = 32
    fine_width: int = 16
    bands: int = 3
    course: bool = True
    mask_from: MaskFrom = "cells"
    threshold: float = 0.2
    domain: Domain = "magnitude"
    binary: bool = False
    fill: bool = False
    layouts: list[MapLayout] = field(init=False)

    def __post_init__(self) -> None:
        """Builds Phi, h and d."""
        nn.Module.__init__(self)
        for given, known in ((self.mask_from, MaskFrom), (self.domain, Domain)):
            if given not in get_args(known):
                raise ValueError(f"FLINT has no {given!r}; choose from {', '.join(get_args(known))}")
        if min(self.n_attributes, self.width, self.fine_width, self.bands) < 1 or not 0 <= self.threshold < 1:
            raise ValueError(
                "FLINT needs n_attributes, width, fine_width and bands of at least 1, and a threshold from 0, below 1 "
                "(relevance is at most 1)"
            )
        maps = map_layouts(self.classifier)
        self.layers = list(range(-min(LAYERS, len(maps)), 0)) if self.layers is None else list(self.layers)
        check_layers("FLINT", self.layers, maps)
        self.layouts = [maps[layer] for layer in self.layers]
        self.config = {name: getattr(self, name) for name in SAVED}
        freq = self.classifier.spectrogram.n_fft // 2 + 1
        self.phi = AttributeNetwork(self.layouts, self.n_attributes, self.width, freq, self.bands)
        if self.bands > self.phi.rows:
            raise ValueError(f"FLINT has {self.bands} bands for {self.phi.rows} rows of cells; ask for fewer")
        self.h = ClassScores(self.n_attributes, len(self.classifier.labels))
        self.decoder = AttributeDecoder(self.n_attributes, self.phi.level, self.phi.rows, self.width, self.fine_width)

    # --- networks

    def describe(self, feature_maps: Sequence[Tensor], samples: int) -> Description:
        """Attributes, and g's logits.

        Args:
            feature_maps: all of the classifier's.
            samples: length of the clips.
        """
        assert self.layers is not None
        maps = [feature_maps[layer] for layer in self.layers]
        where = [cell_positions(self.classifier, each, one.shape[3], samples) for each, one in zip(self.layouts, maps)]
        frames = 1 + samples // self.classifier.spectrogram.hop_length
        attributes = self.phi(maps, where, frames)
        return Description(attributes, self.h(attributes.strength))

    def rebuild(self, course: Tensor, level: Tensor) -> Tensor:
        """d: the log-magnitude (batch, freq, time) of attributes (batch, attributes, columns).

        Args:
            course: of the attributes; with `course: false` only its mean over time is read.
            level: a log-magnitude of the size of the result.
        """
        read = course if self.course else course.mean(2, keepdim=True).expand_as(course)
        return self.decoder(read, level)

    @torch.no_grad()
    def observe(self, waveform: Tensor) -> tuple[Tensor, Prediction, Description]:
        """STFT, f's prediction and g's description of clips, (batch, samples) at peak 1, in evaluation mode."""
        training, samples = self.training, waveform.shape[-1]
        self.eval()
        try:
            with frozen(self.classifier) as classifier:
                stft = classifier.spectrogram(waveform)
                prediction = classifier.classify_stft(stft, samples)
                return stft, prediction, self.describe(prediction.feature_maps, samples)
        finally:
            self.train(training)

    # --- interpreting

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the relevant attributes; see the class for the details."""
        training = self.training
        self.eval()
        try:
            attributes, logits = self.describe(scene.prediction.feature_maps, scene.waveform.shape[-1])
            of_class = class_relevance(attributes.strength, self.h.weight)
            relevance = of_class.masked_fill(~scene.target[:, :, None], -torch.inf).amax(1)
            selected = (relevance > self.threshold).to(relevance.dtype)
            make = self._mask_of_cells if self.mask_from == "cells" else self._mask_of_decoder
            mask = make(attributes, relevance * selected, log_magnitude(scene.stft))
        finally:
            self.train(training)
        own = Prediction.from_logits(logits, self.classifier.multilabel).probabilities
        details = {
            "attributes": attributes.strength,
            "relevance": relevance,
            "selected": selected,
            "theta_probabilities": own,
        }
        return mask, details

    def _mask_of_cells(self, attributes: Attributes, weight: Tensor, level: Tensor) -> Tensor:
        strength = attributes.strength
        share = weight / torch.where(strength > 0, strength, 1.0)
        active = attributes.cells.clamp(min=0) * (attributes.course > 0)[:, :, None]
        cells = torch.einsum("bjrt,bj->brt", active, share)
        return attribution_mask(spread(cells, self.phi.level, *level.shape[1:]), quantile=0.99, smooth=1)

    def _mask_of_decoder(self, attributes: Attributes, weight: Tensor, level: Tensor) -> Tensor:
        mask = torch.zeros_like(level)
        chosen = weight.amax(0).nonzero()[:, 0].tolist()
        for number, each in decoder_masks(self, attributes.course, level, chosen).items():
            mask = mask + weight[:, number, None, None] * each
        return mask.clamp(max=1)

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: Phi, h and d."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The terms of `losses.attribute_losses`."""
        with frozen(self.classifier):
            stft, prediction = self.look(batch)
            return self.losses_of(prediction, log_magnitude(stft), batch.waveform.shape[-1])

    def losses_of(self, prediction: Prediction, level: Tensor, samples: int) -> dict[str, Tensor]:
        """The terms of `losses.attribute_losses`, given f's prediction with feature maps, and the log-magnitude."""
        attributes, logits = self.describe(prediction.feature_maps, samples)
        rebuilt = self.rebuild(attributes.course, level)
        multilabel = self.classifier.multilabel
        return attribute_losses(attributes.strength, logits, rebuilt, level, prediction.probabilities, multilabel)

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """As every trained method's, "theta_fidelity" (g's likeliest class is f's) and "concise".

        "concise" is the number of attributes with a relevance above 1/2 to g's prediction.
        """
        made = self.interpret(self.heard(batch))
        own = made.details["theta_probabilities"]
        relevance = self.relevance_to_own(made.details["attributes"], own)
        return {
            **self.scores_of(made, batch.waveform),
            "theta_fidelity": in_top(own, made.prediction.predicted[:, None], 1),
            "concise": conciseness(relevance, 2.0).float(),
        }

    def relevance_to_own(self, strength: Tensor, probabilities: Tensor) -> Tensor:
        """Relevance of each attribute to the class that g predicts, (batch, attributes).

        Multilabel: the largest over the labels above 0.5, or of the likeliest label if none is.

        Args:
            strength: Phi(x), (batch, attributes).
            probabilities: of g, (batch, classes).
        """
        target = resolve_target(None, Prediction(probabilities, probabilities), self.classifier.multilabel)
        of_class = class_relevance(strength, self.h.weight)
        return of_class.masked_fill(~target[:, :, None], -torch.inf).amax(1)


def conciseness(relevance: Tensor, tau: float) -> Tensor:
    """CNS: number of attributes with a relevance above 1 / tau, (batch, attributes) -> (batch,).

    Args:
        relevance: to the class that g predicts.
        tau: above 1.

    Raises:
        ValueError: if tau is not above 1; no relevance is above 1.

    >>> conciseness(torch.tensor([[1.0, 0.5, 0.3, -1.0]]), 3.0)
    tensor([2])
    """
    if not tau > 1:
        raise ValueError(f"tau is {tau}; it must be above 1, as no relevance is above 1")
    return (relevance > 1 / tau).sum(1)


@torch.no_grad()
def decoder_masks(interpreter: FLINT, course: Tensor, level: Tensor, chosen: Iterable[int]) -> dict[int, Tensor]:
    """M_j of each chosen attribute, (batch, freq, time) in [0, 1]: what the decoder loses without the attribute.

    M_j = (d(Phi) - d(Phi \\ j)) / d(Phi), clipped to [0, 1], of linear magnitudes; Phi \\ j has attribute j at 0. It is
    0 where d(Phi) is 0.

    Args:
        interpreter: in evaluation mode.
        course: (batch, attributes, columns).
        level: a log-magnitude of the size of the result.
        chosen: numbers of attributes.
    """
    whole = interpreter.rebuild(course, level).expm1()
    found = {}
    for number in chosen:
        without = course.clone()
        without[:, number] = 0
        left = interpreter.rebuild(without, level).expm1()
        found[number] = ((whole - left) / torch.where(whole > 0, whole, 1.0)).clamp(0, 1)
    return found


def global_relevance(interpreter: FLINT, waveforms: Iterable[Tensor]) -> Tensor:
    """Mean relevance of each attribute to each class, over the clips that g predicts as that class.

    Args:
        interpreter: a trained FLINT.
        waveforms: batches (batch, samples), at any level.

    Returns:
        (classes, attributes), at most 1; NaN for a class that g never predicts. Multilabel: a clip counts for every
        label that g predicts.
    """
    weight, multilabel = interpreter.h.weight.detach(), interpreter.classifier.multilabel
    total, count = torch.zeros_like(weight), torch.zeros_like(weight[:, :1])
    for waveform in waveforms:
        described = interpreter.observe(normalize_peak(waveform.to(weight.device))[0])[2]
        own = Prediction.from_logits(described.logits, multilabel)
        predicted = resolve_target(None, own, multilabel).to(weight.dtype)
        total += torch.einsum("bc,bcj->cj", predicted, class_relevance(described.attributes.strength, weight))
        count += predicted.sum(0)[:, None]
    return total / count
