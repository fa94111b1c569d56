"""Bundles: folders with config.json, model.safetensors, metrics.json and README.md, made for sharing models.

Loading a bundle cannot run foreign code: it contains no pickle and no YAML tag, `type` must be in the `__all__` of
`audiointerp.classifiers`, `audiointerp.interpreters` or `audiointerp.sound.nmf`, and the hash of the weights is
checked.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_weights

from audiointerp import classifiers, interpreters
from audiointerp.classifiers import named
from audiointerp.contracts import Classifier, Interpreter, frozen
from audiointerp.interpreters.rde.inpainter import Inpainter
from audiointerp.results.shapes import misshapen
from audiointerp.sound import files as audio
from audiointerp.sound import nmf
from audiointerp.sound.nmf import NMF
from audiointerp.sound.spectrogram import STFT

FORMAT = 1
FILES = ("config.json", "model.safetensors", "metrics.json", "README.md")
# Errors that a constructor may raise for arbitrary values in a config.json.
UNFIT = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, StopIteration, TypeError, ValueError)
MODEL = {
    **{"type": str, "arguments": {str: (str, float, bool, None, list, dict)}, "classifier?": (dict, None)},
    **{"labels?": [str], "spectrogram?": {str: (int, str, float, bool)}, "expects?": dict, "source?": (str, None)},
}
CONFIG = {**MODEL, "format": int, "sha256": str}
# Annotations of arguments -> their shapes; arguments with others are checked by the constructors.
PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": None, "Sequence[int]": [int]}
PLAIN |= {"Sequence[str]": [str], "tuple[int, int]": [int], "tuple[float, float]": [float]}
MAX_SIZE, MAX_LAYERS = 10_000_000, 1000
BUILDABLE = {
    name: kind
    for home in (classifiers, interpreters, nmf)
    for name in home.__all__
    if isinstance(kind := getattr(home, name), type) and issubclass(kind, (Classifier, Interpreter, NMF, Inpainter))
}

__all__ = ["BundleError", "find", "load", "needs_classifier", "save", "start_from"]


class BundleError(ValueError):
    """A bundle that cannot be used; the message names the bundle and the reason."""


def save(
    model: Classifier | Interpreter | NMF | Inpainter,
    folder: str | Path,
    metrics: dict[str, Any] | None = None,
    card: str = "",
) -> Path:
    """Writes a bundle; the bundle of an interpreter also contains its classifier's weights.

    Args:
        model: a model of this package, with a `config` of plain values. An external classifier is never saved: the
            bundle of its interpreter does not contain it.
        folder: the folder to write; an existing bundle is replaced as a whole.
        metrics: scores for metrics.json.
        card: text of README.md, in Markdown.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = _weights(model)
    (aside / "model.safetensors").write_bytes(save_weights(weights))
    config = {"format": FORMAT, **_describe(model), "sha256": _sha256(aside / "model.safetensors")}
    (aside / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (aside / "metrics.json").write_text(json.dumps(metrics or {}, indent=2) + "\n")
    (aside / "README.md").write_text(card or f"# {type(model).__name__}\n")
    _replace(folder, aside)
    return folder


def load(path: str | Path, classifier: Classifier | None = None, labels: Sequence[str] | str | None = None) -> Any:
    """The classifier, interpreter, dictionary (NMF) or inpainter of a bundle, in evaluation mode.

    Args:
        path: a bundle's folder, a run folder (its best/), the name of a bundle that ships with the package, or a
            classifier's name such as "efficientat:mn04_as", see `audiointerp.classifiers.named`.
        classifier: the external classifier for which an interpreter's bundle was made; its labels, sample rate and
            feature-map shapes are checked.
        labels: class names, or a text file of them, for a classifier's name only: see `named.read_labels`.

    Raises:
        BundleError: if the path is not a bundle, a file was changed, or the classifier does not fit.
    """
    if named.is_named(path):
        return named.load_named(str(path), labels)
    if labels is not None:
        raise BundleError(f"{path}: has labels of its own; labels are given for a classifier's name only")
    folder = find(path)
    config = _read_config(folder)
    if classifier is None and config.get("classifier", 0) is None and isinstance(config.get("source"), str):
        classifier = _owners(folder, config)
    weights = _read_weights(folder, config)
    try:
        _check_sizes(config)
        if _is_larger(config, max((max(each.shape, default=0) for each in weights.values()), default=0)):
            _check_shapes(config, classifier, weights)
        model = _build(config, classifier)
        _load_weights(model, weights, owns_classifier=config.get("classifier") is not None)
    except UNFIT as error:
        *_, reason = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"config.json lacks {reason}" if isinstance(error, KeyError) else reason.strip()
        raise BundleError(f"{folder}: config.json and model.safetensors do not fit ({reason})") from None
    return model


def needs_classifier(path: str | Path) -> bool:
    """Whether a bundle holds an interpreter without its classifier, so that `load` must be given the classifier."""
    return not named.is_named(path) and "expects" in (config := _read_config(find(path))) and not config["classifier"]


def _owners(folder: Path, config: dict[str, Any]) -> Classifier:
    """Loads the classifier named in an interpreter's bundle; refuses names whose loading would run foreign code."""
    labels = config.get("source_labels")
    try:
        return named.load_named(config["source"], labels if isinstance(labels, list) else None, code=False)
    except ValueError as error:
        raise BundleError(f"{folder}: the classifier that it explains is not in the bundle: {error}") from None


def find(path: str | Path) -> Path:
    """The folder of a bundle: the given folder, its best/ if it is a run, or a bundle shipped with the package.

    Raises:
        BundleError: if there is no bundle.
    """
    path = Path(path)
    for folder in (path, path / "best"):
        if (folder / "config.json").is_file():
            return folder
    shipped = Path(str(resources.files("audiointerp") / "bundles"))
    if (shipped / path / "config.json").is_file() and len(path.parts) == 1:
        return shipped / path
    names = sorted(each.parent.name for each in shipped.glob("*/config.json"))
    what = "holds no bundle (config.json)" if path.exists() else "does not exist"
    known = f"one of those that ship with the package ({', '.join(names) or 'none'})"
    raise BundleError(f"{path}: {what}; give a bundle, a finished run that trained something, or {known}")


def start_from(classifier: Classifier, pretrained: Classifier, source: str) -> None:
    """Copies the encoder's weights from a pretrained classifier; the head is not changed.

    Raises:
        ValueError: if the encoders differ in shape.
    """
    try:
        classifier.encoder.load_state_dict(pretrained.encoder.state_dict())  # pyright: ignore
    except (AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"pretrained {source}: its encoder does not fit this classifier ({reason})") from None


def _describe(model: Any) -> dict[str, Any]:
    described = {"type": type(model).__name__, "arguments": model.config}
    if isinstance(model, Interpreter):
        inner = model.classifier
        described["classifier"] = _describe(inner) if inner.config else None
        described["expects"] = _expectations(inner)
        if inner.source and not inner.config:
            described["source"] = inner.source
            if inner.source_labels:
                described["source_labels"] = list(inner.source_labels)
    elif isinstance(model, Classifier):
        described |= {
            "labels": list(model.labels),
            "spectrogram": model.spectrogram.config,
            "resampler": audio.RESAMPLER,
        }
    return described


def _expectations(classifier: Classifier) -> dict[str, Any]:
    """The properties of its classifier that an interpreter depends on."""
    with frozen(classifier), torch.no_grad():
        maps = classifier(torch.zeros(1, classifier.sample_rate, device=classifier.device)).feature_maps
    return {
        "labels": list(classifier.labels),
        "sample_rate": classifier.sample_rate,
        "feature_maps_of_1_s": [list(each.shape[1:]) for each in maps],
    }


def _weights(model: Any) -> dict[str, torch.Tensor]:
    weights = {f"model.{name}": each for name, each in model.state_dict().items()}
    if isinstance(model, Interpreter) and model.classifier.config:
        weights |= {f"classifier.{name}": each for name, each in model.classifier.state_dict().items()}
    return {name: each.detach().cpu().contiguous() for name, each in weights.items()}


def _load_weights(model: Any, weights: dict[str, torch.Tensor], owns_classifier: bool) -> None:
    model.load_state_dict(_part(weights, "model."))
    if owns_classifier:
        model.classifier.load_state_dict(_part(weights, "classifier."))
        model.classifier.eval()
    model.eval()


def _part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}


