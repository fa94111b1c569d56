"""A recipe that asks for which classes a concept speaks: tones in ESC-50's layout, for a classifier that reads them."""

from __future__ import annotations

import json
import shutil

import cell_maps
import numpy as np
import pandas as pd
import pytest
import torch
from browsing import check_page
from damage import fuzz_tables
from tiny_runs import RECIPES, linked, run

from audiointerp.__main__ import main
from audiointerp.interpreters.concepts import Representation
from audiointerp.interpreters.concepts.directions import concept_direction, tcav_score
from audiointerp.sound import files as audio

RATE = 16000


def sound(label: str | None, number: int) -> torch.Tensor:
    """A tone of a class, or none, in noise; (samples,)."""
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(number))
    return noise if label is None else noise + cell_maps.tone(label, 1.0, number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """data/ in ESC-50's layout, two folds; has/ with low tones and lacks/ with noises."""
    made = tmp_path_factory.mktemp("tcav")
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for index, label in enumerate(cell_maps.LABELS):
        for number in range(4):  # the last one for training, which this recipe does not do
            fold = 1 + number // 3
            name = f"{fold}-{index}{number}-A-{index}.wav"
            audio.write(made / "data" / "audio" / name, sound(label, 10 * index + number), RATE)
            lines.append(f"{name},{fold},{index},{label},False,{index}{number},A")
    (made / "data" / "meta").mkdir()
    (made / "data" / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    for number in range(8):
        audio.write(made / "has" / f"{number}.wav", sound("low", 100 + number), RATE)
    for number in range(16):
        audio.write(made / "lacks" / f"{number}.wav", sound(None, 200 + number), RATE)
    return made


def command(folder, out, *more):
    start = ["run", RECIPES / "tcav.yaml", "--data_folder", folder / "data", "--output_folder", out, "--device", "cpu"]
    start += ["--train_folds", "[2]", "--test_folds", "[1]", "--seconds", "1.0", "--seed", "1"]
    start += ["--classifier", "python:cell_maps:make", "--allow", "cell_maps"]
    return [str(each) for each in (*start, "--tcav.has", folder / "has", "--tcav.lacks", folder / "lacks", *more)]


@pytest.fixture(scope="module")
def done(folder):
    run(command(folder, folder / "out", "--tcav.name", "a low <tone>"))
    return folder / "out" / "tcav" / "1"


def test_the_tone_speaks_for_its_class_alone(done):
    table = pd.read_csv(done / "concept.csv").set_index("target")
    assert list(table.index) == sorted(cell_maps.LABELS) and (table.sounds == 3).all() and (table.layer == -1).all()
    assert table.score["low"] == 1 and table.effect["low"] > 0 and table.accuracy["low"] > 0.9
    assert (table.drop("low").effect < 0).all()  # at peak 1, a sound with the tone has less noise in the other bands
    assert len(pd.read_csv(done / "draws.csv")) == 30 * len(cell_maps.LABELS)
    results = json.loads((done / "run.json").read_text())["results"]
    assert sum(results.values()) == len(cell_maps.LABELS) and results["for"] == 1


def test_the_effect_has_the_sign_of_the_direction_of_all_sounds(done, folder):
    """Without draws: the direction between the two folders, and the gradients of the clips, step by step."""
    classifier = cell_maps.make()
    representation = Representation(classifier, -1)

    def vectors(paths):
        waveforms = [audio.normalize_peak(audio.read(path, RATE))[0] for path in paths]
        with torch.no_grad():
            return np.stack([representation.of(each)[0].mean((1, 2)).double().numpy() for each in waveforms])

    direction = concept_direction(
        vectors(sorted((folder / "has").iterdir())), vectors(sorted((folder / "lacks").iterdir()))
    )
    table = pd.read_csv(done / "concept.csv").set_index("target")
    for index, label in enumerate(cell_maps.LABELS):
        target = torch.tensor([[n == index for n in range(len(cell_maps.LABELS))]])
        clips = sorted((folder / "data" / "audio").glob(f"1-*-{index}.wav"))
        waveforms = [audio.normalize_peak(audio.read(path, RATE))[0] for path in clips]
        gradients = np.concatenate([representation.gradient(each, target).double().numpy() for each in waveforms])
        if abs(table.effect[label]) > 1e-6:
            assert (tcav_score(gradients, direction) > 0.5) == (table.effect[label] > 0)


def test_the_page_says_it_and_plays_the_sounds(done, capsys):
    page = (done / "report.html").read_text()
    assert "At feature map -1, a low &lt;tone&gt; speaks for low (TCAV score 1.00" in page
    assert [name for name in linked(done / "report.html") if name.endswith(".wav")] == [
        f"audio/{name}_{number}.wav" for name in ("has", "lacks") for number in range(4)
    ]
    before = (done / "concept.md").read_text()
    (done / "concept.md").unlink()
    assert main(["report", str(done)]) == 0  # from files alone
    assert (done / "concept.md").read_text() == before and before.count("\n- ") == len(cell_maps.LABELS) - 1


def test_again_and_with_several_layers_and_classes(done, folder):
    before = (done / "concept.csv").read_bytes()
    run(command(folder, folder / "out", "--tcav.name", "a low <tone>"))
    assert (done / "concept.csv").read_bytes() == before
    few = ("--tcav.draws", "3", "--tcav.clips", "2")
    run(command(folder, folder / "two", "--tcav.targets", "[low+middle, low]", *few))
    table = pd.read_csv(folder / "two" / "tcav" / "1" / "concept.csv")
    assert list(table.target) == ["low + middle", "low"] and list(table.sounds) == [2, 2] and set(table.name) == {"has"}


def test_classes_without_a_clip_that_can_be_heard_are_left_out_unless_named(folder, tmp_path, capsys):
    copied = shutil.copytree(folder / "data", tmp_path / "data")
    for path in sorted((copied / "audio").glob("1-*-2.wav")):
        audio.write(path, torch.zeros(RATE), RATE)
    given = [each.replace(str(folder / "data"), str(copied)) for each in command(folder, tmp_path / "out")]
    run([*given, "--tcav.draws", "3"])
    table = pd.read_csv(tmp_path / "out" / "tcav" / "1" / "concept.csv")
    assert list(table.target) == ["high", "low"]
    capsys.readouterr()
    assert main([*given, "--tcav.targets", "[middle]"]) == 2
    assert "targets has 'middle', which has no test clip that can be heard" in capsys.readouterr().err


def test_examples_that_were_changed_are_noticed(folder, tmp_path, capsys):
    copied = shutil.copytree(folder / "has", tmp_path / "has")
    given = [each.replace(str(folder / "has"), str(copied)) for each in command(folder, tmp_path / "out")]
    run([*given, "--tcav.draws", "3"])
    audio.write(copied / "0.wav", sound("low", 999), RATE)
    before = (tmp_path / "out" / "tcav" / "1" / "concept.csv").read_bytes()
    assert main([*given, "--tcav.draws", "3"]) == 2
    assert "data" in capsys.readouterr().err
    assert (tmp_path / "out" / "tcav" / "1" / "concept.csv").read_bytes() == before


def test_an_empty_cell_is_named(done, tmp_path, capsys):
    copied = shutil.copytree(done, tmp_path / "copy")
    table = pd.read_csv(copied / "concept.csv")
    table.loc[1, "p_holm"] = np.nan
    table.to_csv(copied / "concept.csv", index=False)
    assert main(["report", str(copied)]) == 2
    assert "concept.csv, row 3: has an empty cell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "column", "value", "told"),
    [
        ("concept.csv", "score", 1e308, "outside 0 to 1"),
        ("concept.csv", "p_holm", -3, "outside 0 to 1"),
        ("concept.csv", "layer", 2.6, "half a layer"),
        ("concept.csv", "target", "low", "not of the same classes"),
        ("draws.csv", "target", "zebra", "not of the same classes"),
        ("draws.csv", "score", 0.123, "not the means"),
    ],
)
def test_tables_that_no_test_gives_are_refused(done, tmp_path, capsys, name, column, value, told):
    copied = shutil.copytree(done, tmp_path / "copy")
    table = pd.read_csv(copied / name)
    table[column] = table[column].astype(object)
    table.loc[0, column] = value
    table.to_csv(copied / name, index=False)
    assert main(["report", str(copied)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_damaged_tables(done, tmp_path):
    fuzz_tables(done, tmp_path / "copy", 12)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tcav.has", "no/where"], "no such file or folder"),
        (["--tcav.targets", "[lo]"], "did you mean 'low'?"),
        (["--tcav.targets", "[top3]"], "name it"),
        (["--tcav.targets", "[low, low]"], "give each once"),
        (["--tcav.layers", "[3]"], "layers has 3; this classifier has feature maps 0 to 0"),
        (["--tcav.layers", "[-1, 0]"], "the same feature map"),
        (["--tcav.draws", "1000000000"], "at most 10000"),
        (["--tcav.targets", "[low+high, high+low]"], "targets are"),
        (["--tcav.layers", "[]"], "give each once"),
        (["--tcav.draws", "1"], "at least 2 draws"),
        (["--tcav.lacks", "[]"], "lacks is empty"),
        (["--test_folds", "[]"], "test_folds is empty"),
    ],
)
def test_bad_settings_are_one_line(folder, tmp_path, capsys, more, words):
    given = command(folder, tmp_path / "out")
    for name, value in zip(more[::2], more[1::2]):
        if name in given:
            given[given.index(name) + 1] = value
        else:
            given += [name, value]
    assert main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert words in error and not list(tmp_path.rglob("concept.csv"))


def test_a_run_without_tables_is_named(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"kind": "tcav", "name": "x", "scored": False}))
    assert main(["report", str(tmp_path)]) == 2
    assert "has no concept.csv" in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_is_wrong_with_the_page(done):
    check_page(done / "report.html")
