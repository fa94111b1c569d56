"""VIBI: the few tiles of a spectrogram that suffice to say what the classifier says.

Bang, Xie, Lee, Wu, Xing (2019), "Explaining a black-box by using a deep variational information bottleneck approach",
https://arxiv.org/abs/1902.06918. A selector gives a preference p over the chunks of the input; k draws from it,
relaxed so that a gradient passes, give a soft selection z; a second network, the approximator, sees x z only and must
say what the classifier says of all of x. The selection is drawn towards a prior that prefers no chunk:

    approximation = cross-entropy between f(x) and the approximator's probabilities of x z
    prior = k KL(p || uniform);    loss = approximation + beta prior

The classifier is only asked for its prediction of the whole clip: no gradient passes through it.

Departures from the paper and its released code:

- Chunks are tiles of a spectrogram: bands of equal width in mel, columns of equal duration. k is a share of the tiles,
  so that long clips get as many per second.
- The released code passes log-probabilities to a distribution that takes probabilities. It normalises them, which
  reverses the preference: [0.87, 0.12, 0.02] becomes [0.02, 0.34, 0.63]. It also draws without a gradient, so that the
  selector learns from the prior only. Here the draws are from the logits, with a gradient (`relaxed_k_hot`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.vggsound import Encoder
from audiointerp.contracts import Batch, Classifier, Interpretation, frozen
from audiointerp.interpreters.base import MaskInterpreter, Scene, TrainedInterpreter
from audiointerp.interpreters.controls import Beside
from audiointerp.processes import dividing
from audiointerp.sound.spectrogram import STFT, log_magnitude

SAVED = ("rows", "seconds", "share", "width", "fill")
STRIDE = 16  # bins and frames per cell of the encoder's last map

__all__ = ["VIBI", "RandomTiles", "relaxed_k_hot", "tile_grid"]


@dataclass(eq=False, repr=False)
class VIBI(TrainedInterpreter):
    """Keeps the tiles that suffice for a second network to say what the classifier says; trained without labels.

    The mask does not depend on the target: it explains the classifier's whole answer. `details` has the selector's
    preference as "preference" and the selection as "tiles", both (batch, rows, columns), and the approximator's
    probabilities of the selected tiles as "theta_probabilities", (batch, classes), from which evaluations compute
    `theta_top1`, the approximator fidelity. The usual fidelity is the rationale fidelity: the classifier hears the
    selected tiles.

    Args:
        classifier: the classifier to explain; it needs no gradient.
        rows: bands of equal width in mel, from 0 Hz to half the sample rate.
        seconds: duration of a tile.
        share: share of the clip's tiles that are selected, at least one; also the number of draws k in training.
        temperature: of the relaxed draws; 0.5 to 0.7 in the paper's code.
        width: channels of both networks.
        fill: leave removed tiles at the clip's noise floor when interpreting.
    Raises:
        ValueError: if an option cannot be used.
    """

    classifier: Classifier
    rows: int = 8
    seconds: float = 0.4
    share: float = 0.15
    temperature: float = 0.5
    width: int = 32
    fill: bool = False

    def __post_init__(self) -> None:
        """Builds the selector and the approximator."""
        nn.Module.__init__(self)
        if (
            self.rows < 1
            or self.width < 1
            or not self.seconds > 0
            or not self.temperature > 0
            or not 0 < self.share <= 1
        ):
            raise ValueError(
                "VIBI needs rows and width of at least 1, seconds and temperature above 0, a share above 0, at most 1"
            )
        tile_grid(self.classifier.spectrogram, self.rows, self.seconds, 1)
        self.only_binary = not self.fill
        self.config = {name: getattr(self, name) for name in SAVED}
        classes = len(self.classifier.labels)
        self.selector = Encoder(self.width)
        self.preference = nn.Sequential(
            nn.Conv2d(self.width, self.width, 3, padding=1), nn.ReLU(), nn.Conv2d(self.width, 1, 1)
        )
        self.approximator = Encoder(self.width)
        self.head = nn.Linear(self.width, classes)

    # --- interpreting

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the preferred tiles; see the class for the details."""
        training = self.training
        self.eval()
        try:
            logits, place = self.preferences(scene.stft)
            chosen = torch.zeros_like(logits).scatter(1, logits.topk(self.count(logits), 1).indices, 1.0)
            mask = _spread(chosen, place)
            heard = self.approximate(scene.stft, mask)
        finally:
            self.train(training)
        grid = (len(logits), self.rows, -1)
        own = heard.sigmoid() if self.classifier.multilabel else heard.softmax(1)
        details = {"preference": logits.softmax(1).view(grid), "tiles": chosen.view(grid), "theta_probabilities": own}
        return mask, details

    def count(self, logits: Tensor) -> int:
        """Number k of tiles that are selected of as many as the logits (batch, tiles) have."""
        return max(1, round(self.share * logits.shape[1]))

    def preferences(self, stft: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The selector's logits, (batch, rows * columns), and each bin's row and each frame's column."""
        place = tile_grid(self.classifier.spectrogram, self.rows, self.seconds, stft.shape[2])
        cells = self.selector(log_magnitude(stft))[-1]
        for axis, tile in zip((2, 3), place):
            cells = _means(cells, axis, tile)
        return self.preference(cells).flatten(1), place

    def approximate(self, stft: Tensor, mask: Tensor) -> Tensor:
        """The approximator's logits (batch, classes) of the masked clips.

        The mask multiplies the log-magnitude, the approximator's input, so that a value of 0.05 leaves little of a loud
        tile; of the magnitude, it would leave a sound that is still heard. For the 0 and 1 of an interpretation, the
        two are the same.
        """
        return self.head(self.approximator(mask * log_magnitude(stft))[-1].mean((2, 3)))

    # --- training

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group: selector and approximator."""
        return {"interpreter": list(self.parameters())}

    def losses(self, batch: Batch, group: str = "interpreter") -> dict[str, Tensor]:
        """The terms "approximation" and "prior", each a mean over clips; the weight of "prior" is the paper's beta."""
        with frozen(self.classifier):
            stft, prediction = self.look(batch)
        logits, place = self.preferences(stft)
        count = self.count(logits)
        heard = self.approximate(stft, _spread(relaxed_k_hot(logits, count, self.temperature), place))
        if self.classifier.multilabel:
            fit = functional.binary_cross_entropy_with_logits(heard, prediction.probabilities)
        else:
            fit = functional.cross_entropy(heard, prediction.probabilities)
        log_p = logits.log_softmax(1)
        uniform = torch.full_like(log_p, 1 / log_p.shape[1]).log()
        divergence = (log_p.exp() * (log_p - uniform)).sum(1)
        return {"approximation": fit, "prior": count * divergence.mean()}

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """As every trained method's, and "approximator_fidelity": whether the approximator says what f says."""
        made = self.interpret(batch.waveform)
        return self.scores_of(made, batch.waveform) | {"approximator_fidelity": _agrees(made)}


class RandomTiles(Beside):
    """Keeps random tiles, as many as VIBI selects: what VIBI's rationale fidelity must exceed.

    Args:
        classifier: the classifier; the mask does not depend on it.
        like: the VIBI whose tiles are drawn from.
        seed: of the draw; the same for all clips of one length.
    """

    alone = False
    only_binary = True

    def __init__(self, classifier: Classifier, like: MaskInterpreter | None = None, seed: int = 0):
        super().__init__(classifier, like)
        self.seed = seed

    def fits(self, method: object) -> bool:
        """Whether the method has tiles."""
        return isinstance(method, VIBI)

    def beside(self, method: MaskInterpreter) -> Beside:
        """A copy matched to the method, with the method's domain and fill."""
        matched = super().beside(method)
        matched.domain, matched.fill, matched.only_binary = method.domain, method.fill, not method.fill
        return matched

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask of the drawn tiles, and "tiles", (batch, rows, columns)."""
        if not isinstance(self.like, VIBI):
            raise ValueError("RandomTiles draws from the tiles of a VIBI; give it as like")
        rows = self.like.rows
        place = tile_grid(self.classifier.spectrogram, rows, self.like.seconds, scene.stft.shape[2])
        tiles = torch.zeros(len(scene.stft), rows * (int(place[1][-1]) + 1))
        drawn = torch.randperm(tiles.shape[1], generator=torch.Generator().manual_seed(self.seed))
        tiles[:, drawn[: self.like.count(tiles)]] = 1.0
        tiles = tiles.to(scene.stft.device)
        return _spread(tiles, place), {"tiles": tiles.view(len(tiles), rows, -1)}


def relaxed_k_hot(logits: Tensor, count: int, temperature: float) -> Tensor:
    """A soft selection of tiles, (batch, tiles) in [0, 1]: the largest, in each tile, of k relaxed one-hot draws.

    Each draw is softmax((log p + g) / temperature), g of the Gumbel distribution (Jang et al. 2016, Maddison et al.
    2016): as the temperature falls it tends to a one-hot vector, 1 at a tile with its probability p = softmax(logits).
    The gradient reaches the logits. Random numbers are drawn on the CPU, so that a resumed run draws the same.

    Args:
        logits: (batch, tiles).
        count: number k of draws.
        temperature: above 0.
    """
    batch, tiles = logits.shape
    uniform = dividing.rand(batch, count, tiles).clamp(1e-6, 1 - 1e-6).to(logits)
    gumbel = -(-uniform.log()).log()
    return ((logits.log_softmax(1)[:, None] + gumbel) / temperature).softmax(2).amax(1)


def tile_grid(spectrogram: STFT, rows: int, seconds: float, frames: int) -> tuple[Tensor, Tensor]:
    """Row of each bin, (freq,), and column of each frame, (frames,): the tile that contains it.

    Args:
        spectrogram: the STFT.
        rows: bands of equal width in mel (O'Shaughnessy's formula).
        seconds: duration of a column.
        frames: of the clip.
    Raises:
        ValueError: if a band contains no bin.
    """
    device = spectrogram.window.device
    hertz = torch.arange(spectrogram.n_fft // 2 + 1, device=device) * spectrogram.sample_rate / spectrogram.n_fft
    mel = torch.log1p(hertz / 700)
    row = (mel / mel[-1] * rows).floor().long().clamp(max=rows - 1)
    if len(row.unique()) < rows:
        raise ValueError(f"{rows} rows of tiles are too many: a band contains no bin of the spectrogram; ask for fewer")
    start = torch.arange(frames, device=device, dtype=torch.float64) * spectrogram.hop_length / spectrogram.sample_rate
    return row, (start / seconds).floor().long()


def _spread(tiles: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """(batch, rows * columns) -> the mask (batch, freq, time) that has a tile's value in all of its bins."""
    row, column = place
    return tiles.view(len(tiles), int(row[-1]) + 1, -1)[:, row][:, :, column]


def _means(cells: Tensor, axis: int, tile: Tensor) -> Tensor:
    """Means over the tiles on an axis of (batch, channel, freq', time'); each bin or frame counts with its cell."""
    count, have = int(tile[-1]) + 1, cells.shape[axis]
    cell = (torch.arange(len(tile), device=tile.device) // STRIDE).clamp(max=have - 1)
    share = functional.one_hot(tile, count).to(cells).T @ functional.one_hot(cell, have).to(cells)
    share = share / share.sum(1, keepdim=True)
    return (cells.transpose(axis, 3) @ share.T).transpose(axis, 3)


def _agrees(made: Interpretation) -> Tensor:
    """Whether the approximator's likeliest class is the classifier's, (batch,)."""
    return (made.details["theta_probabilities"].argmax(1) == made.prediction.predicted).float()
