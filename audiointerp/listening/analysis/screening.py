"""Screening of listeners and pages: rules flag unreliable answers, and applied rules leave them out.

Rules of ITU-R BS.1534-3 for ratings with a hidden reference, and the rules that microsoft/P.808 uses for opinion
scores. By default only the BS.1534 rules are applied; the report lists the answers that each rule flags in any case.
"""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from audiointerp.listening.analysis.answers import SCALES, Answers, exclude

MAX_SHARE = 0.15  # an assessor is flagged for errors in more than this share of the items
MAX_ASSESSORS = 0.25  # an item does not count if more than this share of the assessors overrates its anchor
LIMIT = 90.0  # of 100: a hidden reference rated below it, or an anchor rated above it, is an error
HEARD = 0.95  # share of a sound that must be heard
MIN_VARIANCE = 0.1
GOLD_SHARE = 0.75
OUTLIER_Z = 3.29
TOLERANCE = 0.1  # share of the scale, for catch items: exact on 1 to 5, ±10 on 0 to 100

__all__ = ["DEFAULT", "RULES", "RuleResult", "check", "is_mushra", "screen"]


class Skipped(Exception):
    """Raised by a rule that cannot be checked; the message gives the reason."""


@dataclass(frozen=True)
class RuleResult:
    """Result of one rule.

    Attributes:
        name, meaning: name of the rule and its criterion.
        applied: whether flagged answers are left out.
        flagged: (answers,), true for flagged answers; a rule about listeners flags all answers of a listener.
        listeners: the listeners of flagged answers.
        skipped: why the rule could not be checked, or "".
    """

    name: str
    meaning: str
    applied: bool
    flagged: pd.Series
    listeners: tuple[str, ...]
    skipped: str = ""


def screen(answers: Answers, rules: Sequence[str] | None = None) -> list[RuleResult]:
    """Checks every rule and moves the answers that applied rules flag to `answers.exclusions`, with the reasons.

    Args:
        answers: changed in place.
        rules: names of RULES to apply; by default DEFAULT, which concern ratings only.

    Raises:
        ValueError: if a rule is unknown.
    """
    results = check(answers, rules)
    reasons = pd.Series("", index=answers.table.index)
    for result in results:
        if result.applied:
            reasons[result.flagged & (reasons == "")] = f"{result.name}: {result.meaning}"
    exclude(answers, reasons != "", "screening", reasons)
    return results


def check(answers: Answers, rules: Sequence[str] | None = None) -> list[RuleResult]:
    """Results of every rule; `answers` is not changed."""
    applied = DEFAULT if rules is None else tuple(rules)
    unknown = [name for name in applied if name not in RULES]
    if unknown:
        raise ValueError(f"no screening rule {unknown[0]!r}; there are {', '.join(RULES)}")
    results = []
    for name, (meaning, rule) in RULES.items():
        try:
            flagged, skipped = rule(answers).fillna(False).astype(bool), ""
        except Skipped as reason:
            flagged, skipped = pd.Series(False, index=answers.table.index), str(reason)
        listeners = tuple(sorted(answers.table.loc[flagged, "participant"].unique()))
        results.append(RuleResult(name, meaning, name in applied and not skipped, flagged, listeners, skipped))
    return results


def is_mushra(table: pd.DataFrame) -> bool:
    """Whether ratings are a MUSHRA test (ITU-R BS.1534): a hidden reference, a 3.5 kHz and a 7 kHz anchor are rated."""
    rated = table[table["task"] == "rating"]
    return bool((rated["role"] == "reference").any() and _anchor(rated, "low").any() and _anchor(rated, "mid").any())


def _hidden_reference(answers: Answers) -> pd.Series:
    table = _ratings(answers)
    rows = table[table["role"] == "reference"]
    if rows.empty:
        raise Skipped("no hidden reference was rated")
    missed = (rows["value"] < LIMIT).groupby(rows["participant"]).mean()
    return _of(answers, missed > MAX_SHARE)


def _mid_anchor(answers: Answers) -> pd.Series:
    table = _ratings(answers)
    rows = table[_anchor(table, "mid")]
    if rows.empty:
        raise Skipped("no 7 kHz anchor was rated")
    over = rows["value"] > LIMIT
    # If many listeners overrate the anchor of an item, it is close to transparent, and the item does not count.
    fair = ~(over.groupby(rows["item_id"]).transform("mean") > MAX_ASSESSORS)
    if not fair.any():
        raise Skipped("more than a quarter of the listeners rate every 7 kHz anchor above 90: it is transparent here")
    share = over[fair].groupby(rows.loc[fair, "participant"]).mean()
    return _of(answers, share > MAX_SHARE)


def _untouched(answers: Answers) -> pd.Series:
    rows = _ratings(answers)
    page = rows.groupby(["session_id", "trial_id"])["value"]
    flagged = (page.transform("min") == 100) & (page.transform("count") >= 2)
    return flagged.reindex(answers.table.index, fill_value=False)


def _heard(answers: Answers) -> pd.Series:
    fraction = pd.to_numeric(answers.table["heard_fraction"], errors="coerce")
    if fraction.isna().all():
        raise Skipped("the files do not contain the heard fraction")
    return _of(answers, (fraction < HEARD).groupby(answers.table["participant"]).any())


def _variance(answers: Answers) -> pd.Series:
    table = answers.table[(answers.table["task"] == "mos") & (answers.table["kind"] == "trial")]
    if table.empty:
        raise Skipped("there are no opinion scores")
    scores = table.groupby("participant")["value"]
    return _of(answers, (scores.var() < MIN_VARIANCE) & (scores.count() >= 2))


