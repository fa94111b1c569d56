"""The command line: `audiointerp run | check | interpret | concept | explore | mix | scenes | evaluate | ...`.

Parsing needs no torch; each command is imported when it is called. An error that the user can correct is one line on
stderr and exit status 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

from audiointerp import __version__
from audiointerp.listening.commands import add_listen_parser
from audiointerp.processes.launching import LOST, RESUMES, launch
from audiointerp.processes.world import WORKER, LostProcess, ToldElsewhere, found, joined

NAMES = (
    "efficientat:NAME-OR-FILE, cnn14:FILE, hf:NAME-OR-FOLDER, hf-clap:NAME-OR-FOLDER (with --labels), "
    "python:package.module:function (runs your code)"
)

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = _parser().parse_known_args(arguments)
    debug = "--debug" in rest or options.debug
    rest = [each for each in rest if each != "--debug"]
    if rest and not options.takes_overrides:
        return _fail(f"{options.command} has no option {rest[0]!r}; see audiointerp {options.command} --help")
    if options.needs_output and options.output is None:
        return _fail(f"{options.command} needs -o OUT, a folder to write; see audiointerp {options.command} --help")
    # Log messages, such as the number of notes of each class, go to stderr so that stdout can be piped.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("audiointerp").setLevel(logging.INFO)
    try:
        return _call(options, rest, arguments)
    except KeyboardInterrupt:
        how = (
            "start it again with --force"
            if options.command in ("mix", "scenes")
            else "the same command resumes from here"
        )
        print(f"audiointerp: stopped; {how}", file=sys.stderr)
        return 130
    except ToldElsewhere:
        return 2
    except LostProcess as error:
        if debug:
            raise
        if WORKER not in os.environ:  # else the process that started this one reports what happened
            print(f"audiointerp: {_one_line(error)}; {RESUMES}", file=sys.stderr)
        return LOST
    except (ValueError, OSError) as error:
        if debug:
            raise
        return _fail(_one_line(error))


def _call(options: argparse.Namespace, rest: list[str], arguments: Sequence[str]) -> int:
    """Runs a command in this process, or in several processes that --devices, torchrun or srun starts."""
    world = found(os.environ)
    count: int | None = getattr(options, "devices", None)
    if world is not None and not options.divides:
        raise ValueError(f"{options.command} runs in one process, and {world.size} were started; start only one")
    if world is not None and count is not None and WORKER not in os.environ:
        raise ValueError(f"--devices starts processes, and {world.size} were started already; leave it out")
    if world is None and count is not None and count > 1:
        return launch(arguments, count)
    command = getattr(import_module("audiointerp.commands"), options.command)
    if world is None:
        return command(options, rest) or 0
    with ExitStack() as stack:
        if not world.first:  # the first one speaks for all; an error is told after this
            logging.getLogger("audiointerp").setLevel(logging.ERROR)
            silence = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(silence))
            stack.enter_context(redirect_stderr(silence))
        stack.enter_context(joined(world))
        return command(options, rest) or 0


def _fail(message: str) -> int:
    print(f"audiointerp: {message}", file=sys.stderr)
    return 2


def _one_line(error: Exception) -> str:
    """The error as one line of text; the problems of a recipe keep one line each."""
    if hasattr(error, "problems"):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        what = error.filename or "writing the results"
        return f"{what}: {error.strerror}; free some disk space and repeat the same command, it resumes from here"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'output'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """Refuses abbreviated options, so that `--data` never becomes `--data_folder`; errors are one line."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="audiointerp", description="Explains the decisions of audio classifiers with sounds.")
    parser.add_argument("--version", action="version", version=f"audiointerp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, help: str, takes_overrides: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(takes_overrides=takes_overrides, needs_output=False, divides=False)
        return sub

    run = command("run", "train and evaluate as a recipe states; resumes an interrupted run", takes_overrides=True)
    run.add_argument("--rotate_folds", action="store_true", help="one run per fold; each fold is the test fold once")
    check = command("check", "list every problem of a recipe without running it", takes_overrides=True)
    for each in (run, check):
        _add_recipe(each)
    _add_devices(run)
    command("recipes", "list the recipes that come with the package, which run and check find from any folder")
    _add_interpret(command("interpret", "explain recordings: writes WAVs, figures, scores and a page"))
    _add_concept(command("concept", "test whether a concept, given by sounds that have it, speaks for a class (TCAV)"))
    _add_explore(command("explore", "a page on this computer to hear, see and question the decision on a sound"))
    mix = command("mix", "mix pairs of clips of different classes; also writes the stems")
    mix.add_argument("data", metavar="DATA", help="a folder of ESC-50 or NSynth, or a clips.csv")
    _add_output(mix)
    mix.add_argument("--items", type=int, default=160, help="how many mixtures (default: %(default)s)")
    mix.add_argument(
        "--snr", type=float, default=0.0, help="level of the first clip above the second, in dB (default: %(default)s)"
    )
    mix.add_argument(
        "--gains",
        type=float,
        nargs=2,
        metavar=("BASE", "OTHER"),
        help="factors of the first (BASE) and second (OTHER) clip, each at unit norm, instead of --snr",
    )
    mix.add_argument("--folds", type=int, nargs="+", help="draw clips from these folds only")
    mix.add_argument("--seconds", type=float, default=5.0, help="length of a mixture (default: %(default)s)")
    mix.add_argument("--seed", type=int, default=0, help="the same seed gives the same mixtures")
    _add_scenes(command("scenes", "make scenes of several sounds at known times; also writes the stems and the times"))
    _add_evaluate(command("evaluate", "score an interpreter (or a classifier) on labelled clips, mixtures or scenes"))
    report = command("report", "write the page, tables and figures of a run, or compare several runs (mean and SD)")
    report.add_argument("runs", nargs="+", metavar="RUN", type=Path)
    report.add_argument("-o", "--output", type=Path, help="folder of the comparison (needed for several runs)")
    layers = command("layers", "list a classifier's layers, which Grad-CAM, PIQ, L2I and L-MAC can read")
    layers.add_argument("model", metavar="MODEL", help="a bundle, a run or a classifier by name")
    _add_labels(layers)
    add_listen_parser(command("listen", "listening tests: export, host, analyse, plan"))
    demo = command("demo", "the whole chain on synthetic sounds, from their synthesis to the page")
    demo.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write (default: %(default)s)")
    demo.add_argument("--force", action="store_true", help="write into a folder that is not empty")
    return parser


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a folder of ESC-50 or NSynth, or a clips.csv")
    _add_output(parser)
    limits = ("LOWEST", "HIGHEST")
    parser.add_argument("--items", type=int, default=40, help="how many scenes (default: %(default)s)")
    parser.add_argument(
        "--events", type=int, nargs=2, metavar=limits, default=(2, 3), help="sounds of a scene (default: 2 3)"
    )
    parser.add_argument(
        "--event_seconds",
        type=float,
        nargs=2,
        metavar=limits,
        default=(0.5, 1.5),
        help="length of the piece that is cut from a clip, in seconds (default: 0.5 1.5)",
    )
    parser.add_argument(
        "--level",
        type=float,
        nargs=2,
        metavar=limits,
        default=(-6.0, 0.0),
        help="level of a sound while it is active, in dB; only differences count (default: -6 0)",
    )
    parser.add_argument(
        "--noise", type=float, default=-30.0, help="level of the pink noise under it, in dB (default: %(default)s)"
    )
    parser.add_argument("--no_noise", action="store_true", help="no noise: silence between the sounds")
    parser.add_argument("--folds", type=int, nargs="+", help="draw clips from these folds only")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a scene (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same scenes")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="BUNDLE|RUN|RECIPE")
    parser.add_argument(
        "data", metavar="DATA", help="a folder of ESC-50 or NSynth, a clips.csv, mixtures.csv or scenes.csv"
    )
    _add_output(parser)
    _add_model_options(parser)
    parser.add_argument("--folds", type=int, nargs="+", help="use clips of these folds only")
    parser.add_argument("--seconds", type=float, help="length of clips (default: 5.0)")
    _add_devices(parser)


def _add_interpret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"a bundle (esc10-piq ships with the package), a run, a recipe, or a classifier by name: {NAMES}",
    )
    parser.add_argument("files", nargs="+", metavar="FILE|FOLDER", help="recordings of any sample rate and length")
    _add_output(parser)
    _add_model_options(parser)
    parser.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="class to explain by name or index (default: the predicted one; of a tagger all above 0.5 together); a+b: "
        "both together; top3: the three likeliest, each by itself; given several times: each by itself",
    )
    parser.add_argument(
        "--output_rate",
        choices=("model", "input"),
        default="model",
        help="sample rate of the WAVs (default: the model's)",
    )
    parser.add_argument(
        "--channel", type=int, metavar="N", help="channel of the recordings to explain, from 0 (default: their mean)"
    )
    _add_devices(parser)


