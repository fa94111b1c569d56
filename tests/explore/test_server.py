"""The server of `explore` without a browser: who may ask, what is refused, what is computed, what is saved."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from starlette.testclient import TestClient
from torch import nn
from two_tones import RATE, TwoBands, tones, two_bands

from audiointerp.__main__ import main
from audiointerp.classifiers import External
from audiointerp.explore import server, workbench
from audiointerp.explore.saving import Archive
from audiointerp.explore.server import make_app
from audiointerp.explore.sounds import MOST_SECONDS
from audiointerp.explore.stopping import Stopped
from audiointerp.explore.workbench import Busy, Workbench, offered, shown_at_once
from audiointerp.interpreters import Loudest, Saliency
from audiointerp.listening.making.export import export_study
from audiointerp.results.reading import Run

TOKEN, BASE = "secret-token", "http://127.0.0.1:8000"
MUTE_HIGH = {"low_hz": 3000, "high_hz": 5000, "start_s": 0, "end_s": 9, "keep": False}


def wav(samples=None, rate: int = RATE, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tones().numpy() if samples is None else samples, rate, format=kind)
    return file.getvalue()


def samples_of(answer) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert rate == RATE and answer.headers["content-type"] == "audio/wav"
    return samples


class Desk:
    """A server with a classifier of known answers, and shorthands for its requests."""

    def __init__(self, folder: Path, classifier=None, **methods):
        classifier = classifier or two_bands()
        methods = methods or {"saliency": Saliency(classifier), "loudest": Loudest(classifier)}
        (folder / "temporary").mkdir()
        self.out = folder / "out"
        self.bench = Workbench(methods, folder / "temporary")
        self.app = make_app(self.bench, Archive(self.out, "two", "cpu", classifier), "python:x:two", TOKEN)
        self.client = TestClient(self.app, base_url=BASE)

    def get(self, path, **options):
        return self.client.get(f"/{TOKEN}/{path}", **options)

    def post(self, path, value=None, **options):
        return self.client.post(f"/{TOKEN}/{path}", **({"json": value} if value is not None else {}), **options)

    def open(self, data: bytes | None = None, name: str = "two tones.wav"):
        answer = self.post("sounds", content=wav() if data is None else data, params={"name": name})
        return answer.json() if answer.status_code == 200 else answer

    def opened(self, **options) -> str:
        return f"sounds/{self.open(**options)['id']}/0"


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def refused(answer, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]
    assert all(word in message for word in words) and "\n" not in message and "Traceback" not in message, message


# ---- who may ask


@pytest.mark.parametrize("path", ["/", "/wrong/", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/state", "/state", f"/{TOKEN}é/state"])
def test_without_the_token_nothing_is_told(desk, path):
    answer = desk.client.get(path)
    assert answer.status_code == 404 and "two" not in answer.text and "audiointerp explore" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8000"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_sites_are_refused(desk, headers):
    for answer in (desk.get("state", headers=headers), desk.post("save", {"keys": []}, headers=headers)):
        assert answer.status_code == 403 and "labels" not in answer.text
    assert desk.get("state", headers={"Host": "localhost:8000", "Origin": "http://localhost:8000"}).status_code == 200


def test_the_page_loads_nothing_from_elsewhere(desk):
    page = desk.get("")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "http" not in policy
    assert page.headers["referrer-policy"] == "no-referrer" and page.headers["cache-control"] == "no-store"
    texts = [page.text, *(desk.get(name).text for name in ("page.js", "player.js", "spectrogram.js", "record.js"))]
    assert all("http://" not in text and "https://" not in text and "//cdn" not in text for text in texts)
    assert desk.get("server.js").status_code == desk.get("../server.py").status_code == 404


# ---- sounds


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_each_format_is_opened(desk, kind):
    sound = desk.open(wav(kind=kind), f"a.{kind.lower()}")
    view = desk.get(f"sounds/{sound['id']}/0").json()
    assert (
        sound["name"] == f"a.{kind.lower()}"
        and sound["starts"] == [0.0]
        and sound["seconds"] == pytest.approx(1, abs=0.1)
    )
    assert view["rate"] == RATE and view["probabilities"][1] > 0.6 and sum(view["probabilities"]) == pytest.approx(1)


def test_the_picture_shows_the_tones(desk):
    part = desk.opened()
    view = desk.get(part).json()
    picture = np.frombuffer(desk.get(f"{part}/spectrogram").content, np.uint8).reshape(view["rows"], view["columns"])
    column = picture[:, view["columns"] // 2].astype(int)
    loud = np.flatnonzero(column > 200) * view["row_hz"]
    assert picture.max() == 255
    assert all(min(abs(each - 500), abs(each - 4000)) < 100 for each in loud)
    # 0.2 against 0.3 is 3.52 dB, of which a step of the picture is 80 / 255.
    levels = [column[round(hertz / view["row_hz"])] for hertz in (500, 4000)]
    assert (levels[1] - levels[0]) * 80 / 255 == pytest.approx(3.52, abs=0.4)
    assert np.array_equal(
        samples_of(desk.get(f"{part}/sound.wav")), soundfile.read(io.BytesIO(wav()), dtype="float32")[0]
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["empty"]),
        (b"this is no sound" * 100, ["song.wav", "not readable as audio"]),
        (wav()[:2000], ["truncated"]),
        (wav(np.zeros((0,))), ["no audio"]),
        (wav(np.full(100, 0.5), 100), ["100 Hz"]),
    ],
    ids=["empty", "text", "cut", "no frames", "rate"],
)
def test_a_wrong_file_is_told_by_its_name(desk, data, words):
    refused(desk.open(data, "song.wav"), 400, *words, "song.wav")
    assert not list((desk.bench.sounds.folder).iterdir())


def test_nan_samples_are_refused(desk):
    file = io.BytesIO()
    soundfile.write(file, np.array([0.1, np.nan]), RATE, format="WAV", subtype="FLOAT")
    refused(desk.open(file.getvalue(), "x.wav"), 400, "NaN", "x.wav")


def test_huge_files_are_refused_before_they_are_read(desk, monkeypatch):
    monkeypatch.setattr(server, "MOST_BYTES", 1000)
    refused(desk.open(wav()), 413, "too large")
    refused(desk.post("sounds", content=iter([b"x" * 600] * 3), params={"name": "x"}), 413, "too large")
    refused(desk.post("save", content=b"[" * 100_000), 413)
    assert not list((desk.bench.sounds.folder).iterdir())


def test_a_body_that_does_not_arrive_is_not_waited_for(desk, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)

    async def run():
        sent, never = [], threading.Event()

        async def receive():
            import anyio

            await anyio.sleep_forever()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": f"/{TOKEN}/sounds", "query_string": b"", "root_path": ""}
        headers = [(b"host", b"127.0.0.1:1"), (b"content-length", b"9")]
        await desk.app({**scope, "headers": headers, "http_version": "1.1", "scheme": "http"}, receive, send)
        assert not never.is_set()
        return sent

    import anyio

    assert anyio.run(run)[0]["status"] == 408


@pytest.mark.parametrize(
    "name", ["../../../etc/x.wav", "/etc/passwd", "C:\\x\\..\\y.wav", "a\0b", "", "é" * 500, "%2e%2e%2fx"]
)
def test_names_never_become_paths(desk, tmp_path, name):
    before = set(tmp_path.rglob("*"))
    sound = desk.open(name=name)
    assert "/" not in sound["name"] and "\\" not in sound["name"] and sound["name"].isprintable()
    (new,) = set(tmp_path.rglob("*")) - before
    assert new.parent == desk.bench.sounds.folder and new.name.isalnum()
    made = desk.post(f"sounds/{sound['id']}/0/explain", {"method": "loudest", "label": 0}).json()
    saved = desk.post("save", {"keys": [made["key"]]}).json()
    assert {each.parent.name for each in (desk.out / "inputs").iterdir()} == {"inputs"}
    assert saved["item_id"].startswith("c_") and len(saved["item_id"]) <= 31
    assert {each.name for each in tmp_path.iterdir()} == {"out", "temporary"}


@pytest.mark.parametrize("sound", ["..", "%2e%2e", "x" * 3000, "0" * 16])
def test_what_is_not_open_is_not_found(desk, sound):
    for answer in (
        desk.get(f"sounds/{sound}/0"),
        desk.get(f"made/{sound}/mask"),
        desk.get(f"made/{sound}/residual.wav"),
    ):
        assert answer.status_code == 404
    part = desk.opened()
    refused(desk.get(part[:-1] + "7"), 404, "parts")
    for number in ("9" * 5000, "x", "-1", "1.5"):
        refused(desk.get(part[:-1] + number), 404, "part")
    refused(desk.post(f"{part}/explain", {"method": "nothing", "label": 0}), 404, "nothing")
    refused(desk.post(f"{part}/explain", {"method": "loudest", "label": 2}), 404, "label 2")
    refused(desk.post(f"{part}/explain", {"method": "loudest", "label": True}), 400, "label")
    refused(desk.post(f"{part}/brush", {"label": 0}), 400, "regions")
    refused(desk.post(f"{part}/brush", {"label": 0, "regions": [{**MUTE_HIGH, "low_hz": "x"}]}), 400, "numbers")


def test_long_sounds_are_explained_in_parts_and_very_long_ones_refused(desk):
    long = np.concatenate([tones(31, 0.2, 0.0), tones(31, 0.0, 0.3)])
    sound = desk.open(wav(long))
    assert sound["starts"] == [0, 29, 58]
    first, last = (desk.get(f"sounds/{sound['id']}/{part}").json() for part in (0, 2))
    assert first["seconds"] == 30 and last["seconds"] == pytest.approx(4)
    assert first["probabilities"][0] > 0.99 and last["probabilities"][1] > 0.99
    minutes = int(MOST_SECONDS // 60) + 1
    refused(desk.open(wav(np.zeros(1000 * 60 * minutes), 1000)), 400, f"{minutes} minutes", "interpret")


def test_old_uploads_make_room(desk, monkeypatch):
    monkeypatch.setattr("audiointerp.explore.sounds.MOST_SOUNDS", 2)
    parts = [desk.opened() for _ in range(3)]
    refused(desk.get(parts[0]), 404, "open it again")
    assert desk.get(parts[2]).status_code == 200 and len(list(desk.bench.sounds.folder.iterdir())) == 2


# ---- explanations


def test_brushing_is_a_literal_stft_mask_and_changes_the_probabilities(desk):
    part = desk.opened()
    before = desk.get(part).json()["probabilities"]
    made = desk.post(f"{part}/brush", {"regions": [MUTE_HIGH], "label": 1}).json()
    left, muted = (samples_of(desk.get(f"made/{made['key']}/{track}.wav")) for track in ("interpretation", "residual"))
    whole = torch.from_numpy(samples_of(desk.get(f"{part}/sound.wav")))[None]
    classifier = two_bands()
    stft = classifier.spectrogram(whole)
    for k in range(stft.shape[1]):
        if 3000 <= k * RATE / classifier.spectrogram.n_fft <= 5000:
            stft[:, k] = 0
    expected = classifier.spectrogram.inverse(stft, whole.shape[1])
    assert np.abs(left - expected[0].numpy()).max() < 1e-6
    assert np.abs(left + muted - whole[0].numpy()).max() < 1e-6
    # The classifier takes sounds at the level at which the whole sound has peak 1.
    heard = classifier(torch.from_numpy(left)[None] / whole.abs().max()).probabilities[0]
    assert made["probabilities"] == pytest.approx(heard.tolist(), abs=2e-6)
    assert made["alone"] == pytest.approx(made["probabilities"][1], abs=1e-6)
    assert before[1] > 0.6 and made["alone"] < 0.01 and made["without"] > 0.9


def test_an_explanation_has_its_mask_sounds_and_probabilities(desk):
    part = desk.opened()
    made = desk.post(f"{part}/explain", {"method": "saliency", "label": 0}).json()
    view = desk.get(part).json()
    mask = np.frombuffer(desk.get(f"made/{made['key']}/mask").content, np.uint8).reshape(view["rows"], view["columns"])
    waveform = torch.from_numpy(samples_of(desk.get(f"{part}/sound.wav")))[None]
    expected = Saliency(two_bands()).interpret(waveform, 0)
    assert np.abs(mask / 255 - expected.mask[0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(samples_of(desk.get(f"made/{made['key']}/interpretation.wav")), expected.waveform[0].numpy())
    gain = expected.input_gain[:, None]
    alone, without = (
        float(two_bands()(each * gain).probabilities[0, 0]) for each in (expected.waveform, expected.residual)
    )
    assert made["alone"] == pytest.approx(alone, abs=1e-6) and made["without"] == pytest.approx(without, abs=1e-6)
    assert desk.post(f"{part}/explain", {"method": "saliency", "label": 0}).json()["key"] == made["key"]


def test_what_was_dropped_from_memory_is_computed_again(desk, monkeypatch):
    desk.bench._made.most = desk.bench._views.most = 1
    parts = [desk.opened(name=f"{number}.wav") for number in range(2)]
    keys = [desk.post(f"{part}/explain", {"method": "loudest", "label": 0}).json()["key"] for part in parts]
    sounds = [samples_of(desk.get(f"made/{key}/residual.wav")) for key in [*keys, keys[0]]]
    assert np.array_equal(sounds[0], sounds[2])


class Broken(nn.Module):
    """Works for a second of sound and fails for others."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, waveform):
        if isinstance(self.error, Exception):
            raise self.error
        return waveform[:, :2] * self.error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RuntimeError("mat1 and mat2\nshapes"), 400, ["Broken fails for waveforms", "RuntimeError: mat1 and mat2"]),
        (IndexError("list index out of range"), 400, ["IndexError"]),
        (float("nan"), 400, ["NaN"]),
    ],
)
def test_a_broken_model_is_told_in_place(tmp_path, error, status, words, caplog):
    classifier = External(Broken(error), ("a", "b"), RATE)
    desk = Desk(tmp_path, classifier)
    refused(desk.get(desk.opened()), status, *words)
    assert desk.get("state").status_code == 200


