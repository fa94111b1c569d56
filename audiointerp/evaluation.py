"""Items x interpreters -> WAVs, figures, manifest.csv and scores.csv; goes on where it was stopped.

One interpretation per item and method serves all its scores. Judged on the masked features (as the published tables
are) and once more on the waveform that is written, analysed again (columns `wav_*`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiointerp import figures
from audiointerp.contracts import Classifier, Interpretation, Interpreter, Prediction, Target
from audiointerp.interpreters.masked import frozen
from audiointerp.masking import apply_mask
from audiointerp.metrics import compactness, separation
from audiointerp.metrics import faithfulness as faith
from audiointerp.recordings import Window, WindowWriter, listening_copy
from audiointerp.tables import Manifest, Scores

__all__ = ["Item", "evaluate", "judge"]


@dataclass(frozen=True)
class Item:
    """A sound to explain.

    Attributes:
        item_id: short name, unique in a run.
        source: where it comes from.
        windows: the sound, a stretch at a time (one, unless it is long); a function, so that each method starts anew.
        frames: length of the written WAVs in samples at `file_rate`; a function, as it is known after reading.
        sample_rate: of the windows, in Hz.
        file_rate: of the written WAVs, in Hz.
        label: true class, or "".
        stems: class name -> its part of the sound, (1, samples), where it is known; the item's own class first.
        condition: such as "clean" or "mixture"; scores are averaged per condition.
        snr_db: own stem over the other, where there are two.
    """

    item_id: str
    source: str
    windows: Callable[[], Iterator[Window]]
    frames: Callable[[], int]
    sample_rate: int
    file_rate: int
    label: str = ""
    stems: Mapping[str, Tensor] = field(default_factory=dict)
    condition: str = "clean"
    snr_db: float | None = None

    @classmethod
    def of_waveform(cls, item_id: str, source: str, waveform: Tensor, sample_rate: int, **rest: Any) -> Item:
        """An item that is in memory, (1, samples)."""
        return cls(
            item_id,
            source,
            lambda: iter([Window(0, waveform)]),
            lambda: waveform.shape[1],
            sample_rate,
            sample_rate,
            **rest,
        )


def evaluate(
    items: Iterable[Item],
    methods: Mapping[str, Interpreter],
    folder: Path,
    *,
    target: Target = None,
    other_class: bool = False,
    draw: bool = True,
) -> int:
    """Explains every item with every method; what a run folder already holds is left as it is.

    Args:
        items: sounds.
        methods: name -> interpreter.
        folder: the run folder.
        target: what to explain; None: the predicted class.
        other_class: on two-class mixtures whose prediction is one of the two, the first method is asked for the other
            class as well, as method "<name>_other". A multilabel classifier predicts both: there the first question is
            for the item's own class.
        draw: whether to draw figures.

    Returns:
        How many interpretations were made.
    """
    scores, manifest = Scores(folder), Manifest(folder)
    made = 0
    for item in items:
        names = [name for name in methods if not scores.has(item.item_id, name)]
        for name in names:
            first = _own_class(item, methods[name]) if target is None and other_class else target
            rows = _explain(item, name, methods[name], folder, manifest, first, draw)
            made += 1
            if other_class and name == next(iter(methods)) and (asked := _other(item, rows, methods[name])) is not None:
                rows += _explain(item, f"{name}_other", methods[name], folder, manifest, asked, draw)
                made += 1
            scores.add_rows(rows)
    return made


def judge(
    interpretation: Interpretation, waveform: Tensor, classifier: Classifier, stems: Iterable[Tensor] = ()
) -> dict[str, Tensor]:
    """Every score of a batch of interpretations, each (batch,).

    Args:
        interpretation: of `waveform`.
        waveform: (batch, samples), as it was explained.
        classifier: the one explained.
        stems: the explained class's part and, if known, the other's, each (batch, samples).
    """
    samples, gain, target = waveform.shape[1], interpretation.input_gain[:, None], interpretation.target
    with frozen(classifier), torch.no_grad():
        heard = [classifier(part * gain) for part in (interpretation.waveform, interpretation.residual)]
        kept, left = heard
        if interpretation.mask is not None and interpretation.domain is not None:
            stft = classifier.spectrogram(waveform * gain)
            masks = (interpretation.mask, 1 - interpretation.mask)
            kept, left = (
                classifier.classify_stft(apply_mask(stft, mask, interpretation.domain), samples) for mask in masks
            )
    scores = _faithfulness(interpretation.prediction, kept, left, target)
    on_wav = _faithfulness(interpretation.prediction, heard[0], heard[1], target)
    scores |= {f"wav_{name}": on_wav[name] for name in ("fidelity", "faithfulness")}
    if interpretation.mask is not None:
        scores |= {
            "sparseness": compactness.sparseness(interpretation.mask),
            "complexity": compactness.complexity(interpretation.mask),
            "mean_mask": compactness.mean_mask(interpretation.mask),
        }
    scores["kept_energy"] = compactness.kept_energy(waveform, interpretation.waveform)
    scores["silent"] = separation.is_silent(interpretation.waveform, waveform)
    for prefix, stem in zip(("", "other_"), stems):
        silent = scores["silent"]
        ratio = separation.si_sdr(interpretation.waveform, stem)
        gained = separation.si_sdr_improvement(interpretation.waveform, stem, waveform)
        scores[f"{prefix}si_sdr"] = ratio.masked_fill(silent, torch.nan)
        scores[f"{prefix}si_sdr_improvement"] = gained.masked_fill(silent, torch.nan)
    return scores


def _faithfulness(whole: Prediction, kept: Prediction, left: Prediction, target: Tensor) -> dict[str, Tensor]:
    p, o, q = (faith.target_probability(each.probabilities, target) for each in (whole, kept, left))
    return {
        "fidelity": faith.fidelity(kept.probabilities, target),
        "faithfulness": faith.faithfulness(p, q),
        "ai": faith.average_increase(p, o),
        "ad": faith.average_drop(p, o),
        "ag": faith.average_gain(p, o),
    }


def _explain(
    item: Item, name: str, interpreter: Interpreter, folder: Path, manifest: Manifest, target: Target, draw: bool
) -> list[dict[str, Any]]:
    """Writes one item's sounds and figures for one method; returns its rows of scores.csv, one a window."""
    audio_folder = folder / "audio" / item.item_id
    roles = ("interpretation", "residual")
    paths = {"interpretation": audio_folder / f"{name}.wav", "residual": audio_folder / f"{name}_residual.wav"}
    mixture = audio_folder / "mixture.wav"
    writers = {role: WindowWriter(paths[role], item.sample_rate, item.file_rate) for role in roles}
    if not mixture.exists():
        writers["mixture"] = WindowWriter(mixture, item.sample_rate, item.file_rate)
    rows = []
    try:
        for window, keep in _with_overlap(item.windows()):
            row, interpretation = _explain_window(item, name, interpreter, window, target)
            rows.append(row)
            parts = {
                "interpretation": interpretation.waveform,
                "residual": interpretation.residual,
                "mixture": window.waveform,
            }
            for role, writer in writers.items():
                writer.add(parts[role][0].cpu(), window.overlap, keep)
            if draw:
                _draw(folder, item, name, window, interpretation, row)
        for writer in writers.values():
            writer.close(item.frames())
    except BaseException:
        for writer in writers.values():
            writer.discard()
        raise
    paths["listening"] = audio_folder / f"{name}_listening.wav"
    listening_copy(paths["interpretation"], paths["listening"])
    facts = _manifest_facts(item, rows)
    manifest.add(item.item_id, [("mixture", "", mixture)], facts)
    manifest.add(item.item_id, [(role, name, path) for role, path in paths.items()], facts)
    _write_stems(item, audio_folder, manifest, facts)
    return rows


