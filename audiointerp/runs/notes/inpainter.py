"""A run that trains an inpainter for a classifier's bands, and compares it with the other fillers on test notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from audiointerp.classifiers.instrument import check_bands
from audiointerp.contracts import Classifier, Trainable
from audiointerp.datasets import ClipDataset
from audiointerp.interpreters.rde.fillers import Filler, compose
from audiointerp.interpreters.rde.inpainter import BLOCKS, Inpainter
from audiointerp.results.paths import inside
from audiointerp.results.reading import Run, read_table
from audiointerp.results.text import markdown
from audiointerp.results.writing import write_table, write_text
from audiointerp.runs.fit import Training
from audiointerp.runs.kind import Context
from audiointerp.runs.notes.data import features_of
from audiointerp.runs.notes.filler_judging import accepted, judge_fillers
from audiointerp.sound import files as audio
from audiointerp.sound.logfrequency import LogFrequency

SHOWN, JUDGED = 4, 4096  # notes shown on the page; largest number of notes of each split for the measures
COLUMNS = {
    "entropy": "entropy of classes (nats)",
    "real_entropy": "real notes'",
    "level_diversity": "diversity of levels",
    "phase_diversity": "of phases",
    "auc": "AUC",
    "auc_replaced": "AUC, replaced as a whole",
}

__all__ = ["InpainterTraining", "judge", "write"]


class InpainterTraining(Training):
    """Runs a recipe with the key `inpainter`: trains a generator of fillings, and compares it with other fillers."""

    name = "inpainter"
    scored = False
    divides = False  # its fillers are judged by training a classifier
    key = "inpainter"
    keys = {**Training.keys, "inpainter": Callable}

    def build(self, context: Context) -> tuple[Trainable, Inpainter]:
        """An inpainter for the bands of the recipe's classifier."""
        classifier = check_bands(context.classifier)
        make: Callable[..., Inpainter] = context.values["inpainter"]
        inpainter = make(bands=classifier.bands, sample_rate=classifier.sample_rate)
        return inpainter, inpainter

    def judge(self, best: Inpainter, context: Context) -> dict[str, Any]:
        """Measures of the generator and whether it is accepted, see `judge`."""
        return judge(best, context.classifier, context.data, context.folder, context.seed)

    def page(self, folder: Path) -> Path:
        """Writes the table of fillers and a page of inpainted notes."""
        return write(folder)


@torch.no_grad()
def judge(
    inpainter: Inpainter, classifier: Classifier, data: Mapping[str, ClipDataset], folder: Path, seed: int
) -> dict[str, Any]:
    """Writes fillers.csv, figures and WAVs of inpainted test notes, and decides whether to accept the generator.

    Returns:
        The generator's numbers and the verdict; empty without test folds.
    """
    if "test" not in data:
        return {}
    if not (folder / "fillers.csv").is_file():  # written last; if it is missing, everything is made again
        fillers, test = inpainter.fillers(), data["test"]
        train, held_out = (features_of(classifier, data[part], _some(data[part], seed)) for part in ("train", "test"))
        _show(inpainter, classifier, fillers, test, folder, seed)
        with torch.enable_grad():
            table = judge_fillers(fillers, classifier, train, held_out)
        write_table(folder / "fillers.csv", table, "%.6g")
    rows = {row["filler"]: row for row in read_table(folder / "fillers.csv", ("filler",)).to_dict("records")}
    fine, reasons = accepted(rows["generator"], donor_auc=rows["donor"]["auc"])
    numbers = {name: float(rows["generator"][name]) for name in ("entropy", "auc", "auc_replaced")}
    verdict = "yes" if fine else f"no: {'; '.join(reasons)}"
    return {"accepted": f"{verdict} ({_beside_donors(rows['generator'], rows['donor'])})", **numbers}


