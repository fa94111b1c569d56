"""The problems of a merged recipe: names that do not exist, keys that are not used, values of the wrong type."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import yaml as pyyaml
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from audiointerp.recipe.allowed import code_problem, is_setting, locate
from audiointerp.recipe.merging import (
    CALLS,
    COMMAND_LINE,
    MAP,
    PLAIN,
    REFERENCES,
    RecipeError,
    arguments_of,
    children,
    names_in,
    path_of,
    walk,
    where,
)
from audiointerp.recipe.references import SINGLE, Values, find
from audiointerp.recipe.signatures import (
    UNKNOWN,
    Instance,
    Signature,
    fits,
    is_mapping,
    kind_problem,
    misfit,
    nearest,
    shorten,
)

__all__ = ["Checker"]

PLACEHOLDER, TUPLE, PYTHON = "!PLACEHOLDER", "!tuple", "tag:yaml.org,2002:python/"
TAGS = [each.strip(":") for each in (*CALLS, *REFERENCES, "!include:", PLACEHOLDER, TUPLE)]


class _NotKnown(Exception):
    """A value that is known only when the recipe runs."""


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, SINGLE)


class Checker:
    """Walks a merged recipe and collects its problems, each with its file and line.

    Nothing that the recipe names is called, except constructors of this package that only keep and check their
    arguments (`allowed.SETTINGS`), and those only with numbers and text.

    Args:
        root: the recipe.
        schema: the top-level keys that the program knows, with their types.
        allow: see `allowed.locate`.
    """

    def __init__(self, root: MappingNode, schema: Mapping[str, Any], allow: Collection[str] = ()):
        self.root, self.schema, self.allow = root, schema, allow
        self.values = Values(root, allow)
        self.problems: list[str] = []
        self.used = [path_of(name) for node in walk(root) for name in names_in(node)]
        self.order = {id(node): position for position, node in enumerate(walk(root))}

    def check(self) -> list[str]:
        """All problems."""
        self._cycles(self.root, [], set())
        for key, value in self.root.value:
            name = key.value
            if name not in self.schema and not name.startswith("__"):  # HyperPyYAML drops the keys with two underscores
                self._used(key, value, (name,))
            self._visit(value, key, (name,), self.schema.get(name, Any))
            if name in self.schema and value.tag == MAP and not is_mapping(self.schema[name]):
                self._add(key, f"'{name}' is a plain mapping; write !new:module.Class in front of its arguments")
        return self.problems

    def _add(self, node: Node, message: str) -> None:
        self.problems.append(f"{where(node)}: {message}")

    def _used(self, key: Node, value: Node, path: tuple[str, ...]) -> None:
        """Reports a key that neither the program nor a reference uses; in a plain mapping, each such key in it."""
        if not any(each[: len(path)] == path[: len(each)] for each in self.used):
            right = list(self.schema) if len(path) == 1 else [each[-1] for each in self.used]
            self._add(key, f"unknown key '{'.'.join(path)}', and no !ref uses it" + nearest(path[-1], right))
        elif isinstance(value, MappingNode) and value.tag == MAP:
            for inner, node in value.value:
                self._used(inner, node, (*path, inner.value))

    def _cycles(self, node: Node, trail: list[Node], done: set[int]) -> None:
        """Reports cycles of children and references, which can never be built."""
        loop = next((trail[start:] for start, each in enumerate(trail) if each is node), None)
        if loop is not None:
            references = [each for each in loop if names_in(each)]
            self._add(references[0], f"cyclic reference {' -> '.join(each.value for each in references)}")
        if loop is not None or id(node) in done:
            return
        targets = [find(self.root, path_of(name)) for name in names_in(node)]
        for each in [*children(node), *targets]:
            if each is not None:
                self._cycles(each, [*trail, node], done)
        done.add(id(node))

    def _visit(self, node: Node, key: Node, path: tuple[str, ...], annotation: Any) -> None:
        """Checks a value below `key`: its tag, the object that it calls, its content and its type."""
        before, tag, name = len(self.problems), node.tag, ".".join(path)
        if tag == PLACEHOLDER:
            option = "" if key is node else f"give --{name} VALUE or "  # options cannot change elements of a list
            self._add(node, f"'{name}' is not filled in; {option}write a value")
        elif tag in REFERENCES:
            self._reference(node)
        elif tag.startswith(CALLS):
            self._call(node, path)
        elif tag == TUPLE and not isinstance(node, ScalarNode):
            self._add(node, "!tuple takes text: (1, 2)")
        elif tag.startswith(PYTHON):
            self._add(node, f"'!!{tag.removeprefix('tag:yaml.org,2002:')}' is refused; use !new:, !name: or !apply:")
        elif tag not in (*PLAIN, TUPLE):
            self._add(node, f"unknown tag '{tag}'" + nearest(tag.partition(":")[0], TAGS))
        elif isinstance(node, MappingNode):
            for inner, value in node.value:
                self._visit(value, inner, (*path, inner.value), Any)
        elif isinstance(node, SequenceNode):
            for position, value in enumerate(node.value):
                self._visit(value, value, (*path[:-1], f"{path[-1]}[{position}]"), Any)
        if len(self.problems) == before:
            self._type(node, key, name, annotation)

    def _type(self, node: Node, key: Node, name: str, annotation: Any) -> None:
        try:
            value = self.values.of(node)
        except RecipeError:
            raise
        except (ValueError, ArithmeticError, YAMLError, pyyaml.YAMLError) as error:
            self._add(node, f"'{name}: {shorten(str(node.value))}' cannot be computed: {' '.join(str(error).split())}")
            return
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(each, float) and math.isnan(each) for each in numbers):
            self._add(node, f"'{name}' is or holds NaN, which no setting can be; give a number")
            return
        problem = code_problem(value, self.allow)
        if problem and where(node) != COMMAND_LINE:  # code that the user names on the command line is the user's own
            self._add(node, f"'{name}': {problem}")
        elif not fits(value, annotation):
            given = f"an object of class {value.type.__name__}" if isinstance(value, Instance) else shorten(repr(value))
            source = f" (from {shorten(node.value)})" if names_in(node) else ""
            self._add(key, f"'{name}' is {given}{source}, {misfit(value, annotation)}")

    def _reference(self, node: Node) -> None:
        names = names_in(node)
        if not names:
            self._add(node, f"{node.tag} names no <key>")
        for name in names:
            target, attribute = find(self.root, path_of(name)), "." in name
            if target is None:
                self._add(node, f"{node.tag} <{name}> names no key of this recipe{self._nearest_key(path_of(name))}")
            elif attribute and any(part.startswith("_") for part in name.partition(".")[2].split(".")):
                self._add(node, f"{node.tag} <{name}> names a private attribute")
            elif attribute and target.tag in PLAIN:
                hint = f" (did you mean '<{name.replace('.', '[', 1)}]>'?)" if target.tag == MAP else ""
                self._add(node, f"{node.tag} <{name}>: only objects have attributes{hint}")
            elif node.value != f"<{name}>" and (attribute or target.tag.startswith("!new:") or children(target)):
                self._add(
                    node, f"{node.tag} {node.value}: <{name}> is not a number or text, so it must be the whole value"
                )
            elif self._copied_too_early(node, target):
                self._add(node, f"{node.tag} <{name}> must be below '{name}'")

    def _copied_too_early(self, node: Node, target: Node) -> bool:
        """HyperPyYAML copies in document order, so a copied value must not hold references that it resolves later."""
        if self.order[id(node)] > self.order[id(target)]:
            return False
        return target.tag == "!copy" or (node.tag == "!copy" and any(names_in(each) for each in walk(target)))

    def _nearest_key(self, path: tuple[str, ...]) -> str:
        for depth in range(len(path)):
            outer = find(self.root, path[:depth])
            keys = [key.value for key, _ in outer.value] if isinstance(outer, MappingNode) else []
            if path[depth] not in keys:
                around = path[0] + "".join(f"[{part}]" for part in path[1:depth]) if depth else ""
                return nearest(path[depth], keys, f"<{around}[{{}}]>" if around else "<{}>")
        return ""

    def _call(self, node: Node, path: tuple[str, ...]) -> None:
        """Checks that the object of `!new:`, `!name:`, `!apply:` or `!module:` exists and takes the given arguments."""
        tag, _, dotted = node.tag.partition(":")
        entries, signature, problem, before = arguments_of(node), None, None, len(self.problems)
        try:
            target = locate(dotted, self.allow)
        except LookupError as error:
            self._add(node, f"{tag}:{dotted}: {error.args[0]}")
        else:
            signature = Signature.of(target)
            problem = kind_problem(tag, target, bool(children(node)))
            if problem:
                self._add(node, f"{tag}:{dotted} {problem}")
        if isinstance(node, SequenceNode):
            filled = self._positions(node, signature, path)
        elif entries is None:
            self._add(node, f"{tag}:{dotted} takes its arguments as a mapping or a list, not as '{node.value}'")
            return
        else:
            filled = self._names(entries, dotted, signature, path)
        if signature is not None and problem is None and tag in ("!new", "!apply"):
            for name in signature.required:
                if name not in filled:
                    self._add(node, f"{dotted} lacks its argument '{name}'")
        if len(self.problems) == before and tag == "!new":
            self._try(node)

    def _try(self, node: Node) -> None:
        """Lets the constructor of a setting refuse its arguments."""
        try:
            self._setting(node)
        except _NotKnown:
            return
        except RecipeError:
            raise
        except (ValueError, ArithmeticError, TypeError, AttributeError, LookupError, YAMLError) as error:
            self._add(node, " ".join(str(error).split()))

    def _setting(self, node: Node) -> Any:
        """The object of a `!new:` of settings, whose arguments are numbers, text and other settings."""
        if not node.tag.startswith("!new:"):
            value = self.values.of(node)
            if isinstance(node, SequenceNode) and node.tag in PLAIN:
                return [self._setting(each) for each in node.value]
            if isinstance(node, MappingNode) and node.tag in PLAIN:
                return {key.value: self._setting(each) for key, each in node.value}
            if value is UNKNOWN or not _is_plain(value):
                raise _NotKnown
            return value
        kind = locate(node.tag.partition(":")[2], self.allow)
        if not is_setting(kind):
            raise _NotKnown
        if isinstance(node, SequenceNode):
            return kind(*(self._setting(each) for each in node.value))
        return kind(**{key.value: self._setting(each) for key, each in arguments_of(node) or []})

    def _positions(self, node: SequenceNode, signature: Signature | None, path: tuple[str, ...]) -> list[str]:
        """Checks a list of arguments; names of the parameters it fills."""
        names = [] if signature is None else [each.name for each in signature.positional]
        if signature is not None and signature.rest is None and len(node.value) > len(names):
            self._add(node, f"{node.tag} takes {len(names)} arguments at most, {len(node.value)} are given")
        for position, value in enumerate(node.value):
            name = names[position] if position < len(names) else str(position)
            annotation = Any if signature is None else signature.annotation(position)
            self._visit(value, value, (*path, name), annotation)
        return names[: len(node.value)]

    def _names(
        self, entries: list[tuple[Node, Node]], dotted: str, signature: Signature | None, path: tuple[str, ...]
    ) -> list[str]:
        """Checks a mapping of arguments; names of the parameters it fills."""
        for key, value in entries:
            name = key.value
            if signature is not None and name not in signature.named and signature.options is None:
                self._add(key, f"{dotted} takes no argument '{name}'" + nearest(name, signature.named))
            annotation = Any if signature is None else signature.annotation(name)
            self._visit(value, key, (*path, name), annotation)
        return [key.value for key, _ in entries]
