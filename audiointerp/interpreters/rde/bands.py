"""Rate-distortion explanation of a note: the fewest magnitudes and phases of bands that preserve its classification."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from audiointerp.classifiers.instrument import check_bands
from audiointerp.contracts import (
    Classifier,
    Interpretation,
    Interpreter,
    Target,
    as_waveform,
    frozen,
    resolve_target,
)
from audiointerp.interpreters.attribution.base import progress
from audiointerp.interpreters.rde.band_problem import (
    NoteProblem,
    check_grouping,
    composites,
    draws_nothing,
)
from audiointerp.interpreters.rde.fillers import Filler, Zeros
from audiointerp.interpreters.rde.problem import Game, Outputs, Solution
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed
from audiointerp.sound.files import normalize_peak

NUMBERS = ("empty", "end", "rate", "saturated", "penalty")

__all__ = ["BandRDE", "listening_set"]


class BandRDE(Interpreter):
    """The smallest set of magnitudes and phases of log-frequency bands that preserves the target's logit, as a sound.

    Heiss et al. (2020), https://arxiv.org/abs/2007.00758, equation 1, after MacDonald et al. (2019),
    https://arxiv.org/abs/1905.11092: minimises 1/2 E[(Phi(x) - Phi(z))^2] + lambda mean(s) over a mask s of the
    features x, z = x s + G (1 - s), where the filler G replaces the removed parts. Ours, not theirs: the mean of s, and
    lambda as a share of the distortion with nothing kept, since logits have no fixed scale; the paper has the sum of s
    and a fixed lambda.

    In the interpretation each band has theta times its level and the phase of the note; the residual is the rest of the
    note. There is no mask on the STFT grid. `details`: "theta" (batch, 2, band), the importance in [0, 1] of each
    magnitude and phase: the probability that it is kept or, in the deletion game, deleted. Each (batch,): "empty", the
    distortion with nothing kept, "end", the distortion with the rounded mask, "rate", the mean of theta, "saturated",
    the share of theta outside [0.1, 0.9], and "penalty", lambda. With matching pursuit also "order" (batch, parts): the
    parts in the order in which they were chosen, padded with -1. For silence all details are 0.

    Args:
        classifier: of log-frequency bands, such as InstrumentClassifier; never changed.
        filler: replaces the parts that are not kept; None: `Zeros()`.
        solver: of the minimisation; None: `Concrete()`. Its seed is not used.
        group: number of neighbouring bands that are kept or replaced together.
        fill_fraction: share of the removed parts that the filler fills; the others are set to 0.
        outputs: "target", the target's logit (the mean of several classes' logits), or "all" logits, whose squared
            changes are summed in the distortion.
        seed: of all draws; the same for each row.
    Raises:
        ValueError: if the classifier does not read log-frequency bands, for a group without bands, a fraction outside
            [0, 1] or unknown outputs.
    """

    from_features = True  # `passes` counts calls of `classify` only: a note's features are computed once

    def __init__(
        self,
        classifier: Classifier,
        filler: Filler | None = None,
        solver: Concrete | Relaxed | MatchingPursuit | None = None,
        group: int = 1,
        fill_fraction: float = 1.0,
        outputs: Outputs = "target",
        seed: int = 0,
    ):
        super().__init__(classifier)
        self.bands = check_bands(classifier).bands
        self.group, self.fill_fraction = check_grouping(group, self.bands, fill_fraction)
        if outputs not in get_args(Outputs):
            raise ValueError(f"outputs are {outputs!r}; choose 'target' or 'all'")
        self.filler = Zeros() if filler is None else filler
        self.solver = Concrete() if solver is None else solver
        self.outputs: Outputs = outputs
        self.seed = seed

    @property
    def passes(self) -> int:
        """Passes of the classifier for a note (a backward pass counts as two more)."""
        return self.solver.passes(2 * -(-self.bands // self.group), draws_nothing(self.filler, self.fill_fraction))

    @torch.no_grad()
    def interpret(self, waveform: Tensor, target: Target = None, *, stem: Tensor | None = None) -> Interpretation:
        """Explains the classifier's decision on each row of (batch, samples), see `contracts.Interpreter`.

        Raises:
            ValueError: if the waveform is not (batch, samples), is empty, or has NaN or infinite samples.
        """
        waveform = as_waveform(waveform, self.classifier, target)
        scaled, gain = normalize_peak(waveform)
        with ExitStack() as stack:
            classifier = stack.enter_context(frozen(self.classifier))
            stack.enter_context(frozen(self.filler))
            update = stack.enter_context(progress(len(waveform) * self.passes, type(self).__name__))
            features = classifier.features(scaled)
            prediction = classifier.classify(features)
            asked = resolve_target(target, prediction, classifier.multilabel, labels=classifier.labels)
            problems = [
                self.problem(features[row : row + 1], asked[row : row + 1]) if bool(features[row].any()) else None
                for row in range(len(features))
            ]
            solver = replace(self.solver, seed=self.seed)
            solved = [None if each is None else solver.solve(each, update) for each in problems]
        details = self._details(problems, solved, features)
        keep = torch.stack([details["theta"][:, 0], torch.ones_like(features[:, 0])], 1)
        kept = check_bands(classifier).log_frequency.masked_waveform(
            scaled, keep, torch.Generator().manual_seed(self.seed)
        )
        kept = kept / gain[:, None]
        return Interpretation(
            waveform=kept,
            residual=waveform - kept,
            target=asked,
            prediction=prediction,
            input_gain=gain,
            sample_rate=classifier.sample_rate,
            details=details,
            labels=tuple(classifier.labels),
            explained=waveform,
        )

    def problem(self, features: Tensor, target: Tensor) -> NoteProblem:
        """The problem to solve for notes (notes, 3, band) that share one mask; target (notes, classes) bool."""
        asked = target if self.outputs == "target" else None
        return NoteProblem(self.classifier, features, self.filler, asked, self.group, self.fill_fraction)

    def _details(
        self, problems: list[NoteProblem | None], solved: list[Solution | None], features: Tensor
    ) -> dict[str, Tensor]:
        silent = features.new_zeros(2, self.bands)
        theta = [
            silent if problem is None or solution is None else problem.by_band(solution.chosen[None])[0]
            for problem, solution in zip(problems, solved)
        ]
        details = {"theta": torch.stack([each.to(features) for each in theta])}
        for name in NUMBERS:
            details[name] = torch.tensor([0.0 if each is None else float(getattr(each, name)) for each in solved])
        orders = [torch.empty(0).long() if each is None else each.order for each in solved]
        if any(len(each) for each in orders):
            parts = 2 * -(-self.bands // self.group)
            details["order"] = torch.stack(
                [torch.nn.functional.pad(each.cpu(), (0, parts - len(each)), value=-1) for each in orders]
            )
        return details


@torch.no_grad()
def listening_set(
    classifier: Classifier,
    waveform: Tensor,
    theta: Tensor,
    filler: Filler | None = None,
    seed: int = 0,
    game: Game = "sufficient",
) -> dict[str, Tensor]:
    """Five sounds of each note that make theta audible, each (batch, samples), at the level of the input.

    "original"; "kept", each band at theta times its level with the note's phase; "kept_random_phase", the same with
    random phases where theta drops the phase: since phases over a whole clip encode position in time, this smears the
    attack; "removed", original minus kept; "inpainted", the note with the bands of the composite, in which the filler
    replaces dropped parts. The solver measured the features of that composite, and the features of this sound differ
    from them: a clip of 4 s does not resolve the bands, so that neighbouring bands overlap, and the phases, which are
    relative to the onset, differ.

    Args:
        classifier: of log-frequency bands.
        waveform: (batch, samples).
        theta: (batch, 2, band) in [0, 1], of `BandRDE`'s details.
        filler: for "inpainted"; None: `Zeros()`.
        seed: of the filler's draws and of the random phases; the same for each row.
        game: the game with which theta was found; in the deletion game the filler replaces the important parts.
    Raises:
        ValueError: if the classifier does not read log-frequency bands, or theta has another shape.
    """
    shape = (len(waveform), 2, check_bands(classifier).bands)
    if theta.shape != shape:
        raise ValueError(f"theta has shape {tuple(theta.shape)}; expected {shape}: magnitudes and phases of each note")
    bands, (scaled, gain) = check_bands(classifier).log_frequency, normalize_peak(waveform)
    generators = [torch.Generator().manual_seed(seed) for _ in waveform]
    filler = Zeros() if filler is None else filler
    with frozen(classifier), frozen(filler):
        stays = theta if game == "sufficient" else 1 - theta
        filled = composites(classifier.features(scaled), stays, filler, seed)
    with_phase = torch.stack([theta[:, 0], torch.ones_like(theta[:, 1])], 1)
    kept = bands.masked_waveform(scaled, with_phase, torch.Generator())
    random_phase = [
        bands.masked_waveform(each, part, generator)
        for each, part, generator in zip(scaled.split(1), theta.split(1), generators)
    ]
    sounds = {
        "kept": kept,
        "kept_random_phase": torch.cat(random_phase),
        "removed": scaled - kept,
        "inpainted": bands.morphed_waveform(scaled, filled),
    }
    return {"original": waveform} | {name: each / gain[:, None] for name, each in sounds.items()}
