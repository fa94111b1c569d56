"""The commands of the command line, one function each; `__main__` parses the arguments and reports errors.

Each command imports its modules when it is called, so that explaining one file does not wait for the imports of
training.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiointerp.processes.world import current
from audiointerp.results import folder as run_folder

DEFAULT_MODEL = "esc10-piq"  # of `explore`: ships with the package

if TYPE_CHECKING:
    from audiointerp.contracts import Classifier, Interpreter, Target
    from audiointerp.datasets import ClipDataset
    from audiointerp.evaluation.items import Item
    from audiointerp.runs.experiment import Described, Experiment
    from audiointerp.sound.files import AudioError

__all__ = [
    "check",
    "concept",
    "demo",
    "evaluate",
    "explore",
    "interpret",
    "layers",
    "listen",
    "mix",
    "recipes",
    "report",
    "run",
    "scenes",
]


def run(options: argparse.Namespace, rest: list[str]) -> int:
    """Trains and evaluates a recipe; prints the folder of the results."""
    from audiointerp import recipe
    from audiointerp.results.page import write_report
    from audiointerp.results.reading import Run
    from audiointerp.runs.experiment import Experiment

    overrides = recipe.parse_overrides(rest)
    experiments = (
        _rotated(options.recipe, overrides, options.allow)
        if options.rotate_folds
        else [Experiment(options.recipe, overrides, allow=options.allow)]
    )
    for experiment in experiments:
        folder = experiment.run()
        print(f"{folder}: {run_folder.describe_results(folder) or 'done'}; see {folder / 'report.html'}")

    def report_folds() -> None:
        if len(experiments) > 1 and not any(Run.read(each.folder).summary().empty for each in experiments):
            page = write_report([each.folder for each in experiments], experiments[0].folder.parent / "folds")
            print(f"all folds: {page}")

    current().once(report_folds)
    return 0


def _rotated(path: str, overrides: dict[str, str], allow: Sequence[str]) -> list[Experiment]:
    """One experiment per fold that the recipe names: each fold is the test fold once, the others train and validate."""
    from audiointerp.runs.experiment import Experiment

    values = Experiment(path, overrides, allow=allow).values
    folds = sorted({*values["train_folds"], *values["valid_folds"], *values["test_folds"]})
    held = len(values["valid_folds"])
    runs = []
    for place, fold in enumerate(folds):
        valid = [folds[(place - 1 - k) % len(folds)] for k in range(held)]
        train = [each for each in folds if each != fold and each not in valid]
        split = {"train_folds": train, "valid_folds": valid, "test_folds": [fold]}
        runs.append(Experiment(path, {**overrides, **{k: str(v) for k, v in split.items()}}, f"fold_{fold}", allow))
    return runs


def check(options: argparse.Namespace, rest: list[str]) -> int:
    """Lists every problem of a recipe and calls nothing that it names; the exit status is 2 if there is one."""
    from audiointerp import recipe
    from audiointerp.runs.experiment import Experiment

    Experiment(options.recipe, recipe.parse_overrides(rest), allow=options.allow)
    print(f"{options.recipe}: no problems")
    return 0


def recipes(options: argparse.Namespace, rest: list[str]) -> int:
    """Lists the recipes that come with the package, which `run` and `check` find by name from any folder."""
    from audiointerp.recipe import shipped

    known = shipped.names()
    width = max(map(len, known))
    print(f"in {shipped.folder()}:")
    for name, sentence in known.items():
        print(textwrap.fill(f"{name:{width}}  {sentence}", 120, subsequent_indent=" " * (width + 2)))
    return 0


def interpret(options: argparse.Namespace, rest: list[str]) -> int:
    """Explains audio files and folders; reports each file that cannot be explained and continues with the others."""
    from audiointerp.evaluation.explaining import Wanted
    from audiointerp.evaluation.explaining import evaluate as evaluate_items
    from audiointerp.evaluation.items import audio_files
    from audiointerp.sound.files import heard_errors

    if options.channel is not None and options.channel < 0:
        raise ValueError(f"--channel is {options.channel}; channels are counted from 0")
    files = audio_files(options.files)  # before the classifier, which takes seconds to load
    described = _described(options)
    methods = _methods(options) if described is None else _methods(options, described.classifier, described.methods)
    classifier = next(iter(methods.values())).classifier
    targets = _Targets(options.target or [], classifier)
    folder, text = options.output, described.text if described else ""
    inputs = [(path,) for path in files]
    _tell_cost(methods, len(files))
    info = current().once(lambda: _open(options, "interpret", classifier, inputs, text))
    failed: list[str] = []

    def refuse(error: ValueError) -> None:
        failed.append(str(error))
        with heard_errors():
            print(f"audiointerp: {error}", file=sys.stderr)

    items = _recordings(files, classifier.sample_rate, options.output_rate, options.channel)
    wanted = Wanted(
        targets=targets.of if targets.depend_on_recording else targets.of(()),
        likeliest=True,
        figures=not options.no_figures,
    )
    with _progress(len(files), "file") as step:
        evaluate_items(items, methods, folder, wanted, refuse, step)
    if len(failed) == len(files):
        return 2
    summary = f"{len(files) - len(failed)} of {len(files)} explained" + (f", {len(failed)} failed" if failed else "")

    def finish() -> int:
        _print_decisions(folder)
        return _finish(folder, info, summary, failed)

    return current().once(finish)


def _recordings(
    files: Sequence[Path], sample_rate: int, output_rate: str, channel: int | None
) -> Iterator[Item | AudioError]:
    """The item of each file, or why it cannot be read."""
    from audiointerp.evaluation.items import recording_item
    from audiointerp.sound.files import AudioError

    for path in files:
        try:
            yield recording_item(path, sample_rate, output_rate, channel)
        except AudioError as error:
            yield error


def concept(options: argparse.Namespace, rest: list[str]) -> int:
    """Tests whether a concept, given by folders of sounds, speaks for a class; prints a sentence for each layer."""
    from audiointerp.contracts import Classifier, Interpreter
    from audiointerp.interpreters.concepts.directions import check_draws
    from audiointerp.runs.registry import page_of
    from audiointerp.runs.tcav import asking
    from audiointerp.training.devices import pick_device

    if missing := [name for name in ("has", "lacks", "target") if not getattr(options, name)]:
        raise ValueError(f"concept needs --{missing[0]}; see audiointerp concept --help")
    asking.check_sets(options.has, options.lacks)
    model = _load(options.model, None, options.labels, options.allow)
    model = model.classifier if isinstance(model, Interpreter) else model
    if not isinstance(model, Classifier):
        raise ValueError(
            f"{options.model}: holds a {type(model).__name__}; name a classifier's or interpreter's bundle"
        )
    classifier = model.to(pick_device(options.device))
    question, name = asking.Question.of(options.target, classifier, ()), asking.concept_name(options.name, options.has)
    check_draws(options.draws)
    asking.check_layers(classifier, options.layer)
    sounds, has, lacks = (
        asking.read_sounds(paths, classifier, what)
        for paths, what in ((options.files, "recordings"), (options.has, "--has"), (options.lacks, "--lacks"))
    )
    existed = options.output.exists()
    folder = run_folder.prepare_output(options.output, options.force)
    # What decides on the result; the same command with other sounds or settings is another recipe.
    settings = {"name": name, "layer": options.layer, "draws": options.draws, "seed": options.seed}
    hashes = {what: asking.hash_of(each) for what, each in (("recordings", sounds), ("has", has), ("lacks", lacks))}
    text = "".join(f"# {key}: {value}\n" for key, value in {**settings, **hashes}.items())
    info = _start(options, folder, "tcav", classifier, scored=False, recipe_text=text)
    try:
        questions = [question._replace(sounds=sounds)]
        table, drawn = asking.ask(classifier, questions, has, lacks, options.layer, options.draws, options.seed)
    except ValueError:
        run_folder.abandon(folder)
        if not existed:
            folder.rmdir()
        raise
    asking.write(folder, name, table, drawn, {"has": has, "lacks": lacks}, classifier.sample_rate)
    page_of(folder)  # also here: a process that is killed after `finish` has left a page
    run_folder.finish(folder, info, results={})
    for row in table.to_dict("records"):
        print(asking.sentence({"name": name, **row}))
    print(f"see {page_of(folder)}")
    return 0


def _print_decisions(folder: Path, most: int = 10) -> None:
    """Prints the decision on each of the first recordings, and whether the interpretation alone is classified alike."""
    from audiointerp.results.reading import Run, is_true, read_likeliest
    from audiointerp.results.text import shown_target

    scores = Run.read(folder).scores
    several = scores["method"].nunique() > 1
    for row in scores.head(most).to_dict("records"):
        where = f" from {row['start_s']:g} s" if row["start_s"] else ""
        target = shown_target(row["target"])
        if math.isfinite(row.get("fidelity_argmax", math.nan)):
            verdict = "has" if row["fidelity"] else "does not have"
            verdict = f"{verdict} {target} among its likeliest labels"
        else:
            verdict = f"{'is' if row['fidelity'] else 'is not'} classified as {target}"
        decision = f"{row['predicted']} ({row['probability']:.2f})"
        by = f" by {row['method']}" if several else ""
        if is_true(row.get("silent")):
            print(f"{row['source']}{where}: {decision}; the interpretation{by} of {target} is silent")
            continue
        print(f"{row['source']}{where}: {decision}; the interpretation{by} alone {verdict}")
    if len(scores) > most:
        print(f"... and {len(scores) - most} more explanations in {folder / 'scores.csv'}")
    for item_id, found in read_likeliest(folder, most).items():
        source = scores.loc[scores["item_id"] == item_id, "source"]
        print(f"{source.iloc[0] if len(source) else item_id}: {', '.join(f'{name} {p:.2f}' for name, p in found)}")


def explore(options: argparse.Namespace, rest: list[str]) -> int:
    """Serves a page on this computer on which a person hears, sees and questions decisions; ends with Ctrl-C."""
    import secrets
    import tempfile
    import webbrowser

    from audiointerp.explore.saving import Archive
    from audiointerp.explore.server import make_app, serve
    from audiointerp.explore.workbench import Workbench, offered

    _sort_model_and_file(options)
    described = _described(options)
    model = described.classifier if described else _load(
        options.model, options.classifier, options.labels, options.allow
    )  # fmt: skip
    first = _methods(options, model, described.methods if described else None)
    methods = first if options.method else offered(model, first, str(options.model))
    _set_masks(options, methods)
    classifier = next(iter(methods.values())).classifier
    folder = options.output or Path("explored") / datetime.now().strftime("%Y-%m-%d_%H%M%S")
    text = described.text if described else ""
    archive = Archive(folder, str(options.model), options.device, classifier, text, options.force)
    token = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory(prefix="audiointerp-", ignore_cleanup_errors=True) as temporary:
        workbench = Workbench(methods, Path(temporary))
        for path in options.files:
            workbench.sounds.add_file(path)

        def tell(address: str) -> None:
            print(f"open {address}\nruns are saved to {folder}; Ctrl-C ends", flush=True)
            if options.browser and _has_screen():
                webbrowser.open(address)

        serve(make_app(workbench, archive, str(options.model), token), options.port, tell, workbench.ending)
    print("ended")
    return 0


def _has_screen() -> bool:
    """Whether a browser would open a window; without one, it would take over the terminal."""
    linux = sys.platform.startswith("linux")
    return not linux or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _sort_model_and_file(options: argparse.Namespace) -> None:
    """Makes `explore FILE` explain the file with the shipped model; finds the files of a folder."""
    from audiointerp.evaluation.items import audio_files
    from audiointerp.sound.files import SUFFIXES

    path = Path(options.model)
    if options.file is None and path.suffix.lower() in SUFFIXES and path.is_file():
        options.model, options.file = DEFAULT_MODEL, options.model
    options.files = audio_files([options.file]) if options.file else []
    if len(options.files) > 1:
        raise ValueError(f"{options.file}: is a folder; explore one sound, others are dropped on the page")


def mix(options: argparse.Namespace, rest: list[str]) -> int:
    """Writes mixtures, their stems and the table mixtures.csv."""
    from audiointerp.datasets import write_mixtures

    dataset = _dataset(options, None)
    folder = run_folder.prepare_output(options.output, options.force)
    gains = tuple(options.gains) if options.gains else None
    settings = {name: getattr(options, name) for name in ("items", "seed", "snr", "gains", "folds", "seconds")}
    text = "".join(f" --{name} {value}" for name, value in settings.items() if value is not None)
    info = run_folder.start(
        folder, f"# audiointerp mix {options.data}{text}\n", scored=False, kind="mix", name=folder.name
    )
    try:
        table = write_mixtures(dataset, folder, items=options.items, seed=options.seed, snr_db=options.snr, gains=gains)
    except ValueError:
        run_folder.abandon(folder)
        raise
    run_folder.finish(folder, info, results={})
    print(f"{options.items} mixtures: {table}")
    return 0


def scenes(options: argparse.Namespace, rest: list[str]) -> int:
    """Writes polyphonic scenes, their stems, and the tables scenes.csv and events.csv."""
    from audiointerp.datasets import SceneSettings, write_scenes

    names = ("items", "seed", "events", "event_seconds", "level", "noise", "folds", "seconds")
    text = "".join(f" --{name} {getattr(options, name)}" for name in names if getattr(options, name) is not None)
    settings = SceneSettings(
        options.items,
        options.seed,
        tuple(options.events),
        tuple(options.event_seconds),
        tuple(options.level),
        None if options.no_noise else options.noise,
    )
    dataset = _dataset(options, None)
    folder = run_folder.prepare_output(options.output, options.force)
    recipe = f"# audiointerp scenes {options.data}{text}{' --no_noise' if options.no_noise else ''}\n"
    info = run_folder.start(folder, recipe, scored=False, kind="scenes", name=folder.name)
    try:
        table = write_scenes(dataset, folder, settings)
    except ValueError:
        run_folder.abandon(folder)
        raise
    run_folder.finish(folder, info, results={})
    print(f"{options.items} scenes: {table}")
    return 0


def evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    """Scores a model on labelled clips, on mixtures or on scenes."""
    from audiointerp.contracts import Classifier
    from audiointerp.datasets import read_mixtures, read_scenes
    from audiointerp.evaluation.explaining import Wanted
    from audiointerp.evaluation.explaining import evaluate as evaluate_items
    from audiointerp.evaluation.items import clip_items, is_mixtures, is_scenes, mixture_items, scene_items

    for name in ("folds", "seconds"):
        if getattr(options, name) is not None and (is_mixtures(options.data) or is_scenes(options.data)):
            raise ValueError(f"--{name} is for labelled clips; {options.data} holds whole mixtures or scenes")
    # Also for mixtures and scenes, whose folders of earlier versions record it: they are still gone on with.
    options.seconds = 5.0 if options.seconds is None else options.seconds
    model = _load(options.model, options.classifier, options.labels, options.allow)
    if isinstance(model, Classifier) and options.method is None:
        return current().once(lambda: _evaluate_classifier(options, model))
    methods = _methods(options, model)
    classifier = next(iter(methods.values())).classifier
    mixtures = is_mixtures(options.data)
    if mixtures:
        items = mixture_items(options.data, classifier.sample_rate)
        inputs = [(each.mixture, each.base_stem, each.other_stem) for each in read_mixtures(options.data)]
    elif is_scenes(options.data):
        items = scene_items(options.data, classifier.sample_rate)
        inputs = [(each.scene, *(stem.stem for stem in each.stems)) for each in read_scenes(options.data)]
    else:
        dataset = _dataset(options, classifier)
        items, inputs = clip_items(dataset), [(Path(clip.name),) for clip in dataset.clips]
    folder = options.output
    _tell_cost(methods)
    info = current().once(lambda: _open(options, "evaluate", classifier, inputs))
    wanted = Wanted(other_class=tuple(methods) if mixtures else (), figures=not options.no_figures)
    with _progress(len(inputs), "item") as step:
        made = evaluate_items(items, methods, folder, wanted, done=step)
    return current().once(lambda: _finish(folder, info, f"{made} interpretations", []))


def _evaluate_classifier(options: argparse.Namespace, classifier: Classifier) -> int:
    from audiointerp.evaluation.accuracy import evaluate_classifier
    from audiointerp.results.page import write_report
    from audiointerp.training.devices import pick_device

    classifier = classifier.to(pick_device(options.device))
    dataset = _dataset(options, classifier)
    folder = run_folder.prepare_output(options.output, options.force)
    info = _start(options, folder, "classifier", classifier, scored=False)
    results = evaluate_classifier(classifier, dataset, folder, 16)
    run_folder.finish(folder, info, results=results)
    print(f"{folder}: {run_folder.describe_results(folder)}; see {write_report([folder])}")
    return 0


def layers(options: argparse.Namespace, rest: list[str]) -> int:
    """Lists a classifier's layers with their shapes for 1 s of sound, and which methods can read them."""
    from audiointerp.classifiers.layers import list_layers
    from audiointerp.contracts import Interpreter

    model = _load(options.model, labels=options.labels)
    classifier = model.classifier if isinstance(model, Interpreter) else model
    print(f"{'layer':<40} {'channel x freq x time of 1 s':<30} read by")
    for layer in list_layers(classifier):
        print(f"{layer.name:<40} {' x '.join(map(str, layer.shape)):<30} {layer.use}")
    return 0


