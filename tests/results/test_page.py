"""The page of a made-up run: links, players, escaping, and the numbers by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile
from browsing import chromium, complaints

from audiointerp.results import page as pages
from audiointerp.results.figures import plot_training
from audiointerp.results.page import answer, write_report
from audiointerp.results.reading import spread
from audiointerp.results.stencil import write_picture

EVIL = "<script>alert(1)<script> & co #1 100%.wav"
METHODS = ("piq", "l2i & <b>")


class Page(HTMLParser):
    """Elements, and the text outside of scripts and styles."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.elements, self.words, self.inside = path, [], [], ""
        self.feed(path.read_text("utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    def handle_endtag(self, tag):
        self.inside = ""

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str]:
        found = [each[key] for _, each in self.elements for key in ("src", "href") if key in each]
        return [link for link in found if not link.startswith(("#", "data:"))]


def make_run(folder: Path, seed: int = 1, items: int = 3, fidelity: float = 1.0, finished: bool = True) -> Path:
    """A run of some clips and two methods; clip 1 has a reference, and is silent for the second method."""
    manifest, scores = [], []
    for index in range(items):
        item, source = f"c_clip_{index}", f"data/{EVIL if index == 0 else f'clip {index}.wav'}"
        sounds = [("mixture", "", "mixture"), *([("reference", "", "reference")] if index == 1 else [])]
        for number, method in enumerate(METHODS):
            sounds += [(role, method, f"m#{number} {role}") for role in ("residual", "listening", "interpretation")]
            silent = index == 1 and number == 1
            scores.append(
                {"item_id": item, "method": method, "source": source, "start_s": 0.0, "target": 1, "predicted": "dog"}
                | {
                    "probability": 0.9,
                    "label": ("dog", "rain <i>")[index % 2],
                    "fidelity": fidelity,
                    "ad": 10.0 * index,
                }
                | {"si_sdr": 4.0 * number if index == 1 else math.nan, "silent": silent, "my_score": 7}
            )
        for role, method, name in sounds:
            path = folder / "audio" / item / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(800), 16000)
            decision = {"pred_class": "dog", "pred_prob": 0.9, "true_class": ("dog", "rain <i>")[index % 2]}
            manifest.append(
                {"item_id": item, "role": role, "method": method, "path": path.relative_to(folder).as_posix()}
                | {"sample_rate": 16000, "n_frames": 800, "source": source, "start_s": 0.0, "peak_dbfs": -3.0}
                | (decision if role == "mixture" else {})
            )
    pd.DataFrame(manifest).to_csv(folder / "manifest.csv", index=False)
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    plot_training(folder / "figures" / "training.png", pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]}))
    panels = json.dumps([[0.1, 0.5, 0.2, 0.8, 0, 3]])
    write_picture(folder / "figures" / "c_clip_0_piq.png", np.zeros((100, 300, 3), np.uint8), 100, panels)
    about = {"name": "piq", "seed": seed, "device": "cpu", "finished": finished, "kind": "interpreter"}
    about |= {"command": ["audiointerp", "run", "a b.yaml"], "versions": {"torch": "2.11.0"}, "labels": ["rain", "dog"]}
    about |= {"start": "2025-03-01T10:00:00Z", "end": "2025-03-01T10:02:05Z"}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "recipe.yaml").write_text("# </pre><script>alert(2)</script>\nseed: 1\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run) -> Page:
    path = write_report([run])
    assert path == run.resolve() / "report.html"
    return Page(path)


def test_labels_and_fidelity_of_a_classifier_of_several_labels(tmp_path):
    folder = make_run(tmp_path / "run")
    assert "counts the explained label" not in Page(write_report([folder])).text.partition("Clips")[0]
    scores = pd.read_csv(folder / "scores.csv")
    scores["fidelity_argmax"] = 0.0
    scores.to_csv(folder / "scores.csv", index=False)
    likeliest = "item_id,rank,label,probability\nc_clip_0,1,dog,0.9\nc_clip_0,2,rain,0.1\n"
    (folder / "likeliest.csv").write_text(likeliest)
    page = Page(write_report([folder]))
    assert "likeliest.csv" in page.links()
    assert "fidelity counts the explained label if it is among the likeliest tenth of all labels" in page.text


def test_a_page_of_very_many_clips_shows_the_first_of_them(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run", items=4)
    monkeypatch.setattr(pages, "MOST_CLIPS", 2)
    page = Page(write_report([folder]))
    assert "The first 2 of 4 clips are shown" in page.text
    assert [each["id"] for each in page.all("article")] == ["c_clip_0", "c_clip_1"]
    monkeypatch.setattr(pages, "MOST_CLIPS", 4)
    page = Page(write_report([folder]))
    assert "are shown" not in page.text and len(page.all("article")) == 4
    assert "2 of the 4 with a known class" in page.text


def test_every_link_exists_and_none_leaves_the_disk(page):
    links = page.links()
    assert len(links) > 20
    for link in links:
        assert "://" not in link and not link.startswith("/")
        assert (page.path.parent / unquote(link)).is_file(), link
    source = page.path.read_text("utf-8")
    assert "http:" not in source and "https:" not in source and "@import" not in source and "url(" not in source


def test_players(page):
    players = page.all("audio")
    # Three inputs, one reference, and for each of 3 clips and 2 methods the copy to listen to and the residual.
    assert len(players) == 3 + 1 + 3 * 2 * 2
    assert all("controls" in player and player["preload"] == "none" for player in players)
    assert len({player["aria-label"] for player in players}) == len(players)
    assert f"Interpretation by {METHODS[1]}: {EVIL}" in {player["aria-label"] for player in players}
    sources = [unquote(player["src"]) for player in players]
    assert sum(source.endswith("listening.wav") for source in sources) == 6
    assert not any(source.endswith("interpretation.wav") for source in sources)
    exact = [unquote(link["href"]) for link in page.all("a") if link["href"].endswith("interpretation.wav")]
    assert len(exact) == 6


def test_names_are_text_never_markup(page):
    # Ours is the only script; of the file name, the recipe and the class nothing became an element.
    assert len(page.all("script")) == 1
    assert "i" not in [tag for tag, attributes in page.elements if tag == "i" and "style" not in attributes]
    assert EVIL in page.text and "alert(2)" in page.text and "rain <i>" in page.text and METHODS[1] in page.text


def test_header_and_cards(page):
    for words in (
        "audiointerp run 'a b.yaml'",
        "took 2 min 5 s",
        "torch 2.11.0",
        "✓ finished",
        "2 of the 3 with a known class were classified correctly",
    ):
        assert words in page.text
    cards = page.all("article")
    assert [card["id"] for card in cards] == ["c_clip_0", "c_clip_1", "c_clip_2"]
    assert ["data-wrong" in card for card in cards] == [False, True, False]
    assert page.text.count("Explained class dog") == 3  # target 1 is an index in scores.csv
    sections = page.all("section")
    assert ["data-silent" in each for each in sections] == [False, False, False, True, False, False]
    images = [image for image in page.all("img") if "c_clip_0_piq" in image["src"]]
    assert len(images) == 1 and images[0]["loading"] == "lazy" and int(images[0]["width"]) > 100 and images[0]["alt"]


def test_scores_in_the_table_and_on_the_cards(page):
    # ad is 0, 10, 20 for both methods: mean 10, SD 10.
    assert page.text.count("10.0 ± 10.0 % 3 / 3 scored") == 2
    # Known for clip 1 only, where the second method is silent.
    assert "0.0 dB 1 / 3 scored –" in page.text
    assert "1 of 3" in page.text
    assert "my score" in page.text
    values = [each["data-v"] for each in page.all("div") if each.get("data-k") == "ad"]
    assert values == ["0", "0", "10", "10", "20", "20"]
    sdr = [each["data-v"] for each in page.all("div") if each.get("data-k") == "si_sdr"]
    assert sdr == ["0", "4"]


def test_labels_of_controls(page):
    ids = [each["id"] for _, each in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    options = [each.get("value") for each in page.all("option")]
    assert {"fidelity", "ad", "si_sdr", "my_score", "wrong", "silent"} <= set(options)
    # Each field stands inside its label.
    assert len(page.all("label")) == len(page.all("select")) + len(page.all("input"))


def test_a_missing_sound_is_said(tmp_path):
    run = make_run(tmp_path / "run", items=1)
    next((run / "audio").rglob("*residual.wav")).unlink()
    page = Page(write_report([run], tmp_path / "elsewhere"))
    assert page.path.parent.name == "elsewhere"
    assert page.text.count("file missing") == 1 and len(page.all("audio")) == 4
    assert all((page.path.parent / unquote(link)).is_file() for link in page.links())


def test_a_bare_run_json_of_an_older_run_is_enough(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "scores.csv").write_text("item_id,method,fidelity\nc_a,piq,True\nc_b,piq,\n")
    page = Page(write_report([tmp_path]))
    assert "not finished" in page.text and "1.000 1 / 2 scored" in page.text
    assert len(page.all("article")) == 2


def test_a_classifier_run_needs_no_scores(tmp_path):
    (tmp_path / "run.json").write_text('{"kind": "classifier", "name": "cnn", "finished": true, "accuracy": 0.81}')
    plot_training(tmp_path / "figures" / "training.png", pd.DataFrame({"epoch": [1], "loss": [1.0]}))
    page = Page(write_report([tmp_path]))
    assert "accuracy 0.81" in page.text and len(page.all("img")) == 1 and not page.all("article")


def test_windows_of_a_long_recording(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    rows = "item_id,method,start_s,ad,silent\nc_a,piq,0,10,False\nc_a,piq,25.5,30,True\n"
    (tmp_path / "scores.csv").write_text(rows)
    page = Page(write_report([tmp_path]))
    assert len(page.all("article")) == 1 and "from 0.0 s" in page.text and "from 25.5 s" in page.text
    assert "1 of 2" in page.text


def test_comparison_of_runs_by_hand(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed, 2, fidelity, seed != 2) for seed, fidelity in ((1, 0.5), (2, 1.0))]
    path = write_report([*runs, runs[0]], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "summary.csv").set_index(["method", "metric"])
    row = table.loc[("piq", "fidelity")]
    assert (row["mean"], row["n_runs"], row["n_scored"], row["n"]) == (0.75, 2, 4, 4)
    assert row["sd"] == pytest.approx(math.sqrt(0.125))
    assert table.loc[(METHODS[1], "ad"), "n_silent"] == 2
    page = Page(path)
    assert "0.750 ± 0.354 2 runs; 4 / 4 scored" in page.text and "not finished" in page.text
    assert {"../1/report.html", "../2/report.html", "summary.csv", "summary.md"} <= set(page.links())
    assert all((path.parent / unquote(link)).is_file() for link in page.links())
    markdown = (tmp_path / "out" / "summary.md").read_text("utf-8")
    assert "| Fidelity ↑ | 0.750 ± 0.354 (2 runs, 4/4 clips) | 0.750 ± 0.354 (2 runs, 4/4 clips) |\n" in markdown
    assert "| Score | piq | l2i & <b> |\n|---|---|---|\n" in markdown and "piq, seed 2 (not finished)" in markdown
    assert not list(tmp_path.rglob("*.part"))


def test_errors_name_the_folder(tmp_path, run):
    (tmp_path / "empty").mkdir()
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "run.json").write_text('{"kind": "interpreter"}')
    classifier = tmp_path / "classifier"
    classifier.mkdir()
    (classifier / "run.json").write_text('{"kind": "classifier"}')
    for folders, out, message in [
        ([], None, "no run folder"),
        ([tmp_path / "empty"], None, r"empty: no run\.json"),
        ([tmp_path / "nowhere"], None, r"nowhere: no run\.json"),
        ([stopped], None, r"stopped: no scores\.csv"),
        ([run, stopped], tmp_path, r"stopped: no scores\.csv"),
        ([run, classifier], tmp_path, r"classifier: no scores\.csv"),
        ([run, make_run(tmp_path / "other", items=1)], None, "-o"),
        ([run, tmp_path / "other"], run, "itself one of the runs"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            write_report(folders, out)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", r"run\.json: not valid JSON"),
        ("run.json", "[]", "a list"),
        ("scores.csv", "", r"scores\.csv: not readable"),
        ("scores.csv", "item,method\n", "no column item_id; it has item, method"),
        ("manifest.csv", "item_id,role,path\nc_a,mixture,../secret.wav\n", "is outside of the run folder"),
        ("manifest.csv", "item_id,role,path\nc_a,mixture,/etc/passwd\n", "is outside of the run folder"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "scores.csv").write_text("item_id,method,ad\nc_a,piq,1\n")
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report([tmp_path])
    assert not (tmp_path / "report.html").exists()


def test_a_report_needs_no_model_code(run):
    code = (
        "import sys, audiointerp.results.page as page; page.write_report(sys.argv[1:]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_distributions_by_hand(tmp_path):
    run = make_run(tmp_path, items=5)
    lines = {line["info"].name: line for line in spread(pd.read_csv(run / "scores.csv"))}
    assert set(lines) == {"ad"}  # all other scores have one value
    assert lines["ad"]["methods"] == {name: [0.0, 10.0, 20.0, 30.0, 40.0] for name in METHODS}
    page = Page(write_report([run]))
    assert "Distribution over clips" in page.text
    told = "median 20.0 %, middle half 10.0 % to 30.0 %, all 0.0 % to 40.0 %"
    assert [each["aria-label"] for each in page.all("span") if "median" in each.get("aria-label", "")] == [
        f"{name}: {told}" for name in METHODS
    ]


def test_failed_files_and_silent_outputs_are_told_before_the_clips(tmp_path):
    run = make_run(tmp_path)
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"failed": ["a <b>.wav: no sound", "c.wav: cut off"]}))
    text = Page(write_report([run])).text
    told = text.index("2 failed These files were not explained: a <b>.wav: no sound c.wav: cut off")
    silent = text.index("silent output 1 of 3 clips has an explanation without any sound")
    assert told < silent < text.index("Input")


def test_the_method_that_a_choosing_one_shows_is_named(tmp_path):
    run = make_run(tmp_path)
    scores = pd.read_csv(run / "scores.csv")
    scores["chosen"] = ["l2i <i>" if method == "piq" else "" for method in scores.method]
    scores.to_csv(run / "scores.csv", index=False)
    assert Page(write_report([run])).text.count("shows l2i <i>") == 3


# ---- in the browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with chromium("--autoplay-policy=no-user-gesture-required") as started:
        yield started


@pytest.fixture
def opened(browser, tmp_path):
    """The page of a run whose sounds last 3 s, in Chromium."""
    run = make_run(tmp_path)
    for path in run.glob("audio/*/*.wav"):
        soundfile.write(path, np.zeros(48000), 16000)
    context = browser.new_context()
    context.set_default_timeout(120000)
    errors = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    page = context.new_page()
    page.goto(write_report([run]).as_uri())
    yield page
    context.close()
    assert not errors


def test_the_sounds_of_a_clip_go_on_where_the_last_one_was(opened):
    card = opened.locator(".card").nth(0)
    card.hover()
    opened.keyboard.press("1")  # the input
    audio = "[...document.querySelectorAll('.card')[0].querySelectorAll('audio')]"
    opened.wait_for_function(f"{audio}[0].currentTime > 0.4")
    opened.keyboard.press("2")  # the first method's interpretation
    opened.wait_for_function(f"!{audio}[1].paused && {audio}[1].currentTime > 0")
    first, second, playing = opened.evaluate(
        f"[{audio}[0].currentTime, {audio}[1].currentTime, {audio}.filter(each => !each.paused).length]"
    )
    assert playing == 1 and second >= first - 0.05 >= 0.35  # a seek lands within a few milliseconds
    assert card.locator(".sound.playing kbd").text_content() == "2"
    left, top, time = opened.evaluate(
        "(() => { const line = document.querySelector('.figure .head').style;"
        f" return [parseFloat(line.left), parseFloat(line.top), {audio}[1].currentTime]; }})()"
    )
    assert top == 20 and 10 + 40 * 0.4 / 3 <= left <= 10 + 40 * (time + 0.5) / 3  # 3 s over 10 % to 50 % of the width
    opened.keyboard.press("0")
    opened.wait_for_function(f"{audio}[1].currentTime < 0.3")
    opened.keyboard.press("2")
    opened.wait_for_function(f"{audio}.every(each => each.paused)")


def test_clips_after_the_first_join_the_page_later_or_when_they_are_needed(browser, tmp_path):
    run = make_run(tmp_path, items=26)
    address = write_report([run]).as_uri()
    shown = "[...document.querySelectorAll('#cards .card:not([hidden])')].map(each => each.id)"
    every = [f"c_clip_{number}" for number in range(26)]
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function(f"{shown}.length === 26")
    assert page.evaluate(shown) == every
    assert page.locator("#c_clip_25 kbd").all_text_contents() == ["1", "2", "3", "4", "5"]
    # From here on nothing joins by itself.
    page.add_init_script("window.setTimeout = () => 0")
    page.goto("about:blank")
    page.goto(address)
    assert page.evaluate(shown) == every[:20] and page.locator("#count").text_content() == "26 clips"
    page.fill("#text", "clip 25")
    assert page.evaluate(shown) == ["c_clip_25"] and page.locator("#count").text_content() == "1 of 26 clips"
    page.goto("about:blank")
    page.goto(f"{address}#c_clip_24")
    assert page.evaluate(shown) == every and page.evaluate("scrollY") > 1000
    # Other places on the page need no more clips, and an address of nothing breaks nothing.
    for address_of_none in ("#scores", "#50%"):
        page.goto("about:blank")
        page.goto(f"{address}{address_of_none}")
        page.wait_for_load_state()
        assert len(page.evaluate(shown)) == (20 if address_of_none == "#scores" else 26)
        page.fill("#text", "clip 25")
        assert page.evaluate(shown) == ["c_clip_25"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wrong_with_the_page_on_a_phone(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": 390, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert complaints(opened) == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        # p = 0.5; alone 0.5 - 0.2 * 0.5; the rest 0.5 - 0.3.
        (
            {"ad": 20.0, "ag": 0.0},
            "dog + cat: 50 % for the whole recording, 40 % for the interpretation alone, 20 % for",
        ),
        # Half of the missing 0.5 is gained.
        ({"ad": 0.0, "ag": 50.0}, "75 % for the interpretation alone, 20 % for the rest."),
        # What was scored from the written WAVs is what a listener hears.
        (
            {"ad": 0.0, "ag": 50.0, "wav_ad": 10.0, "wav_ag": 0.0, "wav_faithfulness": 0.1},
            "45 % for the interpretation",
        ),
        ({"ad": 0.0, "ag": 0.0, "mean_mask": 0.9}, "keeps nearly everything"),
    ],
)
def test_the_answer_of_an_explanation_by_hand(row, told):
    row = {"target": "dog;cat", "target_probability": 0.5, "faithfulness": 0.3, "mean_mask": 0.2, **row}
    assert told in answer(row) and ("nearly everything" in told) == ("nearly everything" in answer(row))
    assert answer({**row, "faithfulness": float("nan"), "wav_faithfulness": None}) == ""
