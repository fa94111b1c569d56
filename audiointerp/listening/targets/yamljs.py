"""Writes YAML that webMUSHRA's yaml.js reads correctly; it reads only a part of YAML.

yaml.js reads `- - random` as a string, escapes such as \\u00e9 as bytes, a folded line as a line break and keys such as
007 as numbers. So this module writes a dash on its own line before a nested list, each string on one line, raw UTF-8,
and quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Words that some YAML reader reads as a number or a constant.
NOT_WORDS = frozenset(
    ("nan", "inf", "infinity", "true", "false", "null", "none", "undefined", "yes", "no", "on", "off"),
)

__all__ = ["NOT_WORDS", "Row", "to_yaml"]


class Row(dict[str, Any]):
    """A mapping of scalars that is written on one line."""


def to_yaml(value: Mapping[str, Any]) -> str:
    """Text that yaml.js and other YAML readers read in the same way.

    Values are strings, integers, booleans, mappings and lists. Line breaks in strings become spaces and other control
    characters are removed, because both would need escapes.

    Raises:
        ValueError: if a key is not a letter followed by letters, digits and underscores, or is one of NOT_WORDS.

    >>> print(to_yaml({"name": "Schläge: 7", "pages": [["random", {"type": "generic"}]]}), end="")
    name: "Schläge: 7"
    pages:
      -
        - random
        - type: generic
    """
    return "".join(f"{line}\n" for line in _mapping(value))


def _mapping(value: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines += [f"{_key(key)}:", *_indented(_mapping(item))]
        elif isinstance(item, list):
            lines += [f"{_key(key)}:", *_indented(_sequence(item))]
        else:
            lines.append(f"{_key(key)}: {_scalar(item)}")
    return lines


def _sequence(value: list[Any]) -> list[str]:
    lines: list[str] = []
    for item in value:
        if isinstance(item, list):
            lines += ["-", *_indented(_sequence(item))]
        elif isinstance(item, Row):
            lines.append("- {" + ", ".join(_mapping(item)) + "}")
        elif isinstance(item, Mapping):
            first, *others = _mapping(item)
            lines += [f"- {first}", *_indented(others)]
        else:
            lines.append(f"- {_scalar(item)}")
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _key(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", key) or key.lower() in NOT_WORDS:
        raise ValueError(f"{key!r} cannot be a key for yaml.js; use a letter, then letters, digits and underscores")
    return key


def _scalar(value: str | int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    text = " ".join(value.split())
    if not text.isprintable():
        text = "".join(each for each in text if each.isprintable() or each == "\u200d")  # U+200D joins emoji
    if re.fullmatch(r"[a-z][a-z0-9_./]*", text) and text not in NOT_WORDS:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
