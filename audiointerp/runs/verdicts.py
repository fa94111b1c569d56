"""The verdicts of a run of sanity checks, also shown in the tables of comparisons. Reads files only."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from audiointerp.results.reading import read_table

CHECKS = {
    "model_randomisation": "Model randomised",
    "label_randomisation": "Labels shuffled",
    "class_sensitivity": "Class sensitivity",
    "stability": "Inaudible noise",
}

__all__ = ["CHECKS", "overall", "read_verdicts"]


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
        failed = [CHECKS[str(check)].lower() for check in group.loc[group["verdict"] == "fail", "check"]]
        words[str(method)] = f"fail: {', '.join(failed)}" if failed else "pass"
    return words
