"""The node that `!ref <a[b]>` names, and a node's value if it is known without building any object."""

from __future__ import annotations

import ast
import datetime
import functools
import inspect
from collections.abc import Collection
from typing import Any

import ruamel.yaml
import yaml as pyyaml
from hyperpyyaml.core import parse_arithmetic
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from audiointerp.recipe.allowed import locate
from audiointerp.recipe.merging import CALLS, PLAIN, REFERENCES, RecipeError, children, names_in, path_of, walk, where
from audiointerp.recipe.signatures import UNKNOWN, Instance

__all__ = ["Values", "check_arithmetic", "find", "shorten_chains"]

MAX_TEXT, MAX_POWER, MAX_STEPS = 1000, 1000, 10_000  # bounds of what references may grow to
SINGLE = (str, int, float, bool, type(None), datetime.date)


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


class Values:
    """The values of a recipe's nodes, as far as they are known without calling anything that the recipe names.

    Args:
        root: the recipe.
        allow: see `allowed.locate`.
    """

    def __init__(self, root: Node, allow: Collection[str] = ()):
        self.root, self.allow, self.steps = root, allow, 0
        self.scalar = ruamel.yaml.YAML(typ="safe", pure=True).constructor.construct_object

    def of(self, node: Node, active: tuple[Node, ...] = ()) -> Any:
        """Value of a node; an Instance for `!new:`, UNKNOWN if it is known only in a run. `active` ends cycles.

        Raises:
            ValueError, ArithmeticError, YAMLError: if the text is not a number, the arithmetic has no result, ...
        RecipeError: if the references grow without bounds.
        """
        if any(node is each for each in active):
            return UNKNOWN
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise RecipeError([f"{where(node)}: references lead to more than {MAX_STEPS} values"])
        active = (*active, node)
        if node.tag in REFERENCES:
            return self._reference(node, active)
        if node.tag.startswith(CALLS):
            return self._call(node)
        if node.tag == "!tuple":  # as HyperPyYAML: elements follow the rules of YAML 1.1
            return tuple(pyyaml.safe_load(f"[{node.value[1:-1]}]"))
        if node.tag not in PLAIN:
            return UNKNOWN
        if isinstance(node, MappingNode):
            return {key.value: self.of(value, active) for key, value in node.value}
        if isinstance(node, SequenceNode):
            return [self.of(each, active) for each in node.value]
        return self.scalar(node)

    def _call(self, node: Node) -> Any:
        kind, _, dotted = node.tag.partition(":")
        try:
            target = locate(dotted, self.allow)
        except LookupError:
            return UNKNOWN
        if kind == "!new":
            return Instance(target) if inspect.isclass(target) else UNKNOWN
        if kind == "!apply":
            return UNKNOWN
        return functools.partial(target) if children(node) and callable(target) else target

    def _reference(self, node: Node, active: tuple[Node, ...]) -> Any:
        text = node.value
        for name in names_in(node):
            target = find(self.root, path_of(name))
            value = UNKNOWN if target is None or "." in name else self.of(target, active)
            if node.value == f"<{name}>":
                return value
            if not isinstance(value, SINGLE):
                return UNKNOWN
            text = text.replace(f"<{name}>", str(value))
            if len(text) > MAX_TEXT:
                raise RecipeError([f"{where(node)}: references make a text of more than {MAX_TEXT} characters"])
        check_arithmetic(text)
        return parse_arithmetic(text)


def check_arithmetic(text: str) -> None:
    """Refuses arithmetic whose result would be huge or whose nesting is deep; any other text is accepted.

    >>> check_arithmetic("9 ** 9 ** 9")
    Traceback (most recent call last):
    ValueError: a power takes two numbers up to 1000
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return  # text, such as a path
    except (MemoryError, RecursionError, ValueError):
        raise ValueError("the arithmetic is nested too deeply") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            parts = (node.left, node.right)
            known = [each.value for each in parts if isinstance(each, ast.Constant)]
            if len(known) < 2 or any(not isinstance(each, (int, float)) or abs(each) > MAX_POWER for each in known):
                raise ValueError(f"a power takes two numbers up to {MAX_POWER}")
        if isinstance(node, ast.BinOp) and any(
            isinstance(each, ast.Constant) and isinstance(each.value, (str, bytes)) for each in (node.left, node.right)
        ):
            raise ValueError("arithmetic takes numbers, not text in quotes")
