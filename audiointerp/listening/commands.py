"""`audiointerp listen export | serve | analyse | plan`: options and functions. Parsing imports nothing heavy."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

__all__ = ["add_listen_parser", "analyse", "export", "listen", "plan", "serve"]

TASKS = ("mos", "rating", "ab", "abx", "simulate")
_EXPORT = (
    *("target", "task", "items", "methods", "question", "title", "introduction", "seed", "rate", "loudness"),
    *("bandwidth", "pad", "practice", "practice_apart", "catch", "anchors", "ties", "participants"),
)


def add_listen_parser(parser: argparse.ArgumentParser) -> None:
    """Adds the four subcommands; each sets `listen_command`, and `needs_output` if it requires -o."""
    commands = parser.add_subparsers(
        dest="listen_command", required=True, metavar="export|serve|analyse|plan", parser_class=type(parser)
    )

    def command(name: str, help: str, needs_output: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(needs_output=needs_output)
        if needs_output:
            # Not `required`: argparse would report a missing -o before it reports a misspelt option.
            sub.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write (required)")
            sub.add_argument("--force", action="store_true", help="write into a folder that is not empty")
        return sub

    _add_export(
        command("export", "make a listening test from a run: equal rate, length and loudness, blind names", True)
    )
    _add_serve(command("serve", "host a webMUSHRA checkout on 127.0.0.1 and store every session"))
    _add_analyse(command("analyse", "turn answers into scores, intervals, tests, figures and a report", True))
    _add_plan(command("plan", "how many listeners a test needs"))


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="a run folder; several run folders become groups of items"
    )
    parser.add_argument(
        "--target",
        choices=("html", "webmushra", "folder"),
        default="html",
        help="html: a page to open from disk; webmushra: files for a webMUSHRA checkout; folder: WAVs, tables "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        default="mos",
        help="mos: scores 1 to 5; rating: scores 0 to 100; ab: preference; abx: which sound is X; simulate: which "
        "class the sound belongs to (default: %(default)s)",
    )
    parser.add_argument(
        "--items", nargs="+", metavar="ITEM", help="names of items, or a number of items to draw (default: all)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="methods to compare (default: all but those that explain a mixture's other class)",
    )
    parser.add_argument("--question", help="question of every trial; {class} is replaced by the predicted class")
    parser.add_argument("--title", help="title of the test")
    parser.add_argument("--introduction", help="text of the first page; blank lines separate paragraphs")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same test (default: %(default)s)")
    _add_sounds(parser)
    _add_trials(parser)


def _add_sounds(parser: argparse.ArgumentParser) -> None:
    sounds = parser.add_argument_group("sounds")
    sounds.add_argument(
        "--rate", type=int, default=48000, help="sample rate of every sound, in Hz (default: %(default)s)"
    )
    sounds.add_argument(
        "--loudness",
        choices=("match", "item", "none"),
        default="match",
        help="match: every sound to -23 LUFS; item: one gain per item; none: levels unchanged (default: %(default)s)",
    )
    sounds.add_argument(
        "--bandwidth", choices=("none", "min"), default="none", help="min: low-pass an item's sounds to its lowest rate"
    )
    sounds.add_argument(
        "--pad", action="store_true", help="accept lengths that differ by more than 0.5 s within an item"
    )


def _add_trials(parser: argparse.ArgumentParser) -> None:
    trials = parser.add_argument_group("trials")
    trials.add_argument(
        "--practice", type=int, default=1, metavar="N", help="number of practice trials (default: %(default)s)"
    )
    trials.add_argument(
        "--practice_apart", action="store_true", help="leave the items of the practice trials out of the test"
    )
    trials.add_argument(
        "--catch", type=int, default=0, metavar="N", help="number of attention checks (default: %(default)s)"
    )
    trials.add_argument(
        "--no_anchors",
        dest="anchors",
        action="store_false",
        help="rating: leave out the low-pass anchors and the mixture",
    )
    trials.add_argument("--ties", action="store_true", help="ab: allow “no preference”")
    trials.add_argument(
        "--participants",
        type=int,
        default=24,
        metavar="N",
        help="folder: number of participants to write orders for (default: %(default)s)",
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--webmushra", type=Path, required=True, metavar="DIR", help="a webMUSHRA checkout")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder for the sessions (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="port on 127.0.0.1; 0 takes a free port (default: %(default)s)"
    )


def _add_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("answers", nargs="+", metavar="ANSWERS", type=Path, help="result files of one test")
    parser.add_argument("--key", type=Path, required=True, help="key.csv, from the test's private folder")
    parser.add_argument("--study", type=Path, help="study.json (default: searched near the key)")
    parser.add_argument(
        "--ci", choices=("t", "bootstrap"), default="t", help="confidence intervals of means (default: %(default)s)"
    )
    parser.add_argument(
        "--repeat",
        choices=("first", "keep", "mean"),
        default="first",
        help="if a participant code has several sessions: use the first, keep all, or average (default: %(default)s)",
    )
    parser.add_argument("--complete_only", action="store_true", help="leave out sessions with unanswered questions")
    parser.add_argument(
        "--screen", nargs="*", metavar="RULE", help="screening rules to apply (default: for ratings only)"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", type=int, default=2, help="number of methods compared (default: %(default)s)")
    parser.add_argument(
        "--sd", type=float, default=1.0, help="standard deviation between listeners, in points (default: %(default)s)"
    )
    parser.add_argument(
        "--half_width",
        type=float,
        default=0.5,
        help="half width of the desired interval, in points (default: %(default)s)",
    )
    parser.add_argument(
        "--difference",
        type=float,
        default=0.5,
        help="difference between methods to detect, in points (default: %(default)s)",
    )
    parser.add_argument(
        "--power", type=float, default=0.8, help="probability of detecting the difference (default: %(default)s)"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="significance level of the test (default: %(default)s)"
    )


def listen(options: argparse.Namespace, rest: list[str] | None = None) -> int:
    """Runs the subcommand that `options.listen_command` names."""
    return {"export": export, "serve": serve, "analyse": analyse, "plan": plan}[options.listen_command](options)


def export(options: argparse.Namespace) -> int:
    """Makes a listening test; prints the paths written, and warnings on stderr."""
    from audiointerp.listening.making.export import export_study

    chosen = {name: getattr(options, name) for name in _EXPORT}
    if options.items and len(options.items) == 1 and options.items[0].isdigit():
        chosen["items"] = int(options.items[0])
    done = export_study(options.runs, options.output, force=options.force, **chosen)
    for line in done.warnings:
        print(f"audiointerp: {line}", file=sys.stderr)
    level = "levels unchanged" if done.target_lufs is None else f"loudness {done.target_lufs:.1f} LUFS"
    if done.lowered_db > 0:
        level += f" (lowered by {done.lowered_db:.1f} dB so that no peak clips)"
    print(f"{done.test_id}: {done.trials} trials, {done.stimuli} sounds, {level}, {done.sessions} orders")
    print(f"for listeners: {done.files[0]}" + (f" and {len(done.files) - 1} more" if len(done.files) > 1 else ""))
    key = done.private / "key.csv"
    print(f"keep to yourself: {key}")
    print(f"afterwards: audiointerp listen analyse ANSWERS --key {shlex.quote(str(key))} -o RESULT")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Hosts webMUSHRA until Ctrl-C."""
    from audiointerp.listening.serving.collector import serve as serve_checkout

    serve_checkout(options.webmushra, options.results, options.port)
    return 0


def analyse(options: argparse.Namespace) -> int:
    """Writes the report; prints its path."""
    from audiointerp.listening.analysis.analyse import analyse as analyse_answers

    names = ("study", "ci", "repeat", "complete_only", "screen", "force")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    print(analyse_answers(options.answers, options.key, options.output, **given))
    return 0


def plan(options: argparse.Namespace) -> int:
    """Prints sample sizes."""
    from audiointerp.listening.analysis.planning import describe

    names = ("methods", "sd", "half_width", "difference", "power", "alpha")
    print(describe(**{name: getattr(options, name) for name in names}))
    return 0
