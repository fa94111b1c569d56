"""Merges a recipe's YAML nodes: a recipe's keys replace those of its base, the command line's options replace both.

Each node keeps its file and line, so that later errors can name them.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import ruamel.yaml
from ruamel.yaml.error import FileMark, MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from audiointerp.recipe.moved import names_of_today
from audiointerp.recipe.signatures import Signature, is_list, is_text, locate, nearest

__all__ = ["RecipeError", "parse_overrides", "read"]

COMMAND_LINE = "command line"
STR, MAP, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "merge"))
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")}
INCLUDE, REFERENCES, CALLS = "!include:", ("!ref", "!copy"), ("!new:", "!name:", "!apply:", "!module:")

# HyperPyYAML does the same at each load; done here, `(1, 2)` is read as a tuple before the first load, too.
ruamel.yaml.Loader.add_implicit_resolver("!tuple", re.compile(r"^\(.*\)$"), first="(")


class RecipeError(ValueError):
    """The problems of a recipe, each on its own line with file, line and the most similar valid name."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def parse_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Options after the recipe: `--key value`, `--key=value`, or `--flag` alone for true; keys may be dotted.

    >>> parse_overrides(["--lr", "-1e-3", "--interpreter.codes=32", "--resume"])
    {'lr': '-1e-3', 'interpreter.codes': '32', 'resume': 'true'}

    Raises:
        RecipeError: for a value without an option, or an option given twice.
    """
    overrides: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        key = option[2:]
        if not option.startswith("--") or not all(key.split(".")):
            raise RecipeError([f"{COMMAND_LINE}: '{option}' is not an option; options are written --key value"])
        if key in overrides:
            raise RecipeError([f"{COMMAND_LINE}: {option} is given twice"])
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        overrides[key] = value
    return overrides


def where(node: Node) -> str:
    """`file.yaml:LINE` of a node, or `command line`."""
    mark = node.start_mark
    return mark.name if mark.name == COMMAND_LINE else f"{mark.name}:{mark.line + 1}"


def walk(node: Node, seen: set[int] | None = None) -> Iterator[Node]:
    """Every node of a document once, keys left out."""
    seen = set() if seen is None else seen
    if id(node) not in seen:
        seen.add(id(node))
        yield node
        for child in children(node):
            yield from walk(child, seen)


def children(node: Node) -> list[Node]:
    """The values of a mapping or the elements of a sequence."""
    if isinstance(node, MappingNode):
        return [value for _, value in node.value]
    return node.value if isinstance(node, SequenceNode) else []


def arguments_of(node: Node) -> list[tuple[Node, Node]] | None:
    """Entries of a mapping or of a call written without arguments; None for anything else."""
    if isinstance(node, MappingNode):
        return node.value
    empty = isinstance(node, ScalarNode) and node.tag.startswith(CALLS) and node.value in ("", "()")
    return [] if empty else None


def read(path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any], problems: list[str]) -> MappingNode:
    """The recipe as one document: bases merged, includes inlined, overrides applied. Adds to `problems`.

    Raises:
        RecipeError: if a file is missing or is not YAML.
    """
    root = _document(Path(path), (), "", problems)
    if not isinstance(root, MappingNode) or root.tag != MAP:
        raise RecipeError([f"{where(root)}: a recipe is a mapping, `key: value` on each line"])
    for dotted, text in overrides.items():
        try:
            _override(root, dotted, text, schema)
        except RecipeError as error:
            problems += error.problems
    return root


class _Named(io.StringIO):
    """Text with a `name`, which YAML marks show as the file's."""

    def __init__(self, text: str, name: str):
        super().__init__(text)
        self.name = name


def compose(text: str, name: str) -> Node:
    """The node graph of a YAML text."""
    reader = ruamel.yaml.YAML(typ="safe", pure=True)
    reader.composer.warn_double_anchors = False  # YAML allows an anchor's name to be used again
    try:
        root = reader.compose(_Named(text, name))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if name == COMMAND_LINE or mark is None else f":{mark.line + 1}"
        message = " ".join(str(error.problem or error.context).split())
        raise RecipeError([f"{name}{line}: broken YAML: {message}"]) from error
    except YAMLError as error:
        raise RecipeError([f"{name}: broken YAML: {' '.join(str(error).split())}"]) from error
    if root is None:
        raise RecipeError([f"{name}: is empty"])
    _refuse_cycles(root, [])
    return root


