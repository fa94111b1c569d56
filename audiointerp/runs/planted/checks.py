"""Planted truth: explanations of a classifier that is known to decide by a planted cue; the right ones show the cue.

The classifier was trained on clips that `datasets.plant` made: in clips of any other class, a cue, such as a beep,
gives a class away. Clips of the test folds are given the cue at one level; those that the classifier recognises by it
are explained for that class. The cue and the clip are known stems: the explanation is right if it comes nearer to the
cue than to the clip by a margin. A method that was taught with stems of natural sounds may show the clip instead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpreter, frozen
from audiointerp.datasets import ClipDataset, gains_from_snr, make_cue, mix
from audiointerp.datasets.limits import check_counts, check_items, check_level
from audiointerp.evaluation.items import item_id_of
from audiointerp.metrics.separation import si_sdr
from audiointerp.metrics.statistics import crossed_interval
from audiointerp.results.paths import inside
from audiointerp.results.writing import write_table
from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.kind import Context, Kind
from audiointerp.runs.methods import methods_of
from audiointerp.sound import files as audio
from audiointerp.training.progress import tracked

__all__ = ["PlantedClip", "PlantedTruth", "PlantedTruthChecks", "check_methods", "planted_clips"]


@dataclass(frozen=True)
class PlantedTruth:
    """Settings of the planted truth: the cue, the clips that it is planted in, and the rule.

    Args:
        label: the class that the cue gave away in training.
        cue: see `datasets.make_cue`.
        clips: number of clips of other classes that the cue is planted in, drawn by the seed.
        snr_db: level of the cue above the clip, in dB, both over the whole clip. Below 0 the loudest sound is not the
            cue, so that a method that keeps the loudest sound is wrong.
        margin_db: an explanation is right if its SI-SDR to the cue is higher than the mixture's, and improves by this
            much more than its SI-SDR to the clip does. The second alone would hold for random bins too: they lower the
            SI-SDR to the louder clip more than that to the cue.
        min_right: a method fails if its share of right explanations is below this.
        sounds: number of clips whose sounds are kept.
    """

    label: str
    cue: str = "beep"
    clips: int = 40
    snr_db: float = -8.0
    margin_db: float = 3.0
    min_right: float = 0.95
    sounds: int = 5

    def __post_init__(self) -> None:
        check_items(self.clips, "clips", "clips")
        check_counts(sounds=self.sounds)
        check_level("snr_db", self.snr_db)
        check_level("margin_db", self.margin_db)


@dataclass(frozen=True)
class PlantedClip:
    """A clip with the cue in it; waveforms are (1, samples) and `mixture` is `cue` + `clip`."""

    item_id: str
    source: str
    recording: str
    label: str
    mixture: Tensor
    cue: Tensor
    clip: Tensor


class PlantedTruthChecks(Kind):
    """Runs a recipe with the key `planted`: whether methods show the cue that the classifier decides by."""

    name = "planted"
    scored = False
    key = "planted"
    keys = {"planted": PlantedTruth, "methods": Mapping, "controls": Mapping, "comparison": Comparison}
    defaults = {"controls": {}, "comparison": Comparison()}
    required = ("classifier", "methods")
    needs_test = True
    trains = False

    def run(self, context: Context) -> None:
        """Explains the clips with the methods that have not been checked yet; writes verdicts and the page."""
        methods, controls = methods_of(context)
        test = context.data["test"]
        context.start(data={"test": test})
        wanted: PlantedTruth = context.values["planted"]
        table = check_methods(wanted, {**methods, **controls}, test, context.folder, context.seed)
        context.finish(results={"recognised": int(table["n"].max())})
        self.page(context.folder)

    def page(self, folder: Path) -> Path:
        """Writes the table, the figure and the page."""
        from audiointerp.runs.planted import page

        return page.write(folder)


def planted_clips(wanted: PlantedTruth, test: ClipDataset, seed: int) -> list[PlantedClip]:
    """Clips of other classes with the cue in them.

    Raises:
        ValueError: if the data have no such label, or only clips of it.
    """
    if wanted.label not in test.labels:
        raise ValueError(f"planted.label is {wanted.label!r}; the classes are {', '.join(test.labels)}")
    others = [number for number, clip in enumerate(test.clips) if wanted.label not in clip.labels]
    if not others:
        raise ValueError(f"the test folds have clips of {wanted.label!r} only; the cue is planted in other clips")
    generator = torch.Generator().manual_seed(seed)
    order = [others[i] for i in torch.randperm(len(others), generator=generator).tolist()]
    base_gain, other_gain = gains_from_snr(wanted.snr_db)
    found = []
    for number in order:
        host, clip = test.batch([number]).waveform, test.clips[number]
        cue = make_cue(wanted.cue, test.samples, test.sample_rate, generator)[None]
        if len(found) == wanted.clips:
            break
        if host.abs().max() <= audio.SILENCE:
            continue
        made = mix(cue, host, base_gain=base_gain, other_gain=other_gain)
        where = item_id_of(clip.path, clip.start), str(clip.path), clip.source
        found.append(PlantedClip(*where, ";".join(clip.labels), *made))
    if not found:
        raise ValueError("every clip of the test folds that the cue could be planted in is silent")
    return found


def check_methods(
    wanted: PlantedTruth, methods: Mapping[str, Interpreter], test: ClipDataset, folder: Path, seed: int
) -> pd.DataFrame:
    """Explains every clip that is recognised by its cue; writes planted.csv, sounds, and verdicts.csv.

    Args:
        wanted: cue, clips and rule.
        methods: name -> interpreter, all of the same classifier.
        test: clips of the test folds.
        folder: the run folder; methods that have their rows there are not run again.
        seed: of the clips and cues.

    Returns:
        The verdicts, see `verdicts`.

    Raises:
        ValueError: if the classifier recognises no clip by the cue.
    """
    classifier = next(iter(methods.values())).classifier
    clips = _recognised(planted_clips(wanted, test, seed), classifier, wanted)
    for clip in clips[: wanted.sounds]:
        parts = {"mixture": clip.mixture, "cue": clip.cue}
        for name, waveform in parts.items():
            audio.write(inside(folder, "audio", clip.item_id, f"{name}.wav"), waveform[0], test.sample_rate)
    done = folder / "planted.csv"
    rows: list[dict[str, Any]] = pd.read_csv(done).to_dict("records") if done.is_file() else []
    finished = {row["method"] for row in rows}
    left = [name for name in methods if name not in finished]
    for name in tracked(left, len(left), "planted truth"):
        rows += _explain(name, methods[name], clips, wanted, folder)
        write_table(done, pd.DataFrame(rows))
    table = verdicts(pd.DataFrame(rows), wanted)
    write_table(folder / "verdicts.csv", table)
    return table


def verdicts(rows: pd.DataFrame, wanted: PlantedTruth) -> pd.DataFrame:
    """One row per method: share of right explanations with its interval over recordings, means, rule and verdict."""
    out = []
    for method, group in rows.groupby("method", sort=False):
        right = group["right"].astype(float).to_numpy()
        interval = crossed_interval(right, [(each,) for each in group["recording"]])
        share = float(right.mean())
        means = group[["to_cue_db", "to_clip_db", "fidelity", "seconds"]].astype(float).mean()
        out.append(
            {
                "method": method,
                "n": len(group),
                "right": share,
                "right_low": interval.low,
                "right_high": interval.high,
                **{name: float(value) for name, value in means.items()},
                "rule": f"share nearer to the cue, by {wanted.margin_db:g} dB more to it >= {wanted.min_right:g}",
                "verdict": "pass" if share >= wanted.min_right else "fail",
            }
        )
    return pd.DataFrame(out)


def _recognised(clips: Sequence[PlantedClip], classifier: Classifier, wanted: PlantedTruth) -> list[PlantedClip]:
    """The clips that are classified as the cue's class; several labels: those that have it above probability 1/2."""
    index = classifier.labels.index(wanted.label)
    found = []
    for clip in clips:
        with frozen(classifier), torch.no_grad():
            heard = classifier(audio.normalize_peak(clip.mixture.to(classifier.device))[0])
        by_label = bool(heard.probabilities[0, index] > 0.5)
        if by_label if classifier.multilabel else int(heard.predicted[0]) == index:
            found.append(clip)
    if not found:
        raise ValueError(
            f"none of {len(clips)} clips with a {wanted.cue} at {wanted.snr_db:g} dB is classified as "
            f"{wanted.label!r}; was the classifier trained on clips with this cue (datasets.plant)?"
        )
    return found