class Slow(TwoBands):
    """Takes a while for each pass."""

    def forward(self, waveform):
        time.sleep(0.02)
        return super().forward(waveform)


@pytest.fixture
def slow(tmp_path):
    from audiointerp.interpreters import RISE

    classifier = External(Slow(), ("low", "high"), RATE)
    return Desk(tmp_path, classifier, rise=RISE(classifier), loudest=Loudest(classifier))


def test_a_computation_ends_at_its_limit_or_when_it_is_stopped(slow, monkeypatch):
    sound = slow.open()["id"]
    monkeypatch.setattr(workbench, "LIMIT_SECONDS", 0.2)
    refused(slow.post(f"sounds/{sound}/0/explain", {"method": "rise", "label": 0}), 504, "0.2 s")
    monkeypatch.setattr(workbench, "LIMIT_SECONDS", 600)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        slow.bench.explain(sound, 0, "rise", 0, stop)
    module = slow.bench.classifier.module
    assert not module._forward_pre_hooks and not torch.nn.modules.module._global_forward_pre_hooks
    assert slow.bench.explain(sound, 0, "loudest", 0, threading.Event()).seconds >= 0


def test_too_many_that_wait_are_sent_away(slow, monkeypatch):
    sound = slow.open()["id"]
    monkeypatch.setattr(workbench, "MOST_WAITING", 1)
    slow.bench._waiting = 1
    with pytest.raises(Busy):
        slow.bench.view(sound, 0)
    refused(slow.get(f"sounds/{sound}/0"), 503, "wait")