def report(options: argparse.Namespace, rest: list[str]) -> int:
    """Writes the page of one run, or the comparison of several."""
    from audiointerp.results.page import write_report
    from audiointerp.runs.registry import page_of

    if len(options.runs) > 1 and options.output is None:
        raise ValueError("several runs need a folder for their comparison; give -o OUT")
    one = len(options.runs) == 1 and options.output is None
    print(page_of(options.runs[0]) if one else write_report(options.runs, options.output))
    return 0


def listen(options: argparse.Namespace, rest: list[str]) -> int:
    """Runs a subcommand of `audiointerp listen` (listening tests)."""
    from audiointerp.listening.commands import listen as listen_commands

    return listen_commands(options, rest) or 0


def demo(options: argparse.Namespace, rest: list[str]) -> int:
    """The whole chain on synthetic sounds: a first page by the shipped PIQ, then training, and the page of the new PIQ.

    The demo resumes in the folder of an interrupted demo; it refuses any other folder that is not empty.
    """
    from audiointerp.datasets import make_synthetic

    data = options.output / "data"
    going_on = (data / "meta" / "synthetic.json").is_file()
    run_folder.prepare_output(options.output, options.force or going_on)
    # Each line is flushed, so that a file shows it at once, too.
    print(f"1/4  synthesising ten classes of sound events into {data}", flush=True)
    make_synthetic(data, clips_per_class=40)
    print(f"2/4  explaining mixtures of them by {DEFAULT_MODEL}, which is trained on recordings", flush=True)
    first = _first_page(data, options.output / "first")
    print(f"first page, to open while the rest is made: {first}", flush=True)

    from audiointerp.recipe import shipped
    from audiointerp.results.page import write_report
    from audiointerp.runs.experiment import Experiment

    common = {"data_folder": str(data), "output_folder": str(options.output / "results")}
    print("3/4  training a classifier of the ten classes", flush=True)
    recipes = shipped.folder() / "esc50"
    classifier = Experiment(recipes / "demo_classifier.yaml", common)
    classifier.run()
    print("4/4  training PIQ to explain it, then explaining test clips and mixtures", flush=True)
    explainer = Experiment(recipes / "demo_piq.yaml", {**common, "classifier": str(classifier.folder)})
    explainer.run()
    print(f"{DEFAULT_MODEL}, to compare: {first}")
    print(f"open {write_report([explainer.folder])}")
    return 0


