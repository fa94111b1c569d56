"""From a recipe's path to its problems, its values, or its merged text."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import hyperpyyaml
import ruamel.yaml
import yaml as pyyaml
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node
from ruamel.yaml.serializer import Serializer

from audiointerp.recipe.building import build
from audiointerp.recipe.checking import Checker
from audiointerp.recipe.merging import RecipeError, read, walk
from audiointerp.recipe.references import Values, shorten_chains

__all__ = ["check", "load", "preview", "resolve"]


def check(
    path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any], allow: Collection[str] = ()
) -> list[str]:
    """Every problem of a recipe, one line each. Imports the modules that are named, if allowed, but calls nothing.

    Args:
        path: the recipe.
        overrides: as `parse_overrides` returns them.
        schema: the top-level keys that the program knows, with their types. Any other key must be used by a `!ref`.
        allow: packages whose classes and functions the recipe may name, in addition to audiointerp and torch.
    """
    return _examine(path, overrides, schema, allow)[1]


def preview(
    path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any], allow: Collection[str] = ()
) -> dict[str, Any]:
    """The recipe's values as far as they are known without calling anything: `UNKNOWN` or `Instance` for objects.

    Raises:
        RecipeError: if `check` finds a problem.
    """
    root, problems = _examine(path, overrides, schema, allow)
    if problems or root is None:
        raise RecipeError(problems)
    values = Values(root, allow)
    return {key.value: values.of(node) for key, node in root.value if not key.value.startswith("__")}


def load(
    path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any], allow: Collection[str] = ()
) -> dict[str, Any]:
    """The recipe's values, instantiated. Arguments as in `check`.

    Raises:
        RecipeError: if `check` finds a problem, a constructor refuses its arguments' types, or a
            reference names an attribute that an object lacks.
    """
    root, problems = _examine(path, overrides, schema, allow)
    if problems or root is None:
        raise RecipeError(problems)
    shorten_chains(root)
    for node in walk(root):
        if isinstance(node, CollectionNode):
            node.flow_style = False  # HyperPyYAML cannot write a block that a list in brackets refers to
    try:
        return build(hyperpyyaml.resolve_references(_text(root)).getvalue(), allow)
    except (TypeError, AttributeError) as error:  # HyperPyYAML adds the class's name as first argument
        raise RecipeError([f"{path}: {': '.join(str(each) for each in error.args)}"]) from error
    except (YAMLError, pyyaml.YAMLError, LookupError) as error:
        raise RecipeError([f"{path}: {' '.join(str(error).split())}"]) from error


def resolve(
    path: str | Path,
    overrides: Mapping[str, str],
    schema: Mapping[str, Any] | None = None,
    allow: Collection[str] = (),
) -> str:
    """The recipe as one self-contained YAML text: bases merged, includes inlined, overrides applied, references kept.

    With the schema, `--name 123` stays text for a key of type str, and overrides may add keys that the recipe lacks.

    Raises:
        RecipeError: if a file is missing or broken, or an override names no key.
    """
    problems: list[str] = []
    root = read(path, overrides, schema or {}, problems, allow)
    if problems:
        raise RecipeError(problems)
    return _text(root)


def _examine(
    path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any], allow: Collection[str]
) -> tuple[MappingNode | None, list[str]]:
    problems: list[str] = []
    try:
        root = read(path, overrides, schema, problems, allow)
        problems += Checker(root, schema, allow).check()
    except RecipeError as error:
        return None, problems + error.problems
    return root, list(dict.fromkeys(problems))


class _Serializer(Serializer):
    ANCHOR_TEMPLATE = "shared{}"  # HyperPyYAML's own dump of references makes id001, id002, ...


def _text(root: Node) -> str:
    for node in walk(root):
        node.anchor = None  # two files may use the same anchor name; the serializer makes new ones
    stream = io.StringIO()
    writer = ruamel.yaml.YAML(typ="safe", pure=True)
    writer.default_flow_style, writer.width = False, 1 << 16
    writer.Serializer = _Serializer
    writer.serialize(root, stream)
    return stream.getvalue()
