"""The recipes that come with the package, found by their names from any folder."""

from __future__ import annotations

import sysconfig
from pathlib import Path

__all__ = ["find", "folder", "names"]


def folder() -> Path:
    """The folder of the recipes: that of the checkout, or as installed with the package.

    Raises:
        ValueError: if there is neither.
    """
    installed = Path(sysconfig.get_path("data")) / "share" / "audiointerp"
    for each in (Path(__file__).parents[2], installed):
        if (each / "recipes" / "esc50" / "base.yaml").is_file():
            return each / "recipes"
    raise ValueError("the recipes are not installed; run from a checkout of the project")


def names() -> dict[str, str]:
    """Name of each recipe, such as esc50/piq.yaml, and the first sentence of its comment."""
    return {each.relative_to(folder()).as_posix(): _first_sentence(each) for each in sorted(folder().glob("*/*.yaml"))}


def find(name: str) -> Path | None:
    """The recipe of this name, or None; `recipes/` in front and the folder may be left out.

    Raises:
        ValueError: if several folders have a recipe of this name.

    >>> find("piq_paper_of_mine.yaml") is None
    True
    >>> find("esc50/piq.yaml") == find("recipes/esc50/piq.yaml") == find("piq.yaml")
    True
    """
    try:
        known = names()
    except ValueError:
        return None
    name = name.removeprefix("recipes/")
    found = [each for each in known if name in (each, each.partition("/")[2])]
    if len(found) > 1:
        raise ValueError(f"{name!r} is the name of several recipes of the package; name {' or '.join(found)}")
    return folder() / found[0] if found else None


def _first_sentence(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition(". ")[0].removesuffix(".")
