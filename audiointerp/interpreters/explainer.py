"""Explainer: one network that makes a mask for every class in one pass.

Stalder, Perraudeau, Achanta, Perez-Cruz, Volpi (2022), "What You See is What You Classify: Black Box Attributions",
https://arxiv.org/abs/2205.11266. A U-Net reads a clip and makes C masks s_c on the STFT grid, trained by what the
frozen classifier f says about the masked sound. Of a clip with the labels Y,

    m = max_{c in Y} s_c,   n = max_{c not in Y} s_c
    classification(f(x m), Y) + w_e negative_entropy(f(x (1 - m)))
        + w_m mean(m) + w_n mean(n) + w_b mean_{c in Y} bounds(s_c) + w_tv (TV(m) + TV(n))

so that the part kept has the clip's labels, the part left says nothing, and masks of classes that are not in the clip
are empty. The paper's text has one weight of the area; its code has the three above.

Departures from the paper and its released code (NN-Explainer):

- Sounds instead of images: a small U-Net on the log-magnitude instead of DeepLabV3, masks on the STFT's magnitude.
- The entropy is divided by log C, see `mask_losses.negative_entropy`; every term is a mean over the clips. The released
  code sums the area bounds over a clip's labels, where the paper's equation (6) averages them.
- A clip without labels keeps the terms of n; the code's maximum over no class fails.
- The classifier is in evaluation mode during training (`contracts.frozen`). The released code's training loop switches
  the "frozen" classifier to training mode, so that its dropout acts and its running statistics drift.
- `encoder: classifier` reads the classifier's feature maps instead of training an encoder; `labels_kept: one` asks for
  the part of one label of a clip at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.vggsound import Encoder
from audiointerp.contracts import Batch, Classifier, Prediction, check_waveform, frozen, resolve_target
from audiointerp.interpreters import mask_losses
from audiointerp.interpreters.attribution.memory import Memory
from audiointerp.interpreters.base import MapLayout, Scene, TrainedInterpreter, check_layers, map_layouts
from audiointerp.interpreters.lmac.decoder import MaskDecoder, cell_positions, even_positions, largest_of_targets
from audiointerp.processes import dividing
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.masking import Domain
from audiointerp.sound.spectrogram import log_magnitude

if TYPE_CHECKING:
    from typing_extensions import Self

EncoderKind = Literal["own", "classifier"]
LabelsKept = Literal["all", "one"]
LearnsFrom = Literal["labels", "predictions"]
SAVED = ("encoder", "width", "fine_width", "layers", "classes", "domain", "binary", "fill")

__all__ = ["Explainer"]


@dataclass(eq=False, repr=False)
class Explainer(TrainedInterpreter):
    """A mask for every class in one pass of one network; trained by the training loop, with labels.

    `interpret` with any target costs the same pass, and within `several_targets` further targets of a clip cost none:
    `interpret(waveform, c)` for a class c that was not predicted is the sound of "why not c". The mask of a set of
    classes is the largest of theirs in each bin. `details` has the mean of every class's mask as "areas", (batch,
    classes), 0 for classes without a mask.

    Args:
        classifier: the classifier to explain; its gradient trains the masks.
        encoder: "own" trains an encoder (four strided convolutions and a residual block), as the paper does;
            "classifier" reads the classifier's feature maps, which takes less data and less time to train.
        width: channels at the coarse levels.
        fine_width: channels at the levels of stride 4 and 2, and of the last layers.
        layers: the classifier's feature maps that are read by `encoder: classifier`; None: all.
        classes: names of the classes that get a mask; None: all of the classifier. A recipe gives the classes of its
            clips, so that a tagger's network does not make hundreds of masks for labels that do not occur.
        learns_from: "labels" of the clips, as in the paper; "predictions" takes the classifier's predicted class
            (multilabel: all above 0.5), for clips without labels.
        labels_kept: "all": the part that must have the clip's labels is that of all of them together, as in the paper.
            "one": of one label, drawn at equal chance, so that in a mixture the mask of each class must remove the
            other class. The two are the same for clips of one label.
        least_area, most_area: bounds a and b of the area of the masks of a clip's labels, as shares of the bins; 0.05
            and 0.3 in the paper's code. A sound fills fewer bins than an object fills pixels.
        domain: the quantity that the mask multiplies.
        binary: round masks at 0.5 when interpreting.
        fill: leave removed bins at the clip's noise floor when interpreting.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers` or one of `classes`, or an option cannot be used.
    """

    classifier: Classifier
    encoder: EncoderKind = "own"
    width: int = 32
    fine_width: int = 16
    layers: Sequence[int] | None = None
    classes: Sequence[str] | None = None
    learns_from: LearnsFrom = "labels"
    labels_kept: LabelsKept = "all"
    least_area: float = 0.02
    most_area: float = 0.3
    domain: Domain = "magnitude"
    binary: bool = False
    fill: bool = False
    index: Tensor = field(init=False)  # of each mask's class among the classifier's labels
    _memory: Memory | None = field(default=None, init=False)

    label_sets = True  # augmentation may unite the labels of mixed clips

    def __post_init__(self) -> None:
        """Builds the network."""
        nn.Module.__init__(self)
        choices = (self.encoder, EncoderKind), (self.learns_from, LearnsFrom), (self.labels_kept, LabelsKept)
        for given, known in (*choices, (self.domain, Domain)):
            if given not in get_args(known):
                raise ValueError(f"Explainer has no {given!r}; choose from {', '.join(get_args(known))}")
        if not 0 <= self.least_area < self.most_area <= 1:
            raise ValueError(
                f"Explainer has least_area {self.least_area}, most_area {self.most_area}; they are shares, the first "
                "below the second"
            )
        if self.width < 1 or self.fine_width < 1:
            raise ValueError("Explainer needs width and fine_width of at least 1")
        labels = self.classifier.labels
        explained = list(labels if self.classes is None else self.classes)
        if (unknown := [name for name in explained if name not in labels]) or not explained:
            raise ValueError(f"Explainer: classes names {unknown or 'no class'}, which the classifier lacks")
        index = torch.tensor([labels.index(name) for name in explained])
        self.register_buffer("index", index, persistent=False)
        if self.encoder == "own":
            self.network, self.layouts = Encoder(self.width), _own_layouts(self.classifier, self.width)
        else:
            layouts = map_layouts(self.classifier)
            self.layers = list(range(len(layouts))) if self.layers is None else list(self.layers)
            check_layers("Explainer with encoder classifier", self.layers, layouts)
            self.network, self.layouts = None, [layouts[layer] for layer in self.layers]
        self.config = {name: getattr(self, name) for name in SAVED}
        self.config["classes"] = None if self.classes is None else explained
        self.decoder = MaskDecoder(
            self.layouts, None, self.width, self.fine_width, detail=True, masks=len(explained), context=True
        )

    # --- interpreting

    @torch.no_grad()
    def class_masks(self, waveform: Tensor) -> Tensor:
        """Every class's mask, (batch, classes, freq, time), from one pass; classes in the order of `classes`.

        Args:
            waveform: (batch, samples), at any level.
        """
        check_waveform(waveform)
        scaled = normalize_peak(waveform)[0]
        with frozen(self.classifier) as classifier:
            stft = classifier.spectrogram(scaled)
            prediction = classifier.classify_stft(stft, scaled.shape[-1]) if self.network is None else None
            return self._masks(prediction, stft, scaled.shape[-1])

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the target classes, and "areas", the mean of every class's mask, (batch, classes).

        Raises:
            ValueError: if none of the target classes of a clip has a mask.
        """
        target = self._target_masks(scene.target)

        def make() -> Tensor:
            return self._masks(scene.prediction, scene.stft, scene.waveform.shape[-1])

        masks = make() if self._memory is None else self._memory.of(scene.stft).once("masks", make)
        areas = torch.zeros(scene.target.shape, device=masks.device)
        areas[:, self.index] = masks.mean((2, 3))
        return _largest(masks, target), {"areas": areas}

    def on(self, classifier: Classifier) -> Self:
        """The same networks beside another classifier, without the masks kept for this one."""
        twin = super().on(classifier)
        object.__setattr__(twin, "_memory", None)
        return twin

    @contextmanager
    def several_targets(self) -> Iterator[None]:
        """Keeps the masks of the last clips, so that a further target of a clip costs no pass of the network."""
        outer = self._memory
        self._memory = outer or Memory()
        try:
            yield
        finally:
            self._memory = outer

    def _masks(self, prediction: Prediction | None, stft: Tensor, samples: int) -> Tensor:
        """Every mask, with the network in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return self.mask_logits(prediction, stft, samples).sigmoid()
        finally:
            self.train(training)

    def mask_logits(self, prediction: Prediction | None, stft: Tensor, samples: int) -> Tensor:
        """Logits (batch, masks, freq, time) of every class's mask.

        Args:
            prediction: the classifier's, with feature maps; an encoder of its own needs none.
            stft: of the clips.
            samples: length of the clips.
        """
        level = log_magnitude(stft)
        if self.network is None:
            assert prediction is not None and self.layers is not None
            maps = [prediction.feature_maps[layer] for layer in self.layers]
            where = [
                cell_positions(self.classifier, each, one.shape[3], samples) for each, one in zip(self.layouts, maps)
            ]
        else:
            maps = list(self.network(level))
            spectrogram = self.classifier.spectrogram
            where = [even_positions(spectrogram, each, one.shape[3], samples) for each, one in zip(self.layouts, maps)]
        return self.decoder.every_mask(maps, where, None, level)

    def _target_masks(self, target: Tensor) -> Tensor:
        """The target as a set of masks, (batch, masks) bool."""
        asked = target[:, self.index]
        lacking = target[~asked.any(1)]
        if len(lacking):
            names = [label for label, wanted in zip(self.classifier.labels, lacking[0].tolist()) if wanted]
            raise ValueError(
                f"this Explainer has no mask for {', '.join(names)}; it was trained to explain "
                f"{', '.join(self.classes or ())}"
            )
        return asked

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: the network."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The terms "classification", "entropy", "area", "area_others", "bounds" and "tv", each a mean over clips.

        A clip without labels that have a mask counts 0 in all terms but "area_others" and its part of "tv".

        Raises:
            ValueError: if no gradient passes through the classifier.
        """
        samples = batch.waveform.shape[-1]
        with frozen(self.classifier) as classifier:
            stft, prediction = self._read(batch)
            target = self.training_target(batch, prediction)
            logits = self.mask_logits(prediction, stft, samples)
            own, present = target[:, self.index], target[:, self.index].any(1)
            others = logits.masked_fill(own[:, :, None, None], -torch.inf).max(1).values.sigmoid()
            smooth = mask_losses.total_variation(others, power=1.0)
            losses = {"area_others": mask_losses.mean_area(others)}
            own = own[present]
            drawn = own if self.labels_kept == "all" else _draw_one(own)  # in every process, also of no clip
            if not present.any():
                nothing = 0.0 * logits.sum()
                return losses | dict.fromkeys(("classification", "entropy", "area", "bounds"), nothing) | {"tv": smooth}
            logits, share = logits[present], present.float().mean()
            whole = _largest(logits, own).sigmoid()
            part = whole if self.labels_kept == "all" else _largest(logits, drawn).sigmoid()
            asked = torch.zeros_like(target[present])
            asked[:, self.index] = drawn
            heard = mask_losses.classify_masked(classifier, stft[present], (part, 1 - whole), samples, self.domain)
        return losses | {
            "classification": share * mask_losses.classification(heard[0].logits, asked, classifier.multilabel),
            "entropy": share * mask_losses.negative_entropy(heard[1].logits),
            "area": share * mask_losses.mean_area(whole),
            "bounds": share * self._bounds(logits, own),
            "tv": share * mask_losses.total_variation(whole, power=1.0) + smooth,
        }

    def _bounds(self, logits: Tensor, own: Tensor) -> Tensor:
        """Mean over clips of the mean over their labels of `mask_losses.area_bounds`."""
        clip = own.nonzero()[:, 0]
        each = mask_losses.area_bounds(logits[own].sigmoid(), self.least_area, self.most_area)
        return (each / own.sum(1)[clip]).sum() / len(own)

    def training_target(self, batch: Batch, prediction: Prediction | None) -> Tensor:
        """The labels Y of each clip, (batch, classes) bool; a clip may have none."""
        classes = len(self.classifier.labels)
        if self.learns_from == "predictions":
            assert prediction is not None
            return resolve_target(None, prediction, self.classifier.multilabel)
        if batch.label.ndim == 2:
            return batch.label > 0
        return functional.one_hot(batch.label, classes).bool()

    def _read(self, batch: Batch) -> tuple[Tensor, Prediction | None]:
        """STFT, and the classifier's prediction if it is read."""
        if self.network is None or self.learns_from == "predictions":
            return self.look(batch)
        return self.classifier.spectrogram(batch.waveform), None


def _own_layouts(classifier: Classifier, width: int) -> list[MapLayout]:
    """Layouts of the own encoder's maps: each level halves the STFT's grid, the fifth map has the fourth's size."""
    rows, layouts = classifier.spectrogram.n_fft // 2 + 1, []
    for level in range(1, 5):
        rows //= 2
        layouts.append(MapLayout(width, rows, float(2**level)))
    return [*layouts, layouts[-1]]


def _largest(values: Tensor, chosen: Tensor) -> Tensor:
    """Largest of the chosen values in each bin, (batch, freq, time).

    Args:
        values: (batch, masks, freq, time).
        chosen: (batch, masks) bool, at least one of each row.
    """
    rows = torch.arange(len(values), device=values.device)
    return largest_of_targets(chosen, lambda index: values[rows, index])


def _draw_one(chosen: Tensor) -> Tensor:
    """One of the chosen masks of each row at equal chance, (batch, masks) bool.

    Random numbers are drawn on the CPU, as many whatever is chosen, so that a resumed run draws the same.
    """
    lottery = dividing.rand(*chosen.shape).to(chosen.device).masked_fill(~chosen, -1.0)
    return functional.one_hot(lottery.argmax(1), chosen.shape[1]).bool()
