"""A real Chromium for the tests of pages; where it is missing they skip by name, and fail on the build machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def need(found: bool, what: str) -> None:
    """Skips where something is missing; on the build machine it must be there."""
    if not found:
        reason = f"{what} is missing: `pip install playwright axe-playwright-python`, and Debian's package chromium"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Playwright's browser, started with the given options of Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    need(sync_playwright is not None, "playwright")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    need(path is not None, "Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        yield browser
        browser.close()


def complaints(page: Any) -> list[str]:
    """What axe finds wrong with the page, one line for each rule; it must have looked at more than ten things."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        need(False, "axe-playwright-python")
    found = Axe().run(page).response
    assert len(found["passes"]) > 10
    return [f"{each['id']}: {each['help']} {[node['html'] for node in each['nodes']]}" for each in found["violations"]]


def check_page(path: Path) -> None:
    """A page from disk, light and on a dark phone: nothing is wider than the screen, axe and the console are silent."""
    errors = []
    with chromium() as browser:
        for width, scheme in ((1400, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(path.resolve().as_uri())
            for summary in page.locator("summary").all():
                if summary.is_visible():
                    summary.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            assert not errors and complaints(page) == [], (path, width)
            page.close()
