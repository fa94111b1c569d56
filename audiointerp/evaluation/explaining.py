"""Explains items with interpreters and writes WAVs, figures, manifest.csv and scores.csv; resumes an interrupted run.

All scores of an item and method are computed from one interpretation, see `judging`. While items are explained and
scored (several at once on a GPU), one thread reads the next and another writes the last. All is written in the order of
the items and methods, so that a killed run resumes where it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from audiointerp.contracts import Interpretation, Interpreter, LogitsError, Target
from audiointerp.evaluation.background import WritingBehind, ahead
from audiointerp.evaluation.items import Item, naming
from audiointerp.evaluation.likeliest import rank, rank_labels, shown
from audiointerp.evaluation.together import (
    TAKEN,
    Asked,
    Explained,
    explain,
    explain_windows,
    judge_sounds,
    most_at_once,
    oracle_stem,
    room_for,
)
from audiointerp.processes.world import World, current
from audiointerp.results.parts import merge_parts, part_folder
from audiointerp.results.paths import inside
from audiointerp.results.tables import Embeddings, Likeliest, Manifest, Scores, source_hash
from audiointerp.results.text import shown_target
from audiointerp.sound import files as audio
from audiointerp.sound.recordings import Window, WindowWriter, listening_copy

WAITING = 4  # items that are read before they are explained, and explanations that wait to be written
Targets = Sequence[tuple[str, Target]]
Grouped = TypeVar("Grouped")

__all__ = ["TAKEN", "Item", "Wanted", "evaluate"]


@dataclass(frozen=True)
class Wanted:
    """Options of an evaluation: the target, and the scores and files to make for every item and method.

    Attributes:
        target: the classes to explain; None: the predicted class. A multilabel classifier may predict several classes,
            or a more general one ("Animal" for "Dog"), so that the item's own class is explained where it is known.
        targets: several targets of each item instead of `target`: (suffix of the method's name, target); or a function
            of the indices of all labels, the item's likeliest first, that gives them.
        likeliest: whether to write the likeliest labels of each item to likeliest.csv.
        other_class: names of methods that explain both classes of a two-class mixture, if the class explained first is
            one of the two; the rows of the other class have the method "<name>_other".
        figures: whether to draw each interpretation.
        curves: whether to compute insertion and deletion too.
        embeddings: whether to write the classifier's embedding of each interpretation to embeddings.csv.
        sounds: item_id -> whether to keep the item's WAVs. Other items are scored as if theirs were written.
        more: called with item, method's name, window and interpretation, to write additional files of a method.
    """

    target: Target = None
    targets: Targets | Callable[[Sequence[int]], Targets] | None = None
    likeliest: bool = False
    other_class: Collection[str] = ()
    figures: bool = True
    curves: bool = False
    embeddings: bool = False
    sounds: Callable[[str], bool] = lambda item_id: True
    more: Callable[[Item, str, Window, Interpretation], object] | None = None


def evaluate(
    items: Iterable[Item | audio.AudioError],
    methods: Mapping[str, Interpreter],
    folder: Path,
    wanted: Wanted | None = None,
    refuse: Callable[[ValueError], object] | None = None,
    done: Callable[[], object] = lambda: None,
) -> int:
    """Explains every item with every method; rows that are already in the run folder are not made again.

    An oracle control has no row if the stem of the target class is not known. Several processes call it with the same
    items and divide them; the folder is then as that of one process.

    Args:
        items: sounds; in place of one that cannot be read, its error.
        methods: name -> interpreter.
        folder: the run folder.
        wanted: options.
        refuse: called with the error of an item that cannot be read, or of which the classifier returns NaN; the next
            items are explained. None: the error ends the evaluation.
        done: called after each item.

    Returns:
        The number of interpretations made.
    """
    wanted, world = wanted or Wanted(), current()
    if world.others:
        return _Divided(methods, folder, wanted, world).run(items, refuse, done)
    return _Evaluation(methods, folder, wanted, refuse).run(items, done)


@dataclass
class _Sound:
    """An item, read in advance.

    Attributes:
        item: the item.
        window: its first window; None if nothing is to be made of it.
        several: whether it has more windows.
        hashed: hash of its files, from before they were read.
        asked: the explanations that are to be made; of a long recording, of its first window.
        ranked: all labels with their probabilities, likeliest first, if they are wanted.
        refused: why it cannot be explained.
    """

    item: Item
    window: Window | None = None
    several: bool = False
    hashed: str = ""
    asked: list[Asked] = field(default_factory=list)
    ranked: list[tuple[int, float]] = field(default_factory=list)
    refused: ValueError | None = None


class _Evaluation:
    """The methods, tables and options of an evaluation."""

    def __init__(
        self,
        methods: Mapping[str, Interpreter],
        folder: Path,
        wanted: Wanted,
        refuse: Callable[[ValueError], object] | None,
    ):
        self.methods, self.folder, self.wanted, self.refuse = methods, folder, wanted, refuse
        self.scores = Scores(folder)
        self.sheets = _Sheets(folder, wanted)
        self.likeliest = Likeliest(folder) if wanted.likeliest else None
        # Additional files are written by the computing thread, in the order of the items.
        together = 1 if wanted.more else max((most_at_once(each) for each in methods.values()), default=1)
        self.together = together
        self.explained: dict[tuple[str, str], Explained] = {}
        self.begun: set[tuple[str, str]] = set()  # a clip may be listed twice

    def run(self, items: Iterable[Item | audio.AudioError], done: Callable[[], object]) -> int:
        """Explains all items; returns the number of interpretations made."""
        made = 0
        waiting = max(WAITING, self.together)
        with WritingBehind(waiting) as background, closing(ahead(map(self._read, items), waiting)) as read:
            broken = None
            while broken is None:
                some, broken = _until_error(islice(read, self.together))
                if not some:
                    break
                self._prepare([each for each in some if each.refused is None])
                for sound in some:
                    try:
                        made += self._finish(sound, background)
                    except (audio.AudioError, LogitsError) as error:
                        if self.refuse is None:
                            raise
                        self.refuse(error)
                    done()
                self.explained.clear()
            if broken is not None:
                raise broken
        return made

    def _read(self, item: Item | audio.AudioError) -> _Sound:
        """The item with its first window; called in a thread. Nothing is read if all is made."""
        if isinstance(item, audio.AudioError):
            return _Sound(Item.of_waveform("", "", torch.zeros(1, 0), 1), refused=item)
        if self._is_made(item):
            return _Sound(item)
        hashed = source_hash(*item.made_of) if self.wanted.sounds(item.item_id) else ""
        try:
            windows = item.windows()
            first = next(windows)
            several = next(windows, None) is not None
        except audio.AudioError as error:
            return _Sound(item, refused=error)
        if not several:
            item = replace(item, windows=lambda: iter([first]))
        return _Sound(item, first, several, hashed)

    def _is_made(self, item: Item) -> bool:
        """Whether there is nothing left to make, as far as it is known before the item is read."""
        targets = self.wanted.targets
        if callable(targets) or (self.likeliest is not None and not self.likeliest.has(item.item_id)):
            return False
        return all(self.scores.has(item.item_id, name) for name in self.names)

    @property
    def names(self) -> list[str]:
        """The methods' names with the suffixes of the targets, if these do not depend on the item."""
        targets = self.wanted.targets
        assert not callable(targets)
        return [name + suffix for suffix, _ in targets or [("", None)] for name in self.methods]

    def leave_out(self, folder: Path) -> None:
        """Leaves out what is made in another run folder."""
        self.scores.count_as_there(Scores(folder))
        self.sheets.manifest.count_as_there(Manifest(folder))
        if self.likeliest is not None:
            self.likeliest.count_as_there(Likeliest(folder))

    # --- several items at once

    def _prepare(self, sounds: Sequence[_Sound]) -> None:
        """Lists the explanations to be made, and makes those that methods make of several items together."""
        if callable(self.wanted.targets):
            self._rank(sounds)
        for sound in sounds:
            if sound.refused is None:
                sound.asked = list(self._asked(sound))
        if self.together == 1:
            return
        asked = [each for sound in sounds if not sound.several for each in sound.asked]
        self._explain_together(asked)
        made = ((each, self.explained.get((each.item.item_id, each.name))) for each in asked)
        others = [self._other_of(each, [found.row]) for each, found in made if found is not None]
        self._explain_together([each for each in others if each is not None])

    def _rank(self, sounds: Sequence[_Sound]) -> None:
        for group in _groups(sounds, lambda sound: _length(sound.window), lambda sound: room_for(sound.window)):
            try:
                for sound, ranked in zip(group, self._labels_of(group)):
                    sound.ranked = ranked
            except Exception as error:
                if len(group) > 1:  # ranked one by one, it is known which of them fails
                    for sound in group:
                        self._rank([sound])
                elif isinstance(error, LogitsError):
                    group[0].refused = LogitsError(f"{group[0].item.source}: {error}")
                else:
                    raise

    def _labels_of(self, sounds: Sequence[_Sound]) -> list[list[tuple[int, float]]]:
        classifier = next(iter(self.methods.values())).classifier
        return rank_labels(torch.cat([sound.window.waveform for sound in sounds if sound.window]), classifier)

    def _asked(self, sound: _Sound) -> Iterator[Asked]:
        """The explanations of an item that are not made yet, in their order."""
        targets, item, window = self.wanted.targets, sound.item, sound.window
        if window is None:
            return
        if callable(targets):
            targets = targets([index for index, _ in sound.ranked])
        for suffix, target in targets or [("", self.wanted.target)]:
            for name, method in self.methods.items():
                key = (item.item_id, name + suffix)
                if not self.scores.has(*key) and key not in self.begun:
                    self.begun.add(key)
                    own = _own_class(item, method) if target is None else target
                    yield Asked(item, window, name + suffix, method, own)

    def _explain_together(self, asked: Sequence[Asked]) -> None:
        groups = _groups(
            asked,
            lambda each: (id(each.method), _length(each.window), each.target is None, bool(each.item.events)),
            # Scores over time are of one clip.
            lambda each: 1 if each.item.events else min(most_at_once(each.method), room_for(each.window)),
        )
        for group in groups:
            if len(group) == 1:
                continue  # made in its turn
            try:
                made = explain(group, self.wanted.curves, self.wanted.embeddings)
            except Exception:  # raised again when the item that it is about is explained alone
                continue
            self.explained |= {(each.item.item_id, each.name): found for each, found in zip(group, made)}

    def _other_of(self, asked: Asked, rows: Sequence[Mapping[str, Any]]) -> Asked | None:
        """The explanation of the other class of a mixture, if it is wanted and there is one."""
        if asked.name not in self.wanted.other_class:
            return None
        other = _other(asked.item, rows, asked.method)
        return None if other is None else asked.of_other(other)

    # --- one item

    def _finish(self, sound: _Sound, background: WritingBehind) -> int:
        """Makes an item's explanations that are not made yet, and has all of them written; returns their number."""
        if sound.refused is not None:
            raise sound.refused
        with ExitStack() as stack, naming(sound.item.source):
            for method in {id(each.method): each.method for each in sound.asked}.values():
                stack.enter_context(method.several_targets())
            if self.likeliest is not None and not self.likeliest.has(sound.item.item_id):
                labels = next(iter(self.methods.values())).classifier.labels
                background.do(partial(self.likeliest.add, sound.item.item_id, shown(self._ranked(sound), labels)))
            count = 0
            for asked in sound.asked:
                if asked.method.needs_stem and oracle_stem(asked) is None:
                    continue
                count += (self._stream if sound.several else self._make)(sound, asked, background)
        return count

    def _ranked(self, sound: _Sound) -> list[tuple[int, float]]:
        """All labels of an item's first window with their probabilities, likeliest first."""
        if sound.ranked:
            return sound.ranked
        if sound.several or not sound.asked or sound.asked[0].method.needs_stem:
            return self._labels_of([sound])[0]
        first = sound.asked[0]
        key = (first.item.item_id, first.name)
        self.explained[key] = made = self.explained.get(key) or self._explain(first)
        return rank(made.probabilities[None])[0]

    def _make(self, sound: _Sound, asked: Asked, background: WritingBehind) -> int:
        """Explanations of an item of one window, which are written in the background."""
        made = [self._explained(asked)]
        if (other := self._other_of(asked, [made[0].row])) is not None:
            made.append(self._explained(other))
        background.do(partial(self._write, sound.hashed, made))
        return len(made)

    def _explained(self, asked: Asked) -> Explained:
        made = self.explained.pop((asked.item.item_id, asked.name), None) or self._explain(asked)
        if self.wanted.more and self.wanted.sounds(asked.item.item_id):
            assert made.whole is not None
            self.wanted.more(asked.item, asked.name, asked.window, made.whole)
        return replace(made, whole=None)  # its feature maps would be kept until it is written

    def _explain(self, asked: Asked) -> Explained:
        return explain([asked], self.wanted.curves, self.wanted.embeddings)[0]

    def _write(self, hashed: str, made: Sequence[Explained]) -> None:
        for each in made:
            self.sheets.write(each, hashed)
        self.scores.add_rows([each.row for each in made])

    def _stream(self, sound: _Sound, asked: Asked, background: WritingBehind) -> int:
        """Explanations of a long recording, which are written window by window while they are made."""
        background.wait()
        rows = self.sheets.stream(asked, sound.hashed)
        if (other := self._other_of(asked, rows)) is not None:
            rows += self.sheets.stream(other, sound.hashed)
        self.scores.add_rows(rows)
        return len({row["method"] for row in rows})


class _Divided:
    """An evaluation by several processes: each explains its items into its part of the run folder (`results.parts`).

    Every process goes through all items. Of those that are not explained yet, process r of n takes every n-th one, from
    the r-th.
    """

    def __init__(self, methods: Mapping[str, Interpreter], folder: Path, wanted: Wanted, world: World):
        self.folder, self.world = folder, world
        world.once(partial(_make_tables, folder, wanted))
        self.evaluation = _Evaluation(methods, part_folder(folder, world.rank), wanted, self._note)
        self.evaluation.leave_out(folder)
        self.left = _Left(self.evaluation)
        self.order: dict[str, int] = {}  # place of each item
        self.numbers: list[int] = []  # places of this process's items
        self.finished = 0
        self.refused: list[tuple[int, str]] = []

    def run(
        self,
        items: Iterable[Item | audio.AudioError],
        refuse: Callable[[ValueError], object] | None,
        done: Callable[[], object],
    ) -> int:
        """Explains this process's items, waits for the others, and has all parts merged; see `evaluate`."""
        if refuse is None:
            self.evaluation.refuse = None

        def finish() -> None:
            self.finished += 1
            done()

        made = self.evaluation.run(self._own(items, done), finish)
        every = self.world.gather({"made": made, "refused": self.refused})
        self.world.once(partial(merge_parts, self.folder, self.order))
        for _, text in sorted((number, text) for each in every for number, text in each["refused"]):
            if refuse is not None:
                refuse(ValueError(text))
        return sum(each["made"] for each in every)

    def _own(
        self, items: Iterable[Item | audio.AudioError], done: Callable[[], object]
    ) -> Iterator[Item | audio.AudioError]:
        turn = 0
        for number, item in enumerate(items):
            if isinstance(item, Item):
                self.order.setdefault(item.item_id, number)
            if self.left.has(item):
                turn += 1
                if (turn - 1) % self.world.size == self.world.rank:
                    self.numbers.append(number)
                    yield item
                    continue
            done()

    def _note(self, error: ValueError) -> None:
        self.refused.append((self.numbers[self.finished], str(error)))


class _Left:
    """Which items are left to explain, as known before the first is: the same in every process."""

    def __init__(self, evaluation: _Evaluation):
        self.evaluation = evaluation
        self.scored = frozenset(evaluation.scores.keys)
        self.ranked = None if evaluation.likeliest is None else frozenset(evaluation.likeliest.keys)

    def has(self, item: Item | audio.AudioError) -> bool:
        """Whether something of the item is left to make, or it may be."""
        targets = self.evaluation.wanted.targets
        if isinstance(item, audio.AudioError) or callable(targets):
            return True
        if self.ranked is not None and (item.item_id,) not in self.ranked:
            return True
        return not all((item.item_id, name) in self.scored for name in self.evaluation.names)


def _make_tables(folder: Path, wanted: Wanted) -> None:
    """Makes the tables of the run folder, which several processes then read; parts that are left are merged before."""
    merge_parts(folder)
    Scores(folder)
    Manifest(folder)
    if wanted.likeliest:
        Likeliest(folder)


class _Sheets:
    """Writes the WAVs and figures of explanations, and their rows in manifest.csv and embeddings.csv."""

    def __init__(self, folder: Path, wanted: Wanted):
        self.folder, self.wanted = folder, wanted
        self.manifest, self.embeddings = Manifest(folder), Embeddings(folder)

    def write(self, made: Explained, hashed: str) -> None:
        """Writes an explanation of an item of one window.

        Args:
            made: the explanation.
            hashed: hash of the item's files, from before they were read.
        """
        asked = made.asked
        keep = self.wanted.sounds(asked.item.item_id)
        if keep:
            for role, path in self._paths(asked).items():
                with WindowWriter(path, asked.item.file_rate) as writer:
                    writer.add(torch.from_numpy(made.sounds[role]), 0, 0)
                    writer.close(len(made.sounds[role]))
            self._draw(asked, made.row, made.kept, made.mask, made.scaleogram)
        if made.embedding is not None:
            self._embed(asked, made.embedding)
        if keep:
            self._list_files(asked, made.row, hashed)

    def stream(self, asked: Asked, hashed: str) -> list[dict[str, Any]]:
        """Explains the windows of a recording one after the other and writes them; returns a row for each.

        Args:
            asked: the explanation, of any window.
            hashed: hash of the item's files, from before they were read.
        """
        item, rows = asked.item, []
        keep = self.wanted.sounds(item.item_id)
        with ExitStack() as unfinished:  # an error, also of the second file opened, deletes all of them
            rates = (item.sample_rate, item.file_rate)
            paths = self._paths(asked) if keep else {}
            writers = {role: unfinished.enter_context(WindowWriter(path, *rates)) for role, path in paths.items()}
            for window, overlap in _with_overlap(item.windows()):
                row, made = self._explain_window(replace(asked, window=window))
                rows.append(row)
                parts = {"interpretation": made.waveform, "residual": made.residual, "mixture": window.waveform}
                for role, writer in writers.items():
                    writer.add(parts[role][0].cpu(), window.overlap, overlap)
                if keep:
                    mask = None if made.mask is None else made.mask[0].cpu().numpy()
                    scaleogram = asked.method.scaleogram(made) if made.mask is None and self.wanted.figures else None
                    self._draw(replace(asked, window=window), row, made.waveform[0].cpu().numpy(), mask, scaleogram)
                if self.wanted.more and keep:
                    self.wanted.more(item, asked.name, window, made)
            for writer in writers.values():
                writer.close(item.frames())
        if keep:
            self._list_files(asked, rows[0], hashed)
        return rows

    def _explain_window(self, asked: Asked) -> tuple[dict[str, Any], Interpretation]:
        rows, made = explain_windows([asked], self.wanted.curves)
        scores, embeddings = judge_sounds(made, asked.method, made.waveform, made.residual, self.wanted.embeddings)
        if embeddings[0] is not None:
            self._embed(asked, embeddings[0])
        return rows[0] | scores[0], made

    def _embed(self, asked: Asked, embedding: list[float]) -> None:
        self.embeddings.add(asked.item.item_id, asked.name, asked.item.condition, embedding)

    def _folder(self, item: Item) -> Path:
        return inside(self.folder, "audio", item.item_id)

    def _paths(self, asked: Asked) -> dict[str, Path]:
        """Role -> the WAV to write; the mixture only if it is not there yet."""
        folder, mixture = self._folder(asked.item), self._folder(asked.item) / "mixture.wav"
        paths = {
            "interpretation": inside(folder, f"{asked.name}.wav"),
            "residual": inside(folder, f"{asked.name}_residual.wav"),
        }
        return paths if mixture.exists() else {**paths, "mixture": mixture}

    def _draw(
        self, asked: Asked, row: Mapping[str, Any], kept: np.ndarray, mask: np.ndarray | None, scaleogram: Any
    ) -> None:
        if not self.wanted.figures:
            return
        from audiointerp.results import figures  # here: importing matplotlib takes as long as an explanation

        item, suffix = asked.item, f"_{row['start_s']:g}s" if asked.window.start else ""
        figures.plot_interpretation(
            inside(self.folder, "figures", f"{item.item_id}_{asked.name}{suffix}.png"),
            asked.window.waveform[0].numpy(),
            kept,
            mask,
            item.sample_rate,
            f"{Path(item.source).name}: {shown_target(row['target'])} ({asked.name})",
            scaleogram=scaleogram,
        )

    def _list_files(self, asked: Asked, row: Mapping[str, Any], hashed: str) -> None:
        """Writes the listening copy and adds the item's WAVs to the manifest, with the hash of the item's source."""
        item, folder, name = asked.item, self._folder(asked.item), asked.name
        written = {
            "interpretation": inside(folder, f"{name}.wav"),
            "residual": inside(folder, f"{name}_residual.wav"),
            "listening": inside(folder, f"{name}_listening.wav"),
        }
        listening_copy(written["interpretation"], written["listening"])
        others = [label for label in item.stems if label != item.label]
        facts = {
            "source": item.source,
            "source_sha256": hashed,
            "pred_class": row["predicted"],
            "pred_prob": row["probability"],
            "true_class": item.label,
            "distractor_class": others[0] if others else "",
            "snr_db": "" if item.snr_db is None else item.snr_db,
        }
        files = [("mixture", "", folder / "mixture.wav"), *((role, name, path) for role, path in written.items())]
        if item.stems:
            files.append(("reference", "", self._write_stem(item)))
        self.manifest.add(item.item_id, files, facts)

    def _write_stem(self, item: Item) -> Path:
        """Writes the item's own stem as the reference."""
        path = self._folder(item) / "reference.wav"
        if not path.exists():
            stem = next(iter(item.stems.values()))[0]
            with WindowWriter(path, item.sample_rate) as writer:
                writer.add(stem, 0, 0)
                writer.close(len(stem))
        return path


def _until_error(values: Iterable[Grouped]) -> tuple[list[Grouped], Exception | None]:
    """The values before an error, and the error."""
    found: list[Grouped] = []
    try:
        for value in values:
            found.append(value)
    except Exception as error:
        return found, error
    return found, None


def _length(window: Window | None) -> int:
    """In samples."""
    return 0 if window is None else window.waveform.shape[1]


def _groups(
    values: Iterable[Grouped], key: Callable[[Grouped], Hashable], most: Callable[[Grouped], int]
) -> Iterator[list[Grouped]]:
    """Values of equal key, at most so many together, in the order of each group's first value."""
    found: defaultdict[Hashable, list[Grouped]] = defaultdict(list)
    for value in values:
        found[key(value)].append(value)
    for group in found.values():
        size = most(group[0])
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _own_class(item: Item, interpreter: Interpreter) -> int | None:
    """Index of the class that the item asks for; else of its own class, if the classifier is multilabel; else None.

    None also if the classifier does not know that class.
    """
    own = item.asked or (item.label if interpreter.classifier.multilabel else "")
    labels = interpreter.classifier.labels
    return labels.index(own) if own in labels else None


def _other(item: Item, rows: Sequence[Mapping[str, Any]], interpreter: Interpreter) -> int | None:
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
