"""A run's items -> the trials of one task, with practice and catch trials.

Items need not have the same methods: a trial contains the methods of its own item.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Protocol

from audiointerp.listening.making.manifest import Sound
from audiointerp.listening.making.selection import ListeningItem, Selection
from audiointerp.listening.study import CANNOT_TELL, NO_PREFERENCE, Task, Trial, TrialKind
from audiointerp.listening.texts import Texts, read_texts

MOST_CHOICES = 12
ANCHORS = {"low35": ("anchor35", 3500.0), "low70": ("anchor70", 7000.0)}
# Expected answers of catch trials if the catch sound's true_class gives none; "" draws one.
CATCHES: dict[Task, str] = {"mos": "1", "rating": "0", "simulate": ""}
# Scores expected of gold items; for ab, the item's own sound is expected.
GOLD: dict[Task, tuple[int, int] | None] = {"mos": (1, 2), "rating": (0, 40), "ab": None}
SCALES = {"mos": ("1", "2", "3", "4", "5"), "rating": tuple(map(str, range(101)))}

__all__ = ["Design", "Named", "build"]


class Named(Protocol):
    """A function that gives a sound its blind name and registers it for preparation."""

    def __call__(
        self, sound: Sound, *, role: str = "", method: str = "", copy: str = "", cutoff_hz: float = 0.0
    ) -> str:
        """The blind name of the sound: unchanged, in another role, as another copy, or low-passed at a cutoff in Hz."""
        ...


@dataclass(frozen=True)
class Design:
    """Trials of one task.

    Attributes:
        trials, practice, catch: the trials of each kind, in the order of the run.
        anchors: trial_id -> "anchor35", "anchor70", "mixture" -> stimulus id, for ratings against a reference.
        items: trial_id -> item_id.
        catch_answers: trial_id -> the expected answer.
        gold_answers: trial_id of a gold item -> lowest and highest expected score, or the sound to be chosen.
        warnings: one line each.
    """

    trials: tuple[Trial, ...]
    practice: tuple[Trial, ...]
    catch: tuple[Trial, ...]
    anchors: dict[str, dict[str, str]] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    catch_answers: dict[str, str] = field(default_factory=dict)
    gold_answers: dict[str, str | tuple[int, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Asked:
    """Settings that all trials of a study share."""

    task: Task
    question: str
    named: Named
    labels: Sequence[str]
    seed: int
    with_anchors: bool
    ties: bool
    wording: Texts
    anchors: dict[str, dict[str, str]] = field(default_factory=dict)

    def numbers(self, *parts: str) -> random.Random:
        return random.Random("|".join((str(self.seed), *parts)))

    def prompt(self, pred_class: str) -> str:
        return self.question.replace("{class}", pred_class.upper())


def build(
    task: Task, selection: Selection, named: Named, *, question: str | None = None, labels: Sequence[str] = (),
    seed: int = 0, catch: int = 0, gold: int = 0, anchors: bool = True, ties: bool = False,
    wording: Texts | None = None,
) -> Design:  # fmt: skip
    """Trials of a task.

    Args:
        task: mos: one page per item; rating: one page per item, and if the run has a reference, it is hidden among the
            sounds together with low-pass anchors and the mixture; ab, abx: one page for each pair of an item's methods;
            simulate: one page per item, on which each session plays one of its methods.
        selection: items, practice and catch sounds.
        named: gives blind names.
        question: question of every trial; "{class}" is replaced by the predicted class. None takes the task's own.
        labels: class names of the classifier, in its order; choices of "simulate".
        seed: seed of all random draws.
        catch: number of catch trials to add, if the run has no catch sounds.
        gold: number of gold items to add (P.808): pages like the others, on which the sounds, or for ab one of the two,
            explain another item of another class, so that low scores, or the item's own sound, are expected.
        anchors: whether ratings have anchors.
        ties: whether "no preference" is a possible answer (ab).
        wording: questions and words; None for English.

    Raises:
        ValueError: if no trial results, or the task does not have an option that is given.
    """
    if catch and task not in CATCHES:
        raise ValueError(f"task {task} has no catch trials; they are for {', '.join(CATCHES)}")
    if gold and task not in GOLD:
        raise ValueError(f"task {task} has no gold items; they are for {', '.join(GOLD)}")
    if ties and task != "ab":
        raise ValueError(f"task {task} has no ties; they are for ab")
    wording = wording or read_texts()
    if task == "rating" and question is None and not all(item.reference for item in selection.items):
        question = wording.question["mos"]
    question = question or wording.question[task]
    if task == "simulate" and "{class}" in question:
        raise ValueError("the question of task simulate must not hold {class}: it would give the answer away")
    asked = _Asked(task, question, named, _classes(labels, selection), seed, anchors, ties, wording)
    design = Design((), (), (), asked.anchors, warnings=list(selection.warnings))
    trials = _number(asked, selection.items, design)
    if not trials:
        raise ValueError(f"task {task} needs items with two methods or more; this selection has none")
    practice = _practice(asked, selection, design)
    caught = _catch(asked, selection, catch, len(trials), design) if task in CATCHES else []
    caught += _gold(asked, selection, gold, len(trials) + len(caught), design)
    return Design(
        tuple(trials), tuple(practice), tuple(caught),
        asked.anchors, design.items, design.catch_answers, design.gold_answers, design.warnings,
    )  # fmt: skip


def _number(asked: _Asked, items: Sequence[ListeningItem], design: Design) -> list[Trial]:
    pages = [(item, page) for item in items for page in _TASKS[asked.task](asked, item)]
    lacking = [item.item_id for item in items if all(each is not item for each, _ in pages)]
    if lacking and pages:
        design.warnings.append(f"left out of task {asked.task}, as they have one method: {', '.join(lacking)}")
    digits = max(2, len(str(len(pages))))
    return [_place(f"t_{n:0{digits}d}", "trial", item, page, design) for n, (item, page) in enumerate(pages, 1)]


Page = Callable[[str, TrialKind], Trial]


def _place(trial_id: str, kind: TrialKind, item: ListeningItem, page: Page, design: Design) -> Trial:
    design.items[trial_id] = item.item_id
    return page(trial_id, kind)


def _opinion(asked: _Asked, item: ListeningItem) -> list[Page]:
    def page(trial_id: str, kind: TrialKind) -> Trial:
        names = [asked.named(sound) for sound in (*item.systems, *item.anchors)]
        mixture = asked.named(item.mixture)
        return Trial(trial_id, kind, asked.prompt(item.pred_class), mixture, _blind(names), context_is="mixture")

    return [page]


def _rating(asked: _Asked, item: ListeningItem) -> list[Page]:
    reference = item.reference
    if reference is None:
        return _opinion(asked, item)

    def page(trial_id: str, kind: TrialKind) -> Trial:
        names = [asked.named(sound) for sound in (*item.systems, *item.anchors)]
        names.append(asked.named(reference, copy="hidden"))
        if asked.with_anchors:
            given = {sound.method: sound for sound in item.anchors}
            made = {
                key: asked.named(given[method])
                if method in given
                else asked.named(reference, role="anchor", method=method, cutoff_hz=cutoff)
                for method, (key, cutoff) in ANCHORS.items()
            }
            asked.anchors[trial_id] = made | {"mixture": asked.named(item.mixture)}
            names += asked.anchors[trial_id].values()
        context = asked.named(reference)
        return Trial(trial_id, kind, asked.prompt(item.pred_class), context, _blind(names), context_is="reference")

    return [page]


def _pairs(asked: _Asked, item: ListeningItem) -> list[Page]:
    def page(pair: tuple[Sound, Sound], trial_id: str, kind: TrialKind) -> Trial:
        names = _blind([asked.named(sound) for sound in pair])
        choices = (NO_PREFERENCE,) if asked.ties else ()
        return Trial(trial_id, kind, asked.prompt(item.pred_class), asked.named(item.mixture), names, choices)

    return [partial(page, pair) for pair in combinations(item.systems, 2)]


def _abx(asked: _Asked, item: ListeningItem) -> list[Page]:
    pairs = list(combinations(item.systems, 2))
    # X alternates between the first and the second sound from pair to pair, so that neither method is X more often.
    first = asked.numbers("abx", item.item_id).randrange(2)

    def page(place: int, trial_id: str, kind: TrialKind) -> Trial:
        x = asked.named(pairs[place][(first + place) % 2], copy=f"x {trial_id}")
        names = _blind([asked.named(sound) for sound in pairs[place]])
        return Trial(trial_id, kind, asked.prompt(item.pred_class), x, names)

    return [partial(page, place) for place in range(len(pairs))]


def _simulate(asked: _Asked, item: ListeningItem) -> list[Page]:
    def page(trial_id: str, kind: TrialKind) -> Trial:
        names = [asked.named(sound) for sound in item.systems]
        return Trial(trial_id, kind, asked.prompt(""), None, _blind(names), _choices(asked, item))

    return [page]


_TASKS: Mapping[Task, Callable[[_Asked, ListeningItem], list[Page]]] = {
    "mos": _opinion,
    "rating": _rating,
    "ab": _pairs,
    "abx": _abx,
    "simulate": _simulate,
}


def _blind(names: Sequence[str]) -> tuple[str, ...]:
    """Sorted by blind name, an order that does not reveal the methods."""
    return tuple(sorted(set(names)))


def _choices(asked: _Asked, item: ListeningItem) -> tuple[str, ...]:
    """All classes if at most 12, otherwise the item's own and random others, 12 in all, in the classifier's order."""
    labels = list(asked.labels)
    if len(labels) > MOST_CHOICES:
        own = [each for each in (item.pred_class, item.true_class, item.distractor_class) if each in labels]
        others = sorted(set(labels) - set(own))
        drawn = asked.numbers("choices", item.item_id).sample(others, MOST_CHOICES - len(set(own)))
        labels = [label for label in labels if label in own or label in drawn]
    return (*labels, CANNOT_TELL)


def _classes(labels: Sequence[str], selection: Selection) -> list[str]:
    """The classifier's classes, then any other class that an item names."""
    items = (*selection.items, *selection.practice_items)
    named = {each for item in items for each in (item.pred_class, item.true_class, item.distractor_class) if each}
    return [*labels, *sorted(named - set(labels))]


