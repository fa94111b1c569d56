"""Peak memory and time of commands on many files: `python benchmarks/memory.py files|answers|hours NUMBER...`.

    files 100 1000 2000    short recordings through `interpret`
    answers 1000 10000     answer files through `listen analyse`
    hours 0.1667 1 3       one recording of so many hours through `interpret`

Each number is measured in a process of its own: its largest resident set in MB, and its seconds.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
CHEAP = ("--method", "loudest", "--no_figures", "--device", "cpu")  # one pass of the classifier a window


def peak_of(command: list[str]) -> tuple[float, float]:
    """Largest resident set in MB and seconds of a command of the package."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "audiointerp", *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ended with status {process.returncode}")
    return used.ru_maxrss / 1024, time.monotonic() - start


def model(folder: Path) -> Path:
    """A small classifier with random weights."""
    from audiointerp.bundles import bundle
    from audiointerp.classifiers import VGGSound

    return bundle.save(VGGSound(("a", "b", "c"), channels=4).eval(), folder / "classifier")


def files(folder: Path, number: float) -> list[str]:
    """So many recordings of 0.5 s."""
    rng = np.random.default_rng(0)
    (folder / "sounds").mkdir()
    for index in range(int(number)):
        samples = 0.1 * rng.standard_normal(RATE // 2)
        soundfile.write(folder / "sounds" / f"s{index:05}.wav", samples.astype("float32"), RATE)
    return ["interpret", str(model(folder)), str(folder / "sounds"), "-o", str(folder / "out"), *CHEAP]


def hours(folder: Path, number: float) -> list[str]:
    """One recording of noise of so many hours."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(folder / "long.wav", "w", RATE, 1, "PCM_16") as file:
        minute = (0.1 * rng.standard_normal(60 * RATE)).astype("float32")
        for _ in range(round(60 * number)):
            file.write(np.roll(minute, int(rng.integers(len(minute)))))
    return ["interpret", str(model(folder)), str(folder / "long.wav"), "-o", str(folder / "out"), *CHEAP]


def answers(folder: Path, number: float) -> list[str]:
    """A test of two items and two methods, answered by so many listeners, a file each."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from listening_runs import make_run

    from audiointerp.listening.making.export import export_study

    run = make_run(folder / "run", seconds=0.1)
    export_study(run, folder / "test", target="folder", participants=1)
    with open(folder / "test" / "public" / "answer_sheet.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng, paths = np.random.default_rng(0), []
    for index in range(int(number)):
        own = [{**row, "session_id": f"l{index}", "answer": str(rng.integers(1, 6))} for row in rows]
        paths.append(folder / f"a{index:05}.json")
        paths[-1].write_text(json.dumps({"answers": own}))
    key = str(folder / "test" / "private" / "key.csv")
    return ["listen", "analyse", *map(str, paths), "--key", key, "-o", str(folder / "out")]


def main(kind: str, *numbers: str) -> None:
    for number in map(float, numbers):
        folder = Path(tempfile.mkdtemp(prefix="memory-"))
        try:
            peak, seconds = peak_of({"files": files, "answers": answers, "hours": hours}[kind](folder, number))
        finally:
            shutil.rmtree(folder)
        print(f"{kind} {number:g}: {peak:.0f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
