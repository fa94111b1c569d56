"""The most faithful of several explanations of a clip: the classifier itself says which one to trust."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpretation, Interpreter, Prediction
from audiointerp.interpreters.base import MaskInterpreter, Scene
from audiointerp.sound.masking import apply_mask

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MostFaithful", "log_odds"]


class MostFaithful(MaskInterpreter):
    """Explains each clip with several methods and keeps the most faithful of their masks.

    Faithfulness of a mask is how much more the classifier finds the target in the kept sound than in the rest:
    log-odds(kept) - log-odds(rest), with log-odds(x) = log p(x) / (1 - p(x)) of the target's probability. A method
    that was trained with stems of natural sounds gives clean sounds, but shows what it was taught, also where the
    classifier decides by something else; its mask is then less faithful than one that was measured on the classifier,
    such as LIME's, and is not shown.

    Masks are compared and applied to the magnitude; a mask of the log-magnitude is converted to the magnitudes that it
    keeps. `details`: "faithfulness" (batch, methods) in nats, and "chosen" (batch,), the index of the method.

    Args:
        classifier: the classifier to explain, never changed.
        among: name -> method, in order of preference. In a recipe: names of other methods of the recipe.
        margin: in nats; the first method whose faithfulness is at most this much below the highest is chosen. 1 was
            chosen on ESC-10's fold 3, with a classifier and a PIQ of folds 1 and 2.
    Raises:
        ValueError: for a margin below 0; when explaining, if there is no method or one of them has no mask.
    """

    def __init__(
        self,
        classifier: Classifier,
        among: Mapping[str, Interpreter] | Sequence[str] = (),
        margin: float = 1.0,
    ):
        super().__init__(classifier)
        if not margin >= 0:
            raise ValueError(f"margin is {margin}; it is a difference of log-odds in nats, 0 or more")
        self.among, self.margin = among, margin

    def choosing(self, methods: Mapping[str, Interpreter]) -> MostFaithful:
        """A copy that chooses among those of the given methods that are named in `among`; itself if it has methods.

        Raises:
            ValueError: for a name that is not given.
        """
        if isinstance(self.among, Mapping):
            return self
        if missing := [name for name in self.among if name not in methods]:
            raise ValueError(
                f"MostFaithful names {missing[0]!r}, which is no other method; name some of {list(methods)}"
            )
        made = copy.copy(self)
        made.among = {name: methods[name] for name in self.among}
        return made

    def on(self, classifier: Classifier) -> Self:
        """The choice among the same methods on another classifier."""
        twin = super().on(classifier)
        twin.among = {name: each.on(classifier) for name, each in self.methods.items()}
        return twin

    @property
    def methods(self) -> dict[str, MaskInterpreter]:
        """The methods by name, in order of preference."""
        if not isinstance(self.among, Mapping) or not self.among:
            raise ValueError("MostFaithful has no methods to choose among; give it some (among=...)")
        masks = {name: each for name, each in self.among.items() if isinstance(each, MaskInterpreter)}
        if wrong := self.among.keys() - masks.keys():
            raise ValueError(f"MostFaithful compares masks; method {min(wrong)} has none")
        return masks

    def chosen(self, made: Interpretation) -> list[str]:
        """Name of the method whose mask each clip shows; scores.csv and the page of a run name it too."""
        names = list(self.methods)
        return [names[index] for index in made.details["chosen"].tolist()]

    @property
    def passes(self) -> int:
        """Those of the methods, and two for each of them."""
        return sum(each.passes + 2 for each in self.methods.values())

    @contextmanager
    def several_targets(self) -> Iterator[None]:
        """As each of the methods."""
        with ExitStack() as stack:
            for each in self.methods.values():
                stack.enter_context(each.several_targets())
            yield

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """The chosen masks of the magnitude."""
        masks = [_of_magnitude(scene.stft, each, *each.finished_mask(scene)) for each in self.methods.values()]
        found = torch.stack([self._faithfulness(scene, mask) for mask in masks], 1)
        near = found >= found.amax(1, keepdim=True) - self.margin
        chosen = near.int().argmax(1)  # the first of them
        rows = torch.arange(len(chosen), device=chosen.device)
        return torch.stack(masks, 1)[rows, chosen], {"faithfulness": found, "chosen": chosen}

    def _faithfulness(self, scene: Scene, mask: Tensor) -> Tensor:
        """(batch,), in nats."""
        samples = scene.waveform.shape[-1]
        kept, rest = (self.classifier.classify_stft(scene.stft * each, samples) for each in (mask, 1 - mask))
        return log_odds(kept, scene.target) - log_odds(rest, scene.target)


def log_odds(prediction: Prediction, target: Tensor) -> Tensor:
    """Mean over the target classes of log p / (1 - p), (batch,), in nats; of several labels it is the logit.

    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> target = torch.tensor([[True, False]])
    >>> round(float(log_odds(Prediction(logits, logits.softmax(1)), target)), 3)  # here the difference of the logits
    2.0
    """
    # Rounding makes a probability 0 or 1; float32 tells 1 - 6e-8 from 1.
    odds = torch.logit(prediction.probabilities.double(), eps=1e-7)
    return ((odds * target).sum(1) / target.sum(1)).float()


def _of_magnitude(stft: Tensor, method: MaskInterpreter, mask: Tensor, _: Mapping[str, Tensor]) -> Tensor:
    """The mask that keeps the same magnitudes when it multiplies the magnitude."""
    if method.domain == "magnitude":
        return mask
    magnitude = stft.abs()
    kept = apply_mask(stft, mask, method.domain).abs()
    return torch.where(magnitude > 0, kept / magnitude.clamp(min=1e-30), mask).clamp(0, 1)
