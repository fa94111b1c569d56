"""Our PIQ against SpeechBrain's: one training step on a batch and one interpretation, on the same clips and weights.

    python benchmarks/piq_step.py --channels 64 --batch 4 --repeats 5 --threads 2

Needs speechbrain. First asserts that both give equal outputs; then times them alternately; prints medians and ratios.
The SpeechBrain side repeats `compute_forward` and `compute_objectives` of its recipes/ESC50/interpret/train_piq.py:
two STFTs, the classifier on the input, on the mask-in and on the mask-out, all three without gradient.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.classifiers.vggsound import VGGSound
from audiointerp.contracts import Batch
from audiointerp.interpreters.piq.model import PIQ

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from references.official_piq import N_FFT, WINDOW, copy_piq, target_mask

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    from speechbrain.lobes.models.PIQ import Conv2dEncoder_v2, VectorQuantizedPSI_Audio
    from speechbrain.processing.features import ISTFT, STFT, spectral_magnitude
    from speechbrain.processing.NMF import spectral_phase

SAMPLES, CLASSES, CODES = 80_000, 50, 1024


class Reference(nn.Module):
    """SpeechBrain's modules, combined as in its recipe (piq.yaml)."""

    def __init__(self, channels: int):
        super().__init__()
        self.stft = STFT(**WINDOW, n_fft=N_FFT)
        self.istft = ISTFT(**WINDOW)
        self.encoder = Conv2dEncoder_v2(channels).eval()
        self.head = Classifier(channels, out_neurons=CLASSES, lin_blocks=1, lin_neurons=192).eval()
        self.psi = VectorQuantizedPSI_Audio(channels, CODES, numclasses=CLASSES)
        self.optimizer = torch.optim.Adam(self.psi.parameters(), lr=2e-4, weight_decay=2e-6)

    def preprocess(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        stft = self.stft(waveform)
        return torch.log1p(spectral_magnitude(stft, power=0.5)), stft

    @torch.no_grad()
    def classify(self, log_magnitude: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.encoder(log_magnitude)
        return maps, self.head(maps.mean((-1, -2))).squeeze(1).argmax(1)

    def step(self, waveform: Tensor) -> None:
        log_magnitude, _ = self.preprocess(waveform)
        maps, predicted = self.classify(log_magnitude)
        logits, latent, quantized = self.psi(maps, predicted)
        mask = torch.sigmoid(logits.squeeze(1))
        log_magnitude = self.preprocess(waveform)[0][:, : mask.shape[1]]
        self.classify(mask * log_magnitude)
        self.classify((1 - mask) * log_magnitude)
        goal = target_mask(log_magnitude)
        cross_entropy = -goal * torch.log(mask + 1e-10) - (1 - goal) * torch.log(1 - mask + 1e-10)
        codebook = functional.mse_loss(quantized, latent.detach())
        commitment = functional.mse_loss(latent, quantized.detach())
        update(self.optimizer, cross_entropy.mean() + codebook + commitment)

    @torch.no_grad()
    def settle(self, waveform: Tensor) -> None:
        """Sets codes and running statistics to typical sizes; initial ones give logits too small for a comparison."""
        norms = [each for each in self.modules() if isinstance(each, nn.BatchNorm2d)]
        self.psi.codebook.embedding.weight.normal_()
        self.encoder.train()
        for momentum in (1.0, 0.1):
            for norm in norms:
                norm.momentum = momentum
            if momentum == 1.0:
                self.psi(*self.classify(self.preprocess(waveform)[0]))
        self.encoder.eval()

    @torch.no_grad()
    def interpret(self, waveform: Tensor) -> Tensor:
        log_magnitude, stft = self.preprocess(waveform)
        maps, predicted = self.classify(log_magnitude)
        mask = torch.sigmoid(self.psi(maps, predicted)[0].squeeze(1))
        phase = spectral_phase(stft)[:, : mask.shape[1], :, None]
        kept = torch.expm1(mask * log_magnitude[:, : mask.shape[1]])[..., None]
        return self.istft(kept * torch.cat([phase.cos(), phase.sin()], -1))


class Ours:
    """The package's PIQ with the reference's weights."""

    def __init__(self, reference: Reference, channels: int):
        self.classifier = VGGSound([str(each) for each in range(CLASSES)], channels).eval()
        self.piq = PIQ(self.classifier, codes=CODES)
        copy_piq(reference.encoder, reference.psi, self.classifier, self.piq)
        self.optimizer = torch.optim.AdamW(self.piq.parameters(), lr=2e-4)

    def batch(self, waveform: Tensor) -> Batch:
        index = torch.arange(len(waveform))
        return Batch(waveform, torch.zeros_like(index), index)

    def step(self, batch: Batch) -> None:
        update(self.optimizer, torch.stack(list(self.piq.losses(batch).values())).sum())

    def interpret(self, waveform: Tensor) -> Tensor:
        return self.piq.interpret(waveform).waveform


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the recipe: gradients, their norm limited to 5, update."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 5.0)
    optimizer.step()


@torch.no_grad()
def assert_equal(reference: Reference, ours: Ours, waveform: Tensor) -> None:
    """Asserts equal features, encoder outputs (26 columns), and mask logits on frames 0..351, unaffected by padding."""
    reference.psi.eval()
    ours.piq.eval()
    features = ours.classifier.features(waveform)
    expected_features = reference.preprocess(waveform)[0]
    torch.testing.assert_close(features, expected_features.transpose(1, 2), atol=1e-4, rtol=1e-4)
    prediction = ours.classifier.classify(features)
    maps, _ = reference.classify(expected_features)
    torch.testing.assert_close(prediction.feature_maps[-1], maps.transpose(2, 3), atol=1e-4, rtol=1e-4)
    label = torch.arange(len(waveform)) % CLASSES
    expected = reference.psi(maps, label)[0].squeeze(1).transpose(1, 2)[..., :352]
    allowed = functional.one_hot(label, CLASSES).bool()
    logits, _ = ours.piq.mask_logits(prediction, allowed, ours.classifier.spectrogram(waveform))
    torch.testing.assert_close(logits[..., :352], expected, atol=1e-3, rtol=1e-3)
    reference.psi.train()
    ours.piq.train()
    largest = (logits[..., :352] - expected).abs().max()
    print(f"equal: mask logits of standard deviation {expected.std():.2f} differ by {largest:.1e} at most")


def alternate(functions: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each function, run alternately so that other load affects all equally."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if repeat:  # the first round warms up
                seconds[name].append(clock() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def peaks(seconds: float = 0.5) -> dict[str, float]:
    """GFLOP/s of a large matrix product and of a channels-last 3 x 3 convolution (oneDNN; often the faster one)."""
    matrix = torch.randn(2048, 2048)
    image = torch.randn(4, 64, 128, 128).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 64, 3, 3).to(memory_format=torch.channels_last)
    work = {
        "matrix product": (lambda: matrix @ matrix, 2 * 2048**3),
        "convolution": (lambda: functional.conv2d(image, kernel), 2 * 4 * 126 * 126 * 64 * 256 * 9),
    }
    rates = {}
    for name, (function, flops) in work.items():
        best, end = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            with torch.no_grad():
                function()
            best = min(best, time.perf_counter() - start)
        rates[name] = flops / best / 1e9
    return rates


def step_gflop(channels: int, batch: int) -> float:
    """Arithmetic of our step in GFLOP: the encoder once, the decoder three times (forward and two gradients)."""
    square = channels**2 * 16
    encoder = 256 * 215 * channels * 16 + square * (128 * 107 + 64 * 53 + 32 * 26)
    inputs = 16 * 14 + 63 * 55 + 126 * 110 + 252 * 220
    decoder = square * inputs + channels**2 * 9 * 32 * 28 + channels * 144 * 504 * 440
    return 2e-9 * batch * (encoder + 3 * decoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"channels": 64, "batch": 4, "repeats": 5, "threads": torch.get_num_threads()}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--cpu_time", action="store_true", help="measure processor seconds; with --threads 1, valid on a busy machine"
    )
    parser.add_argument("--profile", action="store_true", help="also print a profile of our step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    reference = Reference(options.channels)
    waveform = torch.randn(options.batch, SAMPLES) * torch.linspace(0.01, 0.3, SAMPLES)
    reference.settle(waveform)
    ours = Ours(reference, options.channels)
    assert_equal(reference, ours, waveform)

    batch, clip = ours.batch(waveform), waveform[:1]
    with torch.no_grad():
        cached = batch.replace(feature_maps=ours.classifier(waveform).feature_maps)

    def bfloat16_step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            ours.step(batch)

    step: dict[str, Callable[[], object]] = {
        "reference": lambda: reference.step(waveform),
        "ours": lambda: ours.step(batch),
    }
    step |= {"cached": lambda: ours.step(cached), "bfloat16": bfloat16_step}
    clock = time.process_time if options.cpu_time else time.perf_counter
    median = alternate(step, options.repeats, clock)
    reference.eval()
    interpret = alternate(
        {"reference": lambda: reference.interpret(clip), "ours": lambda: ours.interpret(clip)}, options.repeats, clock
    )
    rates, gflop = peaks(), step_gflop(options.channels, options.batch)
    print(f"threads={options.threads} channels={options.channels} batch={options.batch} samples={SAMPLES}")
    print(f"step: reference {median['reference']:.3f} s, ours {median['ours']:.3f} s")
    print(f"interpret: reference {interpret['reference']:.3f} s, ours {interpret['ours']:.3f} s")
    print(f"step_ratio={median['reference'] / median['ours']:.2f}")
    print(f"interpret_ratio={interpret['reference'] / interpret['ours']:.2f}")
    print(f"cached_step_ratio={median['reference'] / median['cached']:.2f}")
    print(f"bfloat16_step_ratio={median['reference'] / median['bfloat16']:.2f}")
    print(f"our step: {gflop:.0f} GFLOP, {gflop / median['ours']:.0f} GFLOP/s")
    print("peaks: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
    if options.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
            ours.step(batch)
        table = profile.key_averages(group_by_input_shape=True)
        print(table.table("self_cpu_time_total", row_limit=15, max_name_column_width=40, max_shapes_column_width=70))


if __name__ == "__main__":
    main()
