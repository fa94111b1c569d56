"""Tables of a run and their means, by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from audiointerp.metrics.names import INFO
from audiointerp.results.reading import Run, format_score, read_table, score_columns, summary
from audiointerp.results.tables import FACTS, SCORE_COLUMNS


def test_summary_by_hand():
    scores = pd.DataFrame(
        {
            "item_id": list("abcd"),
            "method": ["piq", "piq", "piq", "l2i"],
            "faithfulness": [0.1, 0.3, math.nan, 0.5],
            "si_sdr": [1.0, 5.0, -90.0, math.inf],
            "silent": [False, "0", "True", 0],
            "start_s": [0.0] * 4,
            "extra": [1, 2, 3, 4],
        }
    )
    table = summary(scores).set_index(["method", "metric"])
    assert list(table.columns) == ["mean", "sd", "n_scored", "n", "n_silent"]
    expected = {
        # The missing value leaves; the silent row stays.
        ("piq", "faithfulness"): (0.2, math.sqrt(0.02), 2, 3, 1),
        # The silent row's -90 dB leaves.
        ("piq", "si_sdr"): (3.0, math.sqrt(8), 2, 3, 1),
        ("piq", "extra"): (2.0, 1.0, 3, 3, 1),
        ("l2i", "faithfulness"): (0.5, math.nan, 1, 1, 0),
        ("l2i", "si_sdr"): (math.nan, math.nan, 0, 1, 0),
        ("l2i", "extra"): (4.0, math.nan, 1, 1, 0),
    }
    assert list(table.index) == list(expected)
    for key, values in expected.items():
        assert tuple(table.loc[key]) == pytest.approx(values, nan_ok=True)


def test_tables_keep_names_as_text_and_truth_as_numbers(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(
        "item_id,method,label,target,fidelity,ad,silent\n007,piq,NA,1,True,,True\n008,piq,,None,,nan,False\n"
    )
    table = read_table(path, ("item_id", "method"))
    assert table["item_id"].tolist() == ["007", "008"]
    assert table["label"].tolist() == ["NA", ""] and table["target"].tolist() == ["1", "None"]
    assert table["fidelity"].iloc[0] == 1.0 and math.isnan(table["fidelity"].iloc[1])
    assert score_columns(table) == ["fidelity", "ad"]
    assert summary(table)[["metric", "n_scored", "n_silent"]].values.tolist() == [["fidelity", 1, 1], ["ad", 0, 1]]


def test_run_is_named_by_recipe_and_seed(tmp_path):
    (tmp_path / "scores.csv").write_text("item_id,method\n")
    for content, name in [("{}", tmp_path.name), ('{"name": "piq", "seed": 0}', "piq, seed 0")]:
        (tmp_path / "run.json").write_text(content)
        assert Run.read(tmp_path).name == name


def test_format_score():
    given = [(0.5, ""), (100.0, "%"), (-1.25, "dB"), (0.004, "s"), (math.inf, "dB"), (None, ""), (-0.00001, "")]
    assert [format_score(*each) for each in given] == ["0.500", "100.0 %", "−1.2 dB", "0.00 s", "∞", "–", "0.000"]


def test_every_metric_is_described():
    names = tuple(FACTS)
    assert set(SCORE_COLUMNS) - set(names) - {"chosen"} == set(INFO)
    assert all(name == info.name and info.label and info.help.endswith(".") for name, info in INFO.items())
    assert {info.unit for info in INFO.values()} == {"", "%", "dB", "s"}
    assert [name for name, info in INFO.items() if info.higher_is_better is False] == [
        "ad",
        "deletion",
        "complexity",
        "other_si_sdr_improvement",
        "wav_ad",
        "distortion",
        "rate",
        "silent",
        "seconds",
    ]
