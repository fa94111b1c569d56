"""Methods and controls that a recipe names, built for its classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from audiointerp.bundles import bundle
from audiointerp.contracts import Classifier, Interpreter
from audiointerp.interpreters import Beside
from audiointerp.runs.kind import Context

__all__ = ["build_controls", "build_methods", "methods_of"]


def methods_of(context: Context) -> tuple[dict[str, Interpreter], dict[str, Interpreter]]:
    """The recipe's methods and its controls, those of equal area for the methods that `comparison.like` names."""
    classifier = context.classifier
    methods = build_methods(context.values["methods"], classifier)
    likes = {name: methods[name] for name in context.values["comparison"].like if name in methods}
    return methods, build_controls(context.values["controls"], classifier, likes)


def build_methods(makers: Mapping[str, Any], classifier: Classifier) -> dict[str, Interpreter]:
    """Methods ready to explain the classifier.

    Args:
        makers: name -> a bundle's or run's path, or a constructor that takes the classifier.
        classifier: the one explained.

    Raises:
        ValueError: if a path holds no interpreter, or one of another classifier.
    """
    methods = {}
    for name, make in makers.items():
        method = bundle.load(make) if isinstance(make, str) else make(classifier)
        if not isinstance(method, Interpreter):
            raise ValueError(f"method {name}: {make} holds no interpreter but a {type(method).__name__}")
        if not _same(method.classifier, classifier):
            raise ValueError(f"method {name}: {make} explains another classifier; train it on this one")
        device = classifier.device
        methods[name] = method.to(device) if isinstance(method, torch.nn.Module) else method
    return methods


def build_controls(
    makers: Mapping[str, Callable[..., Any]], classifier: Classifier, likes: Mapping[str, Interpreter]
) -> dict[str, Interpreter]:
    """Controls by name; one that stands beside a method once for each of `likes` that it fits.

    With several such methods its name is "<control>_<method>". With none at all, those that can do without stand alone.
    """
    controls: dict[str, Interpreter] = {}
    for name, make in makers.items():
        control = make(classifier)
        if not isinstance(control, Beside) or not likes:
            if not isinstance(control, Beside) or control.alone:
                controls[name] = control
            continue
        fitting: Any = {like: method for like, method in likes.items() if control.fits(method)}
        for like, method in fitting.items():
            controls[name if len(fitting) == 1 else f"{name}_{like}"] = control.beside(method)
    return controls


def _same(first: Classifier, second: Classifier) -> bool:
    """Whether two classifiers are one: the same object, or equal weights and labels."""
    if first is second:
        return True
    ours, theirs = first.state_dict(), second.state_dict()
    alike = first.labels == second.labels and ours.keys() == theirs.keys()
    return alike and all(torch.equal(each.cpu(), theirs[name].cpu()) for name, each in ours.items())
