"""Planted truth: explanations of a classifier of which it is known what it decides by; the right ones show it.

See `truths`: the classifier was trained with a cue, such as a beep, that gives a class away, or it is a copy that is
deaf to a band, hears only the first second, or has exchanged labels. Each sound is the sum of a part that the
classifier uses and a part that it does not, both known; an explanation is right if it shows the first and not the
second, by the rule of its truth. A method that was taught with stems of natural sounds may show the wrong part.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpreter, frozen
from audiointerp.datasets import ClipDataset
from audiointerp.metrics.separation import si_sdr
from audiointerp.metrics.statistics import crossed_interval
from audiointerp.results.paths import inside
from audiointerp.results.reading import is_true, read_table
from audiointerp.results.writing import write_table
from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.methods import check_names, methods_of
from audiointerp.runs.planted.truths import KnownSound, Truth, audible_part
from audiointerp.sound import files as audio
from audiointerp.training.progress import tracked

NUMBERS = ("probability", "to_used_db", "to_unused_db", "audible", "audible_before", "right", "fidelity", "seconds")
ROWS = ("truth", "item_id", "method", "source", "added", "recordings", "label", "target", "silent", *NUMBERS)
ONE_TRUTH = "planted"  # name of a truth that the recipe gives without a name

__all__ = ["PlantedTruthChecks", "check_methods", "known_sounds", "verdicts"]


class PlantedTruthChecks(Kind):
    """Runs a recipe with the key `planted`, a truth or several by name: whether methods show what decides."""

    name = "planted"
    scored = False
    key = "planted"
    keys = {
        "planted": Truth | Mapping[str, Truth | None],
        "methods": Mapping,
        "controls": Mapping,
        "comparison": Comparison,
    }
    defaults = {"controls": {}, "comparison": Comparison()}
    required = ("classifier", "methods")
    needs_test = True
    trains = False

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Adds that there is no truth, and names that cannot be those of files."""
        given, found = values["planted"], super().problems(values)
        if not isinstance(given, Mapping):
            return found
        if not [each for each in given.values() if each is not None]:
            return [*found, "planted has no truth; name at least one, such as `deaf: !new:audiointerp.runs.DeafTruth`"]
        try:
            check_names([str(name) for name in given])
        except ValueError as error:
            found.append(f"planted: {str(error).replace('method', 'truth', 1)}")
        return found

    def run(self, context: Context) -> None:
        """Explains the sounds with the methods that have not been checked yet; writes verdicts and the page."""
        methods, controls = methods_of(context)
        test = context.data["test"]
        given = context.values["planted"]
        truths = given if isinstance(given, Mapping) else {ONE_TRUTH: given}
        truths = {name: each for name, each in truths.items() if each is not None}
        context.start(data={"test": test})
        table = check_methods(truths, {**methods, **controls}, test, context.folder, context.seed)
        recognised = {name: int(table.loc[table["truth"] == name, "n"].max()) for name in truths}
        context.finish(results={"recognised": recognised})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the tables, the figures and the page."""
        from audiointerp.runs.planted import page

        return page.write(folder)


def known_sounds(
    name: str, truth: Truth, classifier: Classifier, test: ClipDataset, seed: int
) -> tuple[Classifier, list[KnownSound]]:
    """The classifier to explain, and the sounds of a truth that it recognises; item_ids begin with the truth's name.

    Raises:
        ValueError: if the sounds cannot be made, or the classifier recognises none.
    """
    explained = truth.classifier(classifier, test)
    found, made = [], 0
    for each in truth.drawn(explained, test, seed):
        made += 1
        if truth.recognised(explained, each):
            found.append(replace(each, item_id=f"{name}.{each.item_id}"))  # no name has a "."
    if not made:
        raise ValueError(f"{name}: every clip of the test folds that a sound could be made of is silent")
    if not found:
        raise ValueError(f"{name}: {truth.unknown(made)}")
    return explained, found


def check_methods(
    truths: Mapping[str, Truth], methods: Mapping[str, Interpreter], test: ClipDataset, folder: Path, seed: int
) -> pd.DataFrame:
    """Explains every sound that is recognised; writes planted.csv, truths.csv, sounds, and verdicts.csv.

    Args:
        truths: name -> sounds and rule.
        methods: name -> interpreter, all of the same classifier.
        test: clips of the test folds.
        folder: the run folder; methods that have their rows there are not run again.
        seed: of the sounds.

    Returns:
        The verdicts, see `verdicts`.

    Raises:
        ValueError: if the classifier recognises no sound of a truth.
    """
    given = next(iter(methods.values())).classifier
    # All sounds are made first, so that a truth that is impossible ends the run before it has begun.
    made = {name: known_sounds(name, truth, given, test, seed) for name, truth in truths.items()}
    about = [{"name": name, "about": truth.about, "rule": truth.rule} for name, truth in truths.items()]
    write_table(folder / "truths.csv", pd.DataFrame(about))
    done = folder / "planted.csv"
    rows, finished = _finished(done, made)
    left = [(truth, name) for name in methods for truth in truths if (truth, name) not in finished]
    for truth, name in tracked(left, len(left), "planted truth"):
        classifier, sounds = made[truth]
        _write_sounds(sounds[: truths[truth].sounds], folder, test.sample_rate)
        method = methods[name] if classifier is given else methods[name].on(classifier)
        rows += [{"truth": truth, **each} for each in _explain(name, method, sounds, truths[truth], folder)]
        write_table(done, pd.DataFrame(rows))
    table = verdicts(pd.DataFrame(rows), truths)
    write_table(folder / "verdicts.csv", table)
    return table


def _finished(
    path: Path, made: Mapping[str, tuple[Classifier, list[KnownSound]]]
) -> tuple[list[dict[str, Any]], set[tuple[str, str]]]:
    """The rows of an earlier command that are of all sounds of a truth by a method, and these truths and methods.

    Raises:
        ValueError: if the table cannot be read.
    """
    rows: list[dict[str, Any]] = read_table(path, ROWS).to_dict("records")
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        found.setdefault((row["truth"], row["method"]), []).append(row["item_id"])
    wanted = {name: [sound.item_id for sound in sounds] for name, (_, sounds) in made.items()}
    finished = {each for each, items in found.items() if items == wanted.get(each[0])}
    kept = [row | {"right": is_true(row["right"])} for row in rows if (row["truth"], row["method"]) in finished]
    return kept, finished


def verdicts(rows: pd.DataFrame, truths: Mapping[str, Truth]) -> pd.DataFrame:
    """One row per truth and method: share of right explanations with its interval over recordings, means, verdict.

    `audible` is the mean share of the energy that a partly deaf classifier hears, `audible_before` that of the sounds.
    """
    out = []
    values = ["to_used_db", "to_unused_db", "audible", "audible_before", "fidelity", "seconds"]
    for name, truth in truths.items():
        for method, group in rows[rows["truth"] == name].groupby("method", sort=False):
            right = np.asarray(group["right"], dtype=float)
            interval = crossed_interval(right, [str(each).split(";") for each in group["recordings"]])
            share = float(right.mean())
            out.append(
                {
                    "truth": name,
                    "method": method,
                    "n": len(group),
                    "right": share,
                    "right_low": interval.low,
                    "right_high": interval.high,
                    **{each: float(group[each].astype(float).mean()) for each in values},
                    "rule": truth.rule,
                    "verdict": "pass" if share >= truth.min_right else "fail",
                }
            )
    return pd.DataFrame(out)


def _write_sounds(sounds: Sequence[KnownSound], folder: Path, sample_rate: int) -> None:
    for sound in sounds:
        for name, waveform in (("mixture", sound.mixture), ("used", sound.used)):
            path = inside(folder, "audio", sound.item_id, f"{name}.wav")
            if not path.is_file():
                audio.write(path, waveform[0], sample_rate)


def _explain(
    name: str, method: Interpreter, sounds: Sequence[KnownSound], truth: Truth, folder: Path
) -> list[dict[str, Any]]:
    classifier, rows = method.classifier, []
    for number, sound in enumerate(sounds):
        mixture, index = sound.mixture.to(classifier.device), classifier.labels.index(sound.target)
        start = time.perf_counter()
        made = method.interpret(mixture, index, stem=sound.used.to(mixture) if method.needs_stem else None)
        seconds = time.perf_counter() - start
        with frozen(classifier), torch.no_grad():
            alone = classifier(made.waveform * made.input_gain[:, None])
        heard = made.waveform.cpu()
        gained = [float(si_sdr(heard, part) - si_sdr(sound.mixture, part)) for part in (sound.used, sound.unused)]
        audible, before = (_audible_share(classifier, each) for each in (heard, sound.mixture))
        silent = float(heard.abs().max()) <= audio.SILENCE
        rows.append(
            {
                "item_id": sound.item_id,
                "method": name,
                "source": sound.source,
                "added": sound.added,
                "recordings": ";".join(sound.recordings),
                "label": sound.label,
                "target": sound.target,
                "probability": float(made.prediction.probabilities[0, index]),
                "to_used_db": gained[0],
                "to_unused_db": gained[1],
                "audible": audible,
                "audible_before": before,
                "right": not silent and truth.is_right(gained[0], gained[1], audible),
                "fidelity": float(int(alone.predicted[0]) == index),
                "silent": silent,
                "seconds": seconds,
            }
        )
        if number < truth.sounds:
            audio.write(inside(folder, "audio", sound.item_id, f"{name}.wav"), heard[0], classifier.sample_rate)
    return rows


def _audible_share(classifier: Classifier, waveform: Tensor) -> float:
    """Share of a sound's energy in the part that the classifier hears; NaN if it hears everything, or for silence."""
    part = audible_part(classifier, waveform)
    energy = float(waveform.double().square().sum())
    return float("nan") if part is None or energy == 0 else float(part.double().square().sum()) / energy
