"""Starts the processes of `--devices N` on this machine and watches over them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from audiointerp.processes.world import NUMBERS, STORE, WORKER

GRACE = 3.0  # seconds in which the other processes may end by themselves once one has failed
STOPPING = 15.0  # seconds until a process that is told to end is killed
MOST_PER_CORE = 4
LOST = 3  # exit status of a process that ends because another one is gone
RESUMES = "the same command resumes from here"

# Modules are found where the command that starts the processes finds them.
_BEGIN = """\
import sys
sys.path[:], sys.argv[:] = {path!r}, ["audiointerp", *sys.argv[1:]]
from audiointerp.processes.launching import end_with_parent
end_with_parent()
from audiointerp.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

__all__ = ["LOST", "RESUMES", "end_with_parent", "launch"]


@dataclass
class _Worker:
    """A process, with what it says on stderr unless it is the first, whose stderr is that of the command."""

    process: subprocess.Popen[bytes]
    said: IO[bytes] | None


def launch(arguments: Sequence[str], count: int) -> int:
    """Runs a command in several processes; returns the exit status, and reports a process that fails on stderr.

    If one fails, the others are told to end. On a CPU each has an equal part of the cores, unless OMP_NUM_THREADS is
    set.

    Args:
        arguments: of the command line.
        count: number of processes.
    Raises:
        ValueError: for more than four processes a core: each takes hundreds of megabytes before it works.
    """
    most = MOST_PER_CORE * _cores()
    if count > most:
        raise ValueError(f"--devices {count} starts {count} processes on {_cores()} cores; give at most {most}")
    from torch.distributed import TCPStore

    # This process holds the store, so that the others can end in any order.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    workers: list[_Worker] = []
    try:
        for rank in range(count):
            workers.append(_start(arguments, rank, count, store.port))
        _watch(workers)
    except KeyboardInterrupt:
        for each in workers:
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGINT)
        _wait(workers, STOPPING)
    finally:
        _end(workers)
    return _report(workers)


def end_with_parent() -> None:
    """Ends this process with the one that started it, also if that one is killed: the pipe to stdin is closed then."""
    import threading

    def wait() -> None:
        os.read(0, 1)
        os._exit(LOST)

    threading.Thread(target=wait, daemon=True).start()


def _start(arguments: Sequence[str], rank: int, count: int, port: int) -> _Worker:
    environment = os.environ | dict(zip(NUMBERS, map(str, (rank, count, rank, count))))
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), STORE: "True", WORKER: "1"}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // count)))
    said = tempfile.TemporaryFile() if rank else None  # noqa: SIM115 - read once the process has ended
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN.format(path=sys.path), *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if rank else None,
        stderr=said,
        start_new_session=True,  # Ctrl-C reaches this process only, which passes it on once
    )
    return _Worker(process, said)


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _watch(workers: Sequence[_Worker]) -> None:
    """Returns when all have ended, or a while after one has failed."""
    while True:
        codes = [each.process.poll() for each in workers]
        if None not in codes:
            return
        if any(codes):
            _wait(workers, GRACE)
            return
        time.sleep(0.02)


def _wait(workers: Sequence[_Worker], seconds: float) -> None:
    """Returns when all have ended, or after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(each.process.poll() is None for each in workers):
        time.sleep(0.02)


def _end(workers: Sequence[_Worker]) -> None:
    """Tells those that are still running to end, and kills those that do not."""
    running = [each for each in workers if each.process.poll() is None]
    for each in running:
        each.process.terminate()
    _wait(running, STOPPING)
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
    for each in workers:
        each.process.wait()
        if each.process.stdin is not None:
            each.process.stdin.close()


def _report(workers: Sequence[_Worker]) -> int:
    """The exit status of the command; says what happened where the first process did not."""
    codes = [each.process.returncode for each in workers]
    told = codes[0] > 0 and codes[0] != LOST
    # A process that was told to end did not fail by itself.
    failed = [rank for rank, code in enumerate(codes) if code not in (0, LOST, -signal.SIGTERM)]
    if told or not any(codes):
        return codes[0]
    if not failed:
        print(f"audiointerp: the {len(codes)} processes were ended; {RESUMES}", file=sys.stderr)
        return 1
    rank = failed[0]
    if codes[rank] < 0:
        name = signal.Signals(-codes[rank]).name
        print(f"audiointerp: process {rank + 1} of {len(codes)} was killed ({name}); {RESUMES}", file=sys.stderr)
        return 1
    said = workers[rank].said
    assert said is not None  # the first process has told its own error
    said.seek(0)
    sys.stderr.write(said.read().decode(errors="replace"))
    return codes[rank]
