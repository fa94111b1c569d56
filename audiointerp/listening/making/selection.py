"""Selects the items, methods, practice and catch sounds of a run that enter a test."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from audiointerp.listening.making.manifest import ListeningError, Sound, items_of

OTHER = "_other"  # suffix of a method's name where it explains the mixture's other class

__all__ = ["ListeningItem", "Selection", "select"]


@dataclass(frozen=True)
class ListeningItem:
    """A decision of the classifier and its explanations.

    Attributes:
        mixture: the classifier's input.
        systems: interpretations, one per method.
        reference: the clean stem of the target class, if the run has it.
        anchors: the run's own sounds of role anchor.
    """

    item_id: str
    mixture: Sound
    systems: tuple[Sound, ...]
    reference: Sound | None = None
    anchors: tuple[Sound, ...] = ()

    @property
    def pred_class(self) -> str:
        """The predicted class."""
        return self.mixture.pred_class

    @property
    def true_class(self) -> str:
        """The true class; empty if unknown."""
        return self.mixture.true_class

    @property
    def distractor_class(self) -> str:
        """The class of the mixture's other sound; empty if unknown."""
        return self.mixture.distractor_class


@dataclass(frozen=True)
class Selection:
    """The items and sounds of a run that enter a test.

    Attributes:
        items: items of the test.
        practice_items: items of the practice trials, if the run has no practice sounds.
        practice_sounds, catch_sounds: sounds of these roles.
        others: mixtures and references of the whole run, which pages of practice and catch sounds may show.
        warnings: one line each.
    """

    items: tuple[ListeningItem, ...]
    practice_items: tuple[ListeningItem, ...]
    practice_sounds: tuple[Sound, ...]
    catch_sounds: tuple[Sound, ...]
    others: tuple[Sound, ...]
    warnings: tuple[str, ...]

    def beside(self, sound: Sound, role: str) -> Sound | None:
        """The mixture or the reference (by `role`) of the sound's item; None if there is none."""
        return next((each for each in self.others if (each.item_id, each.role) == (sound.item_id, role)), None)


def select(
    sounds: Sequence[Sound],
    items: Sequence[str] | int | None = None,
    methods: Sequence[str] | None = None,
    *,
    seed: int = 0,
    practice: int = 1,
    repeat: bool = False,
    pairs: bool = False,
) -> Selection:
    """Selects items and sounds from a run.

    Args:
        sounds: sounds of the run, as `read_manifest` returns them.
        items: names of items, the number of items to draw, or None for all.
        methods: names; None for all but those that explain a mixture's other class, because the questions are about the
            predicted class. Items that have none of the methods are left out.
        seed: seed of all random draws.
        practice: number of practice trials. They use the run's own practice sounds if it has any, otherwise items that
            are not in the test. If `items` is None, items are left out of the test for practice, as long as others
            remain; if items were chosen, there is less practice, with a warning.
        repeat: instead practise on items of the test.
        pairs: whether practice items need two methods or more.

    Raises:
        ListeningError: naming every item and method that the run does not have.
        ValueError: if nothing is left.
    """
    whole = {item.item_id: item for item in _items(sounds)}
    _check_names(whole, items, methods)
    warnings = []
    if methods is None:
        methods, left_out = _of_predicted(whole)
        if left_out:
            warnings.append(
                f"left out, as they explain the other class of a mixture: {', '.join(left_out)}; "
                "name them with --methods to include them"
            )
    usable = [item for item in (_with(item, methods) for item in whole.values()) if item.systems]
    chosen, told = _choose(usable, list(whole), items, seed)
    warnings += told
    rows = tuple(sound for sound in sounds if sound.role == "practice") if practice and not pairs else ()
    needed = 0 if rows else practice
    training, repeated = _training(usable, chosen, needed, seed, pairs)
    if repeated and repeat:
        warnings.append(f"practice repeats {', '.join(repeated)} of the test")
    elif repeated and items is None and _remain(chosen, repeated, pairs):
        chosen = [item for item in chosen if item.item_id not in repeated]
        warnings.append(f"for practice, so not in the test: {', '.join(repeated)}; --practice 0 tests every item")
    elif repeated:
        training = [item for item in training if item.item_id not in repeated]
        warnings.append(
            f"{len(training) or 'no'} practice: every item is needed for the test; choose fewer items with --items, or "
            "practise on an item of the test with --practice_repeat"
        )
    others = tuple(sound for sound in sounds if sound.role in ("mixture", "reference"))
    catches = tuple(sound for sound in sounds if sound.role == "catch")
    return Selection(tuple(chosen), tuple(training), rows, catches, others, tuple(warnings))


