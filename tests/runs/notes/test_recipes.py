"""The recipes of NSynth on tiny notes: what they write, whether the numbers are right, and one line for what is not."""

from __future__ import annotations

import functools
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from browsing import check_page
from damage import fuzz_tables
from matplotlib.image import imread
from notes import BANDS, HARMONICS, INSTRUMENTS, RATE, RECIPES, SAMPLES, entry, make_notes, recipe

from audiointerp.__main__ import main
from audiointerp.bundles import bundle
from audiointerp.classifiers import VGGSound
from audiointerp.interpreters import BandRDE
from audiointerp.interpreters.rde.inpainter import Inpainter
from audiointerp.results.tables import Scores
from audiointerp.runs.notes import figures as note_figures
from audiointerp.runs.notes import inpainter as inpainting_report
from audiointerp.runs.notes.explaining import NoteExplanations, _in_turn
from audiointerp.runs.notes.magnitude_phase import MagnitudePhase

pytestmark = pytest.mark.slow  # whole recipes

FILLERS = ("zeros", "noise", "donor", "generator")
CLASSES = tuple(HARMONICS)
FEW = ("--notes.per_class", 1, "--notes.solver.steps", 6, "--notes.solver.samples", 4, "--notes.curve_notes", 2)
QUICK = ("--query.steps", 4, "--query.samples", 2)
# A page, its tables and run.json are written by every run again; nothing else is.
REWRITTEN = ("report.html", "run.json")


class Runs:
    """Where the runs of the four recipes lie, and the options that name those that others build on."""

    def __init__(self, root: Path):
        self.data, self.results = root / "data", root / "results"
        self.classifier, self.inpainter, self.rde, self.query = (
            self.results / name / "1234" for name in ("classifier", "inpainter", "rde", "magnitude_vs_phase")
        )

    def command(self, name: str, output: Path | None = None, *more: object) -> list[str]:
        given = {
            "classifier": ("--bands", BANDS, "--epochs", 8, "--lr", 0.01),
            "inpainter": ("--epochs", 2, "--inpainter.width", 4, "--inpainter.blocks", 1),
            "rde": FEW,
            "magnitude_vs_phase": QUICK,
        }[name]
        builds_on = {"--classifier": self.classifier, "--fillers": self.inpainter}
        wanted = {"classifier": 0, "inpainter": 1}.get(name, 2)
        options = {**dict(list(builds_on.items())[:wanted]), **dict(zip(given[::2], given[1::2]))}
        options |= dict(zip(more[::2], more[1::2]))
        return recipe(name, self.data, output or self.results, *(each for pair in options.items() for each in pair))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, _own_cache) -> Runs:
    """All four recipes, run by the command line; the discriminators that judge fillers are trained for ten steps."""
    made = Runs(tmp_path_factory.mktemp("nsynth"))
    make_notes(made.data)
    quick = functools.partial(inpainting_report.judge_fillers, steps=10, seeds=(0,), resamples=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainting_report, "judge_fillers", quick)
        for name in ("classifier", "inpainter", "rde", "magnitude_vs_phase"):
            assert main(made.command(name)) == 0, name
    return made


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; its one line on stderr."""

    def run(*arguments) -> str:
        capsys.readouterr()
        status = main([str(each) for each in arguments])
        error = capsys.readouterr().err
        assert status == 2, error
        assert error.count("\n") == 1 and error.startswith("audiointerp: "), error
        return error

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are laid out, and not written."""
    monkeypatch.setattr(note_figures, "save_figure", lambda figure, path: None)


def results(run: Path) -> dict:
    about = json.loads((run / "run.json").read_text())
    assert about["finished"]
    return about["results"]


def files_of(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


def linked(run: Path) -> set[str]:
    """Files that the page plays, shows or names; all of them exist."""
    names = set(re.findall(r'(?:src|href)="([^"#:]+)"', (run / "report.html").read_text()))
    assert names <= files_of(run), names - files_of(run)
    return names


def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path)
    assert rate == RATE and samples.ndim == 1
    return samples


def heard_notes(runs) -> dict[str, list[Path]]:
    """Files of the test notes by family."""
    folder = runs.data / "nsynth-test" / "audio"
    return {family: sorted(folder.glob(f"{family}_*.wav")) for family in CLASSES}