def _first_page(data: Path, folder: Path, mixtures: int = 3) -> Path:
    """The page of the shipped PIQ on mixtures of synthetic sounds whose classes its classifier knows, both explained.

    Args:
        data: the synthetic data.
        folder: the run folder; what is there already is not made again.
        mixtures: number of mixtures.
    """
    from audiointerp.bundles import bundle
    from audiointerp.datasets import ClipDataset, read_esc50, relabel
    from audiointerp.evaluation.explaining import Wanted
    from audiointerp.evaluation.explaining import evaluate as evaluate_items
    from audiointerp.evaluation.items import mixture_items
    from audiointerp.evaluation.made_mixtures import made_mixtures
    from audiointerp.results.page import write_report
    from audiointerp.results.tables import forget_damaged

    model = bundle.load(DEFAULT_MODEL)
    classifier = model.classifier
    clips = relabel(lambda: [clip for clip in read_esc50(data) if clip.fold == 5], "synthetic_to_esc10")
    dataset = ClipDataset(clips, classifier.labels, classifier.sample_rate)
    info = run_folder.start(
        folder,
        f"# audiointerp demo: {mixtures} mixtures by {DEFAULT_MODEL}\n",
        name=DEFAULT_MODEL,
        kind="evaluate",
        model=DEFAULT_MODEL,
        labels=list(classifier.labels),
        device="cpu",
    )
    for line in forget_damaged(folder):
        print(f"audiointerp: {line}", file=sys.stderr)
    table = made_mixtures(dataset, folder / "mixtures", folder, items=mixtures, seed=1, snr_db=0.0)
    for item in mixture_items(table, classifier.sample_rate):
        wanted = Wanted(target=classifier.labels.index(item.label), other_class=(DEFAULT_MODEL,))
        evaluate_items([item], {DEFAULT_MODEL: model}, folder, wanted)
    run_folder.finish(folder, info, results={})
    return write_report([folder])


