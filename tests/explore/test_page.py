"""The page of `explore` in a real Chromium, served by the command in a process of its own."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from browsing import chromium, complaints
from two_tones import RATE, tones

from audiointerp.__main__ import main
from audiointerp.results.reading import Run

pytestmark = pytest.mark.slow  # in a browser

WAIT = 240  # seconds until a test gives up; nothing is asked about speed
SUPPORT = Path(__file__).parents[1] / "support"
LEFT, TOP, RIGHT, BOTTOM = 66, 8, 6, 40  # margins of the spectrogram, in pixels
# Records what reaches the loudspeaker, and when each source was started.
TAP = """() => {
  window.heard = [];
  window.started = [];
  const connect = AudioNode.prototype.connect, start = AudioBufferSourceNode.prototype.start;
  AudioNode.prototype.connect = function (to, ...rest) {
    const last = to instanceof AudioDestinationNode && !(this instanceof ScriptProcessorNode);
    if (!last) return connect.call(this, to, ...rest);
    const tap = this.context.tap ??= (() => {
      const made = this.context.createScriptProcessor(2048, 1, 1);
      made.onaudioprocess = (event) => {
        const samples = event.inputBuffer.getChannelData(0);
        event.outputBuffer.copyToChannel(samples, 0);
        window.heard.push([...samples]);
      };
      window.rate = this.context.sampleRate;
      connect.call(made, this.context.destination);
      return made;
    })();
    return connect.call(this, tap, ...rest);
  };
  AudioBufferSourceNode.prototype.start = function (...given) {
    window.started.push(given);
    return start.apply(this, given);
  };
}"""
DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
DROP_HUGE = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "huge.wav"));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def wav(samples, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and run folder of the command, which explains a classifier of known answers."""
    folder = tmp_path_factory.mktemp("explore")
    soundfile.write(folder / "given.wav", tones(2.0).numpy(), RATE)
    command = [sys.executable, "-m", "audiointerp", "explore", "python:two_tones:two_bands", str(folder / "given.wav")]
    command += ["-o", str(folder / "out"), "--method", "saliency,loudest", "--no_browser", "--device", "cpu"]
    path = os.pathsep.join([str(SUPPORT), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/\S+/", line)
        assert address, line
        yield address[0], folder / "out"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0 and rest.endswith("ended\n")


@pytest.fixture(scope="module")
def browser():
    devices = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with chromium(*devices, "--autoplay-policy=no-user-gesture-required") as started:
        yield started


@pytest.fixture
def visit(browser, served):
    """visit() -> a page that shows the given sound; afterwards, that no request went elsewhere and nothing failed."""
    contexts, requests, errors = [], [], []

    def open_page(**options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 1100}, **options})
        context.set_default_timeout(1000 * WAIT)
        context.on("request", lambda request: requests.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.add_init_script(f"({TAP})()")
        contexts.append(context)
        page = context.new_page()
        page.goto(served[0])
        page.locator("#workspace").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    home = urlsplit(served[0]).netloc
    assert requests and {urlsplit(url).netloc for url in requests if not url.startswith(("data:", "blob:"))} == {home}
    assert not errors


def drop(page, data: bytes, name: str) -> None:
    import base64

    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def drag(page, low: float, high: float, start: float, end: float, seconds: float) -> None:
    """Drags a rectangle over the spectrogram, whose axis is linear in Hz."""
    page.locator("#scale").select_option("linear")
    page.locator("#front").scroll_into_view_if_needed()
    box = page.locator("#front").bounding_box()
    width, height = box["width"] - LEFT - RIGHT, box["height"] - TOP - BOTTOM

    def place(hertz, second):
        share = 1 - hertz / (RATE / 2)
        return box["x"] + LEFT + width * second / seconds, box["y"] + TOP + height * share

    page.mouse.move(*place(low, start))
    page.mouse.down()
    page.mouse.move(*place((low + high) / 2, (start + end) / 2))
    page.mouse.move(*place(high, end))
    page.mouse.up()


def until(page, script: str, argument=None) -> None:
    """Waits for a condition; the page forbids the eval of `wait_for_function`."""
    for _ in range(5 * WAIT):
        if page.evaluate(script, argument):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"never true: {script}")


