"""Explains and scores several clips of one length at once; nothing is written here.

A row of a batch equals a batch of one, so that an explanation does not depend on the clips explained with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiointerp.contracts import Interpretation, Interpreter, Target, frozen, resolve_target
from audiointerp.evaluation import judging
from audiointerp.evaluation.items import Item
from audiointerp.interpreters.base import MaskInterpreter
from audiointerp.interpreters.controls import Beside
from audiointerp.metrics.faithfulness import target_probability
from audiointerp.sound import files as audio
from audiointerp.sound.recordings import Window, as_written

# Clips that a method explains together, if it takes one pass of the classifier. On a processor four are a sixth faster
# than one, but round the last bits of a clip differently: a run that was killed would not end as one that was not.
MOST_AT_ONCE = {"cpu": 1}
ELSEWHERE = 8
MOST_SAMPLES = 480_000  # of these clips in all, 30 s at 16 kHz: limits memory
TAKEN = "seconds_taken"  # detail of an interpretation that was made before: the computing time to write down

__all__ = [
    "MOST_AT_ONCE",
    "TAKEN",
    "Asked",
    "Explained",
    "explain",
    "explain_windows",
    "judge_sounds",
    "most_at_once",
    "oracle_stem",
    "room_for",
]


@dataclass(frozen=True)
class Asked:
    """An explanation to make.

    Attributes:
        item: of the sound.
        window: of the item.
        name: of the method in the tables, with the suffix of its target.
        method: the interpreter.
        target: the classes to explain.
    """

    item: Item
    window: Window
    name: str
    method: Interpreter
    target: Target

    def of_other(self, target: int) -> Asked:
        """The explanation of the other class of a mixture."""
        return replace(self, name=f"{self.name}_other", target=target)


@dataclass(frozen=True)
class Explained:
    """An explanation of an item of one window, with all scores, in the memory of the processor.

    Attributes:
        asked: what was explained.
        row: of scores.csv.
        kept: (samples,), the interpretation.
        mask: (freq, time), or None.
        sounds: role -> samples of its WAV, at the rate of the files.
        embedding: of the interpretation, if wanted and known.
        probabilities: (classes,), of the classes in the item.
        scaleogram: of a method without masks, for its figure.
        whole: the interpretation, where it was explained alone.
    """

    asked: Asked
    row: dict[str, Any]
    kept: np.ndarray
    mask: np.ndarray | None
    sounds: dict[str, np.ndarray]
    embedding: list[float] | None
    probabilities: Tensor
    scaleogram: Any
    whole: Interpretation | None


def most_at_once(method: Interpreter) -> int:
    """Number of clips that a method explains together.

    Methods of many passes fill a batch with the versions of one clip; a control needs the mask of the method beside it.
    """
    if not isinstance(method, MaskInterpreter) or method.needs_stem:
        return 1
    if isinstance(method, Beside) and method.like is not None:
        return most_at_once(method.like)
    most = MOST_AT_ONCE.get(method.classifier.device.type, ELSEWHERE)
    return max(1, most // max(1, method.passes))


def room_for(window: Window | None) -> int:
    """Number of windows of this length that are processed together."""
    return 1 if window is None else max(1, MOST_SAMPLES // max(1, window.waveform.shape[1]))


def explain(asked: Sequence[Asked], curves: bool = False, embeddings: bool = False) -> list[Explained]:
    """Explains items of one window each, of one length, with one method, and scores the explanations.

    Args:
        asked: explanations by the same method; targets are all None or all given.
        curves: whether to compute insertion and deletion.
        embeddings: whether to give the classifier's embedding of each interpretation.
    """
    method, samples = asked[0].method, asked[0].window.waveform.shape[1]
    rows, made = explain_windows(asked, curves)
    parts = {"interpretation": made.waveform.cpu(), "residual": made.residual.cpu()}
    written = {role: [_as_written(each, row) for each, row in zip(asked, part)] for role, part in parts.items()}
    for each, samples_kept in zip(asked, written["interpretation"]):
        audio.check_written(samples_kept, f"{each.item.source}: interpretation by {each.name}")
    again = [torch.cat([_read_again(*each, samples) for each in zip(asked, part)]) for part in written.values()]
    scores, known = judge_sounds(made, method, *again, embeddings=embeddings)
    scaleogram = method.scaleogram(made) if made.mask is None and len(asked) == 1 else None
    probabilities = made.prediction.probabilities.cpu()
    masks = None if made.mask is None else made.mask.cpu().numpy()
    return [
        Explained(
            asked=each,
            row=rows[place] | scores[place],
            kept=parts["interpretation"][place].numpy(),
            mask=None if masks is None else masks[place],
            sounds={role: part[place] for role, part in written.items()}
            | {"mixture": _as_written(each, each.window.waveform[0])},
            embedding=known[place],
            probabilities=probabilities[place],
            scaleogram=scaleogram,
            whole=made if len(asked) == 1 else None,
        )
        for place, each in enumerate(asked)
    ]


def explain_windows(asked: Sequence[Asked], curves: bool = False) -> tuple[list[dict[str, Any]], Interpretation]:
    """Interpretations of windows of one length by one method, and their rows without the scores of the WAVs."""
    method = asked[0].method
    classifier, device = method.classifier, method.classifier.device
    waveform = torch.cat([each.window.waveform for each in asked]).to(device)
    stem = oracle_stem(asked[0]) if method.needs_stem else None
    start = time.perf_counter()
    made = method.interpret(waveform, _targets(asked), stem=stem)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # CUDA calls return before the computation ends
    taken = made.details.get(TAKEN)
    seconds = (time.perf_counter() - start) / len(asked) if taken is None else float(taken[0])
    scores = judging.judge(made, waveform, classifier, with_curves=curves)
    numbers = {name: each.tolist() for name, each in scores.items()}
    prediction = made.prediction
    facts = {
        "predicted": [classifier.labels[index] for index in prediction.predicted.tolist()],
        "probability": prediction.probabilities.amax(1).tolist(),
        "target_probability": target_probability(prediction.probabilities, made.target).tolist(),
    }
    chosen = method.chosen(made)
    rows = []
    for place, each in enumerate(asked):
        explained = _names(classifier.labels, made.target[place])
        row = {
            "item_id": each.item.item_id,
            "method": each.name,
            "source": each.item.source,
            "condition": each.item.condition,
            "start_s": round(each.window.start / each.item.sample_rate, 3),
            "recordings": ";".join(each.item.recordings),
            "label": each.item.label,
            "target": ";".join(explained),
            **{name: values[place] for name, values in facts.items()},
            **{name: float(values[place]) for name, values in numbers.items()},
            "silent": bool(numbers["silent"][place]),
            "seconds": seconds,
            "chosen": "" if chosen is None else chosen[place],
        }
        stems = [stem.to(device) for stem in each.item.stems_for(explained)]
        one = slice(place, place + 1)
        of_stems = judging.judge_stems(made.waveform[one], waveform[one], stems)
        if (times := each.item.times_in(each.window, explained)) is not None:
            of_stems |= judging.judge_times(method, made, times)
        rows.append(row | {name: float(value[0]) for name, value in of_stems.items()})
    return rows, made


def judge_sounds(
    made: Interpretation, method: Interpreter, kept: Tensor, left: Tensor, embeddings: bool = False
) -> tuple[list[dict[str, float]], list[list[float] | None]]:
    """The scores `wav_*` of each row, and the classifier's embedding of each interpretation, if wanted and known.

    Args:
        made: the interpretations.
        method: that made them.
        kept, left: (batch, samples), interpretations and residuals as their files hold them.
        embeddings: whether to give embeddings.
    """
    classifier = method.classifier
    heard = judging.hear(kept.to(classifier.device), left.to(classifier.device), made.input_gain, classifier)
    scores = judging.judge_waveforms(made.prediction, *heard, made.target, classifier.multilabel)
    rows = [{name: float(values[place]) for name, values in scores.items()} for place in range(len(kept))]
    embedding = heard[0].embedding
    if not embeddings or embedding is None:
        return rows, [None] * len(rows)
    return rows, embedding.tolist()


def oracle_stem(asked: Asked) -> Tensor | None:
    """The known stem of the target class, or None."""
    if not asked.item.stems:
        return None
    classifier = asked.method.classifier
    with frozen(classifier), torch.no_grad():
        prediction = classifier(audio.normalize_peak(asked.window.waveform.to(classifier.device))[0])
        wanted = resolve_target(asked.target, prediction, classifier.multilabel)
    stems = asked.item.stems_for(_names(classifier.labels, wanted[0]))
    return stems[0].to(classifier.device) if stems else None


def _targets(asked: Sequence[Asked]) -> Target:
    """The targets of all rows: None, or a set of classes per row."""
    if len(asked) == 1 or asked[0].target is None:
        return asked[0].target
    classes = len(asked[0].method.classifier.labels)
    sets = torch.zeros(len(asked), classes, dtype=torch.bool)
    for row, each in zip(sets, asked):
        target = torch.as_tensor(each.target)
        row[target[0] if target.dtype == torch.bool else target] = True
    return sets


def _as_written(asked: Asked, samples: Tensor) -> np.ndarray:
    return as_written(samples, asked.item.sample_rate, asked.item.file_rate, asked.item.frames())


def _read_again(asked: Asked, written: np.ndarray, samples: int) -> Tensor:
    """(1, samples) at the classifier's rate, as a reader of the file would have it."""
    waveform = audio.resample(torch.from_numpy(written)[None], asked.item.file_rate, asked.item.sample_rate)
    return audio.fit_length(waveform, samples)


def _names(labels: tuple[str, ...], target: Tensor) -> list[str]:
    return [label for label, wanted in zip(labels, target.tolist()) if wanted]