def _remain(chosen: Sequence[ListeningItem], left_out: Sequence[str], pairs: bool) -> bool:
    """Whether a test remains without these items; for pairs an item needs two methods."""
    return any(item.item_id not in left_out and (len(item.systems) > 1 or not pairs) for item in chosen)


def _items(sounds: Sequence[Sound]) -> list[ListeningItem]:
    found = []
    for item_id, members in items_of(sounds).items():
        role = {sound.role: sound for sound in members}
        systems = tuple(sound for sound in members if sound.role == "interpretation")
        anchors = tuple(sound for sound in members if sound.role == "anchor")
        if systems:
            found.append(ListeningItem(item_id, role["mixture"], systems, role.get("reference"), anchors))
    return found


def _of_predicted(whole: dict[str, ListeningItem]) -> tuple[list[str], list[str]]:
    """Names of the methods that explain the predicted class, and of those that explain another class."""
    known = list(dict.fromkeys(sound.method for item in whole.values() for sound in item.systems))
    others = [name for name in known if name.endswith(OTHER) and name.removesuffix(OTHER) in known]
    return [name for name in known if name not in others], others


def _with(item: ListeningItem, methods: Sequence[str]) -> ListeningItem:
    return replace(item, systems=tuple(sound for sound in item.systems if sound.method in methods))


def _check_names(
    whole: dict[str, ListeningItem], items: Sequence[str] | int | None, methods: Sequence[str] | None
) -> None:  # fmt: skip
    known = sorted({sound.method for item in whole.values() for sound in item.systems})
    problems = [
        f"no method {name!r} in this run; it has {', '.join(known)}" for name in methods or () if name not in known
    ]
    if isinstance(items, int):
        if items < 1:
            problems.append(f"items is {items}; give a number of at least 1, or names")
    else:
        few = ", ".join(list(whole)[:5]) + (", ..." if len(whole) > 5 else "")
        problems += [f"no item {name!r} in this run; it has {few}" for name in items or () if name not in whole]
    if problems:
        raise ListeningError(problems)


def _choose(
    usable: list[ListeningItem], names: list[str], items: Sequence[str] | int | None, seed: int
) -> tuple[list[ListeningItem], list[str]]:
    """Items of the test, by name or drawn, and warnings; `names` are all items of the run, `usable` have a method."""
    warnings = []
    if items is None:
        chosen = usable
    elif isinstance(items, int):
        drawn = {item.item_id for item in random.Random(f"{seed}|items").sample(usable, min(items, len(usable)))}
        chosen = [item for item in usable if item.item_id in drawn]
        if len(chosen) < items:
            warnings.append(f"{items} items were requested; the run has {len(chosen)}")
    else:
        names, chosen = list(items), [item for item in usable if item.item_id in items]
    lacking = [name for name in names if name not in {item.item_id for item in usable}]
    if lacking:
        warnings.append(f"left out, as they have none of the methods: {', '.join(lacking)}")
    if not chosen:
        raise ValueError("no item is left for the test; choose other items or methods")
    return chosen, warnings


def _training(
    usable: Sequence[ListeningItem], chosen: Sequence[ListeningItem], count: int, seed: int, pairs: bool
) -> tuple[list[ListeningItem], list[str]]:  # fmt: skip
    """Items of the practice trials, and the names of those that are also in the test."""
    numbers = random.Random(f"{seed}|practice")
    names = {item.item_id for item in chosen}
    fit = [item for item in usable if len(item.systems) > 1 or not pairs]
    free = [item for item in fit if item.item_id not in names]
    taken = [item for item in fit if item.item_id in names]
    training = numbers.sample(free, min(count, len(free)))
    training += numbers.sample(taken, min(count - len(training), len(taken)))
    return training, [item.item_id for item in training if item.item_id in names]
