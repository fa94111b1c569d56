"""Classifiers by name, such as "efficientat:mn04_as", "cnn14:FILE" or "python:package.module:make_classifier".

A name is a kind, a colon and a text for that kind. Other packages add kinds through the entry point group
"audiointerp.classifiers": kind -> a function of the text after the colon that returns a classifier; class names that
the user gives are passed to the function as `labels`, if it has an argument of this name.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from torch import nn

from audiointerp.classifiers.clap import CLAP
from audiointerp.classifiers.cnn14 import CNN14
from audiointerp.classifiers.efficientat import RELEASED, EfficientAT
from audiointerp.classifiers.external import External
from audiointerp.classifiers.huggingface import HuggingFace
from audiointerp.contracts import Classifier, label_names

Make = Callable[..., Classifier]

GROUP = "audiointerp.classifiers"
RUNS_CODE = ("python",)  # kinds that run the user's own code, which a bundle must not start
FROM_FILES = ("efficientat", "cnn14", "hf", "hf-clap")  # kinds whose text may be a file or folder

__all__ = ["RUNS_CODE", "is_named", "kinds", "load_named", "read_labels"]


def is_named(text: str | os.PathLike[str]) -> bool:
    """Whether a text is meant as a classifier's name: a kind before a colon, and no file or folder of that name.

    >>> is_named("efficientat:mn04_as"), is_named("results/piq/1234"), is_named("C:/runs/piq")
    (True, False, False)
    """
    kind, colon, rest = str(text).partition(":")
    return bool(colon and rest) and len(kind) > 1 and "/" not in kind and "\\" not in kind and not Path(text).exists()


def kinds() -> dict[str, Callable[[], Make]]:
    """The kinds of names, each with what gives its function: those of this package, then of other installed packages.

    Functions of other packages are imported when their kind is used.
    """
    ours: dict[str, Make] = {
        "efficientat": EfficientAT.from_pretrained,
        "cnn14": CNN14.from_pretrained,
        "hf": HuggingFace.from_pretrained,
        "hf-clap": CLAP.from_pretrained,
        "python": _from_python,
    }
    found: dict[str, Callable[[], Make]] = {name: lambda make=make: make for name, make in ours.items()}
    for each in entry_points(group=GROUP):
        found.setdefault(each.name, each.load)
    return found


def read_labels(given: Sequence[str] | str) -> tuple[str, ...]:
    """Class names, or those in a text file with one name a line.

    Args:
        given: names, or a dictionary from index to name; or a file that exists or ends with .txt, alone or as the only
            name.

    Raises:
        ValueError: for a file that cannot be read, no names, or a name that is empty or given twice.
    """
    names = [given] if isinstance(given, str) else [str(each) for each in label_names(given)]
    source = "labels"
    if len(names) == 1 and (names[0].endswith(".txt") or Path(names[0]).is_file()):
        source = f"labels {names[0]}"
        try:
            names = Path(names[0]).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{source}: not a text file with one name a line ({error})") from None
    names = [each.strip() for each in names]
    if not names or not all(names):
        raise ValueError(f"{source}: a name is empty; give one name a class")
    if twice := [each for number, each in enumerate(names) if each in names[:number]]:
        raise ValueError(f"{source}: {twice[0]!r} is given twice; each class needs a name of its own")
    return tuple(names)


def load_named(name: str, labels: Sequence[str] | str | None = None, code: bool = True) -> Classifier:
    """The classifier of a name, in evaluation mode, its `source` set to the name.

    Args:
        name: kind and text, as in the module's docstring.
        labels: class names or a file of them, see `read_labels`; None: the classifier's own.
        code: whether names that run the user's own code may be used.

    Raises:
        ValueError: for an unknown kind, a text that the kind cannot load, labels that do not fit, or an object that is
            not a classifier.
    """
    kind, _, rest = name.partition(":")
    known = kinds()
    if kind not in known:
        from audiointerp.recipe.signatures import nearest

        shown = ", ".join(f"{each}:..." for each in known)
        raise ValueError(f"{name!r}: there is no kind of classifier {kind!r}{nearest(kind, known)}; known are {shown}")
    if kind in RUNS_CODE and not code:
        raise ValueError(f"{name!r} runs code; name it yourself, with --classifier")
    options = {} if labels is None else {"labels": read_labels(labels)}
    make = known[kind]()
    if options and "labels" not in inspect.signature(make).parameters:
        raise ValueError(f"{name!r} has labels of its own; leave out the given ones")
    classifier = make(rest, **options)
    if not isinstance(classifier, Classifier):
        made = type(classifier).__name__
        hint = "; wrap it: External(module, labels, sample_rate)" if isinstance(classifier, nn.Module) else ""
        raise ValueError(f"{name!r} gives a {made}, not a classifier{hint}")
    classifier.source = f"{kind}:{Path(rest).resolve()}" if _is_file(kind, rest) else name
    classifier.source_labels = options.get("labels")
    return classifier.eval()


def _is_file(kind: str, text: str) -> bool:
    """Whether the text of a name is a file or folder, so that the name holds in another working folder only by path."""
    return kind in FROM_FILES and text not in RELEASED and (kind in ("efficientat", "cnn14") or Path(text).exists())


def _from_python(text: str) -> Classifier:
    """The result of a user's function "package.module:function"; modules in the working folder are found, too."""
    module, colon, function = text.partition(":")
    if not colon or not function:
        raise ValueError(f"python:{text}: name a function too, as in python:package.module:make_classifier")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
        if not hasattr(found, function):
            raise ValueError(f"python:{text}: module {module} has no {function!r}")
        made = getattr(found, function)()
    except ModuleNotFoundError as error:
        raise ValueError(f"python:{text}: there is no module {error.name!r} here or among those installed") from None
    except (ValueError, OSError):  # these say what is wrong
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"python:{text}: your code fails ({type(error).__name__}: {said}); --debug shows where"
        ) from error
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