def _add_concept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=f"a bundle, a run, or a classifier by name: {NAMES}")
    parser.add_argument(
        "files", nargs="+", metavar="FILE|FOLDER", help="recordings of the class, whose logit is asked about"
    )
    _add_output(parser)
    parser.add_argument("--has", nargs="+", metavar="FOLDER", help="sounds that have the concept (required)")
    parser.add_argument("--lacks", nargs="+", metavar="FOLDER", help="sounds that lack it, or random ones (required)")
    parser.add_argument("--target", metavar="CLASS", help="class by name or index; a+b: both together (required)")
    parser.add_argument("--name", help="the concept's name (default: the name of the first folder of --has)")
    parser.add_argument(
        "--layer", type=int, nargs="+", default=[-1], help="feature maps by index (default: the last, -1)"
    )
    parser.add_argument("--draws", type=int, default=30, help="random draws (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    _add_labels(parser)
    _add_allow(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")


def _add_explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default="esc10-piq",
        help=f"a bundle, a run, a recipe, or a classifier by name: {NAMES} (default: %(default)s, which ships with the "
        "package)",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="a recording; others are opened or recorded on the page"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="run folder for what is saved (default: explored/DATE_TIME)"
    )
    parser.add_argument("--force", action="store_true", help="add to a folder that is not empty")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--no_browser", dest="browser", action="store_false", help="print the address without opening a browser"
    )
    _add_model_options(parser, figures=False)