@torch.no_grad()
def logits_of(classifier, path: Path, left=(1, 1, 1)) -> torch.Tensor:
    """The classifier's logits of a note, of which the level, cosine and sine are left as said."""
    samples = read(path)
    waveform = torch.from_numpy(samples / np.abs(samples).max()).float()[None]
    features = classifier.log_frequency(waveform) * torch.tensor(left)[:, None]
    return classifier.classify(features).logits[0]


# --- the classifier


def test_the_classifier_is_told_apart_by_channel(runs):
    """The three accuracies, note by note from the files."""
    classifier = bundle.load(runs.classifier)
    assert classifier.labels == CLASSES and classifier.log_frequency.config["bands"] == BANDS
    found = results(runs.classifier)
    for key, left in (("", (1, 1, 1)), ("_magnitude_only", (1, 0, 0)), ("_phase_only", (0, 1, 1))):
        right = [
            classifier.labels[int(logits_of(classifier, path, left).argmax())] == family
            for family, paths in heard_notes(runs).items()
            for path in paths
        ]
        assert found[f"test_accuracy{key}"] == pytest.approx(np.mean(right)), key
    assert found["test_clips"] == len(right) == 8
    assert {"figures/confusion.png", "log.csv", "best/config.json", "report.html"} <= files_of(runs.classifier)


def test_counts_are_told(runs, caplog):
    with caplog.at_level(logging.INFO, "audiointerp"):
        assert main(runs.command("classifier")) == 0
    assert "| flute | 12 (2) | 4 (1) | 4 (1) |" in caplog.text and "| all | 24 (4) | 8 (2) | 8 (2) |" in caplog.text


# --- the inpainter


def test_the_inpainter_is_judged_beside_the_other_fillers(runs):
    table = pd.read_csv(runs.inpainter / "fillers.csv").set_index("filler")
    assert tuple(table.index) == FILLERS
    for name in ("entropy_share", "auc", "auc_low", "auc_high", "auc_replaced"):
        assert table[name].between(0, 1).all(), name
    # Of two classes; zeros make every note alike.
    assert table.entropy.between(0, np.log(2) + 1e-6).all() and table.level_diversity["zeros"] == 0
    found, row = results(runs.inpainter), table.loc["generator"]
    assert found["auc"] == row.auc and found["entropy"] == row.entropy
    fine = row.entropy >= 0.5 * row.real_entropy and row.level_diversity >= 0.1 and row.phase_diversity >= 0.1
    fine &= row.auc <= 0.95 or row.auc < table.auc["donor"]
    assert found["accepted"].startswith("yes" if fine else "no: ")
    page = (runs.inpainter / "report.html").read_text()
    assert f"Generator accepted: {found['accepted']}" in page and all(f">{name}</th>" in page for name in FILLERS)


def test_inpainted_notes_can_be_heard(runs):
    folders = sorted((runs.inpainter / "audio").iterdir())
    assert len(folders) == 4
    links = linked(runs.inpainter)
    for folder in folders:
        note = read(folder / "0_note.wav")
        source = read(runs.data / "nsynth-test" / "audio" / f"{folder.name}.wav")
        np.testing.assert_allclose(note, source / np.abs(source).max(), atol=1e-5)
        filled = [read(folder / f"filled_by_{name}.wav") for name in FILLERS]
        assert {len(each) for each in filled} == {SAMPLES}
        assert all(np.abs(each).max() <= 1 + 1e-6 for each in filled)
        # An untrained generator leaves the donor as it is.
        different = [note, *filled[: FILLERS.index("generator")]]
        for i, each in enumerate(different):
            assert all(np.abs(each - other).max() > 0.01 for other in different[:i])
        assert np.abs(filled[-1] - note).max() > 0.01
        assert {f"audio/{folder.name}/filled_by_{name}.wav" for name in FILLERS} <= links
        assert f"figures/{folder.name}.png" in links
    assert {"figures/training.png", "fillers.csv", "tables/fillers.md", "log.csv"} <= links


def test_the_bundle_is_the_generator_that_was_judged(runs):
    inpainter = bundle.load(runs.inpainter)
    assert isinstance(inpainter, Inpainter) and tuple(inpainter.fillers()) == FILLERS
    assert inpainter.config["width"] == 4 and inpainter.config["bands"] == BANDS
    log = pd.read_csv(runs.inpainter / "log.csv")
    assert len(log) == 2 and {"discriminator_discrimination", "generator_adversarial", "valid_level_error"} <= set(log)


