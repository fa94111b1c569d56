"""A batch divided among processes: what is summed over them, and random numbers that do not depend on their number.

Each process computes the losses of its own rows of a batch, as a mean over these rows. The sum over processes of these
losses, each times its share of the rows, is the loss of the whole batch, and so is the sum of the gradients, as long as
everything in between that looks at several rows looks at those of all processes: batch normalisation, counts and
replacement of codes (`summed`, `gathered`); and as long as random numbers are drawn for all rows (`rand`).

Without a divided batch each function here gives back what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from audiointerp.processes.world import LostProcess, World, current

TIMEOUT = timedelta(minutes=10)  # longest time for which a training step of another process is waited for

__all__ = [
    "Share",
    "add_gradients",
    "divided",
    "fair",
    "gathered",
    "open_group",
    "own",
    "rand",
    "same",
    "summed",
    "taken",
    "total",
]


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this process computes.

    Attributes:
        first, last: rows first to last - 1 of the batch.
        total: number of rows of the batch.
    """

    first: int
    last: int
    total: int

    @classmethod
    def of(cls, rows: int, world: World) -> Share | None:
        """This process's share of a batch; None if the batch is not divided.

        A batch of fewer than two rows a process is not divided: every process computes all of it, because a batch of
        one row is trained in another way (batch normalisation has no variance over one embedding).

        >>> [Share.of(7, World(rank, 3)) for rank in range(3)][1]
        Share(first=2, last=4, total=7)
        """
        if not world.others or rows < 2 * world.size:
            return None
        return cls(rows * world.rank // world.size, rows * (world.rank + 1) // world.size, rows)

    @property
    def part(self) -> float:
        """The share of the rows, in (0, 1)."""
        return (self.last - self.first) / self.total


_taken: Share | None = None


@contextmanager
def taken(share: Share | None) -> Iterator[None]:
    """Within it, the batch that is computed is this share of a batch; None: a whole one."""
    global _taken  # noqa: PLW0603 - layers deep within a model ask for it
    before, _taken = _taken, share
    try:
        yield
    finally:
        _taken = before


def divided() -> Share | None:
    """The share that is computed now; None while whole batches are computed."""
    return _taken


def rand(*shape: int) -> Tensor:
    """`torch.rand` whose first axis is rows of the batch, any number of them: drawn for the rows of all processes."""
    if _taken is None:
        return torch.rand(*shape)
    counts = [int(each) for each in _counts(shape[0])]
    start = sum(counts[: current().rank])
    return torch.rand(sum(counts), *shape[1:])[start : start + shape[0]]


def own(values: Tensor) -> Tensor:
    """Of values for all rows of the batch, those of this process."""
    return values if _taken is None else values[_taken.first : _taken.last]


@torch.no_grad()
def gathered(values: Tensor) -> Tensor:
    """The rows of every process, in the order of the processes, without gradient; their numbers may differ."""
    if _taken is None:
        return values
    counts = [int(each) for each in _counts(len(values))]
    kind = torch.uint8 if values.dtype == torch.bool else values.dtype
    padded = values.new_zeros((max(counts), *values.shape[1:]), dtype=kind)
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in counts]
    _call(lambda distributed: distributed.all_gather(parts, padded))
    return torch.cat([part[:count] for part, count in zip(parts, counts)]).to(values.dtype)


def summed(values: Tensor) -> Tensor:
    """The sum over processes; its gradient is the sum of the processes' gradients."""
    return values if _taken is None else _Summed.apply(values)


def fair(mean: Tensor, count: Tensor | int) -> Tensor:
    """A mean over `count` values of this process, as a term of a loss that is weighted by the shares of rows.

    Where the number of values is not that of the rows, the weighted sum of the means is not the mean of all values.
    Each mean is multiplied by its count, divided by the count that it would have if values were spread as rows are.
    """
    if _taken is None:
        return mean
    counts = _counts(count)
    return mean * (counts[current().rank] / (counts.sum() * _taken.part).clamp(min=1e-12)).to(mean)


@torch.no_grad()
def total(values: Tensor) -> Tensor:
    """The sum over processes, also while whole batches are computed; without gradient."""
    result = values.clone()
    if current().others:
        _call(lambda distributed: distributed.all_reduce(result))
    return result


@torch.no_grad()
def same(tensors: list[Tensor]) -> None:
    """Gives every process the values of process 0, in place."""
    for each in tensors if current().others else ():
        whole = each.contiguous()
        _call(lambda distributed, whole=whole: distributed.broadcast(whole, 0))
        each.copy_(whole)


@torch.no_grad()
def add_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Sums the gradients of parameters over processes, in place; one that no process has stays None."""
    if not current().others:
        return
    for kind in dict.fromkeys((each.dtype, each.device) for each in parameters):
        some = [each for each in parameters if (each.dtype, each.device) == kind]
        having = [torch.full((1,), float(each.grad is not None), dtype=kind[0], device=kind[1]) for each in some]
        flat = [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in some]
        everything = total(torch.cat([*flat, *having]))
        pieces = everything.split([each.numel() for each in some] + [1] * len(some))
        for each, piece, known in zip(some, pieces, pieces[len(some) :]):
            if not known:
                continue
            if each.grad is None:
                each.grad = torch.empty_like(each)
            each.grad.copy_(piece.view(each.shape))


def open_group(world: World, device: torch.device) -> None:
    """Opens the connections for tensors: gloo, and on GPUs NCCL. Once a process is enough.

    Raises:
        LostProcess: if another process has ended.
    """
    from torch import distributed

    if not world.others or distributed.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _call(
        lambda distributed: distributed.init_process_group(
            backend, store=world.store, rank=world.rank, world_size=world.size, timeout=TIMEOUT
        )
    )


class _Summed(torch.autograd.Function):
    """y = sum over processes of x: each x is in every process's y, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return total(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return total(grad.contiguous())


def _counts(count: Tensor | int) -> Tensor:
    """The number that each process gives, (processes,)."""
    world = current()
    counts = torch.zeros(world.size, dtype=torch.float64)
    counts[world.rank] = float(count)
    return total(counts)


def _call(collective: Callable[[Any], object]) -> None:
    """Calls an operation of all processes; an error in it means that another one has ended."""
    from torch import distributed

    try:
        collective(distributed)
    except RuntimeError as error:
        raise LostProcess(f"another of the {current().size} processes has ended") from error
