"""The examples of docstrings as code on the documentation site: an extension of griffe, which mkdocs.yml names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))  # griffe loads this file by its path

from site_pages import fenced

__all__ = ["Doctests"]


class Doctests(griffe.Extension):
    """Puts every doctest of a docstring into a block of code; Markdown would read `>>>` as quotations."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Changes the docstring of a module, class, function or attribute when it was read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
