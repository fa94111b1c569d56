"""A user's own concept: how much sounds that have it speak for a class, against random sounds (TCAV)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audiointerp.contracts import Classifier
from audiointerp.evaluation.items import audio_files, naming, recording_item
from audiointerp.interpreters.concepts import Representation
from audiointerp.interpreters.concepts.directions import try_concept
from audiointerp.metrics.statistics import holm
from audiointerp.results.writing import write_table
from audiointerp.sound import files as audio

SIGNIFICANT = 0.05
HEARD = 4  # examples with, and without, the concept that the page plays
SEPARATED = 0.6  # accuracy on held-out examples below which a layer does not know the concept

__all__ = ["Question", "ask", "check_sets", "read_sounds", "sentence", "verdict", "write"]


def check_sets(has: Sequence[str | Path], lacks: Sequence[str | Path]) -> None:
    """Refuses a file that is among the examples with and without the concept; ValueError, naming it."""
    lacking = {Path(each).resolve() for each in audio_files(lacks)}
    if both := [str(each) for each in audio_files(has) if Path(each).resolve() in lacking]:
        raise ValueError(f"{both[0]}: is in --has and in --lacks; a sound has the concept or lacks it")


def read_sounds(paths: Sequence[str | Path], classifier: Classifier, what: str) -> list[Tensor]:
    """Recordings as waveforms (1, samples) at peak 1, one for each window of at most 30 s; silent ones are left out.

    Args:
        paths: files and folders.
        classifier: whose sample rate and device they get.
        what: such as "--has", for messages.

    Raises:
        ValueError: if there is no audio file, or all are silent.
    """
    found = []
    for path in audio_files(paths):
        for window in recording_item(path, classifier.sample_rate).windows():
            if float(window.waveform.abs().max()) > audio.SILENCE:
                found.append(audio.normalize_peak(window.waveform.to(classifier.device))[0])
    if not found:
        raise ValueError(f"{what} {', '.join(map(str, paths))}: every sound is silent; give sounds that can be heard")
    return found


class Question(NamedTuple):
    """A class asked about.

    Attributes:
        name: of the class, or of a set of classes.
        target: (1, classes) bool.
        sounds: recordings of the class, (1, samples) each at peak 1.
    """

    name: str
    target: Tensor
    sounds: Sequence[Tensor]


def ask(
    classifier: Classifier,
    questions: Sequence[Question],
    has: Sequence[Tensor],
    lacks: Sequence[Tensor],
    layers: Sequence[int] = (-1,),
    draws: int = 30,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tests a concept for each class at each layer; p-values are corrected by Holm over all of them.

    Args:
        classifier: any classifier that gives feature maps and gradients.
        questions: the classes, at least one.
        has, lacks: recordings that have, and that lack, the concept.
        layers: indices of feature maps.
        draws, seed: see `try_concept`.

    Returns:
        A row for each class and layer, and a row for each class, layer and draw.

    Raises:
        ValueError: for a layer that does not exist or is given twice, too few sounds, or no gradient.
    """
    if len(set(layers)) < len(layers) or not layers:
        raise ValueError(f"layers are {list(layers)}; give each once, at least one")
    rows, drawn = [], []
    for layer in layers:
        representation = Representation(classifier, layer)
        vectors = [_means(representation, each, kind) for each, kind in ((has, "has"), (lacks, "lacks"))]
        for name, target, sounds in questions:
            bar = tqdm(sounds, desc=f"{name}, layer {layer}", unit="sound", disable=None)
            gradients = np.concatenate([representation.gradient(each, target).double().cpu().numpy() for each in bar])
            made = try_concept(vectors[0], vectors[1], gradients, draws, seed)
            numbers = {key: getattr(made, key) for key in ("score", "random_score", "p", "accuracy", "effect")}
            counts = {"sounds": len(sounds), "has": len(has), "lacks": len(lacks), "draws": draws}
            rows.append({"target": name, "layer": layer, **numbers, **counts})
            place, pairs = {"target": name, "layer": layer}, zip(made.scores.tolist(), made.random_scores.tolist())
            drawn += [{**place, "draw": n + 1, "score": a, "random_score": b} for n, (a, b) in enumerate(pairs)]
    table = pd.DataFrame(rows)
    table.insert(5, "p_holm", holm(table["p"].to_numpy()))
    return table, pd.DataFrame(drawn)


def verdict(row: Mapping[str, Any]) -> str:
    """What the test of a class at a layer says: "for", "against", "neither" or "unknown"."""
    if row["accuracy"] < SEPARATED:
        return "unknown"
    if row["p_holm"] >= SIGNIFICANT:
        return "neither"
    return "for" if row["score"] > row["random_score"] else "against"


def sentence(row: Mapping[str, Any]) -> str:
    """What the test of a class at a layer says, in words."""
    where, concept, target = f"at feature map {row['layer']:.0f}", row["name"], row["target"]
    numbers = (
        f"TCAV score {row['score']:.2f}, random directions {row['random_score']:.2f}, p {row['p_holm']:.2g} over "
        f"{row['draws']:.0f} draws"
    )
    said = verdict(row)
    if said == "unknown":
        return (
            f"{where}, sounds with {concept} cannot be told from sounds without it ({100 * row['accuracy']:.0f} % of "
            f"held-out sounds right), so that nothing is known about {target} ({numbers})"
        )
    if said == "neither":
        return f"{where}, {concept} does not speak for {target} more or less than random sounds ({numbers})"
    return f"{where}, {concept} speaks {said} {target} ({numbers}; logit {row['effect']:+.2f} to first order)"


def write(
    folder: Path,
    concept: str,
    table: pd.DataFrame,
    drawn: pd.DataFrame,
    heard: Mapping[str, tuple[int, Sequence[Tensor]]],
) -> None:
    """Writes the examples and tables of a test, concept.csv last.

    Args:
        folder: the run folder.
        concept: its name.
        table, drawn: from `ask`.
        heard: "has" and "lacks" -> (sample rate, waveforms (1, samples)) of which the page plays the first ones.
    """
    for name, (rate, sounds) in heard.items():
        for number, waveform in enumerate(sounds[:HEARD]):
            audio.write(folder / "audio" / f"{name}_{number}.wav", waveform[0], rate)
    write_table(folder / "draws.csv", drawn)
    named = table.copy()
    named.insert(0, "name", concept)
    write_table(folder / "concept.csv", named)


def _means(representation: Representation, sounds: Sequence[Tensor], what: str) -> NDArray[np.float64]:
    """Mean vector over the cells of each sound, (sounds, channel)."""
    found = []
    for each in tqdm(sounds, desc=what, unit="sound", leave=False, disable=None):
        with naming(what), torch.no_grad():
            found.append(representation.of(each)[0].mean((1, 2)).double().cpu().numpy())
    return np.stack(found)