def write(folder: Path) -> Path:
    """Writes tables/fillers.md and report.html of an inpainter's run; returns the page's path. Files only."""
    from audiointerp.runs.notes.page import render_page

    run, fillers = Run.read(folder), read_table(folder / "fillers.csv", ("filler", *COLUMNS))
    tables, figures = [], []
    if len(fillers):
        tables.append(_table(run, fillers))
        write_text(folder / "tables" / "fillers.md", markdown(tables[0]["columns"], tables[0]["rows"]))
    if (folder / "figures" / "training.png").is_file():
        figures.append(("figures/training.png", "Losses and validation scores"))
    notes = []
    for path in sorted((folder / "audio").glob("*")):
        sounds = [
            (each.stem.removeprefix("0_").replace("_", " "), f"audio/{path.name}/{each.name}")
            for each in sorted(path.glob("*.wav"))
        ]
        figure = f"figures/{path.name}.png"
        notes.append({"title": path.name, "parts": [{"title": "inpainted", "sounds": sounds, "figure": figure}]})
    files = ["log.csv", *(["fillers.csv", "tables/fillers.md"] if len(fillers) else [])]
    return render_page(run, "Inpainter", files, tables, figures, notes)


def _beside_donors(generator: Mapping[str, Any], donor: Mapping[str, Any]) -> str:
    """Whether the generator's AUC is below that of donor notes, from which it starts, beyond both intervals."""
    harder = "harder" if generator["auc_high"] < donor["auc_low"] else "not harder"
    ours, theirs = (f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]" for row in (generator, donor))
    return f"{harder} to distinguish from real notes than donor notes: AUC {ours} against {theirs}"


def _some(data: ClipDataset, seed: int) -> list[int]:
    """Indices of the notes for the measures: all, or at most `JUDGED` drawn by the seed."""
    if len(data) <= JUDGED:
        return list(range(len(data)))
    return torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:JUDGED].tolist()


def _show(
    inpainter: Inpainter,
    classifier: Classifier,
    fillers: Mapping[str, Filler],
    test: ClipDataset,
    folder: Path,
    seed: int,
) -> None:
    """Writes a few notes with half of their blocks filled: figure 1 of the paper, and a WAV with each filler."""
    from audiointerp.runs.notes import figures

    bands: LogFrequency = inpainter.log_frequency
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test), generator=generator)[:SHOWN].tolist()
    count = len(bands.frequencies)
    block = torch.arange(count) * BLOCKS // count
    for i in order:
        name, note = test.clips[i].path.stem, features_of(classifier, test, [i])
        keep = (torch.rand(1, 2, BLOCKS, generator=generator) < 0.5)[:, :, block].to(note)
        waveform = audio.fit_length(test.waveform(i), test.samples)[None]
        audio.write(inside(folder, "audio", name, "0_note.wav"), waveform[0], test.sample_rate)
        for filler_name, filler in fillers.items():
            filled = compose(note, keep, filler.fill(note, keep, filler.draw(1, generator)))
            sound = bands.morphed_waveform(waveform.to(note), filled)[0].cpu()
            path = inside(folder, "audio", name, f"filled_by_{filler_name}.wav")
            audio.write(path, audio.normalize_peak(sound)[0], test.sample_rate)
            if filler_name == "generator":
                arrays = [each[0].cpu().numpy() for each in (note, filled, keep)]
                figure, title = inside(folder, "figures", f"{name}.png"), f"{name}, half of its blocks inpainted"
                figures.plot_inpainting(figure, bands.frequencies.numpy(), *arrays, title=title)


def _table(run: Run, fillers: pd.DataFrame) -> dict[str, Any]:
    verdict = (run.about.get("results") or {}).get("accepted", "not judged")
    rows = [[str(row["filler"]), *(f"{row[name]:.3f}" for name in COLUMNS)] for row in fillers.to_dict("records")]
    return {
        "title": "Fillers, measured on notes to which none of them was fitted",
        "text": f"Generator accepted: {verdict}. Entropy: of the classes predicted for fully replaced notes. "
        "Diversity: distance of two draws over that of two notes. AUC: of a newly trained discriminator between "
        "composites and real notes; 0.5 if it cannot separate them.",
        "columns": ["filler", *COLUMNS.values()],
        "rows": rows,
    }
