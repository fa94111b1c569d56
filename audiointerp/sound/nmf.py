"""Non-negative matrix factorisation: learns a dictionary of spectra, and finds activations for a fixed dictionary.

X (freq, frames) ~ W H with W (freq, components), H (components, frames), all non-negative (Lee & Seung, 1999,
https://doi.org/10.1038/44565). The columns are normalised, w_k = W_k / |W_k|; otherwise the sparsity penalty could be
lowered by shrinking H and growing W (Le Roux, Hershey & Weninger, 2015, "Sparse NMF - half-baked or well done?", MERL
TR2015-023). The objectives are

- "frobenius": ||X - w H||^2 + sparsity sum(H), by exact block updates of one row or column at a time (HALS: Cichocki &
  Phan, 2009; Gillis & Glineur, 2012, https://arxiv.org/abs/1107.5194). It never rises, with or without sparsity;
- "kl": sum(X log(X / w H) - X + w H) + sparsity sum(H), by multiplicative updates (Lee & Seung, 2001). Without
  sparsity the objective never rises; with sparsity, Le Roux et al.'s normalised update lowers it in practice, but
  without a proof.

Columns of W have unit L2 norm throughout; H carries the level. L2I learns W on log1p magnitudes, so that its
components add up in the log domain; this module accepts any non-negative data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Literal["frobenius", "kl"]
Statistics = tuple[Tensor, Tensor]  # sums over frames, from which the dictionary is updated

FLOOR = 1e-12  # smallest value of W H used as a divisor
VANISHED = 2.2e-16  # activations below it are set to 0 by multiplicative updates: denormal numbers are slow
BLOCK = 2**19  # numbers in a block of activations on a CPU, about the size of its second-level cache

__all__ = [
    "NMF",
    "UPDATES",
    "Frobenius",
    "KullbackLeibler",
    "spectral_centroids",
]


@dataclass(frozen=True)
class Frobenius:
    """Exact updates of one row of H, or one column of W, at a time. Statistics: X H^T and H H^T."""

    sparsity: float

    def start(self, frames: Tensor, dictionary: Tensor) -> Tensor:
        """Initial activations, (components, frames); those of a frame depend on that frame alone."""
        return frames.new_zeros(dictionary.shape[1], frames.shape[1])

    def encode(self, frames: Tensor, dictionary: Tensor, activations: Tensor, sweeps: int) -> None:
        """Updates the activations in place."""
        # H_k = [w_k^T (X - sum_{j != k} w_j H_j) - sparsity / 2]_+ / |w_k|^2
        cross = dictionary.T @ frames
        coordinate_sweeps(activations, dictionary.T @ dictionary, cross.sub_(self.sparsity / 2), sweeps)

    def judge(self, frames: Tensor, dictionary: Tensor, activations: Tensor) -> tuple[Tensor, Statistics]:
        """The objective, a float64 scalar, and the statistics of these frames."""
        residual = torch.addmm(frames, dictionary, activations, alpha=-1)
        # Summed per frequency first: precise enough in float32, and faster than in float64.
        loss = torch.linalg.vector_norm(residual, dim=1).double().square().sum()
        if self.sparsity:
            loss = loss + self.sparsity * activations.sum(1).double().sum()
        return loss, (frames @ activations.T, activations @ activations.T)

    def learn(self, dictionary: Tensor, statistics: Statistics, sweeps: int) -> tuple[Tensor, Tensor]:
        """The next dictionary, unit columns, and the factor (components, 1) by which to scale the activations."""
        cross, gram = statistics
        rows = dictionary.T.clone()
        coordinate_sweeps(rows, gram, cross.T.contiguous(), sweeps, unit=self.sparsity > 0)
        new = rows.T.contiguous()
        return (new, new.new_ones(new.shape[1], 1)) if self.sparsity else unit_columns(new, dictionary)

    def rescale(self, statistics: Statistics, scale: Tensor) -> Statistics:
        """The statistics for activations multiplied by `scale`."""
        return statistics[0] * scale.T, statistics[1] * scale * scale.T


@dataclass(frozen=True)
class KullbackLeibler:
    """Multiplicative updates. Statistics: W * ((X / WH) H^T) and the sums of H over time."""

    sparsity: float

    def start(self, frames: Tensor, dictionary: Tensor) -> Tensor:
        """Initial activations, (components, frames); those of a frame depend on that frame alone."""
        level = frames.sum(0) / dictionary.sum().clamp(min=FLOOR)
        return level.expand(dictionary.shape[1], -1).clone()

    def encode(self, frames: Tensor, dictionary: Tensor, activations: Tensor, sweeps: int) -> None:
        """Updates the activations in place."""
        weight = (dictionary.sum(0) + self.sparsity).clamp(min=FLOOR)[:, None]
        for _ in range(sweeps):
            model = (dictionary @ activations).clamp_(min=FLOOR)
            activations.mul_((dictionary.T @ torch.div(frames, model, out=model)).div_(weight))
            torch.threshold_(activations, VANISHED, 0.0)

    def judge(self, frames: Tensor, dictionary: Tensor, activations: Tensor) -> tuple[Tensor, Statistics]:
        """The objective, a float64 scalar, and the statistics of these frames."""
        total = activations.sum(1)
        model = (dictionary @ activations).clamp_(min=FLOOR)
        quotient = frames / model
        loss = model.sub_(frames).add_(torch.xlogy(frames, quotient)).sum(1).double().sum()
        if self.sparsity:
            loss = loss + self.sparsity * total.double().sum()
        return loss, ((quotient @ activations.T).mul_(dictionary), total)

    def learn(self, dictionary: Tensor, statistics: Statistics, sweeps: int) -> tuple[Tensor, Tensor]:
        """The next dictionary, unit columns, and the factor (components, 1) by which to scale the activations."""
        pull, push = statistics
        if not self.sparsity:
            return unit_columns(pull / push.clamp(min=FLOOR), dictionary)
        # Le Roux et al. (2015), beta = 1: the gradient through W / |W|, split into its positive parts.
        grown = pull + dictionary.square() * (dictionary * push).sum(0)
        new = grown / (push + dictionary * pull.sum(0)).clamp(min=FLOOR)
        return unit_columns(new, dictionary)[0], new.new_ones(new.shape[1], 1)

    def rescale(self, statistics: Statistics, scale: Tensor) -> Statistics:
        """The statistics for activations multiplied by `scale`."""
        return statistics[0], statistics[1] * scale[:, 0]


UPDATES = {"frobenius": Frobenius, "kl": KullbackLeibler}


def coordinate_sweeps(rows: Tensor, gram: Tensor, cross: Tensor, sweeps: int, unit: bool = False) -> None:
    """Sets each row in turn to the minimiser of tr(rows^T gram rows) - 2 tr(rows^T cross) over rows >= 0.

    With `unit`, rows also have unit norm: the minimiser is the direction of the positive part of
    cross_k - sum_{j != k} gram_kj row_j, and a row for which this has no positive entry is left unchanged.
    """
    diagonal = gram.diagonal()[:, None]
    # A row whose diagonal entry is 0 becomes 0, not 0 / 0.
    inverse = torch.where(diagonal > 1e-30, 1 / diagonal, 0.0)
    others, cross = (gram * inverse).fill_diagonal_(0), cross.mul_(inverse)
    flipped, row = rows.T, torch.empty_like(rows[0])
    for _ in range(sweeps):
        for k in range(len(rows)):
            torch.addmv(cross[k], flipped, others[k], alpha=-1, out=row)
            if unit:
                norm = torch.linalg.vector_norm(row.clamp_(min=0))
                row = torch.where(norm > 0, row / norm, rows[k])
                rows[k] = row
            else:
                torch.clamp(row, min=0, out=rows[k])


def unit_columns(dictionary: Tensor, fallback: Tensor) -> tuple[Tensor, Tensor]:
    """Unit-norm columns and the norms (components, 1); a zero column is replaced by the fallback's, with norm 0."""
    norm = torch.linalg.vector_norm(dictionary, dim=0)
    return torch.where(norm > 0, dictionary / norm.clamp(min=torch.finfo(norm.dtype).tiny), fallback), norm[:, None]


