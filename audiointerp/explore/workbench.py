"""What the page asks: predictions, explanations and brushed sounds of the parts of sounds, and saving them as a run."""

from __future__ import annotations

import hashlib
import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from audiointerp.contracts import Classifier, Interpretation, Interpreter, Prediction, frozen
from audiointerp.evaluation.judging import hear
from audiointerp.explore.regions import Brush, Region
from audiointerp.explore.sounds import Missing, OpenedSound, Sounds
from audiointerp.explore.stopping import Stopped, limited
from audiointerp.interpreters import LIME, RandomComponents, controls
from audiointerp.interpreters.catalogue import DEFAULT, choose, kinds
from audiointerp.metrics.faithfulness import target_probability
from audiointerp.sound.files import normalize_peak

LIMIT_SECONDS = 300.0  # of one explanation
MOST_WAITING = 20  # requests that wait for the classifier; more are refused
KEPT_VIEWS, KEPT_MADE = 6, 40  # in memory; what is dropped is computed again when it is asked for
MOST_RECIPES = 10_000  # of explanations that can be computed again
BRUSH = "brush"
OFTEN = (DEFAULT, "rise", "gradcam", "integratedgradients")  # shown at once; the page has the others behind a click
FEW = 6  # methods that are all shown at once

Value = TypeVar("Value")

__all__ = ["BRUSH", "Busy", "Made", "View", "Workbench", "is_control", "offered", "shown_at_once"]


class Busy(RuntimeError):
    """Too many requests wait for the classifier."""


@dataclass(frozen=True)
class View:
    """A part of a sound as the classifier takes it.

    Attributes:
        sound, part: which part of which sound.
        waveform: (1, samples), at the file's level.
        stft: complex, (1, freq, time), of the waveform at peak 1.
        prediction: for the waveform at peak 1.
        pass_seconds: duration of that prediction.
    """

    sound: OpenedSound
    part: int
    waveform: Tensor
    stft: Tensor
    prediction: Prediction
    pass_seconds: float


@dataclass(frozen=True)
class Made:
    """An explanation of a label by a method, or what a brush left of the sound.

    Attributes:
        key: by which the page names it.
        view: the part of a sound.
        method: name of the method, or "brush".
        label: index of the label.
        regions: of the brush.
        interpretation: sound, rest and mask.
        alone, without: the classifier's predictions for the sound that was kept, and for the rest.
        seconds: computing time of the interpretation.
    """

    key: str
    view: View
    method: str
    label: int
    regions: tuple[Region, ...]
    interpretation: Interpretation
    alone: Prediction
    without: Prediction
    seconds: float

    def probability(self, heard: Prediction) -> float:
        """Probability of the label in a prediction."""
        return float(target_probability(heard.probabilities, self.interpretation.target)[0])


class _Shelf(Generic[Value]):
    """The most recently used values by key."""

    def __init__(self, most: int):
        self.most, self._values, self._lock = most, OrderedDict[Any, Value](), threading.Lock()

    def find(self, key: Any) -> Value | None:
        """The value of a key, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Any, value: Value) -> Value:
        """Keeps a value instead of the one that was unused for longest."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self.most:
                self._values.popitem(last=False)
        return value


def offered(model: Classifier | Interpreter, first: Mapping[str, Interpreter], source: str) -> dict[str, Interpreter]:
    """The given methods, then every other one that can be made for the model's classifier without training.

    Oracle controls, which need a known stem, and methods whose gradients cannot reach the sound are left out.

    Args:
        model: the classifier or trained interpreter.
        first: methods to offer first.
        source: the model as the user named it, for messages.
    """
    methods = dict(first)
    classifier = next(iter(first.values())).classifier
    for name, kind in sorted({**kinds(), DEFAULT: LIME}.items()):
        hopeless = classifier.no_gradient is not None and getattr(kind, "needs_gradient", False)
        if name in methods or kind.needs_stem is True or hopeless:
            continue
        needed = [each.name for each in _required(kind)]
        if needed != ["classifier"]:
            continue
        try:
            methods |= choose(model, [name], source)
        except ValueError:  # must be trained, or is for other classifiers; the message of --method says which
            continue
    return methods


def shown_at_once(methods: Mapping[str, Interpreter]) -> list[str]:
    """Names of the methods that the page offers without a click: the first, and of more than six the usual ones."""
    first, *others = methods
    explaining = [name for name in others if not is_control(methods[name])]
    return [first, *(name for name in explaining if len(explaining) < FEW or name in OFTEN)]


def is_control(method: Interpreter) -> bool:
    """Whether a method is a control, which explains nothing: such as the loudest bins, or all of them."""
    return isinstance(method, (RandomComponents, *(getattr(controls, name) for name in controls.__all__)))


def _required(kind: type) -> list[inspect.Parameter]:
    parameters = inspect.signature(kind).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each for each in parameters if each.default is inspect.Parameter.empty and each.kind not in variable]


