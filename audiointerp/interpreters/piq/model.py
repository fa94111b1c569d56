"""PIQ: posthoc interpretation via quantization.

Paissan, Subakan, Ravanelli (2023), https://arxiv.org/abs/2303.12659. A frozen classifier's feature maps are quantised
with codes that belong to the target class and decoded into a mask, which can keep only sounds that these codes
represent.

    feature map -> adapter -> quantise with the target class's codes -> decoder -> mask

Departures from the released code (SpeechBrain, `VectorQuantizedPSI_Audio`): the latent is padded so that no frame is
lost; the loss is computed on logits, so that bins at which the mask is saturated and wrong keep their gradient. For the
departures of the codebook see `audiointerp.interpreters.piq.codebook`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.vggsound import ResidualBlock
from audiointerp.contracts import Batch, Classifier, Prediction, frozen, resolve_target
from audiointerp.interpreters.base import Scene, TrainedInterpreter, check_layers
from audiointerp.interpreters.mask_losses import MaskLoss, reconstruction
from audiointerp.interpreters.piq.codebook import ClassCodebook, Quantized, even_offsets
from audiointerp.interpreters.piq.decoders import Decoder, LightDecoder
from audiointerp.processes import dividing
from audiointerp.sound.masking import Domain, TargetMask, ThresholdMask, apply_mask
from audiointerp.sound.spectrogram import log_magnitude

LOGGED_CLASSES = 50  # with more classes, log.csv has no column for each
COARSEST = 32  # largest number of bins and frames per code; the grid is padded to a multiple of it
CodesOf = Literal["predicted", "label"]
DecoderKind = Literal["paper", "light"]

# Settings that the mask depends on, saved in bundles; the others only matter in training.
SAVED = (
    *("channels", "codes", "shared", "normalize", "temperature", "layers", "domain", "binary", "fill"),
    *("decoder", "detail", "stride", "classes"),
)

__all__ = ["PIQ"]


@dataclass(eq=False, repr=False)
class PIQ(TrainedInterpreter):
    """Masks decoded from codes of the target class; trained by the training loop.

    Args:
        classifier: the classifier to explain, never changed; it must give feature maps.
        channels: channels of the adapter, codes and decoder; None: those of the feature map.
        codes: K, the number of codes of all classes together; 1024 in the paper.
        shared: number of codes that every class may use.
        normalize: quantise on the unit sphere (appendix D).
        temperature: of the codebook's gradient, see `ClassCodebook`; None in the paper.
        layers: indices of the feature maps that are read; the last in the paper. Finer maps are folded to the grid of
            the codes.
        domain: the quantity that the mask multiplies; log_magnitude in the paper.
        target_mask: (stft, stem's stft or None) -> the mask to learn.
        mask_loss: "bce", "weighted_bce" (bins are weighted by their relative log-magnitude) or "dice".
        condition: the class whose codes are used in training: the "predicted" class (paper) or the clip's "label" (for
            mixtures, where the label is that of the known stem).
        binary: round masks at 0.5 when interpreting.
        fill: leave removed bins at the clip's noise floor when interpreting.
        separate_classes: adds the term of equation (5) as the loss "separation".
        decoder: "paper" or "light", see `LightDecoder`.
        detail: an option of the light decoder, see `LightDecoder`.
        stride: bins and frames per code; 32 in the paper, 16 with the light decoder only.
        classes: names of the classes that have codes and can be explained; None: all of the classifier. A recipe gives
            the classes of its clips, so that a tagger's codes are not spread over hundreds of labels that do not occur.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers` or one of `classes`, or an option does not exist.
    """

    classifier: Classifier
    channels: int | None = None
    codes: int = 1024
    shared: int = 0
    normalize: bool = False
    temperature: float | None = None
    layers: Sequence[int] = (-1,)
    domain: Domain = "log_magnitude"
    target_mask: TargetMask = field(default_factory=ThresholdMask)
    mask_loss: MaskLoss = "bce"
    condition: CodesOf = "predicted"
    binary: bool = False
    fill: bool = False
    separate_classes: bool = False
    decoder: DecoderKind | nn.Module = "paper"
    detail: bool = False
    stride: Literal[32, 16] = 32
    classes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Builds adapter, codebook and decoder for the classifier's feature maps."""
        nn.Module.__init__(self)
        kind, stride = self.decoder, self.stride
        for given, known in ((self.mask_loss, MaskLoss), (self.condition, CodesOf), (kind, DecoderKind)):
            if given not in get_args(known):
                raise ValueError(f"PIQ has no {given!r}; choose from {', '.join(get_args(known))}")
        if stride not in (16, 32) or (stride == 16 and kind == "paper"):
            raise ValueError(f"PIQ has no {kind} decoder for stride {stride}; choose 32, or 16 with the light one")
        self.folds, widths = _layout(self.classifier, self.layers)
        width = widths[0]
        channels = self.channels = self.channels or width
        self.layers = list(self.layers)
        self.config = {name: getattr(self, name) for name in SAVED}
        read = sum(each * fold**2 for each, fold in zip(widths, self.folds))
        self.join = nn.Identity() if read == width else nn.Conv2d(read, width, 1)
        kernel, step = (4, 2) if stride == 32 else (3, 1)
        self.adapter = nn.Sequential(ResidualBlock(width), nn.Conv2d(width, channels, kernel, stride=step, padding=1))
        self.codebook = self._codebook(channels)
        # The decoder module replaces the setting of the same name, since bundles store its weights as "decoder".
        self.decoder = Decoder(channels) if kind == "paper" else LightDecoder(channels, stride, detail=self.detail)
        for module in [each for part in (self.join, self.adapter, self.decoder) for each in part.modules()]:
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]

    def _codebook(self, channels: int) -> ClassCodebook:
        labels, offsets = self.classifier.labels, None
        if self.classes is not None:
            if (unknown := [name for name in self.classes if name not in labels]) or not self.classes:
                raise ValueError(f"PIQ: classes names {unknown or 'no class'}, which the classifier lacks")
            if self.codes - self.shared < len(self.classes):
                raise ValueError(f"PIQ: {self.codes} codes cannot give each of {len(self.classes)} classes one")
            offsets = even_offsets(self.codes - self.shared, len(labels), [labels.index(name) for name in self.classes])
        return ClassCodebook(len(labels), self.codes, channels, self.shared, self.normalize, self.temperature, offsets)

    # --- interpreting

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask, and the codes from which it was decoded, (batch, freq / stride, time / stride)."""
        self._check_codes(scene.target)
        training = self.training
        self.eval()
        try:
            logits, quantized = self.mask_logits(scene.prediction, scene.target, scene.stft)
        finally:
            self.train(training)
        return logits.sigmoid(), {"codes": quantized.codes}

    def _check_codes(self, target: Tensor) -> None:
        """Refuses a target none of whose classes has codes."""
        if self.classes is None:
            return
        having = self.codebook.offsets.diff() > 0
        lacking = target[~(target & having).any(1)]
        if len(lacking):
            names = [label for label, asked in zip(self.classifier.labels, lacking[0].tolist()) if asked]
            raise ValueError(
                f"this PIQ has no codes for {', '.join(names)}; it was trained to explain {', '.join(self.classes)}"
            )

    def mask_logits(self, prediction: Prediction, allowed: Tensor, stft: Tensor) -> tuple[Tensor, Quantized]:
        """Logits (batch, freq, time) of the mask decoded from codes of the allowed classes, and these codes."""
        quantized = self.codebook(self.latent(prediction, stft), allowed)
        assert isinstance(self.decoder, nn.Module)  # since __post_init__
        return self.decoder(quantized.quantized, log_magnitude(stft)), quantized

    def latent(self, prediction: Prediction, stft: Tensor) -> Tensor:
        """Adapted feature maps, padded with zeros so that the decoded grid covers every bin and frame."""
        wanted = [2 * max(1, -(-(size - 1) // COARSEST)) for size in stft.shape[1:]]
        maps = [
            functional.pixel_unshuffle(
                _fit(prediction.feature_maps[layer], [fold * each for each in wanted], fold), fold
            )
            for layer, fold in zip(self.layers, self.folds)
        ]
        return self.adapter(self.join(torch.cat(maps, 1)))

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: adapter, codebook and decoder."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """Equation (2): reconstruction of the target mask, codebook and commitment; optionally equation (5)'s term."""
        with frozen(self.classifier) as classifier:
            stft, prediction = self.look(batch)
            allowed = self._allowed(batch, prediction)
            with torch.no_grad():
                stem = None if batch.stem is None else classifier.spectrogram(batch.stem)
                goal = self.target_mask(stft, stem)
                magnitude = stft.abs()  # decoder and loss read no phase
            logits, quantized = self.mask_logits(prediction, allowed, magnitude)
            losses = {
                "reconstruction": reconstruction(logits, goal, magnitude, self.mask_loss),
                "codebook": quantized.codebook_loss,
                "commitment": quantized.commitment_loss,
            }
            if self.separate_classes:
                losses["separation"] = self._separation(prediction, stft, batch.waveform.shape[-1])
        return losses

    def _allowed(self, batch: Batch, prediction: Prediction) -> Tensor:
        if self.condition == "predicted":
            return resolve_target(None, prediction, self.classifier.multilabel)
        label = batch.label.bool() if batch.label.ndim == 2 else batch.label
        return resolve_target(label, prediction, self.classifier.multilabel)

    def _separation(self, prediction: Prediction, stft: Tensor, samples: int) -> Tensor:
        """Equation (5): with the mask of one predicted class the classifier must predict that class only.

        Binary cross-entropy of f(m_k x) against the one-hot k. (The second term as printed lacks "1 -" in the log.)
        """
        active = resolve_target(None, prediction, self.classifier.multilabel)
        rows, classes = active.nonzero(as_tuple=True)
        alone = functional.one_hot(classes, active.shape[1])
        chosen = Prediction(
            prediction.logits[rows],
            prediction.probabilities[rows],
            None,
            tuple(m[rows] for m in prediction.feature_maps),
        )
        logits, _ = self.mask_logits(chosen, alone.bool(), stft[rows])
        kept = apply_mask(stft[rows], logits.sigmoid(), self.domain)
        heard = self.classifier.classify_stft(kept, samples).probabilities
        loss = functional.binary_cross_entropy(heard.clamp(1e-6, 1 - 1e-6), alone.to(heard.dtype))
        return dividing.fair(loss, len(alone))

    @torch.no_grad()
    def on_start(self, batches: Iterable[Batch]) -> None:
        """Initialises the codes of each class from the first latent vectors of its clips."""
        self.eval()
        with frozen(self.classifier):
            self.codebook.start_from(self._representations(batches))

    def _representations(self, batches: Iterable[Batch]) -> Iterable[tuple[Tensor, Tensor]]:
        for batch in batches:
            stft, prediction = self.look(batch)
            yield self.latent(prediction, stft), self._allowed(batch, prediction)

    def on_epoch(self, epoch: int) -> None:
        """Marks the codes that were not used in the last epoch, to be moved."""
        if epoch:
            self.codebook.end_epoch()

    def epoch_scores(self) -> dict[str, float]:
        """Codebook health for the log: mean perplexity, unused codes, and of up to 50 classes each one's perplexity."""
        perplexity = self.codebook.perplexity()
        having = (self.codebook.offsets.diff() > 0).tolist()
        per_class = {
            f"perplexity_{name}": float(each)
            for name, each, has in zip(self.classifier.labels, perplexity, having)
            if has and sum(having) <= LOGGED_CLASSES
        }
        unused = int((self.codebook.usage == 0).sum())
        mean = float(perplexity[self.codebook.offsets.diff() > 0].mean())
        return {"perplexity": mean, "unused_codes": float(unused), **per_class}


