"""Merges a recipe's YAML nodes: a recipe's keys replace those of its base, the command line's options replace both.

Each node keeps its file and line, so that later errors can name them.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import ruamel.yaml
from ruamel.yaml.error import FileMark, MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from audiointerp.recipe import shipped
from audiointerp.recipe.allowed import locate
from audiointerp.recipe.moved import names_of_today
from audiointerp.recipe.signatures import Signature, is_list, is_text, nearest, shorten

__all__ = ["RecipeError", "nested_brackets", "parse_overrides", "read"]

COMMAND_LINE = "command line"
STR, MAP, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "merge"))
REFERENCE = re.compile(r"<([^>]*)>")  # a name in the text of a reference
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")}
INCLUDE, REFERENCES, CALLS = "!include:", ("!ref", "!copy"), ("!new:", "!name:", "!apply:", "!module:")

# Bounds on a recipe, far above what any recipe needs, so that a hostile one is refused at once.
MAX_BYTES, MAX_VALUES, MAX_DEPTH, MAX_FILES, MAX_BRACKETS = 1 << 16, 2000, 50, 50, 200
MAX_OPTION = 4096  # characters

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


def names_in(node: Node) -> list[str]:
    """The names in a `!ref` or `!copy`, without the angle brackets; empty for other nodes."""
    return REFERENCE.findall(node.value) if node.tag in REFERENCES and isinstance(node, ScalarNode) else []


def path_of(name: str) -> tuple[str, ...]:
    """Keys of a reference, without its attribute.

    >>> path_of("a[b].c")
    ('a', 'b')
    """
    return tuple(part.strip("]") for part in name.partition(".")[0].split("["))


def arguments_of(node: Node) -> list[tuple[Node, Node]] | None:
    """Entries of a mapping or of a call written without arguments; None for anything else."""
    if isinstance(node, MappingNode):
        return node.value
    empty = isinstance(node, ScalarNode) and node.tag.startswith(CALLS) and node.value in ("", "()")
    return [] if empty else None


def read(
    path: str | Path,
    overrides: Mapping[str, str],
    schema: Mapping[str, Any],
    problems: list[str],
    allow: Collection[str] = (),
) -> MappingNode:
    """The recipe as one document: bases merged, includes inlined, overrides applied. Adds to `problems`.

    Raises:
        RecipeError: if a file is missing or is not YAML, or the recipe is too large.
    """
    root = _Reader(problems).document(_present(Path(path), str(path)), (), "")
    if not isinstance(root, MappingNode) or root.tag != MAP:
        raise RecipeError([f"{where(root)}: a recipe is a mapping, `key: value` on each line"])
    referred = _referred(root)
    for dotted, text in overrides.items():
        try:
            _override(root, dotted, text, schema, allow)
        except RecipeError as error:
            problems += error.problems
    _drop_forsaken(root, referred - {dotted.partition(".")[0] for dotted in overrides} - set(schema))
    _refuse_size(root)
    return root


def _referred(root: MappingNode) -> set[str]:
    """Top-level keys that references name."""
    return {path_of(name)[0] for node in walk(root) for name in names_in(node)}


def _drop_forsaken(root: MappingNode, keys: set[str]) -> None:
    """Leaves out those of the keys that no reference names any more, such as the donors of a method given as null."""
    while forsaken := keys - _referred(root):
        root.value = [(key, value) for key, value in root.value if key.value not in forsaken]
        keys -= forsaken


class _Named(io.StringIO):
    """Text with a `name`, which YAML marks show as the file's."""

    def __init__(self, text: str, name: str):
        super().__init__(text)
        self.name = name


def compose(text: str, name: str) -> Node:
    """The node graph of a YAML text."""
    if nested_brackets(text) > MAX_BRACKETS:
        raise RecipeError([f"{name}: values are nested more than {MAX_DEPTH} deep"])
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
    except RecursionError:
        raise RecipeError([f"{name}: values are nested more than {MAX_DEPTH} deep"]) from None
    except ValueError as error:  # characters and escapes outside of Unicode
        raise RecipeError([f"{name}: broken YAML: {' '.join(str(error).split())}"]) from error
    if root is None:
        raise RecipeError([f"{name}: is empty"])
    _refuse_size(root)
    return root


