"""LMAC-TD: L-MAC with a mask in a learned waveform basis instead of on the STFT, so that no phase is borrowed.

Mancini, Paissan, Ravanelli, Subakan (2024), "LMAC-TD: producing time domain explanations for audio classifiers",
https://arxiv.org/abs/2409.08655. The sound is encoded, masked and decoded in the time domain (c: its coefficients, e:
their level); the classifier's feature maps are decoded to the same shape, d, and a dual-path network makes the mask:

    M = sigmoid(MaskNet(alpha d + (1 - alpha) e));   x_in = decoder(M c),   x_out = decoder((1 - M) c) = x - x_in
    w_in CE(f(x_in), k) + w_out (-log(1 - f_k(x_out))) + w_1 mean log1p|STFT(x_in)|

Departures from the paper and its released code, whose settings name a module that is not in its repository:

- The paper takes encoder and decoder of a SepFormer trained on speech mixtures, and freezes them. Without such weights,
  ours start as a Fourier basis and are trained with everything else; they are inverses of each other throughout
  (`Basis`), so that interpretation and residual add up to the input and no term for the sum of the parts is needed.
- Coefficients have signs; e = log1p of their magnitude, each clip normalised. The paper's are made positive by a ReLU.
- Kernel 256, stride 128 instead of 16 and 8: a sixteenth of the frames, so that a CPU can train it. Shorter windows may
  separate better: 2.5 ms were best for sounds of all kinds in Kavalerov et al. (2019), https://arxiv.org/abs/1905.03330.
- d is what L-MAC's decoder makes for the class that is asked for, read at the times of the frames. A linear map from
  bins to channels starts at each channel's own frequency.
- MaskNet adds to its input, and starts by adding nothing: the first mask is that of L-MAC, carried to the basis.
- MaskNet has 1 block of 1 + 1 layers of 64 channels instead of 2 of 8 + 2 layers of 256, so that a CPU can train it.
- The term of the part left is bounded (`mask_losses.masked_out`); the mask may be trained towards known stems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.external import between
from audiointerp.contracts import (
    Batch,
    Classifier,
    Interpretation,
    Prediction,
    Target,
    as_waveform,
    check_gradient,
    frozen,
    resolve_target,
)
from audiointerp.interpreters import mask_losses
from audiointerp.interpreters.base import TrainedNetwork, check_layers, map_layouts, part_scores
from audiointerp.interpreters.lmac import targets
from audiointerp.interpreters.lmac.basis import Basis
from audiointerp.interpreters.lmac.decoder import MaskDecoder, cell_positions, largest_of_targets
from audiointerp.interpreters.lmac.dual_path import DualPath
from audiointerp.interpreters.lmac.targets import TrainedOn
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.spectrogram import log_magnitude

# Settings that the mask depends on, saved in bundles; the others only matter in training.
SAVED = ("layers", "width", "fine_width", "conditional", "kernel", "stride", "channels", "alpha")
SAVED += ("separator", "chunk", "blocks", "depth")
MAX_SNR = 10.0  # dB; a stem that is met better than this nearly counts as met

__all__ = ["LMACTD", "negative_snr"]


@dataclass(eq=False, repr=False)
class LMACTD(TrainedNetwork):
    """Masks in a learned waveform basis, decoded from feature maps and the sound; trained by the training loop.

    It makes no mask on the STFT grid. `details` has its own as "basis_mask", (batch, channels, frames), in [0, 1]. The
    mask of several target classes is the largest of their masks at each coefficient.

    Args:
        classifier: the classifier to explain, never changed; it must give feature maps, and gradients in training.
        layers: indices of the feature maps that are read; None: all.
        width, fine_width: channels of the decoder of the maps, see `LMAC`.
        conditional: False gives a decoder that is not told the class, as in the paper, and trained on the predicted
            one: the mask is the same for every target.
        condition, likeliest, least: the class explained in training, see `LMAC`.
        kernel, stride, channels: of the basis, in samples, see `Basis`; 16, 8 and 256 in the paper.
        alpha: share of the feature maps in what the mask is made from, above 0 (then the mask would not depend on the
            class) and at most 1 (then only the maps count); the paper compares 0, 0.75 and 1.
        separator, chunk, blocks, depth: width and sizes of the network that makes the mask, see `DualPath`; 256, 250, 2
            and (8, 2) in the paper.
        stems: adds the term "stems", `negative_snr` to the known stem where its class is explained.
    Raises:
        ValueError: if the classifier lacks a feature map of `layers`, or an option cannot be used.
    """

    classifier: Classifier
    layers: Sequence[int] | None = None
    width: int = 32
    fine_width: int = 8
    conditional: bool = True
    condition: TrainedOn = "likeliest"
    likeliest: int = 2
    least: float = 0.05
    kernel: int = 256
    stride: int = 128
    channels: int = 256
    alpha: float = 0.75
    separator: int = 64
    chunk: int = 50
    blocks: int = 1
    depth: tuple[int, int] = (1, 1)
    stems: bool = False

    def __post_init__(self) -> None:
        """Builds the basis, the decoder for the classifier's feature maps, and the network that makes the mask."""
        nn.Module.__init__(self)
        if self.condition not in get_args(TrainedOn):
            raise ValueError(f"LMACTD has no {self.condition!r}; choose from {', '.join(get_args(TrainedOn))}")
        if self.likeliest < 1 or self.width < 1 or self.fine_width < 1 or not 0 < self.alpha <= 1:
            raise ValueError(
                "LMACTD needs likeliest, width and fine_width of at least 1, and an alpha above 0, at most 1"
            )
        layouts = map_layouts(self.classifier)
        self.layers = list(range(len(layouts))) if self.layers is None else list(self.layers)
        check_layers("LMACTD", self.layers, layouts)
        self.layouts = [layouts[layer] for layer in self.layers]
        self.config = {name: getattr(self, name) for name in SAVED} | {"depth": list(self.depth)}
        classes = len(self.classifier.labels) if self.conditional else None
        self.basis = Basis(self.channels, self.kernel, self.stride)
        self.decoder = MaskDecoder(self.layouts, classes, self.width, self.fine_width)
        self.to_channels = _linear_between_bins(self.classifier.spectrogram.n_fft // 2 + 1, self.channels)
        self.narrow = nn.Conv1d(self.channels, self.separator, 1)
        self.dual_path = DualPath(self.separator, self.chunk, self.blocks, self.depth)
        self.widen = nn.Conv1d(self.separator, self.channels, 1)
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)  # pyright: ignore[reportArgumentType]

    # --- interpreting

    @torch.no_grad()
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Explains the classifier's decision on each row of (batch, samples), see `contracts.Interpreter`.

        Raises:
            ValueError: if the waveform is not (batch, samples), is empty, or has NaN or infinite samples.
        """
        waveform = as_waveform(waveform, self.classifier, target)
        scaled, gain = normalize_peak(waveform)
        samples = waveform.shape[1]
        training = self.training
        self.eval()
        try:
            with frozen(self.classifier) as classifier:
                stft = classifier.spectrogram(scaled)
                prediction = classifier.classify_stft(stft, samples)
                asked = resolve_target(target, prediction, classifier.multilabel, labels=classifier.labels)
                coefficients = self.basis(scaled)
                mask = self.mask_logits(prediction, asked, stft, coefficients, samples).sigmoid()
        finally:
            self.train(training)
        sound = self.basis.inverse(mask * coefficients, samples) / gain[:, None]
        return Interpretation(
            waveform=sound,
            residual=waveform - sound,
            target=asked,
            prediction=prediction,
            input_gain=gain,
            sample_rate=classifier.sample_rate,
            details={"basis_mask": mask},
            labels=tuple(classifier.labels),
            explained=waveform,
        )

    def mask_logits(
        self, prediction: Prediction, target: Tensor, stft: Tensor, coefficients: Tensor, samples: int
    ) -> Tensor:
        """Logits (batch, channels, frames) of the mask for the target classes of each clip.

        Args:
            prediction: the classifier's, with feature maps.
            target: (batch, classes) bool; of several classes, each coefficient's largest logit counts.
            stft: of the clips.
            coefficients: of the clips in the basis.
            samples: length of the clips.
        """
        assert self.layers is not None
        maps = [prediction.feature_maps[layer] for layer in self.layers]
        positions = [
            cell_positions(self.classifier, layout, each.shape[3], samples) for layout, each in zip(self.layouts, maps)
        ]
        grid, at = log_magnitude(stft), self.basis.centres(samples) / self.classifier.spectrogram.hop_length
        level = _normalised_level(coefficients, self.kernel)

        def logits(index: Tensor) -> Tensor:
            decoded = between(self.decoder(maps, positions, index, grid), at, 2)
            mixed = self.alpha * self.to_channels(decoded) + (1 - self.alpha) * level
            return (mixed + self.widen(self.dual_path(self.narrow(mixed)))).to(coefficients.dtype)

        if not self.conditional:
            return logits(target.to(torch.uint8).argmax(1))
        return largest_of_targets(target, logits)

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: basis, decoder and separator."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The terms "masked_in" and "masked_out", see `mask_losses`, "level", and "stems" if set.

        "level" is the mean over clips and bins of the log-magnitude of the part kept: the paper's L1 term. "stems" is
        the mean over clips of `negative_snr`; clips explained for another class than their label count 0.

        Raises:
            ValueError: if no gradient passes through the classifier, or `stems` is set and the batch has none.
        """
        if self.stems and batch.stem is None:
            raise ValueError("LMACTD needs known stems; train on mixtures (RemixPairs), or without stems")
        waveform, samples = batch.waveform, batch.waveform.shape[1]
        with frozen(self.classifier) as classifier:
            stft, prediction = self.look(batch)
            condition = self.condition if self.conditional else "predicted"
            target = targets.training_target(
                batch, prediction, classifier.multilabel, condition, self.likeliest, self.least
            )
            coefficients = self.basis(waveform)
            mask = self.mask_logits(prediction, target, stft, coefficients, samples).sigmoid()
            kept = self.basis.inverse(mask * coefficients, samples)
            logits = classifier(torch.cat([kept, waveform - kept])).logits
            check_gradient(classifier, "training on masked sounds", logits)
            level = log_magnitude(classifier.spectrogram(kept)).mean()
        kept_logits, left_logits = logits.tensor_split(2)
        losses = {
            "masked_in": mask_losses.masked_in(kept_logits, target, classifier.multilabel),
            "masked_out": mask_losses.masked_out(left_logits, target, classifier.multilabel),
            "level": level,
        }
        if self.stems:
            assert batch.stem is not None
            # The stem is the sound of the label; about that of another class it says nothing.
            losses["stems"] = (negative_snr(kept, batch.stem) * targets.is_label(batch, target)).mean()
        return losses

    @torch.no_grad()
    def scores_of(self, made: Interpretation, waveform: Tensor) -> dict[str, Tensor]:
        """Fidelity, faithfulness and mean of the mask in the basis, by the classifier on the sounds."""
        with frozen(self.classifier) as classifier:
            kept, left = (classifier(each * made.input_gain[:, None]) for each in (made.waveform, made.residual))
        return part_scores(made, kept, left) | {"mean_mask": made.details["basis_mask"].mean((1, 2))}


