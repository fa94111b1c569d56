"""Makes the sounds, pictures and numbers of the site's gallery, from a synthetic sound and the shipped models.

    python docs/make_gallery.py build/gallery [METHOD ...]

A method that has an example in the folder is left alone, so that an interrupted run goes on. Methods that must be
trained and have no shipped model are trained for some minutes on the package's synthetic clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from torch import Tensor

import audiointerp
from audiointerp.__main__ import main as command
from audiointerp.contracts import Classifier, Interpretation, Interpreter, frozen
from audiointerp.datasets import make_synthetic
from audiointerp.interpreters import PIQ, Beside, MaskInterpreter, MostFaithful, catalogue
from audiointerp.results.writing import write_bytes, write_text
from audiointerp.sound.files import normalize_peak

RATE, SECONDS = 16000, 2.0
FILES = {"Input": "input", "Interpretation": "kept", "Rest": "rest"}
# Methods with weights of their own -> the shipped bundle.
TRAINED = {"piq": "esc10-piq", "l2i": "esc10-l2i"}
# Methods with weights of their own that are trained here -> their recipes.
TO_TRAIN = {name: name for name in ("explainer", "flint", "lmac", "rtis", "vibi")} | {"lmactd": "lmac_td"}
EPOCHS = 3
# The terms of FLINT's loss begin one after the other; its page of attributes is not needed here.
MORE = {"flint": {"epochs": 6, "attributes.steps": 0, "attributes.strongest": 1}}
BESIDE = {"randomcomponents": "l2i", "randomtiles": "vibi"}  # controls of one method only
# Synthetic classes -> what the shipped classifier takes such a sound for; others are left out.
LABELS = {"bark": "dog", "clock": "clock_tick", "rain": "rain"}
RECIPE = """<<: !include:{name}.yaml
clips: !name:audiointerp.datasets.relabel
    clips: !name:audiointerp.datasets.read_esc50
        folder: !ref <data_folder>
    labels: {labels}