def _explain_window(
    item: Item, name: str, interpreter: Interpreter, window: Window, target: Target
) -> tuple[dict[str, Any], Interpretation]:
    device = interpreter.classifier.spectrogram.window.device
    waveform = window.waveform.to(device)
    start = time.perf_counter()
    interpretation = interpreter.interpret(waveform, target)
    seconds = time.perf_counter() - start
    labels = interpreter.classifier.labels
    explained = [label for label, asked in zip(labels, interpretation.target[0].tolist()) if asked]
    stems = [stem.to(device) for stem in _stems_for(item, explained)]
    scores = judge(interpretation, waveform, interpreter.classifier, stems)
    prediction = interpretation.prediction
    row = {
        "item_id": item.item_id,
        "method": name,
        "source": item.source,
        "condition": item.condition,
        "start_s": round(window.start / item.sample_rate, 3),
        "label": item.label,
        "predicted": labels[int(prediction.predicted[0])],
        "probability": float(prediction.probabilities[0].max()),
        "target": ";".join(explained),
        **{key: float(value[0]) for key, value in scores.items()},
        "silent": bool(scores["silent"][0]),
        "seconds": seconds,
    }
    return row, interpretation


def _stems_for(item: Item, explained: list[str]) -> list[Tensor]:
    """The explained class's stem first, then the other; none if the explained class is not in the item."""
    if len(explained) != 1 or explained[0] not in item.stems:
        return []
    return [item.stems[explained[0]], *(stem for label, stem in item.stems.items() if label != explained[0])]


