"""Attribution methods against direct calls of captum, at equal settings; and the memory of integrated gradients.

    python benchmarks/attribution.py --channels 32 --repeats 3 --threads 1 --cpu_time
    python benchmarks/attribution.py --memory

Both sides start from the STFT of one clip of 5 s and attribute the same logit to its magnitude. The last column is the
time of `interpret`: prediction, attribution, mask, two sounds. RISE, which captum lacks, is compared with a direct
implementation of its formula. The sides run alternately; each number is the median of the rounds, and the ratio is the
median of ours / captum's. `--memory`: 50 steps on one clip.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from captum import attr
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import Tensor, nn

from audiointerp.classifiers import VGGSound
from audiointerp.contracts import resolve_target
from audiointerp.interpreters import (
    LIME,
    RISE,
    GradCAM,
    GradientSHAP,
    GuidedGradCAM,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
)
from audiointerp.interpreters.attribution.base import Attribution
from audiointerp.interpreters.base import Scene

SAMPLES, BATCH, TARGET = 80_000, 8, 3


class OfMagnitude(nn.Module):
    """Magnitude (batch, 1, freq, time) -> logits."""

    def __init__(self, classifier: VGGSound):
        super().__init__()
        self.classifier = classifier

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.classifier.classify(magnitude[:, 0].log1p()).logits


def ours(classifier: VGGSound) -> dict[str, Attribution]:
    """Our methods by name."""
    return {
        "Saliency": Saliency(classifier),
        "SmoothGrad, 25": SmoothGrad(classifier, n_samples=25),
        "IntegratedGradients, 50, linear": IntegratedGradients(classifier, path="linear"),
        "IntegratedGradients, 50, log-spaced": IntegratedGradients(classifier),
        "GradientSHAP, 20": GradientSHAP(classifier, n_samples=20, baselines=["silence"]),
        "GradCAM": GradCAM(classifier),
        "GuidedGradCAM": GuidedGradCAM(classifier),
        "Occlusion, 1 kHz x 0.5 s": Occlusion(classifier),
        "LIME, 4 x 6 tiles, 200": LIME(classifier, n_samples=200),
        "RISE, 200": RISE(classifier, n_masks=200),
    }


@torch.no_grad()
def rise(model: nn.Module, magnitude: Tensor) -> Tensor:
    """RISE's formula with 200 masks of 8 x 12 cells, for magnitudes (1, 1, freq, time)."""
    total = torch.zeros_like(magnitude[0, 0])
    for _ in range(200 // BATCH):
        cells = (torch.rand(BATCH, 1, 9, 13) < 0.5).float()
        masks = nn.functional.interpolate(cells, (9 * 65, 13 * 36), mode="bilinear")[:, :, 7:520, 5:436]
        total += (model(masks * magnitude)[:, TARGET, None, None] * masks[:, 0]).sum(0)
    return total / (200 * 0.5)


def sides(classifier: VGGSound, waveform: Tensor) -> dict[str, tuple[Attribution, Callable[[], object]]]:
    """Method name -> our method, and a direct call of captum, in the order of `ours`."""
    model = OfMagnitude(classifier)
    stft = classifier.spectrogram(waveform / waveform.abs().max())
    magnitude = stft.abs().unsqueeze(1)
    layer = classifier.encoder.residual
    zero = torch.zeros_like(magnitude)

    def leaf() -> Tensor:
        return stft.abs().unsqueeze(1).requires_grad_()

    def cam() -> Tensor:
        made: Any = attr.LayerGradCam(model, layer).attribute(leaf(), TARGET, relu_attributions=True)
        return attr.LayerAttribution.interpolate(made, magnitude.shape[2:], "bilinear")

    def smooth() -> object:
        spread = 0.01 * float(magnitude.max() - magnitude.min())
        tunnel = attr.NoiseTunnel(attr.Saliency(lambda x, *_: model(x.clamp(min=0))[:, TARGET]))
        return tunnel.attribute(leaf(), nt_samples=25, nt_samples_batch_size=BATCH, stdevs=spread, abs=False)

    def shap() -> None:
        for count in (8, 8, 4):
            attr.GradientShap(model).attribute(leaf(), zero, n_samples=count, target=TARGET)

    def occlusion() -> object:
        window, stride = (1, 64, 43), (1, 32, 22)
        return attr.Occlusion(model).attribute(magnitude, window, stride, 0, TARGET, perturbations_per_eval=BATCH)

    def lime() -> object:
        low, early = (torch.arange(size) * parts // size for size, parts in ((513, 4), (431, 6)))
        tiles = (low[:, None] * 6 + early)[None, None]
        kernel = get_exp_kernel_similarity_function("cosine", 0.25)
        method = attr.Lime(model, SkLearnRidge(alpha=1.0), kernel)
        return method.attribute(
            magnitude, target=TARGET, feature_mask=tiles, n_samples=200, perturbations_per_eval=BATCH
        )

    def integrated() -> object:
        return attr.IntegratedGradients(model).attribute(leaf(), 0, TARGET, n_steps=50, internal_batch_size=BATCH)

    theirs = (
        lambda: attr.Saliency(model).attribute(leaf(), TARGET),
        smooth,
        integrated,
        integrated,
        shap,
        cam,
        lambda: attr.GuidedGradCam(model, layer).attribute(leaf(), TARGET, interpolate_mode="bilinear"),
        occlusion,
        lime,
        lambda: rise(model, magnitude),
    )
    return {name: (method, by_hand) for (name, method), by_hand in zip(ours(classifier).items(), theirs, strict=True)}


def clip() -> Tensor:
    return torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 0.1, SAMPLES)


def untrained(channels: int) -> VGGSound:
    torch.manual_seed(0)
    made = VGGSound([str(each) for each in range(10)], channels).eval()
    for each in made.parameters():
        each.requires_grad_(False)
    return made


def scene_of(classifier: VGGSound, waveform: Tensor) -> Scene:
    scaled = waveform / waveform.abs().max()
    prediction = classifier(scaled)
    return Scene(scaled, classifier.spectrogram(scaled), prediction, resolve_target(TARGET, prediction, False))


def compare(channels: int, repeats: int, clock: Callable[[], float], only: str) -> None:
    print("| method | passes | captum by hand | ours | ratio | ours, to the sound |\n|---|---|---|---|---|---|")
    classifier, waveform = untrained(channels), clip()
    scene = scene_of(classifier, waveform)
    for name, (method, by_hand) in sides(classifier, waveform).items():
        if only not in name:
            continue
        runs: list[Callable[[], object]] = [
            by_hand,
            partial(method.attribute, scene, method.score_of(scene)),
            partial(method.interpret, waveform, TARGET),
        ]
        seconds: list[list[float]] = [[], [], []]
        for repeat in range(repeats + 1):
            for side, run in zip(seconds, runs):
                start = clock()
                run()
                if repeat:
                    side.append(clock() - start)
        captum, own, whole = (statistics.median(each) for each in seconds)
        ratio = statistics.median(b / a for a, b, _ in zip(*seconds))
        print(f"| {name} | {method.passes} | {captum:.3f} s | {own:.3f} s | {ratio:.2f} | {whole:.3f} s |", flush=True)


def memory(channels: int, max_batch: int) -> None:
    classifier = untrained(channels)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    made = IntegratedGradients(classifier, max_batch=max_batch).interpret(clip(), TARGET)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    missed = float(made.details["completeness"])
    print(f"50 steps, {max_batch} at once: peak {peak:.2f} GiB, of which {before:.2f} before; misses {missed:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a method's name")
    parser.add_argument("--cpu_time", action="store_true", help="measure processor seconds, for a busy machine")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--max_batch", type=int, default=BATCH)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.memory:
        memory(options.channels, options.max_batch)
        return
    clock = time.process_time if options.cpu_time else time.perf_counter
    compare(options.channels, options.repeats, clock, options.only)


if __name__ == "__main__":
    main()