class Workbench:
    """A classifier, methods that explain it, and the sounds that a person opened.

    One computation runs at a time, since methods put hooks into the classifier; others wait for it.

    Args:
        methods: name -> interpreter, the default first; all of the same classifier.
        folder: a temporary folder for uploaded sounds, which exists.
    """

    def __init__(self, methods: Mapping[str, Interpreter], folder: Path):
        self.methods = dict(methods)
        self.classifier = next(iter(self.methods.values())).classifier
        self.sounds = Sounds(folder, self.classifier.sample_rate)
        self._views: _Shelf[View] = _Shelf(KEPT_VIEWS)
        self._made: _Shelf[Made] = _Shelf(KEPT_MADE)
        self._recipes: OrderedDict[str, tuple[str, int, str, int, tuple[Region, ...]]] = OrderedDict()
        self._turn = threading.Lock()
        self._waiting = 0
        self._cold = True
        self.ending = threading.Event()

    def open(self, data: bytes, name: str) -> OpenedSound:
        """Opens an uploaded sound; see `Sounds.add`."""
        with self.alone(threading.Event()):
            return self.sounds.add(data, name)

    def view(self, sound_id: str, part: int) -> View:
        """A part of a sound with its prediction.

        Raises:
            Missing: if the sound is not open or has no such part.
            ValueError: if it cannot be read, or the classifier returns NaN.
        """
        known = self._views.find((sound_id, part))
        if known is not None:
            return known
        with self.alone(threading.Event()):
            return self._view(sound_id, part)

    def explain(self, sound_id: str, part: int, method: str, label: int, stop: threading.Event) -> Made:
        """Explains a label of a part with a method.

        Args:
            sound_id, part: the part of a sound.
            method: a name of `methods`.
            label: index of the label.
            stop: set to end the computation.

        Raises:
            Missing: for a sound, part, method or label that does not exist.
            ValueError: if the method cannot explain this classifier or sound.
            Stopped: after `LIMIT_SECONDS`, or when stopped.
        """
        if method not in self.methods:
            raise Missing(f"method {method!r} is not offered; choose from {', '.join(self.methods)}")
        return self._make((sound_id, part, method, self._checked(label), ()), stop)

    def brush(self, sound_id: str, part: int, regions: Sequence[Region], label: int, stop: threading.Event) -> Made:
        """What is left of a part when regions are muted or kept, and how it is classified; raises as `explain`."""
        return self._make((sound_id, part, BRUSH, self._checked(label), tuple(regions)), stop)

    def made(self, key: str) -> Made:
        """An explanation or brush by its key; computed again if it was dropped from memory.

        Raises:
            Missing: if there is none.
        """
        if key not in self._recipes:
            raise Missing("this explanation is no longer known; explain the label again")
        return self._make(self._recipes[key], threading.Event())

    @contextmanager
    def alone(self, stop: threading.Event) -> Iterator[None]:
        """Context in which this thread alone uses the classifier, for at most `LIMIT_SECONDS`.

        Args:
            stop: set to end the computation.

        Raises:
            Busy: if too many others wait.
            Stopped: when stopped, while waiting or at the next pass of a layer.
        """
        if self._waiting >= MOST_WAITING:
            raise Busy("too many requests wait for the classifier; wait a moment and try again")
        self._waiting += 1
        try:
            while not self._turn.acquire(timeout=0.1):
                if stop.is_set() or self.ending.is_set():
                    raise Stopped("the explanation was stopped")
        finally:
            self._waiting -= 1
        try:
            with limited(LIMIT_SECONDS, stop), limited(LIMIT_SECONDS, self.ending):
                yield
        finally:
            self._turn.release()

    def _checked(self, label: int) -> int:
        if not 0 <= label < len(self.classifier.labels):
            raise Missing(f"label {label} does not exist; there are {len(self.classifier.labels)}, counted from 0")
        return label

    def _view(self, sound_id: str, part: int) -> View:
        key = (sound_id, part)
        return self._views.find(key) or self._views.put(key, self._look(sound_id, part))

    @torch.no_grad()
    def _look(self, sound_id: str, part: int) -> View:
        sound = self.sounds.get(sound_id)
        waveform = self.sounds.read(sound, part).to(self.classifier.device)
        scaled, _ = normalize_peak(waveform)
        with frozen(self.classifier) as classifier:
            if self._cold:  # a first pass takes longer than others
                classifier(scaled)
                self._cold = False
            start = time.perf_counter()
            prediction = classifier(scaled)
            return View(sound, part, waveform, classifier.spectrogram(scaled), prediction, time.perf_counter() - start)

    def _make(self, recipe: tuple[str, int, str, int, tuple[Region, ...]], stop: threading.Event) -> Made:
        key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:24]
        made = self._made.find(key)
        if made is None:
            with self.alone(stop):
                made = self._made.find(key) or self._made.put(key, self._compute(key, recipe))
        self._recipes[key] = recipe
        while len(self._recipes) > MOST_RECIPES:
            self._recipes.popitem(last=False)
        return made

    def _compute(self, key: str, recipe: tuple[str, int, str, int, tuple[Region, ...]]) -> Made:
        sound_id, part, method, label, regions = recipe
        view = self._view(sound_id, part)
        interpreter = Brush(self.classifier, regions) if method == BRUSH else self.methods[method]
        target = torch.tensor([[number == label for number in range(len(self.classifier.labels))]])
        start = time.perf_counter()
        made = interpreter.interpret(view.waveform, target)
        seconds = time.perf_counter() - start
        alone, without = hear(made.waveform, made.residual, made.input_gain, self.classifier)
        return Made(key, view, method, label, regions, made, alone, without, seconds)
