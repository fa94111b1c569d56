"""Time of rate-distortion explanations of notes, and the saturation of their maps.

    python benchmarks/rde.py --nsynth NSYNTH --classifier RUN --fillers INPAINTER_RUN

Maps of single notes over the magnitudes and phases of 512 bands (1,024 parts), with donor notes and with the generator,
for 300 steps and for 1,000 smaller steps; and the class query by enumeration, with the time of the slowest class.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from audiointerp.bundles import bundle
from audiointerp.datasets import ClipDataset, read_nsynth
from audiointerp.interpreters import BandRDE
from audiointerp.interpreters.rde.solvers import Concrete
from audiointerp.runs.notes.explaining import features_of, pick_notes
from audiointerp.runs.notes.magnitude_phase import MagnitudePhase


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nsynth", type=Path, required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--fillers", required=True)
    parser.add_argument("--notes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    classifier, fillers = bundle.load(options.classifier), bundle.load(options.fillers).fillers()
    clips = [clip for clip in read_nsynth(options.nsynth) if clip.fold == 3]
    test = ClipDataset(clips, classifier.labels, seconds=4.0)
    notes = pick_notes(test, 1, seed=0)[: options.notes]
    BandRDE(classifier, fillers["donor"], Concrete(steps=1)).interpret(test.waveform(notes[0])[None])  # imports
    print(f"{options.threads} threads, {len(notes)} notes\n")
    print("| one note | filler | seconds a note | saturated | rate | D(end) / D(empty) |\n|---|---|---|---|---|---|")
    solver = Concrete(steps=300, lr=0.1, samples=16)
    for name in ("donor", "generator"):
        tell("300 steps of 0.1", name, BandRDE(classifier, fillers[name], solver), test, notes)
    slow = replace(solver, steps=1000, lr=0.05)
    for name in ("donor", "generator"):
        tell("1,000 steps of 0.05", name, BandRDE(classifier, fillers[name], slow), test, notes)
    everything = range(len(test))
    features, labels = features_of(classifier, test, list(everything)), test.labels_of()
    query = MagnitudePhase(steps=0)
    print("\n| class query | filler | slowest class, seconds | notes of it |\n|---|---|---|---|")
    table = query(classifier, features, labels, fillers)
    for name, group in table.groupby("filler", sort=False):
        slowest = group.loc[group["seconds"].idxmax()]
        print(f"| enumeration, {query.samples} draws | {name} | {slowest['seconds']:.2f} | {slowest['notes']} |")


def tell(what: str, filler: str, method: BandRDE, test: ClipDataset, notes: list[int]) -> None:
    seconds, found = [], []
    for note in notes:
        start = time.perf_counter()
        found.append(method.interpret(test.waveform(note)[None]).details)
        seconds.append(time.perf_counter() - start)
    saturated, rate = (np.mean([float(each[name]) for each in found]) for name in ("saturated", "rate"))
    left = np.mean([float(each["end"] / each["empty"]) for each in found])
    print(f"| {what} | {filler} | {np.median(seconds):.1f} | {saturated:.2f} | {rate:.2f} | {left:.2f} |", flush=True)


if __name__ == "__main__":
    main()
