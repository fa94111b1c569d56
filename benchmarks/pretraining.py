"""The effect of a pretrained encoder: accuracy on ESC-10 after a few epochs, from each encoder and from scratch.

    python benchmarks/pretraining.py --esc10 ESC10 --nsynth NSYNTH -o OUT

Makes two folders in VGGSound's layout (10 s clips of the synthetic default data, one in twenty missing; notes in
NSynth's format with their family as label). Runs recipes/esc50/pretrain.yaml on each folder, then classifier.yaml from
each encoder, over seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np

from audiointerp.datasets import make_synthetic
from audiointerp.runs.experiment import Experiment

RECIPES = Path(__file__).parents[1] / "recipes" / "esc50"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--nsynth", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--channels", default="32")
    parser.add_argument("--epochs", default="10", help="epochs of the classifier")
    parser.add_argument("--pretrain_epochs", default="8")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    sources = {
        "the embedded default": (from_default(options.output / "default_as_vggsound"), "10.0"),
        "NSynth-format notes": (from_notes(options.nsynth, options.output / "notes_as_vggsound"), "4.0"),
    }
    common = {"channels": options.channels, "output_folder": str(options.output / "results")}
    encoders = {"nothing (from scratch)": None}
    for name, (folder, seconds) in sources.items():
        settings = {"data_folder": str(folder), "seconds": seconds, "epochs": options.pretrain_epochs, "seed": "1"}
        encoders[name] = pretrain({**common, **settings, "output_folder": str(options.output / folder.name)})
    print(
        f"| encoder pretrained on | its own test accuracy | ESC-10 fold 4, {options.epochs} epochs, per seed | mean |\n"
        "|---|---|---|---|"
    )
    for number, (name, encoder) in enumerate(encoders.items()):
        reached = []
        for seed in options.seeds:
            settings = {"data_folder": str(options.esc10), "epochs": options.epochs, "seed": str(seed)}
            settings["output_folder"] = str(options.output / f"classifier_{number}")
            if encoder:
                settings["pretrained"] = str(encoder)
            reached.append(accuracy(Experiment(RECIPES / "classifier.yaml", {**common, **settings}).run()))
        own = f"{accuracy(encoder):.3f}" if encoder else "-"
        print(
            f"| {name} | {own} | {', '.join(f'{each:.3f}' for each in reached)} | {np.mean(reached):.3f} |", flush=True
        )


def pretrain(settings: dict[str, str]) -> Path:
    return Experiment(RECIPES / "pretrain.yaml", settings).run()


def accuracy(run: Path) -> float:
    return json.loads((run / "run.json").read_text())["results"]["test_accuracy"]


def from_default(folder: Path) -> Path:
    """10 s clips of the synthetic default data in VGGSound's layout; every twentieth clip is listed but missing."""
    source = make_synthetic(folder.with_name("default_10s"), clips_per_class=40, seconds=10.0, seed=1)
    with open(source / "meta" / "esc50.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    clips = [
        (source / "audio" / row["filename"], row["category"], "test" if row["fold"] == "5" else "train") for row in rows
    ]
    return lay_out(folder, clips, missing_every=20)


def from_notes(nsynth: Path, folder: Path) -> Path:
    clips = []
    for part in ("train", "test"):
        split = nsynth / f"nsynth-{part}"
        for name, note in json.loads((split / "examples.json").read_text()).items():
            found = next((split / "audio").glob(f"{name}.*"))
            clips.append((found, note["instrument_family_str"], part))
    return lay_out(folder, clips)


def lay_out(folder: Path, clips: list[tuple[Path, str, str]], missing_every: int = 0) -> Path:
    if (folder / "vggsound.csv").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (path, label, part) in enumerate(clips):
        youtube_id = f"clip{number:07d}"
        rows.append([youtube_id, 0, label, part])
        if not missing_every or number % missing_every:
            shutil.copy(path, folder / f"{youtube_id}_000000{path.suffix}")
    with open(folder / "vggsound.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


if __name__ == "__main__":
    main()
