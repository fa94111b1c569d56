"""L2I's networks: feature maps -> activations of a fixed dictionary of spectral components -> class logits.

Parekh et al. (2022), "Listen to Interpret", https://arxiv.org/abs/2202.11479, explains a given classifier with these
networks (`audiointerp.interpreters.L2I`); Parekh et al. (2023), https://arxiv.org/abs/2305.07132, classifies with them
(`audiointerp.interpreters.DictionaryClassifier`). The networks follow the code of the first paper.

    feature maps -> Psi -> activations H (components, time) -> attention over time -> z -> Theta -> logits
                           W H is the log-magnitude spectrogram, W the dictionary (freq, components)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

# z is of the order of 0.1, so theta must grow to the order of 1 to 10, which takes too many steps at Psi's learning
# rate; theta is therefore GAIN times the trained weight.
GAIN = 10.0

__all__ = [
    "ActivationNetwork",
    "AttentionPooling",
    "Decomposition",
    "DictionaryNetwork",
    "Theta",
    "read_dictionary",
]


class Decomposition(NamedTuple):
    """A clip in terms of the dictionary.

    Attributes:
        activations: H, (batch, components, time), at least 0.
        pooled: z, (batch, components), their attention-weighted mean over time.
        logits: Theta z, (batch, classes).
    """

    activations: Tensor
    pooled: Tensor
    logits: Tensor


class _Reader(nn.Module):
    """A feature map -> (batch, hidden, time'): 3 x 3 convolution, ReLU, mean to `rows` rows, rows joined by a 1 x 1."""

    def __init__(self, channels: int, width: int, rows: int, hidden: int):
        super().__init__()
        self.rows = rows
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.collapse = nn.Conv1d(width * rows, hidden, 1)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, feature_map: Tensor) -> Tensor:
        x = functional.relu(self.conv(feature_map))
        return self.collapse(functional.adaptive_avg_pool2d(x, (self.rows, x.shape[3])).flatten(1, 2))


class ActivationNetwork(nn.Module):
    """Psi: feature maps -> activations of the dictionary's components, never negative.

    Args:
        widths: channels of each feature map.
        n_components: components of the dictionary.
        width: channels of each map's convolution; the later convolutions have twice as many.
        strides: STFT frames per column of each map. A map is upsampled by its stride, then cropped or continued with
            its last column, so that the position of a frame does not depend on the clip's length. A map whose stride
            is None is resized to the number of frames.
        rows: the frequency axis of each map is averaged to this many rows.
    Shape:
        maps (batch, channel, freq', time'), frames -> (batch, components, frames).

    >>> psi = ActivationNetwork([8, 8], n_components=5, strides=[8, 16])
    >>> psi([torch.rand(1, 8, 64, 53), torch.rand(1, 8, 32, 26)], 431).shape
    torch.Size([1, 5, 431])
    """

    def __init__(
        self,
        widths: Sequence[int],
        n_components: int,
        width: int = 64,
        strides: Sequence[float | None] | None = None,
        rows: int = 16,
    ):
        super().__init__()
        self.strides = tuple(strides or [None] * len(widths))
        hidden = 2 * width
        self.readers = nn.ModuleList(_Reader(channels, width, rows, hidden) for channels in widths)
        self.between = nn.Conv1d(hidden, hidden, 5, padding=2)
        self.last = nn.Conv1d(hidden, n_components, 5, padding=2)
        # The last ReLU passes no gradient to a component that is below zero everywhere, so all start slightly above.
        nn.init.normal_(self.last.weight, std=0.1 / (5 * hidden) ** 0.5)
        nn.init.constant_(self.last.bias, 0.1)  # pyright: ignore[reportArgumentType]

    def forward(self, feature_maps: Sequence[Tensor], frames: int) -> Tensor:
        """Activations for any number of frames."""
        read = [
            _upsample(reader(each), stride, frames)
            for reader, each, stride in zip(self.readers, feature_maps, self.strides)
        ]
        hidden = functional.relu(torch.stack(read).sum(0))
        return functional.relu(self.last(functional.relu(self.between(hidden))))


def _upsample(x: Tensor, stride: float | None, frames: int) -> Tensor:
    if stride is None:
        return functional.interpolate(x, frames, mode="linear")
    # Column j of a map is centred on frame stride * (j + 1/2) - 1/2, which is what this interpolation assumes.
    x = functional.interpolate(x, scale_factor=float(stride), mode="linear")
    return functional.pad(x, (0, max(0, frames - x.shape[2])), mode="replicate")[..., :frames]