def levels(page) -> tuple[float, float]:
    """Amplitudes of the tones of 500 and 4000 Hz in the latest tenth of a second or so that was heard."""
    page.evaluate("window.heard = []")
    until(page, "window.heard.length >= 4")
    blocks, rate = page.evaluate("[window.heard.slice(1, 4), window.rate]")
    samples = np.concatenate(blocks)
    time = np.arange(len(samples)) / rate
    window = np.hanning(len(samples))
    return tuple(
        float(2 * abs((samples * window * np.exp(-2j * np.pi * f * time)).sum()) / window.sum()) for f in (500, 4000)
    )


def test_from_a_drop_to_a_saved_run(visit, served):
    page = visit()
    assert page.locator("h2#sound-title").inner_text() == "given.wav"
    drop(page, wav(tones(2.0, low=0.2, high=0.3).numpy()), "dropped.wav")
    page.locator("#sound-title", has_text="dropped.wav").wait_for()
    assert page.locator(".label").first.inner_text().startswith("high")
    page.locator("[data-label='1']").click()
    page.locator("#made > li", has_text="high by saliency").wait_for()
    assert page.locator("[data-label='1']").get_attribute("aria-pressed") == "true"
    # Another method beside it.
    page.locator("#methods label", has_text="saliency").click()
    page.locator("#controls summary").click()
    page.locator("#control-methods label", has_text="loudest").click()
    page.locator("[data-label='1']").click()
    page.locator("#made > li", has_text="high by loudest").wait_for()
    assert page.locator("#made > li").count() == 2

    drag(page, 3000, 5000, 0.0, 2.0, 2.0)
    page.locator("#brush-says").wait_for()
    says = page.locator("#brush-says").inner_text()
    assert "Likeliest now: low" in says and re.match(r"high: 69 % in the sound, 0(\.\d)? % in what is left", says)
    drawn = re.match(r"muted: (\d+) to (\d+) Hz, 0.0\d to (\S+) s", page.locator("#regions").inner_text())
    assert [float(each) for each in drawn.groups()] == pytest.approx([3000, 5000, 2.0], rel=0.03)  # some pixels

    page.locator("#loop").check()
    page.locator("#play").click()
    started = page.evaluate("window.started")
    assert len(started) == 6  # the sound, two parts by each method, the brushed sound
    assert len({tuple(each) for each in started}) == 1  # at the same time, from the same position
    page.keyboard.press("Escape")
    page.locator("#clock").click()  # the keys are not for a focused button
    page.locator("body").press("1")
    low, high = levels(page)
    assert low == pytest.approx(0.2, abs=0.02) and high == pytest.approx(0.3, abs=0.03)
    page.locator("body").press("4")
    page.wait_for_timeout(200)
    low, high = levels(page)
    assert low == pytest.approx(0.2, abs=0.02) and high < 0.01
    assert (
        page.locator("#play").inner_text() == "Pause" and len(page.evaluate("window.started")) == 6
    )  # it never stopped
    page.locator("body").press("2")
    assert page.locator("[name=hear]:checked").get_attribute("value") == "interpretation"
    page.locator("body").press("p")
    assert "saliency" in page.locator("#made > li.shown").inner_text()
    page.locator("body").press(" ")
    assert page.locator("#play").inner_text() == "Play"

    page.locator("#save").click()
    page.locator("#saved").wait_for()
    assert "saliency, loudest, brush" in page.locator("#saved").inner_text()
    run = Run.read(served[1])
    assert list(run.scores["method"]) == ["saliency", "loudest", "brush"] and (run.scores["target"] == "high").all()
    assert main(["report", str(served[1])]) == 0


def test_regions_by_numbers_keep_and_remove(visit):
    page = visit()
    page.locator("summary", has_text="A region by numbers").click()
    for name, value in {"low": "300", "high": "700", "start": "0", "end": "2"}.items():
        page.locator(f"#{name}").fill(value)
    page.locator("#numbers button", has_text="Keep only").focus()
    page.keyboard.press("Enter")
    page.locator("#regions li", has_text="kept: 300 to 700 Hz, 0.00 to 2.00 s").wait_for()
    page.locator("#brush-says", has_text="Likeliest now: low").wait_for()
    page.locator("#low").fill("900")
    page.locator("#numbers button", has_text="Mute").click()
    page.locator("#brush-error", has_text="give the lower number first").wait_for()
    assert page.locator("#regions li").count() == 1  # the wrong one is not kept
    page.get_by_role("button", name="Remove kept").click()
    until(page, "document.querySelector('#brush-says').hidden")
    assert page.locator("[name=hear][value=brush]").is_disabled() and "→" not in page.locator("#labels").inner_text()


