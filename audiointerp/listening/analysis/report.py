"""Tables of an analysis -> report.html and report.md; captions name test, interval and unit of analysis."""

# pandas types an indexed table as table, column or array at once; pyright cannot know which it is.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from audiointerp.listening.analysis.answers import SCALES, Answers
from audiointerp.listening.analysis.opinion import IntervalKind
from audiointerp.listening.analysis.screening import RuleResult
from audiointerp.listening.study import QUESTION
from audiointerp.results.templating import picture, render

TITLES = {
    "mos": "Mean opinion scores, 1 (bad) to 5 (excellent)",
    "rating": "Multi-stimulus ratings, 0 to 100",
    "bs1116": "Impairment grades, 1 to 5 (BS.1116)",
    "ab": "Preferences between two sounds (A/B)",
    "abx": "Which of two sounds is X (ABX)",
    "simulate": "Model simulation: which class do listeners recognise?",
}
INTERVALS = {
    "t": "Student's t interval over listeners, m ± t(0.975, n−1)·s/√n (not 1.96·s/√n)",
    "bootstrap": "percentile bootstrap over listeners, 10,000 resamples, fixed seed",
}
DECIMALS = {"rating": 1}
REPORT, FIGURES = "report.html", "figures"
REMARKS = f"{QUESTION}remarks"

__all__ = [
    "FIGURES",
    "Outcome",
    "Section",
    "sections",
    "write",
]


@dataclass(frozen=True)
class Outcome:
    """Results of an analysis.

    Attributes:
        answers: answers left after cleaning and screening, with exclusions.
        before: numbers of listeners, items and answers per task before screening.
        rules: result of every screening rule.
        tables: task -> name -> table.
        unscreened: the same tables without screening; empty if screening left nothing out.
        ci: kind of interval.
        mushra: whether ratings may be called MUSHRA.
    """

    answers: Answers
    before: dict[str, dict[str, int]]
    rules: list[RuleResult]
    tables: dict[str, dict[str, pd.DataFrame]]
    unscreened: dict[str, dict[str, pd.DataFrame]]
    ci: IntervalKind
    mushra: bool


def sections(outcome: Outcome) -> list[Section]:
    """Sections of the results, task by task; after each task its first table without screening, if it differs."""
    found = []
    for task, tables in outcome.tables.items():
        mushra = task == "rating" and outcome.mushra
        title = "MUSHRA ratings, 0 to 100" if mushra else TITLES[task]
        found.append(Section(title, _about(outcome, task, mushra), level=2))
        build = {"ab": _preferences, "abx": _abx, "simulate": _simulation}.get(task, _opinion)
        found += build(task, tables, outcome.ci)
        unscreened = outcome.unscreened.get(task)
        if unscreened:
            first = build(task, unscreened, outcome.ci)[0]
            caption = "The first table with all listeners, before screening; same units, intervals and tests."
            csv = first.csv.replace(".csv", "_unscreened.csv")
            found.append(Section("Without screening", caption, first.columns, first.rows, csv=csv))
    return found


def _about(outcome: Outcome, task: str, mushra: bool) -> str:
    before, after = outcome.before[task], len(outcome.answers.table)
    counts = f"{before['listeners']} listeners, {before['items']} items, {before['answers']} answers before screening."
    if task == "rating" and not mushra:
        counts += " Not called MUSHRA: that needs a hidden reference, a 3.5 kHz and a 7 kHz anchor (ITU-R BS.1534)."
    return counts if after else ""