# Class attributes are found before submodules: the field's default "paper" would hide the decoder module.
del PIQ.decoder


def _fit(maps: Tensor, wanted: list[int], fold: int) -> Tensor:
    """Pads a map with zeros to the wanted rows and columns; a map of a very different size is averaged to them."""
    sizes = zip(wanted, maps.shape[2:])
    rows, columns = (have if want - 2 * fold <= have <= want else want for want, have in sizes)
    if (rows, columns) != maps.shape[2:]:
        maps = functional.adaptive_avg_pool2d(maps, (rows, columns))
    return functional.pad(maps, (0, wanted[1] - columns, 0, wanted[0] - rows))


def _layout(classifier: Classifier, layers: Sequence[int]) -> tuple[list[int], list[int]]:
    """For each feature map read, its rows per row of the adapter's input, and its channels.

    Measured by one pass over a quarter of a second of silence.
    """
    with frozen(classifier), torch.no_grad():
        stft = classifier.spectrogram(torch.zeros(1, classifier.sample_rate // 4, device=classifier.device))
        maps = classifier.classify_stft(stft, classifier.sample_rate // 4).feature_maps
    check_layers("PIQ", layers, maps)
    rows = 2 * max(1, -(-(stft.shape[1] - 1) // COARSEST))
    chosen = [maps[layer] for layer in layers]
    return [max(1, round(each.shape[2] / rows)) for each in chosen], [each.shape[1] for each in chosen]