# --- what must stay


@pytest.fixture(scope="module")
def scores(runs) -> pd.DataFrame:
    return pd.read_csv(runs.rde / "scores.csv")


def test_every_filler_explains_every_note(runs, scores):
    assert len(scores) == 2 * 4 and not scores.duplicated(["item_id", "method"]).any()
    assert set(scores.method) == {f"rde_{name}" for name in FILLERS} and set(scores.label) == set(CLASSES)
    assert scores[["rate", "saturated"]].apply(lambda each: each.between(0, 1)).all(axis=None)
    assert (scores[["distortion_empty", "distortion"]] >= 0).all(axis=None)
    expected = {"scores.csv", "manifest.csv", "curves.csv", "class_maps.csv", "tables/fillers.md", "report.html"}
    assert expected <= files_of(runs.rde)
    accuracies = {key: value for key, value in results(runs.classifier).items() if key.startswith("test_")}
    assert results(runs.rde) == results(runs.query) == accuracies


def test_distortion_of_nothing_kept_is_that_of_the_filled_note(runs, scores):
    """Of zeros, where there is nothing to draw: half the squared change of the asked logit."""
    classifier = bundle.load(runs.classifier)
    for row in scores[scores.method == "rde_zeros"].to_dict("records"):
        asked = classifier.labels.index(row["target"])
        whole, empty = (logits_of(classifier, Path(row["source"]), left)[asked] for left in ((1, 1, 1), (0, 0, 0)))
        assert row["distortion_empty"] == pytest.approx(float(whole - empty) ** 2 / 2, rel=1e-3, abs=1e-7)
        assert row["target"] == row["predicted"]


def test_kept_and_removed_are_the_note_by_the_map(runs, scores):
    bands = bundle.load(runs.classifier).log_frequency
    hertz = 20 * 400 ** (np.arange(BANDS) / (BANDS - 1))
    for item_id, method, rate in scores[["item_id", "method", "rate"]].itertuples(index=False):
        folder = runs.rde / "audio" / item_id
        note, kept, removed = (read(folder / f"{name}.wav") for name in ("mixture", method, f"{method}_residual"))
        assert len(note) == len(kept) == len(removed) == SAMPLES
        np.testing.assert_allclose(kept + removed, note, atol=1e-6)
        theta = pd.read_csv(runs.rde / "figures" / f"{item_id}_{method}.csv")
        np.testing.assert_allclose(theta.band_hz, hertz, rtol=1e-5)
        importance = theta[["magnitude", "phase"]].to_numpy().T
        assert importance.shape == (2, BANDS) and importance.min() >= 0 and importance.max() <= 1
        assert rate == pytest.approx(importance.mean(), abs=1e-5)
        # The magnitudes are heard as they are kept; phases are left.
        keep = torch.from_numpy(np.stack([importance[0], np.ones(BANDS)])).float()[None]
        again = bands.masked_waveform(torch.from_numpy(note).float()[None], keep, torch.Generator())[0]
        np.testing.assert_allclose(kept, again, atol=1e-4)
        for more in ("kept_random_phase", "inpainted", "listening"):
            sound = read(folder / f"{method}_{more}.wav")
            assert len(sound) == SAMPLES and 0 < np.abs(sound).max() <= 1 + 1e-6  # a player clips above 1
        picture = imread(runs.rde / "figures" / f"{item_id}_{method}.png")
        assert picture.shape[1] > 600 and picture[..., :3].std() > 0.01
    manifest = pd.read_csv(runs.rde / "manifest.csv")
    assert set(manifest.n_frames) == {SAMPLES} and {str(each) for each in manifest.path} <= files_of(runs.rde)


def test_curves_have_a_point_for_each_price(runs, scores):
    curves = pd.read_csv(runs.rde / "curves.csv")
    assert len(curves) == 4 * 2 * 4 and not curves.duplicated(["method", "source", "weight"]).any()
    assert curves.rate.between(0, 1).all() and (curves.end >= 0).all()
    np.testing.assert_allclose(curves.penalty, curves.weight * curves["empty"], rtol=1e-4, atol=1e-9)
    # One note of each class, among those that are explained.
    assert set(curves.source) == set(scores.source)
    assert {Path(each).name.split("_")[0] for each in curves.source} == set(CLASSES)