def _practice(asked: _Asked, selection: Selection, design: Design) -> list[Trial]:
    trials: list[Trial] = []
    if asked.task in CATCHES:
        for sound in selection.practice_sounds:
            trials.append(_alone(asked, f"t_practice_{len(trials) + 1}", "practice", sound, selection, design))
    elif selection.practice_sounds:
        design.warnings.append(f"task {asked.task} compares pairs: rows of role practice are left out")
    for item in selection.practice_items:
        for page in _TASKS[asked.task](asked, item)[:1]:
            trials.append(_place(f"t_practice_{len(trials) + 1}", "practice", item, page, design))
    return trials


def _alone(
    asked: _Asked, trial_id: str, kind: TrialKind, sound: Sound, selection: Selection, design: Design
) -> Trial:  # fmt: skip
    """A page about one sound, shown with the mixture (rating: the reference) of its item if the item has one."""
    design.items[trial_id] = sound.item_id
    role = "reference" if asked.task == "rating" else "mixture"
    beside = None if asked.task == "simulate" else selection.beside(sound, role)
    context = asked.named(beside) if beside else None
    as_what = "" if sound.role in ("practice", "catch") else kind
    name = asked.named(sound, role=as_what)
    choices = (*asked.labels[:MOST_CHOICES], CANNOT_TELL) if asked.task == "simulate" else ()
    prompt = (
        asked.prompt(sound.pred_class)
        if sound.pred_class
        else f"{asked.wording.words['practice']}: {_plain(asked.question)}"
    )
    return Trial(trial_id, kind, prompt, context, (name,), choices, role if context else "")