def _opinion(task: str, tables: Mapping[str, pd.DataFrame], ci: str) -> list[Section]:
    digits, scale = DECIMALS.get(task, 2), SCALES[task]
    methods, pairs, friedman = (tables[name].to_dict("records") for name in ("methods", "pairs", "friedman"))
    found = [
        Section(
            "Means",
            "Unit of analysis: the listener. Scores are averaged over items within each listener; mean, SD and "
            f"interval are over these n means. 95 % interval: {INTERVALS[ci]}. Median and quartiles (Q1–Q3) are of "
            "single scores. Intervals hold for other listeners with these items, not for other items. Dots are "
            "listeners, the yellow circle is the mean"
            + (
                ", an arrow marks an interval that leaves the scale."
                if any(r["beyond_scale"] for r in methods)
                else "."
            ),
            ("Items", "Sound", "Mean [95 % interval]", "SD", "Median (Q1–Q3)", "n", "Scores", "Note"),
            tuple(
                (
                    *(row["group"], row["condition"], with_interval(row, digits)),
                    *(number(row["sd"], digits), quartiles(row), str(row["n_listeners"]), str(row["n_scores"])),
                    "; ".join(filter(None, [row["note"], "interval leaves the scale" * row["beyond_scale"]])),
                )
                for row in methods
            ),
            figure=f"{task}_means",
            alternative="Mean of each method with its 95 % interval; numbers in the table below",
            csv=f"{task}_methods.csv",
        ),
        Section(
            "Scores by item",
            "Each box: the scores of n listeners for one sound, from the first to the third quartile; line: median; "
            "whiskers: up to 1.5 interquartile ranges; small circles: single scores beyond, kept in every number; "
            "yellow circle: mean. The CSV has means and intervals per item.",
            figure=f"{task}_items",
            alternative="Box plots of the scores by item and method",
            csv=f"{task}_items.csv",
        ),
    ]
    found.append(_differences(task, pairs, friedman, digits, ci))
    level = "an ordinal" if scale[1] <= 5 else "an interval"
    about = (
        f"Units are the sounds (item × method). Krippendorff's alpha on {level} scale, missing answers allowed; "
        "ICC(2,1) of one listener and ICC(2,k) of the mean of k, absolute agreement, on sounds that every "
        "listener scored."
    )
    return [*found, _agreement(task, tables["agreement"], about)]


def _differences(task: str, pairs: list[dict], friedman: list[dict], digits: int, ci: str) -> Section:
    """Paired tests between methods, with Friedman's test over all of them in the caption."""
    if not pairs:
        return Section("Differences between methods", "There is only one method, so nothing is compared.")
    tested = "".join(
        f" Friedman's test, {row['group']}: χ²({row['k'] - 1}) = {row['statistic']:.2f}, p {p_equals(row['p'])}, "
        f"n = {row['n']} listeners, {row['note']}."
        for row in friedman
        if row["n"] > 1
    )
    return Section(
        "Differences between methods",
        "Wilcoxon's signed-rank test, two-sided, zeros by Pratt's method, on each listener's mean difference "
        "over the items scored under both methods (n listeners, n₀ with no difference). p Holm: corrected "
        f"over the pairs of the same items. r: matched-pairs rank-biserial correlation. 95 % interval of the mean: "
        f"{INTERVALS[ci]}, not corrected for the number of pairs.{tested}",
        ("Items", "A", "B", "Mean A − B [95 % interval]", "Median A − B", "n (n₀)", "W", "p", "p Holm", "r", "Note"),
        tuple(
            (
                *(row["group"], row["a"], row["b"], difference(row, digits)),
                *(number(row["median_difference"], digits, True), f"{row['n']} ({row['n_zero']})"),
                *(number(row["w"], 1), p_value(row["p"]), p_value(row["p_holm"])),
                *(number(row["rank_biserial"], 2, True), row["note"]),
            )
            for row in pairs
        ),
        csv=f"{task}_pairs.csv",
    )


def _agreement(task: str, table: pd.DataFrame, about: str) -> Section:
    rows = table.to_dict("records")
    return Section(
        "Agreement between listeners",
        about,
        ("Items", "Measure", "Value", "Listeners", "Units", "Note"),
        tuple(
            (
                row["group"],
                row["measure"],
                number(row["value"], 3),
                str(row["listeners"]),
                str(row["units"]),
                row["note"],
            )
            for row in rows
        ),
        csv=f"{task}_agreement.csv",
    )


