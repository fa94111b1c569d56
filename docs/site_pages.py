"""Pages of the documentation site that are made from other files; mkdocs calls these hooks (see mkdocs.yml).

The README becomes the first page, READMEs and the change log become pages, notebooks become tutorials, each method gets
a page of its docstring, its row of methods.md and the example that docs/make_gallery.py made, and each package gets a
page of its docstrings. Nothing is written twice: links between the files are turned into links between the pages.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from audiointerp.interpreters import catalogue

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GALLERY = ROOT / "build" / "gallery"
PACKAGE = ROOT / "audiointerp"
REPOSITORY = "https://github.com/audiointerp/audiointerp"  # for links to files that are no pages
# A file of the repository -> the page that is made of it; files of docs/ keep their names.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    **{f"recipes/{each}/README.md": f"recipes/{each}.md" for each in ("esc50", "nsynth", "tagger")},
}
PARTS = (
    *("contracts", "sound", "metrics", "datasets", "classifiers", "training", "interpreters", "bundles", "evaluation"),
    *("results", "recipe", "processes", "runs", "listening", "explore"),
)
LINK = re.compile(r"(\]\()([^)\s#]*)((?:#[^)\s]*)?\))")
SOUNDS = ("Input", "Interpretation", "Rest")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that no file of docs/ holds, and the lists of methods and modules to the navigation."""
    from mkdocs.structure.files import File  # here: the tests of the functions below need no mkdocs

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for book in sorted((DOCS / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{book.stem}.md", content=tutorial(book)))
    shown = examples()
    for name in methods():
        files.append(File.generated(config, f"methods/{name}.md", content=method_page(name, shown.get(name))))
    for each in sorted(GALLERY.glob("*.*")):
        if each.suffix in (".wav", ".png"):
            files.append(File.generated(config, f"gallery/{each.name}", abs_src_path=str(each)))
    files.append(File.generated(config, "gallery.md", content=gallery(shown)))
    for part in PARTS:
        files.append(File.generated(config, f"reference/{part}.md", content=reference(part)))
    for entry in config["nav"]:
        if "Methods" in entry:
            entry["Methods"] = [{kind.__name__: f"methods/{name}.md"} for name, kind in methods().items()]
        if "Reference" in entry:
            entry["Reference"] = [{part: f"reference/{part}.md"} for part in PARTS]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links between files of the repository as links between pages; lists as Python's Markdown reads them."""
    sources = {made: source for source, made in PAGES.items()}
    here = page.file.src_uri
    return relinked(indented(markdown), sources.get(here, f"docs/{here}"), here)


def relinked(markdown: str, source: str, page: str) -> str:
    """Markdown of a file, its relative links as those of a page of the site.

    Args:
        markdown: of the file.
        source: the file's path in the repository.
        page: the page's path in the site.
    """

    def one(found: re.Match[str]) -> str:
        target = found[2]
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in PAGES:
            to = PAGES[path]
        elif path.startswith("docs/") and not path.endswith(".py"):
            to = path.removeprefix("docs/").replace(".ipynb", ".md")
        elif (ROOT / path).exists():
            return f"{found[1]}{REPOSITORY}/blob/main/{path}{found[3]}"
        else:
            return found[0]  # mkdocs reports it
        return f"{found[1]}{posixpath.relpath(to, posixpath.dirname(page) or '.')}{found[3]}"

    return "".join(
        part if number % 2 else LINK.sub(one, part)
        for number, part in enumerate(re.split(r"(```.*?```)", markdown, flags=re.S))
    )


def indented(markdown: str) -> str:
    """What belongs to an item of a numbered list is indented by 4 columns, where GitHub's Markdown takes 3."""
    lines, within = [], False
    for line in markdown.split("\n"):
        if re.match(r"\d+\. ", line):
            within = True
        elif line.strip() and not line.startswith("   "):
            within = False
        lines.append(f" {line}" if within and line.startswith("   ") else line)
    return "\n".join(lines)


def methods() -> dict[str, type]:
    """Every method and control by the name that `--method` takes."""
    return catalogue.kinds()


def rows() -> dict[str, list[str]]:
    """Method -> its row of the first table of methods.md: name, needs, passes, meaning; several methods share some."""
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^\| `.*\|$", text, re.M):
        cells = [each.strip() for each in line.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", cells[0]):
            found.setdefault(name.lower(), cells)
    return found


def paragraphs(name: str) -> list[str]:
    """The paragraphs and items of methods.md, below its table, that name a method."""
    kind = methods()[name].__name__
    text = (DOCS / "methods.md").read_text(encoding="utf-8").partition("\n## ")[2]
    parts = re.split(r"\n\n|\n(?=- )", text)
    # GradCAM is written Grad-CAM in a sentence, IntegratedGradients as two words.
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", kind)
    spelt = "(?i:" + "[ -]?".join(words) + ")" if len(words) > 1 and "".join(words) == kind else re.escape(kind)
    word = re.compile(rf"`{name}`|`{kind}`|\b{spelt}\b")
    told = [each for each in parts if word.search(each) and not each.startswith(("|", "#", "    ", "```"))]
    return [relinked(each, "docs/methods.md", f"methods/{name}.md") for each in told]


def examples() -> dict[str, dict[str, Any]]:
    """Method -> what docs/make_gallery.py measured on its sound."""
    path = GALLERY / "gallery.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def method_page(name: str, example: dict[str, Any] | None) -> str:
    """The page of a method: idea and equation, when to use it, its checks, a sound."""
    kind = methods()[name]
    lines = [f"# {kind.__name__}", ""]
    if row := rows().get(name):
        lines += [
            "| needs | classifier passes per clip | meaning of the mask |",
            "|---|---|---|",
            f"| {' | '.join(row[1:])} |",
            "",
        ]
    lines += ["## Idea", "", f"::: audiointerp.interpreters.{kind.__name__}", "    options:"]
    lines += ["      show_root_heading: false", "      show_root_toc_entry: false", "      members: false", ""]
    if told := paragraphs(name):
        lines += [
            "## When to use it",
            "",
            *("- " * (not each.startswith("- ")) + each.replace("\n", " ") + "\n" for each in told),
        ]
        lines += ["All methods side by side: [choosing a method](../methods.md).", ""]
    lines += ["## Checks and sound", "", *example_lines(name, example, "../gallery/")]
    command = f"    audiointerp interpret MODEL my.wav -o out --method {name}"
    return "\n".join([*lines, "", "## Command", "", command, ""])


def example_lines(name: str, example: dict[str, Any] | None, folder: str) -> list[str]:
    """Players, picture and numbers of a method's example."""
    if example is None:
        return ["No example: this method needs a known stem, training, or a classifier of another kind."]
    players = "".join(
        f'<label style="display:inline-block;margin-right:1em">{each}<br><audio controls preload="none" '
        f'src="{folder}{example["files"][each]}"></audio></label>'
        for each in SOUNDS
    )
    numbers = example["numbers"]
    table = ["| check on this sound | |", "|---|---|", *(f"| {text} | {value} |" for text, value in numbers.items())]
    picture = f"![Input, mask and interpretation of {name}]({folder}{example['files']['figure']})"
    return [example["told"], "", players, "", picture, "", *table]


def gallery(shown: dict[str, dict[str, Any]]) -> str:
    """The page of all examples."""
    intro = (
        "One synthetic sound, explained by every method that can explain the shipped classifier. Made when this site "
        "was built; the numbers are of this one sound and no comparison of methods, which is in "
        "[the results](recipes/esc50.md)."
    )
    lines = ["# Gallery", "", intro, ""]
    for name, example in shown.items():
        lines += [f"## {methods()[name].__name__}", "", *example_lines(name, example, "gallery/"), ""]
        lines += [f"[About the method](methods/{name}.md)", ""]
    return "\n".join(lines)


def tutorial(book: Path) -> str:
    """A notebook's texts and code as a page."""
    parts = []
    for cell in json.loads(book.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    note = f'<a href="../{book.name}" download>Download this notebook</a>'
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def reference(part: str) -> str:
    """The page of a package: the docstrings of its modules' public names."""
    home = PACKAGE / part
    modules = [part] if not home.is_dir() else [
        ".".join(each.relative_to(PACKAGE).with_suffix("").parts)
        for each in sorted(home.rglob("*.py"))
        if each.name != "__init__.py" and "__all__ = [" in each.read_text(encoding="utf-8")
    ]  # fmt: skip
    lines = [f"# audiointerp.{part}", ""]
    for module in modules:
        lines += [
            f"::: audiointerp.{module}",
            "    options:",
            "      heading_level: 2",
            "      show_root_full_path: true",
            "",
        ]
    return "\n".join(lines)


def fenced(text: str) -> str:
    """A docstring whose doctests, each up to an empty line, are blocks of code, with an empty line before a section."""
    text = re.sub(r"(?<=[^\n])\n(?=[ ]*(?:Args|Attributes|Raises|Returns|Shape):\n)", "\n\n", text)
    doctest = re.compile(r"^([ ]*)>>> .*(?:\n(?![ ]*$).+)*", re.M)
    return doctest.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text)