def nested_brackets(text: str) -> int:
    """How deep the brackets [ and { of a YAML text are nested; a parser's time grows with the square of it.

    >>> nested_brackets("a: [b, {c: d}]")
    2
    """
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _refuse_size(root: Node) -> None:
    """Refuses cycles, deep nesting, and more values than any recipe needs, aliases counted wherever they stand."""
    sizes: dict[int, int] = {}

    def size(node: Node, ancestors: tuple[Node, ...]) -> int:
        if any(node is each for each in ancestors):
            raise RecipeError([f"{where(node)}: an alias (*) is inside the value that it names"])
        if len(ancestors) > MAX_DEPTH:
            raise RecipeError([f"{where(node)}: values are nested more than {MAX_DEPTH} deep"])
        if id(node) not in sizes:
            sizes[id(node)] = 1 + sum(size(child, (*ancestors, node)) for child in children(node))
        return sizes[id(node)]

    if size(root, ()) > MAX_VALUES:
        raise RecipeError([f"{where(root)}: has more than {MAX_VALUES} values, aliases (*) written out; shorten it"])


class _Reader:
    """Reads a recipe's files, with bases and includes merged.

    Args:
        problems: problems that do not prevent reading are added to it.
    """

    def __init__(self, problems: list[str]):
        self.problems, self.files, self.left = problems, 0, MAX_BYTES

    def document(self, path: Path, chain: tuple[Path, ...], at: str) -> Node:
        """A file's node graph. `at`: place of the include; `chain`: the files around it."""
        if path.resolve() in chain:
            loop = [each.name for each in (*chain[chain.index(path.resolve()) :], path)]
            raise RecipeError([f"{at}: cyclic !include: {' -> '.join(loop)}"])
        at = f"{at}: " if at else ""
        self.files += 1
        if self.files > MAX_FILES:
            raise RecipeError([f"{at}the recipe includes more than {MAX_FILES} files"])
        content = _content(path, at, self.left)
        self.left -= len(content)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError([f"{at}'{path}' cannot be read: {error}"]) from error
        root = compose(names_of_today(text), str(path))
        for node in walk(root):
            self.problems += _duplicates(node)
        root = self._expand(root, (), (*chain, path.resolve()))
        _refuse_size(root)
        return root

    def _expand(self, node: Node, path: tuple[str, ...] | None, chain: tuple[Path, ...]) -> Node:
        """Inlines `!include:` and merges `<<` below a node. `path`: the keys down to it, None inside a list."""
        bases: list[Node] = []
        if isinstance(node, SequenceNode):
            node.value = [self._expand(each, None, chain) for each in node.value]
        elif isinstance(node, MappingNode):
            entries = {}
            for key, value in node.value:
                if key.tag == MERGE:
                    bases += value.value if isinstance(value, SequenceNode) else [value]
                else:
                    below = None if path is None else (*path, key.value)
                    entries[key.value] = (key, self._expand(value, below, chain))
            node.value = list(entries.values())
        if node.tag.startswith(INCLUDE):
            return self._include(node, path, chain)
        for base in bases:
            if base.tag.startswith(INCLUDE) and path == ():
                base = self.document(_included(base), chain, where(base))
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
                self.problems.append(f"{where(base)}: `<<` takes an alias, or at the top of a recipe !include:FILE")
        return node

    def _include(self, node: Node, path: tuple[str, ...] | None, chain: tuple[Path, ...]) -> Node:
        """Replaces a value by a file. References in the file keep naming its own keys: `<a>` becomes `<path[a]>`."""
        file = _included(node)
        root = self.document(file, chain, where(node))
        references = [each for each in walk(root) if each.tag in REFERENCES and isinstance(each, ScalarNode)]
        if references and not path:
            self.problems.append(f"{where(node)}: '{file}' has references, so it cannot be included inside a list")
        elif path:
            first, rest = path[0], "".join(f"[{part}]" for part in path[1:])
            for each in references:
                each.value = re.sub(r"<([^>\[.]*)", lambda found: f"<{first}{rest}[{found[1]}]", each.value)
        if isinstance(node, MappingNode):
            return merge(root, MappingNode(MAP, node.value, node.start_mark, node.end_mark))
        return root