def _catch(answers: Answers) -> pd.Series:
    rows = answers.table[answers.table["kind"] == "catch"]
    if rows.empty:
        raise Skipped("there are no catch items")
    expected = rows["trial_id"].map(answers.settings.get("catch_answers", {}))
    rows, expected = rows[expected.notna()], expected[expected.notna()]
    if rows.empty:
        raise Skipped("the expected answers of catch items are not known (they are in settings.json, next to the key)")
    right = pd.Series([_is_right(*row) for row in zip(rows["task"], rows["answer"], expected)], index=rows.index)
    return _of(answers, ~right.groupby(rows["participant"]).any())


def _fast(answers: Answers) -> pd.Series:
    table, study = answers.table, answers.study
    spent = pd.to_numeric(table["answer_ms"], errors="coerce")
    if study is None or spent.isna().all():
        raise Skipped(
            "study.json was not found" if study is None else "the files do not contain the time spent on pages"
        )
    seconds = table["trial_id"].map({trial.trial_id: trial.context for trial in study.trials}).map(study.seconds)
    seconds = seconds.fillna(0) if study.task != "simulate" else 0 * seconds.fillna(0)
    shown = {trial.trial_id: sum(study.seconds.get(name, 0) for name in trial.stimuli) for trial in study.trials}
    heard = table["stimulus_id"].map(study.seconds) if study.task == "simulate" else table["trial_id"].map(shown)
    page_ms = spent.groupby([table["session_id"], table["trial_id"]]).transform("max")
    return page_ms < 1000 * (seconds + heard)


def _outlier(answers: Answers) -> pd.Series:
    table = answers.table[answers.table["task"].isin(SCALES) & (answers.table["kind"] == "trial")]
    if table.empty:
        raise Skipped("there are no scores")
    scores = table.groupby(["task", "stimulus_id"])["value"]
    spread = scores.transform("std")
    z = (table["value"] - scores.transform("mean")).abs() / spread.where(spread > 0)
    return (z >= OUTLIER_Z).reindex(answers.table.index, fill_value=False)


def _away(answers: Answers) -> pd.Series:
    spent = pd.to_numeric(answers.table["n_away"], errors="coerce")
    if spent.isna().all():
        raise Skipped("the files do not say whether the page was left")
    return spent > 0


def _headphones(answers: Answers) -> pd.Series:
    return _of_sessions(answers, "headphone_check", "the test had no headphone check")


def _level(answers: Answers) -> pd.Series:
    return _of_sessions(answers, "level_check", "the test had no level check")


def _of_sessions(answers: Answers, column: str, skipped: str) -> pd.Series:
    """All answers of sessions whose check, such as "4/6 failed", was failed."""
    said = answers.listeners.set_index("session_id")[column]
    if not said.astype(bool).any():
        raise Skipped(skipped)
    return answers.table["session_id"].isin(said.index[said.str.endswith("failed")])


def _gold(answers: Answers) -> pd.Series:
    known = answers.settings.get("gold_answers") or {}
    rows = answers.table[answers.table["trial_id"].isin(known)]
    if rows.empty:
        raise Skipped("there are no gold items")
    said = zip(rows["trial_id"], rows["value"], rows["stimulus_id"])
    right = pd.Series([_is_gold(known[trial], value, name) for trial, value, name in said], rows.index)
    return _of(answers, right.groupby(rows["participant"]).mean() < GOLD_SHARE)


RULES: dict[str, tuple[str, Callable[[Answers], pd.Series]]] = {
    "reference": ("hidden reference below 90 in more than 15 % of the items (BS.1534)", _hidden_reference),
    "anchor": ("7 kHz anchor above 90 in more than 15 % of the items (BS.1534)", _mid_anchor),
    "untouched": ("page with all sliders at 100, webMUSHRA's initial position", _untouched),
    "heard": ("less than 95 % of some sound was played (P.808)", _heard),
    "variance": ("variance of all scores below 0.1 (P.808)", _variance),
    "catch": ("no catch item answered as expected (P.808)", _catch),
    "fast": ("page left before its sounds could have been heard", _fast),
    "gold": ("fewer than 75 % of the gold items answered as known (P.808)", _gold),
    "headphones": ("headphone check failed", _headphones),
    "level": ("level check failed: the soft sounds were not heard", _level),
    "away": ("page left for another window or tab while it was answered", _away),
    "outlier": ("score at least 3.29 standard deviations from the mean of its sound (P.808)", _outlier),
}
DEFAULT = ("reference", "anchor", "untouched")


def _ratings(answers: Answers) -> pd.DataFrame:
    table = answers.table[(answers.table["task"] == "rating") & (answers.table["kind"] == "trial")]
    if table.empty:
        raise Skipped("there are no ratings from 0 to 100")
    return table


def _anchor(table: pd.DataFrame, which: str) -> pd.Series:
    """Rows of the low (3.5 kHz) or the mid (7 kHz) anchor, by their names: low35, anchor70, 7kHz and the like."""
    name = {"low": r"35|3[._]5", "mid": r"70|7k|7 k"}[which]
    return (table["role"] == "anchor") & table["method"].str.contains(name, flags=re.IGNORECASE)


def _of(answers: Answers, listeners: pd.Series) -> pd.Series:
    """All answers of the listeners marked."""
    return answers.table["participant"].isin(listeners.index[listeners.to_numpy(bool)])


def _is_gold(expected: Any, value: float, stimulus: str) -> bool:
    """Whether a gold item's answer is the known one: a sound that is chosen, or a range of scores."""
    return stimulus == expected if isinstance(expected, str) else expected[0] <= value <= expected[1]


def _is_right(task: str, answer: str, expected: str) -> bool:
    if task not in SCALES:
        return answer == expected
    low, high = SCALES[task]
    return abs(float(answer) - float(expected)) <= TOLERANCE * (high - low)