def test_class_maps_have_a_row_a_band(runs):
    maps = pd.read_csv(runs.rde / "class_maps.csv")
    assert len(maps) == 4 * 2 * BANDS
    assert maps[["magnitude", "phase"]].apply(lambda each: each.between(0, 1)).all(axis=None)
    for (_, label), each in maps.groupby(["method", "class"]):
        assert label in CLASSES and len(each) == BANDS
        assert each.rate.iloc[0] == pytest.approx(each[["magnitude", "phase"]].to_numpy().mean(), abs=1e-4)


def test_the_page_names_every_filler_and_plays_every_sound(runs, scores):
    links = linked(runs.rde)
    page, table = (runs.rde / "report.html").read_text(), (runs.rde / "tables" / "fillers.md").read_text()
    for name in FILLERS:
        assert f"| rde_{name} | 2 |" in table and f">rde_{name}</th>" in page
        assert f"figures/class_maps_rde_{name}.png" in links
    for item_id, method in scores[["item_id", "method"]].itertuples(index=False):
        kinds = ("", "_kept_random_phase", "_residual", "_inpainted")
        assert {f"audio/{item_id}/{method}{kind}.wav" for kind in kinds} <= links
        assert {f"audio/{item_id}/mixture.wav", f"figures/{item_id}_{method}.png"} <= links
    assert {"figures/rate_distortion.png", "curves.csv", "class_maps.csv", "scores.csv", "manifest.csv"} <= links
    assert page.count(f"{results(runs.rde)['test_accuracy']:.3f}</td>") >= 1


# --- magnitude or phase


def test_corners_of_zeros_by_hand(runs):
    """Three distortions of each class from the classifier alone, the penalty, and the cheapest corner."""
    classifier, table = bundle.load(runs.classifier), pd.read_csv(runs.query / "magnitude_vs_phase.csv")
    assert len(table) == 4 * 2 and set(table.filler) == set(FILLERS) and (table.notes == 4).all()
    assert table[["theta_magnitude", "theta_phase"]].apply(lambda each: each.between(0, 1)).all(axis=None)
    zeros = table[table.filler == "zeros"].set_index("class")
    for family, paths in heard_notes(runs).items():
        for name, left in (("D00", (0, 0, 0)), ("D10", (1, 0, 0)), ("D01", (0, 1, 1))):
            costs = []
            for path in paths:
                whole, changed = logits_of(classifier, path), logits_of(classifier, path, left)
                asked = int(whole.argmax())
                costs.append(float(whole[asked] - changed[asked]) ** 2 / 2)
            assert zeros[name][family] == pytest.approx(np.mean(costs), rel=1e-3, abs=1e-7), (family, name)
    for _, rows in table.groupby("filler"):
        np.testing.assert_allclose(rows.penalty, 0.5 * rows.D00.mean(), rtol=1e-4)
        for row in rows.to_dict("records"):
            costs = {(0, 0): row["D00"], (1, 0): row["D10"], (0, 1): row["D01"], (1, 1): 0.0}
            costs = {corner: cost + row["penalty"] * sum(corner) / 2 for corner, cost in costs.items()}
            best = costs[row["best_magnitude"], row["best_phase"]]
            assert best == pytest.approx(min(costs.values()), rel=1e-4)


def test_the_answer_stands_beside_the_papers_and_the_accuracies(runs):
    page = (runs.query / "report.html").read_text()
    assert {"magnitude_vs_phase.csv", "tables/magnitude_vs_phase.md"} <= linked(runs.query)
    table = pd.read_csv(runs.query / "magnitude_vs_phase.csv")
    words = {(0, 0): "neither", (1, 0): "magnitude", (0, 1): "phase", (1, 1): "both"}
    by = {(row["class"], row["filler"]): row for row in table.to_dict("records")}
    for family, paper in (("flute", "0.092, 1"), ("reed", "0.136, 1")):
        rows = [by[family, name] for name in FILLERS]
        answers = "".join(f"<td>{words[row['best_magnitude'], row['best_phase']]}</td>" for row in rows)
        assert f'<th scope="row">{family}</th>{answers}<td>{paper}</td>' in page
    text = (runs.query / "tables" / "magnitude_vs_phase.md").read_text()
    assert all(f"| {name} | {family} | 4 |" in text for name in FILLERS for family in CLASSES)
    for name in ("magnitude and phase", "magnitude alone", "phase alone"):
        assert f"| {name} | 0." in text or f"| {name} | 1." in text


