"""`audiointerp listen export | serve | analyse | plan | texts`: options and functions; parsing is light."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

__all__ = ["add_listen_parser", "analyse", "export", "listen", "plan", "serve", "texts"]

TASKS = ("mos", "rating", "ab", "abx", "simulate")
_EXPORT = (
    *("target", "task", "items", "methods", "question", "title", "introduction", "texts", "checks", "seed", "rate"),
    *(
        "loudness",
        "bandwidth",
        "pad",
        "practice",
        "practice_repeat",
        "catch",
        "gold",
        "anchors",
        "ties",
        "participants",
    ),
)


def add_listen_parser(parser: argparse.ArgumentParser) -> None:
    """Adds the five subcommands; each sets `listen_command`, and `needs_output` if it requires -o."""
    commands = parser.add_subparsers(
        dest="listen_command", required=True, metavar="export|serve|analyse|plan|texts", parser_class=type(parser)
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
    _add_serve(command("serve", "host a test's page, or a webMUSHRA checkout, and store every session"))
    _add_analyse(command("analyse", "turn answers into scores, intervals, tests, figures and a report", True))
    _add_plan(command("plan", "how many listeners a test needs"))
    _add_texts(command("texts", "write every text of the page as YAML, to change it and give it to export --texts"))


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
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="YAML",
        help="language, consent, questions about the listener and every word of the page; `listen texts` writes one",
    )
    parser.add_argument(
        "--checks",
        nargs="+",
        default=[],
        metavar="CHECK",
        help="html: checks before the first page, for listeners far away: headphones, level",
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same test (default: %(default)s)")
    parser.add_argument(
        "--secret", type=Path, metavar="FILE", help="secret.hex of another test, to give this one the same blind names"
    )
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
        "--practice_repeat",
        action="store_true",
        help="practise on items of the test (default: on items left out of it)",
    )
    trials.add_argument("--practice_apart", action="store_true", help=argparse.SUPPRESS)  # the default now
    trials.add_argument(
        "--catch", type=int, default=0, metavar="N", help="number of attention checks (default: %(default)s)"
    )
    trials.add_argument(
        "--gold",
        type=int,
        default=0,
        metavar="N",
        help="mos, rating, ab: number of gold items (P.808), which explain another sound (default: %(default)s)",
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
    parser.add_argument("test", metavar="TEST", nargs="?", type=Path, help="folder that `listen export` wrote")
    parser.add_argument("--webmushra", type=Path, metavar="DIR", help="instead of TEST: a webMUSHRA checkout")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder for the sessions (default: TEST/answers; with --webmushra results)",
    )
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free port (default: %(default)s)")
    far = parser.add_argument_group("TEST for listeners far away")
    far.add_argument(
        "--completion",
        default="",
        metavar="CODE|ADDRESS",
        help="shown when all answers are stored: a completion code, or an address to return to (https://...)",
    )
    far.add_argument(
        "--address",
        default="",
        metavar="URL",
        help="address that listeners open, of the web server in front of this one (https://listen.example.org/)",
    )
    far.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to bind; 0.0.0.0 accepts other computers, as needed in a container (default: %(default)s)",
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
        "--leave_out",
        nargs="+",
        metavar="QUESTION=ANSWER",
        help="leave out listeners by what they said about themselves, for instance hearing=yes",
    )
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


def _add_texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", default="en", help="a language of the package: en, de (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="YAML", help="file to write (default: print it)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def listen(options: argparse.Namespace, rest: list[str] | None = None) -> int:
    """Runs the subcommand that `options.listen_command` names."""
    run = {"export": export, "serve": serve, "analyse": analyse, "plan": plan, "texts": texts}
    return run[options.listen_command](options)


def export(options: argparse.Namespace) -> int:
    """Makes a listening test; prints the paths written, and warnings on stderr."""
    from audiointerp.listening.making.export import export_study

    chosen = {name: getattr(options, name) for name in _EXPORT}
    if options.items and len(options.items) == 1 and options.items[0].isdigit():
        chosen["items"] = int(options.items[0])
    done = export_study(options.runs, options.output, force=options.force, secret=options.secret, **chosen)
    for line in done.warnings:
        print(f"audiointerp: {line}", file=sys.stderr)
    level = "levels unchanged" if done.target_lufs is None else f"loudness {done.target_lufs:.1f} LUFS"
    if done.lowered_db > 0:
        level += f" (lowered by {done.lowered_db:.1f} dB so that no peak clips)"
    more = {"to check attention": done.checks, "for practice": done.practice}
    trials = f"{done.trials} trial{'s' * (done.trials != 1)}"
    trials += "".join(f" and {count} {purpose}" for purpose, count in more.items() if count)
    print(f"{done.test_id}: {trials}, {done.stimuli} sounds, {level}, {done.sessions} orders")
    print(f"for listeners: {done.files[0]}" + (f" and {len(done.files) - 1} more" if len(done.files) > 1 else ""))
    key = done.private / "key.csv"
    print(f"keep to yourself: {key}")
    if options.target == "html":
        own = shlex.quote(str(options.output))
        print(f"to collect answers on this computer: audiointerp listen serve {own}")
        print("for listeners far away: the same with --address, behind a web server; see docs/listening_tests.md")
    print(f"afterwards: audiointerp listen analyse ANSWERS --key {shlex.quote(str(key))} -o RESULT")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Hosts a test's page, or webMUSHRA, until Ctrl-C.

    Raises:
        ValueError: unless exactly one of them is given.
    """
    if (options.test is None) == (options.webmushra is None):
        raise ValueError("give the folder of one test, or --webmushra and a checkout")
    if options.test is not None:
        from audiointerp.listening.serving.study_server import serve_study

        chosen = {name: getattr(options, name) for name in ("host", "address", "completion")}
        serve_study(options.test, options.results, options.port, **chosen)
        return 0
    from audiointerp.listening.serving.collector import serve as serve_checkout

    serve_checkout(options.webmushra, options.results or Path("results"), options.port)
    return 0


def texts(options: argparse.Namespace) -> int:
    """Prints or writes the texts of a language.

    Raises:
        ValueError: if the package does not have the language, or the file exists.
    """
    from audiointerp.listening.texts import WORDS, languages
    from audiointerp.results.writing import write_text

    if options.language not in languages():
        raise ValueError(f"no texts in {options.language!r}; the package has {', '.join(languages())}")
    text = (WORDS / f"{options.language}.yaml").read_text("utf-8")
    if options.output is None:
        print(text, end="")
        return 0
    if options.output.exists() and not options.force:
        raise ValueError(f"{options.output}: exists; choose another file, or give --force")
    print(write_text(options.output, text))
    return 0


def analyse(options: argparse.Namespace) -> int:
    """Writes the report; prints its path."""
    from audiointerp.listening.analysis.analyse import analyse as analyse_answers

    names = ("study", "ci", "repeat", "complete_only", "leave_out", "screen", "force")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    print(analyse_answers(options.answers, options.key, options.output, **given))
    return 0


def plan(options: argparse.Namespace) -> int:
    """Prints sample sizes."""
    from audiointerp.listening.analysis.planning import describe

    names = ("methods", "sd", "half_width", "difference", "power", "alpha")
    print(describe(**{name: getattr(options, name) for name in names}))
    return 0
