"""EfficientAT: MobileNetV3 taggers of AudioSet's 527 labels, distilled from transformers.

Schmid, Koutini & Widmer (2023), "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation",
https://arxiv.org/abs/2211.04772; network after Howard et al. (2019), https://arxiv.org/abs/1905.02244. The weights are
the authors' (MIT licence, https://github.com/fschmid56/EfficientAT); architecture and front end are written here, so
that gradients reach the waveform. Names of modules are those of the released weights.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.downloads import fetch, read_weights
from audiointerp.classifiers.external import External, between
from audiointerp.sound.mel import kaldi_bank, mel

RATE, BANDS, HIGHEST = 32000, 128, 15000.0  # sample rate in Hz; bands of the mel picture and their upper end in Hz
HOP = 320  # samples between columns of the mel picture

RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
#: name -> (file of the release, its SHA-256 or None)
RELEASED = {
    "mn01_as": ("mn01_as_mAP_298.pt", None),
    "mn02_as": ("mn02_as_mAP_378.pt", None),
    "mn04_as": ("mn04_as_mAP_432.pt", "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),
    "mn05_as": ("mn05_as_mAP_443.pt", None),
    "mn10_as": ("mn10_as_mAP_471.pt", None),
    "mn20_as": ("mn20_as_mAP_478.pt", None),
    "mn30_as": ("mn30_as_mAP_482.pt", None),
    "mn40_as": ("mn40_as_mAP_484.pt", None),
    "mn40_as_ext": ("mn40_as_ext_mAP_487.pt", None),
}
# Kernel, expanded and output channels at width 1, squeeze-excite, hard-swish (else ReLU), stride: MobileNetV3-large.
BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
LAYERS = ("features.3", "features.6", "features.12", "features.16")  # last block of each height: 32, 16, 8, 4 rows

__all__ = ["RELEASED", "EfficientAT", "MelPicture", "audioset_labels"]


def audioset_labels() -> tuple[str, ...]:
    """The 527 labels of AudioSet, in the order of the taggers' logits.

    Gemmeke et al. (2017), https://research.google.com/audioset, CC BY 4.0.

    >>> audioset_labels()[0], len(audioset_labels())
    ('Speech', 527)
    """
    text = (resources.files("audiointerp.classifiers") / "audioset_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())


class MelPicture(nn.Module):
    """(ln(mel + 1e-5) + 4.5) / 5 of a sound at 32 kHz, differentiable; mel: the power in 128 bands up to 15 kHz.

    Pre-emphasis x[t] - 0.97 x[t - 1]; STFT of 1024 samples under a symmetric Hann window of 800, every 320 samples,
    centred with reflection; power; Kaldi's triangles from 0 Hz. A sound shorter than 32 ms is padded with silence.

    Shape:
        waveform (batch, samples) -> (batch, 1, band, time).

    >>> MelPicture()(torch.randn(2, 32000)).shape
    torch.Size([2, 1, 128, 100])
    """

    window: Tensor
    bank: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(800, periodic=False), persistent=False)
        self.register_buffer("bank", kaldi_bank(RATE, 1024, BANDS, 0.0, HIGHEST).T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Mel picture (batch, 1, band, time) of (batch, samples)."""
        waveform = functional.pad(waveform, (0, max(0, 1025 - waveform.shape[1])))
        emphasised = waveform[:, 1:] - 0.97 * waveform[:, :-1]
        stft = torch.stft(emphasised, 1024, HOP, 800, self.window, center=True, return_complex=True)
        power = stft.real.square() + stft.imag.square()
        return (((self.bank @ power) + 1e-5).log() + 4.5)[:, None] / 5