def _explain(
    name: str, method: Interpreter, clips: Sequence[PlantedClip], wanted: PlantedTruth, folder: Path
) -> list[dict[str, Any]]:
    classifier, rows = method.classifier, []
    index = classifier.labels.index(wanted.label)
    for number, clip in enumerate(clips):
        mixture = clip.mixture.to(classifier.device)
        start = time.perf_counter()
        made = method.interpret(mixture, index, stem=clip.cue.to(mixture) if method.needs_stem else None)
        seconds = time.perf_counter() - start
        with frozen(classifier), torch.no_grad():
            alone = classifier(made.waveform * made.input_gain[:, None])
        heard = made.waveform.cpu()
        gained = [float(si_sdr(heard, stem) - si_sdr(clip.mixture, stem)) for stem in (clip.cue, clip.clip)]
        silent = float(heard.abs().max()) <= audio.SILENCE
        rows.append(
            {
                "item_id": clip.item_id,
                "method": name,
                "source": clip.source,
                "recording": clip.recording,
                "label": clip.label,
                "probability": float(made.prediction.probabilities[0, index]),
                "to_cue_db": gained[0],
                "to_clip_db": gained[1],
                "right": not silent and gained[0] > 0 and gained[0] - gained[1] >= wanted.margin_db,
                "fidelity": float(int(alone.predicted[0]) == index),
                "silent": silent,
                "seconds": seconds,
            }
        )
        if number < wanted.sounds:
            audio.write(inside(folder, "audio", clip.item_id, f"{name}.wav"), heard[0], classifier.sample_rate)
    return rows
