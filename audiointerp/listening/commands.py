"""`audiointerp listen export | serve | analyse | plan`: options, and what each does. Parsing imports nothing heavy."""

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
    """Adds the four subcommands; each sets `listen_command`, and `needs_output` where -o must be given."""
    commands = parser.add_subparsers(
        dest="listen_command", required=True, metavar="export|serve|analyse|plan", parser_class=type(parser)
    )

    def command(name: str, help: str, needs_output: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(needs_output=needs_output)
        if needs_output:
            # Not `required`: argparse would ask for it before it names a misspelt option.
            sub.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write (needed)")
            sub.add_argument("--force", action="store_true", help="write into a folder that is not empty")
        return sub

    _add_export(command("export", "make a listening test of a run: sounds made alike, names blind", True))
    _add_serve(command("serve", "host a webMUSHRA checkout on 127.0.0.1 and keep every session"))
    _add_analyse(command("analyse", "answers to scores, intervals, tests, figures and a report", True))
    _add_plan(command("plan", "how many listeners a test needs"))


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="a folder that a run wrote; several are groups of items"
    )
    parser.add_argument(
        "--target",
        choices=("html", "webmushra", "folder"),
        default="html",
        help="one page to open from disk, files for a webMUSHRA checkout, or WAVs and tables (default: %(default)s)",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        default="mos",
        help="scores 1 to 5, scores 0 to 100, preference, which is X, or which class is this (default: %(default)s)",
    )
    parser.add_argument("--items", nargs="+", metavar="ITEM", help="names of items, or how many to draw (default: all)")
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="compare these only (default: all but those of a mixture's other class)",
    )
    parser.add_argument("--question", help="asked of every trial; {class} stands for the predicted class")
    parser.add_argument("--title", help="of the test")
    parser.add_argument("--introduction", help="shown first; blank lines part paragraphs")
    parser.add_argument("--seed", type=int, default=0, help="the same one gives the same test (default: %(default)s)")
    sounds = parser.add_argument_group("sounds")
    sounds.add_argument("--rate", type=int, default=48000, help="in Hz, of every sound (default: %(default)s)")
    sounds.add_argument(
        "--loudness",
        choices=("match", "item", "none"),
        default="match",
        help="every sound to -23 LUFS, one gain an item, or levels as they are (default: %(default)s)",
    )
    sounds.add_argument(
        "--bandwidth", choices=("none", "min"), default="none", help="min: low-pass to an item's lowest rate"
    )
    sounds.add_argument("--pad", action="store_true", help="accept lengths that differ by more than 0.5 s in an item")
    trials = parser.add_argument_group("trials")
    trials.add_argument("--practice", type=int, default=1, metavar="N", help="practice trials (default: %(default)s)")
    trials.add_argument(
        "--practice_apart", action="store_true", help="leave items that are practised with out of the test"
    )
    trials.add_argument("--catch", type=int, default=0, metavar="N", help="attention checks (default: %(default)s)")
    trials.add_argument(
        "--no_anchors", dest="anchors", action="store_false", help="rating: without low-pass anchors and mixture"
    )
    trials.add_argument("--ties", action="store_true", help="ab: allow “no preference”")
    trials.add_argument(
        "--participants", type=int, default=24, metavar="N", help="folder: orders for so many (default: %(default)s)"
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--webmushra", type=Path, required=True, metavar="DIR", help="a webMUSHRA checkout")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="where sessions go (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="on 127.0.0.1; 0 takes a free one (default: %(default)s)"
    )


def _add_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("answers", nargs="+", metavar="ANSWERS", type=Path, help="result files of one test")
    parser.add_argument("--key", type=Path, required=True, help="key.csv, from the test's private folder")
    parser.add_argument("--study", type=Path, help="study.json (default: looked for beside the key)")
    parser.add_argument("--ci", choices=("t", "bootstrap"), default="t", help="of means (default: %(default)s)")
    parser.add_argument(
        "--repeat",
        choices=("first", "keep", "mean"),
        default="first",
        help="sessions of one code (default: %(default)s)",
    )
    parser.add_argument("--complete_only", action="store_true", help="leave out sessions with unanswered questions")
    parser.add_argument(
        "--screen", nargs="*", metavar="RULE", help="screening rules to apply (default: for ratings only)"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", type=int, default=2, help="how many are compared (default: %(default)s)")
    parser.add_argument("--sd", type=float, default=1.0, help="between listeners, in points (default: %(default)s)")
    parser.add_argument(
        "--half_width", type=float, default=0.5, help="of the interval wanted, in points (default: %(default)s)"
    )
    parser.add_argument(
        "--difference", type=float, default=0.5, help="between methods, to be found (default: %(default)s)"
    )
    parser.add_argument("--power", type=float, default=0.8, help="of finding it (default: %(default)s)")
    parser.add_argument("--alpha", type=float, default=0.05, help="of the test (default: %(default)s)")


def listen(options: argparse.Namespace, rest: list[str] | None = None) -> int:
    """Runs the subcommand that `options.listen_command` names."""
    return {"export": export, "serve": serve, "analyse": analyse, "plan": plan}[options.listen_command](options)


def export(options: argparse.Namespace) -> int:
    """Makes a listening test; prints what is where, and warnings on stderr."""
    from audiointerp.listening.making.export import export_study

    chosen = {name: getattr(options, name) for name in _EXPORT}
    if options.items and len(options.items) == 1 and options.items[0].isdigit():
        chosen["items"] = int(options.items[0])
    done = export_study(options.runs, options.output, force=options.force, **chosen)
    for line in done.warnings:
        print(f"audiointerp: {line}", file=sys.stderr)
    level = "levels as they were" if done.target_lufs is None else f"loudness {done.target_lufs:.1f} LUFS"
    if done.lowered_db > 0:
        level += f" (lowered by {done.lowered_db:.1f} dB, or a peak would clip)"
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
    """Writes the report; prints where it is."""
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
