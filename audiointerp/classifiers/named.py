"""Classifiers by name: "efficientat:mn04_as", "efficientat:FILE", "python:package.module:make_classifier".

A name is a kind, a colon and a text for that kind. Other packages add kinds through the entry point group
"audiointerp.classifiers": kind -> a function of the text after the colon that returns a classifier.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from torch import nn

from audiointerp.classifiers.efficientat import RELEASED, EfficientAT
from audiointerp.classifiers.external import External
from audiointerp.contracts import Classifier

Make = Callable[[str], Classifier]

GROUP = "audiointerp.classifiers"
RUNS_CODE = ("python",)  # kinds that run the user's own code, which a bundle must not start

__all__ = ["RUNS_CODE", "is_named", "kinds", "load_named"]


def is_named(text: str | os.PathLike[str]) -> bool:
    """Whether a text is meant as a classifier's name: a kind before a colon, and no file or folder of that name.

    >>> is_named("efficientat:mn04_as"), is_named("results/piq/1234"), is_named("C:/runs/piq")
    (True, False, False)
    """
    kind, colon, rest = str(text).partition(":")
    return bool(colon and rest) and len(kind) > 1 and "/" not in kind and "\\" not in kind and not Path(text).exists()


def kinds() -> dict[str, Make]:
    """The kinds of names: those of this package, then those of other installed packages."""
    found: dict[str, Make] = {"efficientat": EfficientAT.from_pretrained, "python": _from_python}
    for each in entry_points(group=GROUP):
        found.setdefault(each.name, lambda text, each=each: each.load()(text))
    return found


def load_named(name: str, code: bool = True) -> Classifier:
    """The classifier of a name, in evaluation mode, its `source` set to the name.

    Args:
        name: kind and text, as in the module's docstring.
        code: whether names that run the user's own code may be used.

    Raises:
        ValueError: for an unknown kind, a text that the kind cannot load, or an object that is not a classifier.
    """
    kind, _, rest = name.partition(":")
    known = kinds()
    if kind not in known:
        from audiointerp.recipe.signatures import nearest

        shown = ", ".join(f"{each}:..." for each in known)
        raise ValueError(f"{name!r}: there is no kind of classifier {kind!r}{nearest(kind, known)}; known are {shown}")
    if kind in RUNS_CODE and not code:
        raise ValueError(f"{name!r} runs code; name it yourself, with --classifier")
    classifier = known[kind](rest)
    if not isinstance(classifier, Classifier):
        made = type(classifier).__name__
        hint = "; wrap it: External(module, labels, sample_rate)" if isinstance(classifier, nn.Module) else ""
        raise ValueError(f"{name!r} gives a {made}, not a classifier{hint}")
    classifier.source = name if kind != "efficientat" or rest in RELEASED else f"{kind}:{Path(rest).resolve()}"
    return classifier.eval()


def _from_python(text: str) -> Classifier:
    """The result of a user's function "package.module:function"; modules in the working folder are found, too."""
    module, colon, function = text.partition(":")
    if not colon or not function:
        raise ValueError(f"python:{text}: name a function too, as in python:package.module:make_classifier")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ValueError(f"python:{text}: there is no module {error.name!r} here or among those installed") from None
    except AttributeError:
        raise ValueError(f"python:{text}: module {module} has no {function!r}") from None
    made = make()
    return made if not isinstance(made, External) else check_external(made)


def check_external(classifier: External) -> External:
    """Runs a wrapped module on one second of noise, so that wrong outputs are found before anything is explained.

    Raises:
        ValueError: for logits that are not finite, maps of another batch size than the input's, or values that can only
            be probabilities.
    """
    import torch

    from audiointerp.contracts import frozen

    noise = 0.1 * torch.randn(2, classifier.sample_rate, generator=torch.Generator().manual_seed(0))
    with frozen(classifier), torch.no_grad():
        logits = classifier(noise.to(classifier.device)).logits
    name = type(classifier.module).__name__
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(f"{name} returns NaN or infinite logits for noise; repair it before explaining it")
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-4)):
        raise ValueError(f"{name} returns probabilities (each row sums to 1); return logits, before the softmax")
    return classifier
