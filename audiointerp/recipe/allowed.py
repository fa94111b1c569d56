"""The objects that a recipe may name: those of audiointerp and torch, and those of packages that the user allows.

An object counts as part of the package that defines it, not of a module that merely imports it: `torch.os.system` is
part of `os`. A module is imported only if its package is allowed, because an import runs the module.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Collection
from typing import Any

from audiointerp.recipe.signatures import nearest

# Parts of the packages that every recipe may use. Not: loaders of models and of other recipes, which can start code.
_OURS = ("classifiers", "contracts", "datasets", "evaluation", "interpreters", "metrics", "runs", "sound", "training")
PACKAGES = (*(f"audiointerp.{each}" for each in _OURS), "torch.functional", "torch.nn", "torch.optim", "torch.random")
REFUSED = ("audiointerp.classifiers.named", "audiointerp.runs.experiment", "audiointerp.runs.registry")
TYPES = ("torch.device", "torch.dtype")  # of `torch` itself, which also reads pickles and compiles code
# Constructors of these packages only keep and check numbers and text, so that `check` may call them.
SETTINGS = (
    *("audiointerp.datasets.augment", "audiointerp.evaluation.conditions", "audiointerp.interpreters.rde.solvers"),
    *("audiointerp.runs", "audiointerp.sound.masking"),
)
RUNS_CODE = "python:"  # a classifier's name that calls a function, see `classifiers.named`

__all__ = ["RUNS_CODE", "code_problem", "is_setting", "locate"]


def locate(name: str, allow: Collection[str] = ()) -> Any:
    """The object at a dotted name; imports the modules in it, if their package is allowed.

    Args:
        name: such as "torch.nn.Linear".
        allow: packages or modules allowed in addition to audiointerp and torch.

    >>> locate("torch.nn.Linear")
    <class 'torch.nn.modules.linear.Linear'>
    >>> locate("fractions.Fraction", ["fractions"])
    <class 'fractions.Fraction'>

    Raises:
        LookupError: if the object is not allowed or does not exist, or its module cannot be imported.
    """
    parts = name.split(".")
    found, depth = _module(parts, allow)
    for position in range(depth, len(parts)):
        if parts[position].startswith("_"):
            raise LookupError(f"'{parts[position]}' is private; name what a package exports")
        if not hasattr(found, parts[position]):
            owner = ".".join(parts[:position])
            kind = "module " if inspect.ismodule(found) else ""
            public = [each for each in dir(found) if not each.startswith("_")] + _submodules(found)
            raise LookupError(f"{kind}'{owner}' has no '{parts[position]}'" + nearest(parts[position], public))
        found = getattr(found, parts[position])
        if inspect.ismodule(found) and found.__name__.partition(".")[0] not in _tops(allow):
            raise LookupError(_refusal(found.__name__))
    home = _home(found, ".".join(parts[:depth]))
    if not _covers(allow, home) and (not _covers(PACKAGES, home) or _covers(REFUSED, home)):
        raise LookupError(_refusal(home))
    return found


def code_problem(value: Any, allow: Collection[str]) -> str | None:
    """Why a text of a recipe would start code that is not allowed (a classifier named "python:..."), or None."""
    if not isinstance(value, str) or not value.startswith(RUNS_CODE):
        return None
    module = value.removeprefix(RUNS_CODE).partition(":")[0]
    return None if _covers(allow, module) else f"'{value}' runs code; {_hint(module)}"


def is_setting(kind: type) -> bool:
    """Whether a class only keeps and checks its arguments."""
    return _covers(SETTINGS, kind.__module__)


def _module(parts: list[str], allow: Collection[str]) -> tuple[Any, int]:
    """The innermost module of a dotted name, and the number of parts that name it."""
    top = parts[0]
    if top not in _tops(allow):
        if _exists(top):
            raise LookupError(_refusal(top))
        installed = {*sys.stdlib_module_names, *(each.name for each in pkgutil.iter_modules())}
        raise LookupError(f"there is no module '{top}'" + nearest(top, installed))
    found: Any = None
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise LookupError(f"module '{module}' cannot be imported: {error}") from error
            if found is None:
                raise LookupError(f"there is no module '{top}'") from error
            return found, depth - 1
        except Exception as error:  # importing runs the module, which may raise anything
            raise LookupError(f"module '{module}' cannot be imported: {type(error).__name__}: {error}") from error
    return found, len(parts)


def _exists(top: str) -> bool:
    """Whether there is a module or a built-in function of this name; imports nothing."""
    try:
        return hasattr(builtins, top) or top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _home(found: Any, module: str) -> str:
    """The module that defines an object; of a value such as a number, the module in which it was found."""
    if inspect.ismodule(found):
        return found.__name__
    if f"{type(found).__module__}.{type(found).__qualname__}" in TYPES:
        return "torch.nn"
    if isinstance(found, type) and f"{found.__module__}.{found.__qualname__}" in TYPES:
        return "torch.nn"
    return getattr(found, "__module__", None) or module


def _tops(allow: Collection[str]) -> set[str]:
    return {"audiointerp", "torch", *(each.partition(".")[0] for each in allow)}


def _covers(packages: Collection[str], module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in packages)


def _refusal(module: str) -> str:
    return f"'{module}' is not among the parts of audiointerp and torch that recipes may use; {_hint(module)}"


def _hint(module: str) -> str:
    package = module if module.partition(".")[0] in ("audiointerp", "torch") else module.partition(".")[0]
    return f"if you trust this recipe, give --allow {package}"


def _submodules(module: Any) -> list[str]:
    return [each.name for each in pkgutil.iter_modules(module.__path__)] if hasattr(module, "__path__") else []
