"""The listening page, taken from disk by a real Chromium: what it asks, what it refuses, and what it hands back."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import threading
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
from browsing import chromium, complaints

from audiointerp.listening.analysis.formats import read_rows
from audiointerp.listening.serving.study_server import make_study_server
from audiointerp.listening.study import ANSWER_COLUMNS, Presentation, Study, Trial, TrialKind
from audiointerp.listening.targets.page import write_page
from audiointerp.listening.texts import WORDS, read_texts

RATE, SECONDS = 8000, 0.1
pytestmark = pytest.mark.slow  # every page in a browser

JUDGED = {"mos": 2, "rating": 2, "ab": 2, "abx": 2, "simulate": 1}
WAIT = """selector => new Promise((resolve) => {
  const look = () => {
    if (document.querySelector(selector) || performance.now() > end) resolve(performance.now() <= end);
    else requestAnimationFrame(look);
  };
  const end = performance.now() + 60000;
  look();
})"""
# Plays A, takes B while A plays, stops B while it plays: what is seen after the second and the third click. By the page
# itself, as a busy machine may need longer for a click than a sound lasts.
INTERRUPT = """() => new Promise((resolve) => {
  const [first, second] = [...document.querySelectorAll("#sounds .sound")].map((card) => ({
    card, button: card.querySelector("button"), audio: card.querySelector("audio"),
  }));
  const state = () => [first, second].map(({ card, button, audio }) =>
    [button.getAttribute("aria-label"), !audio.paused, card.classList.contains("done")]);
  const started = (sound, then) => {
    if (sound.audio.currentTime > 0.1) then();
    else requestAnimationFrame(() => started(sound, then));
  };
  first.button.click();
  started(first, () => {
    second.button.click();
    started(second, () => {
      const taken = state();
      second.button.click();
      resolve([taken, state()]);
    });
  });
})"""
CHOICES = {"simulate": ("Dog", "Rain, & <b>wind</b>", "Cannot tell"), "ab": ("no preference",)}


def make_study(
    task, public: Path, kinds: tuple[TrialKind, ...] = ("practice", "trial"), seconds: float = SECONDS, orders: int = 1
):
    """A study of short noises: s_0x is the context of page 0, s_0a and s_0b its sounds."""
    random, trials, files = np.random.default_rng(0), [], {}
    for number, kind in enumerate(kinds):
        names = [f"s_{number}{letter}" for letter in "xab"[: JUDGED[task] + 1]]
        for name in names:
            files[name] = f"stimuli/{name}.wav"
            (public / "stimuli").mkdir(exist_ok=True)
            soundfile.write(public / files[name], 0.05 * random.standard_normal(int(RATE * seconds)), RATE)
        prompt = f"Question {number}: </script> & “how”?"
        trials.append(Trial(f"t_{number}", kind, prompt, names[0], tuple(names[1:]), CHOICES.get(task, ())))
    session = tuple(Presentation(trial.trial_id, trial.stimuli) for trial in trials)
    sessions = tuple(session[:1] + session[1 + shift :] + session[1 : 1 + shift] for shift in range(orders))
    texts = ("A test </title>", "First <b>paragraph</b>.\n\nSecond.")
    return Study("lt_test0000", task, *texts, 7, RATE, tuple(trials), sessions, files, dict.fromkeys(files, seconds))


# ---- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", JUDGED)
def test_the_file_holds_its_sounds_and_nothing_that_tells(task, tmp_path):
    study = make_study(task, tmp_path, ("practice", "trial", "catch"))
    page = write_page(study, tmp_path, tmp_path / "new" / "test.html")
    text = page.read_text("utf-8")
    assert write_page(study, tmp_path, tmp_path / "again.html").read_bytes() == page.read_bytes()
    embedded = dict(re.findall(r'data-audio="(\w+)">([^<]*)<', text))
    expected = {name for name in study.files if task != "simulate" or not name.endswith("x")}
    assert set(embedded) == expected  # in simulate the mixture is not even in the file
    for name, data in embedded.items():
        assert base64.b64decode(data) == (tmp_path / study.files[name]).read_bytes()
    assert "stimuli/" not in text and "mushra" not in text.lower()
    assert not re.search(r"@import|url\(", re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1])
    trials = json.loads(re.search(r'id="study">(.*?)</script>', text)[1])["trials"]
    assert [trials[name]["practice"] for name in ("t_0", "t_1", "t_2")] == [True, False, False]
    assert "catch" not in json.dumps(trials)
    assert set(re.findall(r"https?://[^\s\"')]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert text.count("</script>") == len(embedded) + 2 and "A test &lt;/title&gt;" in text
    assert not list(tmp_path.glob("**/.*.part"))


def test_larger_sets_stay_beside_the_page(tmp_path):
    public = tmp_path / "public #1"
    public.mkdir()
    study = make_study("mos", public)
    text = write_page(study, public, tmp_path / "pages" / "test.html", embed_limit_mb=0.001).read_text("utf-8")
    assert "data-audio=" not in text.split("<body")[1].split('<script type="application/json"')[1].split("<script>")[0]
    sources = json.loads(re.search(r'id="study">(.*?)</script>', text)[1])["sources"]
    for name, link in sources.items():
        assert (tmp_path / "pages" / unquote(urlsplit(link).path)).resolve() == public / study.files[name]
    assert "keep page and files together" in text


def test_sounds_that_cannot_be_shipped_are_refused(tmp_path):
    study = make_study("mos", tmp_path)
    (tmp_path / "stimuli" / "s_1a.wav").unlink()
    with pytest.raises(ValueError, match=r"s_1a: no file .*export the study again"):
        write_page(study, tmp_path, tmp_path / "test.html")
    study.files["s_1a"] = "../outside.wav"
    with pytest.raises(ValueError, match="outside"):
        write_page(study, tmp_path, tmp_path / "test.html")
    del study.files["s_1a"]
    with pytest.raises(ValueError, match="no file or duration is given for the sound s_1a"):
        write_page(study, tmp_path, tmp_path / "test.html")
    with pytest.raises(ValueError, match="embed_limit_mb is nan"):
        write_page(study, tmp_path, tmp_path / "test.html", float("nan"))
    assert not (tmp_path / "test.html").exists()


@pytest.mark.parametrize(
    ("task", "trial", "shown", "message"),
    [
        ("mos", {}, {"trial_id": "t_9"}, "shows t_9, which is no trial"),
        ("mos", {}, {"stimuli": ("s_9",)}, "shows s_9, which is no stimulus"),
        ("mos", {}, {"stimuli": ()}, "needs 1 sounds, not 0"),
        ("ab", {}, {"stimuli": ("s_0a",)}, "task ab needs 2 sounds, not 1"),
        ("ab", {"choices": ("both",)}, {}, "choices of task ab are none or 'no preference'"),
        ("abx", {"context": None}, {}, "needs X"),
        ("simulate", {"choices": ("Dog",)}, {}, "two choices or more"),
    ],
)
def test_pages_that_cannot_be_answered_are_refused(task, trial, shown, message, tmp_path):
    study = make_study(task, tmp_path, ("trial",))
    base, first = study.trials[0], study.sessions[0][0]
    changed = Study(
        **{
            **vars(study),
            "trials": (Trial(**{**vars(base), **trial}),),
            "sessions": ((Presentation(**{**vars(first), **shown}),),),
        }
    )
    with pytest.raises(ValueError, match=message):
        write_page(changed, tmp_path, tmp_path / "test.html")
    with pytest.raises(ValueError, match="session without a page"):
        write_page(Study(**{**vars(study), "sessions": ()}), tmp_path, tmp_path / "test.html")


def test_without_practice_the_level_is_set_by_a_chord(tmp_path):
    text = write_page(make_study("mos", tmp_path, ("trial",)), tmp_path, tmp_path / "test.html").read_text("utf-8")
    data = base64.b64decode(re.search(r'data-audio="level">([^<]*)<', text)[1])
    sound, rate = soundfile.read(io.BytesIO(data))
    assert rate == RATE and len(sound) == 2 * RATE
    assert 20 * np.log10(np.sqrt(np.mean(sound**2))) == pytest.approx(-23, abs=0.05)
    assert np.abs(sound).max() < 0.5


# ---- the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def sit_down(browser, tmp_path):
    """sit_down(study) -> a Listener before its page; afterwards, that no page asked the network for anything."""
    contexts, requests, errors = [], [], []

    def open_page(study, query="", **options):
        page_file = write_page(study, tmp_path, tmp_path / "test.html", **options.pop("write", {}))
        context = browser.new_context(**options)
        context.set_default_timeout(60000)
        context.on("request", lambda request: requests.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        contexts.append(context)
        return Listener(context, page_file.as_uri() + query, study)

    yield open_page
    for context in contexts:
        context.close()
    assert requests and {urlsplit(url).scheme for url in requests} <= {"file", "blob", "data"}
    assert not errors


class Listener:
    """A person at the page."""

    def __init__(self, context, url, study):
        self.context, self.study = context, study
        self.page = context.new_page()
        self.dialogs = []
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.type), dialog.accept()))
        self.page.goto(url)

    def hear(self, *slots):
        for slot in slots:
            self.card(slot).locator("button").click()
            self.wait_heard(slot)

    def card(self, slot):
        return self.page.locator(f".sound:visible[data-slot='{slot}']")

    def wait_heard(self, slot):
        # `wait_for` looks every half second only, and `wait_for_function` needs an eval that the page forbids.
        assert self.page.evaluate(WAIT, f"section:not([hidden]) .sound.done:not(.playing)[data-slot='{slot}']"), slot

    def heard(self, slot):
        return "done" in self.card(slot).get_attribute("class").split()

    def begin(self, code="P07"):
        self.page.get_by_label("I have read this").check()
        if self.page.get_by_label("Your participant code").is_editable():
            self.page.get_by_label("Your participant code").fill(code)
        self.page.get_by_text("Earphones", exact=True).click()
        self.hear(1)
        self.next()

    def answer(self, slot, value):
        """An opinion or a rating of a sound, or the choice of that number."""
        task = self.study.task
        if task == "mos":
            self.page.locator(f"[name=opinion-{slot}][value='{value}'] + .face").click()
        elif task == "rating":
            self.page.locator(f"#slider-{slot}").fill(str(value))
        else:
            self.page.locator("[name=choice] + .face").nth(value).click()

    def take_page(self, *answers):
        self.hear(*(["0"] if self.page.locator("#context .sound").count() else []))
        for slot, value in enumerate(answers, 1):
            self.answer(slot, value)
        self.hear(*range(1, JUDGED[self.study.task] + 1))
        self.next()

    def next(self):
        assert self.page.locator("#next").get_attribute("aria-disabled") == "false", self.reason
        self.page.locator("#next").click()

    @property
    def shut(self):
        return self.page.locator("#next").get_attribute("aria-disabled") == "true"

    @property
    def reason(self):
        return self.page.locator("#reason").inner_text()

    @property
    def heading(self):
        return self.page.locator("h1").inner_text()

    def kept(self):
        """What the browser keeps: {key: session}."""
        return {key: json.loads(value) for key, value in self.page.evaluate("Object.entries(localStorage)")}

    def save(self, button):
        with self.page.expect_download() as download:
            self.page.locator(button).click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes().decode("utf-8")

    def confirm(self):
        """Says that the file is there."""
        self.page.get_by_role("button", name="The file is there").click()

    def repeated_ids(self):
        return self.page.evaluate("""() => {
          const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
          return ids.filter((id, index) => ids.indexOf(id) !== index);
        }""")


def audit(page, thorough=True):
    """One h1, a language; and axe finds nothing."""
    assert page.locator("h1").count() == 1 and page.locator("html").get_attribute("lang") == "en"
    if not thorough:
        return
    assert complaints(page) == []


EXPECTED = {  # answers given on both pages -> (stimulus, position, answer) of each row of page 1
    "mos": ((5, 2), [("s_1a", "1", "5"), ("s_1b", "2", "2")]),
    "rating": ((0, 77), [("s_1a", "1", "0"), ("s_1b", "2", "77")]),
    "ab": ((1,), [("s_1b", "2", "preferred")]),
    "ab none": ((2,), [("", "", "no preference")]),
    "abx": ((0,), [("s_1a", "1", "A")]),
    "simulate": ((1,), [("s_1a", "1", "Rain, & <b>wind</b>")]),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_each_task_from_the_start_to_its_files(case, sit_down, tmp_path):
    task, (answers, expected) = case.split()[0], EXPECTED[case]
    dark = task in ("ab", "rating")
    every = task in ("mos", "rating")  # the other tasks have the same first and last pages
    listener = sit_down(make_study(task, tmp_path), color_scheme="dark" if dark else "light")
    page = listener.page
    audit(page, every)
    listener.begin()
    for number in (0, 1):
        assert listener.heading == f"Question {number}: </script> & “how”?"
        assert page.locator("input[type=radio]:visible:checked").count() == 0 and listener.repeated_ids() == []
        assert page.get_by_role("progressbar").get_attribute("aria-valuetext") == (
            "Page 1 of 1" if number else "Practice"
        )
        audit(page, number == 1 and " " not in case)
        listener.take_page(*answers)
    audit(page, every)
    page.get_by_text("Now and then").click()
    page.get_by_label("Anything you want to tell us?").fill("fine, “thanks”\n& more")
    listener.next()
    audit(page, every)
    ((key, kept),) = listener.kept().items()
    assert key == f"lt_test0000:{kept['session_id']}"

    name, text = listener.save("#save-csv")
    assert name == f"lt_test0000__{kept['session_id']}.csv"
    assert text.replace("\r\n", "\n") == page.locator("#copy").input_value()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    asked = {"q_hearing": "", "q_experience": "sometimes", "q_remarks": "fine, “thanks”\n& more"}
    assert tuple(rows[0]) == (*ANSWER_COLUMNS, *asked)
    assert {name: rows[0][name] for name in asked} == asked
    assert [
        (row["stimulus_id"], row["position"], row["answer"]) for row in rows if row["trial_id"] == "t_1"
    ] == expected
    assert len(rows) == 2 * len(expected) and {row["trial_id"] for row in rows} == {"t_0", "t_1"}
    for row in rows:
        fixed = [row[each] for each in ("test_id", "session_id", "participant_code", "task", "transducer")]
        assert fixed == ["lt_test0000", kept["session_id"], "P07", task, "earphones"]
        assert row["page_index"] == ("2" if row["trial_id"] == "t_1" else "1") and "Chrom" in row["user_agent"]
        assert 0.95 <= float(row["heard_fraction"]) <= 1 and (row["n_away"], row["away_ms"]) == ("0", "0")
        assert row["n_plays"] == ("2" if task in ("ab", "abx") else "1")
        sounds = JUDGED[task] + (task != "simulate")
        started, submitted = (
            datetime.fromisoformat(row[each].replace("Z", "+00:00")) for each in ("started_utc", "submitted_utc")
        )
        assert row["submitted_utc"].endswith("Z") and int(row["sample_rate_hz"]) >= 8000
        between = (submitted - started).total_seconds() * 1000 + 50  # of clocks that may be rounded
        assert 1000 * SECONDS * sounds <= int(row["answer_ms"]) <= between

    (tmp_path / name).write_text(text, "utf-8", newline="")

    other, text = listener.save("#save-json")
    (tmp_path / other).write_text(text, "utf-8")
    for file in (name, other):  # the analysis reads both
        table = read_rows(tmp_path / file)
        assert table[list(rows[0])].to_dict("records") == rows
    data = json.loads(text)
    assert [{key: str(value) for key, value in row.items()} | asked for row in data["rows"]] == rows
    assert data["questionnaire"] == {"hearing": "", "experience": "sometimes", "remarks": "fine, “thanks”\n& more"}
    assert data["participant_number"] == 7 and data["schema"] == rows[0]["schema_version"] == "audiointerp-listening-1"
    assert set(listener.kept()) == {key}  # nobody knows yet whether the files are there
    audit(page, every)
    listener.confirm()
    assert listener.kept() == {}
    page.reload()
    assert listener.heading == listener.study.title and listener.dialogs == []  # saved: nothing to warn of


def test_the_gate_stays_shut_until_heard_and_rated(sit_down, tmp_path):
    listener = sit_down(make_study("mos", tmp_path))
    page = listener.page
    assert listener.reason == "Still to do: give your consent; say what you listen with; set the level."
    page.locator("#next").click(force=True)
    assert page.locator("#consent").evaluate("element => element === document.activeElement")
    page.get_by_label("Your participant code").fill("=1+1")
    assert "a code of letters" in listener.reason
    listener.begin()
    assert listener.reason == "Still to do: listen to the full recording, A and B; rate A and B."
    listener.answer(1, 3)
    listener.answer(2, 3)
    listener.hear(0, 1)
    assert listener.shut and listener.reason == "Still to do: listen to B."
    assert page.locator("#next").get_attribute("aria-describedby") == "reason"
    page.locator("#next").click(force=True)
    page.keyboard.press("Enter")
    assert listener.heading.startswith("Question 0")
    listener.hear(2)
    assert not listener.shut
    listener.next()
    assert listener.shut and listener.heading.startswith("Question 1")


def test_a_rating_has_no_value_until_it_is_given(sit_down, tmp_path):
    listener = sit_down(make_study("rating", tmp_path))
    listener.begin()
    slider = listener.page.locator("#slider-1")
    assert slider.get_attribute("aria-valuetext") == "not rated yet"
    listener.hear(0, 1, 2)
    assert listener.reason == "Still to do: rate A and B."
    slider.click()  # in the very middle, where an untouched slider stands
    assert listener.reason == "Still to do: rate B." and slider.get_attribute("aria-valuetext") == "50 of 100"
    listener.card(2).focus()
    listener.page.keyboard.press("Shift+Digit5")
    listener.page.keyboard.press("ArrowRight")
    assert not listener.shut and listener.page.locator("#slider-2").input_value() == "91"


def test_seeking_and_speed_are_refused(sit_down, tmp_path):
    listener = sit_down(make_study("mos", tmp_path, seconds=0.6))
    page = listener.page
    listener.begin()
    audio = page.locator("#sounds audio").first
    audio.evaluate("audio => { audio.currentTime = 0.58; return audio.play().catch(() => 0); }")
    page.get_by_role("alert").get_by_text("from its start to its end").wait_for()
    page.wait_for_timeout(150)
    assert not listener.heard(1)
    for cheat in (
        "audio.playbackRate = 8",
        "audio.defaultPlaybackRate = audio.playbackRate = 8",
        "audio.currentTime = 0.5",
    ):
        # By the page itself, as soon as the sound plays: a busy machine may click later than that.
        begun = f"audio.addEventListener('playing', () => {{ {cheat}; }}, {{ once: true }})"
        audio.evaluate(f"audio => {{ {begun}; audio.closest('.sound').querySelector('button').click(); }}")
        page.get_by_role("alert").wait_for()
        page.wait_for_timeout(150)
        assert not listener.heard(1), cheat
        assert audio.evaluate("audio => [audio.playbackRate, audio.paused]") == [1, True]
    assert page.locator("audio[controls]").count() == 0
    listener.hear(1)
    assert page.get_by_role("alert").count() == 0


def test_one_sound_at_a_time_and_stopping_is_not_hearing(sit_down, tmp_path):
    listener = sit_down(make_study("mos", tmp_path, seconds=0.8))
    listener.begin()
    page = listener.page
    taken, stopped = page.evaluate(INTERRUPT)
    assert taken == [["Play Sound A", False, False], ["Stop Sound B", True, False]]
    assert stopped == [["Play Sound A", False, False], ["Play Sound B", False, False]]
    for slot in (1, 2):
        page.locator(f"#status-{slot}").get_by_text("% heard: play it to the end").wait_for()
    listener.card(1).get_by_role("button", name="Play Sound A").click()
    page.locator("#live").get_by_text("Playing Sound A").wait_for()
    listener.wait_heard(1)
    assert not listener.heard(2)


def test_by_keyboard_alone(sit_down, tmp_path):
    listener = sit_down(make_study("mos", tmp_path))
    page, press = listener.page, listener.page.keyboard.press

    def tab_to(selector):
        for _ in range(30):
            press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never comes to {selector}")

    tab_to("#consent")
    press("Space")
    tab_to("#code")
    page.keyboard.type("P11")
    assert page.locator(".playing").count() == 0  # digits are text here
    press("Enter")  # and no Next
    tab_to("[name=transducer]")
    press("ArrowDown")
    tab_to(".play")
    press("Space")
    listener.wait_heard(1)
    tab_to("#next")
    press("Enter")
    for number in (0, 1):
        page.get_by_text(f"Question {number}").wait_for()
        for slot, opinion in (("0", None), ("1", "4"), ("2", "1")):
            press(f"Digit{slot}" if slot != "2" else "Numpad2")
            listener.wait_heard(slot)
            if opinion:
                press(f"Shift+Digit{opinion}")
        press("Enter")
    page.get_by_role("heading", name="About you").wait_for()
    press("Enter")
    tab_to("#save-csv")
    with page.expect_download() as download:
        press("Enter")
    rows = list(csv.DictReader(Path(download.value.path()).read_text("utf-8").splitlines()))
    assert [row["answer"] for row in rows] == ["4", "1", "4", "1"]
    assert rows[0]["participant_code"] == "P11" and rows[0]["transducer"] == "earphones"


def test_digits_choose_and_can_be_switched_off(sit_down, tmp_path):
    listener = sit_down(make_study("simulate", tmp_path))
    listener.begin()
    page, press = listener.page, listener.page.keyboard.press
    press("Shift+Digit2")
    assert page.locator("[name=choice]:checked").get_attribute("value") == "1"
    page.get_by_text("Keyboard").click()
    page.get_by_label("Use these keys").uncheck()
    press("Shift+Digit1")
    press("Digit1")
    assert page.locator("[name=choice]:checked").get_attribute("value") == "1"
    assert page.locator(".playing").count() == 0
    assert page.locator("audio").count() == 1  # no mixture


def test_a_reload_in_the_middle_costs_nothing(sit_down, tmp_path):
    listener = sit_down(make_study("mos", tmp_path))
    page = listener.page
    listener.begin()
    listener.take_page(1, 2)
    listener.hear(1)
    listener.answer(1, 4)
    ((key, before),) = listener.kept().items()
    page.reload()
    assert listener.dialogs == ["beforeunload"]
    assert listener.heading.startswith("Question 1") and listener.kept()[key]["session_id"] == before["session_id"]
    assert listener.heard(1) and page.locator("[name=opinion-1]:checked").get_attribute("value") == "4"
    assert not listener.heard(2) and listener.reason == "Still to do: listen to the full recording and B; rate B."
    listener.hear(0, 2)
    listener.answer(2, 5)
    listener.next()
    page.reload()
    assert listener.heading == "About you"
    listener.next()
    page.reload()
    _, text = listener.save("#save-csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["trial_id"], row["answer"], row["n_plays"]) for row in rows] == [
        ("t_0", "1", "1"), ("t_0", "2", "1"), ("t_1", "4", "1"), ("t_1", "5", "1")
    ]  # fmt: skip
    assert {row["session_id"] for row in rows} == {before["session_id"]}


def test_another_tab_offers_what_was_left_unfinished(sit_down, tmp_path):
    listener = sit_down(make_study("ab", tmp_path))
    listener.begin("anna")
    page = listener.context.new_page()
    page.goto(listener.page.url)
    assert "by anna" in page.locator("#resume-text").inner_text()
    page.get_by_role("button", name="Continue this test").click()
    page.get_by_text("Question 0").wait_for()


def fnv1a(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) % 2**32
    return value


@pytest.mark.parametrize(
    ("query", "code", "order"),
    [("?p=4", "", 1), ("?p=4", "P05", 1), ("", "P05", 2), ("?p=x", "", None), ("?PROLIFIC_PID=5f0c7", "5f0c7", None)],
)
def test_the_number_of_a_participant_gives_the_order(query, code, order, sit_down, tmp_path):
    study = make_study("ab", tmp_path, ("practice", "trial", "trial", "trial"), orders=3)
    listener = sit_down(study, query)
    assert listener.page.get_by_label("Your participant code").input_value() == (
        "P4" if query == "?p=4" else code * ("PID" in query)
    )
    listener.begin(*([] if "PID" in query else [code]))
    (kept,) = listener.kept().values()
    expected = fnv1a(f"7|{kept['session_id']}") % 3 if order is None else order
    assert kept["order"] == expected
    if code == "P05":
        return
    listener.take_page(0)
    assert listener.heading.startswith(f"Question {study.sessions[expected][1].trial_id[-1]}")


def test_no_sound_before_a_click(sit_down, tmp_path):
    listener = sit_down(make_study("mos", tmp_path))
    page = listener.context.new_page()  # what plays is noted by the page itself: `evaluate` counts as a click
    page.add_init_script("""
        window.heard = [];
        const play = HTMLMediaElement.prototype.play;
        HTMLMediaElement.prototype.play = function () {
          heard.push(navigator.userActivation.hasBeenActive);
          return play.call(this);
        };
    """)
    page.goto(listener.page.url)
    page.wait_for_timeout(300)
    page.locator(".play").click()
    listener.page = page
    listener.wait_heard(1)
    assert page.evaluate("heard") == [True]


def test_sounds_beside_the_page_play_and_their_loss_is_told(sit_down, tmp_path):
    listener = sit_down(make_study("simulate", tmp_path), write={"embed_limit_mb": 0})
    listener.begin()
    assert listener.page.locator("#sounds audio").evaluate("audio => audio.src").startswith("file:")
    (tmp_path / "stimuli" / "s_1a.wav").unlink()
    listener.take_page(0)
    listener.page.get_by_role("alert").get_by_text("Are the sound files next to this page?").wait_for()
    assert listener.shut


def test_a_refused_download_loses_nothing(sit_down, tmp_path):
    """The browser writes no file; the page cannot know it, so it asks, and keeps the answers until it is told."""
    listener = sit_down(make_study("simulate", tmp_path))
    page = listener.page
    listener.begin()
    listener.take_page(0)
    listener.take_page(1)
    listener.next()
    browser = listener.context.browser.new_browser_cdp_session()
    browser.send("Browser.setDownloadBehavior", {"behavior": "deny"})
    page.locator("#save-csv").click()
    page.locator("#there-text").get_by_text("is the file there?").wait_for()
    page.get_by_role("button", name="No file appeared").click()
    assert "t_1" in page.locator("#copy").input_value()
    page.reload()
    assert listener.dialogs == ["beforeunload"] and len(listener.kept()) == 1  # still here, and warned of
    page.get_by_text("Copy the text instead").click()
    page.get_by_role("button", name="I have kept the text").click()
    assert listener.kept() == {}


def test_leaving_the_page_is_recorded(sit_down, tmp_path):
    listener = sit_down(make_study("simulate", tmp_path))
    page = listener.page
    listener.begin()
    listener.take_page(0)
    cdp = listener.context.new_cdp_session(page)
    cdp.send("Emulation.setFocusEmulationEnabled", {"enabled": False})
    other = listener.context.new_page()
    other.goto("data:text/html,other")
    other.bring_to_front()
    page.wait_for_timeout(400)
    page.bring_to_front()
    page.wait_for_timeout(200)
    other.close()
    listener.take_page(1)
    listener.next()
    rows = list(csv.DictReader(listener.save("#save-csv")[1].splitlines()))
    assert [row["n_away"] for row in rows] == ["0", "1"]
    assert 300 <= int(rows[1]["away_ms"]) <= int(rows[1]["answer_ms"]) and rows[0]["away_ms"] == "0"


def test_without_a_stem_the_mixture_is_not_called_reference(sit_down, tmp_path):
    for role, name in (("mixture", "Full recording"), ("reference", "Reference"), ("", "Reference")):
        study = make_study("rating", tmp_path, ("trial",))
        trial = Trial(**{**vars(study.trials[0]), "context_is": role})
        listener = sit_down(Study(**{**vars(study), "trials": (trial,)}))
        listener.begin()
        assert listener.card(0).locator(".name").inner_text() == name
        assert ("reference" in listener.reason) == (name == "Reference")


def test_the_keys_of_a_comparison_are_one_line_on_a_phone(sit_down, tmp_path):
    for task, keys in (("ab", "[name=choice] + .face"), ("mos", "[name=opinion-1] + .face")):
        listener = sit_down(make_study(task, tmp_path), viewport={"width": 390, "height": 844})
        listener.begin()
        boxes = [key.bounding_box() for key in listener.page.locator(keys).all()]
        assert len(boxes) == (3 if task == "ab" else 5) and len({round(box["y"]) for box in boxes}) == 1
        assert min(box["width"] for box in boxes) >= 44 and min(box["height"] for box in boxes) >= 44
        clipped = "element => element.scrollWidth > element.clientWidth"
        assert not any(key.evaluate(clipped) for key in listener.page.locator(keys).all())


def in_german(study, **more):
    texts = read_texts(WORDS / "de.yaml").of_page()
    return Study(**{**vars(study), "texts": {**texts, "checks": [], **more}})


def test_own_texts_questions_and_language(sit_down, tmp_path):
    questions = [{"name": "age", "ask": "Wie alt sind Sie?", "answers": {"30": "unter 30", "99": "30 oder älter"}},
                 {"name": "note", "ask": "Noch etwas?", "answers": {}}]  # fmt: skip
    own = {"consent": "Absatz <eins>.\n\nAbsatz zwei.", "consent_tick": "Einverstanden", "questions": questions}
    listener = sit_down(in_german(make_study("simulate", tmp_path), **own))
    page = listener.page
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.get_by_text("Absatz <eins>.").count() == page.get_by_text("Absatz zwei.").count() == 1
    page.get_by_label("Einverstanden").check()
    page.get_by_text("Ohrhörer", exact=True).click()
    listener.hear(1)
    assert listener.reason == "Es kann weitergehen."
    listener.next()
    for number in range(2):
        listener.take_page(number)
    page.get_by_text("30 oder älter").click()
    page.get_by_label("Noch etwas?").fill("nein")
    assert page.get_by_role("button", name="Abschließen").count() == 1
    shown = page.locator("body").inner_text()
    for word in ("Next", "Page", "heard", "Sound", "About"):
        assert word not in shown
    listener.next()
    rows = list(csv.DictReader(listener.save("#save-csv")[1].splitlines()))
    assert {(row["q_age"], row["q_note"]) for row in rows} == {("99", "nein")}


# ---- checks ---------------------------------------------------------------------------------------------------------


def samples(listener):
    """The sound of a check, (frames, 2), read from what the page made."""
    url = listener.page.locator("#sounds audio").get_attribute("src")
    read = f"""() => new Promise((resolve) => {{
      const request = new XMLHttpRequest();
      request.open("GET", "{url}");
      request.responseType = "arraybuffer";
      request.onload = () => resolve([...new Int16Array(request.response, 44)]);
      request.onerror = () => resolve([]);
      request.send();
    }})"""
    return np.array(listener.page.evaluate(read), float).reshape(-1, 2)


def tones(sound):
    """Index of the softest and of the opposite tone, by measurement."""
    parts = np.split(sound[: 3 * 24000], 3)
    level = [np.sqrt(np.mean(part**2)) for part in parts]
    cancelled = [np.abs(part.sum(1)).max() for part in parts]
    return int(np.argmin(level)), int(np.argmin(cancelled))


def bursts(sound):
    """How often the sound begins again, in blocks of 50 ms."""
    blocks = np.abs(sound[: len(sound) // 800 * 800, 0]).reshape(-1, 800).mean(1)
    loud = np.concatenate([[False], blocks > 5])
    return int(np.count_nonzero(loud[1:] & ~loud[:-1]))


def checked(sit_down, tmp_path, checks):
    study = make_study("simulate", tmp_path, ("trial",))
    listener = sit_down(Study(**{**vars(study), "texts": {"checks": checks}}), bypass_csp=True)
    listener.begin()
    return listener


def choose_tones(listener, as_by):
    """Answers the six trials: as by "headphones" the soft tone, as by "loudspeakers" the one that cancels."""
    for number in range(6):
        soft, opposite = tones(samples(listener))
        assert soft != opposite and listener.page.locator("#eyebrow").inner_text() == f"Check {number + 1} of 6"
        listener.hear(1)
        listener.answer(1, soft if as_by == "headphones" else opposite)
        listener.next()


def saved_row(listener):
    listener.take_page(0)
    listener.next()
    (row,) = csv.DictReader(listener.save("#save-csv")[1].splitlines())
    return row


def test_headphones_are_checked(sit_down, tmp_path):
    listener = checked(sit_down, tmp_path, ["headphones"])
    audit(listener.page)
    choose_tones(listener, "headphones")
    assert saved_row(listener)["headphone_check"] == "6/6 in attempt 1: passed"


def test_loudspeakers_do_not_pass_as_headphones(sit_down, tmp_path):
    listener = checked(sit_down, tmp_path, ["headphones"])
    for attempt in range(2):
        choose_tones(listener, "loudspeakers")
        if not attempt:
            assert "put on headphones" in listener.page.locator("#trial-note").inner_text()
    assert saved_row(listener)["headphone_check"] == "0/6 in attempt 2: failed"


def test_the_level_is_checked(sit_down, tmp_path):
    listener = checked(sit_down, tmp_path, ["level"])
    for right in (False, True):
        count = bursts(samples(listener))
        assert 3 <= count <= 6
        listener.hear(1)
        listener.answer(1, count - 2 if right else 5)  # the last choice is one more than there ever are
        listener.next()
        if not right:
            assert "That was not their number" in listener.page.locator("#trial-note").inner_text()
    assert saved_row(listener)["level_check"] == "1/1 in attempt 2: passed"


def test_narrow_windows_and_large_type(sit_down, tmp_path):
    for task in ("mos", "rating"):
        listener = sit_down(make_study(task, tmp_path), viewport={"width": 320, "height": 640})
        wide = "document.documentElement.scrollWidth"
        assert listener.page.evaluate(wide) == 320
        listener.begin()
        assert listener.page.evaluate(wide) == 320


def test_28_clips_of_5_s_are_not_decoded_before_their_page(sit_down, tmp_path):
    """18 MB of sounds are in the file; the first page can be used when its own sound has been decoded, and no other."""
    study = make_study("mos", tmp_path, ("practice", "trial"))
    noise = 0.05 * np.random.default_rng(0).standard_normal(5 * 48000)
    names = [f"s_c{number}" for number in range(28)]
    for name in names:
        study.files[name], study.seconds[name] = f"stimuli/{name}.wav", 5.0
        soundfile.write(tmp_path / study.files[name], noise, 48000)
    trial = Trial("t_1", "trial", "Question", None, tuple(names))
    many = Study(
        **{
            **vars(study),
            "trials": (study.trials[0], trial),
            "sessions": ((study.sessions[0][0], Presentation("t_1", trial.stimuli)),),
        }
    )
    listener = sit_down(many)
    page = listener.context.new_page()
    page.add_init_script("""
        window.decoded = [];
        const decode = window.atob;
        window.atob = (text) => {
          decoded.push(text.length);
          return decode(text);
        };
    """)
    page.goto(listener.page.url)
    assert len(page.content()) > 28 * 5 * 48000 * 2 and page.locator(".play").is_enabled()
    assert len(page.evaluate("decoded")) == page.locator(".play").count() == 1


# ---- served ---------------------------------------------------------------------------------------------------------


class Host:
    """A server of a study's page that can be stopped and started again on the same port."""

    def __init__(self, study, folder, **options):
        self.folder, self.options = folder, options
        (folder / "public" / "study.json").write_text(study.to_json(), "utf-8")
        write_page(study, folder / "public", folder / "public" / "listening_test.html")
        self.port = 0
        self.start()

    def start(self):
        self.server = make_study_server(self.folder, None, self.port, **self.options)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def sessions(self):
        path = self.server.store.path_of(self.server.study.test_id)
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


