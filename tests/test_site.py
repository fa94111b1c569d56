"""The documentation site's pages are made of the files that they should be made of; `make site` builds them all."""

import importlib.util
import re
from pathlib import Path

import pytest

from audiointerp.contracts import Interpreter
from audiointerp.interpreters import controls
from audiointerp.interpreters.l2i.random_components import RandomComponents

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "page", "link", "expected"),
    [
        ("README.md", "index.md", "docs/methods.md", "methods.md"),
        ("README.md", "index.md", "recipes/esc50/README.md#sanity-checks", "recipes/esc50.md#sanity-checks"),
        ("README.md", "index.md", "docs/notebooks/train_piq.ipynb", "notebooks/train_piq.md"),
        ("docs/tagger.md", "tagger.md", "../README.md#ask", "index.md#ask"),
        ("recipes/esc50/README.md", "recipes/esc50.md", "../../docs/metrics.md", "../metrics.md"),
        ("docs/methods.md", "methods/lime.md", "../recipes/tagger/README.md", "../recipes/tagger.md"),
        ("docs/methods.md", "methods.md", "#how", "#how"),
        ("docs/methods.md", "methods.md", "https://a.org/b.md", "https://a.org/b.md"),
        ("README.md", "index.md", "LICENSE", "https://github.com/audiointerp/audiointerp/blob/main/LICENSE"),
        ("README.md", "index.md", "docs/nothing_of_this_name.md", "nothing_of_this_name.md"),
    ],
)
def test_links_between_files_become_links_between_pages(pages, source, page, link, expected):
    assert pages.relinked(f"a [b]({link}) c", source, page) == f"a [b]({expected}) c"


def test_code_is_not_relinked(pages):
    code = "```\nx[0](docs/methods.md)\n```"
    assert pages.relinked(code, "README.md", "index.md") == code


def test_items_of_numbered_lists_are_indented_by_four(pages):
    markdown = "1. One:\n\n   ```python\n   x = 1\n   ```\n2. Two\n   more\n\nText\n   kept"
    expected = "1. One:\n\n    ```python\n    x = 1\n    ```\n2. Two\n    more\n\nText\n   kept"
    assert pages.indented(markdown) == expected


def test_every_method_has_a_page_with_its_row(pages):
    simple = {kind for kind in vars(controls).values() if isinstance(kind, type) and issubclass(kind, Interpreter)}
    for name, kind in pages.methods().items():
        text = pages.method_page(name, None)
        assert text.startswith(f"# {kind.__name__}\n") and f"::: audiointerp.interpreters.{kind.__name__}\n" in text
        if kind not in simple | {RandomComponents}:
            assert name in pages.rows(), f"docs/methods.md has no row of `{name}` in its table"
            assert len(pages.rows()[name]) == 4 and pages.rows()[name][3] in text
    assert "Grad-CAM takes 3 passes" in pages.method_page("gradcam", None).partition("## When to use it")[2]
    assert "integrated gradients take 159 passes" in pages.method_page("integratedgradients", None)
    assert re.search(r"- .*`wam` explains in the wavelet domain", pages.method_page("wam", None))


def test_an_example_is_shown_with_its_sounds_and_numbers(pages):
    files = {"Input": "a.wav", "Interpretation": "b.wav", "Rest": "c.wav", "figure": "d.png"}
    example = {"told": "A sound.", "files": files, "numbers": {"kept": "0.5"}}
    text = pages.method_page("lime", example)
    assert [each in text for each in ('src="../gallery/b.wav"', "| kept | 0.5 |", "](../gallery/d.png)")] == [True] * 3
    assert "[About the method](methods/lime.md)" in pages.gallery({"lime": example})


def test_notebooks_become_tutorials(pages):
    for book in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        text = pages.tutorial(book)
        assert text.startswith("# ") and "```python\n" in text and f'href="../{book.name}"' in text


def test_every_module_with_public_names_is_in_the_reference(pages):
    text = "".join(pages.reference(part) for part in pages.PARTS)
    for path in (ROOT / "audiointerp").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name not in ("__init__.py", "__main__.py", "commands.py") and "__all__ = [" in path.read_text():
            assert f"::: {module}\n" in text


def test_doctests_become_code(pages):
    text = "Sum.\n\n>>> 1 + 1\n2\n>>> 3\n3\n\nMore:\n    >>> 4\n    4"
    expected = "Sum.\n\n```pycon\n>>> 1 + 1\n2\n>>> 3\n3\n```\n\nMore:\n    ```pycon\n    >>> 4\n    4\n    ```"
    assert pages.fenced(text) == expected
    assert pages.fenced("One.\n\nArgs:\n    a: b\nRaises:\n    C") == "One.\n\nArgs:\n    a: b\n\nRaises:\n    C"
