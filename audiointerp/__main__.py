"""The command line: `audiointerp run | check | interpret | mix | evaluate | report | listen | demo`.

Parsing needs no torch; each command is imported when it is called. What the user can mend is one line on stderr and
exit status 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import argparse
import errno
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from audiointerp import __version__
from audiointerp.listening.commands import add_listen_parser

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
    # What readers and runs have to tell, such as the notes of each class; on stderr, so that output can be piped.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("audiointerp").setLevel(logging.INFO)
    try:
        commands = import_module("audiointerp.commands")
        return getattr(commands, options.command)(options, rest) or 0
    except KeyboardInterrupt:
        how = "start it again with --force" if options.command == "mix" else "the same command goes on from here"
        print(f"audiointerp: stopped; {how}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if debug:
            raise
        return _fail(_one_line(error))


def _fail(message: str) -> int:
    print(f"audiointerp: {message}", file=sys.stderr)
    return 2


def _one_line(error: Exception) -> str:
    """A recipe's problems keep their lines; anything else becomes one."""
    if hasattr(error, "problems"):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        what = error.filename or "writing the results"
        return f"{what}: {error.strerror}; make room and give the same command again, it goes on from here"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'output'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """Never completes abbreviated options: `--data` must not become something else; one line on errors."""

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
        sub.set_defaults(takes_overrides=takes_overrides, needs_output=False)
        return sub

    run = command("run", "train and evaluate as a recipe says; goes on where it was stopped", takes_overrides=True)
    run.add_argument("recipe", help="RECIPE.yaml, then any of its keys as --key value")
    run.add_argument("--rotate_folds", action="store_true", help="one run per fold, each fold tested once")
    check = command("check", "name every problem of a recipe without running it", takes_overrides=True)
    check.add_argument("recipe", help="RECIPE.yaml, then any of its keys as --key value")
    _add_interpret(command("interpret", "explain recordings: WAVs, figures, scores and a page"))
    mix = command("mix", "mix pairs of clips of different classes, stems kept")
    mix.add_argument("data", metavar="DATA", help="a folder of ESC-50 or NSynth, or a clips.csv")
    _add_output(mix)
    mix.add_argument("--items", type=int, default=160, help="how many mixtures (default: %(default)s)")
    mix.add_argument("--snr", type=float, default=0.0, help="base over other, in dB (default: %(default)s)")
    mix.add_argument(
        "--gains", type=float, nargs=2, metavar=("BASE", "OTHER"), help="of unit-norm clips, instead of --snr"
    )
    mix.add_argument("--folds", type=int, nargs="+", help="draw clips from these folds only")
    mix.add_argument("--seconds", type=float, default=5.0, help="length (default: %(default)s)")
    mix.add_argument("--seed", type=int, default=0, help="the same one gives the same mixtures")
    evaluate = command("evaluate", "score an interpreter (or a classifier) on labelled clips or mixtures")
    evaluate.add_argument("model", metavar="BUNDLE|RUN|RECIPE")
    evaluate.add_argument("data", metavar="DATA", help="a folder of ESC-50 or NSynth, a clips.csv or a mixtures.csv")
    _add_output(evaluate)
    _add_model_options(evaluate)
    evaluate.add_argument("--folds", type=int, nargs="+", help="these folds only")
    evaluate.add_argument("--seconds", type=float, default=5.0, help="length of clips (default: %(default)s)")
    report = command("report", "page, tables and figures of runs; mean and SD over several")
    report.add_argument("runs", nargs="+", metavar="RUN", type=Path)
    report.add_argument("-o", "--output", type=Path, help="folder of the comparison (needed for several runs)")
    add_listen_parser(command("listen", "listening tests: export, host, analyse, plan"))
    demo = command("demo", "the whole chain on the embedded default, from sound synthesis to the page")
    demo.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder (default: %(default)s)")
    demo.add_argument("--force", action="store_true", help="go on in a folder that is not empty")
    return parser


def _add_interpret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="BUNDLE|RUN|RECIPE", help="what explains; esc10-piq ships with the package")
    parser.add_argument("files", nargs="+", metavar="FILE|FOLDER", help="recordings of any rate and length")
    _add_output(parser)
    _add_model_options(parser)
    parser.add_argument("--target", help="class or classes to explain, comma-separated (default: the predicted one)")
    parser.add_argument(
        "--output_rate",
        choices=("model", "input"),
        default="model",
        help="sample rate of the WAVs (default: the model's)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    # Not `required`: argparse would ask for it before it names a misspelt option.
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write (needed)")
    parser.set_defaults(needs_output=True)
    parser.add_argument("--force", action="store_true", help="write into a folder that is not empty")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", help="methods by name, comma-separated (default: the bundle's own)")
    parser.add_argument("--binary", action="store_true", help="round masks at 0.5")
    parser.add_argument("--fill", action="store_true", help="leave removed parts at the noise floor, not at silence")
    parser.add_argument("--domain", choices=("log_magnitude", "magnitude"), help="what masks multiply")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")
    parser.add_argument("--no_figures", action="store_true", help="leave out the figures, which take most of the time")


if __name__ == "__main__":
    sys.exit(main())
