"""Rate-distortion problem of a note whose magnitudes and phases are replaced in some log-frequency bands."""

from __future__ import annotations

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters.rde.fillers import Filler, Zeros, compose
from audiointerp.interpreters.rde.problem import Problem

Drawn = tuple[Tensor, Tensor, Tensor]

__all__ = ["Drawn", "NoteProblem", "check_grouping", "composites", "draws_nothing"]


class NoteProblem(Problem):
    """One note, or many notes that share one mask; the parts are the magnitudes, then the phases, of groups of bands.

    z = x s + G (1 - s) in the features, G the filler; the scores are the target's logit, or every logit. With many
    notes, each draw belongs to one note, so that the mean over draws is a mean over notes.

    Args:
        classifier: of log-frequency bands; its mode is not changed, so set it to evaluation, see `contracts.frozen`.
        features: the classifier's features of the notes, (notes, 3, band).
        filler: replaces the parts that are not kept; None: `Zeros()`.
        target: (notes, classes) bool, the classes whose mean logit is explained; None: all logits, whose squared
            changes are summed in the distortion.
        group: number of neighbouring bands that are kept or replaced together; the last group may be smaller.
        fill_fraction: share of the removed parts that the filler fills, chosen anew in each draw; the others are set
            to 0. Heiss et al. (2020), section 3.2, where it is 2.5 %.
    Attributes:
        count: number of parts, 2 ceil(bands / group), magnitudes from low to high, then phases.
        always_same: whether every draw for a note is the same.
    Raises:
        ValueError: for features of another shape, a filler of other bands, a group without bands or a fraction outside
            [0, 1].
    """

    def __init__(
        self,
        classifier: Classifier,
        features: Tensor,
        filler: Filler | None = None,
        target: Tensor | None = None,
        group: int = 1,
        fill_fraction: float = 1.0,
    ):
        if features.ndim != 3 or features.shape[1] != 3 or len(features) == 0:
            raise ValueError(f"features have shape {tuple(features.shape)}; expected (notes, 3, band), at least 1 note")
        self.classifier, self.features, self.target = classifier, features, target
        self.filler = Zeros() if filler is None else filler
        self.bands = features.shape[2]
        drawn = self.filler.draw(1, torch.Generator())
        if drawn.shape[-1] not in (0, self.bands):
            raise ValueError(
                f"the filler is for {drawn.shape[-1]} bands, the classifier reads {self.bands}; fit it on its features"
            )
        self.group, self.fill_fraction = check_grouping(group, self.bands, fill_fraction)
        self.groups = -(-self.bands // group)
        self.count = 2 * self.groups
        self.device = features.device
        self.always_same = draws_nothing(self.filler, fill_fraction)
        self.deterministic = self.always_same and len(features) == 1
        with torch.no_grad():
            self.reference = self._outputs(classifier.classify(features), torch.arange(len(features)))

    def draw(self, n: int, generator: torch.Generator) -> Drawn:
        """Note numbers (n,), each equally often; the filler's draws; the parts it fills (n, parts), bool."""
        notes = len(self.features)
        turns = [torch.randperm(notes, generator=generator) for _ in range(-(-n // notes))]
        return self._drawn(torch.cat(turns)[:n], generator)

    def draw_each(self, times: int, generator: torch.Generator) -> Drawn:
        """`times` draws for each note, in order, so that the mean has no error from a random choice of notes."""
        return self._drawn(torch.arange(len(self.features)).repeat_interleave(times), generator)

    def _drawn(self, note: Tensor, generator: torch.Generator) -> Drawn:
        noise = self.filler.draw(len(note), generator)
        parts = self.count if self.fill_fraction < 1 else 0
        filled = torch.rand(len(note), parts, generator=generator) < self.fill_fraction
        device = self.features.device
        return note.to(device), noise.to(device), filled.to(device)

    def change(self, keep: Tensor, drawn: Drawn) -> Tensor:
        """Phi(x) - Phi(z), (n, 1) or (n, classes), of keep (n, parts)."""
        note = drawn[0]
        heard = self.classifier.classify(self.composite(keep, drawn))
        return self.reference[note] - self._outputs(heard, note)

    def composite(self, keep: Tensor, drawn: Drawn) -> Tensor:
        """z, (n, 3, band), of keep (n, parts)."""
        note, noise, filled = drawn
        features, kept = self.features[note], self.by_band(keep)
        filling = self.filler.fill(features, kept, noise)
        if self.fill_fraction < 1:
            filling = compose(filling, self.by_band(filled.to(filling.dtype)), torch.zeros_like(filling))
        return compose(features, kept, filling)

    def by_band(self, parts: Tensor) -> Tensor:
        """Values (n, parts) of parts as values of bands, (n, 2, band)."""
        values = parts.view(len(parts), 2, self.groups)
        if self.group == 1:
            return values
        return values.repeat_interleave(self.group, 2)[..., : self.bands]

    def _outputs(self, heard: Prediction, note: Tensor) -> Tensor:
        if self.target is None:
            return heard.logits
        wanted = self.target[note.to(self.target.device)].to(heard.logits.dtype)
        return (heard.logits * wanted).sum(1, keepdim=True) / wanted.sum(1, keepdim=True)


def check_grouping(group: int, bands: int, fill_fraction: float) -> tuple[int, float]:
    """Checks `group` and `fill_fraction` and returns them.

    Raises:
        ValueError: for a group without bands or a fraction outside [0, 1].
    """
    if not 1 <= group <= bands:
        raise ValueError(f"group is {group}; a group has 1 to {bands} bands, as many as the classifier reads")
    if not 0 <= fill_fraction <= 1:
        raise ValueError(f"fill_fraction is {fill_fraction}; give a share in [0, 1], 1 to fill all removed parts")
    return group, fill_fraction


def draws_nothing(filler: Filler, fill_fraction: float = 1.0) -> bool:
    """Whether the replacement of removed parts is never random."""
    return fill_fraction in (0, 1) and filler.draw(1, torch.Generator()).numel() == 0


@torch.no_grad()
def composites(features: Tensor, keep: Tensor, filler: Filler, seed: int = 0) -> Tensor:
    """One composite z = x s + G (1 - s) of each note, s rounded: (notes, 3, band).

    Args:
        features: (notes, 3, band).
        keep: (notes, 2, band) in [0, 1], of magnitudes and phases.
        filler: G.
        seed: of the filler's draws; the same for each note.
    """
    rounded = (keep > 0.5).to(features.dtype)
    drawn = [filler.draw(1, torch.Generator().manual_seed(seed)).to(features.device) for _ in features]
    return torch.cat(
        [
            compose(one, kept, filler.fill(one, kept, noise))
            for one, kept, noise in zip(features.split(1), rounded.split(1), drawn)
        ]
    )
