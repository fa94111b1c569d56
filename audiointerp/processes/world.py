"""The processes that work on one command, and what they tell each other.

They are started by `--devices N` (see `launching`), by torchrun or by srun, each with the same command. Process 0 opens
the run folder and writes what is written once. All of them see the same folders. What they tell each other are small
values as JSON, through torch's `TCPStore`; gradients and other tensors go through `dividing`.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

BEAT = 5.0  # seconds between two signs of life of a process
SILENT = 120.0  # seconds without one after which a process counts as lost
MEETING = timedelta(minutes=5)  # longest time until all processes have started
SLURM_PORT = 15000  # plus the last four digits of the job: where its processes meet, unless MASTER_PORT is set
LEAVING = 20.0  # seconds that the process with the store waits for the others at the end
STORE = "TORCHELASTIC_USE_AGENT_STORE"  # torchrun's: "True" if none of the processes holds the store
WORKER = "AUDIOINTERP_WORKER"  # set for processes that `launching` starts: it reports how they end
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
OF_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
Result = TypeVar("Result")

__all__ = ["BEAT", "NUMBERS", "STORE", "WORKER", "LostProcess", "ToldElsewhere", "World", "current", "found", "joined"]


class LostProcess(RuntimeError):
    """Another process of the command has ended or does not answer."""


class ToldElsewhere(ValueError):
    """An error of process 0 in work that it does for all; it reports the error itself."""


@dataclass
class World:
    """The processes of a command, seen from one of them; a command without others is alone.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process among those on its machine.
        local_size: number of processes on its machine.
        store: torch's `TCPStore`; None if alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: Any = field(default=None, repr=False)
    _turn: int = field(default=0, repr=False)
    _said: list[str] = field(default_factory=list, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    @property
    def others(self) -> bool:
        """Whether there are other processes."""
        return self.size > 1

    def once(self, function: Callable[[], Result]) -> Result:
        """Calls a function in process 0 only; every process returns its result, a value that JSON can hold.

        Raises:
            ToldElsewhere: in the other processes, if the function raised an error in process 0.
            LostProcess: if process 0 has ended.
        """
        if not self.others:
            return function()
        self._turn += 1
        if self.first:
            try:
                result = function()
            except BaseException as error:
                with contextlib.suppress(LostProcess):
                    self._say({"error": str(error)})
                raise
            self._say({"value": result})
            return result
        told = self._hear(0)
        if "error" in told:
            raise ToldElsewhere(told["error"])
        return told["value"]

    def gather(self, value: Any) -> list[Any]:
        """The values, which JSON can hold, that every process gives, in their order; waits for all of them.

        Raises:
            LostProcess: if another process has ended.
        """
        if not self.others:
            return [value]
        self._turn += 1
        before = list(self._said)
        self._say(value)
        values = [self._hear(rank) for rank in range(self.size)]
        for key in before:  # all have come here, so all have read what was said before
            self._asked(lambda key=key: self.store.delete_key(key))
        self._said = self._said[len(before) :]
        return values

    def beat(self) -> None:
        """Tells the others that this process is alive."""
        self.store.add(f"alive/{self.rank}", 1)

    def leave(self) -> None:
        """Waits a while for the others if this process holds the store, without which they could not end well."""
        with contextlib.suppress(LostProcess):
            self._asked(lambda: self.store.add("left", 1))
            until = time.monotonic() + LEAVING
            holds = self.first and os.environ.get(STORE) != "True"
            while holds and time.monotonic() < until and self._asked(lambda: self.store.add("left", 0)) < self.size:
                time.sleep(0.02)

    def _say(self, value: Any) -> None:
        key = f"{self._turn}/{self.rank}"
        self._said.append(key)
        self._asked(lambda: self.store.set(key, json.dumps(value)))

    def _hear(self, rank: int) -> Any:
        """What a process says in this turn; a process without a sign of life for two minutes is lost."""
        key, pause = f"{self._turn}/{rank}", 0.001
        beats, since = -1, time.monotonic()
        while not self._asked(lambda: self.store.check([key])):
            time.sleep(pause)
            pause = min(0.2, 1.5 * pause)
            if pause < 0.2:
                continue
            now = self._asked(lambda: self.store.add(f"alive/{rank}", 0))
            if now != beats:
                beats, since = now, time.monotonic()
            elif time.monotonic() - since > SILENT:
                raise LostProcess(f"process {rank + 1} of {self.size} does not answer")
        return json.loads(self._asked(lambda: self.store.get(key)))

    def _asked(self, ask: Callable[[], Result]) -> Result:
        try:
            return ask()
        except RuntimeError as error:  # of torch.distributed, when the process that holds the store has ended
            raise LostProcess(f"another of the {self.size} processes has ended") from error


_current = World()


def current() -> World:
    """The processes of this command; a world of one process unless `joined` says otherwise."""
    return _current


def found(environment: Mapping[str, str]) -> World | None:
    """The processes that the variables of torchrun or srun describe; None if they describe one process or none.

    A batch script of Slurm, which is no step of its job, is one process.

    >>> found({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    World(rank=1, size=4, local_rank=1, local_size=2)
    >>> found({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    True

    Raises:
        ValueError: if a variable is missing or no number, or the rank is not below the number of processes.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = NUMBERS
    elif "SLURM_PROCID" in environment and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names = OF_SLURM
    else:
        return None
    numbers = []
    for name in names:
        # Two processes started by hand need no more than their rank; all are then on one machine.
        text = (
            environment.get(name)
            or {"LOCAL_RANK": environment.get("RANK")}.get(name)
            or environment.get({"LOCAL_WORLD_SIZE": "WORLD_SIZE"}.get(name, ""), "")
        )
        if not text.isdecimal():
            raise ValueError(f"the variable {name} is {text!r}; torchrun and srun set it to a number")
        numbers.append(int(text))
    if names is OF_SLURM:
        numbers.append(_tasks_here(environment))
    rank, size, local_rank, local_size = numbers
    if rank >= size or local_rank >= local_size:
        raise ValueError(
            f"{names[0]} {rank} and {names[2]} {local_rank} are too large for {size} processes, {local_size} here"
        )
    return World(rank, size, local_rank, local_size) if size > 1 else None


def _tasks_here(environment: Mapping[str, str]) -> int:
    """Number of Slurm's tasks on this node, of a list such as "4(x2),3": four on two nodes each, three on the last."""
    counts: list[int] = []
    for each in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        count, _, times = each.partition("(x")
        counts += [int(count or 0)] * int(times.rstrip(")") or 1)
    return counts[int(environment.get("SLURM_NODEID", "0"))] or int(environment["SLURM_NTASKS"])


@contextmanager
def joined(world: World) -> Iterator[World]:
    """Connects this process to the others; within it, `current` is their world.

    Raises:
        LostProcess: if they do not meet within five minutes.
    """
    global _current  # noqa: PLW0603 - one command is one world, which every module asks for
    before, stop = _current, threading.Event()
    world.store = _store(world)
    heart = threading.Thread(target=_beat, args=(world, stop), daemon=True)
    heart.start()
    _current = world
    try:
        yield world
        world.leave()
    except BaseException as error:
        if not isinstance(error, LostProcess):
            world.leave()
        raise
    finally:
        _current = before
        stop.set()
        heart.join(BEAT)


def _beat(world: World, stop: threading.Event) -> None:
    """Signs of life; what ends them, a lost store, is noticed where the process next asks it for something."""
    with contextlib.suppress(RuntimeError):
        while True:
            world.beat()
            if stop.wait(BEAT):
                return


def _store(world: World) -> Any:
    from torch.distributed.rendezvous import rendezvous

    if "RANK" not in os.environ:
        from lightning_fabric.plugins.environments import SLURMEnvironment

        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        first = SLURMEnvironment.resolve_root_node_address(nodes)
        job = os.environ.get("SLURM_JOB_ID", "0")[-4:]
        given = {"MASTER_ADDR": first, "MASTER_PORT": str(SLURM_PORT + int(job)), **os.environ}
        os.environ |= {name: given[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
        os.environ |= dict(zip(NUMBERS, map(str, (world.rank, world.size, world.local_rank, world.local_size))))
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise ValueError(f"the variable {name} is not set; torchrun sets it to where the processes meet")
    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=MEETING)))
    except RuntimeError as error:
        raise LostProcess(f"the {world.size} processes did not meet within 5 minutes") from error
    return store
