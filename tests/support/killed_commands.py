"""Commands small enough to be killed often, the data that they work on, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from cases import piq
from listening_runs import make_run
from three_classes import three_classes

from audiointerp.bundles import bundle
from audiointerp.results import folder as run_folder

# sha256 is of files without a time, which are compared as bytes; the recipe names the folder, so that its hash differs.
TIMES = ["seconds", "start", "end", "command", "git", "sha256", "recipe_hash"]
SECRET = "00112233" * 8  # of listening tests; drawn at random otherwise, and with it every blind name
RECIPE = """\
seed: 7
data_folder: !PLACEHOLDER
train_folds: [1, 2]
test_folds: [4]
output_folder: !PLACEHOLDER
device: cpu
batch_size: 4
seconds: 0.5
clips: !name:audiointerp.datasets.read_esc50
    folder: !ref <data_folder>
classifier: !PLACEHOLDER
"""
COMPARED = """\
methods:
    piq: !PLACEHOLDER
controls:
    loudest: !name:audiointerp.interpreters.Loudest
comparison: !new:audiointerp.runs.Comparison
    other_class: [piq]
    conditions:
        clean: !new:audiointerp.evaluation.CleanClips
            clips: 2
        mixtures: !new:audiointerp.evaluation.Mixtures
            count: 2
    subset:
        clean: 1
        mixtures: 1
"""
TRAINED = """\
epochs: 3
lr: 0.01
interpreter: !name:audiointerp.interpreters.PIQ
    codes: 20
    channels: 4
evaluation: !new:audiointerp.runs.Evaluation
    clips: 1
    mixtures: 1
    figures: false
"""


def make_root(folder: Path) -> Path:
    """Data of three classes, a classifier and a PIQ with random weights, recipes, and a run to make tests of."""
    classifier = three_classes(folder)
    bundle.save(classifier, folder / "classifier")
    bundle.save(piq(classifier, codes=20), folder / "piq")
    (folder / "compare.yaml").write_text(RECIPE + COMPARED)
    (folder / "train.yaml").write_text(RECIPE + TRAINED)
    make_run(folder / "explained", items=4, catch=1, seconds=1.0)
    return folder


def command_of(name: str, root: Path, out: Path) -> list[str]:
    """A command that writes into the folder `out`."""
    data = ["--data_folder", str(root / "data"), "--classifier", str(root / "classifier")]
    clips = [str(each) for each in sorted((root / "data" / "audio").glob("*.wav"))[:2]]
    return {
        "interpret": [
            "interpret",
            str(root / "piq"),
            *clips,
            "-o",
            str(out),
            "--method",
            "piq,loudest",
            "--no_figures",
        ],
        "export": ["listen", "export", str(root / "explained"), "-o", str(out)],
        "mix": ["mix", str(root / "data"), "-o", str(out), "--items", "2", "--seconds", "0.5"],
        "run": ["run", str(root / "train.yaml"), *data, "--output_folder", str(out)],
        "compare": [
            "run",
            str(root / "compare.yaml"),
            *data,
            "--output_folder",
            str(out),
            "--methods.piq",
            str(root / "piq"),
        ],
    }[name]


def end_state(folder: Path) -> dict[str, object]:
    """What a command left: file -> its content without times; of pages and tables as text, which hold times, names."""
    found: dict[str, object] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.name != run_folder.LOCK):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".csv":
            table = pd.read_csv(path)
            table = table[table.metric != "seconds"] if "metric" in table else table
            kept = table.drop(columns=[each for each in TIMES if each in table])
            found[name] = kept.to_csv(index=False).replace(str(folder), "")
        elif path.suffix == ".json":
            facts = json.loads(path.read_text())
            found[name] = (
                {key: value for key, value in facts.items() if key not in TIMES} if isinstance(facts, dict) else facts
            )
        elif path.suffix in (".html", ".ckpt", ".png", ".yaml", ".md", ".tex"):
            found[name] = None
        else:
            found[name] = path.read_bytes()
    return json.loads(json.dumps(found, default=lambda data: data.hex()).replace(folder.name, "OUT"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def state_of(name: str, out: Path) -> dict[str, object]:
    """What is compared: the files of a listening test whole, those of runs without their times; all files' names."""
    names: dict[str, object] = {str(each.relative_to(out)): "" for each in out.rglob("*")}
    return names | {**(files_of(out) if name == "export" else end_state(out))}


def prepared(name: str, out: Path) -> Path:
    """An output folder before its command: absent, but for the secret of a listening test."""
    if name == "export":
        (out / "private").mkdir(parents=True)
        (out / "private" / "secret.hex").write_text(f"{SECRET}\n")
    return out