def test_methods_on_offer():
    classifier = two_bands()
    methods = offered(classifier, {"mine": Loudest(classifier)}, "two")
    assert next(iter(methods)) == "mine" and {"lime", "rise", "saliency", "allpass"} <= {*methods}
    assert not {"piq", "l2i", "bandrde", "gradcam"} & {*methods}  # this classifier has no bands and no layer to read
    # Of many methods the first and the usual ones are shown at once; of a few, all but the controls.
    assert shown_at_once(methods) == ["mine", "integratedgradients", "lime_nmf", "rise"]
    assert shown_at_once({name: methods[name] for name in ("mine", "saliency", "allpass")}) == ["mine", "saliency"]
    six = ["mine", "occlusion", "saliency", "smoothgrad", "gradientshap", "rise"]
    assert shown_at_once({name: methods[name] for name in six}) == six
    assert shown_at_once({name: methods[name] for name in [*six, "wam"]}) == ["mine", "rise"]
    classifier.no_gradient = "it has none"
    assert not {"saliency", "integratedgradients"} & {*offered(classifier, {"x": Loudest(classifier)}, "two")}


# ---- saving


def test_a_saved_run_is_an_ordinary_run(desk, tmp_path):
    part = desk.opened(name="My tones.wav")
    assert not desk.out.exists()
    keys = [desk.post(f"{part}/explain", {"method": method, "label": label}).json()["key"]
            for method, label in (("saliency", 1), ("loudest", 1), ("saliency", 0))]  # fmt: skip
    keys.append(desk.post(f"{part}/brush", {"regions": [MUTE_HIGH], "label": 0}).json()["key"])
    saved = desk.post("save", {"keys": keys}).json()
    assert saved["methods"] == ["saliency", "loudest", "saliency_low", "brush"]
    run = Run.read(desk.out)
    assert run.about["finished"] and run.about["kind"] == "interpret" and run.about["labels"] == ["low", "high"]
    assert list(run.scores["method"]) == saved["methods"] and list(run.scores["target"]) == [
        "high",
        "high",
        "low",
        "low",
    ]
    assert (run.scores["item_id"] == saved["item_id"]).all() and (run.scores["seconds"] > 0).all()
    folder = desk.out / "audio" / saved["item_id"]
    for name, key in zip(saved["methods"], keys):
        heard = samples_of(desk.get(f"made/{key}/interpretation.wav"))
        assert np.array_equal(soundfile.read(folder / f"{name}.wav", dtype="float32")[0], heard)
    (source,) = run.scores["source"].unique()
    assert Path(source).read_bytes() == wav() and Path(source).parent == desk.out / "inputs"
    # What was muted held the sound of "high"; what is left is "low", and nothing of "low" was muted.
    brush = run.scores.set_index("method").loc["brush"]
    assert brush["fidelity"] == 1 and brush["wav_fidelity"] == 1
    assert sorted(pd.read_csv(desk.out / "likeliest.csv")["label"]) == ["high", "low"]
    page = (desk.out / "report.html").read_text()
    assert "saliency_low" in page and "two tones" not in page
    assert main(["report", str(desk.out)]) == 0
    done = export_study([desk.out], tmp_path / "study", methods=["saliency", "loudest"], practice=0)
    assert done.trials == 1