def _preferences(task: str, tables: Mapping[str, pd.DataFrame], ci: str) -> list[Section]:
    rows = tables["preferences"].to_dict("records")
    main = Section(
        "Preferences",
        "Unit of analysis: the listener, counted for the method preferred more often; tied listeners are left out of "
        "the test. p: exact two-sided binomial test against 1/2; p Holm: corrected over the pairs of the same items. "
        "Share of A: among the answers that prefer A or B, with Wilson's 95 % interval. The share and the pooled p "
        "treat the answers of one listener as independent, which they are not.",
        (
            "Items",
            "A",
            "B",
            "Answers A / none / B",
            "Share of A",
            "Listeners A / tied / B",
            "p",
            "p Holm",
            "Pooled p",
            "Note",
        ),
        tuple(
            (
                *(row["group"], row["a"], row["b"], f"{row['prefer_a']} / {row['no_preference']} / {row['prefer_b']}"),
                *(share(row, "share_a"), f"{row['listeners_a']} / {row['listeners_tied']} / {row['listeners_b']}"),
                *(p_value(row["p"]), p_value(row["p_holm"]), p_value(row["p_pooled"]), row["note"]),
            )
            for row in rows
        ),
        figure="ab_preferences",
        alternative="Share of answers for each method of a pair; numbers in the table below",
        csv="ab_preferences.csv",
    )
    return [main, _agreement(task, tables["agreement"], "Units are the trials; Krippendorff's alpha, nominal.")]


def _abx(task: str, tables: Mapping[str, pd.DataFrame], ci: str) -> list[Section]:
    rows = tables["abx"].to_dict("records")
    main = Section(
        "Right answers",
        "p: exact one-sided binomial test against guessing (1/2), all answers pooled, the answers of one listener "
        "treated as independent; p Holm: corrected over the pairs of the same items. Share right with Wilson's 95 % "
        "interval, drawn for all items. Mean of listeners: each "
        "listener's share, with Student's t interval over listeners.",
        ("Items", "A", "B", "Right", "Share right", "p", "p Holm", "Mean of listeners", "n"),
        tuple(
            (
                *(row["group"], row["a"], row["b"], f"{row['correct']} of {row['n']}", share(row, "share")),
                *(p_value(row["p"]), p_value(row["p_holm"])),
                share({"s": row["listener_mean"], "low": row["listener_low"], "high": row["listener_high"]}, "s"),
                str(row["n_listeners"]),
            )
            for row in rows
        ),
        figure="abx_shares",
        alternative="Share of right answers by pair of methods; numbers in the table below",
        csv="abx_abx.csv",
    )
    return [main, _agreement(task, tables["agreement"], "Units are the trials; Krippendorff's alpha, nominal.")]


def _simulation(task: str, tables: Mapping[str, pd.DataFrame], ci: str) -> list[Section]:
    rows, pairs = (tables[name].to_dict("records") for name in ("simulation", "pairs"))
    main = Section(
        "How often listeners name the predicted class",
        "Share of answers that equal the predicted class, with Wilson's 95 % interval, drawn for all items; “cannot "
        "tell” counts as wrong. p: exact one-sided binomial tests against chance (1 / classes offered) and "
        "against always naming the most frequent class. Answers are pooled: the answers of one listener are treated as "
        "independent. The CSV has the agreement with the true class.",
        ("Items", "Method", "Right", "Share right", "Cannot tell", "Chance (p)", "Majority class (p)", "n"),
        tuple(
            (
                *(row["group"], row["condition"], f"{row['correct']} of {row['n']}", share(row, "share")),
                *(str(row["cannot_tell"]), f"{percent(row['chance'])} ({p_value(row['p_chance'])})"),
                f"{row['majority_class']}, {percent(row['majority_share'])} ({p_value(row['p_majority'])})",
                str(row["n_listeners"]),
            )
            for row in rows
        ),
        figure="simulate_shares",
        alternative="Share of right answers by method; numbers in the table below",
        csv="simulate_simulation.csv",
    )
    confusion = Section(
        "Confusions",
        "Counts of answers; shades are shares of the row.",
        figure="simulate_confusion",
        alternative="Confusion matrix for each method: the predicted class in rows, the answer in columns",
        csv="simulate_confusion.csv",
    )
    differences = Section(
        "Differences between methods",
        "Within listeners: Wilcoxon's signed-rank test on the shares right, or McNemar's exact test if each listener "
        "gave one answer per method. p Holm: corrected over the pairs of the same items. 95 % interval of the mean: "
        f"{INTERVALS['t']}, not corrected for the number of pairs.",
        ("Items", "A", "B", "Test", "n", "Mean A − B [95 % interval]", "p", "p Holm", "Note"),
        tuple(
            (
                *(row["group"], row["a"], row["b"], row["test"], str(row["n"])),
                *(difference(row, 3), p_value(row["p"]), p_value(row["p_holm"]), row["note"]),
            )
            for row in pairs
        ),
        csv="simulate_pairs.csv",
    )
    agreement = _agreement(task, tables["agreement"], "Units are the sounds; Krippendorff's alpha, nominal.")
    return [main, confusion, *([differences] if pairs else []), agreement]


