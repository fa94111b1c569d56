"""The Jinja environment for all pages and texts; templates are in the folder of the code that fills them."""

from __future__ import annotations

import json
import os
import shlex
import struct
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from audiointerp.results.reading import format_score
from audiointerp.results.text import shown_target
from audiointerp.results.writing import write_text

PACKAGE = Path(__file__).parents[1]
PANELS = b"Panels over time"  # keyword of a text in a PNG

__all__ = ["PANELS", "fill", "link", "picture", "render"]


def render(template: str, out: Path, page: dict[str, Any], name: str = "report.html") -> Path:
    """Writes a page in the folder `out` from a template; returns its path.

    Args:
        template: path within the package, such as "runs/sanity/page.html".
        out: created if it does not exist.
        page: values of the template's variables.
        name: file name of the page.
    """
    return write_text(out / name, fill(template, page))


def fill(template: str, values: dict[str, Any]) -> str:
    """The filled text of a template of the package; values are escaped unless the template is Markdown."""
    return _environment().get_template(template).render(values)


def link(path: Path, out: Path) -> str:
    """Address of a file relative to a page in `out`."""
    return quote(Path(os.path.relpath(path, out)).as_posix())


def picture(path: Path, out: Path) -> dict[str, Any]:
    """What a page says of a PNG: link; width and height in pixels, so that its layout does not change while it loads.

    "panels": of each of the figure's panels over time, the left, right, top and bottom edge as shares of the picture,
    and the seconds at its left and right edge; [] if the file does not say.
    """
    with open(path, "rb") as file:
        width, height = struct.unpack(">16x2I", file.read(24).ljust(24, b"\0"))
        file.seek(33)  # behind the first chunk, which has a fixed length
        panels = _panels(file.read(4096))
    return {"link": link(path, out), "width": width, "height": height, "panels": panels}


def _panels(chunks: bytes) -> list[list[float]]:
    """The note under the keyword `PANELS` before the image itself, if it has the shape that `picture` describes."""
    while len(chunks) >= 8:
        size, kind = struct.unpack(">I4s", chunks[:8])
        data, chunks = chunks[8 : 8 + size], chunks[12 + size :]
        if kind == b"IDAT":
            break
        if kind != b"tEXt" or not data.startswith(PANELS + b"\0"):
            continue
        try:
            found = json.loads(data[len(PANELS) + 1 :])
        except (ValueError, RecursionError):
            break
        numbers = isinstance(found, list) and all(
            isinstance(each, list) and len(each) == 6 and all(type(x) in (int, float) and abs(x) < 1e9 for x in each)
            for each in found
        )
        return found if numbers else []
    return []


def _when(text: object) -> str:
    """A time stamp in a readable format."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).strftime("%d %B %Y, %H:%M %Z").rstrip()
    except ValueError:
        return str(text)


def _took(about: dict[str, Any]) -> str:
    """The duration of a run, or "" if unknown."""
    try:
        ends = [datetime.fromisoformat(str(about[key]).replace("Z", "+00:00")) for key in ("start", "end")]
        seconds = round((ends[1] - ends[0]).total_seconds())
    except (KeyError, ValueError, TypeError):
        return ""
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def _command(value: object) -> str:
    return shlex.join(map(str, value)) if isinstance(value, list) else str(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE),
        autoescape=lambda name: name is None or not name.endswith(".md"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"score": format_score, "when": _when, "took": _took, "command": _command}
    environment.filters["cell"] = lambda value: " ".join(str(value).replace("|", "\\|").split())
    environment.filters["sounds"] = _sounds_json
    environment.filters["shown_target"] = shown_target
    environment.filters["pretty"] = lambda value: value if isinstance(value, str) else json.dumps(value, indent=1)
    return environment


def _sounds_json(items: list[dict[str, Any]]) -> Markup:
    """Item -> sound -> link, as JSON that cannot end its script element."""
    links = {each["id"]: {name: quote(path) for name, path in each["sounds"].items()} for each in items}
    return Markup(json.dumps(links).replace("<", "\\u003c"))