def _plain(question: str) -> str:
    return question.replace(" {class}", "").replace("{class}", "")


def _catch(asked: _Asked, selection: Selection, count: int, number: int, design: Design) -> list[Trial]:
    """Catch trials on the run's own catch sounds, otherwise on random mixtures, which listeners hear anyway."""
    if asked.task == "simulate":  # a mixture would reveal the class; a practice sound reveals nothing new
        free = [item.systems[0] for item in selection.practice_items]
    else:
        free = [item.mixture for item in selection.items]
    numbers = asked.numbers("catch")
    sounds = selection.catch_sounds or numbers.sample(free, min(count, len(free)))
    if len(sounds) < count:
        design.warnings.append(f"{count} catch trials were requested; there are sounds for {len(sounds)}")
    digits, trials = max(2, len(str(number))), []
    for place, sound in enumerate(sounds, number + 1):
        trial = _alone(asked, f"t_{place:0{digits}d}", "catch", sound, selection, design)
        answers = SCALES.get(asked.task, trial.choices[:-1])
        answer = sound.true_class if sound.role == "catch" and sound.true_class in answers else CATCHES[asked.task]
        answer = answer or numbers.choice(answers)
        trials.append(replace(trial, prompt=asked.wording.attention.replace("{answer}", answer)))
        design.catch_answers[trial.trial_id] = answer
    return trials


def _gold(asked: _Asked, selection: Selection, count: int, number: int, design: Design) -> list[Trial]:
    """Pages of random items with the sounds of another item, whose predicted class is another one."""
    if not count:
        return []
    numbers = asked.numbers("gold")
    items = [item for item in selection.items if not item.mixture.silent]
    pairs = [(item, other) for item in items for other in items if other.pred_class != item.pred_class]
    chosen = numbers.sample(pairs, min(count, len(pairs)))
    if len(chosen) < count:
        design.warnings.append(
            f"the test has {len(chosen)} of {count} gold items; each needs a pair of items of different predicted "
            f"classes, and the chosen items have {len(pairs) // 2}"
        )
    digits, trials = max(2, len(str(number))), []
    for place, (item, other) in enumerate(chosen, number + 1):
        trial_id = f"t_{place:0{digits}d}"
        sounds = [asked.named(sound) for sound in other.systems]
        expected = GOLD[asked.task]
        if expected is None:
            sounds = [asked.named(numbers.choice(item.systems)), numbers.choice(sounds)]
        context, role = (item.mixture, "mixture")
        if asked.task == "rating" and item.reference:
            context, role = item.reference, "reference"
        prompt, choices = asked.prompt(item.pred_class), (NO_PREFERENCE,) * asked.ties
        trials.append(Trial(trial_id, "catch", prompt, asked.named(context), _blind(sounds), choices, role))
        design.items[trial_id] = item.item_id
        design.gold_answers[trial_id] = expected or sounds[0]
    return trials
