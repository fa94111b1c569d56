"""Functions called in several processes that know of each other, as `--devices` and torchrun start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

from torch.distributed import TCPStore

from audiointerp.processes import world
from audiointerp.processes.world import NUMBERS, STORE, found, joined


def started(size: int, function: Callable[..., Any], *given: Any) -> tuple[list[BaseProcess], Any, TCPStore]:
    """Processes that call a function, the queue of (rank, result), and the store, to be kept until they have ended."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "pandas", "soundfile", "audiointerp.commands", "audiointerp.runs"])
    store, queue = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), context.Queue()
    processes = [
        context.Process(target=_work, args=(rank, size, store.port, queue, function, given)) for rank in range(size)
    ]
    for each in processes:
        each.start()
    return processes, queue, store


def in_world(size: int, function: Callable[..., Any], *given: Any) -> list[Any]:
    """What a function of a module returns in each of so many processes; an error in one of them fails the test."""
    processes, queue, _store = started(size, function, *given)
    results = dict(queue.get(timeout=240) for _ in processes)
    for each in processes:
        each.join(60)
    assert all(each.exitcode == 0 for each in processes), results
    return [results[rank] for rank in range(size)]


def _work(rank: int, size: int, port: int, queue: Any, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    numbers = dict(zip(NUMBERS, map(str, (rank, size, rank, size))))
    os.environ |= numbers | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), STORE: "True"}
    whole = found(os.environ)
    try:
        if whole is None:
            result = function(*given)
        else:
            world.SILENT = 20.0
            with joined(whole):
                result = function(*given)
    except BaseException as error:
        queue.put((rank, f"{type(error).__name__}: {error}"))
        raise
    queue.put((rank, result))
