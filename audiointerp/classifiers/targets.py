"""Target classes as people write them on the command line: names, indices, several together, the likeliest ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

__all__ = ["likeliest_count", "parse_target", "suffix_of"]


def likeliest_count(text: str) -> int | None:
    """3 of "top3"; None of anything else.

    >>> likeliest_count("top3"), likeliest_count("dog")
    (3, None)
    """
    found = re.fullmatch(r"top([1-9]\d{0,2})", text)
    return int(found[1]) if found else None


def parse_target(text: str, labels: Sequence[str]) -> tuple[int, ...]:
    """Indices of the classes that a text names, explained together.

    A text is first taken as one name, so that names with commas or plus signs need no quotes of their own; else as
    several names or indices, joined by "+" or ",". Capital letters do not matter.

    >>> parse_target("baby cry, infant cry", ["Dog", "Baby cry, infant cry"])
    (1,)
    >>> parse_target("dog+1", ["Dog", "Rain"])
    (0, 1)

    Raises:
        ValueError: for a name or an index that no class has; a misspelt name gets the nearest ones.
    """
    found = _index(text.strip(), labels)
    if found is not None:
        return (found,)
    parts = [each.strip() for each in re.split(r"[+,]", text)]
    indices = [_index(each, labels) for each in parts]
    for part, index in zip(parts, indices):
        if index is None:
            raise ValueError(f"target {part!r} is not a class of this classifier{_hint(part, labels)}")
    return tuple(dict.fromkeys(index for index in indices if index is not None))


def suffix_of(names: Sequence[str]) -> str:
    """Label names as the end of a method's name: small letters, digits and _.

    >>> suffix_of(["Baby cry, infant cry", "Dog"])
    '_baby_cry_infant_cry_and_dog'
    """
    return "_" + re.sub(r"[^a-z0-9]+", "_", "_and_".join(names).lower()).strip("_")[:40]


def _index(text: str, labels: Sequence[str]) -> int | None:
    lowered = text.lower()
    exact = next((number for number, label in enumerate(labels) if label == text), None)
    if exact is not None:
        return exact
    alike = next((number for number, label in enumerate(labels) if label.lower() == lowered), None)
    if alike is None and text.isdecimal() and int(text) < len(labels):
        return int(text)
    return alike


def _hint(text: str, labels: Sequence[str]) -> str:
    if text.isdecimal():
        return f"; indices go from 0 to {len(labels) - 1}"
    by_lower = {label.lower(): label for label in labels}
    near = [by_lower[each] for each in difflib.get_close_matches(text.lower(), by_lower, n=3)]
    near += [label for label in labels if text and text.lower() in label.lower() and label not in near][: 3 - len(near)]
    if near:
        return f" (did you mean {' or '.join(map(repr, near))}?)"
    shown = ", ".join(labels[:20])
    return f"; its classes are {shown}{f', ... ({len(labels)} in all)' if len(labels) > 20 else ''}"
