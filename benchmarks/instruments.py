"""Classification of instrument families: the recipe's classifier and shallow models, on new instruments and pitches.

    python benchmarks/instruments.py --nsynth NSYNTH -o OUT

Runs recipes/nsynth/classifier.yaml over seeds, with magnitude and phase or one of them as input; fits the shallow
models in the same run. Intervals are bootstrapped over instruments: notes of one instrument are not independent.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import librosa
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiointerp.bundles import bundle
from audiointerp.datasets import ClipDataset, FeatureDataset, instrument_of, read_nsynth, split
from audiointerp.metrics.statistics import bootstrap_interval
from audiointerp.runs.experiment import Experiment

RECIPE = Path(__file__).parents[1] / "recipes" / "nsynth" / "classifier.yaml"
READS = ("both", "magnitude", "phase")
SPLITS = {
    "unheard instruments": {"split": "instrument", "train_folds": [1], "valid_folds": [2], "test_folds": [3]},
    "unheard pitches": {"split": "note", "train_folds": [1, 2, 3, 4], "valid_folds": [], "test_folds": [5]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nsynth", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    print("| test notes | model | accuracy | 95 % over instruments | seeds, or one run |\n|---|---|---|---|---|")
    for name, how in SPLITS.items():
        clips = read_nsynth(options.nsynth, split=how["split"])
        splits = split(clips, how["train_folds"], how["valid_folds"], how["test_folds"])
        instruments = [instrument_of(clip) for clip in splits.test]
        for reads in READS:
            settings = {key: str(value) for key, value in how.items()} | {"reads": reads}
            settings |= {"data_folder": str(options.nsynth), "blank": "0.2" if reads == "both" else "0.0"}
            right = [trained(settings, splits, options.output / how["split"] / reads, seed) for seed in options.seeds]
            tell(name, f"classifier.yaml, reads {reads}", np.array(right, float), instruments)
        for model, right in shallow(splits).items():
            tell(name, model, right[None].astype(float), instruments)


def trained(settings: dict[str, str], splits, folder: Path, seed: int) -> np.ndarray:
    """Trains with one seed; returns whether each test note is classified correctly."""
    run = Experiment(RECIPE, {**settings, "seed": str(seed), "output_folder": str(folder)}).run()
    model = bundle.load(run)
    test = FeatureDataset(splits.test, model.labels, model.log_frequency)
    with torch.no_grad():
        heard = torch.cat([model.classify(batch.features).predicted for batch in test.batches(64)])
    return (heard == test.labels_of()).numpy()


def shallow(splits) -> dict[str, np.ndarray]:
    """Whether each test note is right, by two models on mean and SD of the log-mel spectrum in four segments."""
    right = {}
    for n_fft in (1024, 2048):
        parts = ("train", "test")
        features = {part: segment_statistics(getattr(splits, part), splits.labels, n_fft) for part in parts}
        models = {"logistic regression": LogisticRegression(max_iter=3000), "5 neighbours": KNeighborsClassifier(5)}
        for name, model in models.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                fitted = make_pipeline(StandardScaler(), model).fit(*features["train"])
            heard = fitted.predict(features["test"][0])
            right[f"log-mel segments (FFT of {n_fft}), {name}"] = heard == features["test"][1]
    return right


def segment_statistics(clips, labels, n_fft: int, segments: int = 4) -> tuple[np.ndarray, np.ndarray]:
    data = ClipDataset(clips, labels, seconds=4.0)
    rows = []
    for batch in data.batches(1):
        power = librosa.feature.melspectrogram(
            y=batch.waveform[0].numpy(), sr=16000, n_fft=n_fft, n_mels=64, hop_length=256
        )
        parts = np.array_split(np.log(power + 1e-5), segments, axis=1)
        rows.append(np.concatenate([[part.mean(1), part.std(1)] for part in parts]).ravel())
    return np.array(rows), data.labels_of().numpy()


def tell(test: str, model: str, right: np.ndarray, instruments: list[str]) -> None:
    """Prints a row of the table; `right` has shape (seeds, notes)."""
    interval = bootstrap_interval(right.mean(0), clusters=instruments)
    seeds = ", ".join(f"{each:.3f}" for each in right.mean(1))
    between = f"{interval.low:.2f} to {interval.high:.2f}"
    print(f"| {test} | {model} | {interval.estimate:.3f} | {between} | {seeds} |", flush=True)


if __name__ == "__main__":
    main()
