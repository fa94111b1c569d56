"""RDE for clips: the fewest parts that must be kept, with the other parts filled, so that the scores hardly change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from audiointerp.contracts import check_gradient
from audiointerp.interpreters.attribution.base import (
    Details,
    Score,
    ToMask,
    asked_logit,
    hear,
    noise_like,
    what_remains,
    without_denormals,
)
from audiointerp.interpreters.attribution.parts import OverParts
from audiointerp.interpreters.base import Scene
from audiointerp.interpreters.rde.problem import Outputs, Problem, Solution
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Solver
from audiointerp.sound.components import Components
from audiointerp.sound.files import normalize_peak

ClipFiller = Literal["silence", "noise_floor", "noise", "donor"]
GivenDonors = Tensor | Callable[[], Tensor]

__all__ = ["RDE", "ClipFiller", "ClipProblem"]


@dataclass(eq=False, repr=False)
class RDE(OverParts):
    """Rate-distortion explanation of a clip over parts of its STFT, such as tiles of a grid or NMF components.

    Heiss et al. (2020), https://arxiv.org/abs/2007.00758; see `audiointerp.interpreters.rde`. A removed part is filled
    with sound similar to the training clips, since the response to silent holes says little about the classifier. Ours,
    not theirs: parts of an STFT instead of bins of one spectrum of the whole clip.

    The mask is the share of each bin that the solution keeps (in the deletion game: removes); it is not thresholded at
    a quantile. If no part is chosen with more than 0.5, the mask is 0 and `details["all_zero"]` is true.

    `details` also has "theta" (batch, parts), the solver's `keep`; "order" (batch, parts), the parts that a pursuit
    picked, padded with -1; and each (batch,) "empty" and "end", the distortion with nothing kept and with the rounded
    solution, "rate", "saturated" and "penalty": see `problem.Solution`.

    Args:
        classifier, domain, max_batch: see `Attribution`.
        parts, tiles, n_components, dictionary, n_segments, margin: see `OverParts`.
        filler: replaces removed parts: "silence"; "noise_floor", the clip's steady background; "noise", with Gaussian
            magnitude of the clip's own mean and deviation in each frequency, and random phase; "donor", another clip.
        donors: (clips, samples) of other sounds, or a function without arguments that returns them, called at first
            use; brought to peak 1 and repeated or cut to the length of the clip. Copies of the clip are not used.
        fill_fraction: share of the removed parts that is filled, chosen anew in each draw; the others are silent.
        solver: by default `Concrete(steps=100, lr=0.2, samples=4)` for tiles, `MatchingPursuit()` for other parts.
        outputs: the distortion is that of the target's logit ("target"; the mean for several target classes), or of
            "all" logits.
        seed: of the solver (instead of its own) and of the NMF's start; the same for each clip.
    Shape:
        waveform (batch, samples) -> mask (batch, freq, time), in [0, 1], 1 = keep.
    Raises:
        ValueError: for a setting outside its range; when explaining, if the donors are not (clips, samples) or are all
            copies of the clip.
    """

    to_mask: ToMask = field(default_factory=lambda: _as_it_is, init=False)
    tiles: tuple[int, int] = (8, 8)
    n_components: int = 10
    filler: ClipFiller = "noise_floor"
    donors: GivenDonors | None = None
    fill_fraction: float = 1.0
    solver: Solver | None = None
    outputs: Outputs = "target"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        by_parts = Concrete(steps=100, lr=0.2, samples=4) if "tiles" in self.split.parts else MatchingPursuit()
        self.search: Solver = self.solver or by_parts
        if self.search.needs_gradient:
            check_gradient(self.classifier, f"RDE with the solver {type(self.search).__name__}")
        if self.filler not in get_args(ClipFiller):
            raise ValueError(f"filler is {self.filler!r}; choose from {', '.join(get_args(ClipFiller))}")
        if (self.filler == "donor") != (self.donors is not None):
            given = "given" if self.donors is not None else "missing"
            raise ValueError(
                f"filler is {self.filler!r}, donors are {given}; give donors with filler 'donor' and only then"
            )
        if not 0 < self.fill_fraction <= 1:
            raise ValueError(f"fill_fraction is {self.fill_fraction}; it is a share, above 0 and at most 1")
        if self.outputs not in get_args(Outputs):
            raise ValueError(f"outputs are {self.outputs!r}; choose 'target' or 'all'")
        if self.outputs == "all" and self.search.game == "deletion":
            raise ValueError("the deletion game brings the target's score down; outputs 'all' have no direction")
        if isinstance(self.donors, Tensor):
            self.donors = _checked(self.donors)

    @property
    def passes(self) -> int:
        """The solver's largest number of passes, and one for the clip; a pursuit may stop earlier."""
        return 1 + self.search.passes(self.split.count, self.deterministic)

    @property
    def deterministic(self) -> bool:
        """Whether the filler is always the same, so that a pursuit needs one draw."""
        return self.filler == "silence" or (self.filler == "noise_floor" and self.fill_fraction == 1)

    def score_of(self, clip: Scene) -> Score:
        """Pre-softmax scores (n, outputs) of spectrograms."""
        heard = hear(self.classifier, clip)
        if self.outputs == "all":
            return lambda stft: heard(stft).logits
        return lambda stft: asked_logit(heard(stft), clip.target)[:, None]

    def attribute(self, clip: Scene, score: Score) -> tuple[Tensor, Details]:
        """The share of each bin that the solution chooses."""
        components = self.split(clip.stft, self.seed)
        problem = ClipProblem(components, score, self._filling(clip), self.fill_fraction, self.deterministic)
        problem.max_batch = self.max_batch
        found = replace(cast(Any, self.search), seed=self.seed).solve(problem)
        chosen = found.chosen if bool((found.chosen > 0.5).any()) else torch.zeros_like(found.chosen)
        return components.mask(chosen[None]), _details(found)

    def _filling(self, clip: Scene) -> Filling:
        """Function n, generator -> n fillers: magnitudes, to be used with the clip's phase, or complex spectrograms."""
        stft = clip.stft
        if self.filler == "donor":
            donors = self._donors(clip.waveform)
            spectrogram = self.classifier.spectrogram
            return lambda n, it: spectrogram(donors[torch.randint(len(donors), (n,), generator=it).to(donors.device)])
        if self.filler == "noise":
            return lambda n, it: noise_like(stft, n, it)
        left = what_remains(stft.abs(), self.filler)
        return lambda n, _: left.expand(n, -1, -1)

    def _donors(self, waveform: Tensor) -> Tensor:
        """Donors of the length of the clip (1, samples), without copies of it."""
        if callable(self.donors):
            self.donors = _checked(self.donors())
        samples, donors = waveform.shape[1], cast(Tensor, self.donors).to(waveform)
        donors = normalize_peak(donors.repeat(1, -(-samples // donors.shape[1]))[:, :samples])[0]
        others = donors[((donors - waveform).abs() > 1e-4).any(1)]
        if not len(others):
            raise ValueError(f"each of {len(donors)} donors is the clip itself; a part cannot be filled with itself")
        return others


Filling = Callable[[int, torch.Generator], Tensor]


class ClipProblem(Problem):
    """Parts of one clip, kept or filled: z = x m + filler (1 - m), m the share of each bin that is kept.

    Args:
        components: the clip's parts.
        score: spectrograms (n, freq, time) -> scores (n, outputs); real ones are magnitudes with the clip's phase.
        filling: n, generator -> fillers, (n, freq, time).
        fill_fraction: share of the removed parts that is filled; the others are silent.
        deterministic: see `Problem`.
    """

    def __init__(
        self,
        components: Components,
        score: Score,
        filling: Filling,
        fill_fraction: float = 1.0,
        deterministic: bool = False,
    ):
        self.components, self.score, self.filling = components, score, filling
        self.fill_fraction, self.deterministic = fill_fraction, deterministic
        self.count, self.device = components.count, components.stft.device
        with torch.no_grad():
            self.whole = score(components.stft.abs()[None])

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """n fillers and, if `fill_fraction` is below 1, the parts (n, count) that are filled when removed."""
        filled = self.filling(n, generator)
        if self.fill_fraction == 1:
            return (filled,)
        which = torch.rand(n, self.count, generator=generator) < self.fill_fraction
        return filled, which.to(filled.device)

    def change(self, keep: Tensor, drawn: tuple[Tensor, ...]) -> Tensor:
        """Fall of each score, (n, outputs)."""
        filled, mask = drawn[0], self.components.mask(keep)
        rest = 1 - mask if len(drawn) == 1 else self.components.mask((1 - keep) * drawn[1])
        original = self.components.stft if filled.is_complex() else self.components.stft.abs()
        return self.whole - self.score(without_denormals(original * mask + filled * rest))


def _details(found: Solution) -> Details:
    """The details of one clip, each (1, ...)."""
    missing = len(found.keep) - len(found.order)
    order = functional.pad(found.order, (0, missing), value=-1)
    numbers = {name: getattr(found, name) for name in ("empty", "end", "rate", "saturated", "penalty")}
    made = {name: found.keep.new_tensor([value]) for name, value in numbers.items()}
    return {"theta": found.keep[None], "order": order[None], **made}


def _as_it_is(mask: Tensor) -> Tensor:
    return mask


def _checked(donors: Tensor) -> Tensor:
    if not isinstance(donors, Tensor) or donors.ndim != 2 or not donors.numel() or not torch.isfinite(donors).all():
        shape = tuple(donors.shape) if isinstance(donors, Tensor) else type(donors).__name__
        raise ValueError(f"donors have shape {shape}; expected (clips, samples), finite")
    return donors