def _check_sizes(config: dict[str, Any]) -> None:
    """Refuses arguments of another type than the model's constructor takes, and sizes that no model has.

    Raises:
        ValueError: naming the argument.
    """
    kind = BUILDABLE.get(config["type"])
    expected = inspect.signature(kind.__init__).parameters if kind else {}
    for name, value in config["arguments"].items():
        kinds = str(expected[name].annotation).split(" | ") if name in expected else []
        shapes = tuple(PLAIN[each] for each in kinds if each in PLAIN)
        if len(shapes) == len(kinds) > 0 and (problem := misshapen(value, shapes, name)):
            raise ValueError(problem)
        sizes = value if isinstance(value, list) else [value]
        whole = [each for each in sizes if isinstance(each, int) and not isinstance(each, bool)]
        least = -MAX_LAYERS if name in ("layer", "layers", "blocks") else 0
        if name != "seed" and (wrong := [each for each in whole if not least <= each <= MAX_SIZE]):
            raise ValueError(f"{name} is {wrong[0]}; it must be between {least} and {MAX_SIZE}")
        if len(sizes) > MAX_LAYERS and "str" not in " ".join(kinds):
            raise ValueError(f"{name} has {len(sizes)} values; at most {MAX_LAYERS} are possible")
    if problem := misshapen(config.get("spectrogram", {}), {str: int}, "spectrogram"):
        raise ValueError(problem)
    if isinstance(config.get("classifier"), dict):
        _check_sizes(config["classifier"])


