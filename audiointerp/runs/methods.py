"""Builds the methods and controls of a recipe for its classifier."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from audiointerp.bundles import bundle
from audiointerp.contracts import Classifier, Interpreter
from audiointerp.interpreters import Beside, MostFaithful
from audiointerp.runs.kind import Context

ROLES = ("input", "mixture", "reference")  # names of sounds that do not belong to a method
RESERVED = ("_magnitude", "_other", "_residual", "_listening")  # suffixes of a method's rows and files

__all__ = ["build_controls", "build_methods", "check_names", "each_run", "methods_of", "names_of_runs"]


def methods_of(context: Context) -> tuple[dict[str, Interpreter], dict[str, Interpreter]]:
    """The recipe's methods and controls; matched controls are made for the methods named in `comparison.like`."""
    classifier, makers = context.classifier, context.values["methods"]
    methods, several = build_methods(makers, classifier), names_of_runs(makers)
    # A control is matched to the first run of a method that is given as several.
    likes = {name: several.get(name, [name])[0] for name in context.values["comparison"].like}
    matched = {name: methods[each] for name, each in likes.items() if each in methods}
    return methods, build_controls(context.values["controls"], classifier, matched)


def names_of_runs(makers: Mapping[str, Any]) -> dict[str, list[str]]:
    """Method given as a list, such as the runs of several seeds -> the names of its runs.

    >>> names_of_runs({"piq": ["results/piq/1", "results/piq/2"], "l2i": "esc10-l2i"})
    {'piq': ['piq-1', 'piq-2']}
    """
    lists = {name: make for name, make in makers.items() if isinstance(make, (list, tuple))}
    return {name: [f"{name}-{number}" for number in range(1, len(make) + 1)] for name, make in lists.items()}


def each_run(makers: Mapping[str, Any]) -> dict[str, Any]:
    """The makers, with a method given as a list as one method for each of its runs.

    Raises:
        ValueError: for a list without a run, or if a name of a run is the name of a method.
    """
    several, single = names_of_runs(makers), {}
    for name, make in makers.items():
        if name not in several:
            single[name] = make
            continue
        if not make or not all(isinstance(each, str) for each in make):
            raise ValueError(f"method {name}: a list holds bundles or runs of the method, such as one for each seed")
        if taken := [each for each in several[name] if each in makers]:
            raise ValueError(f"method {taken[0]!r} has the name of a run of {name!r}; rename one")
        single |= dict(zip(several[name], make))
    return single


def check_names(names: Sequence[str]) -> None:
    """Checks names of methods, which are used in columns and file names.

    Raises:
        ValueError: for a reserved name, other characters, or too many.
    """
    reserved = (*ROLES, "nan", "NaN")  # an empty cell of a table is read from the last two
    if wrong := [
        name for name in names if name in reserved or name.endswith(RESERVED) or not re.fullmatch(r"[\w-]{1,64}", name)
    ]:
        raise ValueError(
            f"method {wrong[0][:80]!r}: use up to 64 letters, digits, _ and -; {', '.join(reserved)} and names ending "
            f"in {', '.join(RESERVED)} are reserved"
        )


def build_methods(makers: Mapping[str, Any], classifier: Classifier) -> dict[str, Interpreter]:
    """Loads or constructs methods that explain the classifier.

    Args:
        makers: name -> a bundle's or run's path, several of them (see `each_run`), or a constructor that takes the
            classifier.
        classifier: the classifier to explain.

    Raises:
        ValueError: if a path has no interpreter, or an interpreter of another classifier.
    """
    methods = {}
    for name, make in each_run(makers).items():
        if make is None:  # `--methods.NAME null` leaves a method of the recipe out
            continue
        if isinstance(make, str):
            method = bundle.load(make, classifier if bundle.needs_classifier(make) else None)
        else:
            method = make(classifier)
        if not isinstance(method, Interpreter):
            raise ValueError(f"method {name}: {make} holds no interpreter but a {type(method).__name__}")
        if not _same(method.classifier, classifier):
            raise ValueError(f"method {name}: {make} explains another classifier; train it on this one")
        device = classifier.device
        methods[name] = method.to(device) if isinstance(method, torch.nn.Module) else method
    others = {name: each for name, each in methods.items() if not isinstance(each, MostFaithful)}
    return {name: each.choosing(others) if isinstance(each, MostFaithful) else each for name, each in methods.items()}


def build_controls(
    makers: Mapping[str, Callable[..., Any]], classifier: Classifier, likes: Mapping[str, Interpreter]
) -> dict[str, Interpreter]:
    """Controls by name; a matched control is made once for each method of `likes` that it fits.

    If it fits several methods, their controls are named "<control>_<method>". If `likes` is empty, matched controls are
    made without a method if they can (`Beside.alone`), and left out otherwise.
    """
    controls: dict[str, Interpreter] = {}
    for name, make in makers.items():
        if make is None:
            continue
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
    """Whether two classifiers are the same: the same object, or equal weights and labels."""
    if first is second:
        return True
    ours, theirs = first.state_dict(), second.state_dict()
    alike = first.labels == second.labels and ours.keys() == theirs.keys()
    return alike and all(torch.equal(each.cpu(), theirs[name].cpu()) for name, each in ours.items())