@dataclass(frozen=True)
class Section:
    """A table with its figure and a caption that explains them; `level` 2 begins a task, 3 is a section of a task."""

    title: str
    caption: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figure: str = ""
    alternative: str = ""
    csv: str = ""
    level: int = 3

    def __post_init__(self) -> None:
        """Removes the last column if it is an empty Note column."""
        if self.columns and self.columns[-1] == "Note" and not any(row[-1] for row in self.rows):
            object.__setattr__(self, "columns", self.columns[:-1])
            object.__setattr__(self, "rows", tuple(row[:-1] for row in self.rows))


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A number with a typographic minus sign; a dash for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in percent."""
    return f"{number(100 * share, 1)} %" if math.isfinite(share) else "–"


def share(row: Mapping[str, Any], name: str) -> str:
    """A share in percent with its interval, if it has one."""
    if not math.isfinite(row["low"]):
        return percent(row[name])
    return f"{percent(row[name])} [{number(100 * row['low'], 1)}, {number(100 * row['high'], 1)}]"


def with_interval(row: Mapping[str, Any], digits: int) -> str:
    """A mean with its interval, if it has one."""
    ends = f" [{number(row['low'], digits)}, {number(row['high'], digits)}]" if math.isfinite(row["low"]) else ""
    return number(row["mean"], digits) + ends


def difference(row: Mapping[str, Any], digits: int) -> str:
    """A mean difference with its sign and, if it has one, its interval."""
    ends = (number(row[name], digits, True) for name in ("low", "high"))
    return number(row["mean_difference"], digits, True) + (f" [{', '.join(ends)}]" if math.isfinite(row["low"]) else "")


def quartiles(row: Mapping[str, Any]) -> str:
    """Median and quartiles."""
    return f"{row['median']:g} ({row['q1']:g}–{row['q3']:g})"


def p_value(p: float) -> str:
    """A p value with three decimals, or "< 0.001"."""
    return "–" if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """A p value with its relation sign, for use after "p" in a sentence."""
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"


def write(outcome: Outcome, out: Path, versions: Mapping[str, str]) -> Path:
    """Writes report.md and report.html; returns the latter's path."""
    found = outcome.answers
    page = {
        "test_id": next(iter(found.table["test_id"]), ""),
        "title": found.study.title if found.study else "Listening test",
        "outcome": outcome,
        "design": _design(outcome),
        "sections": sections(outcome),
        "listeners": _listeners(outcome),
        "remarks": _remarks(outcome),
        "screening": _screening(outcome),
        "exclusions": _exclusions(outcome),
        "preparation": _preparation(outcome),
        "versions": versions,
        "files": ["ratings.csv", "listeners.csv", "exclusions.csv", "report.json", "report.md"],
        "picture": lambda name: _picture(out, name),
    }
    for template in ("report.md", REPORT):
        render(f"listening/analysis/{template}", out, page, template)
    return out / REPORT


def _picture(out: Path, name: str) -> dict[str, Any]:
    """The result of `picture` for a figure, with the link to its SVG."""
    found = picture(out / FIGURES / f"{name}.png", out)
    return {**found, "png": found["link"], "svg": f"{FIGURES}/{name}.svg"}


def _design(outcome: Outcome) -> list[tuple[str, str]]:
    found = outcome.answers
    left = found.table[found.table["kind"] == "trial"]
    files = ", ".join(path.name for path in found.files[:6]) + (" …" if len(found.files) > 6 else "")
    judged = left[left["role"] == "interpretation"].sort_values("place", kind="stable")
    methods = ", ".join(dict.fromkeys(judged["method"]))
    lines = [("Test", next(iter(left["test_id"]), "")), ("Files", f"{len(found.files)}: {files}")]
    for task, before in outcome.before.items():
        rows = left[left["task"] == task]
        lines.append(
            (
                "Listeners" if len(outcome.before) == 1 else f"Listeners, {task}",
                f"{found.received} sessions received; {before['listeners']} listeners with answers before screening, "
                f"{rows['participant'].nunique()} after; {before['answers']} answers before, {len(rows)} after",
            )
        )
    return [*lines, ("Items", f"{left['item_id'].nunique()}"), ("Methods", methods or "–")]


