"""The node that `!ref <a[b]>` names, and a node's value if it is known without building any object."""

from __future__ import annotations

import datetime
import functools
import inspect
import re
from typing import Any

import ruamel.yaml
import yaml as pyyaml
from hyperpyyaml.core import parse_arithmetic
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from audiointerp.recipe.merging import CALLS, PLAIN, REFERENCES, children, walk
from audiointerp.recipe.signatures import UNKNOWN, Instance, locate

__all__ = ["evaluate", "find", "names_in", "path_of", "shorten_chains"]

REFERENCE = re.compile(r"<([^>]*)>")
SINGLE = (str, int, float, bool, type(None), datetime.date)


def names_in(node: Node) -> list[str]:
    """The names in a `!ref` or `!copy`, without the angle brackets; empty for other nodes."""
    return REFERENCE.findall(node.value) if node.tag in REFERENCES and isinstance(node, ScalarNode) else []


def path_of(name: str) -> tuple[str, ...]:
    """Keys of a reference, without its attribute.

    >>> path_of("a[b].c")
    ('a', 'b')
    """
    return tuple(part.strip("]") for part in name.partition(".")[0].split("["))


def find(root: Node, path: tuple[str, ...]) -> Node | None:
    """The node below these keys, or None."""
    for part in path:
        entries: list[tuple[Any, Any]] = root.value if isinstance(root, MappingNode) else []
        below = next((value for key, value in entries if key.value == part), None)
        if below is None:
            return None
        root = below
    return root


def shorten_chains(root: Node) -> None:
    """Turns `a: !ref <b>` into `a: !ref <c>` if `b: !ref <c>`: HyperPyYAML does not resolve a `b` further down."""
    for node in walk(root):
        while (names := names_in(node)) and node.value == f"<{names[0]}>":
            target = None if "." in names[0] else find(root, path_of(names[0]))
            if target is None or target.tag != "!ref":
                break
            node.value = target.value


def evaluate(root: Node, node: Node, active: tuple[Node, ...] = ()) -> Any:
    """Value of a node; an Instance for `!new:`, UNKNOWN if it is known only in a run. `active` ends cycles.

    Raises:
        ValueError, ArithmeticError, YAMLError: if the text is not a number, the arithmetic has no result, ...
    """
    if any(node is each for each in active):
        return UNKNOWN
    active = (*active, node)
    if node.tag in REFERENCES:
        return _reference(root, node, active)
    if node.tag.startswith(CALLS):
        return _call(node)
    if node.tag == "!tuple":  # as HyperPyYAML: elements follow the rules of YAML 1.1
        return tuple(pyyaml.safe_load(f"[{node.value[1:-1]}]"))
    if node.tag not in PLAIN:
        return UNKNOWN
    if isinstance(node, MappingNode):
        return {key.value: evaluate(root, value, active) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [evaluate(root, each, active) for each in node.value]
    return ruamel.yaml.YAML(typ="safe", pure=True).constructor.construct_object(node)


def _call(node: Node) -> Any:
    kind, _, dotted = node.tag.partition(":")
    try:
        target = locate(dotted)
    except LookupError:
        return UNKNOWN
    if kind == "!new":
        return Instance(target) if inspect.isclass(target) else UNKNOWN
    if kind == "!apply":
        return UNKNOWN
    return functools.partial(target) if children(node) and callable(target) else target


def _reference(root: Node, node: Node, active: tuple[Node, ...]) -> Any:
    text = node.value
    for name in names_in(node):
        target = find(root, path_of(name))
        value = UNKNOWN if target is None or "." in name else evaluate(root, target, active)
        if node.value == f"<{name}>":
            return value
        if not isinstance(value, SINGLE):
            return UNKNOWN
        text = text.replace(f"<{name}>", str(value))
    return parse_arithmetic(text)
