"""Our L-MAC against SpeechBrain's: one training step on a batch, on the same clips and the same classifier.

    OMP_NUM_THREADS=1 python benchmarks/lmac_step.py --batch 2 --repeats 3 --cpu_time

Needs speechbrain and 9 GB of memory. First asserts that both give equal losses with the released decoder's weights;
then times alternately, and prints medians and ratios, of

- SpeechBrain's step: `compute_forward` and `compute_objectives` of its recipes/ESC50/interpret/train_lmac.py;
- ours with the released decoder (236.7 million weights), which differs in what is computed around it;
- ours with our own decoder, which is what `lmac.yaml` trains.

The classifier is SpeechBrain's CNN14 with random weights, frozen.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch
from piq_step import alternate, update
from torch import Tensor, nn

from audiointerp.contracts import Batch, frozen
from audiointerp.interpreters import LMAC, mask_losses

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from references.official_lmac import (
    CLASSES,
    WEIGHTS,
    OfficialClassifier,
    OfficialDecoder,
    official_loss,
    samples_for,
)
from references.official_piq import N_FFT, WINDOW

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from speechbrain.lobes.models.Cnn14 import Cnn14, CNN14PSI_stft
    from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    from speechbrain.processing.features import STFT, Filterbank, spectral_magnitude


class Reference:
    """SpeechBrain's modules, combined as in its recipe (lmac_cnn14.yaml)."""

    def __init__(self, classifier: OfficialClassifier, psi: nn.Module):
        self.classifier, self.psi = classifier, psi
        self.stft = STFT(**WINDOW, n_fft=N_FFT)
        self.optimizer = torch.optim.Adam(psi.parameters(), lr=2e-4, weight_decay=2e-6)

    def preprocess(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """log1p of magnitude and of mel, (batch, time, freq or band)."""
        magnitude = spectral_magnitude(self.stft(waveform), power=0.5)
        return magnitude.log1p(), self.classifier.fbank(magnitude).log1p()

    def classify(self, mel: Tensor) -> Tensor:
        """Logits."""
        return self.classifier.head(self.classifier.embedding(mel)[0]).squeeze(1)

    def loss(self, waveform: Tensor) -> Tensor:
        """The weighted sum of the recipe's terms."""
        mel = self.preprocess(waveform)[1]
        embedded, maps = self.classifier.embedding(mel)
        predicted = self.classifier.head(embedded).squeeze(1).argmax(1)
        mask = self.psi(maps).squeeze(1).sigmoid()
        self.preprocess(waveform)  # the recipe computes the spectrogram of the clean clips, and again that of the clips
        level = self.preprocess(waveform)[0]
        return official_loss(self.classify, self.classifier.fbank, mask, level, predicted)

    def step(self, waveform: Tensor) -> None:
        """One update of the decoder."""
        update(self.optimizer, self.loss(waveform))


class Ours:
    """The package's L-MAC."""

    def __init__(self, lmac: LMAC):
        self.lmac = lmac.train()
        self.optimizer = torch.optim.AdamW(lmac.parameters(), lr=2e-4)

    def step(self, batch: Batch) -> None:
        """One update of the decoder."""
        losses = self.lmac.losses(batch)
        update(self.optimizer, torch.stack([WEIGHTS.get(name, 0.0) * each for name, each in losses.items()]).sum())


@torch.no_grad()
def assert_equal(reference: Reference, ours: LMAC, waveform: Tensor) -> None:
    """Asserts that our terms give the recipe's loss: the term left unbounded, the area summed over the batch."""
    classifier = ours.classifier
    stft, prediction = classifier.spectrogram(waveform), classifier(waveform)
    target = torch.nn.functional.one_hot(prediction.predicted, CLASSES).bool()
    mask = ours.mask_logits(prediction, target, stft, waveform.shape[1]).sigmoid()
    kept, left = mask_losses.classify_parts(classifier, stft, mask, waveform.shape[1], "log_magnitude")
    found = (
        WEIGHTS["masked_in"] * mask_losses.masked_in(kept.logits, target, False)
        + WEIGHTS["masked_out"] * mask_losses.masked_out(left.logits, target, False, bounded=False)
        + WEIGHTS["area"] * len(mask) * mask_losses.mean_area(mask)
    )
    expected = reference.loss(waveform)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    print(f"equal: losses {float(expected):.6f} and {float(found):.6f}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"batch": 2, "repeats": 3, "threads": torch.get_num_threads()}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--cpu_time", action="store_true", help="measure processor seconds; with --threads 1, valid on a busy machine"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    samples = samples_for(13)  # 425 frames, 4.9 s
    waveform = torch.randn(options.batch, samples) * torch.linspace(0.01, 0.3, samples)
    head = Classifier(2048, out_neurons=CLASSES, lin_blocks=1, lin_neurons=192)
    fbank = Filterbank(n_mels=80, n_fft=N_FFT, sample_rate=16_000, log_mel=False)
    classifier = OfficialClassifier(fbank, Cnn14(mel_bins=80, emb_dim=2048, return_reps=True), head)
    index = torch.arange(options.batch)
    batch = Batch(waveform, torch.zeros_like(index), index)
    with frozen(classifier):
        psi = CNN14PSI_stft(dim=2048, outdim=1)
        reference = Reference(classifier, psi)
        same = OfficialDecoder(classifier, conditional=False).use(psi)
        assert_equal(reference, same, waveform)
        released, own = Ours(same), Ours(LMAC(classifier, detail=True))
        clock = time.process_time if options.cpu_time else time.perf_counter
        median = alternate(
            {
                "SpeechBrain": lambda: reference.step(waveform),
                "released decoder": lambda: released.step(batch),
                "own decoder": lambda: own.step(batch),
            },
            options.repeats,
            clock,
        )
    print(f"threads={options.threads} batch={options.batch} samples={samples}")
    for name, seconds in median.items():
        print(f"{name}: {seconds:.2f} s")
    print(f"released_decoder_step_ratio={median['SpeechBrain'] / median['released decoder']:.2f}")
    print(f"step_ratio={median['SpeechBrain'] / median['own decoder']:.2f}")


if __name__ == "__main__":
    main()