def _is_larger(config: dict[str, Any], largest: int) -> bool:
    """Whether a size in config.json is above 1024 and above the largest size of the weights.

    Only then are shapes compared before the model is built: torch takes 2 s to get ready to build without memory.
    """
    sizes = [value for name, value in config["arguments"].items() if name not in ("seed", "sample_rate")]
    sizes = [each for value in sizes for each in (value if isinstance(value, list) else [value])]
    numbers = [each for each in sizes if isinstance(each, int)] + [len(sizes), len(config.get("labels") or [])]
    inner = config.get("classifier")
    return max(numbers) > max(1024, largest) or (inner is not None and _is_larger(inner, largest))


def _check_shapes(config: dict[str, Any], classifier: Classifier | None, weights: dict[str, torch.Tensor]) -> None:
    """Compares the shapes of the model that config.json describes, built without memory, with those of the weights.

    Raises:
        ValueError: naming a weight of another shape, before the memory of the described model is taken.
    """
    try:
        with torch.device("meta"):
            model = _build(config, classifier)
    except NotImplementedError:  # a constructor that computes with its weights
        return
    except RuntimeError:
        if classifier is None:
            raise
        return  # the external classifier has its weights on another device than this model
    described = {f"model.{name}": tuple(each.shape) for name, each in model.state_dict().items()}
    if config.get("classifier") is not None:
        described |= {f"classifier.{name}": tuple(each.shape) for name, each in model.classifier.state_dict().items()}
    for name, shape in described.items():
        found = tuple(weights[name].shape) if name in weights else None
        if found != shape:
            raise ValueError(f"{name} is {found or 'missing'} in model.safetensors, {shape} by config.json")


def _build(config: dict[str, Any], classifier: Classifier | None) -> Any:
    kind = BUILDABLE.get(config["type"])
    if kind is None:
        raise ValueError(f"type {config['type']!r} is unknown; known are {sorted(BUILDABLE)}")
    model: Any
    if issubclass(kind, Interpreter):
        inner: Any = classifier
        if config["classifier"] is not None:
            if classifier is not None:
                raise ValueError("it holds its own classifier; leave out classifier=")
            inner = _build(config["classifier"], None)
        elif classifier is None:
            raise ValueError("it explains an external classifier; give it: load(path, classifier=...)")
        elif (found := _expectations(classifier)) != config["expects"]:
            raise ValueError(f"the classifier is {found}, but the interpreter expects {config['expects']}")
        model = kind(inner, **config["arguments"])
    elif issubclass(kind, (NMF, Inpainter)):
        model = kind(**config["arguments"])
    else:
        model = kind(spectrogram=STFT(**config["spectrogram"]), **config["arguments"])
    if unknown := set(config["arguments"]) - set(model.config):
        raise ValueError(f"{kind.__name__} has no arguments {sorted(unknown)} in its config")
    return model


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{folder}/config.json: not readable ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise BundleError(f"{folder}/config.json: format is not {FORMAT}; made by another version or not a bundle")
    if problem := misshapen(config, CONFIG) or _misshapen_models(config):
        raise BundleError(f"{folder}: config.json and its format do not fit ({problem})")
    return config


def _misshapen_models(config: dict[str, Any]) -> str:
    """Why the description of a model, or of the classifier in it, does not have the shape of one."""
    inner = config.get("classifier")
    labels = config.get("labels")
    if labels is not None and len(set(labels)) < len(labels):
        return "labels has a name twice"
    return "" if inner is None else misshapen(inner, MODEL, "classifier") or _misshapen_models(inner)


def _read_weights(folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise BundleError(f"{path}: missing; copy the whole bundle again")
    if _sha256(path) != config.get("sha256"):
        raise BundleError(f"{path}: changed since the bundle was made (SHA-256 differs); copy it again from its source")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise BundleError(f"{path}: not a safetensors file ({error})") from None
    if broken := [name for name, each in weights.items() if not bool(torch.isfinite(each).all())]:
        raise BundleError(f"{path}: {broken[0]} has NaN or infinite weights; the training diverged, train it again")
    return weights


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(folder: Path, aside: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        if unknown := [each.name for each in folder.iterdir() if each.name not in FILES]:
            raise BundleError(f"{folder}: not overwritten, it holds {unknown[:3]}, which are not part of a bundle")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(aside, folder)
    shutil.rmtree(old, ignore_errors=True)  # also removes a leftover of a process killed between the two renames
