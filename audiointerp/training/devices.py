"""Where a run computes: one device by name."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric

__all__ = ["make_fabric"]


def make_fabric(device: str, precision: str = "32-true") -> Fabric:
    """One device by name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps"; ValueError if absent."""
    kind, _, which = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"device {device!r} is unknown; give auto, cpu, cuda, cuda:N or mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if which and not which.isdecimal():
        raise ValueError(f"device {device!r} is unknown; one device is used, give its number as in cuda:0")
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if int(which or 0) >= available:
        raise ValueError(f"device {device} was asked for, but torch sees {available} of {kind}; give --device cpu")
    devices: Any = [int(which)] if which and kind == "cuda" else 1
    fabric = Fabric(accelerator=kind, devices=devices, precision=precision)  # pyright: ignore[reportArgumentType]
    fabric.launch()
    return fabric