@pytest.fixture
def remote(browser, tmp_path):
    """remote(study, query) -> a Listener before the served page, in a browser of its own; remote.host is the server."""
    contexts, hosts = [], []

    def open_page(study, query="", **options):
        if not hosts:
            hosts.append(Host(study, tmp_path, **options))
            open_page.host = hosts[0]
        context = browser.new_context()
        context.set_default_timeout(60000)
        contexts.append(context)
        return Listener(context, f"http://127.0.0.1:{hosts[0].port}/{query}", study)

    yield open_page
    for context in contexts:
        context.close()
    for host in hosts:
        host.stop()


def remote_study(tmp_path, orders=1):
    (tmp_path / "public").mkdir(exist_ok=True)
    return make_study("simulate", tmp_path / "public", ("practice", "trial", "trial"), orders=orders)


def answer_all(listener):
    listener.begin()
    for number in range(3):
        listener.take_page(number)
    listener.page.get_by_text("Most days").click()
    listener.next()


def test_two_listeners_far_away(remote, tmp_path):
    study = remote_study(tmp_path, orders=2)
    for number, code in enumerate(("5f0c9d7", "5f0c9d8")):
        listener = remote(study, f"?PROLIFIC_PID={code}&STUDY_ID=x", completion="https://app.prolific.com/x?cc=C1")
        page = listener.page
        assert page.get_by_label("Your participant code").input_value() == code
        assert f"sent to 127.0.0.1:{remote.host.port}" in page.locator("#kept").inner_text()
        audit(page)
        answer_all(listener)
        page.get_by_role("heading", name="Your answers have arrived").wait_for()
        link = page.get_by_role("link", name="Finish and return")
        assert link.get_attribute("href") == "https://app.prolific.com/x?cc=C1" and listener.kept() == {}
        assert not page.locator("#saving").is_visible()
        audit(page)
        # The digits at the end of an id choose no order; the server gives the next one.
        assert remote.host.sessions[-1]["participant_code"] == code and remote.host.sessions[-1]["order"] == number
        page.reload()
        assert listener.heading == study.title and listener.dialogs == []
    table = read_rows(remote.host.server.store.path_of(study.test_id))
    assert len(table) == 6 and set(table["q_experience"]) == {"often"} and set(table["n_away"]) == {"0"}


def test_a_server_that_is_away_loses_nothing(remote, tmp_path):
    listener = remote(remote_study(tmp_path), completion="CODE-7")
    page = listener.page
    listener.begin()
    for number in range(3):
        listener.take_page(number)
    remote.host.stop()
    listener.next()
    page.get_by_role("heading", name="Your answers were not sent").wait_for()
    assert len(listener.kept()) == 1 and "no answer from the server" in page.locator("#finish-lead").inner_text()
    assert page.locator("#save-csv").is_visible() and "CODE-7" not in page.content()
    page.get_by_role("button", name="Send again").click()
    page.get_by_role("heading", name="Your answers were not sent").wait_for()
    remote.host.start()
    page.get_by_role("button", name="Send again").click()
    page.get_by_role("heading", name="Your answers have arrived").wait_for()
    assert page.locator("#completion-code").inner_text() == "CODE-7" and listener.kept() == {}
    assert len(remote.host.sessions) == 1
