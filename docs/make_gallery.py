"""Makes the sounds, pictures and numbers of the site's gallery, from a synthetic sound and the shipped models.

    python docs/make_gallery.py build/gallery [METHOD ...]

A method that has an example in the folder is left alone, so that an interrupted run goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import audiointerp
from audiointerp.contracts import Classifier, Interpretation, Interpreter, frozen
from audiointerp.interpreters import PIQ, Beside, MostFaithful, catalogue
from audiointerp.results.writing import write_bytes, write_text
from audiointerp.sound.files import normalize_peak

RATE, SECONDS = 16000, 2.0
FILES = {"Input": "input", "Interpretation": "kept", "Rest": "rest"}
# Methods with weights of their own -> the shipped bundle.
TRAINED = {"piq": "esc10-piq", "l2i": "esc10-l2i"}


def synthetic_mixture() -> Tensor:
    """Ticks of a clock over rain, (1, samples): short bursts at 3 kHz, twice a second, and low-passed noise."""
    generator = np.random.default_rng(0)
    time = np.arange(round(SECONDS * RATE)) / RATE
    since = time % 0.5
    ticks = np.exp(-since / 0.006) * np.sin(2 * np.pi * 3000 * since)
    rain = np.convolve(generator.standard_normal(len(time)), np.hanning(5) / 2, "same")
    sound = ticks / ticks.std() + 0.7 * rain / rain.std()
    return torch.from_numpy((0.9 * sound / np.abs(sound).max()).astype(np.float32))[None]


def made_by(name: str, models: dict[str, Any]) -> Interpreter | None:
    """The method of a name for the shipped classifier; None if it cannot explain it without more than the sound."""
    if name in TRAINED:
        return models[TRAINED[name]]
    piq: PIQ = models["esc10-piq"]
    kind = catalogue.kinds()[name]
    try:
        method = catalogue.choose(piq, [name], "esc10-piq")[name]
    except (TypeError, ValueError):
        return None  # to be trained, or for classifiers of other kinds
    if method.needs_stem or (isinstance(method, Beside) and not method.fits(piq)):
        return None
    if isinstance(method, MostFaithful):
        method.among = {"piq": piq, "lime_nmf": catalogue.default_method(piq.classifier)}
    assert type(method) is kind
    return method


def probability(classifier: Classifier, sound: Tensor, made: Interpretation, index: int) -> float:
    """Of a class, on a sound at the level at which the input was classified."""
    with frozen(classifier), torch.no_grad():
        return float(classifier(sound * made.input_gain[:, None]).probabilities[0, index])


def example(name: str, method: Interpreter, sound: Tensor, folder: Path) -> dict[str, Any]:
    """Explains the sound, writes its files, and returns what the pages tell of it."""
    classifier = method.classifier
    made = method.interpret(sound)
    index = int(made.prediction.predicted[0])
    label = classifier.labels[index]
    signals = {"Input": sound, "Interpretation": made.waveform, "Rest": made.residual}
    files = {}
    for role, signal in signals.items():
        files[role] = f"{name}_{FILES[role]}.wav"
        audiointerp.write(folder / files[role], signal[0], classifier.sample_rate)
    files["figure"] = f"{name}.png"
    write_bytes(folder / files["figure"], made.plot()._repr_png_())
    other = int(made.prediction.logits[0].topk(2).indices[1])
    missing = float((made.waveform + made.residual - sound).abs().max())
    numbers = {
        f"probability of {label!r} on the input": probability(classifier, sound, made, index),
        "on the interpretation (should stay high)": probability(classifier, made.waveform, made, index),
        "on the rest (should fall)": probability(classifier, made.residual, made, index),
        "share of the input's energy that is kept": float(made.waveform.square().sum() / sound.square().sum()),
        "interpretation + rest - input (0 for a mask on the magnitude)": missing,
    }
    if made.mask is not None:
        asked = method.interpret(sound, other)
        assert asked.mask is not None
        differ = float((asked.mask - made.mask).abs().mean())
        numbers[f"mean difference to the mask for {classifier.labels[other]!r}"] = differ
    told = (
        f"A synthetic clock over synthetic rain, {SECONDS:g} s; the classifier of `esc10-piq` says {label!r}. "
        f"Settings: the method's defaults. Classifier passes for 5 s: {method.passes:,}."
    )
    return {"told": told, "files": files, "numbers": {text: f"{value:.3f}" for text, value in numbers.items()}}


def main(folder: Path, names: list[str]) -> None:
    """Makes the examples of the named methods, of all if none is named."""
    sound, _ = normalize_peak(synthetic_mixture())
    models = {name: audiointerp.load(name) for name in TRAINED.values()}
    index = folder / "gallery.json"
    done = json.loads(index.read_text()) if index.is_file() else {}
    for name in names or catalogue.kinds():
        method = None if name in done else made_by(name, models)
        if method is None:
            continue
        print(f"{name} ...", flush=True)
        try:
            done[name] = example(name, method, sound, folder)
        except ValueError as error:  # such as Guided Grad-CAM on a classifier without its layers
            print(f"{name}: left out, {error}", flush=True)
            continue
        ordered = {each: done[each] for each in catalogue.kinds() if each in done}
        write_text(index, json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
