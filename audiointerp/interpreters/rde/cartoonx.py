"""CartoonX for sounds: the fewest wavelet coefficients of the waveform that preserve the target's logit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from audiointerp.contracts import (
    Classifier,
    Interpretation,
    Interpreter,
    Target,
    as_waveform,
    check_gradient,
    frozen,
    resolve_target,
)
from audiointerp.interpreters.attribution.base import asked_logit, progress
from audiointerp.interpreters.rde.problem import Problem, Solution
from audiointerp.interpreters.rde.solvers import Relaxed, Solver
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.wavelets import WaveletTransform, default_levels

NUMBERS = ("empty", "end", "rate", "saturated", "penalty")

__all__ = ["CartoonX", "WaveletProblem"]


class CartoonX(Interpreter):
    """The smallest set of wavelet coefficients that preserves the target's logit when the others are replaced.

    Kolek et al. (2022), "Cartoon explanations of image classifiers", https://arxiv.org/abs/2110.03485, for waveforms:
    minimises 1/2 E (y(x) - y(z))^2 + lambda mean(s) over s in [0, 1], where z is the inverse transform of c s +
    noise (1 - s), c the coefficients of x. The noise of a level has the mean and deviation of its own coefficients. See
    `audiointerp.interpreters.rde` for the objective and its solvers. Ours, not theirs: the logit instead of the
    probability; coefficients in blocks of time (each coefficient by itself with `n_segments` None), so that few numbers
    are decided by a few hundred passes.

    The interpretation is the inverse transform of c s, s as the solver found it, or 0 everywhere if no block has more
    than 0.5; the residual is the rest. There is no mask on the STFT grid. `details`: "theta" (batch, blocks), s of the
    blocks, from segment to segment of the coarsest level, then of the next finer one (in the deletion game, 1 - s); and
    each (batch,) "empty", "end", "rate", "saturated" and "penalty", see `problem.Solution`. For silence all details
    are 0.

    Args:
        classifier: the classifier to explain, never changed.
        wavelet: a discrete wavelet of PyWavelets; theirs is db3.
        levels: of the transform; None: until the coarsest band ends below 100 Hz.
        n_segments: blocks of each level along time; fewer where a level has fewer coefficients. None: each coefficient.
        filler: "noise", or "silence".
        solver: of the minimisation; None: `Relaxed(steps=100, lr=0.05, samples=4)`. Its seed is not used.
        max_batch: versions that the classifier processes at once.
        seed: of all draws; the same for each clip.
    Raises:
        ValueError: for an unknown wavelet or filler, another setting outside its range, or a classifier without the
            gradients that the solver needs.
    """

    def __init__(
        self,
        classifier: Classifier,
        wavelet: str = "db3",
        levels: int | None = None,
        n_segments: int | None = 20,
        filler: Literal["noise", "silence"] = "noise",
        solver: Solver | None = None,
        max_batch: int = 8,
        seed: int = 0,
    ):
        super().__init__(classifier)
        self.transform = WaveletTransform(wavelet, default_levels(classifier.sample_rate) if levels is None else levels)
        self.solver: Solver = Relaxed(steps=100, lr=0.05, samples=4) if solver is None else solver
        if self.solver.needs_gradient:
            check_gradient(classifier, f"CartoonX with the solver {type(self.solver).__name__}")
        if (n_segments is not None and n_segments < 1) or max_batch < 1:
            raise ValueError(f"n_segments is {n_segments}, max_batch {max_batch}; give 1 or more each")
        if filler not in ("noise", "silence"):
            raise ValueError(f"filler is {filler!r}; choose 'noise' or 'silence'")
        self.n_segments, self.filler, self.max_batch, self.seed = n_segments, filler, max_batch, seed

    @property
    def passes(self) -> int:
        """The solver's largest number of passes for a clip of 5 s, and one for the clip; a pursuit may stop earlier."""
        count = int(self._blocks(5 * self.classifier.sample_rate).max()) + 1
        return 1 + self.solver.passes(count, self.filler == "silence")

    @torch.no_grad()
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Explains the classifier's decision on each row of (batch, samples), see `contracts.Interpreter`.

        Raises:
            ValueError: if the waveform is not (batch, samples), is empty, or has NaN or infinite samples; if the logits
                or their gradients are not finite.
        """
        waveform = as_waveform(waveform, self.classifier, target)
        scaled, gain = normalize_peak(waveform)
        blocks = self._blocks(waveform.shape[1]).to(waveform.device)
        solver = replace(self.solver, seed=self.seed)  # pyright: ignore[reportArgumentType]
        with frozen(self.classifier) as classifier, progress(len(waveform) * self.passes, "CartoonX") as update:
            prediction = classifier(scaled)
            asked = resolve_target(target, prediction, classifier.multilabel, labels=classifier.labels)
            solved: list[Solution | None] = []
            for row, goal in zip(scaled.split(1), asked.split(1)):
                problem = WaveletProblem(self, row, goal, blocks) if bool(row.any()) else None
                solved.append(None if problem is None else solver.solve(problem, update))
        nothing = torch.zeros(int(blocks.max()) + 1, device=waveform.device)
        theta = torch.stack([nothing if each is None else each.chosen for each in solved])
        shown = torch.where((theta > 0.5).any(1, keepdim=True), theta, 0.0)
        lengths = self.transform.lengths(waveform.shape[1])
        kept = torch.cat(self.transform(scaled), 1) * shown[:, blocks]
        sound = self.transform.inverse(kept.split(lengths, 1), waveform.shape[1]) / gain[:, None]
        numbers = {
            name: torch.tensor([0.0 if each is None else float(getattr(each, name)) for each in solved])
            for name in NUMBERS
        }
        return Interpretation(
            waveform=sound,
            residual=waveform - sound,
            target=asked,
            prediction=prediction,
            input_gain=gain,
            sample_rate=classifier.sample_rate,
            details={"theta": theta, **numbers},
            labels=tuple(classifier.labels),
            explained=waveform,
        )

    def scaleogram(self, made: Interpretation) -> list[tuple[Any, float, float, float, float]]:
        """Theta of each level's coefficients, for `results.figures.plot_interpretation`; of the first row."""
        samples, rate = made.waveform.shape[1], made.sample_rate
        theta = made.details["theta"][0].cpu()[self._blocks(samples)]
        levels = theta.split(self.transform.lengths(samples))
        places = zip(self.transform.times(rate), self.transform.bands(rate))
        return [(np.asarray(level), *time, *band) for level, (time, band) in zip(levels, places)]

    def _blocks(self, samples: int) -> Tensor:
        """The block of each coefficient of all levels, (coefficients,), numbered level by level."""
        lengths = self.transform.lengths(samples)
        if self.n_segments is None:
            return torch.arange(sum(lengths))
        counts = [min(self.n_segments, length) for length in lengths]
        starts = [sum(counts[:level]) for level in range(len(counts))]
        return torch.cat(
            [start + torch.arange(length) * count // length for start, count, length in zip(starts, counts, lengths)]
        )


class WaveletProblem(Problem):
    """Blocks of one clip's wavelet coefficients, kept or replaced: coefficients c s + filler (1 - s).

    Args:
        method: for its classifier, transform, filler and `max_batch`.
        waveform: (1, samples), at peak 1.
        target: (1, classes) bool.
        blocks: the block of each coefficient, (coefficients,).
    """

    def __init__(self, method: CartoonX, waveform: Tensor, target: Tensor, blocks: Tensor):
        self.method, self.target, self.blocks = method, target, blocks
        self.samples, levels = waveform.shape[1], method.transform(waveform)
        self.coefficients = torch.cat(levels, 1)
        self.mean, self.spread = (
            torch.cat([each.expand_as(level) for each, level in zip(values, levels)], 1)
            for values in (
                [level.mean(1, keepdim=True) for level in levels],
                [level.std(1, keepdim=True, correction=0) for level in levels],
            )
        )
        self.count, self.device = int(blocks.max()) + 1, waveform.device
        self.deterministic, self.max_batch = method.filler == "silence", method.max_batch
        self.whole = self._logit(waveform)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n fillers of all coefficients, (n, coefficients)."""
        shape = (n, self.coefficients.shape[1])
        if self.deterministic:
            return self.coefficients.new_zeros(shape)
        return self.mean + self.spread * torch.randn(shape, generator=generator).to(self.coefficients)

    def change(self, keep: Tensor, drawn: Tensor) -> Tensor:
        """Fall of the logit, (n, 1)."""
        share = keep[:, self.blocks]
        mixed = self.coefficients * share + drawn * (1 - share)
        lengths = self.method.transform.lengths(self.samples)
        return self.whole - self._logit(self.method.transform.inverse(mixed.split(lengths, 1), self.samples))

    def _logit(self, waveform: Tensor) -> Tensor:
        return asked_logit(self.method.classifier(waveform), self.target)[:, None]
