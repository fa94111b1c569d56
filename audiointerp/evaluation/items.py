"""A sound to explain, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from audiointerp.sound.recordings import Window

__all__ = ["Item"]


@dataclass(frozen=True)
class Item:
    """A sound to explain.

    Attributes:
        item_id: short name, unique in a run.
        source: where it comes from.
        windows: the sound, a stretch at a time (one, unless it is long); a function, so that each method starts anew.
        frames: length of the written WAVs in samples at `file_rate`; a function, as it is known after reading.
        sample_rate: of the windows, in Hz.
        file_rate: of the written WAVs, in Hz.
        label: true class, or "".
        stems: class name -> its part of the sound, (1, samples), where it is known; the item's own class first.
        condition: such as "clean" or "mixture"; scores are averaged per condition.
        snr_db: own stem over the other, where there are two.
    """

    item_id: str
    source: str
    windows: Callable[[], Iterator[Window]]
    frames: Callable[[], int]
    sample_rate: int
    file_rate: int
    label: str = ""
    stems: Mapping[str, Tensor] = field(default_factory=dict)
    condition: str = "clean"
    snr_db: float | None = None

    @classmethod
    def of_waveform(cls, item_id: str, source: str, waveform: Tensor, sample_rate: int, **rest: Any) -> Item:
        """An item that is in memory, (1, samples)."""
        return cls(
            item_id,
            source,
            lambda: iter([Window(0, waveform)]),
            lambda: waveform.shape[1],
            sample_rate,
            sample_rate,
            **rest,
        )

    def stems_for(self, explained: Sequence[str]) -> list[Tensor]:
        """The explained class's stem first, then the other; none if that class is not in the item."""
        if len(explained) != 1 or explained[0] not in self.stems:
            return []
        return [self.stems[explained[0]], *(stem for label, stem in self.stems.items() if label != explained[0])]