def test_saving_again_adds_and_repeats_nothing(desk):
    parts = [desk.opened(name="a.wav"), desk.opened(data=wav(tones(1.0, 0.4, 0.1).numpy()), name="a.wav")]
    keys = [desk.post(f"{part}/explain", {"method": "loudest", "label": 0}).json()["key"] for part in parts]
    first = desk.post("save", {"keys": keys[:1]}).json()
    rows = (desk.out / "scores.csv").read_text()
    assert desk.post("save", {"keys": keys[:1]}).json() == first and (desk.out / "scores.csv").read_text() == rows
    second = desk.post("save", {"keys": keys[1:]}).json()
    assert second["item_id"] != first["item_id"] and second["methods"] == ["loudest"]  # another sound of that name
    brushes = [desk.post(f"{parts[0]}/brush", {"regions": [{**MUTE_HIGH, "low_hz": low}], "label": 0}).json()["key"]
               for low in (3000, 3100, 3200)]  # fmt: skip
    assert desk.post("save", {"keys": brushes}).json()["methods"] == ["brush", "brush_low", "brush_low_2"]
    refused(desk.post("save", {"keys": keys}), 400, "nothing to save")
    refused(desk.post("save", {"keys": []}), 400, "nothing to save")
    refused(desk.post("save", {"keys": [1]}), 400)
    assert len(Run.read(desk.out).scores) == 5