def test_errors_appear_in_place(visit):
    page = visit()
    drop(page, b"this is no sound", "notes.txt")
    error = page.locator("#open-error")
    error.filter(has_text="notes.txt: not readable as audio").wait_for()
    assert error.get_attribute("role") == "alert" and page.locator("#sound-title").inner_text() == "given.wav"
    page.evaluate(DROP_HUGE, 257 * 2**20)
    error.filter(has_text="huge.wav: has 257 MB").wait_for()
    drop(page, wav(tones(0.5).numpy()), "fine.wav")
    page.locator("#sound-title", has_text="fine.wav").wait_for()
    assert not error.is_visible()
    page.locator("#methods label", has_text="saliency").click()
    page.locator("[data-label='0']").click()
    page.locator("#made-error", has_text="choose at least one method").wait_for()


def test_a_recording_of_the_microphone(visit):
    page = visit()
    page.get_by_role("button", name="Record").click()
    page.locator("#record", has_text="(1 s)").wait_for()
    page.locator("#record").click()
    page.locator("#sound-title", has_text="recording.wav").wait_for()
    assert float(page.locator("#clock").inner_text().split("/")[1].split()[0]) >= 0.5
    assert page.locator("#record").inner_text() == "Record"


# Two seconds of 4000 Hz in a format that only browsers read, dropped as a file.
DROP_COMPRESSED = """async ([name, type]) => {
  if (!MediaRecorder.isTypeSupported(type)) return false;
  const context = new AudioContext(), tone = new OscillatorNode(context, { frequency: 4000 });
  const out = context.createMediaStreamDestination();
  tone.connect(new GainNode(context, { gain: 0.3 })).connect(out);
  tone.start();
  const recorder = new MediaRecorder(out.stream, { mimeType: type }), pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const ended = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  recorder.stop();
  await ended;
  const transfer = new DataTransfer();
  transfer.items.add(new File(pieces, name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  return true;
}"""


@pytest.mark.parametrize(("name", "kind"), [("phone.webm", "audio/webm"), ("phone.m4a", "audio/mp4")])
def test_formats_that_only_the_browser_reads(visit, name, kind):
    page = visit()
    if not page.evaluate(DROP_COMPRESSED, [name, kind]):
        pytest.skip(f"this Chromium does not record {kind}")
    page.locator("#sound-title", has_text=name).wait_for()
    assert page.locator(".label").first.inner_text().startswith("high")
    page.locator("[data-label='1']").click()
    page.locator("#made > li").wait_for()
    assert page.locator("#cost").inner_text() == "A click takes about a second."
    drop(page, b"this is no sound", "broken.m4a")
    page.locator("#open-error", has_text="broken.m4a: this browser cannot decode it").wait_for()


def test_a_file_of_many_hours_is_refused_before_it_is_decoded(visit):
    page = visit()
    page.evaluate("Object.defineProperty(HTMLMediaElement.prototype, 'duration', { get: () => 7200 })")
    page.evaluate(
        "() => { OfflineAudioContext.prototype.decodeAudioData = () => { throw new Error('was decoded'); }; }"
    )
    page.evaluate(DROP_COMPRESSED, ["long.webm", "audio/webm"])
    page.locator("#open-error", has_text="long.webm: lasts 120 minutes; open at most 30").wait_for()


def test_many_methods_are_offered_in_three_groups(visit):
    page = visit()
    assert page.locator("#methods label").all_inner_texts() == ["saliency"]
    assert not page.locator("summary", has_text="More methods").is_visible()
    several = ["lime", "occlusion", "rise", "saliency", "smoothgrad", "shapley", "loudest"]

    def answer(route):
        made = route.fetch().json()
        made["methods"] = [
            {"name": name, "at_once": i < 2, "passes": 100 if i else 1, "control": name == "loudest"}
            for i, name in enumerate(several)
        ]
        route.fulfill(json=made)

    page.route("**/state", answer)
    page.reload()
    page.locator("summary", has_text="More methods").click()
    assert page.locator("#methods label").all_inner_texts() == several[:2]
    assert page.locator("#more-methods label").all_inner_texts() == several[2:-1]
    page.locator("summary", has_text="Controls").click()
    assert page.locator("#control-methods label").all_inner_texts() == ["loudest"]


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_accessible_on_screens_of_each_size(visit, width, scheme):
    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.locator("[data-label='1']").click()
    page.locator("#made > li").wait_for()
    for summary in page.locator("summary").all():
        if summary.is_visible():
            summary.click()
    page.locator("#numbers button", has_text="Mute").click()
    page.locator("#brush-says").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").count() == 1
    assert complaints(page) == []


