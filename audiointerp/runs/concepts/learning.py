"""Learns dictionaries of concepts of a classifier's layer, and judges them on clips that they have not seen."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from audiointerp.bundles import bundle
from audiointerp.contracts import Classifier
from audiointerp.datasets import ClipDataset
from audiointerp.interpreters.concepts import Concepts, Representation, cells_of
from audiointerp.results.reading import read_table
from audiointerp.results.writing import write_table
from audiointerp.runs.concepts.judging import Judged, hear, judge
from audiointerp.runs.concepts.settings import ConceptSettings
from audiointerp.runs.kind import Context, Kind
from audiointerp.sound import files as audio

__all__ = ["ConceptLearning", "draw_cells", "learn"]


class ConceptLearning(Kind):
    """Runs a recipe with the key `concepts`: dictionaries of a layer's representations, judged alike."""

    name = "concepts"
    scored = False
    key = "concepts"
    keys = {"concepts": ConceptSettings}
    required = ("classifier",)
    needs_test = True

    def run(self, context: Context) -> None:
        """Learns and judges the dictionaries that are not done yet; writes the bundle of one and the page."""
        wanted: ConceptSettings = context.values["concepts"]
        data = {part: context.data[part] for part in ("train", "test")}
        classifier = context.classifier
        # Refused before the run folder is opened.
        made = {
            name: Concepts(classifier, name, wanted.n_concepts, wanted.layer, wanted.sparsity, wanted.active,
                           seed=context.seed)
            for name in wanted.dictionaries
        }  # fmt: skip
        context.start(data=data)
        table = learn(made, data["train"], data["test"], wanted, context.folder, context.seed)
        own = table[table["dictionary"] == wanted.shown].iloc[0]
        context.finish(results={name: float(own[name]) for name in ("logit", "decision", "purity", "direction")})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the tables, figures and the page on which each concept is heard."""
        from audiointerp.runs.concepts import page

        return page.write(folder)


def learn(
    made: dict[str, Concepts], train: ClipDataset, test: ClipDataset, wanted: ConceptSettings, folder: Path, seed: int
) -> pd.DataFrame:
    """Fits and judges each dictionary; returns dictionaries.csv, a row for each.

    A dictionary that has its row in dictionaries.csv is not learnt again. Its other files are written before the row.

    Args:
        made: name -> interpreter whose dictionary is fitted in place.
        train, test: clips to learn from, and to judge on.
        wanted: settings.
        folder: the run folder.
        seed: of the cells and clips that are drawn.
    """
    path = folder / "dictionaries.csv"
    done = read_table(path, ("dictionary",))
    finished = set(done["dictionary"]) if len(done) else set()
    # The shown one first: its bundle marks the folder as one with results, which no other recipe may go on with.
    left = sorted((name for name in made if name not in finished), key=lambda name: name != wanted.shown)
    if left:
        first = made[left[0]]
        classifier, representation = first.classifier, first.representation
        vectors = draw_cells(representation, train, wanted.cells, seed)
        chosen = _drawn(len(test), wanted.clips, seed)
        clips = hear(representation, test, chosen, vectors.mean(0))
        for name in tqdm(left, desc="concepts", unit="dictionary", disable=None):
            model, start = made[name], time.perf_counter()
            _fit(name, model, vectors)
            fitted = time.perf_counter() - start
            judged = judge(name, model, clips, wanted, folder if name == wanted.shown else None, seed)
            if name == wanted.shown:
                _save(model, classifier, folder, wanted, judged)
            seconds = {"fit_seconds": fitted, "seconds": time.perf_counter() - start}
            done = _append(folder, name, judged, seconds)
    return done


def draw_cells(representation: Representation, clips: ClipDataset, most: int, seed: int) -> Tensor:
    """Vectors of cells drawn at random, as many from each clip, at most `most` in all; (n, channel)."""
    each = max(1, most // len(clips))
    generator, found = torch.Generator().manual_seed(seed), []
    device = representation.classifier.device
    for number in tqdm(range(len(clips)), desc="training clips", unit="clip", disable=None):
        waveform = audio.normalize_peak(clips.batch([number]).waveform.to(device))[0]
        cells = cells_of(representation.of(waveform))
        found.append(cells[torch.randperm(len(cells), generator=generator)[:each].to(device)])
    return torch.cat(found)


def _drawn(count: int, most: int, seed: int) -> list[int]:
    order = (
        torch.randperm(count, generator=torch.Generator().manual_seed(seed)) if count > most else torch.arange(count)
    )
    return sorted(order[:most].tolist())


def _fit(name: str, model: Concepts, vectors: Tensor) -> None:
    try:
        model.dictionary.fit(vectors)
    except ValueError as error:
        raise ValueError(f"dictionary {name}: {error}") from None


def _save(model: Concepts, classifier: Classifier, folder: Path, wanted: ConceptSettings, judged: Judged) -> None:
    numbers = {name: value for name, value in judged.summary.items() if isinstance(value, float) and np.isfinite(value)}
    card = (
        f"# Concepts\n\n{wanted.n_concepts} concepts of feature map {wanted.layer} of a {type(classifier).__name__}, "
        f"learnt by {wanted.shown}.\n"
    )
    bundle.save(model, folder / "best", metrics=numbers, card=card)


def _append(folder: Path, name: str, judged: Judged, seconds: dict[str, float]) -> pd.DataFrame:
    """Adds a dictionary's rows to the tables, dictionaries.csv last."""
    rows = {"concepts": judged.concepts, "clips": judged.clips, "strengths": judged.strengths}
    for table, new in rows.items():
        path = folder / f"{table}.csv"
        kept = [row for row in read_table(path, ("dictionary",)).to_dict("records") if row["dictionary"] != name]
        write_table(path, pd.DataFrame([*kept, *new]))
    path = folder / "dictionaries.csv"
    done = read_table(path, ("dictionary",)).to_dict("records")
    table = pd.DataFrame([*done, {"dictionary": name, **judged.summary, **seconds}])
    write_table(path, table)
    return table
