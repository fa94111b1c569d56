"""Scores over time from the command line: scenes made, evaluated and compared; empty where no times are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from audiointerp.__main__ import main
from audiointerp.datasets.events import write_events

pytestmark = pytest.mark.slow  # whole recipes

RATE = 16000
LABELS = ("clock_tick", "dog", "rain")
TIMES = ["time_auc", "time_iou", "time_f1", "pointing_game"]
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def run(*arguments: object) -> None:
    assert main([str(each) for each in arguments]) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """ESC-50's layout: one clip of 1 s a class and fold, noise from 0.2 to 0.6 s; the times of fold 4 are known."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "audio").mkdir()
    (folder / "meta").mkdir()
    rows = []
    for fold in (1, 2, 3, 4):
        for target, label in enumerate(LABELS):
            sound = 0.001 * rng.standard_normal(RATE)
            sound[RATE // 5 : RATE * 3 // 5] += 0.3 * rng.standard_normal(RATE * 2 // 5)
            name = f"{fold}-{fold}{target}-A-{target}.wav"
            soundfile.write(folder / "audio" / name, sound, RATE)
            rows.append({"filename": name, "fold": fold, "target": target, "category": label})
    pd.DataFrame(rows).to_csv(folder / "meta" / "esc50.csv", index=False)
    known = [(row["filename"], {row["category"]: ((0.2, 0.6),)}) for row in rows if row["fold"] == 4]
    write_events(folder / "meta" / "events.csv", known)
    return folder


def test_scenes_and_their_evaluation(data, tmp_path, capsys):
    made, out = tmp_path / "scenes", tmp_path / "scores"
    few = ["--items", 2, "--seconds", 1, "--events", 2, 2, "--event_seconds", 0.2, 0.4, "--folds", 4]
    run("scenes", data, "-o", made, *few, "--no_noise", "--level", -3, 0)
    assert str(made / "scenes.csv") in capsys.readouterr().out
    run("evaluate", "esc10-piq", made / "scenes.csv", "-o", out, "--method", "allpass,randommoments", "--no_figures")
    scores = pd.read_csv(out / "scores.csv")
    assert len(scores) == 4 and (scores.target == scores.label).all() and scores[TIMES].notna().all(axis=None)
    assert set(scores.condition) == {"scene"} and all(len(each.split(";")) == 2 for each in scores.recordings.map(str))
    assert scores.si_sdr.notna().any()  # stems are known, too
    energy = scores[scores.method == "allpass"]
    assert (energy.time_auc > 0.5).all()  # the sounds themselves are all there is in a scene


def test_clips_with_and_without_times(data, tmp_path):
    """Of the clips of fold 4 the times are known: but only of their own class, which another prediction is not."""
    for fold in (3, 4):
        out = tmp_path / str(fold)
        few = ["--folds", fold, "--seconds", 1, "--method", "allpass", "--no_figures"]
        run("evaluate", "esc10-piq", data, "-o", out, *few)
        scores = pd.read_csv(out / "scores.csv")
        assert (scores[TIMES].notna().all(axis=1) == ((scores.target == scores.label) & (fold == 4))).all()


def test_the_recipe_compares_over_time(data, tmp_path):
    recipe = RECIPES / "esc50" / "times.yaml"
    names = [line.strip().split(":")[0] for line in recipe.read_text().splitlines() if line.startswith("    ")]
    left_out = [
        *("segments_forest_noise", "segments_ridge", "segments_ridge_noise", "lime_segments", "shapley_segments"),
        *("lime_nmf", "lime", "rise", "occlusion", "guided_gradcam", "saliency", "smoothgrad", "integrated_gradients"),
        *("gradient_shap", "l2i"),
    ]
    assert {*left_out} <= {*names}
    few = [each for name in left_out for each in (f"--methods.{name}", "null")]
    few += ["--methods.segments_forest.n_samples", 20, "--comparison.conditions.scenes.count", 3]
    few += ["--comparison.conditions.scenes.event_seconds", "[0.2,0.4]", "--seconds", 1.0, "--device", "cpu"]
    run("run", recipe, "--data_folder", data, "--output_folder", tmp_path, *few)
    folder = tmp_path / "times" / "1234"
    scores = pd.read_csv(folder / "scores.csv")
    assert set(scores.method) == {
        "segments_forest",
        "gradcam",
        "piq",
        "piq_magnitude",
        "energy",
        "random",
        "ideal_ratio",
    }
    assert scores[TIMES].notna().all(axis=None) and scores.insertion.isna().all()
    # A known sound as its own mask points to its own time.
    assert scores[scores.method == "ideal_ratio"].time_auc.mean() > 0.9
    text = (folder / "tables" / "tables.md").read_text()
    assert "| Time | items | AUC over time ↑ | IoU over time ↑ | F1 over time ↑ | Pointing game ↑ |" in text
    assert "Insertion" not in text and "AUC over time" in (folder / "report.html").read_text()


def test_refused_in_one_line(data, tmp_path, capsys):
    for more, word in (
        (["--items", 0], "1 to 100000 scenes"),
        (["--events", 3, 2], "the fewest and the most"),
        (["--events", 9, 9, "--event_seconds", 0.1, 0.2], "ask for fewer events"),
        (["--seconds", 1], "a scene has 1 s"),
        (["--folds", 7], "no clips in folds"),
    ):
        assert main([str(each) for each in ("scenes", data, "-o", tmp_path / "out", *more)]) == 2
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
