# ruff: noqa: E501
"""Damaged and hostile files: each kind of file that is read is mutated; a command ends with a result or with one line.

A seeded fuzzer (hypothesis, derandomized): 8 cases a kind, and 200 with `pytest -m slow`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from damage import fuzz
from listening_runs import make_run
from notes import make_notes

from audiointerp.__main__ import main
from audiointerp.listening.making.export import export_study

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "esc50"


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
    few = ["--items", 1, "--seconds", 0.5, "--event_seconds", 0.1, 0.2]
    assert main([str(each) for each in ("scenes", esc, "-o", root / "s", *few)]) == 0
    assert main(["listen", "texts", "-o", str(root / "texts.yaml")]) == 0
    notes = make_notes(root / "notes")
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
        "scenes.csv": (root / "s" / "scenes.csv", [*evaluate, root / "s" / "scenes.csv", "--method", "loudest"], ""),
        "events.csv": (root / "s" / "events.csv", [*evaluate, root / "s" / "scenes.csv", "--method", "loudest"], ""),
        "texts.yaml": (root / "texts.yaml", ["listen", "export", listening, "-o", out, "--texts", root / "texts.yaml"], "texts.yaml"),
        "examples.json": (notes / "nsynth-test" / "examples.json", ["mix", notes, "-o", out, "--items", 1, "--seconds", 0.1], ""),
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
KINDS += ["scenes.csv", "events.csv", "texts.yaml", "examples.json", "recipe", "last.ckpt"]


def damaged(files, kind, cases, record_property):
    every, out = files
    path, command, name = every[kind]
    assert set(every) == set(KINDS)
    totals = fuzz(path, command, name, cases, before=lambda: shutil.rmtree(out, ignore_errors=True))
    record_property("results", totals.get(0, 0))
    record_property("refusals", totals.get(2, 0))
    print(f"{kind}: {totals.get(0, 0)} results, {totals.get(2, 0)} refusals")
    assert totals[2]  # damage was noticed


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_files(files, kind, record_property):
    damaged(files, kind, 8, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(files, kind, record_property):
    damaged(files, kind, 200, record_property)
