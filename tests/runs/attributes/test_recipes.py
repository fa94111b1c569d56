"""FLINT's recipes in small: training by epoch, fidelity and conciseness of the test clips, and the attributes' page."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from browsing import check_page
from damage import fuzz
from references import flint as formulas
from tiny_runs import EVALUATED, changed_files, clips_of, linked, log_of, results_of, run, snapshot, with_options

import audiointerp
from audiointerp.classifiers import VGGSound
from audiointerp.interpreters import FLINT
from audiointerp.runs import AttributeSettings
from audiointerp.runs.attributes import judging, page
from audiointerp.sound.spectrogram import log_magnitude

SMALL = ("--interpreter.width", 8, "--interpreter.fine_width", 4, "--interpreter.n_attributes", 6)
SMALL += ("--batch_size", 10, "--attributes.steps", 3, "--attributes.window", 0.4, *EVALUATED)
POST_HOC = {"output_fidelity": 1.0, "sparsity": 0.01, "conciseness": 0.1, "diversity": 0.1}
JOINT = {**POST_HOC, "output_fidelity": 0.5}
STARTS = {"output_fidelity": 2, "sparsity": 2, "conciseness": 3, "diversity": 3}


@pytest.fixture(scope="module")
def post_hoc(tiny, trained, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of flint.yaml, and its command."""
    output = tmp_path_factory.mktemp("flint")
    command = with_options(tiny.recipe("flint", output), "--classifier", trained.classifier, *SMALL, "--epochs", 8)
    run(with_options(command, "--lr", 0.02))
    return output / "flint" / "1234", with_options(command, "--lr", 0.02)


@pytest.fixture(scope="module")
def by_design(tiny, tmp_path_factory) -> Path:
    """A run of flint_by_design.yaml."""
    output = tmp_path_factory.mktemp("flint")
    small = with_options(tiny.recipe("flint_by_design", output), *SMALL, "--channels", 8, "--epochs", 6, "--lr", 0.01)
    run(small)
    return output / "flint_by_design" / "1234"


def check_terms(log: pd.DataFrame, weights: dict[str, float], always: dict[str, float]) -> None:
    """Every term is logged from the first epoch; in the loss it counts from its own epoch on."""
    assert set(log) == {"epoch", "lr", "loss", *weights, *always}
    for epoch, row in enumerate(log.to_dict("records")):
        total = sum(weight * row[name] for name, weight in always.items())
        total += sum(weight * row[name] for name, weight in weights.items() if epoch >= STARTS[name])
        assert row["loss"] == pytest.approx(total, rel=1e-4), epoch


