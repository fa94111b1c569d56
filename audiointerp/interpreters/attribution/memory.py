"""What a method found about a clip whatever the target, kept while further targets of the same clip are explained."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from audiointerp.contracts import Prediction

CLIPS = 8  # clips kept: the windows of 40 s; a longer recording is classified anew for each target

__all__ = ["Known", "Memory"]


@dataclass
class Known:
    """What is known of one clip.

    Attributes:
        predictions: for the versions of the clip that were classified, in their order, without feature maps.
        made: name -> what was computed from the clip, such as its parts.
    """

    predictions: list[Prediction] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)

    def replayed(self, heard: Callable[[Tensor], Prediction]) -> Callable[[Tensor], Prediction]:
        """`heard`, which takes the predictions for the versions that were classified before from memory.

        Right for a method that classifies the same versions of a clip in the same order for every target.
        """
        count = 0

        def replay(magnitude: Tensor) -> Prediction:
            nonlocal count
            if count == len(self.predictions):
                found = heard(magnitude)
                self.predictions.append(Prediction(found.logits.detach(), found.probabilities.detach()))
            count += 1
            known = self.predictions[count - 1]
            assert len(known.logits) == len(magnitude), "the method classifies other versions for another target"
            return known

        return replay

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, called the first time only."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


class Memory:
    """What is known of the last clips, found by the samples of their spectrograms."""

    def __init__(self) -> None:
        self._clips: OrderedDict[bytes, Known] = OrderedDict()

    def of(self, stft: Tensor) -> Known:
        """What is known of the clip with this spectrogram; the clip that was asked for longest ago is forgotten."""
        key = hashlib.sha256(stft.detach().cpu().contiguous().numpy().tobytes()).digest()
        known = self._clips[key] = self._clips.pop(key, None) or Known()
        if len(self._clips) > CLIPS:
            self._clips.popitem(last=False)
        return known
