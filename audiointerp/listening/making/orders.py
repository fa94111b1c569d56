"""The order of trials and sounds for each participant: balanced squares, or random orders if the squares are too long.

Williams (1949), "Experimental designs balanced for the estimation of residual effects of treatments": every sound is at
every position, and follows every other sound, equally often.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from audiointerp.listening.study import Presentation, Task, Trial

MAX_SESSIONS = 240
MAX_CROSSED = 96
MAX_PAGES = 10_000  # over all sessions, to bound the size of a study
MIN_SESSIONS = 24  # if orders are drawn at random

__all__ = ["sessions", "williams"]


def williams(count: int) -> list[tuple[int, ...]]:
    """Rows of a Williams square of the numbers 0 to count - 1: `count` rows, or 2 * `count` if it is odd.

    >>> williams(2), williams(3)[0], len(williams(3))
    ([(0, 1), (1, 0)], (0, 1, 2), 6)
    """
    # First row 0, 1, n-1, 2, n-2, ...: each difference between neighbours occurs once. Each next row is shifted by one.
    first = [(step + 1) // 2 if step % 2 else (count - step // 2) % count for step in range(count)]
    rows = [tuple((place + shift) % count for place in first) for shift in range(count)]
    mirrored = [row[::-1] for row in rows] if count % 2 and count > 1 else []
    return rows + mirrored


def sessions(
    task: Task,
    trials: Sequence[Trial],
    practice: Sequence[Trial] = (),
    catch: Sequence[Trial] = (),
    seed: int = 0,
    methods: Mapping[str, str] | None = None,
    meanings: Mapping[str, str] | None = None,
) -> tuple[tuple[Presentation, ...], ...]:
    """The sessions of participants 0, 1, ...; after the last one, the first is used again.

    The sounds of a page follow a row of a Williams square; the row advances by one from participant to participant and
    from trial to trial. A page of "simulate" has one sound, chosen by a Latin square: each participant hears an item
    under one method, and each method equally often. Trials follow a Williams square, too. It is crossed with the square
    of the sounds if this makes at most 96 sessions; otherwise both advance together, up to 240 sessions and 10,000
    pages in total; beyond that, each session has a random order of trials. Catch trials are inserted at random places,
    never first. Practice trials come first.

    Args:
        task, trials, practice, catch: the task and its trials of each kind.
        seed: seed of all random draws.
        methods: stimulus id -> method, needed to balance "simulate".
        meanings: stimulus id -> what it is, in words that are the same in every folder, while blind names are not:
            draws then depend on the seed alone. None draws from the ids.
    """
    numbers = random.Random(f"{seed}|orders")
    shuffled = numbers.sample(list(trials), len(trials))
    names = sorted(set((methods or {}).values()))
    ranks = dict(zip(names, numbers.sample(range(len(names)), len(names))))
    pages = {}
    for trial in (*practice, *shuffled, *catch):
        known = sorted(trial.stimuli, key=lambda name: (meanings or {}).get(name, name))
        sounds = numbers.sample(known, len(known))
        if task == "simulate" and methods:
            sounds.sort(key=lambda sound: ranks[methods[sound]])
        pages[trial.trial_id] = _pages(task, sounds)
    rows = math.lcm(*(len(pages[each.trial_id]) for each in shuffled))
    orders = _orders(len(shuffled), rows, numbers)
    made = []
    for participant, (row, order) in enumerate(orders):
        session = [_presented(shuffled[place], pages, row + place) for place in order]
        places = random.Random(f"{seed}|catch|{participant}")
        for trial in catch:
            session.insert(places.randint(min(1, len(session)), len(session)), _presented(trial, pages, row))
        made.append((*(_presented(trial, pages, row) for trial in practice), *session))
    return tuple(made)


def _pages(task: Task, sounds: Sequence[str]) -> list[tuple[str, ...]]:
    """The different orders of a trial's sounds; participants take them in turn."""
    if task == "simulate":
        return [(sound,) for sound in sounds]
    return [tuple(sounds[place] for place in row) for row in williams(len(sounds))]


def _presented(trial: Trial, pages: dict[str, list[tuple[str, ...]]], row: int) -> Presentation:
    ways = pages[trial.trial_id]
    return Presentation(trial.trial_id, ways[row % len(ways)])


def _orders(count: int, rows: int, numbers: random.Random) -> list[tuple[int, Sequence[int]]]:
    """For each participant: the row of the square of sounds, and the order of trials."""
    square = williams(count)
    together = math.lcm(rows, len(square))
    most = min(MAX_SESSIONS, MAX_PAGES // count)
    for length, limit in ((rows * len(square), min(most, MAX_CROSSED)), (together, most)):
        if length <= limit:
            # After each `together` participants the trials' row shifts by one more, so that every pair occurs once.
            return [(p % rows, square[(p + p // together) % len(square)]) for p in range(length)]
    length = rows * math.ceil(MIN_SESSIONS / rows) if rows <= most else MIN_SESSIONS
    return [(p % rows, numbers.sample(range(count), count)) for p in range(length)]
