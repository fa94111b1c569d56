"""A check of the shapes that a metric compares."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_alike"]


def check_alike(axes: int, **values: Tensor) -> None:
    """Checks that all values have one shape with `axes` axes; a single row would otherwise be broadcast silently.

    >>> import torch
    >>> check_alike(2, estimate=torch.ones(3, 8), reference=torch.ones(1, 8))
    Traceback (most recent call last):
    ValueError: shapes differ: estimate (3, 8), reference (1, 8); a metric compares clip by clip

    Raises:
        ValueError: if shapes differ, or have another number of axes.
    """
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if len(set(shapes.values())) > 1:
        raise ValueError(f"shapes differ: {shown}; a metric compares clip by clip")
    if any(len(shape) != axes for shape in shapes.values()):
        raise ValueError(f"shapes do not have {axes} axes: {shown}; the first axis is the batch")
