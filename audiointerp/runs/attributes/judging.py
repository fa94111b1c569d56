"""Judges a trained FLINT on test clips, and writes what each attribute is: tables and sounds.

Fidelity, conciseness and relevance are those of Parekh et al. (2021), https://arxiv.org/abs/2010.09345. Sounds of an
attribute are taken from the test clips in which it is strongest; each is cropped to the window in which its course is
highest.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from audiointerp.contracts import Prediction
from audiointerp.datasets import ClipDataset
from audiointerp.interpreters import FLINT
from audiointerp.interpreters.flint.maximisation import Maximisation, maximise
from audiointerp.interpreters.flint.model import conciseness, decoder_masks, global_relevance
from audiointerp.metrics.faithfulness import in_top
from audiointerp.results.paths import inside
from audiointerp.results.shapes import text_of
from audiointerp.results.writing import restored, write_table
from audiointerp.runs.attributes.settings import FACTORS, AttributeSettings
from audiointerp.sound import files as audio
from audiointerp.sound.spectrogram import log_magnitude

TOPS = (1, 2, 3, 4)  # k of the fidelity
TAUS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # of the conciseness, as in the released code

COLUMNS = ("attribute", "active", "strength", "classes", "relevances", "faint", "maximised")  # of attributes.csv
COLUMNS += tuple(f"db_{each}" for each in FACTORS)

__all__ = ["TAUS", "Observed", "observe", "write"]


class Observed(NamedTuple):
    """What f and g say of clips.

    Attributes:
        strengths: phi_j(x), (clips, attributes).
        courses: of each clip, (attributes, columns).
        of_f: f's logits, (clips, classes).
        of_g: g's logits, (clips, classes).
    """

    strengths: Tensor
    courses: list[Tensor]
    of_f: Tensor
    of_g: Tensor


def observe(interpreter: FLINT, clips: ClipDataset) -> Observed:
    """Observes every clip of a dataset, one at a time, at peak 1."""
    strengths, courses, of_f, of_g = [], [], [], []
    for number in range(len(clips)):
        _, prediction, described = interpreter.observe(_clip(interpreter, clips, number))
        strengths.append(described.attributes.strength[0])
        courses.append(described.attributes.course[0])
        of_f.append(prediction.logits[0])
        of_g.append(described.logits[0])
    return Observed(torch.stack(strengths), courses, torch.stack(of_f), torch.stack(of_g))


def write(
    interpreter: FLINT,
    test: ClipDataset,
    train: ClipDataset,
    folder: Path,
    settings: AttributeSettings,
    seed: int,
) -> dict[str, float]:
    """Writes the tables and sounds of a run; returns fidelity, conciseness and accuracies for run.json.

    class_attributes.csv: relevance of each attribute to each class. conciseness.csv: mean number of attributes above
    each relevance. attribute_clips.csv: the strongest clips of each attribute. attributes.csv: a row an attribute,
    written when its sounds are; a run that is started again goes on with the next attribute.
    """
    interpreter.eval()
    seen, multilabel = observe(interpreter, test), interpreter.classifier.multilabel
    relevance = global_relevance(interpreter, _drawn(train, settings.clips, seed)).cpu()
    labels = interpreter.classifier.labels
    rows = [
        {"class": label, "attribute": j, "relevance": float(value)}
        for label, values in zip(labels, relevance)
        for j, value in enumerate(values)
    ]
    write_table(folder / "class_attributes.csv", pd.DataFrame(rows))
    own = Prediction.from_logits(seen.of_g, multilabel).probabilities
    to_own = interpreter.relevance_to_own(seen.strengths, own)
    curve = {tau: float(conciseness(to_own, tau).float().mean()) for tau in TAUS}
    write_table(folder / "conciseness.csv", pd.DataFrame({"tau": list(curve), "attributes": list(curve.values())}))
    chosen = _strongest(seen.strengths, settings.strongest)
    windows = {
        (j, row): _window(interpreter, test, seen.courses[row][j], settings.window)
        for j, clips in enumerate(chosen)
        for row in clips
    }
    rows = [
        _clip_row(interpreter, test, seen, j, rank, row, windows[j, row])
        for j, clips in enumerate(chosen)
        for rank, row in enumerate(clips, 1)
    ]
    columns = ["attribute", "rank", "source", "label", "predicted", "strength", "start_s", "stop_s"]
    write_table(folder / "attribute_clips.csv", pd.DataFrame(rows, columns=columns))
    _write_attributes(interpreter, test, seen, relevance, chosen, windows, folder, settings)
    return _results(interpreter, test, seen, own, curve)


def _results(
    interpreter: FLINT, test: ClipDataset, seen: Observed, own: Tensor, curve: dict[float, float]
) -> dict[str, float]:
    """Share of test clips whose class (f's) is among g's k likeliest; accuracies of f and g; attributes above 1/2."""
    predicted = seen.of_f.argmax(1, keepdim=True)
    found = {f"fidelity_top{k}": float(in_top(own, predicted, k).mean()) for k in TOPS}
    labels = interpreter.classifier.labels
    for name, logits in (("f", seen.of_f), ("g", seen.of_g)):
        right = [labels[best] in clip.labels for best, clip in zip(logits.argmax(1).tolist(), test.clips)]
        found[f"accuracy_{name}"] = sum(right) / len(right)
    return found | {"attributes_above_half": curve[2.0]}


def _strongest(strengths: Tensor, count: int) -> list[list[int]]:
    """Clips in which each attribute is strongest, strongest first; clips in which it is 0 are left out."""
    order = strengths.argsort(dim=0, descending=True, stable=True)[:count]
    return [[row for row in order[:, j].tolist() if strengths[row, j] > 0] for j in range(strengths.shape[1])]


def _window(interpreter: FLINT, clips: ClipDataset, course: Tensor, seconds: float) -> tuple[int, int]:
    """First sample, and the one after the last, of the window in which an attribute's course (columns,) is highest."""
    column = interpreter.phi.level * interpreter.classifier.spectrogram.hop_length
    columns = min(len(course), max(1, round(seconds * clips.sample_rate / column)))
    first = int(functional.avg_pool1d(course[None], columns, 1)[0].argmax()) * column
    return first, min(clips.samples, first + columns * column)


def _clip_row(
    interpreter: FLINT, test: ClipDataset, seen: Observed, j: int, rank: int, row: int, window: tuple[int, int]
) -> dict[str, Any]:
    clip = test.clips[row]
    return {
        "attribute": j,
        "rank": rank,
        "source": str(clip.path),
        "label": ";".join(clip.labels),
        "predicted": interpreter.classifier.labels[int(seen.of_f[row].argmax())],
        "strength": float(seen.strengths[row, j]),
        "start_s": window[0] / test.sample_rate,
        "stop_s": window[1] / test.sample_rate,
    }


def _write_attributes(
    interpreter: FLINT,
    test: ClipDataset,
    seen: Observed,
    relevance: Tensor,
    chosen: list[list[int]],
    windows: dict[tuple[int, int], tuple[int, int]],
    folder: Path,
    settings: AttributeSettings,
) -> None:
    """Writes the sounds of each attribute, then its row of attributes.csv; attributes that have a row are done."""
    path = folder / "attributes.csv"
    rows = _done(path)
    labels = interpreter.classifier.labels
    known = relevance.nan_to_num(nan=-math.inf)
    for j in tqdm(range(len(rows), len(chosen)), desc="attributes", unit="attribute", disable=None):
        classes = [c for c in known[:, j].argsort(descending=True).tolist() if known[c, j] > settings.relevant]
        sounds: dict[str, Any] = dict.fromkeys(("faint", "maximised", *(f"db_{each}" for each in FACTORS)), math.nan)
        for rank, row in enumerate(chosen[j], 1):
            place, window = inside(folder, "audio", "attributes", f"attribute_{j:03d}"), windows[j, row]
            waveform = _clip(interpreter, test, row)
            _write_window(interpreter, waveform, j, window, place, rank)
            if rank == 1:
                sounds |= _write_amplified(interpreter, waveform, j, window, place)
                if classes and settings.steps:
                    sounds |= _write_maximised(interpreter, waveform, j, window, place, settings)
        rows.append(
            {
                "attribute": j,
                "active": float((seen.strengths[:, j] > 0).float().mean()),
                "strength": float(seen.strengths[:, j].mean()),
                "classes": ";".join(labels[c] for c in classes),
                "relevances": ";".join(f"{float(known[c, j]):.4g}" for c in classes),
                **sounds,
            }
        )
        write_table(path, pd.DataFrame(rows))


def _done(path: Path) -> list[dict[str, Any]]:
    """Rows of attributes.csv up to the first that is damaged, as text, so that no number is rounded again."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for row in csv.DictReader(text_of(path).splitlines()):
            if tuple(row) != COLUMNS or None in row.values() or row["attribute"] != str(len(rows)):
                break
            rows.append({name: restored(value) for name, value in row.items()})
    return rows


def _write_window(
    interpreter: FLINT, waveform: Tensor, j: int, window: tuple[int, int], place: Path, rank: int
) -> None:
    """The window of a clip, and the same multiplied by the attribute's mask M_j; each at peak 1."""
    stft, _, described = interpreter.observe(waveform)
    mask = decoder_masks(interpreter, described.attributes.course, log_magnitude(stft), [j])[j]
    masked = interpreter.classifier.spectrogram.inverse(stft * mask, waveform.shape[1])
    for what, sound in (("window", waveform), ("mask", masked)):
        _save(place / f"{rank}_{what}.wav", sound, window, interpreter.classifier.sample_rate)


@torch.no_grad()
def _write_amplified(
    interpreter: FLINT, waveform: Tensor, j: int, window: tuple[int, int], place: Path
) -> dict[str, float]:
    """The decoded clip with the attribute times 0, 1, 2 and 4, with the clip's phase, each at peak 1.

    Returns "db_0", ...: the energy of each in the window, in dB above that of the unchanged attribute.
    """
    stft, _, described = interpreter.observe(waveform)
    level, spectrogram = log_magnitude(stft), interpreter.classifier.spectrogram
    energies = {}
    for factor in FACTORS:
        course = described.attributes.course.clone()
        course[:, j] *= factor
        decoded = torch.polar(interpreter.rebuild(course, level).expm1(), stft.angle())
        sound = spectrogram.inverse(decoded, waveform.shape[1])
        _save(place / f"amplified_{factor}.wav", sound, window, interpreter.classifier.sample_rate)
        energies[factor] = float(sound[:, slice(*window)].double().square().sum())
    least = torch.finfo(torch.float32).tiny
    decibels = {
        factor: 10 * math.log10(max(each, least) / max(energies[1], least)) for factor, each in energies.items()
    }
    return {f"db_{factor}": each for factor, each in decibels.items()}


def _write_maximised(
    interpreter: FLINT, waveform: Tensor, j: int, window: tuple[int, int], place: Path, settings: AttributeSettings
) -> dict[str, float]:
    """The window after activation maximisation, with its own phase; returns phi_j at the beginning and at the end."""
    heard = audio.normalize_peak(waveform[:, slice(*window)])[0]
    spectrogram = interpreter.classifier.spectrogram
    level, first, last = maximise(interpreter, heard, j, Maximisation(start=settings.start, steps=settings.steps))
    sound = spectrogram.inverse(torch.polar(level.expm1(), spectrogram(heard).angle()), heard.shape[1])
    _save(place / "maximised.wav", sound, (0, heard.shape[1]), interpreter.classifier.sample_rate)
    return {"faint": float(first), "maximised": float(last)}


def _save(path: Path, sound: Tensor, window: tuple[int, int], sample_rate: int) -> None:
    audio.write(path, audio.normalize_peak(sound[:, slice(*window)].cpu())[0][0], sample_rate)


def _clip(interpreter: FLINT, clips: ClipDataset, number: int) -> Tensor:
    """A clip, (1, samples), at peak 1, on the classifier's device."""
    waveform = clips.batch([number]).waveform.to(interpreter.classifier.device)
    return audio.normalize_peak(waveform)[0]


def _drawn(clips: ClipDataset, most: int, seed: int) -> Iterator[Tensor]:
    """Waveforms of at most `most` clips, drawn by the seed."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed))[:most]
    return (clips.batch([number]).waveform for number in order.tolist())