"""


def synthetic_mixture() -> tuple[Tensor, Tensor]:
    """Ticks of a clock (short bursts at 3 kHz) over rain (low-passed noise), and the rain alone; each (1, samples)."""
    generator = np.random.default_rng(0)
    time = np.arange(round(SECONDS * RATE)) / RATE
    since = time % 0.5
    ticks = np.exp(-since / 0.006) * np.sin(2 * np.pi * 3000 * since)
    rain = np.convolve(generator.standard_normal(len(time)), np.hanning(5) / 2, "same")
    rain = 0.7 * rain / rain.std()
    sound = ticks / ticks.std() + rain
    scaled = [0.9 * each / np.abs(sound).max() for each in (sound, rain)]
    whole, stem = (torch.from_numpy(each.astype(np.float32))[None] for each in scaled)
    return whole, stem


def train(name: str, folder: Path) -> Interpreter:
    """A method trained by a recipe of this name for a few epochs on synthetic clips; made once, in the folder."""
    clips, labels, recipe = folder / "clips", folder / "labels.csv", folder / f"little_{name}.yaml"
    if not (clips / "meta").is_dir():
        make_synthetic(clips)
    known = pandas.read_csv(clips / "meta" / "esc50.csv")["category"].unique()
    write_text(labels, "".join(["class,label\n", *(f"{each},{LABELS.get(each, '')}\n" for each in known)]))
    write_text(recipe, RECIPE.format(name=name, labels=labels.resolve()))
    settings = {"data_folder": clips, "output_folder": folder, "classifier": "esc10-piq", "seed": 1, "device": "cpu"}
    settings |= {"epochs": EPOCHS, "lr": 0.002, "batch_size": 4, "seconds": SECONDS}
    settings |= {"train_folds": [1, 2, 3, 4], "test_folds": [5]}
    settings |= {"evaluation.clips": 1, "evaluation.mixtures": 0, "evaluation.figures": "false"}
    settings |= MORE.get(name, {})
    options = [str(text) for key, value in settings.items() for text in (f"--{key}", value)]
    if status := command(["run", str(recipe), *options]):
        raise SystemExit(status)
    return audiointerp.load(folder / f"little_{name}" / "1")


def made_by(name: str, models: dict[str, Any], folder: Path) -> Interpreter | None:
    """The method of a name for the shipped classifier; None if it cannot explain it."""
    if name in TRAINED:
        return models[TRAINED[name]]
    if name in TO_TRAIN:
        return train(TO_TRAIN[name], folder)
    piq: PIQ = models["esc10-piq"]
    kind = catalogue.kinds()[name]
    if name in BESIDE:
        beside = made_by(BESIDE[name], models, folder)
        assert isinstance(beside, MaskInterpreter)
        return kind(piq.classifier).beside(beside)
    try:
        method = catalogue.choose(piq, [name], "esc10-piq")[name]
    except (TypeError, ValueError):
        return None  # to be trained, or for classifiers of other kinds
    if isinstance(method, Beside) and not method.fits(piq):
        return None
    if isinstance(method, MostFaithful):
        method.among = {"piq": piq, "lime_nmf": catalogue.default_method(piq.classifier)}
    assert type(method) is kind
    return method


def probability(classifier: Classifier, sound: Tensor, made: Interpretation, index: int) -> float:
    """Of a class, on a sound at the level at which the input was classified."""
    with frozen(classifier), torch.no_grad():
        return float(classifier(sound * made.input_gain[:, None]).probabilities[0, index])


def example(name: str, method: Interpreter, sound: Tensor, rain: Tensor, folder: Path) -> dict[str, Any]:
    """Explains the sound, writes its files, and returns what the pages tell of it."""
    classifier = method.classifier
    stem = {"stem": rain} if method.needs_stem else {}
    made = method.interpret(sound, **stem)
    index = int(made.prediction.predicted[0])
    label = classifier.labels[index]
    signals = {"Input": sound, "Interpretation": made.waveform, "Rest": made.residual}
    files = {}
    for role, signal in signals.items():
        files[role] = f"{name}_{FILES[role]}.wav"
        audiointerp.write(folder / files[role], signal[0], classifier.sample_rate)
    files["figure"] = f"{name}.png"
    write_bytes(folder / files["figure"], made.plot()._repr_png_())
    has = LABELS.values() if name in TO_TRAIN else classifier.labels
    order = made.prediction.logits[0].argsort(descending=True).tolist()
    other = next(each for each in order if each != index and classifier.labels[each] in has)
    missing = float((made.waveform + made.residual - sound).abs().max())
    numbers = {
        f"probability of {label!r} on the input": probability(classifier, sound, made, index),
        "on the interpretation (should stay high)": probability(classifier, made.waveform, made, index),
        "on the rest (should fall)": probability(classifier, made.residual, made, index),
        "share of the input's energy that is kept": float(made.waveform.square().sum() / sound.square().sum()),
        "interpretation + rest - input (0 for a mask on the magnitude)": missing,
    }
    if made.mask is not None:
        asked = method.interpret(sound, other, **stem)
        assert asked.mask is not None
        differ = float((asked.mask - made.mask).abs().mean())
        numbers[f"mean difference to the mask for {classifier.labels[other]!r}"] = differ
    told = (
        f"A synthetic clock over synthetic rain, {SECONDS:g} s; the classifier of `esc10-piq` says {label!r}. "
        f"{settings_of(name, method)} Classifier passes for 5 s: {method.passes:,}."
    )
    return {"told": told, "files": files, "numbers": {text: f"{value:.3f}" for text, value in numbers.items()}}


def settings_of(name: str, method: Interpreter) -> str:
    """How the method of an example was made, in a sentence or two."""
    if name in TO_TRAIN or BESIDE.get(name) in TO_TRAIN:
        epochs = MORE.get(name, {}).get("epochs", EPOCHS)
        return (
            f"Trained for {epochs} epochs on 96 synthetic clips of 3 classes while this site was built, which is far "
            "too little: it shows what such an explanation sounds like, not how good one is."
        )
    if method.needs_stem:
        return "It is given the rain alone, which no method knows of a real recording."
    return "Settings: the method's defaults."


def main(folder: Path, names: list[str]) -> None:
    """Makes the examples of the named methods, of all if none is named."""
    sound, rain = synthetic_mixture()
    sound, gain = normalize_peak(sound)
    models = {name: audiointerp.load(name) for name in TRAINED.values()}
    index = folder / "gallery.json"
    done = json.loads(index.read_text()) if index.is_file() else {}
    for name in names or catalogue.kinds():
        method = None if name in done else made_by(name, models, folder / "trained")
        if method is None:
            continue
        print(f"{name} ...", flush=True)
        try:
            done[name] = example(name, method, sound, gain * rain, folder)
        except ValueError as error:  # such as Guided Grad-CAM on a classifier without its layers
            print(f"{name}: left out, {error}", flush=True)
            continue
        ordered = {each: done[each] for each in catalogue.kinds() if each in done}
        write_text(index, json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    given = parser.parse_args()
    main(given.folder, given.methods)