def test_a_file_of_the_user_is_not_copied_and_has_the_name_that_interpret_gives(desk, tmp_path):
    from audiointerp.evaluation.items import item_id_of

    path = tmp_path / "mine.wav"
    path.write_bytes(wav())
    sound = desk.bench.sounds.add_file(path)
    assert [each["name"] for each in desk.get("state").json()["sounds"]] == ["mine.wav"]
    made = desk.post(f"sounds/{sound.sound_id}/0/explain", {"method": "loudest", "label": 0}).json()
    assert desk.post("save", {"keys": [made["key"]]}).json()["item_id"] == item_id_of(path)
    assert Run.read(desk.out).scores["source"].item() == str(path) and not (desk.out / "inputs").exists()


def test_a_folder_with_other_things_is_refused_at_the_start(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        Archive(tmp_path, "two", "cpu", two_bands())
    Archive(tmp_path, "two", "cpu", two_bands(), force=True)


def test_time_that_an_explanation_took_is_written_down(desk):
    part = desk.opened()
    key = desk.post(f"{part}/explain", {"method": "loudest", "label": 0}).json()["key"]
    made = desk.bench.made(key)
    desk.bench._made.put(key, replace(made, seconds=12.5))
    desk.post("save", {"keys": [key]})
    assert Run.read(desk.out).scores["seconds"].item() == 12.5