ASKED = {"transducer": "listens with", "headphone_check": "headphone check", "level_check": "level check"}
MANY_ANSWERS = 12  # a question with more different answers is free text


def _listeners(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Rows of the table of listeners: question, answer, and how many sessions gave it."""
    rows = []
    for column, said in _answered(outcome).items():
        counts = said.value_counts()
        if len(counts) <= MANY_ANSWERS and not column.startswith(REMARKS):
            name = ASKED.get(column, column.removeprefix(QUESTION).replace("_", " "))
            rows += [(name, answer or "no answer", str(count)) for answer, count in counts.items()]
    return rows


def _remarks(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Free texts: listener, question and text."""
    who = outcome.answers.listeners.get("participant")
    return [
        (str(who[index] if who is not None else ""), column.removeprefix(QUESTION).replace("_", " "), text)
        for column, said in _answered(outcome).items()
        if column.startswith(REMARKS) or said.nunique() > MANY_ANSWERS
        for index, text in said.items()
        if text
    ]


def _answered(outcome: Outcome) -> dict[str, pd.Series]:
    """Column -> its answers, for the questions that at least one listener answered."""
    table = outcome.answers.listeners
    names = [str(name) for name in table if name in ASKED or str(name).startswith(QUESTION)]
    return {name: table[name] for name in names if table[name].astype(bool).any()}


def _screening(outcome: Outcome) -> list[tuple[str, str, str, str]]:
    """Rows of the screening table: rule, meaning, state, and the answers and listeners it flags."""
    rows = []
    for rule in outcome.rules:
        state = f"not checked: {rule.skipped}" if rule.skipped else "applied" if rule.applied else "reported only"
        who = ", ".join(rule.listeners[:8]) + (
            f" and {len(rule.listeners) - 8} more" if len(rule.listeners) > 8 else ""
        )
        flagged = f"{int(rule.flagged.sum())} answers of {who}" if len(rule.listeners) else "no listener"
        rows.append((rule.name, rule.meaning, state, "–" if rule.skipped else flagged))
    return rows


def _exclusions(outcome: Outcome) -> list[tuple[str, str, str]]:
    table = outcome.answers.exclusions
    counts = table.groupby(["stage", "reason"], sort=False).size() if len(table) else {}
    return [(stage, reason, str(count)) for (stage, reason), count in counts.items()]


def _preparation(outcome: Outcome) -> list[tuple[str, str]]:
    found, settings = outcome.answers, outcome.answers.settings
    options = settings.get("options", {})
    lines = []
    if found.study:
        lines.append(("Sample rate", f"{found.study.sample_rate} Hz"))
    if options.get("loudness"):
        lines.append(("Loudness", _loudness(options["loudness"], settings)))
    if options.get("bandwidth"):
        low_passed = "low-passed to the item's lowest rate" if options["bandwidth"] == "min" else "unchanged"
        lines.append(("Bandwidth", low_passed))
    gains = pd.to_numeric(found.key["gain_db"], errors="coerce").dropna()
    if len(gains):
        lines.append(
            ("Gains", f"{number(gains.min(), 1, True)} to {number(gains.max(), 1, True)} dB; the key lists each")
        )
    silent = found.key[found.key["silent"].str.lower() == "true"]
    names = sorted(set((silent["item_id"] + " " + silent["method"]).str.strip()))
    lines.append(("Silent sounds", ", ".join(names) + " (kept)" if names else "none"))
    if not settings:
        lines.append(("Settings", "settings.json was not found in the key's folder"))
    return [*lines, *(("Warning of the export", str(each)) for each in settings.get("warnings", []))]


def _loudness(how: str, settings: Mapping[str, Any]) -> str:
    target = settings.get("target_lufs")
    what = {"match": "every sound matched to", "item": "one gain per item, which brings its mixture to"}.get(how)
    if what is None or target is None:
        return "levels unchanged"
    lowered = settings.get("lowered_db") or 0
    reason = f", {number(lowered, 1)} dB below the standard level so that no peak clips" if lowered > 0 else ""
    return f"{what} {number(target, 1)} LUFS{reason}"