class AttentionPooling(nn.Module):
    """Activations (batch, components, time) -> z = sum_t a_t h_t, (batch, components).

    a = softmax over time of w . [tanh(V h_t) * ReLU(U h_t)].

    Args:
        n_components: components of the dictionary.
        hidden: rows of V and U; the authors' 256.
        dropout: of the attention's input in training; the authors' 0.4.
    """

    def __init__(self, n_components: int, hidden: int = 256, dropout: float = 0.4):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.v = nn.Linear(n_components, hidden, bias=False)
        self.u = nn.Linear(n_components, hidden, bias=False)
        self.w = nn.Linear(hidden, 1, bias=False)

    def forward(self, activations: Tensor) -> Tensor:
        """z."""
        seen = self.dropout(activations.transpose(1, 2))
        attention = self.w(self.v(seen).tanh() * functional.relu(self.u(seen))).softmax(1)
        return (activations @ attention).squeeze(2)


class Theta(nn.Module):
    """Activations -> class logits, linear in the pooled ones and without a bias: logit_c = sum_k z_k theta_ck."""

    def __init__(self, n_components: int, classes: int):
        super().__init__()
        self.pool = AttentionPooling(n_components)
        self.linear = nn.Linear(n_components, classes, bias=False)
        # The softmax does not depend on a term of theta that is equal for all classes: training would never change the
        # random initial value of that term, and it would count as relevance.
        nn.init.zeros_(self.linear.weight)

    @property
    def weight(self) -> Tensor:
        """theta, (classes, components)."""
        return GAIN * self.linear.weight

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, classes) and z (batch, components)."""
        pooled = self.pool(activations)
        return functional.linear(pooled, self.weight), pooled


class DictionaryNetwork(nn.Module):
    """Psi, Theta and the dictionary, which is not trained.

    Args:
        freq: bins of the STFT.
        n_components: components of the dictionary.
        classes: number of classes.
        widths: channels of each feature map that is read.
        layers: indices of those maps.
        width: see `ActivationNetwork`.
        strides: see `ActivationNetwork`.
    """

    dictionary: Tensor

    def __init__(
        self,
        freq: int,
        n_components: int,
        classes: int,
        widths: Sequence[int],
        layers: Sequence[int],
        width: int = 64,
        strides: Sequence[float | None] | None = None,
    ):
        super().__init__()
        self.layers = tuple(layers)
        self.psi = ActivationNetwork(widths, n_components, width, strides)
        self.theta = Theta(n_components, classes)
        self.register_buffer("dictionary", torch.zeros(freq, n_components))

    def set_dictionary(self, source: Any) -> None:
        """Copies a dictionary; see `read_dictionary` for the accepted sources and errors."""
        given = read_dictionary(source, len(self.dictionary))
        if given.shape != self.dictionary.shape:
            have, want = given.shape[1], self.dictionary.shape[1]
            raise ValueError(f"dictionary has {have} components, the model {want}; give n_components={have}")
        self.dictionary.copy_(given)

    def forward(self, feature_maps: Sequence[Tensor], frames: int) -> Decomposition:
        """Decomposes clips, given all feature maps of the classifier."""
        activations = self.psi([feature_maps[layer] for layer in self.layers], frames)
        logits, pooled = self.theta(activations)
        return Decomposition(activations, pooled, logits)

    def reconstruct(self, activations: Tensor) -> Tensor:
        """W H, (batch, freq, time): the log-magnitude reconstructed from the activations."""
        return self.dictionary @ activations


def read_dictionary(source: Any, freq: int) -> Tensor:
    """The matrix (freq, components) of a tensor or of anything with a `dictionary`, its columns at unit norm.

    Raises:
        ValueError: if the source has no such matrix, if its rows are not the STFT's bins, or if it has negative, NaN
            or infinite entries.

    >>> read_dictionary(torch.tensor([[3.0, 0.0], [4.0, 1.0]]), freq=2)
    tensor([[0.6000, 0.0000],
            [0.8000, 1.0000]])
    """
    if isinstance(source, str):
        raise ValueError(f"dictionary is the name {source!r}; load it first, audiointerp.load({source!r})")
    given = source if isinstance(source, Tensor) else getattr(source, "dictionary", None)
    if not isinstance(given, Tensor) or given.ndim != 2:
        raise ValueError(f"dictionary is a {type(source).__name__}; give an NMF or a tensor (freq, components)")
    if len(given) != freq:
        raise ValueError(
            f"dictionary has {len(given)} rows, the classifier's STFT {freq} bins; learn it at the same rate and n_fft"
        )
    if not (torch.isfinite(given).all() and (given >= 0).all()):
        raise ValueError("dictionary has negative, NaN or infinite entries; an NMF's are at least 0")
    given = given.detach().float()
    norm = given.norm(dim=0)
    # Columns already of unit norm (as an NMF's) are returned bit for bit; columns of zeros stay zero.
    return given / torch.where((norm == 0) | ((norm - 1).abs() < 1e-5), 1.0, norm)