def _included(node: Node) -> Path:
    """The file that an `!include:` names: beside the recipe, or one that comes with the package."""
    name = node.tag.removeprefix(INCLUDE)
    return _present(Path(node.start_mark.name).parent / name, name, f"{where(node)}: ")


def _present(path: Path, name: str, at: str = "") -> Path:
    """The path, or if there is no such file, the recipe of this name that comes with the package."""
    try:
        return path if path.exists() else shipped.find(name) or path
    except ValueError as error:
        raise RecipeError([f"{at}{error}"]) from None
    except OSError:  # such as a name that is too long
        return path


def _content(path: Path, at: str, most: int) -> bytes:
    """A file's bytes, `most` at most; `at` is the place of its include."""
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise RecipeError([f"{at}'{path}' is not a regular file"])
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise RecipeError(
                [f"{at}'{path}': a recipe and its includes have at most {MAX_BYTES >> 10} kB; shorten it"]
            )
        return content
    except FileNotFoundError as error:
        siblings = [each.stem for each in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        hint = nearest(path.stem, siblings, "{}.yaml")
        hint = hint if at or hint else "; `audiointerp recipes` lists those of the package"
        raise RecipeError([f"{at}there is no file '{path}'{hint}"]) from error
    except OSError as error:
        raise RecipeError([f"{at}'{path}' cannot be read: {error}"]) from error


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


def _override(
    root: MappingNode, dotted: str, text: str, schema: Mapping[str, Any], allow: Collection[str]
) -> None:  # fmt: skip
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
    # A mapping of the user's own names, such as `methods`, takes new ones; a name that null leaves out must be there.
    named = len(parents) == 1 and schema.get(parents[0]) is Mapping and text not in ("null", "~", "")
    position = _position(node, last, path, schema, named)
    mark = FileMark(COMMAND_LINE, 0, 0, 0)
    value = _value(text, _annotation(node, last, annotation, allow) if parents else schema.get(last, Any), dotted)
    held = None if position is None else node.value[position][1]
    for each in walk(value):
        if each.tag.startswith(CALLS) and not (held is not None and held.tag.startswith(CALLS)):
            raise RecipeError(
                [f"{COMMAND_LINE}: --{dotted} {text}: options take numbers and text; write {each.tag} in the recipe"]
            )
    entry = (ScalarNode(STR, last, mark, mark), value)
    if position is None:
        node.value.append(entry)
    else:
        node.value[position] = (entry[0], merge(node.value[position][1], value))


def _position(
    node: MappingNode, name: str, path: str, schema: Mapping[str, Any], named: bool = False
) -> int | None:  # fmt: skip
    """Position of a key; None if it may be added (an argument is checked later, by the callable's signature).

    `named`: whether the node's keys are names of the user's own.
    """
    names = [key.value for key, _ in node.value]
    if name in names:
        return names.index(name)
    if named or node.tag.startswith(CALLS) or (not path and name in schema):
        return None
    hint = nearest(name, [*names, *(() if path else schema)], f"--{path}{{}}")
    raise RecipeError([f"{COMMAND_LINE}: unknown option --{path}{name}{hint}"])


def _annotation(node: MappingNode, name: str, outer: Any, allow: Collection[str]) -> Any:
    if not node.tag.startswith(CALLS):
        arguments = get_args(outer)
        return arguments[1] if len(arguments) == 2 else Any
    try:
        signature = Signature.of(locate(node.tag.partition(":")[2], allow))
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
    if len(text) > MAX_OPTION:
        raise RecipeError([f"{COMMAND_LINE}: --{dotted} has more than {MAX_OPTION} characters"])
    try:
        return compose(text or "''", COMMAND_LINE)
    except RecipeError as error:
        raise RecipeError(
            [f"{COMMAND_LINE}: --{dotted} '{shorten(text)}' is {error.problems[0].split(': ', 1)[1]}"]
        ) from error
