"""Explains items with interpreters and writes WAVs, figures, manifest.csv and scores.csv; resumes an interrupted run.

All scores of an item and method are computed from one interpretation, see `judging`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiointerp.contracts import Interpretation, Interpreter, Target, frozen, resolve_target
from audiointerp.evaluation import judging
from audiointerp.evaluation.items import Item, naming
from audiointerp.metrics.faithfulness import target_probability
from audiointerp.results.paths import inside
from audiointerp.results.tables import Embeddings, Manifest, Scores, source_hash
from audiointerp.sound import files as audio
from audiointerp.sound.recordings import Window, WindowWriter, listening_copy

__all__ = ["TAKEN", "Item", "Wanted", "evaluate"]

TAKEN = "seconds_taken"  # detail of an interpretation that was made before: the computing time to write down


@dataclass(frozen=True)
class Wanted:
    """Options of an evaluation: the target, and the scores and files to make for every item and method.

    Attributes:
        target: the classes to explain; None: the predicted class. A multilabel classifier may predict several classes,
            or a more general one ("Animal" for "Dog"), so that the item's own class is explained where it is known.
        other_class: names of methods that explain both classes of a two-class mixture, if the class explained first is
            one of the two; the rows of the other class have the method "<name>_other".
        figures: whether to draw each interpretation.
        curves: whether to compute insertion and deletion too.
        embeddings: whether to write the classifier's embedding of each interpretation to embeddings.csv.
        sounds: item_id -> whether to keep the item's WAVs. The WAVs of other items are written, scored and deleted.
        more: called with item, method's name, window and interpretation, to write additional files of a method.
    """

    target: Target = None
    other_class: Collection[str] = ()
    figures: bool = True
    curves: bool = False
    embeddings: bool = False
    sounds: Callable[[str], bool] = lambda item_id: True
    more: Callable[[Item, str, Window, Interpretation], object] | None = None


def evaluate(
    items: Iterable[Item], methods: Mapping[str, Interpreter], folder: Path, wanted: Wanted | None = None
) -> int:
    """Explains every item with every method; rows that are already in the run folder are not made again.

    An oracle control has no row if the stem of the target class is not known.

    Args:
        items: sounds.
        methods: name -> interpreter.
        folder: the run folder.
        wanted: options.

    Returns:
        The number of interpretations made.
    """
    wanted = wanted or Wanted()
    scores, manifest, embeddings = Scores(folder), Manifest(folder), Embeddings(folder)
    made = 0
    for item in items:
        for name in [name for name in methods if not scores.has(item.item_id, name)]:
            method, asks = methods[name], name in wanted.other_class
            with naming(item.source), method.several_targets():
                first = _own_class(item, method) if wanted.target is None else wanted.target
                rows = _Explanation(item, name, method, folder, wanted, embeddings).make(manifest, first)
                if rows and asks and (other := _other(item, rows, method)) is not None:
                    explanation = _Explanation(item, f"{name}_other", method, folder, wanted, embeddings)
                    rows += explanation.make(manifest, other)
            scores.add_rows(rows)
            made += len({row["method"] for row in rows})
    return made


class _Explanation:
    """One item explained by one method: its WAVs, figures and rows of scores.csv, one row per window."""

    def __init__(
        self,
        item: Item,
        name: str,
        interpreter: Interpreter,
        folder: Path,
        wanted: Wanted,
        embeddings: Embeddings,
    ):
        self.item, self.name, self.interpreter, self.folder, self.wanted = item, name, interpreter, folder, wanted
        self.embeddings = embeddings
        self.keep = wanted.sounds(item.item_id)
        self.audio_folder = inside(folder, "audio", item.item_id) if self.keep else folder / "audio" / ".unkept"
        self.paths = {
            "interpretation": inside(self.audio_folder, f"{name}.wav"),
            "residual": inside(self.audio_folder, f"{name}_residual.wav"),
        }
        self.device = interpreter.classifier.device

    def make(self, manifest: Manifest, target: Target) -> list[dict[str, Any]]:
        """Writes WAVs and figures and returns the rows; no rows if an oracle control lacks its stem."""
        if self.interpreter.needs_stem and self._oracle_stem(next(self.item.windows()), target) is None:
            return []
        before = source_hash(*self.item.made_of) if self.keep else ""
        rows, made = self._write_windows(target)
        if len(rows) == 1:
            rows[0] |= self._judge_files(made)
        if self.keep:
            self._list_files(rows, manifest, before)
        else:
            for path in self.paths.values():
                path.unlink()
        return rows

    def _write_windows(self, target: Target) -> tuple[list[dict[str, Any]], Interpretation]:
        """Rows of the windows, and the last window's interpretation."""
        item, rows, interpretation = self.item, [], None
        with ExitStack() as unfinished:  # an error, also of the second file opened, deletes all of them
            writers = self._writers(unfinished)
            for window, keep in _with_overlap(item.windows()):
                row, interpretation = self._explain(window, target)
                if window.start or keep:  # a clip of one window is scored on its written files instead
                    parts = (interpretation.waveform, interpretation.residual)
                    row |= self._judge_waveforms(interpretation, *parts)
                rows.append(row)
                parts = {
                    "interpretation": interpretation.waveform,
                    "residual": interpretation.residual,
                    "mixture": window.waveform,
                }
                for role, writer in writers.items():
                    writer.add(parts[role][0].cpu(), window.overlap, keep)
                if self.wanted.figures and self.keep:
                    self._draw(window, interpretation, row)
                if self.wanted.more and self.keep:
                    self.wanted.more(item, self.name, window, interpretation)
            for writer in writers.values():
                writer.close(item.frames())
        assert interpretation is not None
        return rows, interpretation

    def _writers(self, stack: ExitStack) -> dict[str, WindowWriter]:
        rates = (self.item.sample_rate, self.item.file_rate)
        paths = dict(self.paths)
        mixture = self.audio_folder / "mixture.wav"
        if self.keep and not mixture.exists():
            paths["mixture"] = mixture
        return {role: stack.enter_context(WindowWriter(path, *rates)) for role, path in paths.items()}

    def _explain(self, window: Window, target: Target) -> tuple[dict[str, Any], Interpretation]:
        item, classifier = self.item, self.interpreter.classifier
        waveform = window.waveform.to(self.device)
        stem = self._oracle_stem(window, target) if self.interpreter.needs_stem else None
        start = time.perf_counter()
        interpretation = self.interpreter.interpret(waveform, target, stem=stem)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # CUDA calls return before the computation ends
        taken = interpretation.details.get(TAKEN)
        seconds = time.perf_counter() - start if taken is None else float(taken[0])
        explained = _names(classifier.labels, interpretation.target)
        stems = [each.to(self.device) for each in item.stems_for(explained)]
        scores = judging.judge(interpretation, waveform, classifier, stems, self.wanted.curves)
        prediction = interpretation.prediction
        row = {
            "item_id": item.item_id,
            "method": self.name,
            "source": item.source,
            "condition": item.condition,
            "start_s": round(window.start / item.sample_rate, 3),
            "recordings": ";".join(item.recordings),
            "label": item.label,
            "predicted": classifier.labels[int(prediction.predicted[0])],
            "probability": float(prediction.probabilities[0].max()),
            "target": ";".join(explained),
            "target_probability": float(target_probability(prediction.probabilities, interpretation.target)[0]),
            **{key: float(value[0]) for key, value in scores.items()},
            "silent": bool(scores["silent"][0]),
            "seconds": seconds,
        }
        return row, interpretation

    def _oracle_stem(self, window: Window, target: Target) -> Tensor | None:
        """The known stem of the target class, or None."""
        if not self.item.stems:
            return None
        classifier = self.interpreter.classifier
        with frozen(classifier), torch.no_grad():
            prediction = classifier(audio.normalize_peak(window.waveform.to(self.device))[0])
            asked = resolve_target(target, prediction, classifier.multilabel)
        stems = self.item.stems_for(_names(classifier.labels, asked))
        return stems[0].to(self.device) if stems else None

    def _judge_waveforms(self, made: Interpretation, kept: Tensor, left: Tensor) -> dict[str, float]:
        heard = judging.hear(kept, left, made.input_gain, self.interpreter.classifier)
        if self.wanted.embeddings and heard[0].embedding is not None:
            embedding = heard[0].embedding[0].tolist()
            self.embeddings.add(self.item.item_id, self.name, self.item.condition, embedding)
        scores = judging.judge_waveforms(made.prediction, *heard, made.target, self.interpreter.classifier.multilabel)
        return {key: float(value[0]) for key, value in scores.items()}

    def _judge_files(self, made: Interpretation) -> dict[str, float]:
        """Scores of the written WAV files, after reading them again."""
        samples, rate = made.waveform.shape[1], self.item.sample_rate
        files = (audio.fit_length(audio.read(path, rate), samples).to(self.device) for path in self.paths.values())
        return self._judge_waveforms(made, *files)

    def _draw(self, window: Window, interpretation: Interpretation, row: dict[str, Any]) -> None:
        from audiointerp.results import figures  # here: importing matplotlib takes as long as an explanation

        suffix = f"_{row['start_s']:g}s" if window.start else ""
        figures.plot_interpretation(
            inside(self.folder, "figures", f"{self.item.item_id}_{self.name}{suffix}.png"),
            window.waveform[0].numpy(),
            interpretation.waveform[0].cpu().numpy(),
            None if interpretation.mask is None else interpretation.mask[0].cpu().numpy(),
            self.item.sample_rate,
            f"{self.item.source}: {row['target']} ({self.name})",
            scaleogram=self.interpreter.scaleogram(interpretation),
        )

    def _list_files(self, rows: list[dict[str, Any]], manifest: Manifest, hashed: str) -> None:
        """Writes the listening copy and adds the item's WAVs to the manifest, with the hash of the item's source."""
        item = self.item
        listening = inside(self.audio_folder, f"{self.name}_listening.wav")
        listening_copy(self.paths["interpretation"], listening)
        others = [label for label in item.stems if label != item.label]
        facts = {
            "source": item.source,
            "source_sha256": hashed,
            "pred_class": rows[0]["predicted"],
            "pred_prob": rows[0]["probability"],
            "true_class": item.label,
            "distractor_class": others[0] if others else "",
            "snr_db": "" if item.snr_db is None else item.snr_db,
        }
        manifest.add(item.item_id, [("mixture", "", self.audio_folder / "mixture.wav")], facts)
        written = {**self.paths, "listening": listening}
        manifest.add(item.item_id, [(role, self.name, path) for role, path in written.items()], facts)
        if item.stems:
            manifest.add(item.item_id, [("reference", "", self._write_stem())], facts)

    def _write_stem(self) -> Path:
        """Writes the item's own stem as the reference."""
        path = self.audio_folder / "reference.wav"
        if not path.exists():
            stem = next(iter(self.item.stems.values()))[0]
            with WindowWriter(path, self.item.sample_rate) as writer:
                writer.add(stem, 0, 0)
                writer.close(len(stem))
        return path


def _names(labels: tuple[str, ...], target: Tensor) -> list[str]:
    return [label for label, asked in zip(labels, target[0].tolist()) if asked]


def _own_class(item: Item, interpreter: Interpreter) -> int | None:
    """Index of the item's own class if it has one that the classifier knows, and the classifier is multilabel."""
    if not interpreter.classifier.multilabel or item.label not in interpreter.classifier.labels:
        return None
    return interpreter.classifier.labels.index(item.label)


def _other(item: Item, rows: list[dict[str, Any]], interpreter: Interpreter) -> int | None:
    """Index of the class of a two-class mixture that was not explained, if the classifier has it; else None."""
    if len(item.stems) != 2 or rows[0]["target"] not in item.stems:
        return None
    other = next(label for label in item.stems if label != rows[0]["target"])
    labels = interpreter.classifier.labels
    return labels.index(other) if other in labels else None


def _with_overlap(windows: Iterator[Window]) -> Iterator[tuple[Window, int]]:
    """Each window with the number of its last samples that the next window contains too."""
    held = next(windows)
    for window in windows:
        yield held, window.overlap
        held = window
    yield held, 0