def _refuse_cycles(node: Node, ancestors: list[Node]) -> None:
    if any(node is each for each in ancestors):
        raise RecipeError([f"{where(node)}: an alias (*) is inside the value that it names"])
    for child in children(node):
        _refuse_cycles(child, [*ancestors, node])


def _document(path: Path, chain: tuple[Path, ...], at: str, problems: list[str]) -> Node:
    """A file's node graph with includes and bases merged. `at`: place of the include; `chain`: the files around it."""
    if path.resolve() in chain:
        loop = [each.name for each in (*chain[chain.index(path.resolve()) :], path)]
        raise RecipeError([f"{at}: cyclic !include: {' -> '.join(loop)}"])
    at = f"{at}: " if at else ""
    try:
        text = names_of_today(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        siblings = [each.stem for each in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise RecipeError([f"{at}there is no file '{path}'" + nearest(path.stem, siblings, "{}.yaml")]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{at}'{path}' cannot be read: {error}"]) from error
    root = compose(text, str(path))
    for node in walk(root):
        problems += _duplicates(node)
    return _expand(root, (), (*chain, path.resolve()), problems)


def _duplicates(node: Node) -> list[str]:
    if not isinstance(node, MappingNode):
        return []
    first: dict[str, Node] = {}
    problems = []
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise RecipeError([f"{where(key)}: a key must be a word"])
        if key.value in first:
            problems.append(f"{where(key)}: duplicate key '{key.value}', first given on {where(first[key.value])}")
        first.setdefault(key.value, key)
    return problems


def _expand(node: Node, path: tuple[str, ...] | None, chain: tuple[Path, ...], problems: list[str]) -> Node:
    """Inlines `!include:` and merges `<<` below a node. `path`: the keys down to it, None inside a list."""
    bases: list[Node] = []
    if isinstance(node, SequenceNode):
        node.value = [_expand(each, None, chain, problems) for each in node.value]
    elif isinstance(node, MappingNode):
        entries = {}
        for key, value in node.value:
            if key.tag == MERGE:
                bases += value.value if isinstance(value, SequenceNode) else [value]
            else:
                below = None if path is None else (*path, key.value)
                entries[key.value] = (key, _expand(value, below, chain, problems))
        node.value = list(entries.values())
    if node.tag.startswith(INCLUDE):
        return _include(node, path, chain, problems)
    for base in bases:
        if base.tag.startswith(INCLUDE) and path == ():
            file = Path(base.start_mark.name).parent / base.tag.removeprefix(INCLUDE)
            base = _document(file, chain, where(base), problems)
            if not isinstance(base, MappingNode):
                raise RecipeError([f"{where(base)}: a base recipe is a mapping, `key: value` on each line"])
            node = merge(base, node)
        elif isinstance(base, MappingNode) and not base.tag.startswith(INCLUDE):
            entries = arguments_of(node) or []
            own = {key.value for key, _ in entries}
            # a copy of the key, because the serializer would write a shared key as an alias
            inherited = [(copy.copy(key), value) for key, value in base.value if key.value not in own]
            node.value = inherited + entries
        else:
            problems.append(f"{where(base)}: `<<` takes an alias, or at the top of a recipe !include:FILE")
    return node


def _include(node: Node, path: tuple[str, ...] | None, chain: tuple[Path, ...], problems: list[str]) -> Node:
    """Replaces a value by a file. References in the file keep naming its own keys: `<a>` becomes `<path[a]>`."""
    file = Path(node.start_mark.name).parent / node.tag.removeprefix(INCLUDE)
    root = _document(file, chain, where(node), problems)
    references = [each for each in walk(root) if each.tag in REFERENCES and isinstance(each, ScalarNode)]
    if references and not path:
        problems.append(f"{where(node)}: '{file}' has references, so it cannot be included inside a list")
    elif path:
        first, rest = path[0], "".join(f"[{part}]" for part in path[1:])
        for each in references:
            each.value = re.sub(r"<([^>\[.]*)", lambda found: f"<{first}{rest}[{found[1]}]", each.value)
    if isinstance(node, MappingNode):
        return merge(root, MappingNode(MAP, node.value, node.start_mark, node.end_mark))
    return root


def merge(base: Node, child: Node) -> Node:
    """The child or, if both have named arguments and the child has no other tag, both merged key by key."""
    old, new = arguments_of(base), arguments_of(child)
    if old is None or new is None or child.tag not in (MAP, base.tag):
        return child
    entries = {key.value: (key, value) for key, value in old}
    for key, value in new:
        before = entries.get(key.value)
        entries[key.value] = (key, merge(before[1], value) if before else value)
    flow = all(getattr(each, "flow_style", True) for each in (base, child))
    return MappingNode(base.ctag, list(entries.values()), base.start_mark, base.end_mark, flow_style=flow)


def _override(root: MappingNode, dotted: str, text: str, schema: Mapping[str, Any]) -> None:
    *parents, last = dotted.split(".")
    node, annotation, path = root, Any, ""
    for part in parents:
        position = _position(node, part, path, schema)
        key, value = node.value[position] if position is not None else (None, None)
        entries = None if value is None else arguments_of(value)
        path = f"{path}{part}."
        if key is None or value is None or entries is None:
            raise RecipeError([f"{COMMAND_LINE}: --{dotted}: '{path[:-1]}' has no named arguments in this recipe"])
        if not isinstance(value, MappingNode):
            value = MappingNode(value.ctag, entries, value.start_mark, value.end_mark)
            node.value[position] = (key, value)
        node = value
        annotation = schema.get(part, Any) if not path[:-1].count(".") else Any
    position = _position(node, last, path, schema)
    mark = FileMark(COMMAND_LINE, 0, 0, 0)
    value = _value(text, _annotation(node, last, annotation) if parents else schema.get(last, Any), dotted)
    entry = (ScalarNode(STR, last, mark, mark), value)
    if position is None:
        node.value.append(entry)
    else:
        node.value[position] = (entry[0], merge(node.value[position][1], value))


def _position(node: MappingNode, name: str, path: str, schema: Mapping[str, Any]) -> int | None:
    """Position of a key; None if it may be added (an argument is checked later, by the callable's signature)."""
    names = [key.value for key, _ in node.value]
    if name in names:
        return names.index(name)
    if node.tag.startswith(CALLS) or (not path and name in schema):
        return None
    hint = nearest(name, [*names, *(() if path else schema)], f"--{path}{{}}")
    raise RecipeError([f"{COMMAND_LINE}: unknown option --{path}{name}{hint}"])


def _annotation(node: MappingNode, name: str, outer: Any) -> Any:
    if not node.tag.startswith(CALLS):
        arguments = get_args(outer)
        return arguments[1] if len(arguments) == 2 else Any
    try:
        signature = Signature.of(locate(node.tag.partition(":")[2]))
    except LookupError:
        return Any
    return Any if signature is None else signature.annotation(name)


def _value(text: str, annotation: Any, dotted: str) -> Node:
    """The node of an option's text, given the expected type."""
    mark = FileMark(COMMAND_LINE, 0, 0, 0)
    if is_text(annotation) and not text.startswith(REFERENCES) and text not in ("null", "~"):
        return ScalarNode(STR, text, mark, mark)
    if is_list(annotation) and not text.startswith(("[", "(", "!")) and text not in ("null", "~"):
        text = f"[{text}]"
    try:
        return compose(text or "''", COMMAND_LINE)
    except RecipeError as error:
        raise RecipeError([f"{COMMAND_LINE}: --{dotted} '{text}' is {error.problems[0].split(': ', 1)[1]}"]) from error
