"""The device that a run computes on, chosen by name."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch

from audiointerp.processes.world import current

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Parameters of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4

__all__ = ["keep_freed_memory", "make_fabric", "pick_device"]


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".

    Of several processes on a machine with "cuda", each has the GPU of its number.

    >>> pick_device("cpu")
    device(type='cpu')

    Raises:
        ValueError: for another name, a device that torch does not find, or fewer GPUs than processes.
    """
    kind, _, which = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"device {name!r} is unknown; give auto, cpu, cuda, cuda:N or mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if which and not which.isdecimal():
        raise ValueError(f"device {name!r} is unknown; one device is used, give its number as in cuda:0")
    world = current()
    if world.others and (which or kind == "mps"):
        raise ValueError(
            f"device {name!r} is one device, and {world.size} processes are started; give auto, cpu or cuda"
        )
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if world.others and kind == "cuda":
        which = str(world.local_rank)
        if world.local_size > available:
            raise ValueError(f"{world.local_size} processes need a GPU each: torch finds {available}; start fewer")
    if int(which or 0) >= available:
        raise ValueError(f"device {name} does not exist: torch finds {available} {kind} devices; give --device cpu")
    return torch.device(kind) if kind == "cpu" else torch.device(kind, int(which or 0))


def make_fabric(name: str, precision: str = "32-true") -> Fabric:
    """Lightning's Fabric on one device, see `pick_device`, at a precision such as "32-true" or "bf16-mixed"."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    device = pick_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    devices: Any = [device.index] if device.type == "cuda" else 1
    kind: Any = device.type
    # One device for each process; `processes.world` knows of the others, whatever started them.
    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        precision=precision,  # pyright: ignore[reportArgumentType]
        plugins=LightningEnvironment() if current().others else None,
    )
    fabric.launch()
    return fabric


def keep_freed_memory() -> bool:
    """Lets this process use the memory of freed tensors again instead of returning it to the system; True if it can.

    By default glibc returns each freed tensor of more than 32 MB, and the next one of the same size, a moment later,
    costs a page fault every 4 kB: a quarter of the processor time of a training step on a CPU. The process then holds
    the most memory that it ever needed until it ends. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no such function, or Windows, where None is no library
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))