# --- again, and in parts


def snapshot(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in sorted(files_of(run) - set(REWRITTEN))}


@pytest.mark.parametrize("name", ["classifier", "inpainter", "rde", "query"])
def test_the_same_command_again_changes_nothing(runs, monkeypatch, name):
    def fail(*given, **more):
        pytest.fail("it is done again")

    monkeypatch.setattr(BandRDE, "interpret", fail)
    monkeypatch.setattr(BandRDE, "problem", fail)
    monkeypatch.setattr(MagnitudePhase, "__call__", fail)
    monkeypatch.setattr(Inpainter, "losses", fail)
    monkeypatch.setattr(inpainting_report, "judge_fillers", fail)
    run = getattr(runs, name)
    before, said = snapshot(run), results(run)
    assert main(runs.command("magnitude_vs_phase" if name == "query" else name)) == 0
    assert snapshot(run) == before and results(run) == said
    linked(run)


@pytest.mark.usefixtures("undrawn")
def test_stopped_and_gone_on_with(runs, scores, tmp_path, monkeypatch):
    add, calls = Scores.add_rows, []

    def stop(self, rows):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        add(self, rows)

    given = runs.command("rde", tmp_path, "--notes.curve_notes", 0, "--notes.class_notes", 0)
    monkeypatch.setattr(Scores, "add_rows", stop)
    assert main(given) == 130
    run = tmp_path / "rde" / "1234"
    assert len(pd.read_csv(run / "scores.csv")) == 3
    assert main(given) == 0
    again = pd.read_csv(run / "scores.csv")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), scores.drop(columns="seconds"), rtol=1e-4, atol=1e-6)
    assert not {"curves.csv", "class_maps.csv"} & files_of(run)


@pytest.mark.parametrize("name", ["inpainter", "rde", "query"])
def test_report_writes_the_page_of_its_kind_again(runs, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(note_figures, "save_figure", lambda figure, path: None)
    run, copy = getattr(runs, name), tmp_path / getattr(runs, name).name
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "tables")
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    for file in ("report.html", *sorted(name for name in files_of(run) if name.startswith("tables/"))):
        assert (copy / file).read_text() == (run / file).read_text(), file


