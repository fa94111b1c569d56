# ruff: noqa: E501
"""Damaged and hostile files: each kind of file that is read is mutated; a command ends with a result or with one line.

A seeded fuzzer (hypothesis, derandomized): 8 cases a kind, and 200 with `pytest -m slow`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import time
import warnings
from pathlib import Path

import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listening_runs import make_run

from audiointerp.__main__ import main
from audiointerp.listening.making.export import export_study

SECONDS = 10.0  # of processor time, most that a command may take
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "esc50"

HOSTILE = [
    "",
    " ",
    "0",
    "-1",
    "1e308",
    "-1e308",
    "nan",
    "inf",
    "9" * 5000,
    "../../x",
    "/etc/passwd",
    "=cmd|x",
    "x" * 140_000,
]
HOSTILE += ["null", "[]", "{}", "\x00", "\n", '"', ",", ";", "é", "\u202e", "🥁", "True", "1,5", "-", "a/b", "{", "["]
VALUES = [None, True, 0, -1, 1.5, 1e308, float("nan"), 10**400, "", "x", [], {}, [1], {"a": 1}, "../x", ["a", "a"]]

PIECES = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(
        st.just("put"), st.floats(0, 1), st.sampled_from([each.encode() for each in HOSTILE]) | st.binary(max_size=8)
    ),
    st.tuples(st.just("drop"), st.floats(0, 1), st.integers(1, 40).map(lambda n: b"x" * n)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.binary(min_size=1, max_size=1)),
)
CHANGES = st.one_of(
    st.tuples(st.just("bytes"), st.lists(PIECES, min_size=1, max_size=3)),
    st.tuples(st.just("cells"), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(HOSTILE)), min_size=1, max_size=3)),
    st.tuples(st.just("nodes"), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(VALUES)), min_size=1, max_size=2)),
    st.tuples(
        st.just("whole"), st.sampled_from([b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"[]", b"{}", b"3"])
    ),
)


def mutated(data: bytes, change) -> bytes:
    kind, steps = change
    if kind == "whole":
        return steps
    if kind == "cells" and b"," in data:
        rows = [line.split(b",") for line in data.split(b"\n")]
        places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
        for share, text in steps:
            i, j = places[int(share * (len(places) - 1))]
            rows[i][j] = text.encode()
        return b"\n".join(b",".join(row) for row in rows)
    if kind == "nodes":
        with contextlib.suppress(ValueError):
            return json.dumps(_with_nodes(json.loads(data), steps)).encode()
    if kind != "bytes":
        steps = [("put", share, str(value).encode()) for share, value in steps]
    for how, share, piece in steps:
        at = int(share * len(data))
        if how == "cut":
            data = data[:at]
        elif how == "put":
            data = data[:at] + piece + data[at:]
        elif how == "drop":
            data = data[:at] + data[at + len(piece) :]
        elif at < len(data):
            data = data[:at] + piece + data[at + 1 :]
    return data


def _with_nodes(value, steps):
    """JSON with some of its nodes replaced, or left out."""
    for share, new in steps:
        places = []

        def visit(node, places=places):
            for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                places.append((node, key))
                visit(node[key])

        visit(value)
        if places:
            owner, key = places[int(share * (len(places) - 1))]
            if new is None and isinstance(owner, dict):
                del owner[key]
            else:
                owner[key] = copy.deepcopy(new)  # a value put into itself would have no end
    return value


def ends_well(command, name, totals) -> None:
    """A command ends with a result, or with one line that a user understands; any exception fails the test."""
    out, errors = io.StringIO(), io.StringIO()
    start = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main([str(each) for each in command])
    took, lines = time.process_time() - start, errors.getvalue().strip().splitlines()
    assert took < SECONDS, f"{took:.1f} s"
    assert status in (0, 2), status
    if status == 2:
        told = [line for line in lines if line.startswith("audiointerp: ")]
        assert len(told) == 1 and "Traceback" not in errors.getvalue(), lines
        assert len(told[0]) > 20 and name in errors.getvalue(), lines
    totals[status] = totals.get(status, 0) + 1


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    """kind -> (the file that is mutated, its command, what a refusal names); other files stay as they are."""
    root = tmp_path_factory.mktemp("fuzz")
    run = root / "run"
    shutil.copytree(tiny.piq, run)
    listening = make_run(root / "listening")
    export_study([listening], root / "test", task="mos", practice=0)
    private = root / "test" / "private"
    study = json.loads((private / "study.json").read_text())
    rows = ["test_id,session_id,participant_code,task,trial_id,stimulus_id,answer"]
    trials = [{"type": "likert_multi_stimulus", "id": trial["trial_id"], "responses": []} for trial in study["trials"]]
    for person in range(3):
        for trial, of in zip(study["trials"], trials):
            for name in trial["stimuli"]:
                rows.append(f"{study['test_id']},s{person},p{person},mos,{trial['trial_id']},{name},{1 + person}")
                of["responses"].append({"stimulus": name, "stimulusRating": 3, "time": 1})
    (root / "answers.csv").write_text("\n".join(rows) + "\n")
    person = {"name": ["participant_code"], "response": ["p"]}
    payload = {"testId": study["test_id"], "participant": person, "trials": trials, "uuid": "u"}
    (root / "sessions.jsonl").write_text(json.dumps(payload) + "\n")
    wav = root / "a.wav"
    soundfile.write(wav, torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1, 16000)
    (root / "clips.csv").write_text("path,label,fold\na.wav,dog,1\na.wav,cat,2\n".replace("a.wav,cat", "b.wav,cat"))
    shutil.copy(wav, root / "b.wav")
    assert main(["mix", str(root / "clips.csv"), "-o", str(root / "m"), "--items", "1", "--seconds", "0.5"]) == 0
    esc = root / "esc"
    shutil.copytree(tiny.data, esc)
    (root / "r.yaml").write_text(f"<<: !include:{RECIPES / 'classifier.yaml'}\ndata_folder: {esc}\nseconds: 1.0\n")
    checkpoints = root / "trained"
    out, bundle = root / "out", run / "best"
    train = tiny.recipe("classifier", checkpoints)
    assert main(train) == 0
    analyse = ["listen", "analyse", "--key", private / "key.csv", "-o", out]
    evaluate = ["evaluate", tiny.classifier, "-o", out, "--device", "cpu"]
    return {
        "run.json": (run / "run.json", ["report", run], "run"),
        "scores.csv": (run / "scores.csv", ["report", run], "scores.csv"),
        "manifest.csv of a page": (run / "manifest.csv", ["report", run], "manifest.csv"),
        "manifest.csv of a test": (listening / "manifest.csv", ["listen", "export", listening, "-o", out], "manifest.csv"),
        "config.json": (bundle / "config.json", ["layers", bundle], "best"),
        "model.safetensors": (bundle / "model.safetensors", ["layers", bundle], "model.safetensors"),
        "study.json": (private / "study.json", [*analyse, root / "answers.csv"], "audiointerp"),
        "key.csv": (private / "key.csv", [*analyse, root / "answers.csv"], "audiointerp"),
        "answers.csv": (root / "answers.csv", [*analyse, root / "answers.csv"], "audiointerp"),
        "sessions.jsonl": (root / "sessions.jsonl", [*analyse, root / "sessions.jsonl"], "audiointerp"),
        "clips.csv": (root / "clips.csv", ["mix", root / "clips.csv", "-o", out, "--items", 1, "--seconds", 0.1], ""),
        "mixtures.csv": (root / "m" / "mixtures.csv", [*evaluate, root / "m" / "mixtures.csv", "--method", "loudest"], ""),
        "esc50.csv": (esc / "meta" / "esc50.csv", ["mix", esc, "-o", out, "--items", 1, "--seconds", 0.1], ""),
        "a.wav": (root / "a.wav", ["mix", root / "clips.csv", "-o", out, "--items", 1, "--seconds", 0.1], ""),
        "recipe": (root / "r.yaml", ["check", root / "r.yaml"], "audiointerp"),
        "last.ckpt": (checkpoints / "classifier" / "1234" / "checkpoints" / "last.ckpt", train, "audiointerp"),
    }, out  # fmt: skip


KINDS = [
    "run.json",
    "scores.csv",
    "manifest.csv of a page",
    "manifest.csv of a test",
    "config.json",
    "model.safetensors",
]
KINDS += ["study.json", "key.csv", "answers.csv", "sessions.jsonl", "clips.csv", "mixtures.csv", "esc50.csv", "a.wav"]
KINDS += ["recipe", "last.ckpt"]


def fuzz(files, kind, cases, record_property):
    every, out = files
    path, command, name = every[kind]
    assert set(every) == set(KINDS)
    valid, totals = path.read_bytes(), {}

    @settings(
        max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(CHANGES)
    def case(change):
        shutil.rmtree(out, ignore_errors=True)
        path.write_bytes(mutated(valid, change))
        ends_well(command, name, totals)

    try:
        shutil.rmtree(out, ignore_errors=True)
        unharmed: dict[int, int] = {}
        ends_well(command, name, unharmed)
        assert unharmed == {0: 1}  # the file as it was made is good
        case()
    finally:
        path.write_bytes(valid)
    record_property("results", totals.get(0, 0))
    record_property("refusals", totals.get(2, 0))
    print(f"{kind}: {totals.get(0, 0)} results, {totals.get(2, 0)} refusals")
    assert sum(totals.values()) >= min(cases, 6) and totals[2]  # damage was noticed


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_files(files, kind, record_property):
    fuzz(files, kind, 8, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(files, kind, record_property):
    fuzz(files, kind, 200, record_property)