def _load(model: str, classifier: str | None = None, labels: list[str] | None = None, allow: Sequence[str] = ()) -> Any:
    """Loads the model of a bundle, of a run, or of the finished run of a recipe; or a classifier by its name.

    Args:
        model: as given on the command line.
        classifier: name of the classifier of an interpreter's bundle that does not hold it.
        labels: class names of the classifier that is named, if it has none of its own.
        allow: packages that a recipe may name.
    """
    if labels and model.endswith((".yaml", ".yml")):
        raise ValueError(f"--labels is for classifiers by name; give {model} the key `labels` instead")
    if model.endswith((".yaml", ".yml")):
        from audiointerp.runs.experiment import load_any

        return load_any(model, allow=allow)
    from audiointerp.bundles import bundle

    if classifier is None:
        return bundle.load(model, labels=labels)
    return bundle.load(model, bundle.load(classifier, labels=labels))


def _described(options: argparse.Namespace) -> Described | None:
    """The classifier and methods of a recipe that trains nothing; None for any other model."""
    if not options.model.endswith((".yaml", ".yml")) or options.labels:
        return None
    from audiointerp.runs.experiment import described
    from audiointerp.training.devices import pick_device

    overrides = {"classifier": options.classifier} if options.classifier else {}
    return described(options.model, overrides, options.allow, pick_device(options.device))


