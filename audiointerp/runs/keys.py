"""The keys that recipes of every kind may have: their types, their default values, and the required keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from audiointerp.datasets.batches import MOST_READERS
from audiointerp.datasets.cache import BITS
from audiointerp.recipe.signatures import UNKNOWN, is_plain
from audiointerp.runs.kind import Kind

KEYS: dict[str, Any] = {
    "seed": int,
    "data_folder": str,
    "download": bool,
    "clips": Callable,
    "train_folds": list[int],
    "valid_folds": list[int],
    "test_folds": list[int],
    "output_folder": str,
    "device": str,
    "precision": str,
    "channels": int,
    "batch_size": int,
    "epochs": int,
    "lr": float,
    "seconds": float,
    "multilabel": bool,
    "classifier": Any,
    "labels": list[str] | str | None,
    "pretrained": str | None,
    "shuffle_labels": bool,
    "cache_features": bool,
    "cache_bits": int,
    "readers": int,
}
DEFAULTS: dict[str, Any] = {
    "valid_folds": [],
    "test_folds": [],
    "device": "auto",
    "precision": "32-true",
    "seconds": 5.0,
    "multilabel": False,
    "labels": None,
    "pretrained": None,
    "shuffle_labels": False,
    "cache_features": False,
    "cache_bits": 32,
    "readers": 2,
}
MOST_SEEDS = 2**32  # NumPy's generators take no negative seeds; the seed of an epoch is this one times 100,003 and more
ALWAYS = ("seed", "clips", "train_folds", "output_folder", "batch_size")

__all__ = ["ALWAYS", "DEFAULTS", "KEYS", "with_defaults"]


def with_defaults(kind: Kind, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A recipe's values with defaults for the keys that it leaves out, and their problems, one line each."""
    if missing := [key for key in (*ALWAYS, *kind.required) if key not in values]:
        return dict(values), [f"has no {key}; every recipe that is run needs it" for key in missing]
    whole = {**DEFAULTS, **kind.defaults, **values}
    # Numbers and text that decide on the kind of run and on its folder are written, not computed by a function.
    types = {**KEYS, **kind.keys}
    if made := [key for key, of in types.items() if whole.get(key) is UNKNOWN and is_plain(of)]:
        return whole, [f"{key} is made by a function; write its value" for key in made]
    problems = [
        f"{key} is {whole[key]}; it must be at least 1"
        for key in ("epochs", "batch_size", "channels")
        if whole.get(key, 1) < 1
    ]
    if not 0 <= whole["seed"] < MOST_SEEDS:
        problems.append(f"seed is {whole['seed']}; give a whole number from 0 to {MOST_SEEDS - 1}")
    if whole["cache_bits"] not in BITS:
        problems.append(f"cache_bits is {whole['cache_bits']}; choose 32 (float) or 16 (integers, half the disk)")
    if whole["cache_bits"] != 32 and whole["cache_features"]:
        problems.append("cache_bits is of cached sounds, but cache_features caches features instead; leave one out")
    if not 0 <= whole["readers"] <= MOST_READERS:
        problems.append(f"readers is {whole['readers']}; give 0 to {MOST_READERS} threads that read batches ahead")
    problems += [f"{key} is {whole[key]}; it must be above 0" for key in ("lr", "seconds") if not whole.get(key, 1) > 0]
    return whole, problems + kind.problems(whole)
