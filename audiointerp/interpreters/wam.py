"""WAM: gradients with respect to the waveform's wavelet coefficients; the explanation is made of coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

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
from audiointerp.interpreters.attribution.gradients import KNEES, knee_of, log_spaced
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.wavelets import WaveletTransform, default_levels

Average = Literal["smooth", "integrated"]
Within = Literal["level", "clip"]

__all__ = ["WAM", "split_levels"]


class WAM(Interpreter):
    """Keeps the wavelet coefficients of the waveform that matter for the target's logit y; they are the explanation.

    Kasmi et al. (2025), "One wave to explain them all", https://arxiv.org/abs/2410.01482. The relevance of a
    coefficient c is |mean of dy/dc over noisy versions of the waveform| ("smooth"), or c times the integral of dy/dc
    along the path from silence to the clip ("integrated"), whose sum is y(clip) - y(silence). Coefficients of at least
    a share of the largest relevance are kept, and their inverse transform is the interpretation: no spectrogram is
    involved, so that there is no mask on the STFT grid. The residual is the rest of the waveform.

    Ours, not theirs: the classifier's own front end; zero padding, for which the inverse of all coefficients is the
    clip and the gradient of orthogonal wavelets is the transform of the waveform's gradient; magnitudes instead of
    signed maxima; steps of equal ratio on the path, as for `IntegratedGradients`; no sound is brought to another level.

    `details`: "relevance" (batch, coefficients), not negative for "smooth", and "kept" (batch, coefficients), in
    [0, 1], of all levels one after the other, coarsest first; "lengths" (batch, levels + 1), by which `split_levels`
    divides them; for "integrated", "completeness" (batch,): |sum of relevance - (y(clip) - y(silence))| over
    |y(clip) - y(silence)|.

    Args:
        classifier: the classifier to explain, never changed; its gradients must reach the waveform.
        wavelet: a discrete wavelet of PyWavelets. Haar's rectangles sound rough.
        levels: of the transform; None: until the coarsest band ends below 100 Hz.
        average: "integrated", or "smooth" as in the authors' recommended variant (with `threshold` 0.2 and `within`
            "level").
        n_samples: noisy versions, or points on the path.
        noise: standard deviation of the noise, as a share of the waveform's range.
        threshold: coefficients of at least this share of the largest relevance are kept whole, see `kept`.
        within: the largest relevance is that of the coefficient's "level", as in the authors' code, so that every level
            keeps something, or that of the whole "clip".
        max_batch: versions that the classifier processes at once.
        seed: of the noise; the same for each clip.
    Raises:
        ValueError: for an unknown wavelet, another setting outside its range, or a classifier without gradients.
    """

    def __init__(
        self,
        classifier: Classifier,
        wavelet: str = "db4",
        levels: int | None = None,
        average: Average = "integrated",
        n_samples: int = 25,
        noise: float = 0.001,
        threshold: float = 0.02,
        within: Within = "clip",
        max_batch: int = 8,
        seed: int = 0,
    ):
        super().__init__(classifier)
        check_gradient(classifier, type(self).__name__)
        self.transform = WaveletTransform(wavelet, default_levels(classifier.sample_rate) if levels is None else levels)
        if average not in get_args(Average) or within not in get_args(Within):
            raise ValueError(
                f"average is {average!r}, within {within!r}; choose 'smooth' or 'integrated', 'level' or 'clip'"
            )
        if n_samples < 1 or max_batch < 1:
            raise ValueError(f"n_samples is {n_samples}, max_batch {max_batch}; give 1 or more each")
        if not 0 <= noise < math.inf or not 0 <= threshold < 1:
            raise ValueError(f"noise is {noise}, threshold {threshold}; give 0 or more, and a share from 0 to below 1")
        self.average: Average = average
        self.within: Within = within
        self.n_samples, self.noise, self.threshold = n_samples, noise, threshold
        self.max_batch, self.seed = max_batch, seed

    @property
    def passes(self) -> int:
        """Three per sample; for "integrated" also one for silence, one for the clip and one per candidate of a knee."""
        return 3 * self.n_samples + (0 if self.average == "smooth" else 2 + len(KNEES))

    @torch.no_grad()
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Explains the classifier's decision on each row of (batch, samples), see `contracts.Interpreter`.

        Raises:
            ValueError: if the waveform is not (batch, samples), is empty, or has NaN or infinite samples; if no
                gradient reaches it, or one is not finite.
        """
        waveform = as_waveform(waveform, self.classifier, target)
        scaled, gain = normalize_peak(waveform)
        samples = waveform.shape[1]
        with frozen(self.classifier) as classifier, progress(len(waveform) * self.passes, "WAM") as update:
            prediction = classifier(scaled)
            asked = resolve_target(target, prediction, classifier.multilabel, labels=classifier.labels)
            relevance, details = self._relevance(_Logits(self, asked, update), scaled)
        audible = (scaled != 0).any(1)
        relevance = torch.where(audible[:, None], relevance, 0.0)
        details = {name: torch.where(audible, each, 0.0) for name, each in details.items()}
        if not bool(torch.isfinite(relevance).all()):
            raise ValueError(
                f"WAM got NaN or infinite gradients from {type(classifier).__name__}; does its front end take a root "
                "or logarithm of 0? Add a small number to its argument"
            )
        lengths = self.transform.lengths(samples)
        kept = self.kept(relevance, lengths)
        coefficients = [level * keep for level, keep in zip(self.transform(scaled), kept.split(lengths, 1))]
        sound = self.transform.inverse(coefficients, samples) / gain[:, None]
        return Interpretation(
            waveform=sound,
            residual=waveform - sound,
            target=asked,
            prediction=prediction,
            input_gain=gain,
            sample_rate=classifier.sample_rate,
            details={
                "relevance": relevance,
                "kept": kept,
                "lengths": torch.tensor(lengths, device=waveform.device).expand(len(waveform), -1),
                **details,
            },
            labels=tuple(classifier.labels),
            explained=waveform,
        )

    def scaleogram(self, made: Interpretation) -> list[tuple[np.ndarray, float, float, float, float]]:
        """|relevance| of each level, coarsest first, for `results.figures.plot_interpretation`; of the first row.

        Returns:
            Values, start and step in seconds, lowest and highest frequency in Hz, of each level.
        """
        rate = self.classifier.sample_rate
        levels = split_levels(made.details["relevance"][0].abs(), made.details["lengths"][0])
        places = zip(self.transform.times(rate), self.transform.bands(rate))
        return [(level.cpu().numpy(), *time, *band) for level, (time, band) in zip(levels, places)]

    def kept(self, relevance: Tensor, lengths: list[int]) -> Tensor:
        """The share in which each coefficient is kept, (batch, coefficients).

        1 for a relevance of at least `threshold` times the largest, 0 below half of that, linear in between: rounding
        errors must not switch coefficients.

        Args:
            relevance: (batch, coefficients) of all levels; negative ones are never kept.
            lengths: of the levels.
        """
        groups = lengths if self.within == "level" else [relevance.shape[1]]
        return torch.cat([_above(each, self.threshold) for each in relevance.split(groups, 1)], 1)

    def _relevance(self, logits: _Logits, scaled: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Relevances (batch, coefficients) and further details."""
        if self.average == "smooth":
            spread = self.noise * (scaled.amax(1) - scaled.amin(1))
            generator = torch.Generator().manual_seed(self.seed)
            samples = scaled.shape[1]
            # One draw at a time, so that a version's noise does not depend on `max_batch` or on other clips.
            noisy = (
                scaled + spread[:, None] * torch.randn(samples, generator=generator).to(scaled)
                for _ in range(self.n_samples)
            )
            return logits.gradient(noisy, [1 / self.n_samples] * self.n_samples).abs(), {}
        silent, whole, *early = (logits(share * scaled) for share in (0.0, 1.0, *KNEES))
        change = whole - silent
        knees = knee_of(silent, whole, torch.stack(early, 1))
        scales, weights = (each.to(scaled) for each in log_spaced(self.n_samples, knees))
        path = (scales[:, step, None] * scaled for step in range(self.n_samples))
        total = logits.gradient(path, [weights[:, step, None] for step in range(self.n_samples)])
        relevance = total * torch.cat(self.transform(scaled), 1)
        missed = (relevance.double().sum(1) - change).abs().float()
        return relevance, {"completeness": missed / change.abs().clamp(min=1e-6)}


class _Logits:
    """The mean target logit of waveforms, and its gradient with respect to their wavelet coefficients."""

    def __init__(self, method: WAM, target: Tensor, update: Callable[[int], object]):
        self.method, self.target, self.update = method, target, update

    def __call__(self, waveform: Tensor) -> Tensor:
        """(rows,), without gradients."""
        made = [self._logit(waveform[some], some) for some in self._batches(len(waveform))]
        return torch.cat(made)

    def gradient(self, versions: Any, weights: list[Any]) -> Tensor:
        """Weighted sum of the gradients at several versions of the whole batch, (rows, coefficients).

        Args:
            versions: waveforms (rows, samples), one after the other.
            weights: of the versions, each a number or (rows, 1).
        """
        rows = len(self.target)
        ahead = max(1, self.method.max_batch // rows)  # versions whose gradients are computed together
        total: Tensor | float = 0.0
        pending: list[Tensor] = []
        done = 0
        for number, version in enumerate(versions, 1):
            pending.append(version)
            if len(pending) < ahead and number < len(weights):
                continue
            stacked = torch.cat(pending)
            owner = torch.arange(rows, device=stacked.device).repeat(len(pending))
            made = torch.cat([self._gradient(stacked[some], owner[some]) for some in self._batches(len(stacked))])
            for each in made.split(rows):
                total = total + weights[done] * each
                done += 1
            pending = []
        assert isinstance(total, Tensor)
        return total

    def _gradient(self, waveform: Tensor, rows: Tensor) -> Tensor:
        """Gradient of each version's own logit with respect to its coefficients, (n, coefficients)."""
        transform, samples = self.method.transform, waveform.shape[1]
        lengths = transform.lengths(samples)
        with torch.enable_grad():
            flat = torch.cat(transform(waveform), 1).detach().requires_grad_()
            logit = self._logit(transform.inverse(flat.split(lengths, 1), samples), rows)
            check_gradient(self.method.classifier, type(self.method).__name__, logit)
            made = torch.autograd.grad(logit.sum(), flat)[0]
        self.update(2 * len(rows))
        return made

    def _logit(self, waveform: Tensor, rows: Tensor) -> Tensor:
        self.update(len(rows))
        return asked_logit(self.method.classifier(waveform), self.target[rows])

    def _batches(self, count: int) -> tuple[Tensor, ...]:
        return torch.arange(count, device=self.target.device).split(self.method.max_batch)


def split_levels(values: Tensor, lengths: Tensor | list[int]) -> list[Tensor]:
    """Values of all coefficients (coefficients,) by level, coarsest first.

    >>> [each.tolist() for each in split_levels(torch.arange(5), [2, 2, 1])]
    [[0, 1], [2, 3], [4]]
    """
    return list(values.split([int(each) for each in lengths]))


def _above(relevance: Tensor, threshold: float) -> Tensor:
    wanted = threshold * relevance.amax(1, keepdim=True)
    share = (2 * relevance / wanted.clamp(min=torch.finfo(relevance.dtype).tiny) - 1).clamp(0, 1)
    return torch.where(relevance > 0, share, 0.0)