def _methods(
    options: argparse.Namespace, model: Any = None, own: Mapping[str, Interpreter] | None = None
) -> dict[str, Interpreter]:
    """The interpreters to explain with, with the mask options --binary, --fill and --domain set.

    Args:
        options: of the command line.
        model: the model that they explain or are; None: loaded as `options.model` says.
        own: the methods of the recipe, unless --method names others.
    """
    from audiointerp.contracts import Classifier
    from audiointerp.interpreters.catalogue import choose
    from audiointerp.training.devices import pick_device

    device = pick_device(options.device)
    model = _load(options.model, options.classifier, options.labels, options.allow) if model is None else model
    given = ",".join(options.method or [])
    names = [name.strip() for name in given.split(",")] if options.method is not None else []
    if not all(names):
        raise ValueError(f"--method is {given!r}; give names of methods, separated by commas")
    methods = dict(own or {}) if not names else {}
    methods = methods or choose(model.to(device), names, str(options.model))
    if isinstance(model, Classifier) and not names and not own:
        name, method = next(iter(methods.items()))
        print(f"explained by {name}, {method.passes} passes of the classifier a clip: it needs no training; "
              "another method: --method", file=sys.stderr)  # fmt: skip
    _set_masks(options, methods)
    return methods


def _set_masks(options: argparse.Namespace, methods: Mapping[str, Interpreter]) -> None:
    """Applies --binary, --fill and --domain."""
    from audiointerp.interpreters import MaskInterpreter

    for method in methods.values():
        if isinstance(method, MaskInterpreter):
            method.binary, method.fill = method.binary or options.binary, method.fill or options.fill
            method.domain = options.domain or method.domain