def negative_snr(estimate: Tensor, stem: Tensor) -> Tensor:
    """-10 log10 (|s|^2 / (|s - y|^2 + t |s|^2)) in dB, (batch, samples) -> (batch,); t = 0.1, so that -10 dB are best.

    The thresholded loss of Wisdom et al. (2020), https://arxiv.org/abs/2006.12701, whose t is 0.001. With that, clean
    clips, which are their own stems, outweigh mixtures: keeping all of a clean clip would count -30 dB. Unlike SI-SDR,
    SNR asks for the stem's level, too: what is too quiet in the part kept is left in the rest. A silent stem counts 0.

    >>> negative_snr(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])).round(decimals=3)
    tensor([0.4140])
    """
    wanted = stem.square().sum(1)
    heard = wanted > 0
    energy = torch.where(heard, wanted, 1.0)
    missed = (stem - estimate).square().sum(1) + 10 ** (-MAX_SNR / 10) * energy
    return torch.where(heard, 10 * torch.log10(missed / energy), 0.0)


def _normalised_level(coefficients: Tensor, kernel: int) -> Tensor:
    """log1p of the coefficients' magnitude, at the scale of an STFT; mean 0 and variance 1 over each clip."""
    level = (math.sqrt(kernel / 2) * coefficients).abs().log1p()
    return functional.group_norm(level, 1)


def _linear_between_bins(bins: int, channels: int) -> nn.Conv1d:
    """A linear map from STFT bins to channels, (batch, bins, frames) -> (batch, channels, frames).

    It starts as the linear interpolation of the bins at each channel's frequency in `basis.real_fourier`.
    """
    made = nn.Conv1d(bins, channels, 1)
    frequency = (torch.arange(channels) + 1).div(2, rounding_mode="floor") / channels  # cycles per sample, up to 0.5
    with torch.no_grad():
        made.weight.copy_(between(torch.eye(bins), 2 * frequency * (bins - 1), 0)[:, :, None])
        made.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
    return made
