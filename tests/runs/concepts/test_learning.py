"""A run of concepts from the command line, on tones whose concepts are known."""

import json
import shutil

import cell_maps
import pandas as pd
import pytest
from browsing import check_page
from damage import fuzz_tables

from audiointerp.__main__ import main
from audiointerp.sound import files as audio

RECIPE = """\
seed: 1
train_folds: [1]
test_folds: [2]
output_folder: results
batch_size: 4
seconds: 0.5
device: cpu
clips: !name:audiointerp.datasets.read_table
    csv_path: data/clips.csv
classifier: python:cell_maps:make
concepts: !new:audiointerp.runs.ConceptSettings
    n_concepts: 4
    dictionaries: [random, semi_nmf, k_means]
    shown: semi_nmf
    cells: 600
    strongest: 4
    window: 0.2
    named: 1
"""
RUN = ("run", "--allow", "cell_maps")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    cell_maps.write_clips(folder / "data", each=4)
    (folder / "tones.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*RUN, "tones.yaml"]) == 0
    return folder


@pytest.fixture
def done(root, monkeypatch):
    monkeypatch.chdir(root)
    return root / "results" / "tones" / "1"


def test_the_concepts_are_the_tones(done):
    scores = pd.read_csv(done / "dictionaries.csv").set_index("dictionary")
    own, control = scores.loc["semi_nmf"], scores.loc["random"]
    assert list(scores.index) == ["semi_nmf", "random", "k_means"]  # the shown one first
    assert own["labels_found"] == 3 and own["label_auc"] == 1 and own["decision"] == 1
    assert own["logit"] > 0.95 and own["representation"] > 0.9 and own["purity"] >= 0.75
    assert own["logit"] > control["logit"] + 0.2 and own["representation"] > control["representation"] + 0.2
    concepts = pd.read_csv(done / "concepts.csv")
    concepts = concepts[(concepts["dictionary"] == "semi_nmf") & (concepts["purity"] == 1)]
    # A tone's concept speaks for its class: without it, or without its sound, the class's logit falls.
    best = concepts.sort_values("direction").groupby("label").last()
    assert list(best.index) == list(cell_maps.LABELS) and (best["classes"] == best.index).all()
    # Of a random direction among 16 channels, a quarter is along the one channel that the class reads, on average.
    assert (best["direction"] > 2 * best["direction_control"].abs()).all()
    assert (best["sound"] > 2 * best["sound_control"]).all() and (best["left"] < 0.5).all()


def test_sounds_are_of_the_concept(done):
    """The masked window of each tone's concept holds its row of the map and little else."""
    clips = pd.read_csv(done / "clips.csv")
    concepts = pd.read_csv(done / "concepts.csv")
    pure = concepts[(concepts["dictionary"] == "semi_nmf") & (concepts["purity"] == 1)]
    for number in pure["concept"]:
        own = clips[(clips["dictionary"] == "semi_nmf") & (clips["concept"] == number)]
        assert list(own["rank"]) == [1, 2, 3, 4] and own["strength"].is_monotonic_decreasing
        assert ((own["stop_s"] - own["start_s"]) < 0.21).all() and (own["start_s"] >= 0).all()
        folder = done / "audio" / f"concept_{number:02d}"
        for what in ("window", "concept"):
            sound = audio.read(folder / f"1_{what}.wav", cell_maps.RATE)[0]
            assert 0.19 * cell_maps.RATE < len(sound) < 0.21 * cell_maps.RATE
            assert float(sound.abs().max()) == pytest.approx(1, abs=1e-3)


def test_page(done):
    page = (done / "report.html").read_text()
    assert page.count("<audio") == 2 * len(list(done.glob("audio/*/*_window.wav"))) > 0
    assert "% of its strongest clips are low" in page and "✓ finished" in page
    assert (done / "figures" / "labels.png").is_file() and "| semi_nmf |" in (
        done / "tables" / "dictionaries.md"
    ).read_text()
    (done / "report.html").unlink()
    assert main(["report", str(done)]) == 0 and (done / "report.html").read_text() == page
    assert json.loads((done / "run.json").read_text())["results"]["decision"] == 1


def test_a_killed_run_goes_on(done, root, capsys):
    """Without the last dictionary's row, as after a kill between the tables: the same numbers come out again."""
    before = {name: pd.read_csv(done / f"{name}.csv") for name in ("dictionaries", "concepts", "clips", "strengths")}
    kept = before["dictionaries"].iloc[:-1]
    kept.to_csv(done / "dictionaries.csv", index=False)
    assert main([*RUN, "tones.yaml"]) == 0
    for name, table in before.items():
        again = pd.read_csv(done / f"{name}.csv")
        timed = [each for each in ("seconds", "fit_seconds") if each in table]
        pd.testing.assert_frame_equal(again.drop(columns=timed), table.drop(columns=timed))
    assert main([*RUN, "tones.yaml", "--concepts.n_concepts", "5"]) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err


def test_a_recording_is_explained_by_the_run(done, root, tmp_path):
    command = ["interpret", str(done), "data/low_1.wav", "-o", str(tmp_path / "out"), "--no_figures"]
    assert main([*command, "--classifier", "python:cell_maps:make"]) == 0
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert list(scores["method"]) == ["concepts"] and scores["fidelity"].iloc[0] == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--concepts.dictionaries", "[lda]"], "dictionaries has 'lda'"),
        (["--concepts.shown", "pca"], "shown is 'pca'"),
        (["--concepts.strongest", "0"], "strongest is 0"),
        (["--concepts.window", "0.0"], "window 0.0 s"),
        (["--concepts.n_concepts", "2"], "active is 4"),
        (["--test_folds", "[]"], "test_folds is empty"),
    ],
)
def test_settings_that_cannot_work(done, capsys, more, words):
    assert main(["check", "--allow", "cell_maps", "tones.yaml", *more]) == 2
    assert words in capsys.readouterr().err


def test_a_layer_that_is_not_there(done, root, tmp_path, capsys):
    out = ["--output_folder", str(tmp_path / "r")]
    assert main([*RUN, "tones.yaml", "--concepts.layer", "5", *out]) == 2
    error = capsys.readouterr().err
    assert "gives 1; name its layers" in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_damaged_table(done, tmp_path, capsys):
    shutil.copytree(done, tmp_path / "run", dirs_exist_ok=True)
    (tmp_path / "run" / "concepts.csv").write_text("a,b\n1,2\n")
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "no column dictionary" in capsys.readouterr().err


@pytest.mark.slow
def test_damaged_tables(done, tmp_path):
    fuzz_tables(done, tmp_path, 12)


@pytest.mark.slow
def test_nothing_is_wrong_with_the_page(done):
    check_page(done / "report.html")
