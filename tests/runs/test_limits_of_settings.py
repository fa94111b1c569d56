"""Numbers that no run can work with are refused when the recipe is read, by the name of the setting."""

import math
from pathlib import Path

import pytest

from audiointerp.__main__ import main
from audiointerp.evaluation.conditions import CleanClips, Mixtures, Noise, Scenes
from audiointerp.runs import ClassMasks, Comparison, ConceptSettings, Evaluation, PlantedTruth, Sanity

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "esc50"
NAN = math.nan


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        *[(Evaluation, {name: -1}, f"{name} is -1") for name in ("clips", "mixtures")],
        *[(Sanity, {name: -1}, f"{name} is -1") for name in ("clips", "costly_clips", "mixtures", "table_clips")],
        (Sanity, {"mixtures": 0}, "ask for 1 to 100000 mixtures"),
        *[(make, {"snr_db": level}, "snr_db is") for make in (Evaluation, Sanity, ClassMasks) for level in (NAN, 101)],
        (ClassMasks, {"sounds": -1}, "sounds is -1"),
        (ClassMasks, {"mixtures": 10**12}, "mixtures is"),
        (PlantedTruth, {"label": "rain", "sounds": -1}, "sounds is -1"),
        (PlantedTruth, {"label": "rain", "margin_db": NAN}, "margin_db is nan"),
        (Comparison, {"conditions": {}, "subset": {"clean": -1}}, "subset.clean is -1"),
        (ConceptSettings, {"n_concepts": 10**8}, "above cells"),
        (CleanClips, {"clips": -1}, "clips is -1"),
        (Mixtures, {"count": 0}, "count is 0; ask for 1 to 100000 mixtures"),
        (Mixtures, {"snr_db": math.inf}, "snr_db is inf"),
        (Noise, {"folder": "white", "clips": -1}, "clips is -1"),
        (Scenes, {"count": 10**11}, "count is 100000000000"),
    ],
)
def test_settings_out_of_range(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--lr", ".nan"], "'lr' is or holds NaN"),
        (["--betas", "(0.9, .nan)"], "'betas' is or holds NaN"),
        (["--weight_decay", "-1"], "weight_decay is -1"),
        (["--loss_weights.codebook", "-1"], "loss_weights.codebook is -1"),
        (["--loss_weights.codebook", "nan"], "loss_weights.codebook is 'nan'"),
        (["--loss_weights.codebook", "[[0, 1.0], [5]]"], "loss_weights.codebook is"),
        (["--cache_bits", "8"], "cache_bits is 8; choose 32"),
        (["--readers", "-1"], "readers is -1; give 0 to 64 threads"),
        (["--seed", "-1"], "seed is -1; give a whole number from 0 to 4294967295"),
        (["--seed", "4294967296"], "seed is 4294967296; give a whole number from 0"),
    ],
)
def test_check_names_the_key(tmp_path, capsys, option, message):
    recipe = ["check", str(RECIPES / "piq.yaml"), "--data_folder", str(tmp_path), "--classifier", "esc10-piq"]
    assert main([*recipe, *option]) == 2
    assert message in capsys.readouterr().err


def test_tables_that_do_not_fit_together_are_one_line(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"finished": true, "kind": "sanity", "scored": false}')
    (tmp_path / "verdicts.csv").write_text("method,check,value,verdict,rule\nlime,stability,1,pass,at least 0.9\n")
    (tmp_path / "sanity.csv").write_text("method,check,stage,value\nlime,stability,,1\n")
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "its tables do not fit together" in error and error.count("\n") == 1
    (tmp_path / "sanity.csv").write_text("method,check,stage,value\nlime,stability,,much\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "sanity.csv, row 2: value is 'much'; expected a number" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--seconds", "1"], ["--folds", "1"]])
def test_lengths_of_mixtures_are_not_changed(tmp_path, capsys, option):
    (tmp_path / "mixtures.csv").write_text("item_id,base_stem\n")
    assert main(["evaluate", "esc10-piq", str(tmp_path / "mixtures.csv"), "-o", str(tmp_path / "out"), *option]) == 2
    assert f"{option[0]} is for labelled clips" in capsys.readouterr().err
