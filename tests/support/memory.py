"""Largest memory of a command, or of a few lines, whatever the process of the tests has used before.

`ru_maxrss` cannot tell: the kernel gives a new process the peak of the one that started it, and a test process that has
run many tests has a high one. `VmHWM` in /proc belongs to the program alone, and can be set back.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

# The command line of the package; at its end it writes its peak into the file that the first argument names.
MEASURED = """
import atexit, pathlib, runpy, sys
out = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: out.write_text(pathlib.Path("/proc/self/status").read_text()))
runpy.run_module("audiointerp", run_name="__main__")
"""


def _peak(status: str) -> float:
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _needs_proc() -> None:
    if not CLEAR.exists():
        pytest.skip("peaks of memory are read from /proc")


def peak_of(folder: Path, *command: object) -> float:
    """Largest resident set of a command of the package in a process of its own, in MiB; the command must succeed."""
    _needs_proc()
    out = folder / "memory"
    subprocess.run(
        [sys.executable, "-c", MEASURED, str(out), *map(str, command)], stdout=subprocess.DEVNULL, check=True
    )
    return _peak(out.read_text())


class Grown:
    """By how many MiB the lines under `grown` raised the resident set at most; 0 until they end."""

    mebibytes = 0.0


@contextmanager
def grown() -> Iterator[Grown]:
    _needs_proc()
    found = Grown()
    CLEAR.write_text("5")  # sets VmHWM back to what is resident now
    before = _peak(STATUS.read_text())
    yield found
    found.mebibytes = _peak(STATUS.read_text()) - before
