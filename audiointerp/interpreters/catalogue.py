"""The interpreters by the names that the command line takes, and an estimate of their computing time."""

from __future__ import annotations

import difflib
import inspect
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from audiointerp import interpreters
from audiointerp.contracts import Classifier, Interpreter, frozen
from audiointerp.interpreters import (
    FLINT,
    L2I,
    LIME,
    LMAC,
    LMACTD,
    PIQ,
    RTIS,
    VIBI,
    Beside,
    Concepts,
    Explainer,
    MaskInterpreter,
    MostFaithful,
)
from audiointerp.interpreters.l2i.by_design import DictionaryClassifier

DEFAULT = "lime_nmf"  # name of `default_method`; "lime" is LIME with the class's own settings, over tiles
TRAINED = (PIQ, L2I, LMAC, LMACTD, Concepts, Explainer, RTIS, VIBI, FLINT)
CLIP_SECONDS = 5.0
WORTH_TELLING = 10.0  # estimated seconds of work above which the cost is printed beforehand

__all__ = ["DEFAULT", "choose", "default_method", "describe_cost", "kinds"]


def kinds() -> dict[str, type[Interpreter]]:
    """Interpreter classes by name, the class name in small letters."""
    exported = {name.lower(): getattr(interpreters, name) for name in interpreters.__all__}
    known = {name: each for name, each in exported.items() if isinstance(each, type) and issubclass(each, Interpreter)}
    return {name: each for name, each in known.items() if not inspect.isabstract(each)}


def choose(model: Classifier | Interpreter, names: Sequence[str], source: str) -> dict[str, Interpreter]:
    """Interpreters by name: the bundle's own, and any that needs no training, made for the bundle's classifier.

    Args:
        model: the model of the bundle, run or recipe.
        names: names of methods; empty: the bundle's own. Controls are matched to the bundle's own method, if it has
            one.
        source: the bundle, run or recipe as the user named it, for messages.

    Raises:
        ValueError: for a name that does not exist, a method that must be trained first, or a model that is neither a
            classifier nor an interpreter, such as a dictionary.
    """
    if not isinstance(model, (Classifier, Interpreter)):
        raise ValueError(
            f"{source}: holds a {type(model).__name__}; name a classifier's or interpreter's bundle or run"
        )
    own = model if isinstance(model, Interpreter) else None
    own_name = type(model).__name__.lower() if own else None
    classifier = model.classifier if isinstance(model, Interpreter) else model
    if not names and own is None:
        return {DEFAULT: default_method(classifier)}
    methods: dict[str, Interpreter] = {}
    for name in [each.lower() for each in names] or [own_name]:
        methods[str(name)] = own if own is not None and name == own_name else _make(str(name), classifier, own)
    return methods


def default_method(classifier: Classifier) -> Interpreter:
    """How a classifier without a trained explainer is explained: LIME over six NMF components of each clip, 64 passes.

    Components with at least a third of the largest coefficient are kept whole. Chosen on mixtures of two clips at 0 dB,
    see docs/methods.md.
    """
    return LIME(classifier, parts="nmf", n_components=6, saturation=1 / 3)


def _make(name: str, classifier: Classifier, own: Interpreter | None) -> Interpreter:
    if name == DEFAULT:
        return default_method(classifier)
    kind: Any = kinds().get(name)
    if kind is None:
        known = sorted([*kinds(), DEFAULT])
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"method {name!r} is unknown{hint}; choose from {', '.join(known)}")
    by_design = kind is L2I and isinstance(classifier, DictionaryClassifier)
    if issubclass(kind, TRAINED) and not by_design:
        raise ValueError(f"method {name} must be trained for its classifier; name the bundle or run of a trained one")
    method = kind(classifier)
    if isinstance(method, Beside) and method.fits(own):
        assert isinstance(own, MaskInterpreter)
        method.like = own
    if isinstance(method, MostFaithful):
        given = {DEFAULT: default_method(classifier)}
        method.among = {type(own).__name__.lower(): own, **given} if own else {**given, "lime": LIME(classifier)}
    return method


def describe_cost(methods: Mapping[str, Interpreter], clips: int | None) -> list[str]:
    """A line for each slow method: classifier passes for a clip of 5 s, and seconds estimated from one timed pass.

    Args:
        methods: name -> interpreter; all of the same classifier.
        clips: number of clips to explain; None if unknown.
    """
    long = {name: method.passes for name, method in methods.items()}
    if max(long.values()) == 1:
        return []
    classifier = next(iter(methods.values())).classifier
    from_features = {name: method.from_features for name, method in methods.items()}
    pass_seconds = {each: _time_a_pass(classifier, each) for each in set(from_features.values())}
    lines = []
    for name, passes in long.items():
        seconds = passes * pass_seconds[from_features[name]] * (clips or 1)
        if seconds > WORTH_TELLING:
            of = f"{clips} clips" if clips and clips > 1 else "each clip"
            lines.append(
                f"{name}: {passes} classifier passes for {CLIP_SECONDS:g} s of sound; about {seconds:.0f} s for {of}"
            )
    return lines


@torch.no_grad()
def _time_a_pass(classifier: Classifier, from_features: bool) -> float:
    """Seconds of one classifier pass over 5 s of silence, or over its features; a first pass is not timed."""
    silence = torch.zeros(1, round(CLIP_SECONDS * classifier.sample_rate), device=classifier.device)
    with frozen(classifier):
        hear, heard = (classifier.classify, classifier.features(silence)) if from_features else (classifier, silence)
        hear(heard)
        start = time.perf_counter()
        hear(heard)
    return time.perf_counter() - start