def _tell_cost(methods: Mapping[str, Interpreter], clips: int | None = None) -> None:
    from audiointerp.interpreters.catalogue import describe_cost

    for line in describe_cost(methods, clips):
        print(line, file=sys.stderr)


class _Targets:
    """The targets of --target: each option by itself, "a+b" as one set, "top3" a recording's likeliest labels."""

    def __init__(self, texts: list[str], classifier: Classifier):
        from audiointerp.classifiers.targets import likeliest_count, parse_target

        self.classifier, self.texts = classifier, texts
        self.sets = {text: parse_target(text, classifier.labels) for text in texts if likeliest_count(text) is None}

    @property
    def depend_on_recording(self) -> bool:
        """Whether the recording's likeliest labels are explained."""
        return len(self.sets) < len(set(self.texts))

    def of(self, ranked: Sequence[int]) -> list[tuple[str, Target]]:
        """(suffix of the method's name, target) of each explanation of a recording with these labels, in this order."""
        import torch

        from audiointerp.classifiers.targets import likeliest_count, suffix_of

        if not self.texts:
            return [("", None)]
        sets: list[tuple[int, ...]] = []
        for text in self.texts:
            count = likeliest_count(text)
            sets += [self.sets[text]] if count is None else [(each,) for each in ranked[:count]]
        sets = list(dict.fromkeys(sets))
        labels = self.classifier.labels
        made = [torch.tensor([[number in each for number in range(len(labels))]]) for each in sets]
        if len(sets) == 1:
            return [("", made[0])]
        return [(suffix_of([labels[number] for number in each]), target) for each, target in zip(sets, made)]