def _add_devices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--devices",
        type=_count,
        metavar="N",
        help="divide the work among N processes on this machine, each with a GPU or a part of the cores of its "
        "own; also by torchrun and srun, see docs/scale.md (default: one process)",
    )
    parser.set_defaults(divides=True)


def _count(text: str) -> int:
    """A number of processes."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; give 1 or more")
    return int(text)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    own = "RECIPE.yaml, or the name of one of the package, see `audiointerp recipes`"
    parser.add_argument("recipe", help=f"{own}; then any of its keys as --key value")
    _add_allow(parser)


def _add_allow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose classes and functions a recipe may name, besides audiointerp and torch",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    # Not `required`: argparse would report the missing -o before it reports a misspelt option.
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write (required)")
    parser.set_defaults(needs_output=True)
    parser.add_argument("--force", action="store_true", help="write into a folder that is not empty")


def _add_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="class names of a classifier by name, or a text file with one name a line; after the recordings",
    )


def _add_model_options(parser: argparse.ArgumentParser, figures: bool = True) -> None:
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAMES",
        help="methods by name, comma-separated, such as lime_nmf,gradcam,rise,integratedgradients; an unknown name "
        "lists them all; may be given several times (default: the bundle's own)",
    )
    parser.add_argument(
        "--classifier",
        metavar="NAME",
        help=f"of a bundle that was trained for a classifier by name: {NAMES}",
    )
    _add_labels(parser)
    _add_allow(parser)
    parser.add_argument("--binary", action="store_true", help="round masks at 0.5")
    parser.add_argument("--fill", action="store_true", help="leave removed bins at the noise floor, not at silence")
    parser.add_argument(
        "--domain",
        choices=("log_magnitude", "magnitude"),
        help="the quantity that masks multiply (default: the method's own)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")
    if figures:
        parser.add_argument("--no_figures", action="store_true", help="write no figures, which take most of the time")


if __name__ == "__main__":
    sys.exit(main())
