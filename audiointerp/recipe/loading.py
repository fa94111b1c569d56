"""From a recipe's path to its problems, its values, or its merged text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hyperpyyaml
import ruamel.yaml
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node
from ruamel.yaml.serializer import Serializer

from audiointerp.recipe.checking import Checker
from audiointerp.recipe.merging import RecipeError, read, walk
from audiointerp.recipe.references import shorten_chains

__all__ = ["check", "load", "resolve"]


def check(path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any]) -> list[str]:
    """Every problem of a recipe, one line each. Imports the objects that are named, but instantiates nothing.

    Args:
        path: the recipe.
        overrides: as `parse_overrides` returns them.
        schema: the top-level keys that the program knows, with their types. Any other key must be used by a `!ref`.
    """
    return _examine(path, overrides, schema)[1]


def load(path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values, instantiated. Arguments as in `check`.

    Raises:
        RecipeError: if `check` finds a problem, a constructor refuses its arguments' types, or a
            reference names an attribute that an object lacks.
    """
    root, problems = _examine(path, overrides, schema)
    if problems or root is None:
        raise RecipeError(problems)
    shorten_chains(root)
    for node in walk(root):
        if isinstance(node, CollectionNode):
            node.flow_style = False  # HyperPyYAML cannot write a block that a list in brackets refers to
    try:
        return hyperpyyaml.load_hyperpyyaml(_text(root))
    except (TypeError, AttributeError) as error:  # HyperPyYAML adds the class's name as first argument
        raise RecipeError([f"{path}: {': '.join(str(each) for each in error.args)}"]) from error
    except YAMLError as error:
        raise RecipeError([f"{path}: {' '.join(str(error).split())}"]) from error


def resolve(path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any] | None = None) -> str:
    """The recipe as one self-contained YAML text: bases merged, includes inlined, overrides applied, references kept.

    With the schema, `--name 123` stays text for a key of type str, and overrides may add keys that the recipe lacks.

    Raises:
        RecipeError: if a file is missing or broken, or an override names no key.
    """
    problems: list[str] = []
    root = read(path, overrides, schema or {}, problems)
    if problems:
        raise RecipeError(problems)
    return _text(root)


def _examine(
    path: str | Path, overrides: Mapping[str, str], schema: Mapping[str, Any]
) -> tuple[MappingNode | None, list[str]]:
    problems: list[str] = []
    try:
        root = read(path, overrides, schema, problems)
    except RecipeError as error:
        return None, problems + error.problems
    problems += Checker(root, schema).check()
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