class NMF(nn.Module):
    """Dictionary of `n_components` spectra: `fit` or `fit_batches` learns it, `forward` gives activations for it.

    Args:
        n_components: columns of the dictionary.
        loss: "frobenius" or "kl" (generalised Kullback-Leibler divergence); formulas in the module's docstring.
        sparsity: weight of sum(H); L2I's authors give 0.8 with the Frobenius loss on log1p magnitudes.
        bins: number of frequencies, the rows of the data.
        seed: of the random start.
    Attributes:
        dictionary: (freq, components), columns of unit L2 norm; random until fitted.
        config: the constructor's arguments, for a bundle.
    Shape:
        magnitude (batch, freq, time) -> activations (batch, components, time).
    Raises:
        ValueError: for fewer than one component or bin, negative sparsity or an unknown loss.

    >>> nmf = NMF(n_components=2, bins=4)
    >>> losses = nmf.fit(torch.rand(4, 50), iterations=20)
    >>> len(losses), losses[-1] < losses[0], nmf(torch.rand(3, 4, 7)).shape
    (20, True, torch.Size([3, 2, 7]))
    """

    dictionary: Tensor

    def __init__(
        self, n_components: int = 100, loss: Loss = "frobenius", sparsity: float = 0.0, bins: int = 513, seed: int = 0
    ):
        super().__init__()
        if n_components < 1 or bins < 1:
            raise ValueError(f"n_components is {n_components}, bins {bins}; a dictionary needs at least one of each")
        if not 0 <= sparsity < float("inf"):
            raise ValueError(f"sparsity is {sparsity}; it weights a penalty and must be 0 or a positive number")
        if loss not in get_args(Loss):
            raise ValueError(f"loss is {loss!r}; choose one of {', '.join(map(repr, get_args(Loss)))}")
        self.config: dict[str, Any] = {
            "n_components": n_components,
            "loss": loss,
            "sparsity": sparsity,
            "bins": bins,
            "seed": seed,
        }
        self._updates = UPDATES[loss](sparsity)
        start = torch.rand(bins, n_components, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("dictionary", functional.normalize(start, dim=0))

    @torch.no_grad()
    def fit(
        self,
        data: Tensor,
        iterations: int = 100,
        tolerance: float = 0.0,
        start: tuple[Tensor, Tensor] | None = None,
        sweeps: int = 1,
    ) -> list[float]:
        """Learns the dictionary from all frames at once, beginning at the current one (random at first).

        An iteration updates the dictionary, then the activations. Without sparsity and with one sweep it equals one of
        scikit-learn's `NMF` (solver "cd" without shuffling, or "mu"), up to the scale shared by a column and its row.

        Args:
            data: (freq, frames) or (batch, freq, time), non-negative, on any device.
            iterations: largest number of iterations.
            tolerance: stops when an iteration lowers the loss by at most this share of the loss; 0: never stops early.
            start: dictionary (freq, components) and activations (components, frames) instead of the random ones; the
                dictionary's columns are brought to unit norm and the activations scaled to match.
            sweeps: updates of the activations (and, with "frobenius", of the dictionary) in each iteration.
        Returns:
            The objective after each iteration, divided by freq x frames.
        Raises:
            ValueError: if data are negative, not finite or have another number of bins, or the start does not fit.
        """
        frames = self._frames(data)
        pairs = self._start(frames, start)
        statistics = self._sweep(pairs, 0)[1]
        losses: list[Tensor] = []
        for _ in range(iterations):
            self.dictionary, scale = self._updates.learn(self.dictionary, statistics, sweeps)
            for _, activations in pairs:
                activations.mul_(scale)
            loss, statistics = self._sweep(pairs, sweeps)
            losses.append(loss / frames.numel())
            # Reading a loss waits for the device, so it is read only where a tolerance is set.
            if tolerance and len(losses) > 1 and bool(losses[-2] - losses[-1] <= tolerance * losses[-2]):
                break
        return torch.stack(losses).tolist() if losses else []

    @torch.no_grad()
    def fit_batches(
        self, batches: Callable[[], Iterable[Tensor]], epochs: int = 10, forgetting: float = 0.7, sweeps: int = 20
    ) -> list[float]:
        """Learns the dictionary from batches seen one at a time, for data that do not fit in memory.

        Mairal et al. (2010), https://arxiv.org/abs/0908.0050; Lefevre, Bach & Fevotte (2011),
        https://arxiv.org/abs/1106.4198. A batch's activations for the current dictionary enter the sums from which
        the dictionary is updated; earlier sums fade. The dictionary starts from a fit of the first batch alone.

        Args:
            batches: function that returns the batches of one epoch, each as `fit`'s data; called once per epoch.
            epochs: passes over the batches.
            forgetting: factor on the earlier sums at each batch, in (0, 1].
            sweeps: updates of a batch's activations.
        Returns:
            For each epoch the objective divided by freq x frames; each batch's is computed just before the batch
            changes the dictionary.
        Raises:
            ValueError: as `fit`; if there is no batch; if `forgetting` is outside (0, 1].
        """
        if not 0 < forgetting <= 1:
            raise ValueError(f"forgetting is {forgetting}; the factor on earlier batches must be above 0, at most 1")
        sums: Statistics | None = None
        losses: list[float] = []
        for _ in range(epochs):
            seen: list[tuple[Tensor, int]] = []
            for batch in batches():
                frames = self._frames(batch)
                if sums is None:
                    self.fit(frames, sweeps)
                pairs = [(part, self._updates.start(part, self.dictionary)) for part in self._blocks(frames)]
                loss, new = self._sweep(pairs, sweeps)
                sums = new if sums is None else (forgetting * sums[0] + new[0], forgetting * sums[1] + new[1])
                self.dictionary, scale = self._updates.learn(self.dictionary, sums, 1)
                sums = self._updates.rescale(sums, scale)
                seen.append((loss, frames.numel()))
            if not seen:
                raise ValueError("batches() gave no batch; it must return one epoch's batches at each call")
            losses.append(float(torch.stack([loss for loss, _ in seen]).sum()) / sum(count for _, count in seen))
        return losses

    @torch.no_grad()
    def activations(self, magnitude: Tensor, iterations: int = 100) -> Tensor:
        """Activations (batch, components, time) of (batch, freq, time) for the fixed dictionary.

        The objective is convex in the activations; those of a frame do not depend on other frames.

        Raises:
            ValueError: if magnitudes are negative or not finite, or have other axes or another number of bins.
        """
        if magnitude.ndim != 3:
            raise ValueError(f"magnitude has shape {tuple(magnitude.shape)}; it must be (batch, freq, time)")
        parts = []
        for part in self._blocks(self._frames(magnitude)):
            parts.append(self._updates.start(part, self.dictionary))
            self._updates.encode(part, self.dictionary, parts[-1], iterations)
        batch, _, time = magnitude.shape
        return torch.cat(parts, 1).view(-1, batch, time).transpose(0, 1).contiguous()

    def forward(self, magnitude: Tensor, iterations: int = 100) -> Tensor:
        """See `activations`."""
        return self.activations(magnitude, iterations)

    def _frames(self, data: Tensor) -> Tensor:
        """Checked data as (freq, frames), on the dictionary's device."""
        bins = len(self.dictionary)
        if data.ndim not in (2, 3) or data.shape[-2] != bins or not data.numel():
            raise ValueError(f"data have shape {tuple(data.shape)}; expected ({bins}, frames) or (batch, {bins}, time)")
        if data.is_complex():
            raise ValueError("data are complex; factorise magnitudes, e.g. log_magnitude(stft)")
        flat = data if data.ndim == 2 else data.transpose(0, 1).flatten(1)
        flat = flat.to(self.dictionary)
        low, high = torch.stack(flat.aminmax()).tolist()
        if not (low >= 0 and high < float("inf")):
            raise ValueError(f"data run from {low:g} to {high:g}; magnitudes are 0 or more, and finite")
        return flat

    def _blocks(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Frames in blocks whose activations fit into a CPU's cache; on a GPU, one block of all frames."""
        columns = frames.shape[1] if frames.is_cuda else max(BLOCK // self.dictionary.shape[1], 64)
        return frames.split(columns, 1)

    def _start(self, frames: Tensor, start: tuple[Tensor, Tensor] | None) -> list[tuple[Tensor, Tensor]]:
        """Blocks of frames with their first activations; a given start's dictionary becomes the current one."""
        shapes = tuple(self.dictionary.shape), (self.dictionary.shape[1], frames.shape[1])
        if start is None:
            # Drawn on the CPU, so that the start is the same on every device.
            generator = torch.Generator().manual_seed(self.config["seed"] + 1)
            activations = torch.rand(shapes[1], generator=generator).to(frames)
            activations *= frames.mean() / (self.dictionary.mean(0).sum() / 2)
        else:
            if (tuple(start[0].shape), tuple(start[1].shape)) != shapes:
                raise ValueError(f"start has shapes {[tuple(each.shape) for each in start]}; expected {list(shapes)}")
            if not all(bool((each >= 0).all()) for each in start):
                raise ValueError("start has negative or NaN entries; both factors must be non-negative")
            given, activations = (each.to(frames) for each in start)
            self.dictionary, scale = unit_columns(given, self.dictionary)
            activations = activations * scale
        blocks = self._blocks(frames)
        return list(zip(blocks, (part.clone() for part in activations.split(blocks[0].shape[1], 1))))

    def _sweep(self, pairs: list[tuple[Tensor, Tensor]], sweeps: int) -> tuple[Tensor, Statistics]:
        """Updates each block's activations and adds up the objective and the dictionary's statistics."""
        total, sums = torch.zeros((), dtype=torch.float64, device=self.dictionary.device), None
        for frames, activations in pairs:
            if sweeps:
                self._updates.encode(frames, self.dictionary, activations, sweeps)
            loss, new = self._updates.judge(frames, self.dictionary, activations)
            total += loss
            sums = new if sums is None else (sums[0].add_(new[0]), sums[1].add_(new[1]))
        if sums is None:
            raise RuntimeError("no block of frames")
        return total, sums


def spectral_centroids(dictionary: Tensor, sample_rate: int) -> Tensor:
    """Mean frequency of each column in Hz, (components,), weighted by its entries; 0 for a silent one.

    >>> spectral_centroids(torch.eye(3), 16000)
    tensor([   0., 4000., 8000.])
    """
    hertz = torch.linspace(0, sample_rate / 2, len(dictionary)).to(dictionary)
    return (hertz @ dictionary) / dictionary.sum(0).clamp(min=FLOOR)