@pytest.mark.usefixtures("undrawn")
def test_without_an_inpainter_the_generator_is_left_out(runs, scores, tmp_path):
    few = ("--fillers", "null", "--notes.curve_notes", 0, "--notes.class_notes", 0)
    assert main(runs.command("rde", tmp_path, *few)) == 0
    run = tmp_path / "rde" / "1234"
    ran = pd.read_csv(run / "scores.csv")
    assert set(ran.method) == {"rde_zeros", "rde_noise", "rde_donor"}
    page = (run / "report.html").read_text()
    assert all(f">{name}</th>" in page for name in set(ran.method)) and "rde_generator" not in page
    # Zeros and noise are the inpainter's, which knows the same notes; it has its donors in another order.
    both = ran[ran.method != "rde_donor"].merge(scores, on=["item_id", "method"], suffixes=("", "_before"))
    assert len(both) == 4 and both.distortion.to_numpy() == pytest.approx(both.distortion_before, rel=1e-3, abs=1e-5)
    assert main(runs.command("magnitude_vs_phase", tmp_path, "--fillers", "null", "--query.steps", 0)) == 0
    run = tmp_path / "magnitude_vs_phase" / "1234"
    table = pd.read_csv(run / "magnitude_vs_phase.csv")
    assert set(table.filler) == {"zeros", "noise", "donor"} and table.theta_phase.isna().all()
    assert "generator" not in (run / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_another_solver_and_the_other_game(runs, tmp_path):
    """By a recipe that includes ours: matching pursuit over groups of bands; what is found is what is taken away."""
    path = tmp_path / "pursuit.yaml"
    path.write_text(f"""\
<<: !include:{RECIPES / "rde.yaml"}
notes: !new:audiointerp.runs.NoteExplanations
    per_class: 1
    fillers: [zeros]
    group: 8
    curve_notes: 0
    solver: !new:audiointerp.interpreters.rde.MatchingPursuit
        game: deletion
        picks: 3
""")
    given = recipe("rde", runs.data, tmp_path, "--classifier", runs.classifier, "--fillers", "null")
    assert main(["run", str(path), *given[2:]]) == 0
    run = tmp_path / "pursuit" / "1234"
    maps, scores = (pd.read_csv(run / f"{name}.csv") for name in ("class_maps", "scores"))
    assert len(scores) == 2 and set(maps.method) == {"rde_zeros"}
    for theta, rate in [
        *((pd.read_csv(run / "figures" / f"{row.item_id}_rde_zeros.csv"), row.rate) for row in scores.itertuples()),
        *((each, each.rate.iloc[0]) for _, each in maps.groupby("class")),
    ]:
        # The parts that are taken away, three groups of eight bands at most: not all the others.
        chosen = theta[["magnitude", "phase"]].to_numpy()
        assert set(np.unique(chosen)) <= {0.0, 1.0} and chosen.mean() == pytest.approx(rate) and rate <= 3 / 8
        assert (chosen.reshape(4, 8, 2).std(1) == 0).all()


def test_curves_take_the_classes_in_turn():
    class Data:
        def labels_of(self):
            return torch.tensor([0, 0, 0, 1, 2, 2])

    assert _in_turn(Data(), [2, 0, 1, 3, 5, 4]) == [2, 3, 5, 0, 4, 1]


# --- bad input


def without(data: Path, split: str, family: str) -> None:
    path = data / f"nsynth-{split}" / "examples.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if not k.startswith(family)}))


def _broken(data):
    path = data / "nsynth-valid" / "examples.json"
    path.write_text(path.read_text()[:-20])


def _no_table(data):
    (data / "nsynth-train" / "examples.json").unlink()


def _no_audio(data):
    (data / "nsynth-train" / "audio" / "reed_acoustic_001-060-100.wav").unlink()


def _rate_in_the_table(data):
    path = data / "nsynth-train" / "examples.json"
    name = "flute_acoustic_000-048-050"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: entry(name, sample_rate=22050)}))


def _rate_of_a_file(data):
    soundfile.write(data / "nsynth-test" / "audio" / "flute_acoustic_003-052-050.wav", 0.1 * np.ones(8820), 22050)