def _own_class(item: Item, interpreter: Interpreter) -> int | None:
    """What to ask a multilabel classifier about a two-class mixture: one class at a time, the item's own first."""
    if not interpreter.classifier.multilabel or len(item.stems) != 2 or item.label not in interpreter.classifier.labels:
        return None
    return interpreter.classifier.labels.index(item.label)


def _other(item: Item, rows: list[dict[str, Any]], interpreter: Interpreter) -> int | None:
    """Index of the class of a two-class mixture that was not explained, if the classifier knows it."""
    if len(item.stems) != 2 or rows[0]["target"] not in item.stems:
        return None
    other = next(label for label in item.stems if label != rows[0]["target"])
    labels = interpreter.classifier.labels
    return labels.index(other) if other in labels else None


def _with_overlap(windows: Iterator[Window]) -> Iterator[tuple[Window, int]]:
    """Each window with the number of its last samples that the next one shares."""
    held = next(windows)
    for window in windows:
        yield held, window.overlap
        held = window
    yield held, 0


def _draw(folder: Path, item: Item, name: str, window: Window, interpretation: Interpretation, row: dict) -> None:
    suffix = f"_{row['start_s']:g}s" if window.start else ""
    figures.plot_interpretation(
        folder / "figures" / f"{item.item_id}_{name}{suffix}.png",
        window.waveform[0].numpy(),
        interpretation.waveform[0].cpu().numpy(),
        None if interpretation.mask is None else interpretation.mask[0].cpu().numpy(),
        item.sample_rate,
        f"{item.source}: {row['target']} ({name})",
    )


def _manifest_facts(item: Item, rows: list[dict[str, Any]]) -> dict[str, Any]:
    others = [label for label in item.stems if label != item.label]
    return {
        "source": item.source,
        "pred_class": rows[0]["predicted"],
        "pred_prob": rows[0]["probability"],
        "true_class": item.label,
        "distractor_class": others[0] if others else "",
        "snr_db": "" if item.snr_db is None else item.snr_db,
    }


def _write_stems(item: Item, audio_folder: Path, manifest: Manifest, facts: dict[str, Any]) -> None:
    """The item's own stem as the reference."""
    if not item.stems:
        return
    path = audio_folder / "reference.wav"
    if not path.exists():
        writer = WindowWriter(path, item.sample_rate)
        stem = next(iter(item.stems.values()))[0]
        writer.add(stem, 0, 0)
        writer.close(len(stem))
    manifest.add(item.item_id, [("reference", "", path)], facts)