def _dataset(options: argparse.Namespace, classifier: Classifier | None) -> ClipDataset:
    from audiointerp.datasets import ClipDataset, class_names, read_clips

    clips = read_clips(options.data)
    if options.folds:
        clips = [clip for clip in clips if clip.fold in options.folds]
        if not clips:
            raise ValueError(f"{options.data}: has no clips in folds {options.folds}")
    if classifier is None:
        several = any(len(clip.labels) > 1 for clip in clips)
        return ClipDataset(clips, class_names(clips), seconds=options.seconds, multilabel=several)
    return ClipDataset(clips, classifier.labels, classifier.sample_rate, options.seconds, classifier.multilabel)


def _start(
    options: argparse.Namespace,
    folder: Path,
    kind: str,
    classifier: Classifier,
    scored: bool = True,
    recipe_text: str = "",
) -> dict[str, Any]:
    # Options that change the rows already written; more files, folds or methods only add rows.
    decisive = {name: getattr(options, name, None) for name in ("output_rate", "seconds", "domain", "channel")}
    targets = getattr(options, "target", None) or []
    given = "".join(f" --target {text}" for text in ([targets] if isinstance(targets, str) else targets))
    given += "".join(f" --{name} {value}" for name, value in decisive.items() if value is not None)
    given += "".join(f" --{name}" for name in ("binary", "fill") if getattr(options, name, False))
    return run_folder.start(
        folder,
        f"# audiointerp {options.command} {options.model}{given}\n{recipe_text}",
        scored,
        name=folder.name,
        kind=kind,
        model=str(options.model),
        labels=list(classifier.labels),
        device=str(classifier.device),
    )


def _open(
    options: argparse.Namespace,
    kind: str,
    classifier: Classifier,
    inputs: Iterable[tuple[Path, ...]],
    recipe_text: str = "",
) -> dict[str, Any]:
    """Opens the output folder of `interpret` or `evaluate`; returns the contents of its run.json."""
    folder = run_folder.prepare_output(options.output, options.force)
    info = _start(options, folder, kind, classifier, recipe_text=recipe_text)
    _forget_damaged(folder, inputs)
    return info


def _forget_damaged(folder: Path, inputs: Iterable[tuple[Path, ...]]) -> None:
    """Forgets items whose files are damaged or replaced; `inputs` are the files of each item, first its source."""
    from audiointerp.results.tables import forget_damaged

    files = {str(source): [str(each) for each in more] for source, *more in inputs}
    for line in forget_damaged(folder, files):
        print(f"audiointerp: {line}", file=sys.stderr)


def _finish(folder: Path, info: dict[str, Any], summary: str, failed: list[str]) -> int:
    from audiointerp.results.page import write_report

    run_folder.finish(folder, info, results={}, failed=failed)
    print(f"{summary}; see {write_report([folder])}")
    return 0


@contextmanager
def _progress(total: int, unit: str) -> Iterator[Callable[[], object]]:
    """A progress bar, or a line a minute in a file; the function makes one step."""
    from audiointerp.training.progress import Progress

    with Progress(total, f"{unit}s") as progress:
        yield progress.step
