"""Screenshots for the guides, by a headless Chromium: the listening page, the report of a simulated study, explore.

    python docs/make_screenshots.py                              # docs/images/listening_*.png
    python docs/make_screenshots.py --out /tmp/x --scheme dark --width 390
    python docs/make_screenshots.py --explore mixture.wav        # docs/images/explore*.png, of this sound by esc10-piq

Needs playwright and Chromium: `pip install playwright`, and Debian's `chromium` or Google's.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright

from audiointerp.listening.analysis.analyse import analyse
from audiointerp.listening.study import NO_PREFERENCE, Presentation, Study, Task, Trial
from audiointerp.listening.targets.page import write_page

RATE, SECONDS = 16000, 0.5
INTRODUCTION = (
    "A computer program has named a sound that it heard in a recording. Other programs try to show which part of the "
    "recording made it decide so.\n\nYou will hear recordings and these parts, and say what you think of them. There "
    "are no wrong answers."
)
CLASSES = ("Dog", "Rooster", "Crying baby", "Church bells", "Chainsaw", "Rain", "Sea waves", "Clock tick", "Helicopter")
QUESTIONS: dict[Task, str] = {
    "mos": "How well does each sound explain the decision “dog”?",
    "ab": "Which of the two sounds explains the decision “dog” better?",
    "abx": "Is X the same as A or as B?",
    "simulate": "Which of these did the program decide on?",
    "rating": "How close is each sound to the reference?",
}


def make_study(task: Task, public: Path) -> Study:
    """A study of two pages and a practice page, with random sounds."""
    count = {"mos": 3, "rating": 4, "ab": 2, "abx": 2, "simulate": 1}[task]
    random, trials, files = np.random.default_rng(0), [], {}
    for number in range(3):
        names = [f"s_{number}{letter}" for letter in "xabcd"[: count + 1]]
        for name in names:
            files[name] = f"{name}.wav"
            soundfile.write(public / files[name], 0.05 * random.standard_normal(int(RATE * SECONDS)), RATE)
        choices = {"simulate": (*CLASSES, "Cannot tell"), "ab": (NO_PREFERENCE,)}.get(task, ())
        kind = "trial" if number else "practice"
        trials.append(Trial(f"t_{number}", kind, QUESTIONS[task], names[0], tuple(names[1:]), choices))
    session = tuple(Presentation(trial.trial_id, trial.stimuli) for trial in trials)
    seconds = dict.fromkeys(files, SECONDS)
    title = "How well are decisions about sounds explained?"
    return Study("lt_00000000", task, title, INTRODUCTION, 0, RATE, tuple(trials), (session,), files, seconds)


def hear_all(page: Page) -> None:
    """Plays every sound of the current page to its end."""
    for card in page.locator(".sound:visible").all():
        card.locator(".play").click()
        card.locator("xpath=self::*[contains(@class, 'done') and not(contains(@class, 'playing'))]").wait_for()


def begin(page: Page) -> None:
    """Fills in the first page."""
    page.get_by_label("I have read this").check()
    page.get_by_label("Your participant code").fill("P07")
    page.get_by_text("Headphones", exact=True).click()
    hear_all(page)


def answer(page: Page, task: Task, judged: int) -> None:
    """Gives an arbitrary answer for the first `judged` sounds of the current page."""
    for slot in range(1, judged + 1):
        if task == "mos":
            page.locator(f"[name=opinion-{slot}]").nth((2 * slot + 1) % 5).check(force=True)
        elif task == "rating":
            page.locator(f"#slider-{slot}").fill(str(25 * slot - 7))
    if task not in ("mos", "rating"):
        page.locator("[name=choice]").first.check(force=True)


def shoot(page: Page, path: Path) -> None:
    """Saves the whole page as a small PNG."""
    page.locator("#next").evaluate("element => { document.activeElement.blur(); scrollTo(0, 0); }")
    page.wait_for_timeout(400)
    page.locator("body").evaluate("element => { element.querySelector('#gate').style.position = 'static'; }")
    page.screenshot(path=path, full_page=True)
    shrink(path)


def shrink(path: Path) -> None:
    """Reduces a PNG to 256 colours, which is enough for a page without photographs."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def shoot_task(browser: Browser, task: Task, out: Path, width: int, scheme: str) -> None:
    """Saves the trial page of a task; for mos also the first and the last page."""
    with tempfile.TemporaryDirectory() as folder:
        page_file = write_page(make_study(task, Path(folder)), Path(folder), Path(folder) / "test.html")
        context = browser.new_context(viewport={"width": width, "height": 720}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(page_file.as_uri())
        begin(page)
        if task == "mos":
            shoot(page, out / "listening_start.png")
        page.locator("#next").click()
        for number in range(3):
            count = page.locator("#sounds .sound").count()
            hear_all(page)
            if number == 1:
                answer(page, task, max(1, count - 1))
                shoot(page, out / f"listening_{task}.png")
            answer(page, task, count)
            page.locator("#next").click()
        page.locator("#next").click()
        if task == "mos":
            shoot(page, out / "listening_finish.png")
        context.close()


def shoot_report(browser: Browser, out: Path, width: int, scheme: str) -> None:
    """Saves the report of the tests' simulated study: 22 listeners, four items with three methods, four with two."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    import listening_simulation as simulated  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answers = simulated.write_csv(folder / "answers.csv", simulated.mos_rows())
        report = analyse([answers], simulated.write_key(folder / "private", simulated.study()), folder / "result")
        context = browser.new_context(viewport={"width": width, "height": 720}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(report.as_uri())
        box = page.locator(".result", has_text="Differences between methods").bounding_box()
        assert box is not None
        page.screenshot(
            path=out / "listening_report.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + 16},
        )
        shrink(out / "listening_report.png")
        context.close()


def shoot_explore(browser: Browser, sound: Path, out: Path) -> None:
    """Saves the page of `audiointerp explore esc10-piq SOUND` with a label explained twice and a region muted.

    Once wide and light, once narrow and dark.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "audiointerp", "explore", "esc10-piq", str(sound.resolve()), "--no_browser"]
        server = subprocess.Popen([*command, "-o", "explored"], stdout=subprocess.PIPE, text=True, cwd=folder)
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("open ").strip()
        for name, width, scheme in (("explore", 1400, "light"), ("explore_phone", 390, "dark")):
            context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)  # type: ignore[arg-type]
            context.set_default_timeout(300_000)
            page = context.new_page()
            page.goto(address)
            page.locator("#methods label", has_text="gradcam").first.click()
            page.locator(".label").first.click()
            page.locator("#made > li").nth(1).wait_for()
            page.get_by_role("button", name="Hear it").first.click()
            page.locator("summary", has_text="A region by numbers").click()
            for field, value in {"low": "250", "high": "1600", "start": "0.4", "end": "4.6"}.items():
                page.locator(f"#{field}").fill(value)
            page.locator("#numbers button", has_text="Mute").click()
            page.locator("#brush-says").wait_for()
            page.locator("summary", has_text="A region by numbers").click()
            page.locator("#play").click()
            page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
            page.wait_for_timeout(500)
            page.screenshot(path=out / f"{name}.png", full_page=True)
            shrink(out / f"{name}.png")
            context.close()
        shoot_states(browser, address, out)
        server.send_signal(signal.SIGINT)
        server.wait()


