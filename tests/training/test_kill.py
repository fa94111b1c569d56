"""A training run that is killed and started again ends as one that was left alone, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FLINT = ("--interpreter.width", "8", "--interpreter.n_attributes", "6", "--attributes.steps", "2")
SMALL_SEPARATOR = ("--interpreter.separator", "16", "--interpreter.chunk", "10")
RECIPES = {
    "classifier": ("--epochs", "14"),
    "piq_stems": ("--epochs", "12", "--evaluation.mixtures", "2", "--interpreter.codes", "40"),
    "lmac": ("--epochs", "12", "--evaluation.mixtures", "2", "--interpreter.width", "8"),
    "lmac_td": ("--epochs", "12", "--evaluation.mixtures", "2", "--interpreter.width", "8", *SMALL_SEPARATOR),
    "explainer": ("--epochs", "12", "--evaluation.mixtures", "2", "--interpreter.width", "8"),
    "rtis": ("--epochs", "12", "--evaluation.mixtures", "2", "--interpreter.width", "8"),
    "vibi": ("--epochs", "12", "--evaluation.mixtures", "2", "--interpreter.width", "8"),
    "flint": ("--epochs", "12", "--evaluation.mixtures", "2", *FLINT),
    "flint_by_design": ("--epochs", "12", "--evaluation.mixtures", "2", *FLINT),
}


@pytest.fixture(autouse=True)
def ctrl_c():
    """A shell's background jobs ignore Ctrl-C, and so would the processes they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "audiointerp", *command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(command: list[str]) -> str:
    process = start(command)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return error


def epochs(folder: Path) -> int:
    """Epochs that the log holds."""
    log = folder / "log.csv"
    return max(0, len(log.read_text().splitlines()) - 1) if log.is_file() else 0


def stop(command: list[str], folder: Path, after: int, delay: float, how: signal.Signals) -> tuple[int, str]:
    """Starts the command and sends a signal a moment after the epoch `after` is logged."""
    process = start(command)
    while epochs(folder) < after:
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    return process.returncode, error


@pytest.mark.parametrize("name", RECIPES)
def test_killed_runs_end_alike(tiny, tmp_path, name):
    more = list(RECIPES[name])
    if name not in ("classifier", "flint_by_design"):
        more += ["--classifier", str(tiny.classifier)]
    if name != "classifier":
        more += ["--evaluation.clips", "2", "--evaluation.figures", "false"]
    commands = {kind: tiny.recipe(name, tmp_path / kind, *more) for kind in ("whole", "killed")}
    for command in commands.values():
        # The recipe's own number of epochs replaces the tiny one.
        first = command.index("--epochs")
        del command[first : first + 2]
    whole, killed = (tmp_path / kind / name / "1234" for kind in commands)
    finish(commands["whole"])

    rng = np.random.default_rng(0)
    for after in (1, 4, 7):
        status, _ = stop(commands["killed"], killed, after, rng.uniform(0, 0.15), signal.SIGKILL)
        assert status == -signal.SIGKILL
        assert after <= epochs(killed) < len((whole / "log.csv").read_text().splitlines()) - 1
    status, error = stop(commands["killed"], killed, 9, rng.uniform(0, 0.15), signal.SIGINT)
    assert status == 130, error
    assert error.count("\n") == 1 and "the same command resumes" in error
    finish(commands["killed"])

    for file in ("log.csv", "best/model.safetensors", "best/metrics.json"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    assert not list(killed.rglob(".*.old")) and not list(killed.rglob("*.part"))


def test_killed_while_evaluating(tiny, tmp_path):
    """Rows that are written stay; the rest follows; no row comes twice."""
    more = tiny.interpreter("--evaluation.clips", "6", "--evaluation.mixtures", "2", "--evaluation.figures", "false")
    command = tiny.recipe("piq_stems", tmp_path, *more)
    folder = tmp_path / "piq_stems" / "1234"
    scores = folder / "scores.csv"
    for rows in (2, 9):
        process = start(command)
        while not scores.is_file() or len(scores.read_bytes().splitlines()) <= rows:
            assert process.poll() is None, "it ended before it could be stopped"
            time.sleep(0.002)
        process.kill()
        process.communicate()
        written = scores.read_bytes()
    finish(command)
    assert scores.read_bytes().startswith(written[: written.rfind(b"\n") + 1])
    keys = [line.split(",")[:2] for line in scores.read_text().splitlines()[1:]]
    own = [key for key in keys if not key[1].endswith("_other")]
    assert len(own) == len({tuple(key) for key in own}) == 8 * 3
    manifest = [line.split(",")[:3] for line in (folder / "manifest.csv").read_text().splitlines()[1:]]
    assert len(manifest) == len({tuple(key) for key in manifest})
