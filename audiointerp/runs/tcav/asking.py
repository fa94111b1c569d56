"""A user's own concept: how much sounds that have it speak for a class, against random sounds (TCAV)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audiointerp.classifiers.targets import likeliest_count, parse_target
from audiointerp.contracts import Classifier, frozen
from audiointerp.evaluation.items import audio_files, naming, recording_item
from audiointerp.interpreters.concepts import Representation
from audiointerp.interpreters.concepts.directions import try_concept
from audiointerp.metrics.statistics import holm
from audiointerp.results.writing import write_table
from audiointerp.sound import files as audio

SIGNIFICANT = 0.05
PLAYED = 4  # examples with, and without, the concept that the page plays
SEPARATED = 0.6  # accuracy on held-out examples below which a layer does not know the concept
RULE = (
    f"A concept speaks for or against a class if p is below {SIGNIFICANT:g}. Below {100 * SEPARATED:.0f} % of held-out "
    "sounds right, the layer does not tell the concept from its absence, and nothing is known."
)

__all__ = [
    "RULE",
    "Question",
    "ask",
    "check_layers",
    "check_once",
    "check_sets",
    "concept_name",
    "hash_of",
    "read_sounds",
    "sentence",
    "verdict",
    "write",
]


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
    """A class that is tested.

    Attributes:
        name: of the class, or of a set of classes.
        target: (1, classes) bool.
        sounds: recordings of the class, (1, samples) each at peak 1; read once for each layer.
    """

    name: str
    target: Tensor
    sounds: Sequence[Tensor]

    @classmethod
    def of(cls, name: str, classifier: Classifier, sounds: Sequence[Tensor]) -> Question:
        """The question about a class by its name or index, or about several as a set ("a+b").

        Raises:
            ValueError: if there is no such class, or likeliest ones are meant ("top3").
        """
        if likeliest_count(name) is not None:
            raise ValueError(f"target is {name!r}; a concept is tested for a class, name it")
        chosen, labels = sorted(parse_target(name, classifier.labels)), classifier.labels
        target = torch.tensor([[n in chosen for n in range(len(labels))]], device=classifier.device)
        return cls(" + ".join(labels[n] for n in chosen), target, sounds)


def concept_name(name: str | None, has: Sequence[str]) -> str:
    """The name that a user gave, or that of the first folder or file of the sounds with the concept.

    Raises:
        ValueError: if it is not text that can be written.
    """
    found = " ".join((name or "").split()) or Path(has[0]).resolve().name
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the concept's name {found!r} is not text; give another one") from None
    return found


def check_layers(classifier: Classifier, layers: Sequence[int]) -> None:
    """Refuses a layer that the classifier lacks or that cannot be changed, and one that is named twice; ValueError."""
    check_once("layers", layers)
    with frozen(classifier), torch.no_grad():
        count = len(classifier(torch.zeros(1, classifier.sample_rate, device=classifier.device)).feature_maps)
    if unknown := [each for each in layers if not -count <= each < count]:
        raise ValueError(f"layers has {unknown[0]}; this classifier has feature maps 0 to {count - 1}, -1 is the last")
    if len({each % count for each in layers}) < len(layers):
        raise ValueError(f"layers are {list(layers)}, two of which are the same feature map; give each once")
    for each in layers:
        Representation(classifier, each)


def hash_of(sounds: Sequence[Tensor]) -> str:
    """Hash of sounds, by which a run notices that its examples are others."""
    found = hashlib.sha256()
    for each in sounds:
        found.update(hashlib.sha256(each.cpu().numpy().tobytes()).digest())
    return found.hexdigest()


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
        questions: the classes, at least one, each once.
        has, lacks: recordings that have, and that lack, the concept.
        layers: indices of feature maps.
        draws, seed: see `try_concept`.

    Returns:
        A row for each class and layer, and a row for each class, layer and draw.

    Raises:
        ValueError: for a layer that does not exist, a layer or class given twice, too few sounds, or no gradient.
    """
    check_layers(classifier, layers)
    check_once("targets", [each.name for each in questions])
    rows, drawn = [], []
    for layer in layers:
        representation = Representation(classifier, layer)
        vectors = [_means(representation, each, kind) for each, kind in ((has, "has"), (lacks, "lacks"))]
        for name, target, sounds in questions:
            bar = tqdm(sounds, desc=f"{name}, layer {layer}", unit="sound", disable=None)
            gradients = np.concatenate([representation.gradient(each, target).double().cpu().numpy() for each in bar])
            made = try_concept(vectors[0], vectors[1], gradients, draws, seed)
            numbers = {key: getattr(made, key) for key in ("score", "random_score", "p", "accuracy", "effect")}
            counts = {"sounds": len(sounds), "has": len(has), "lacks": len(lacks), "each": made.size, "draws": draws}
            rows.append({"target": name, "layer": layer, **numbers, **counts})
            place, pairs = {"target": name, "layer": layer}, zip(made.scores.tolist(), made.random_scores.tolist())
            drawn += [{**place, "draw": n + 1, "score": a, "random_score": b} for n, (a, b) in enumerate(pairs)]
    table = pd.DataFrame(rows)
    table.insert(5, "p_holm", holm(table["p"].to_numpy()))
    return table, pd.DataFrame(drawn)


def check_once(what: str, given: Sequence[Any]) -> None:
    """Refuses an empty list, and one that names something twice; ValueError."""
    if not given or len(set(given)) < len(given):
        raise ValueError(f"{what} are {list(given)}; give each once, at least one")


def verdict(row: Mapping[str, Any]) -> str:
    """Result of the test of a class at a layer: "for", "against", "neither" or "unknown"; see `RULE`."""
    if row["accuracy"] < SEPARATED:
        return "unknown"
    if row["p_holm"] >= SIGNIFICANT:
        return "neither"
    return "for" if row["score"] > row["random_score"] else "against"


def sentence(row: Mapping[str, Any]) -> str:
    """Result of the test of a class at a layer, in words."""
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
    examples: Mapping[str, Sequence[Tensor]],
    sample_rate: int,
) -> None:
    """Writes the examples and tables of a test, concept.csv last.

    Args:
        folder: the run folder.
        concept: its name.
        table, drawn: from `ask`.
        examples: "has" and "lacks" -> waveforms (1, samples), of which the page plays the first ones.
        sample_rate: of the examples, in Hz.
    """
    for name, sounds in examples.items():
        for number, waveform in enumerate(sounds[:PLAYED]):
            audio.write(folder / "audio" / f"{name}_{number}.wav", waveform[0], sample_rate)
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
