"""Learns a dictionary of spectra from the training clips, and writes a figure of it and a sound of each component."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import Tensor

from audiointerp.bundles import bundle
from audiointerp.datasets import ClipDataset
from audiointerp.results.reading import Run
from audiointerp.results.templating import render
from audiointerp.results.writing import write_table
from audiointerp.runs.dictionary.sounds import write_components
from audiointerp.runs.kind import Context, Kind
from audiointerp.sound.nmf import NMF, spectral_centroids
from audiointerp.sound.spectrogram import STFT, log_magnitude

BATCH = 16  # clips

__all__ = ["DictionaryLearning", "learn", "write_page"]


class DictionaryLearning(Kind):
    """Runs a recipe with the key `nmf`: learns a dictionary of spectra from the training clips.

    If the recipe names a classifier, clips have its sample rate and spectra are those of its STFT, so that L2I can
    explain it by the dictionary.
    """

    name = "dictionary"
    scored = False
    key = "nmf"
    keys = {"nmf": Callable, "minibatch": bool}
    defaults = {"minibatch": False}
    required = ("epochs",)

    def run(self, context: Context) -> None:
        """Learns the dictionary and writes its figure, sounds and page."""
        values, clips = context.values, context.splits.train
        several = any(len(clip.labels) > 1 for clip in clips)
        stft = STFT() if values.get("classifier") is None else context.classifier.spectrogram
        train = ClipDataset(clips, context.splits.labels, stft.sample_rate, values["seconds"], several,
                            cache_bits=values["cache_bits"], readers=values["readers"])  # fmt: skip
        context.start(context.splits.labels, {"train": train})
        bins = {} if values.get("classifier") is None else {"bins": stft.n_fft // 2 + 1}
        model = values["nmf"](seed=context.seed, **bins).to(context.device)
        found = learn(model, train, context.folder, values["epochs"], values["minibatch"], stft)
        context.finish(results={**found, "sample_rate": stft.sample_rate})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes a page with the figure and a player for each component."""
        return write_page(folder)


def learn(
    model: NMF, train: ClipDataset, folder: Path, epochs: int, minibatch: bool, stft: STFT | None = None
) -> dict[str, Any]:  # fmt: skip
    """Learns from the clips' log-magnitudes and writes best/, log.csv, the figure and a WAV per component.

    Args:
        model: the NMF, whose dictionary is set in place.
        train: clips of the training folds.
        folder: the run folder.
        epochs: iterations over all frames.
        minibatch: whether to learn from one batch of clips at a time, for corpora that do not fit in memory, instead of
            all frames at once.
        stft: of the spectra; None: the default STFT at the clips' rate.

    Returns:
        The last loss, the number of frames and the number of components.
    """
    stft = (STFT(train.sample_rate) if stft is None else stft).to(model.dictionary.device)

    def batches() -> Iterator[Tensor]:
        for batch in train.batches(BATCH):
            level = log_magnitude(stft(batch.waveform.to(model.dictionary.device)))
            yield level.transpose(0, 1).flatten(1)

    from audiointerp.runs.dictionary import figures

    if (folder / "report.html").is_file():  # written last, so that all other files exist
        return _results(folder, train, stft, model)
    losses = model.fit_batches(batches, epochs) if minibatch else model.fit(torch.cat(list(batches()), 1), epochs)
    log = pandas.DataFrame({"epoch": range(1, len(losses) + 1), "loss": losses})
    write_table(folder / "log.csv", log)
    bundle.save(model, folder / "best", metrics={"loss": losses[-1]})
    dictionary = model.dictionary.cpu().numpy()
    figures.plot_dictionary(folder / "figures" / "dictionary.png", dictionary, train.sample_rate)
    write_components(
        model.dictionary,
        lambda waveform: model.activations(log_magnitude(stft(waveform)))[0],
        train,
        stft,
        folder / "audio",
        range(model.dictionary.shape[1]),
    )
    return _results(folder, train, stft, model)


def _results(folder: Path, train: ClipDataset, stft: STFT, model: NMF) -> dict[str, Any]:
    frames = len(train) * (1 + train.samples // stft.hop_length)
    loss = float(pandas.read_csv(folder / "log.csv")["loss"].iloc[-1])
    return {"loss": loss, "frames": frames, "components": model.dictionary.shape[1]}


def write_page(folder: Path) -> Path:
    """report.html of a dictionary's run: the figure, and a player for each component."""
    model, run = bundle.load(folder), Run.read(folder)
    known = run.about.get("results") or {}
    centroids = spectral_centroids(model.dictionary, known.get("sample_rate", STFT().sample_rate))
    paths = {k: folder / "audio" / f"component_{k:03d}.wav" for k in centroids.argsort().tolist()}
    components = [
        {"number": k, "centroid": round(float(centroids[k])), "path": path.relative_to(folder).as_posix()}
        for k, path in paths.items()
        if path.is_file()
    ]
    return render("runs/dictionary/page.html", folder, {"run": run, "components": components})
