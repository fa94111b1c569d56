"""Processes killed by SIGKILL at random moments and started again: they must end as processes that were left alone.

AUDIOINTERP_KILLS=50 kills 50 processes instead of 4, AUDIOINTERP_KILLS_SEED draws other moments.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from killed_commands import command_of, make_root, prepared, state_of
from kills import started

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AUDIOINTERP_KILLS", "4"))
SEED = int(os.environ.get("AUDIOINTERP_KILLS_SEED", "0"))
MOST_IN_A_ROW = 3  # kills of one folder before the command is left alone
SHARES = {"run": 0.3, "interpret": 0.3, "compare": 0.1, "export": 0.3}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_root(tmp_path_factory.mktemp("killed"))


def ended(command: list[str], log: Path) -> None:
    process = started(command, log)
    process.join(300)
    assert process.exitcode == 0, log.read_text()


def begun(name: str, out: Path) -> bool:
    """Whether a command has written something."""
    return out.is_dir() and any(each.name != "private" for each in out.iterdir())


def killed(command: list[str], name: str, out: Path, moment: float, log: Path) -> bool:
    """Kills a command a moment after it began to write; whether it was still running."""
    process = started(command, log)
    while not begun(name, out) and process.is_alive():
        time.sleep(0.001)
    process.join(moment)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", SHARES)
def test_killed_processes_started_again(name, root, tmp_path):
    rng = np.random.default_rng([SEED, list(SHARES).index(name)])
    wanted, log = max(1, round(SHARES[name] * KILLS)), tmp_path / "log.txt"
    whole = prepared(name, tmp_path / "out_whole")
    process = started(command_of(name, root, whole), log)
    while not begun(name, whole) and process.is_alive():
        time.sleep(0.001)
    since = time.monotonic()
    process.join(300)
    seconds = time.monotonic() - since
    assert process.exitcode == 0, log.read_text()
    expected = state_of(name, whole)
    kills = 0
    for attempt in range(10 * wanted):
        out = prepared(name, tmp_path / f"out_{attempt:05}")
        command = command_of(name, root, out)
        in_a_row = min(int(rng.integers(1, MOST_IN_A_ROW + 1)), wanted - kills)
        kills += sum(killed(command, name, out, rng.uniform(0, seconds), log) for _ in range(in_a_row))
        if name != "interpret" or not (out / "report.html").is_file():  # done, it refuses its folder
            ended(command, log)
        assert state_of(name, out) == expected
        if kills >= wanted:
            break
    print(f"{name}: {kills} kills within {seconds:.1f} s")
    assert kills == wanted
