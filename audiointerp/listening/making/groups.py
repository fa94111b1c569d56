"""Runs -> the sounds of one test. Each of several runs is a group, as the two halves of the PIQ paper's study."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiointerp.listening.making import packing, texts
from audiointerp.listening.making.manifest import ITEM_ID, ListeningError, Sound, read_manifest

__all__ = ["Material", "gather"]


@dataclass(frozen=True)
class Material:
    """The sounds and facts of all runs of a test.

    Attributes:
        sounds: sounds of all runs, with class names as words.
        labels: class names of the classifiers, in their order.
        abouts: run.json of each run.
        digest: hashes of the manifests.
    """

    sounds: list[Sound]
    labels: list[str]
    abouts: tuple[Mapping[str, Any], ...]
    digest: str


def gather(runs: Sequence[str | Path], classes: Mapping[str, str] | None = None) -> Material:
    """Reads one or several runs; each of several is a group, named after its folder unless its manifest names groups.

    If several runs have an item of the same name, the run's name is put in front of it. `classes` gives the names of
    classes that listeners read.

    Raises:
        ListeningError: naming every problem of a run.
        ValueError: if no run is given, or two have the same name.
    """
    folders = [Path(run) for run in runs]
    names = [folder.resolve().name for folder in folders]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not folders or twice:
        what = f"two runs are called {twice[0]}" if twice else "no run is given"
        raise ValueError(
            f"{what}; give one run, or several whose folders have different names (the names of the groups)"
        )
    read = [read_manifest(folder) for folder in folders]
    if len(read) > 1:
        read = _grouped(names, read)
    abouts = tuple(packing.about_run(folder) for folder in folders)
    labels = [texts.readable(str(label), classes) for about in abouts for label in about.get("labels") or []]
    manifests = [(folder / "manifest.csv").read_bytes() for folder in folders]
    digests = [hashlib.sha256(each).hexdigest() for each in manifests]
    return Material(
        sounds=[texts.shown(sound, classes) for sounds in read for sound in sounds],
        labels=list(dict.fromkeys(labels)),
        abouts=abouts,
        digest="|".join(digests),
    )


def _grouped(names: Sequence[str], read: Sequence[Sequence[Sound]]) -> list[list[Sound]]:
    """The sounds of each run, under item names that are unique in the test."""
    counts = Counter(item_id for sounds in read for item_id in {sound.item_id for sound in sounds})
    grouped = []
    for name, sounds in zip(names, read):
        prefix = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")
        new = {each.item_id: f"{prefix}_{each.item_id}" for each in sounds if counts[each.item_id] > 1}
        grouped.append(
            [
                replace(
                    each,
                    item_id=new.get(each.item_id, each.item_id),
                    group=each.group or name,
                    source=f"{name}/{each.source}",
                )
                for each in sounds
            ]
        )
    ids = [item_id for sounds in grouped for item_id in {sound.item_id for sound in sounds}]
    wrong = [item_id for item_id, count in Counter(ids).items() if count > 1 or not ITEM_ID.fullmatch(item_id)]
    if wrong:
        raise ListeningError(
            [
                f"{item_id}: several runs have this item, and its name with the run's name in front is not unique or "
                "is not a letter a-z followed by at most 31 of a-z, 0-9 and _; rename the folder of the run"
                for item_id in wrong
            ]
        )
    return grouped
