"""A user's own concept: how much sounds that have it speak for a class, against random sounds (TCAV)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from audiointerp.results import text
from audiointerp.results.writing import write_table, write_text
from audiointerp.sound import files as audio

SIGNIFICANT = 0.05
SEPARATED = 0.6  # accuracy on held-out examples below which a layer does not know the concept

__all__ = ["ask", "check_sets", "read_sounds", "sentence", "write"]


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


def ask(
    classifier: Classifier,
    target: Tensor,
    sounds: Sequence[Tensor],
    has: Sequence[Tensor],
    lacks: Sequence[Tensor],
    layers: Sequence[int] = (-1,),
    draws: int = 30,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tests a concept at each layer; p-values are corrected by Holm over the layers.

    Args:
        classifier: any classifier that gives feature maps and gradients.
        target: (1, classes) bool, the class or set of classes asked about.
        sounds: recordings of the class, (1, samples) each at peak 1.
        has, lacks: recordings that have, and that lack, the concept.
        layers: indices of feature maps.
        draws, seed: see `try_concept`.

    Returns:
        A row for each layer, and a row for each layer and draw.

    Raises:
        ValueError: for a layer that does not exist or is given twice, too few sounds, or no gradient.
    """
    if len(set(layers)) < len(layers) or not layers:
        raise ValueError(f"layers are {list(layers)}; give each once, at least one")
    rows, drawn = [], []
    for layer in layers:
        representation = Representation(classifier, layer)
        vectors = [_means(representation, each, kind) for each, kind in ((has, "has"), (lacks, "lacks"))]
        bar = tqdm(sounds, desc=f"gradients, layer {layer}", unit="sound", disable=None)
        gradients = np.concatenate([representation.gradient(each, target).double().cpu().numpy() for each in bar])
        made = try_concept(vectors[0], vectors[1], gradients, draws, seed)
        rows.append(
            {
                "layer": layer,
                "score": made.score,
                "random_score": made.random_score,
                "p": made.p,
                "accuracy": made.accuracy,
                "effect": made.effect,
                "sounds": len(sounds),
                "has": len(has),
                "lacks": len(lacks),
                "draws": draws,
            }
        )
        pairs = zip(made.scores.tolist(), made.random_scores.tolist())
        drawn += [{"layer": layer, "draw": n + 1, "score": a, "random_score": b} for n, (a, b) in enumerate(pairs)]
    table = pd.DataFrame(rows)
    table.insert(4, "p_holm", holm(table["p"].to_numpy()))
    return table, pd.DataFrame(drawn)


def sentence(row: dict, concept: str, target: str) -> str:
    """What the test at one layer says, in words."""
    where = f"at feature map {row['layer']}"
    numbers = (
        f"TCAV score {row['score']:.2f}, random directions {row['random_score']:.2f}, p {row['p_holm']:.2g} over "
        f"{row['draws']} draws"
    )
    if row["accuracy"] < SEPARATED:
        return (
            f"{where}, sounds with {concept} cannot be told from sounds without it ({100 * row['accuracy']:.0f} % of "
            f"held-out sounds right), so that nothing is known about {target} ({numbers})"
        )
    if row["p_holm"] >= SIGNIFICANT:
        return f"{where}, {concept} does not speak for {target} more or less than random sounds ({numbers})"
    side = "for" if row["score"] > row["random_score"] else "against"
    return f"{where}, {concept} speaks {side} {target} ({numbers}; logit {row['effect']:+.2f} to first order)"


def write(folder: Path, table: pd.DataFrame, drawn: pd.DataFrame, sentences: Sequence[str]) -> Path:
    """Writes concept.csv, draws.csv and concept.md with the sentences; returns the last."""
    write_table(folder / "draws.csv", drawn)
    write_table(folder / "concept.csv", table)
    head = ["layer", "TCAV score", "random directions", "p, Holm", "held-out accuracy", "logit to first order"]
    rows = [
        [f"{row['layer']:.0f}", f"{row['score']:.2f}", f"{row['random_score']:.2f}", f"{row['p_holm']:.2g}",
         f"{row['accuracy']:.2f}", f"{row['effect']:+.2f}"]
        for row in table.to_dict("records")
    ]  # fmt: skip
    lines = "".join(f"- {each}\n" for each in sentences)
    return write_text(folder / "concept.md", f"{lines}\n{text.markdown(head, rows)}")


def _means(representation: Representation, sounds: Sequence[Tensor], what: str) -> NDArray[np.float64]:
    """Mean vector over the cells of each sound, (sounds, channel)."""
    found = []
    for each in tqdm(sounds, desc=what, unit="sound", leave=False, disable=None):
        with naming(what), torch.no_grad():
            found.append(representation.of(each)[0].mean((1, 2)).double().cpu().numpy())
    return np.stack(found)
