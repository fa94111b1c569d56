"""Settings of the page of FLINT's attributes."""

from __future__ import annotations

from dataclasses import dataclass

FACTORS = (0, 1, 2, 4)  # by which an attribute is multiplied before it is decoded, as in VisCoIN

__all__ = ["FACTORS", "AttributeSettings"]


@dataclass(frozen=True)
class AttributeSettings:
    """Settings of the attributes' tables and sounds, after FLINT's training.

    Args:
        clips: largest number of training clips from which the relevance of each attribute to each class is estimated,
            drawn by the seed; 1,000 in the paper.
        relevant: relevance above which an attribute belongs to a class; 0.1 in the paper.
        strongest: number of test clips in which an attribute is heard; 3 in the paper.
        window: length in seconds of the stretch of a clip in which the attribute is strongest.
        steps, start: of activation maximisation: 300 steps from 0.1 of the clip in the paper, 600 from 0.3 in its code.
            0 steps: none is made, as for a classifier without gradients.
    """

    clips: int = 1000
    relevant: float = 0.1
    strongest: int = 3
    window: float = 1.0
    steps: int = 300
    start: float = 0.1

    def __post_init__(self) -> None:
        if min(self.clips, self.strongest) < 1 or self.steps < 0:
            raise ValueError("AttributeSettings needs clips and strongest of at least 1, and steps of at least 0")
        if not -1 <= self.relevant < 1 or not 0 < self.window < float("inf") or not 0 < self.start <= 1:
            raise ValueError(
                f"AttributeSettings has relevant {self.relevant}, window {self.window} s, start {self.start}; relevant "
                "must be below 1, window above 0, start above 0 and at most 1"
            )
