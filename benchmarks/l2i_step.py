"""L2I against PIQ: one training step on a batch and one interpretation, of the same classifier on the same clips.

    python benchmarks/l2i_step.py --channels 32 --batch 4 --repeats 5 --threads 2

PIQ with the arguments of recipes/esc50/piq_stems.yaml ("stems") and of piq.yaml ("paper"). A step is waveforms -> STFT
-> frozen classifier -> interpreter -> losses -> gradients -> update; "cached" steps get precomputed feature maps. The
methods run alternately; prints medians and the ratio of each PIQ's time to L2I's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from audiointerp.classifiers import VGGSound
from audiointerp.contracts import Batch
from audiointerp.interpreters import L2I, PIQ
from audiointerp.sound.masking import StemMask

SAMPLES, CLASSES = 80_000, 10


def methods(channels: int) -> dict[str, L2I | PIQ]:
    """The methods, each with its own but equal classifier, so that no method fills another's cache."""

    def classifier() -> VGGSound:
        return VGGSound([str(each) for each in range(CLASSES)], channels).eval()

    return {
        "l2i": L2I(classifier(), torch.rand(513, 100)),
        "stems": PIQ(
            classifier(),
            channels=64,
            codes=320,
            normalize=True,
            temperature=0.1,
            layers=(-1, 3, 2),
            target_mask=StemMask("ratio", 0.995),
            mask_loss="weighted_bce",
            condition="label",
            decoder="light",
            detail=True,
            stride=16,
        ),
        "paper": PIQ(classifier(), channels=channels, codes=1024),
    }


def stepper(method: L2I | PIQ, batch: Batch) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-4)
    method.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(method.losses(batch).values())).sum().backward()
        nn.utils.clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()

    return step


def medians(functions: dict[str, Callable], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each function, run alternately so that other load affects all equally; round one warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if repeat:
                seconds[name].append(clock() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"channels": 32, "batch": 4, "repeats": 5, "threads": torch.get_num_threads()}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--cpu_time", action="store_true", help="measure processor seconds, for a busy machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    waveform = torch.randn(options.batch, SAMPLES) * torch.linspace(0.01, 0.3, SAMPLES)
    label = torch.arange(options.batch) % CLASSES
    plain = Batch(waveform, label, torch.arange(options.batch), stem=waveform / 2)
    steps, made = {}, {}
    for name, method in methods(options.channels).items():
        with torch.no_grad():
            maps = method.classifier(waveform).feature_maps
        steps[name] = stepper(method, plain)
        steps[f"{name}, cached"] = stepper(method, plain.replace(feature_maps=maps))
        made[name] = lambda method=method: method.interpret(waveform[:1])
        print(f"{name}: {sum(each.numel() for each in method.parameters()):,} parameters")
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(f"threads={options.threads} channels={options.channels} batch={options.batch} samples={SAMPLES}")
    for what, functions in (("step", steps), ("interpretation", made)):
        median = medians(functions, options.repeats, clock)
        for name, seconds in median.items():
            ours = median["l2i, cached" if name.endswith("cached") else "l2i"]
            print(f"{what}: {name} {seconds:.3f} s, {seconds / ours:.2f} times L2I's")


if __name__ == "__main__":
    main()
