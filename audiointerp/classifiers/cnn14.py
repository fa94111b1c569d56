"""CNN14 of PANNs: a convolutional tagger of AudioSet's 527 labels.

Kong et al. (2020), "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition",
https://arxiv.org/abs/1912.10211. The weights are the authors' (https://zenodo.org/records/3987831);
architecture and front end are written here, so that gradients reach the waveform. Names of modules are those of the
released weights; their kernels have time before frequency and are transposed when they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.downloads import read_weights
from audiointerp.classifiers.efficientat import audioset_labels
from audiointerp.classifiers.external import External, between
from audiointerp.classifiers.front_ends import DecibelMel
from audiointerp.sound.mel import hertz_bank, slaney_mel

BANDS = 64
LAYERS = ("conv_block3", "conv_block4", "conv_block5", "conv_block6")  # of 8, 4, 2 and 2 rows
POOLED = 5  # blocks that halve the picture, so that it needs 2 ** 5 columns

__all__ = ["CNN14"]


class _Picture(NamedTuple):
    """Lengths in samples and frequencies in Hz of the mel picture at one sample rate."""

    n_fft: int
    hop: int
    low: float
    high: float

    def bank(self, sample_rate: int) -> Tensor:
        return hertz_bank(sample_rate, self.n_fft, BANDS, self.low, self.high)


PICTURES = {
    32000: _Picture(1024, 320, 50.0, 14000.0),
    16000: _Picture(512, 160, 50.0, 8000.0),
    8000: _Picture(256, 80, 50.0, 4000.0),
}


class CNN14(External):
    """A multilabel tagger: `CNN14.from_pretrained("Cnn14_mAP=0.431.pth")`.

    The feature maps are the outputs of the last four blocks, and `place` maps their cells to frequency (in Slaney's
    mel) and time. A clip of any length is one picture; one of fewer than 32 columns (0.31 s) is padded with silence.

    Args:
        labels: class names; None: AudioSet's.
        sample_rate: 32000, or 16000 or 8000 Hz for the variants that were trained at these rates.
        channels: of the first block; the published width is 64.
        hidden: width of the layer before the logits; None: 32 times `channels`, the published width.
    Shape:
        waveform (batch, samples) -> logits (batch, labels), before the sigmoid.
    Raises:
        ValueError: for another sample rate.

    >>> CNN14(channels=2)(torch.zeros(1, 32000)).logits.shape
    torch.Size([1, 527])
    """

    def __init__(
        self,
        labels: Sequence[str] | None = None,
        sample_rate: int = 32000,
        channels: int = 64,
        hidden: int | None = None,
    ):
        if sample_rate not in PICTURES:
            raise ValueError(f"CNN14 was published for {', '.join(map(str, PICTURES))} Hz, not for {sample_rate}")
        labels = tuple(labels) if labels else audioset_labels()
        self.picture = PICTURES[sample_rate]
        network = _Network(sample_rate, self.picture, channels, hidden or 32 * channels, len(labels))
        super().__init__(network.eval(), labels, sample_rate, multilabel=True, layers=LAYERS)

    @classmethod
    def from_pretrained(cls, name: str | Path, labels: Sequence[str] | None = None) -> CNN14:
        """The weights of a file, in evaluation mode.

        The sample rate follows from the length of the window in the file (32 kHz if the file has no window). The file's
        windows and mel filters are otherwise not used: they are constants, computed here, and only compared.

        Args:
            name: a file (.pth, .pt, .safetensors) with the names of the official checkpoints.
            labels: class names; None: AudioSet's.

        Raises:
            ValueError: for a file that is missing or does not hold weights of CNN14, or another number of labels.
        """
        path = Path(name)
        weights = read_weights(path)
        head, hidden, first = (weights.get(f"{key}.weight") for key in ("fc_audioset", "fc1", "conv_block1.conv1"))
        if head is None or hidden is None or first is None or [head.ndim, hidden.ndim, first.ndim] != [2, 2, 4]:
            raise ValueError(f"{path}: holds no weights of CNN14 (fc_audioset, fc1 and conv_block1 are its layers)")
        count = len(labels) if labels else len(audioset_labels())
        if len(head) != count:
            given = "names were given" if labels else "are AudioSet's"
            raise ValueError(f"{path}: has {len(head)} labels, {count} {given}; name each label (--labels FILE)")
        rate = _sample_rate(path, weights)
        made = cls(labels, rate, len(first), len(hidden))
        kept = {key: each for key, each in weights.items() if "_extractor." not in key}
        turned = {key: each.transpose(2, 3) if each.ndim == 4 else each for key, each in kept.items()}
        try:
            made.module.load_state_dict(turned)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"{path}: holds no weights of CNN14 ({reason})") from None
        return made.eval()

    def place(self, values: Tensor, samples: int) -> Tensor:
        """As `External.place`; cell j of a map that is `stride` times coarser covers rows stride * j and following.

        Each block averages pairs of rows and columns, so the cell's centre is at row stride * (j + 1/2) - 1/2.
        """
        stride, n_fft = BANDS / values.shape[1], self.spectrogram.n_fft
        low, high = slaney_mel(torch.tensor([self.picture.low, self.picture.high], dtype=torch.float64)).tolist()
        hertz = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (self.sample_rate / n_fft)
        band = (slaney_mel(hertz) - low) / (high - low) * (BANDS + 1) - 1
        frames = 1 + samples // self.spectrogram.hop_length
        column = torch.arange(frames, dtype=torch.float64) * self.spectrogram.hop_length / self.picture.hop
        rows, columns = (((each + 0.5) / stride - 0.5).float().to(values.device) for each in (band, column))
        return between(between(values, rows, 1), columns, 2)


class _Network(nn.Module):
    """Mel picture in dB, six blocks of two convolutions, pooling over frequency and time, two linear layers."""

    def __init__(self, sample_rate: int, picture: _Picture, channels: int, hidden: int, classes: int):
        super().__init__()
        self.picture = DecibelMel(picture.n_fft, picture.hop, picture.bank(sample_rate))
        self.bn0 = nn.BatchNorm2d(BANDS)
        widths = [1, *(channels << block for block in range(POOLED + 1))]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            self.add_module(f"conv_block{number}", _Block(before, after, pool=2 if number <= POOLED else 1))
        self.fc1, self.relu = nn.Linear(widths[-1], hidden), nn.ReLU()
        self.fc_audioset = nn.Linear(hidden, classes)
        self.shortest = ((1 << POOLED) - 1) * picture.hop

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits."""
        waveform = functional.pad(waveform, (0, max(0, self.shortest - waveform.shape[1])))
        x = functional.dropout(self.embed(self.picture(waveform)), 0.5, self.training)
        return self.fc_audioset(functional.dropout(self.relu(self.fc1(x)), 0.5, self.training))

    def embed(self, picture: Tensor) -> Tensor:
        """(batch, 1, band, time) in dB -> (batch, channel): largest plus mean value over time of the rows' mean."""
        x = self.bn0(picture.transpose(1, 2)).transpose(1, 2)
        for number in range(1, POOLED + 2):
            x = functional.dropout(self.get_submodule(f"conv_block{number}")(x), 0.2, self.training)
        x = x.mean(2)
        return x.amax(2) + x.mean(2)


class _Block(nn.Module):
    """Twice: convolution 3 x 3, batch norm, ReLU; then the mean of each `pool` x `pool` cells."""

    def __init__(self, before: int, after: int, pool: int):
        super().__init__()
        self.pool = pool
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return functional.avg_pool2d(self.relu2(self.bn2(self.conv2(x))), self.pool)


def _sample_rate(path: Path, weights: dict[str, Tensor]) -> int:
    """The rate whose front end the file has; its mel filters must be those that are computed here."""
    window, filters = weights.get("spectrogram_extractor.stft.conv_real.weight"), weights.get("logmel_extractor.melW")
    lengths = {picture.n_fft: rate for rate, picture in PICTURES.items()}
    n_fft = PICTURES[32000].n_fft if window is None else max(window.shape, default=0)
    if n_fft not in lengths:
        raise ValueError(f"{path}: its window has {n_fft} samples; CNN14's have {', '.join(map(str, lengths))}")
    rate = lengths[n_fft]
    if filters is not None:
        bank = PICTURES[rate].bank(rate)
        if filters.shape != bank.shape or float((filters - bank).abs().max()) > 1e-4 * float(bank.max()):
            raise ValueError(f"{path}: its mel filters are not those of CNN14 at {rate} Hz")
    return rate
