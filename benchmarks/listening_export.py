"""Time of exporting a listening test, optionally with a profile.

python benchmarks/listening_export.py [--items 100] [--methods 5] [--seconds 5] [--target folder]

Synthetic run: 16 kHz float32 WAVs of noise, a mixture and one sound per method for each item. Written at 48 kHz.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from audiointerp.listening.making.export import export_study
from audiointerp.results.tables import Manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--methods", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--target", default="folder", choices=("folder", "html", "webmushra"))
    parser.add_argument("--profile", action="store_true", help="also print a profile of the main thread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder, "run"), options)
        profile = cProfile.Profile()
        start, start_cpu = time.perf_counter(), time.process_time()
        if options.profile:
            profile.enable()
        done = export_study(run, Path(folder, "out"), target=options.target)
        profile.disable()
        elapsed, spent = time.perf_counter() - start, time.process_time() - start_cpu
        size = sum(path.stat().st_size for path in done.public.rglob("*") if path.is_file()) / 1e6
        print(f"{done.stimuli} sounds of {options.seconds:g} s, {done.trials} trials, {size:.0f} MB")
        print(f"target {options.target}: {elapsed:.1f} s, of processor time {spent:.1f} s")
        if options.profile:
            pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats(15)


def make_run(folder: Path, options: argparse.Namespace) -> Path:
    """Writes a run folder of noise; levels differ as those of real methods do."""
    random = np.random.default_rng(0)
    manifest = Manifest(folder)
    names = [f"method_{number}" for number in range(options.methods)]
    for item in range(options.items):
        item_id = f"c_{item:03d}"
        files = []
        for role, method in (("mixture", ""), *(("interpretation", name) for name in names)):
            path = folder / "audio" / item_id / f"{method or role}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = random.standard_normal(int(options.seconds * options.rate)) * 10 ** random.uniform(-2.5, -0.8)
            soundfile.write(path, samples.astype("float32"), options.rate, subtype="FLOAT")
            files.append((role, method, path))
        manifest.add(item_id, files, {"pred_class": "dog", "pred_prob": 0.9})
    (folder / "run.json").write_text(json.dumps({"labels": ["dog", "cat"]}))
    return folder


if __name__ == "__main__":
    main()
