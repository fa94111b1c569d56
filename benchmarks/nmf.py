"""NMF against scikit-learn's coordinate descent: time until our loss is no higher than its loss after 5 iterations.

    python benchmarks/nmf.py --threads 2 --repeats 5
    python benchmarks/nmf.py --threads 1 --repeats 3 --cpu_time

Needs scikit-learn. Two seeded 513 x 50,000 matrices in float32, 100 components, the same start for both: "uniform"
numbers, and "sounds", log1p of sparse activations of 150 smooth spectra plus noise. The times include checking the
input matrices. The sides run alternately; medians are printed. Our NMF computes its loss at each iteration,
scikit-learn's does not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import non_negative_factorization
from threadpoolctl import threadpool_limits

from audiointerp.sound.nmf import NMF


def uniform(rng: np.random.Generator, bins: int, frames: int) -> np.ndarray:
    return rng.random((bins, frames), dtype=np.float32)


def sounds(rng: np.random.Generator, bins: int, frames: int, parts: int = 150) -> np.ndarray:
    centre, width = rng.uniform(0, bins, parts), rng.uniform(2, 60, parts)
    spectra = np.exp(-(((np.arange(bins)[:, None] - centre) / width) ** 2)) * rng.gamma(0.5, size=(bins, parts))
    activations = rng.gamma(1.0, size=(parts, frames)) * (rng.random((parts, frames)) < 0.05)
    return np.log1p(10 * spectra @ activations + 0.05 * rng.random((bins, frames))).astype(np.float32)


def iterations_until(goal: float, data: torch.Tensor, start: tuple[torch.Tensor, torch.Tensor], sweeps: int) -> int:
    losses = NMF(start[0].shape[1], bins=len(data)).fit(data, 10, start=start, sweeps=sweeps)
    # In float32, equal iterations on both sides differ by about 1e-7.
    reached = [index for index, loss in enumerate(losses, 1) if loss <= goal * (1 + 1e-6)]
    if not reached:
        raise SystemExit(f"loss {losses[-1]:g} after 10 iterations, {goal:g} wanted")
    return reached[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--components", type=int, default=100)
    parser.add_argument("--sweeps", type=int, default=1, help="sweeps of our NMF for each product with the data")
    parser.add_argument("--cpu_time", action="store_true", help="processor time instead of wall time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter

    def timed(run: Callable[[], object]) -> float:
        begin = clock()
        run()
        return clock() - begin

    print("| matrix | scikit-learn, 5 iterations | ours, as low a loss | ratio |")
    print("|---|---|---|---|")
    for make in (uniform, sounds):
        rng = np.random.default_rng(0)
        data = make(rng, 513, options.frames)
        scale = np.float32(2 * np.sqrt(data.mean() / options.components))
        dictionary = scale * rng.random((513, options.components), dtype=np.float32)
        activations = scale * rng.random((options.components, options.frames), dtype=np.float32)

        def theirs(data=data, dictionary=dictionary, activations=activations) -> tuple[np.ndarray, np.ndarray]:
            w, h, _ = non_negative_factorization(
                data, dictionary.copy(), activations.copy(), n_components=options.components, init="custom",
                solver="cd", max_iter=5, tol=0,
            )  # fmt: skip
            return w, h

        tensor, start = torch.from_numpy(data), (torch.from_numpy(dictionary), torch.from_numpy(activations))
        with threadpool_limits(options.threads):
            w, h = theirs()
            goal = float(np.square(data - w @ h, dtype=np.float64).mean())
            steps = iterations_until(goal, tensor, start, options.sweeps)

            def ours(tensor=tensor, start=start, steps=steps) -> list[float]:
                return NMF(options.components).fit(tensor, steps, start=start, sweeps=options.sweeps)

            ours()
            seconds = [(timed(theirs), timed(ours)) for _ in range(options.repeats)]
        their, our = (statistics.median(side) for side in zip(*seconds))
        print(f"| {make.__name__} | {their:.2f} s | {our:.2f} s, {steps} iterations | {our / their:.2f} |")


if __name__ == "__main__":
    main()
