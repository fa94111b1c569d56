"""The parameters of a callable that a recipe names, and whether a value fits an annotation."""

from __future__ import annotations

import builtins
import difflib
import inspect
import os
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

__all__ = [
    "UNKNOWN",
    "Instance",
    "Signature",
    "fits",
    "is_list",
    "is_mapping",
    "is_plain",
    "is_text",
    "kind_problem",
    "misfit",
    "nearest",
    "shorten",
]

UNKNOWN = object()  # a value that is known only when the recipe runs


class Instance(NamedTuple):
    """Placeholder for the object that calling `type` would make."""

    type: type


def nearest(wrong: str, options: Iterable[str], show: str = "{}") -> str:
    """A hint to append to an error message, empty if no option is similar.

    >>> nearest("n_code", ["n_codes", "classifier"])
    " (did you mean 'n_codes'?)"
    """
    found = difflib.get_close_matches(wrong, [str(option) for option in options], n=1)
    return f" (did you mean '{show.format(found[0])}'?)" if found else ""


def shorten(text: str, most: int = 120) -> str:
    """A text for an error message, at most `most` characters.

    >>> shorten("a long value", 8)
    'a lon...'
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."


class Signature:
    """Parameters of a callable, annotations evaluated where possible.

    Attributes:
        positional: those that a list of arguments fills, in order.
        named: those that a mapping of arguments fills, by name.
        rest, options: `*args` and `**kwargs`, or None.
        required: names without a default.
    """

    def __init__(self, known: list[inspect.Parameter]):
        self.positional = [each for each in known if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        self.named = {each.name: each for each in known if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        self.rest = next((each for each in known if each.kind is each.VAR_POSITIONAL), None)
        self.options = next((each for each in known if each.kind is each.VAR_KEYWORD), None)
        single = [*self.positional, *(each for each in self.named.values() if each not in self.positional)]
        self.required = [each.name for each in single if each.default is each.empty]

    @classmethod
    def of(cls, target: Any) -> Signature | None:
        """Signature of a callable; None if it has none, such as some callables written in C."""
        try:
            found = inspect.signature(target).parameters.values()
        except (TypeError, ValueError):
            return None
        function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
        # The annotations of a dataclass's inherited fields may use names that only the parent's module imports.
        owners = reversed(target.__mro__) if inspect.isclass(target) else [target]
        modules = [sys.modules.get(getattr(owner, "__module__", None) or "", builtins) for owner in owners]
        names = {name: value for module in modules for name, value in vars(module).items()}
        names |= getattr(function, "__globals__", {})
        return cls([each.replace(annotation=_evaluate(each.annotation, names)) for each in found])

    def annotation(self, argument: int | str) -> Any:
        """Annotation of an argument, by position or by name; Any where there is none."""
        if isinstance(argument, int):
            found = self.positional[argument] if argument < len(self.positional) else self.rest
        else:
            found = self.named.get(argument, self.options)
        return Any if found is None else found.annotation


def kind_problem(tag: str, target: Any, called: bool) -> str | None:
    """Why `!new`, `!name`, `!apply` or `!module` cannot take this object, or None; `called`: with arguments."""
    if tag == "!new" and not inspect.isclass(target):
        return "is not a class; use !apply: to call a function"
    if tag == "!new" and inspect.isabstract(target):
        return "is an abstract class; name one that derives from it"
    if tag == "!apply" and not inspect.isroutine(target):
        return "is not a function; use !new: to make an object of a class"
    if tag == "!module" and not inspect.ismodule(target):
        return "is not a module; use !name:"
    if called and not (inspect.isclass(target) or inspect.isroutine(target)):
        return "is neither a class nor a function, so it takes no arguments"
    return None


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except (NameError, AttributeError, SyntaxError, TypeError):  # names may be imported for type checkers only
        return Any


def _members(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [member for each in get_args(annotation) for member in _members(each)]
    return [type(None) if annotation is None else annotation]


def _is_class(annotation: Any, *classes: type) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, classes)


def _all_but_none(annotation: Any, holds: Callable[[Any], bool]) -> bool:
    members = [member for member in _members(annotation) if member is not type(None)]
    return bool(members) and all(holds(member) for member in members)


def is_text(annotation: Any) -> bool:
    """Whether only text (str, a path, a Literal of strings) fits, None aside."""

    def text(member: Any) -> bool:
        if get_origin(member) is Literal:
            return all(isinstance(each, str) for each in get_args(member))
        return _is_class(member, str, os.PathLike)

    return _all_but_none(annotation, text)


def is_list(annotation: Any) -> bool:
    """Whether only lists and tuples fit, None aside."""
    return _all_but_none(
        annotation, lambda member: _is_class(member, Collection) and not _is_class(member, str, Mapping)
    )


def is_plain(annotation: Any) -> bool:
    """Whether only numbers, text, and lists of them fit, None aside.

    >>> is_plain(list[int] | None), is_plain(Any)
    (True, False)
    """
    return _all_but_none(
        annotation, lambda member: (get_origin(member) or member) in (bool, int, float, str, list, tuple, Literal)
    )


def is_mapping(annotation: Any) -> bool:
    """Whether a mapping fits."""
    return any(_is_class(member, Mapping) for member in _members(annotation))


def fits(value: Any, annotation: Any) -> bool:
    """Whether a recipe's value fits an annotation. An int fits float, a list fits tuple, text fits a path.

    >>> fits([1, 2], list[int]), fits("no", bool), fits(3, float | None), fits(True, int)
    (True, False, True, False)
    """
    return value is UNKNOWN or any(_fits_one(value, member) for member in _members(annotation))


def _fits_one(value: Any, annotation: Any) -> bool:
    origin: Any = get_origin(annotation) or annotation
    arguments = get_args(annotation)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if origin in (Any, object) or not isinstance(origin, type) or getattr(origin, "_is_protocol", False):
        return True  # Any, a type variable, ...: nothing to check against
    if isinstance(value, Instance):
        return origin is Callable or issubclass(value.type, origin)
    if isinstance(value, bool) or value is None or origin in (bool, int, str):
        return isinstance(value, origin) and not (isinstance(value, bool) and origin in (int, float))
    if origin is float:
        return isinstance(value, (int, float))
    if _is_class(origin, os.PathLike):
        return isinstance(value, (str, origin))
    if issubclass(origin, tuple) and isinstance(value, (list, tuple)):
        return _fits_tuple(value, arguments)
    if issubclass(origin, Collection) and isinstance(value, str):
        return False  # a str is also a Collection of letters, but never meant as one
    if isinstance(value, (list, tuple)) and isinstance(value, origin):
        return not arguments or all(fits(each, arguments[0]) for each in value)
    if isinstance(value, dict) and isinstance(value, origin):
        return len(arguments) < 2 or all(fits(each, arguments[1]) for each in value.values())
    return origin.__module__ == "torch" or isinstance(value, origin)  # "cpu" is accepted for a torch.device


def _fits_tuple(value: list[Any] | tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    if arguments[-1] is Ellipsis:
        return all(fits(each, arguments[0]) for each in value)
    return len(value) == len(arguments) and all(fits(each, one) for each, one in zip(value, arguments))


def misfit(value: Any, annotation: Any) -> str:
    """The end of an error message on a value that does not fit: the expected type and, if clear, the text to write.

    >>> misfit("no", bool)
    'expected bool (write true or false)'
    """
    expected = str(annotation).replace("typing.", "").replace("collections.abc.", "")
    if isinstance(annotation, type) and get_origin(annotation) is None:
        expected = annotation.__name__
    lower = value.lower() if isinstance(value, str) else ""
    hint = ""
    if bool in _members(annotation) and lower in ("yes", "no", "on", "off"):
        hint = " (write true or false)"
    elif fits(None, annotation) and lower == "none":
        hint = " (write null)"
    elif float in _members(annotation) and lower.lstrip("+-") in ("nan", "inf"):
        hint = f" (write {lower.replace('nan', '.nan').replace('inf', '.inf')})"
    elif is_text(annotation) and isinstance(value, (bool, int, float)):
        hint = " (put it in quotes)"
    elif any(get_origin(each) is Literal for each in _members(annotation)):
        options = [option for each in _members(annotation) if get_origin(each) is Literal for option in get_args(each)]
        hint = nearest(str(value), options)
    elif is_list(annotation) and not isinstance(value, (list, tuple)):
        hint = " (write [a, b])"
    return f"expected {expected}{hint}"
