"""What checks of a method, made once on ESC-10, say beside each of its explanations.

measured_checks.csv holds the verdicts that recipes/esc50/README.md reports: fold 4 of ESC-10, the shipped classifier
(planted cue: a classifier of its own, taught to decide by a beep; the last three of `MEANING`: copies of the shipped
one), one seed. They are of a method and not of an explanation; a trained method's are of one shipped bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

# Check -> what a method fails it by, in the words of a page; {} is the measured value.
MEANING = {
    "right class": "asked for one of two sounds, its mask is nearer to that one in {:.0%} of the cases",
    "random weights, by hearing": "it finds the sound of a class in {:.0%} of the cases if the weights are random",
    "random weights, audible bins": "its mask has a rank correlation of {:.2f} with the one for random weights",
    "inaudible noise": "its mask has a rank correlation of {:.2f} with the one when inaudible noise is added",
    "planted cue": "of a classifier that decides by a beep it showed the beep in {:.0%} of the clips",
    "deaf to a band": "of a classifier that is deaf to a band it left that band out of {:.0%} of the sounds",
    "first second only": "of one that hears the first second only it showed that second in {:.0%} of the sounds",
    "exchanged labels": "of a classifier with exchanged labels it showed the sound that decides in {:.0%} of the cases",
}
KINDS = ("interpret", "evaluate")  # of runs whose methods have the names of the catalogue and its settings
CHANGED = (" --binary", " --fill", " --domain ")  # options with which a method is another one

__all__ = ["MEANING", "told_of"]


def told_of(method: str, about: Mapping[str, Any], command: str) -> tuple[str, str]:
    """The checks that a method of a run failed, and those that it passed, a sentence each; "" for none.

    Args:
        method: its name in the run; a run of several targets adds "_" and the target to it.
        about: run.json.
        command: the first line of the run's recipe.yaml, which is the command.

    >>> told_of("occlusion", {"kind": "interpret", "model": "my_model"}, "# audiointerp interpret my_model")[1]
    'Passed on ESC-10: right class, inaudible noise, planted cue.'
    """
    if about.get("kind") not in KINDS or any(each in f"{command} " for each in CHANGED):
        return "", ""
    known = [
        (name, of) for name, of in _verdicts() if of in ("", about.get("model")) and f"{method}_".startswith(f"{name}_")
    ]
    if not known:
        return "", ""
    rows = _verdicts()[max(known, key=lambda each: len(each[0]))]
    failed = [f"{_plain(check)} ({MEANING[check].format(value)})" for check, value, said in rows if said == "fail"]
    passed = [_plain(check) for check, _, said in rows if said == "pass"]
    return (
        f"Checks that this method failed on ESC-10: {'; '.join(failed)}." if failed else "",
        f"Passed on ESC-10: {', '.join(passed)}." if passed else "",
    )


def _plain(check: str) -> str:
    """The check's name without its comma, as it stands in a list."""
    return check.replace(", by", " by").replace(", audible", " over audible")


@lru_cache(maxsize=1)
def _verdicts() -> dict[tuple[str, str], list[tuple[str, float, str]]]:
    """(Method, bundle or "") -> checks with their value and verdict, "pass" or "fail"."""
    table = pd.read_csv(Path(__file__).parent / "measured_checks.csv", keep_default_na=False)
    found: dict[tuple[str, str], list[tuple[str, float, str]]] = {}
    for row in table.to_dict("records"):
        found.setdefault((row["method"], row["bundle"]), []).append((row["check"], row["value"], row["verdict"]))
    return found
