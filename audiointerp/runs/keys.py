"""The keys that recipes may have: their types, what they are when left out, which a kind of run needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from audiointerp.runs.comparison.compare import Comparison
from audiointerp.runs.notes.explaining import NoteExplanations
from audiointerp.runs.notes.magnitude_phase import MagnitudePhase
from audiointerp.runs.sanity.checks import Sanity
from audiointerp.training.schedules import Schedule

__all__ = ["DEFAULTS", "REQUIRED", "SCHEMA", "Evaluation", "kind_of", "value_problems"]


@dataclass(frozen=True)
class Evaluation:
    """What an interpreter is judged on after training: clips of the test folds, and mixtures of them.

    Args:
        clips: clean clips, None for all.
        mixtures: number of two-class mixtures; 0 for none.
        snr_db: of the mixtures.
        gains: of the unit-norm base and other clip, instead of `snr_db`.
        figures: whether to draw each interpretation.
    """

    clips: int | None = None
    mixtures: int = 0
    snr_db: float = 0.0
    gains: tuple[float, float] | None = None
    figures: bool = True


SCHEMA: dict[str, Any] = {
    "seed": int,
    "data_folder": str,
    "download": bool,
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
    "weight_decay": float,
    "betas": tuple[float, float],
    "seconds": float,
    "multilabel": bool,
    "clips": Callable,
    "classifier": Any,
    "pretrained": str | None,
    "interpreter": Callable,
    "training": Callable,
    "augment": Any,
    "loss_weights": Mapping,
    "schedule": Schedule,
    "select": str | None,
    "controls": Mapping,
    "evaluation": Evaluation,
    "dictionary": str | None,
    "nmf": Callable,
    "minibatch": bool,
    "methods": Mapping,
    "comparison": Comparison,
    "sanity": Sanity,
    "shuffle_labels": bool,
    "cache_features": bool,
    "inpainter": Callable,
    "fillers": str | None,
    "notes": NoteExplanations,
    "query": MagnitudePhase,
    "model_card": str,
}
DEFAULTS: dict[str, Any] = {
    "valid_folds": [],
    "test_folds": [],
    "device": "auto",
    "precision": "32-true",
    "weight_decay": 0.01,
    "betas": (0.9, 0.999),
    "seconds": 5.0,
    "multilabel": False,
    "pretrained": None,
    "augment": None,
    "loss_weights": {},
    "schedule": Schedule(),
    "select": None,
    "controls": {},
    "evaluation": Evaluation(),
    "dictionary": None,
    "minibatch": False,
    "shuffle_labels": False,
    "cache_features": False,
    "fillers": None,
    "comparison": Comparison(),
    "model_card": "",
}
# What a recipe is for is told by the key that only its kind has, looked for in this order.
KINDS = {
    "sanity": "sanity",
    "methods": "comparison",
    "nmf": "dictionary",
    "notes": "notes",
    "query": "query",
    "inpainter": "inpainter",
    "interpreter": "interpreter",
    "classifier": "classifier",
}
ALWAYS = ("seed", "clips", "train_folds", "output_folder", "batch_size")
TRAINING = (*ALWAYS, "classifier", "epochs", "lr")
REQUIRED = {
    "sanity": (*ALWAYS, "classifier", "test_folds", "methods"),
    "comparison": (*ALWAYS, "classifier", "test_folds"),
    "dictionary": (*ALWAYS, "epochs"),
    "notes": (*ALWAYS, "classifier", "test_folds"),
    "query": (*ALWAYS, "classifier", "test_folds"),
    "inpainter": TRAINING,
    "interpreter": TRAINING,
    "classifier": TRAINING,
}
EXPLAINING = ("sanity", "comparison", "notes", "query")  # clips of the test folds; without any there is no run


def kind_of(values: Mapping[str, Any]) -> str:
    """What a recipe is for: one of the values of `KINDS`."""
    return next((kind for key, kind in KINDS.items() if key in values), "classifier")


def value_problems(values: Mapping[str, Any]) -> list[str]:
    """Numbers that no run can use, and a choice of weights that nothing informs."""
    whole = [key for key in ("epochs", "batch_size", "channels") if values.get(key, 1) < 1]
    problems = [f"{key} is {values[key]}; it must be at least 1" for key in whole]
    problems += [
        f"{key} is {values[key]}; it must be above 0" for key in ("lr", "seconds") if not values.get(key, 1) > 0
    ]
    if (values["select"] or "").startswith("valid_") and not values["valid_folds"]:
        problems.append(f"select is {values['select']!r}, but valid_folds is empty; name folds, or give --select null")
    if kind_of(values) in EXPLAINING and not values["test_folds"]:
        problems.append("test_folds is empty; name the folds whose clips are explained")
    return problems
