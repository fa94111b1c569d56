"""Runs a notebook's code cells in this process, with other settings than it states; a kernel would need Jupyter."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook, their source as one text."""
    book = json.loads(path.read_text(encoding="utf-8"))
    return [{**each, "source": "".join(each["source"])} for each in book["cells"]]


def run(path: Path, **settings: Any) -> tuple[dict[str, Any], list[Any]]:
    """Runs every code cell; `settings` replace those of the cell tagged "parameters".

    Returns:
        The variables after the last cell, and the value of each cell's last line, which a notebook shows; None of a
        cell that ends with a statement.
    """
    scope: dict[str, Any] = {"__name__": "__notebook__"}
    shown = []
    for number, cell in enumerate(each for each in cells(path) if each["cell_type"] == "code"):
        tree = ast.parse(cell["source"])
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        name = f"{path.name}, code cell {number + 1}"
        exec(compile(tree, name, "exec"), scope)
        shown.append(None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), scope))
        if "parameters" in cell["metadata"].get("tags", ()):
            unknown = set(settings) - set(scope)
            assert not unknown, f"{path.name} has no settings {unknown}"
            scope |= settings
    return scope, shown
