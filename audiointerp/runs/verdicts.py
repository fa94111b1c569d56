"""The verdicts of a run of sanity checks, also shown in the tables of comparisons. Reads files only."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from audiointerp.results.reading import read_table

CHECKS = {
    "class_sensitivity": "Class sensitivity",
    "model_randomisation_audible": "Model randomised",
    "model_randomisation_heard": "Model randomised, by hearing",
    "label_randomisation_audible": "Labels shuffled",
    "label_randomisation_heard": "Labels shuffled, by hearing",
    "stability": "Inaudible noise",
    "model_randomisation": "Model randomised, all bins of clips",
    "label_randomisation": "Labels shuffled, all bins of clips",
}
# Shown, but not counted: over all bins, two masks also agree because both are 0 where the clip is silent.
SHOWN_ONLY = ("model_randomisation", "label_randomisation")

__all__ = ["CHECKS", "SHOWN_ONLY", "overall", "read_verdicts"]


def read_verdicts(folder: str | Path) -> pd.DataFrame:
    """verdicts.csv of a run of sanity checks; ValueError if there is none."""
    path = Path(folder) / "verdicts.csv"
    if not path.is_file():
        raise ValueError(f"{folder}: has no verdicts.csv; run sanity.yaml first and name its run folder")
    return read_table(path, ("method", "check", "value", "verdict"))


def overall(verdicts: pd.DataFrame) -> dict[str, str]:
    """Method -> "pass", or "fail: <the failed checks>"; a check that was not run does not count as failed."""
    words = {}
    for method, group in verdicts.groupby("method", sort=False):
        checks = group.loc[group["verdict"] == "fail", "check"]
        failed = [CHECKS[str(check)].lower() for check in checks if check not in SHOWN_ONLY]
        words[str(method)] = f"fail: {', '.join(failed)}" if failed else "pass"
    return words
