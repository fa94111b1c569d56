"""Clips a second of `audiointerp interpret` on a folder, and where the time goes, for one or several checkouts.

    python benchmarks/folder.py CLIPS [--clips 80] [--threads 2] [--rounds 1] [--package OLD --package NEW] [OPTION ...]

Each package is a folder that holds `audiointerp/`, such as an older checkout: the command runs in a process of its own
with that folder first on PYTHONPATH, packages in turn, and the outputs of the last are compared with those of the
first. Further options, such as --no_figures or --method lime, are given to the command. `--threads 1` makes the
processor time of a stage that of all its work, which is valid on a busy machine, too; the seconds of a stage that runs
in the background pass while others run.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Functions that a version of the package lacks are left out.
STAGES = {
    "read": (
        "sound.recordings:Recording.__init__",
        "sound.recordings:Recording.windows",
        "sound.files:read",
        "datasets.clips:ClipDataset.waveform",
    ),
    "explain": ("interpreters.base:MaskInterpreter.interpret",),
    "score": (
        "evaluation.judging:judge",
        "evaluation.judging:hear",
        "evaluation.judging:judge_waveforms",
        "evaluation.likeliest:note_likeliest",
        "evaluation.likeliest:rank_labels",
    ),
    "write": (
        "sound.recordings:WindowWriter.__init__",
        "sound.recordings:WindowWriter.add",
        "sound.recordings:WindowWriter.close",
        "sound.recordings:listening_copy",
        "results.tables:source_hash",
        "results.tables:_Table.__init__",
        "results.tables:_Table.add_rows",
        "results.tables:Manifest.add",
    ),
    "figures": ("results.figures:plot_interpretation",),
    "page": ("results.page:write_report", "commands:_print_decisions"),
}


class Clock:
    """Processor time of the calling thread and time of day spent in each stage, without the stages called by it."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {name: [0.0, 0.0] for name in STAGES}
        self._within = threading.local()
        self._lock = threading.Lock()

    def timed(self, stage: str, call: Callable[[], Any]) -> Any:
        """The result of the call, which belongs to the stage."""
        inner: list[list[float]] = self._within.__dict__.setdefault("stack", [])
        inner.append([0.0, 0.0])
        start = time.thread_time(), time.perf_counter()
        try:
            return call()
        finally:
            whole = [time.thread_time() - start[0], time.perf_counter() - start[1]]
            own = inner.pop()
            with self._lock:
                for place in range(2):
                    self.spent[stage][place] += whole[place] - own[place]
                    if inner:
                        inner[-1][place] += whole[place]

    def around(self, stage: str, function: Callable) -> Callable:
        """The function, timed; each step of a generator is timed."""

        def steps(made: Iterator[Any]) -> Iterator[Any]:
            end = object()
            while (value := self.timed(stage, lambda: next(made, end))) is not end:
                yield value

        @functools.wraps(function)
        def called(*given: Any, **named: Any) -> Any:
            made = self.timed(stage, lambda: function(*given, **named))
            return steps(made) if inspect.isgenerator(made) else made

        return called


def watch(clock: Clock, figures: bool) -> None:
    """Wraps the functions of each stage, wherever they were imported by name."""
    for stage, places in STAGES.items():
        if stage == "figures" and not figures:
            continue  # it would import matplotlib
        for place in places:
            module_name, _, path = place.partition(":")
            try:
                owner: Any = importlib.import_module(f"audiointerp.{module_name}")
            except ImportError:
                continue
            *parents, name = path.split(".")
            for each in parents:
                owner = getattr(owner, each, None)
            original = vars(owner).get(name) if owner is not None else None
            if original is None:
                continue
            timed = clock.around(stage, original)
            setattr(owner, name, timed)
            for module in [each for key, each in sys.modules.items() if key.startswith("audiointerp.")]:
                for key in [key for key, value in vars(module).items() if value is original]:
                    setattr(module, key, timed)


