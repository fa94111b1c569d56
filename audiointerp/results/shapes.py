"""JSON files read and checked: every file that somebody else may have written or damaged passes here.

A shape says what a value must be: a type; a tuple of shapes, of which one must fit; `[shape]` for a list of such
values; `{str: shape}` for an object with any names; `{"name": shape, "name?": shape}` for an object with these names
(with "?" it may lack them) and perhaps more; None for null. Whole numbers fit float; true and false fit bool only.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MAX_BYTES = 256 << 20  # of a JSON file; run folders of 100,000 clips stay below a tenth

__all__ = ["is_unicode", "misshapen", "read_json", "text_of"]


def text_of(path: str | Path) -> str:
    """The text of a UTF-8 file; ValueError, naming the file, if it cannot be read."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: has more than {MAX_BYTES >> 20} MB")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: str | Path, shape: Any = dict) -> Any:
    """A JSON file of a shape, see the module.

    Raises:
        ValueError: naming the file, if it cannot be read, is not JSON, or has another shape.
    """
    try:
        value = json.loads(text_of(path))
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON (nested too deeply)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(path)) else f"{path}: not valid JSON ({error})") from None
    if (shape is dict or isinstance(shape, dict)) and not isinstance(value, dict):
        raise ValueError(f"{path}: must hold a JSON object, not a {type(value).__name__}")
    if problem := misshapen(value, shape):
        raise ValueError(f"{path}: {problem}")
    return value


def is_unicode(value: Any) -> bool:
    """Whether a JSON or YAML value can be written to a file: its escapes may give halves of surrogate pairs.

    >>> is_unicode({"title": ["a", "\\U0001f941"]}), is_unicode({"title": "\\ud800"})
    (True, False)
    """
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return all(is_unicode(key) and is_unicode(each) for key, each in value.items())
    return not isinstance(value, (list, tuple)) or all(map(is_unicode, value))


def misshapen(value: Any, shape: Any, name: str = "it") -> str:
    """Why a value does not have a shape; empty if it does.

    >>> misshapen({"labels": ["dog", 3]}, {"labels": [str]})
    'labels[1] is 3, expected text'
    """
    if isinstance(shape, tuple):
        problems = [misshapen(value, each, name) for each in shape]
        return "" if not all(problems) else f"{name} is {_shown(value)}, expected {_words(shape)}"
    if isinstance(shape, list) and isinstance(value, list):
        return next(filter(None, (misshapen(each, shape[0], f"{name}[{i}]") for i, each in enumerate(value))), "")
    if isinstance(shape, dict) and isinstance(value, dict):
        return _misshapen_object(value, shape, name)
    kind = {list: list, dict: dict}.get(type(shape), shape)
    if kind is None or kind is type(None):
        fits = value is None
    elif kind is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
    else:
        fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is int)
    return "" if fits else f"{name} is {_shown(value)}, expected {_words(shape)}"


def _misshapen_object(value: dict[str, Any], shape: dict[Any, Any], name: str) -> str:
    if str in shape:
        return next(filter(None, (misshapen(each, shape[str], f"{name}.{key}") for key, each in value.items())), "")
    for wanted, of in shape.items():
        key = wanted.removesuffix("?")
        if key in value:
            if problem := misshapen(value[key], of, key if name == "it" else f"{name}.{key}"):
                return problem
        elif key == wanted:
            return f"{name} lacks {key!r}"
    return ""


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # whole numbers of more than 4,300 digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _words(shape: Any) -> str:
    if isinstance(shape, tuple):
        return " or ".join(map(_words, shape))
    names = {str: "text", float: "a number", int: "a whole number", bool: "true or false", None: "null"}
    if isinstance(shape, list) or shape is list:
        return "a list"
    if isinstance(shape, dict) or shape is dict:
        return "an object"
    return names.get(shape, getattr(shape, "__name__", str(shape)))