def shoot_states(browser: Browser, address: str, out: Path) -> None:
    """explore_start, _error, _explaining and _saved: without a sound, with an error, at work, after saving."""

    def keep(page: Page, name: str, box: dict[str, float]) -> None:
        page.screenshot(path=out / f"explore_{name}.png", clip=box, full_page=True)  # pyright: ignore[reportArgumentType]
        shrink(out / f"explore_{name}.png")

    page = browser.new_page(viewport={"width": 1000, "height": 900})

    def without_sounds(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "sounds": []})

    page.route("**/state", without_sounds)
    page.goto(address)
    page.locator("#methods label").first.wait_for(state="attached")
    keep(page, "start", {"x": 0, "y": 0, "width": 1000, "height": 260})
    page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no sound"})
    page.locator("#open-error").wait_for()
    keep(page, "error", {"x": 0, "y": 0, "width": 1000, "height": 310})
    page.unroute("**/state")
    page.reload()
    page.locator("#workspace").wait_for()
    page.locator("#methods label", has_text="piq").click()
    page.locator("#methods label", has_text="rise").click()
    page.locator(".label").first.click()
    page.locator("#busy").wait_for()
    box = page.locator(".columns").bounding_box()
    assert box is not None
    keep(page, "explaining", {**box, "y": box["y"] + page.evaluate("scrollY"), "height": 420})
    page.locator("#made > li").first.wait_for()
    page.locator("#save").click()
    page.locator("#saved").wait_for()
    keep(page, "saved", {**box, "y": box["y"] + page.evaluate("scrollY"), "height": 420})
    page.close()


def main() -> None:
    """Reads the command line and writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("images"))
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--explore", type=Path, metavar="SOUND", help="only the pictures of explore, with this sound")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found = [name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)]
    if not found:
        raise SystemExit("no Chromium: install Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(found[0]), args=["--no-sandbox"])
        if given.explore:
            shoot_explore(browser, given.explore, given.out)
        else:
            for task in QUESTIONS:
                shoot_task(browser, task, given.out, given.width, given.scheme)
            shoot_report(browser, given.out, given.width, given.scheme)
        browser.close()


if __name__ == "__main__":
    main()