def child(threads: int, command: list[str]) -> None:
    """Runs the command in this process and prints what it took, as the last line."""
    import torch

    torch.set_num_threads(threads)
    clock = Clock()
    watch(clock, "--no_figures" not in command)
    from audiointerp.__main__ import main as run

    before = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    status = run(command)
    after = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = sum(getattr(after, each) - getattr(before[0], each) for each in ("ru_utime", "ru_stime"))
    print(
        json.dumps(
            {
                "status": status,
                "processor": used + children.ru_utime + children.ru_stime,
                "wall": time.perf_counter() - before[1],
                "megabytes": after.ru_maxrss / 1024,
                "stages": clock.spent,
            }
        )
    )


def measure(package: Path, threads: int, command: list[str]) -> dict[str, Any]:
    """What the command takes with a package, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, __file__, "--child", "--threads", str(threads), *command]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["status"]:
        raise SystemExit(f"{package}: the command ended with status {found['status']}")
    return found


def differences(first: Path, second: Path) -> dict[str, float]:
    """The largest difference of a score and of a sample between two run folders.

    Raises:
        ValueError: if the rows, the WAVs or a text differ.
    """
    import numpy as np
    import pandas as pd
    import soundfile

    tables = [pd.read_csv(folder / "scores.csv", keep_default_na=False, na_values=[""]) for folder in (first, second)]
    found = {"score": 0.0, "sample": 0.0}
    for name in tables[0].drop(columns="seconds"):
        one, other = tables[0][name], tables[1][name]
        if not pd.api.types.is_float_dtype(one):
            if not one.equals(other):
                raise ValueError(f"column {name} differs")
            continue
        found["score"] = max(found["score"], float(np.nan_to_num((one - other).abs().to_numpy(float)).max()))
    paths = [sorted(each.relative_to(folder) for each in folder.rglob("*.wav")) for folder in (first, second)]
    if paths[0] != paths[1]:
        raise ValueError(f"the folders hold {len(paths[0])} and {len(paths[1])} WAVs, or other ones")
    for path in paths[0]:
        one, other = (soundfile.read(folder / path, dtype="float32")[0] for folder in (first, second))
        found["sample"] = max(found["sample"], float(np.abs(one - other).max()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of sounds; its first files are linked into one folder")
    parser.add_argument("--model", default="esc10-piq")
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--package", type=Path, action="append", help="holds audiointerp/; this checkout if none")
    options, rest = parser.parse_known_args()
    packages = [each.resolve() for each in options.package or [Path(__file__).parents[1]]]
    work = Path(tempfile.mkdtemp(prefix="folder-"))
    try:
        (work / "sounds").mkdir()
        files = sorted(each for each in options.folder.rglob("*") if each.is_file())
        for index in range(options.clips):  # a folder with fewer files is repeated
            source = files[index % len(files)].resolve()
            (work / "sounds" / f"{index:05}{source.suffix}").symlink_to(source)
        measured: list[list[dict[str, Any]]] = [[] for _ in packages]
        for _ in range(options.rounds):
            for place, package in enumerate(packages):
                out = work / f"out_{place}"
                shutil.rmtree(out, ignore_errors=True)
                words = ["interpret", options.model, str(work / "sounds"), "-o", str(out), "--device", "cpu", *rest]
                measured[place].append(measure(package, options.threads, words))
        for package, each in zip(packages, measured):
            show(package, options.clips, sorted(each, key=lambda one: one["wall"])[len(each) // 2])
        if len(packages) > 1:
            print(f"largest differences: {differences(work / 'out_0', work / f'out_{len(packages) - 1}')}")
    finally:
        shutil.rmtree(work)


def show(package: Path, clips: int, found: dict[str, Any]) -> None:
    """Prints milliseconds a clip of each stage."""
    print(f"{package}: {clips / found['wall']:.2f} clips a second, {found['megabytes']:.0f} MB at most")
    print(f"  {'a clip':10} {'processor':>12} {'wall':>12}")
    rows = {name: each for name, each in found["stages"].items() if any(each)}
    rest = found["processor"] - math.fsum(each[0] for each in rows.values())
    for name, (used, wall) in rows.items():
        print(f"  {name:10} {1000 * used / clips:9.1f} ms {1000 * wall / clips:9.1f} ms")
    print(f"  {'the rest':10} {1000 * rest / clips:9.1f} ms")
    print(f"  {'all':10} {1000 * found['processor'] / clips:9.1f} ms {1000 * found['wall'] / clips:9.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[3]), sys.argv[4:])
    else:
        main()
