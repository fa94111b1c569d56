"""Builds the objects of a recipe that was checked.

HyperPyYAML's own loader is that of arbitrary Python objects (`!!python/object/apply:`), also within tuples. This loader
knows plain values and the recipe's five tags, and looks every name up as `check` does.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection
from typing import Any

import ruamel.yaml
import yaml as pyyaml
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from audiointerp.recipe.allowed import locate
from audiointerp.recipe.signatures import kind_problem

ATTRIBUTE = "getattr"  # HyperPyYAML turns the reference `<object.attribute>` into !apply:getattr

__all__ = ["build"]


def build(text: str, allow: Collection[str] = ()) -> dict[str, Any]:
    """The values of a recipe's text, its references resolved; keys that begin with two underscores are left out.

    Args:
        text: as `hyperpyyaml.resolve_references` writes it.
        allow: see `allowed.locate`.

    Raises:
        LookupError: for an object that is not allowed.
        TypeError: if a constructor refuses its arguments.
        YAMLError: for a tag that is none of a recipe's.
    """

    class Loader(ruamel.yaml.SafeLoader):
        pass

    for tag in ("!new:", "!name:", "!apply:", "!module:"):
        Loader.add_multi_constructor(tag, functools.partial(_object, tag.strip(":"), allow))
    Loader.add_constructor("!tuple", _tuple)
    Loader.add_implicit_resolver("!tuple", re.compile(r"^\(.*\)$"), first="(")
    loader = Loader(text)
    loader.deep_construct = True  # arguments are complete before a function is called with them
    values = loader.get_single_data()
    return {key: value for key, value in values.items() if not key.startswith("__")}


def _object(tag: str, allow: Collection[str], loader: Any, dotted: str, node: Node) -> Any:
    positional = loader.construct_sequence(node, deep=True) if isinstance(node, SequenceNode) else []
    named = loader.construct_mapping(node, deep=True) if isinstance(node, MappingNode) else {}
    if (tag, dotted) == ("!apply", ATTRIBUTE):
        return _attribute(*positional)
    target = locate(dotted, allow)
    if problem := kind_problem(tag, target, bool(positional or named)):
        raise TypeError(f"{tag}:{dotted} {problem}")
    if tag == "!module" or (tag == "!name" and not (positional or named)):
        return target
    if tag == "!name":
        return functools.partial(target, *positional, **named)
    try:
        return target(*positional, **named)
    except TypeError as error:
        kind = "class" if inspect.isclass(target) else "callable"
        error.args = (f"Invalid argument to {kind} {dotted}", *error.args)
        raise


def _attribute(owner: Any, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"'{name}' is private")
    return getattr(owner, name)


def _tuple(loader: Any, node: Node) -> tuple[Any, ...]:
    """Elements follow the rules of YAML 1.1, as in HyperPyYAML, but hold plain values only."""
    return tuple(pyyaml.safe_load(f"[{loader.construct_scalar(node)[1:-1]}]"))
