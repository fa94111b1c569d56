"""What a page says of the checks that an explanation's method failed."""

from pathlib import Path

import pandas as pd
import pytest

from audiointerp.interpreters import catalogue
from audiointerp.results import checks
from audiointerp.results.checks import MEANING, told_of
from audiointerp.runs.sanity.checks import Sanity

TABLE = pd.read_csv(Path(checks.__file__).parent / "measured_checks.csv", keep_default_na=False)
COMMAND = "# audiointerp interpret esc10-piq"


def about(model: str = "esc10-piq", kind: str = "interpret") -> dict[str, str]:
    return {"kind": kind, "model": model}


def test_failed_checks_are_told_with_their_values():
    failed, passed = told_of("piq", about(), COMMAND)
    beep = "of a classifier that decides by a beep it showed the beep in 0% of the clips"
    assert failed.startswith(f"Checks that this method failed on ESC-10: planted cue ({beep}); deaf to a band (")
    assert failed.endswith("it showed the sound that decides in 0% of the cases).")
    assert passed.startswith(
        "Passed on ESC-10: right class, random weights by hearing, random weights over audible bins"
    )


def test_a_method_that_passed_everything_has_nothing_to_tell_but_that():
    failed, passed = told_of("occlusion", about("a tagger", "evaluate"), COMMAND)
    assert failed == "" and passed == "Passed on ESC-10: right class, inaudible noise, planted cue."


@pytest.mark.parametrize("name", ["lime_nmf", "lime_nmf_dog", "lime_nmf_other"])
def test_the_longest_name_counts(name):
    """lime_nmf is another method than lime; a target's name is added to the method's."""
    assert "inaudible noise (its mask has a rank correlation of 0.40" in told_of(name, about(), COMMAND)[0]
    assert "inaudible noise" in told_of("lime_dog", about(), COMMAND)[1]


@pytest.mark.parametrize(
    ("name", "of", "command"),
    [
        ("piq", about("results/piq/1"), COMMAND),  # a run of one's own
        ("l2i", about("esc10-piq"), COMMAND),
        ("vibi", about(), COMMAND),
        ("gradcam", about(kind="interpreter"), COMMAND),  # a recipe's methods have settings of their own
        ("gradcam", about(), f"{COMMAND} --binary"),
        ("gradcam", about(), f"{COMMAND} --domain magnitude"),
        ("gradcam", {}, ""),
    ],
)
def test_nothing_is_said_of_what_was_not_checked(name, of, command):
    assert told_of(name, of, command) == ("", "")


def test_the_table_fits_the_rules_of_the_checks():
    """Each verdict follows from its value by the limits of sanity.yaml, and of planted truth (0.95)."""
    limits = Sanity()
    rules = {
        "right class": lambda value: value >= limits.min_right,
        "random weights, by hearing": lambda value: value <= limits.max_right,
        "random weights, audible bins": lambda value: value <= limits.max_correlation,
        "inaudible noise": lambda value: value >= limits.min_stable,
        **dict.fromkeys(
            ("planted cue", "deaf to a band", "first second only", "exchanged labels"), lambda value: value >= 0.95
        ),
    }
    assert rules.keys() == MEANING.keys()
    names = {*catalogue.kinds(), catalogue.DEFAULT}
    for row in TABLE.itertuples():
        assert row.method in names and (row.verdict == "pass") == rules[row.check](row.value), row
    assert not TABLE.duplicated(["method", "bundle", "check"]).any()