def observed(interpreter: FLINT, clips) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attributes, g's probabilities and f's class of every clip, by `interpret`."""
    made = [interpreter.interpret(clips.batch([i]).waveform) for i in range(len(clips))]
    details = [torch.cat([each.details[name] for each in made]) for name in ("attributes", "theta_probabilities")]
    return details[0], details[1], torch.cat([each.prediction.predicted for each in made])


# --- training


def test_post_hoc(tiny, trained, post_hoc):
    folder = post_hoc[0]
    log = log_of(folder, 8)
    check_terms(log, POST_HOC, {"input_fidelity": 5.0})
    assert log.input_fidelity.iloc[-1] < 0.5 * log.input_fidelity.iloc[0]  # the paper's rule for gamma
    interpreter, before = audiointerp.load(folder), audiointerp.load(trained.classifier)
    assert isinstance(interpreter, FLINT)
    own = interpreter.classifier.state_dict()
    assert own.keys() == before.state_dict().keys()
    assert all(torch.equal(value, own[name]) for name, value in before.state_dict().items())
    scores = pd.read_csv(folder / "scores.csv")
    assert set(scores.method) - {"flint_other"} == {"flint", "threshold", "loudest"}
    assert scores[scores.method == "flint"].theta_top1.isin([0, 1]).all()


def test_by_design(tiny, by_design):
    log = log_of(by_design, 6)
    check_terms(log, JOINT, {"classification": 1.0, "input_fidelity": 5.0})
    assert log.input_fidelity.iloc[-1] < 0.8 * log.input_fidelity.iloc[0]
    interpreter = audiointerp.load(by_design)
    assert isinstance(interpreter, FLINT) and isinstance(interpreter.classifier, VGGSound)
    assert interpreter.classifier.encoder.stages[0][0].weight.shape[0] == 8
    clips = clips_of(tiny.data, interpreter.classifier.labels, 4)
    _, own, predicted = observed(interpreter, clips)
    results = results_of(by_design)
    right = [interpreter.classifier.labels[int(c)] in clip.labels for c, clip in zip(predicted, clips.clips)]
    assert results["accuracy_f"] == pytest.approx(np.mean(right))
    assert results["fidelity_top1"] == pytest.approx(float((own.argmax(1) == predicted).float().mean()))


def test_several_labels(tiny, tmp_path):
    few = ("--channels", 8, "--epochs", 5, "--multilabel", "true", "--augment", "null")
    few += ("--training.label_smoothing", 0.0, "--training.augment_features", "null")
    run(with_options(tiny.recipe("flint_by_design", tmp_path), *SMALL, *few))
    folder = tmp_path / "flint_by_design" / "1234"
    assert audiointerp.load(folder).classifier.multilabel
    log = log_of(folder, 5)
    assert log.classification.iloc[-1] < log.classification.iloc[0]
    assert 0 <= results_of(folder)["fidelity_top1"] <= results_of(folder)["fidelity_top4"] <= 1
    assert (folder / "attributes.html").is_file()


# --- what is measured


def test_fidelity_conciseness_and_relevance_are_those_of_the_clips(tiny, post_hoc):
    folder = post_hoc[0]
    interpreter = audiointerp.load(folder)
    labels, weight = interpreter.classifier.labels, interpreter.h.weight.detach()
    strength, own, predicted = observed(interpreter, clips_of(tiny.data, labels, 4))
    results = results_of(folder)
    for k in (1, 2, 3, 4):
        inside = [int(c) in row.argsort(descending=True)[:k].tolist() for row, c in zip(own, predicted)]
        assert results[f"fidelity_top{k}"] == pytest.approx(np.mean(inside))
    curve = pd.read_csv(folder / "conciseness.csv")
    assert curve.tau.tolist() == [1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
    to_own = [
        formulas.relevance(strength[row : row + 1], weight, int(c))[0] for row, c in enumerate(own.argmax(1).tolist())
    ]
    for tau, mean in zip(curve.tau, curve.attributes):
        assert mean == pytest.approx(np.mean(formulas.conciseness_at(to_own, tau)))
    assert results["attributes_above_half"] == curve.attributes[1]
    # The relevance is that of the training clips: all of them, as there are fewer than 1,000.
    strength, own, _ = observed(interpreter, clips_of(tiny.data, labels, 1, 2, 3))
    expected = formulas.global_relevance(strength, weight, own.argmax(1).tolist())
    table = pd.read_csv(folder / "class_attributes.csv")
    assert list(dict.fromkeys(table["class"])) == list(labels)
    found = table.relevance.to_numpy().reshape(len(labels), 6)
    np.testing.assert_allclose(found, np.array(expected), atol=1e-4)
    attributes = pd.read_csv(folder / "attributes.csv")
    for j, names in enumerate(attributes.classes.fillna("")):
        assert set(filter(None, names.split(";"))) == {labels[c] for c in range(len(labels)) if found[c, j] > 0.1}


def test_the_strongest_clips_are_cropped_to_where_the_attribute_is_active(tiny, post_hoc):
    folder = post_hoc[0]
    interpreter = audiointerp.load(folder)
    clips = clips_of(tiny.data, interpreter.classifier.labels, 4)
    strength, _, _ = observed(interpreter, clips)
    table = pd.read_csv(folder / "attribute_clips.csv")
    paths = [str(clip.path) for clip in clips.clips]
    for j, rows in table.groupby("attribute"):
        order = sorted(range(len(paths)), key=lambda row: -float(strength[row, j]))[:3]
        wanted = [float(strength[row, j]) for row in order if strength[row, j] > 0]
        np.testing.assert_allclose(rows.strength, wanted, rtol=1e-3)
        for row in rows.to_dict("records"):
            waveform = clips.batch([paths.index(row["source"])]).waveform
            waveform = waveform / waveform.abs().max()
            course = interpreter.observe(waveform)[2].attributes.course[0, j].tolist()
            column = 16 * 186
            length = max(1, round(0.4 * 16000 / column))
            means = [sum(course[first : first + length]) for first in range(len(course) - length + 1)]
            first = round(row["start_s"] * 16000 / column)
            assert means[first] == pytest.approx(max(means), rel=1e-4)
            start, stop = first * column, min(16000, (first + length) * column)
            assert row["stop_s"] == pytest.approx(stop / 16000)
            place = folder / "audio" / "attributes" / f"attribute_{j:03d}"
            heard = soundfile.read(place / f"{row['rank']}_window.wav")[0]
            expected = waveform[0, start:stop] / waveform[0, start:stop].abs().max()
            np.testing.assert_allclose(heard, expected, atol=1e-5)
            assert len(soundfile.read(place / f"{row['rank']}_mask.wav")[0]) == len(heard)


def test_amplified_sounds_are_decoded_with_the_clips_phase(tiny, post_hoc):
    folder = post_hoc[0]
    interpreter = audiointerp.load(folder)
    clips = clips_of(tiny.data, interpreter.classifier.labels, 4)
    first = pd.read_csv(folder / "attribute_clips.csv").query("rank == 1").iloc[0]
    (number,) = [i for i, clip in enumerate(clips.clips) if str(clip.path) == first.source]
    waveform = clips.batch([number]).waveform
    waveform = waveform / waveform.abs().max()
    stft, _, made = interpreter.observe(waveform)
    energies, table = {}, pd.read_csv(folder / "attributes.csv").iloc[int(first.attribute)]
    start, stop = round(first.start_s * 16000), round(first.stop_s * 16000)
    for factor in (0, 1, 2, 4):
        course = made.attributes.course.clone()
        for column in range(course.shape[2]):
            course[0, int(first.attribute), column] *= factor
        with torch.no_grad():
            level = interpreter.rebuild(course, log_magnitude(stft))
        sound = torch.polar(level.expm1(), stft.angle())
        sound = interpreter.classifier.spectrogram.inverse(sound, 16000)[0, start:stop]
        path = folder / "audio" / "attributes" / f"attribute_{int(first.attribute):03d}" / f"amplified_{factor}.wav"
        np.testing.assert_allclose(soundfile.read(path)[0], sound / sound.abs().max(), atol=1e-4)
        energies[factor] = float(sound.square().sum())
    for factor, energy in energies.items():
        assert table[f"db_{factor}"] == pytest.approx(10 * np.log10(energy / energies[1]), abs=1e-3)
    assert table["db_1"] == 0


def test_maximisation_is_made_for_attributes_of_a_class(post_hoc):
    folder = post_hoc[0]
    table = pd.read_csv(folder / "attributes.csv")
    clips = set(pd.read_csv(folder / "attribute_clips.csv").attribute)
    for j, row in table.iterrows():
        path = folder / "audio" / "attributes" / f"attribute_{j:03d}" / "maximised.wav"
        assert path.is_file() == (isinstance(row.classes, str) and j in clips) == np.isfinite(row.maximised)
        assert not path.is_file() or row.maximised >= row.faint
    assert table.maximised.notna().any()


# --- the page, and runs that are started again


def test_the_page_plays_every_sound(post_hoc):
    folder = post_hoc[0]
    names = linked(folder / "attributes.html")
    sounds = {str(each.relative_to(folder)) for each in (folder / "audio" / "attributes").rglob("*.wav")}
    assert {each for each in names if each.endswith(".wav")} == sounds and len(sounds) > 6
    assert {"figures/class_attributes.png", "figures/conciseness.png", "attributes.csv"} <= set(names)
    assert "attributes.html" in linked(folder / "report.html")
    text = (folder / "attributes.html").read_text()
    assert f"{100 * results_of(folder)['fidelity_top1']:.1f} %" in text


def test_a_finished_run_stays_as_it_is(post_hoc):
    folder, command = post_hoc
    before, results = snapshot(folder), results_of(folder)
    run(command)
    assert changed_files(before, folder) == set() and results_of(folder) == results


def test_attributes_are_continued_where_they_ended(post_hoc, tmp_path, monkeypatch):
    """A run that ended after two attributes makes the others only, and ends with the same files."""
    folder, command = post_hoc
    output = tmp_path / "again"
    shutil.copytree(folder.parents[1], output)
    copy = output / "flint" / "1234"
    whole = snapshot(folder)
    table = (copy / "attributes.csv").read_text().splitlines(keepends=True)
    (copy / "attributes.csv").write_text("".join(table[:3]))
    for j in range(2, 6):
        shutil.rmtree(copy / "audio" / "attributes" / f"attribute_{j:03d}", ignore_errors=True)
    made, original = set(), judging._write_window
    monkeypatch.setattr(judging, "_write_window", lambda *given: made.add(given[2]) or original(*given))
    interpreter = audiointerp.load(copy)
    labels, data = interpreter.classifier.labels, Path(command[command.index("--data_folder") + 1])
    settings = AttributeSettings(steps=3, window=0.4)
    judging.write(interpreter, clips_of(data, labels, 4), clips_of(data, labels, 1, 2, 3), copy, settings, 1234)
    assert made and min(made) >= 2
    assert changed_files(whole, copy) == set()


def test_a_page_without_its_tables(post_hoc, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(post_hoc[0], copy)
    table = pd.read_csv(copy / "conciseness.csv")
    table.iloc[:0].to_csv(copy / "conciseness.csv", index=False)
    with pytest.raises(ValueError, match=r"no conciseness\.csv with rows in it"):
        page.write(copy)
    table.drop(columns="tau").to_csv(copy / "conciseness.csv", index=False)
    with pytest.raises(ValueError, match="no column tau"):
        page.write(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attributes", "attribute_clips", "class_attributes", "conciseness"])
def test_damaged_tables(post_hoc, tmp_path, name):
    copied = shutil.copytree(post_hoc[0], tmp_path / "run")
    fuzz(copied / f"{name}.csv", ["report", copied], copied.name, 12)


@pytest.mark.slow
def test_nothing_is_wrong_with_the_page(post_hoc):
    check_page(post_hoc[0] / "attributes.html")


@pytest.mark.parametrize("settings", [{"clips": 0}, {"strongest": 0}, {"steps": -1}, {"window": 0.0}, {"start": 0.0}])
def test_settings_that_cannot_work(settings):
    with pytest.raises(ValueError, match="AttributeSettings"):
        AttributeSettings(**settings)