def _not_audio(data):
    (data / "nsynth-test" / "audio" / "flute_acoustic_003-052-050.wav").write_text("no audio")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_broken, ["nsynth-valid/examples.json", "not JSON", "again"]),
        (_no_table, ["nsynth-train/examples.json", "no such file"]),
        (_no_audio, ["nsynth-train/audio", "1 of 24 notes", "reed_acoustic_001-060-100"]),
        (_rate_in_the_table, ["nsynth-train/examples.json", "flute_acoustic_000-048-050", "22050", "16000"]),
        (_rate_of_a_file, ["flute_acoustic_003-052-050.wav", "22050", "16000"]),
        (_not_audio, ["flute_acoustic_003-052-050.wav"]),
        (lambda data: without(data, "test", "reed"), ["'reed'", "no note in test", "families"]),
        (lambda data: shutil.rmtree(data / "nsynth-test"), ["nsynth-test", "no such folder"]),
    ],
)
def test_bad_data(runs, refused, tmp_path, caplog, spoil, words):
    data = shutil.copytree(runs.data, tmp_path / "data")
    spoil(data)
    with caplog.at_level(logging.INFO, "audiointerp"):
        line = refused(*recipe("classifier", data, tmp_path, "--bands", BANDS, "--epochs", 1))
    assert all(word in line for word in words), line
    # Counts are told of what was read whole.
    assert ("| flute |" in caplog.text) == (spoil in (_rate_of_a_file, _not_audio))
    assert not (tmp_path / "classifier" / "1234" / "best").exists()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("classifier", ("--families", "[theremin, flute]"), ["families", "'theremin'", "flute"]),
        ("classifier", ("--sources", "[electronic]"), ["no note", "electronic"]),
        ("classifier", ("--reads", "loudness"), ["reads", "'loudness'", "phase"]),
        ("classifier", ("--blank", 0.7), ["0.7", "0.5"]),
        ("inpainter", ("--inpainter.width", 0), ["width 0", "at least 1"]),
        ("rde", ("--notes.fillers", "[zeros, silence]"), ["notes.fillers", "'silence'", "donor"]),
        ("rde", ("--fillers", "null", "--notes.fillers", "[generator]"), ["notes.fillers", "generator", "donor"]),
        ("rde", ("--notes.per_class", 0), ["notes.per_class", "0", "at least 1"]),
        ("rde", ("--test_folds", "[]"), ["test_folds", "empty"]),
        ("rde", ("--notes.group", 0), ["group", "0"]),
        ("rde", ("--notes.outputs", "some"), ["'some'", "target"]),
        ("magnitude_vs_phase", ("--query.outputs", "predictions"), ["'predictions'", "label"]),
        ("magnitude_vs_phase", ("--query.samples", 0), ["samples is 0", "at least 1"]),
        ("magnitude_vs_phase", ("--test_folds", "[]"), ["test_folds", "empty"]),
    ],
)
def test_bad_options(runs, refused, tmp_path, name, options, words):
    line = refused(*runs.command(name, tmp_path, *options))
    assert all(word in line for word in words), line
    assert not (tmp_path / name / "1234" / "scores.csv").exists()


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    """Bundles that do not fit: a classifier of other features, inpainters of other bands and without training."""
    folder = tmp_path_factory.mktemp("strangers")
    bundle.save(VGGSound(CLASSES, channels=4), folder / "vggsound")
    bundle.save(Inpainter(bands=BANDS, width=4, blocks=1), folder / "untrained")
    other = Inpainter(bands=16, width=4, blocks=1)
    other.set_fillers(torch.rand(3, 3, 16))
    bundle.save(other, folder / "other_bands")
    return folder


@pytest.mark.parametrize("name", ["inpainter", "rde", "magnitude_vs_phase"])
@pytest.mark.parametrize("options", [(), ("--cache_features", "false")])
def test_a_classifier_of_other_features(runs, strangers, refused, tmp_path, name, options):
    line = refused(*runs.command(name, tmp_path, "--classifier", strangers / "vggsound", *options))
    assert all(word in line for word in ("VGGSound", "log-frequency", "InstrumentClassifier")), line
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["rde", "magnitude_vs_phase"])
def test_fillers_that_do_not_fit(runs, strangers, refused, tmp_path, name):
    for path, words in (
        (strangers / "other_bands", ["fillers", "other_bands", "16", str(BANDS)]),
        (strangers / "untrained", ["no fitted fillers", "train"]),
        (runs.classifier, ["fillers", "InstrumentClassifier", "inpainter.yaml"]),
        (tmp_path / "nowhere", ["nowhere", "does not exist"]),
    ):
        line = refused(*runs.command(name, tmp_path, "--fillers", path))
        assert all(word in line for word in words), line
        assert not (tmp_path / name).exists()


def test_what_an_inpainter_is_not(runs, refused, tmp_path):
    line = refused(*runs.command("rde", tmp_path, "--classifier", runs.inpainter))
    assert "Inpainter" in line and "classifier" in line
    note = next((runs.data / "nsynth-test" / "audio").glob("*.wav"))
    line = refused("interpret", runs.inpainter, note, "-o", tmp_path / "out")
    assert "Inpainter" in line and "classifier" in line
    line = refused("evaluate", runs.inpainter, runs.data, "-o", tmp_path / "out")
    assert "Inpainter" in line and "classifier" in line


def test_no_instrument_is_in_two_splits():
    """Else the recipes' test would be none."""
    numbers = [number for each in INSTRUMENTS.values() for number in each]
    assert len(numbers) == len(set(numbers)) and NoteExplanations().fillers == FILLERS


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["inpainter", "rde", "query"])
def test_damaged_tables(runs, name, tmp_path):
    fuzz_tables(getattr(runs, name), tmp_path, 12)


@pytest.mark.parametrize("name", ["inpainter", "rde", "query"])
def test_nothing_is_wrong_with_the_page(runs, name):
    check_page(getattr(runs, name) / "report.html")