def test_a_long_name_of_a_model_does_not_widen_the_page(browser):
    from audiointerp.results.templating import fill

    model = "efficientat:" + "/a_rather_long_folder_name" * 5 + "/mn04_as_and_more_of_it.safetensors"
    values = {"model": model, "short": model.rsplit("/", 1)[-1], "labels": 2, "rate": 1, "minutes": 1, "megabytes": 1}
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_content(fill("explore/page.html", values | {"part": 30}))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


def test_a_page_of_another_origin_gets_nothing(browser, served, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>other</title>")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *given: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path))) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.set_default_timeout(1000 * WAIT)
        page.goto(f"http://127.0.0.1:{other.server_address[1]}/")
        assert (
            page.evaluate("url => fetch(url).then(() => 'read', (error) => error.name)", f"{served[0]}state")
            == "TypeError"
        )
        post = "url => fetch(url, { method: 'POST', mode: 'no-cors', body: 'x' }).then(() => 'sent', () => 'refused')"
        assert page.evaluate(post, f"{served[0]}sounds?name=x") == "refused"
        # The address in a frame shows nothing, either.
        page.set_content(f"<iframe src='{served[0]}'></iframe>")
        assert not any("What does" in frame.content() for frame in page.frames)
        page.close()
        other.shutdown()


def request(address: str, path: str, body: bytes | None = None):
    """Status and JSON of a request over a connection of its own."""
    parts = urlsplit(address)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=WAIT)) as connection:
        connection.request("POST" if body is not None else "GET", parts.path + path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_twenty_tabs_at_once(served):
    """Each gets the answer to its own sound."""
    results: dict[int, float] = {}

    def tab(number: int) -> None:
        loud = 0.5 if number % 2 else 0.05
        status, sound = request(served[0], f"sounds?name={number}.wav", wav(tones(0.3, 0.2, loud).numpy()))
        assert status == 200 and sound["name"] == f"{number}.wav"
        status, view = request(served[0], f"sounds/{sound['id']}/0")
        asked = json.dumps({"method": "loudest", "label": 0}).encode()
        status, made = request(served[0], f"sounds/{sound['id']}/0/explain", asked)
        assert status == 200 and made["probability"] == pytest.approx(view["probabilities"][0], abs=1e-5)
        results[number] = view["probabilities"][1]

    threads = [threading.Thread(target=tab, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT)
    assert sorted(results) == list(range(20))
    assert all((probability > 0.5) == bool(number % 2) for number, probability in results.items())


def test_twenty_tabs_of_one_browser(visit):
    """Each opens a sound of its own and has it explained while the others do; each hears its own sound."""
    pages = [visit()]
    while len(pages) < 20:
        page = pages[0].context.new_page()
        page.goto(pages[0].url)
        pages.append(page)
    for number, page in enumerate(pages):
        page.locator("#workspace").wait_for()
        level = 0.5 if number % 2 else 0.05
        drop(page, wav(tones(0.5, 0.2, level).numpy()), f"tab {number}.wav")
    for number, page in enumerate(pages):
        page.locator("#sound-title", has_text=f"tab {number}.wav").wait_for()
        page.locator(f"[data-label='{number % 2}']").click()
    for number, page in enumerate(pages):
        page.locator("#made > li", has_text="by saliency").wait_for()
        name = "high" if number % 2 else "low"
        assert page.locator(".label").first.inner_text().startswith(name)
        assert page.locator("#made > li").count() == 1 and name in page.locator("#made > li").inner_text()
        assert not page.locator("[role=alert]:visible").count()


def test_a_file_of_ten_minutes_is_opened_in_parts(served):
    samples = np.concatenate([0.1 * tones(300, 1.0, 0.0).numpy(), 0.1 * tones(300, 0.0, 1.0).numpy()])
    status, sound = request(served[0], "sounds?name=long.wav", wav(samples))
    assert status == 200 and len(sound["starts"]) == 21 and sound["seconds"] == 600
    first, last = (request(served[0], f"sounds/{sound['id']}/{part}")[1] for part in (0, 20))
    assert first["probabilities"][0] > 0.99 and last["probabilities"][1] > 0.99
    assert last["seconds"] == pytest.approx(600 - 20 * 29)
