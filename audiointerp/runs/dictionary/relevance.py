"""L2I's global relevance: the relevance of components to each class, as a table, a figure and sounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from audiointerp.datasets import ClipDataset
from audiointerp.interpreters.l2i.model import L2I, global_relevance
from audiointerp.results.reading import Run
from audiointerp.results.templating import render
from audiointerp.results.writing import write_table
from audiointerp.runs.dictionary import figures
from audiointerp.runs.dictionary.sounds import write_components
from audiointerp.sound import files as audio
from audiointerp.sound.nmf import spectral_centroids

MOST, BATCH = 5, 16

__all__ = ["write", "write_page"]


def write(interpreter: L2I, clips: ClipDataset, folder: Path) -> None:
    """Writes relevance.csv, figures/relevance.png and WAVs of the five most relevant components of each class."""

    def waveforms() -> Iterator[Tensor]:
        return (batch.waveform for batch in clips.batches(BATCH))

    relevance = global_relevance(interpreter, waveforms()).cpu()
    labels, spectrogram = interpreter.classifier.labels, interpreter.classifier.spectrogram
    rows = [
        {"class": label, "component": k, "relevance": float(value)}
        for label, values in zip(labels, relevance)
        for k, value in enumerate(values)
    ]
    write_table(folder / "relevance.csv", pd.DataFrame(rows))
    centroids = spectral_centroids(interpreter.dictionary.cpu(), spectrogram.sample_rate)
    figures.plot_relevance(folder / "figures" / "relevance.png", relevance.numpy(), labels, centroids.numpy())

    def activations(waveform: Tensor) -> Tensor:
        return interpreter.interpret(audio.normalize_peak(waveform)[0]).details["activations"][0]

    strongest = {
        int(k) for values in relevance if values.isfinite().all() for k in values.topk(min(MOST, len(values))).indices
    }
    write_components(
        interpreter.dictionary, activations, clips, spectrogram, folder / "audio" / "components", strongest
    )


def write_page(folder: Path) -> Path:
    """Writes components.html: the figure, and players for each class's most relevant components. Reads files only."""
    table = pd.read_csv(folder / "relevance.csv", keep_default_na=False, na_values=[""], dtype={"class": str})
    classes: list[dict[str, Any]] = []
    for label, group in table.groupby("class", sort=False):
        strongest = group.dropna().nlargest(MOST, "relevance")
        files = [folder / "audio" / "components" / f"component_{k:03d}.wav" for k in strongest["component"]]
        parts = [
            {"number": int(row["component"]), "relevance": float(row["relevance"]), "path": path.relative_to(folder)}
            for row, path in zip(strongest.to_dict("records"), files)
            if path.is_file()
        ]
        classes.append({"name": label, "components": parts})
    return render(
        "runs/dictionary/relevance.html", folder, {"run": Run.read(folder), "classes": classes}, "components.html"
    )