class EfficientAT(External):
    """A multilabel tagger of the mn family: `EfficientAT.from_pretrained("mn04_as")`.

    The feature maps are the outputs of the last blocks of 32, 16, 8 and 4 rows, and `place` maps their
    cells to frequency (in mel) and time. A clip of any length is one picture, over which the network averages.

    Args:
        width: multiplier of all numbers of channels, 0.1 to 4.
        labels: class names; None: AudioSet's.
    Shape:
        waveform (batch, samples) at 32 kHz -> logits (batch, labels).

    >>> EfficientAT(width=0.1)(torch.zeros(1, 32000)).logits.shape
    torch.Size([1, 527])
    """

    def __init__(self, width: float = 1.0, labels: tuple[str, ...] | None = None):
        labels = labels or audioset_labels()
        super().__init__(_Tagger(width, len(labels)).eval(), labels, RATE, multilabel=True, layers=LAYERS)
        self.width = width

    @classmethod
    def from_pretrained(cls, name: str, labels: tuple[str, ...] | None = None) -> EfficientAT:
        """The authors' weights, in evaluation mode.

        Args:
            name: of a released tagger such as "mn04_as", downloaded once into the cache, or a file (.pt, .safetensors).
            labels: class names, for weights that were trained with other labels than AudioSet's.

        Raises:
            ValueError: for an unknown name, a file that is missing or holds no weights of this family, or another
                number of labels.
        """
        path = Path(name) if Path(name).suffix in (".pt", ".safetensors") else fetch(name, RELEASED, RELEASE)
        weights = read_weights(path)
        head, last = weights.get("classifier.2.weight"), weights.get("classifier.5.weight")
        if head is None or last is None or head.ndim != 2:
            raise ValueError(f"{path}: holds no weights of the mn family (no classifier.2.weight)")
        made = cls(len(head) / 1280, labels)
        if len(last) != len(made.labels):
            raise ValueError(f"{path}: has {len(last)} labels, {len(made.labels)} names were given; name each label")
        try:
            made.module.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"{path}: holds no weights of the mn family ({reason})") from None
        return made.eval()

    def place(self, values: Tensor, samples: int) -> Tensor:
        """As `External.place`; cell j of a map that is `stride` times coarser is at row stride * j of the picture.

        Convolutions of odd size with symmetric padding centre their cells at these rows.
        """
        stride, n_fft = BANDS / values.shape[1], self.spectrogram.n_fft
        hertz = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (RATE / n_fft)
        band = mel(hertz) / mel(torch.tensor(HIGHEST, dtype=torch.float64)) * (BANDS + 1) - 1
        frames = 1 + samples // self.spectrogram.hop_length
        column = torch.arange(frames, dtype=torch.float64) * self.spectrogram.hop_length / HOP
        rows, columns = ((each / stride).float().to(values.device) for each in (band, column))
        return between(between(values, rows, 1), columns, 2)


class _Tagger(nn.Module):
    """Mel picture, convolutions, mean over the picture, two linear layers."""

    def __init__(self, width: float, classes: int):
        super().__init__()
        self.picture = MelPicture()
        channels = _wide(16, width)
        layers: list[nn.Module] = [_convolution(1, channels, 3, 2, activation=nn.Hardswish)]
        for kernel, expanded, out, excite, swish, stride in BLOCKS:
            sizes = channels, _wide(expanded, width), _wide(out, width)
            layers.append(_InvertedResidual(*sizes, kernel, stride, excite, nn.Hardswish if swish else nn.ReLU))
            channels = sizes[2]
        layers.append(_convolution(channels, 6 * channels, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        hidden = _wide(1280, width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6 * channels, hidden),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(hidden, classes),
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(self.features(self.picture(waveform)))


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, weigh channels by squeeze-excite, project; added to the input where shapes allow."""

    def __init__(
        self,
        before: int,
        expanded: int,
        after: int,
        kernel: int,
        stride: int,
        excite: bool,
        activation: type[nn.Module],
    ):
        super().__init__()
        self.skip = stride == 1 and before == after
        layers: list[nn.Module] = (
            [] if expanded == before else [_convolution(before, expanded, 1, activation=activation)]
        )
        layers.append(_convolution(expanded, expanded, kernel, stride, groups=expanded, activation=activation))
        if excite:
            layers.append(_Excitations(expanded))
        layers.append(_convolution(expanded, after, 1))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made = self.block(x)
        return x + made if self.skip else made


class _Excitations(nn.Module):
    """Squeeze-excite over channels, with the names of modules in the released weights."""

    def __init__(self, channels: int):
        super().__init__()
        self.conc_se_layers = nn.ModuleList([_Excitation(channels, _divisible(channels // 4))])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conc_se_layers[0](x)


class _Excitation(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)
        self.relu = nn.ReLU()  # a module, so that guided backpropagation can guide it

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu(self.fc1(x.mean((2, 3))))).sigmoid()[:, :, None, None]


def _convolution(
    before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, activation: type[nn.Module] | None = None
) -> nn.Sequential:
    options: dict[str, Any] = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
    layers = [nn.Conv2d(before, after, kernel, **options), nn.BatchNorm2d(after, eps=1e-3, momentum=0.01)]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


def _wide(channels: int, width: float) -> int:
    return _divisible(channels * width)


def _divisible(value: float) -> int:
    """The nearest multiple of 8, at least 8 and at least nine tenths of the value, as in MobileNetV3."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded
