"""A comparison run by the command line: what is written, who explains what, and what a second run changes."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from browsing import check_page
from cases import TinyConv, l2i, piq
from damage import fuzz_tables
from matplotlib.figure import Figure
from three_classes import three_classes

from audiointerp.__main__ import main
from audiointerp.bundles import bundle
from audiointerp.classifiers import External, VGGSound
from audiointerp.datasets import ClipDataset, read_esc50
from audiointerp.evaluation.conditions import CleanClips, Mixtures, Noise
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import PIQ, AllPass, Empty, Loudest
from audiointerp.results import tables
from audiointerp.results.reading import describe
from audiointerp.results.tables import Scores
from audiointerp.runs.comparison import compare as comparison
from audiointerp.runs.comparison import figures as comparison_figures
from audiointerp.runs.comparison import page as comparison_report
from audiointerp.runs.comparison.compare import Comparison, compare
from audiointerp.runs.methods import build_methods

pytestmark = pytest.mark.slow  # whole recipes

RECIPE = """\
seed: 7
data_folder: !PLACEHOLDER
models: !PLACEHOLDER
train_folds: [1]
test_folds: [4]
output_folder: results
device: cpu
batch_size: 4
seconds: 0.5
clips: !name:audiointerp.datasets.read_esc50
    folder: !ref <data_folder>
classifier: !ref <models>/classifier
speech_folder: null
methods:
    piq: !ref <models>/piq
    l2i: !ref <models>/l2i
    piq_small: !ref <models>/piq_magnitude
    slow: !name:audiointerp.interpreters.Threshold
controls:
    loudest: !name:audiointerp.interpreters.Loudest
    random_components: !name:audiointerp.interpreters.RandomComponents
    all_pass: !name:audiointerp.interpreters.AllPass
    empty: !name:audiointerp.interpreters.Empty
    ideal: !name:audiointerp.interpreters.TargetMasking
        domain: magnitude
        target_mask: !new:audiointerp.sound.StemMask
comparison: !new:audiointerp.runs.Comparison
    like: [piq, l2i]
    other_class: [piq, slow]
    costly: [slow]
    reference: l2i
    conditions:
        clean: !new:audiointerp.evaluation.CleanClips
        mixtures: !new:audiointerp.evaluation.Mixtures
            count: 5
        white_noise: !new:audiointerp.evaluation.Noise
            folder: white
            clips: 2
            gains: [1.0, 0.5]
        speech: !new:audiointerp.evaluation.Noise
            folder: !ref <speech_folder>
    subset:
        clean: 2
        mixtures: 2
"""


def status_of(*arguments) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audiointerp", *map(str, arguments)])
        return main()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Data, a recipe, and untrained bundles of one classifier; `other` is of another classifier."""
    folder = tmp_path_factory.mktemp("comparison")
    classifier = three_classes(folder)
    models = folder / "models"
    bundle.save(classifier, models / "classifier")
    bundle.save(piq(classifier, codes=20), models / "piq")
    bundle.save(piq(classifier, codes=20, domain="magnitude"), models / "piq_magnitude")
    bundle.save(l2i(classifier), models / "l2i")
    bundle.save(PIQ(VGGSound(classifier.labels, channels=4), codes=20), models / "other")
    (folder / "compare.yaml").write_text(RECIPE)
    return folder


def command(root: Path, output: Path, *more) -> list:
    options = ["--data_folder", root / "data", "--models", root / "models", "--output_folder", output]
    return ["run", root / "compare.yaml", *options, *more]


@pytest.fixture(scope="module")
def done(root) -> Path:
    assert status_of(*command(root, root / "results")) == 0
    return root / "results" / "compare" / "7"


@pytest.fixture(scope="module")
def scores(done) -> pd.DataFrame:
    return pd.read_csv(done / "scores.csv")


@pytest.fixture(scope="module")
def facts(done) -> dict:
    return json.loads((done / "run.json").read_text())["comparison"]


CHEAP = {"piq", "l2i", "piq_small", "loudest_piq", "loudest_l2i", "random_components", "all_pass", "empty"}
TWINS = {"piq_magnitude", "l2i_magnitude", "random_components_magnitude"}


def test_what_lies_in_the_folder(done):
    names = {path.relative_to(done).as_posix() for path in done.rglob("*") if path.is_file()}
    assert {"scores.csv", "embeddings.csv", "manifest.csv", "recipe.yaml", "run.json", "report.html"} <= names
    assert {f"tables/{name}" for name in ("tables.md", "tables.tex", "tables.csv", "differences.csv")} <= names
    figures = {f"differences_{name}.png" for name in ("clean", "mixtures", "white_noise")}
    figures |= {"faithfulness_energy.png", "faithfulness_speed.png"}
    assert {path.name for path in (done / "figures").iterdir()} == figures
    assert not [name for name in names if name.endswith((".part", ".old")) or ".unkept" in name]
    assert json.loads((done / "run.json").read_text())["finished"]


def test_everybody_explains_everything_that_he_can(scores, facts):
    counted = {key: len(rows) for key, rows in scores.groupby(["condition", "method"])}
    for condition, items in (("clean", 3), ("mixtures", 5), ("white_noise", 2)):
        for method in CHEAP | TWINS:
            assert counted[condition, method] == items, (condition, method)
        # An oracle explains where the class it is asked for is one of the stems, and never a clean clip.
        known = scores[(scores.condition == condition) & (scores.method == "all_pass") & scores.si_sdr.notna()]
        assert counted.get((condition, "ideal"), 0) == len(known)
        assert (len(known) > 0) == (condition != "clean"), condition
    assert not scores.duplicated(["item_id", "method"]).any()
    assert scores.groupby("item_id").predicted.nunique().max() == 1
    slow = scores[scores.method.str.startswith("slow")]
    assert set(slow.item_id) == {*facts["subset"]["clean"], *facts["subset"]["mixtures"]}
    assert (
        counted["clean", "slow"] == 2
        and counted["mixtures", "slow"] == 2
        and not len(slow[slow.condition == "white_noise"])
    )
    others = scores[scores.method.str.endswith("_other")]
    assert set(others.method) == {"piq_other", "slow_other"} and set(others.condition) == {"mixtures"}
    pairs = others.merge(scores, on="item_id", suffixes=("", "_asked"))
    pairs = pairs[pairs.method == pairs.method_asked + "_other"]
    assert len(pairs) == len(others) and (pairs.target != pairs.target_asked).all()
    assert (pairs.target_asked == pairs.predicted).all()


def test_subsets_are_as_large_as_asked(facts):
    assert {name: len(items) for name, items in facts["subset"].items()} == {
        "clean": 2,
        "mixtures": 2,
        "white_noise": 0,
    }
    assert facts["conditions"] == ["clean", "mixtures", "white_noise"] and facts["reference"] == "l2i"
    methods = facts["methods"]
    assert {name for name, each in methods.items() if each["costly"]} == {"slow"}
    controls = {"loudest_piq", "loudest_l2i", "random_components", "random_components_magnitude", "all_pass", "empty"}
    assert {name for name, each in methods.items() if each["control"]} == controls | {"ideal"}
    likes = {name: each["like"] for name, each in methods.items() if each["like"]}
    assert likes == {
        "loudest_piq": "piq",
        "loudest_l2i": "l2i",
        "random_components": "l2i",
        "random_components_magnitude": "l2i",
    }


def test_floor_and_ceiling(scores):
    everything, nothing = (scores[scores.method == name] for name in ("all_pass", "empty"))
    assert (everything[["ai", "ad", "ag"]] == 0).all(axis=None) and (everything.fidelity == 1).all()
    assert (everything.wav_ai == 0).all() and everything.wav_ad.max() < 0.1
    assert (everything.kept_energy - 1).abs().max() < 1e-4 and (
        everything.si_sdr_improvement.dropna().abs() < 0.01
    ).all()
    assert nothing.faithfulness.abs().max() < 1e-5 and nothing.silent.all() and nothing.si_sdr.isna().all()
    ideal = scores[scores.method == "ideal"].set_index("item_id")
    mixture = everything.set_index("item_id").loc[ideal.index]
    assert (ideal.si_sdr > mixture.si_sdr).all() and (ideal.si_sdr_improvement > 3).all()


def test_equal_area(scores):
    by = scores.pivot(index="item_id", columns="method", values="mean_mask")
    for like in ("piq", "l2i"):
        np.testing.assert_allclose(by[f"loudest_{like}"], by[like], atol=1 / (513 * 44) + 1e-5)


def test_magnitude_differs_only_where_soft_masks_acted_on_the_logarithm(done, scores):
    table = pd.read_csv(done / "tables" / "tables.csv")
    for condition in ("clean", "mixtures"):
        for metric in ("ad", "faithfulness", "kept_energy"):
            here = table[(table.condition == condition) & (table.metric == metric) & ~table.subset]
            own, same = (here[here.magnitude == each].set_index("method")["mean"] for each in (False, True))
            changed = {name for name in same.index if own[name] != same[name]}
            if metric == "kept_energy":
                assert changed == {"piq", "l2i", "random_components"}
            assert changed <= {"piq", "l2i", "random_components"}
            assert set(own.index) - set(same.index) == ({"piq_other"} if condition == "mixtures" else set())
    twin = scores[scores.method == "piq_magnitude"].set_index("item_id")
    trained = scores[scores.method == "piq_small"].set_index("item_id")
    # The same weights, trained in the other domain: what the twin computes is what a magnitude PIQ computes.
    np.testing.assert_allclose(twin.ad, trained.loc[twin.index].ad, rtol=1e-4, atol=1e-4)


def test_tables_are_the_scores(done, scores):
    table = pd.read_csv(done / "tables" / "tables.csv")
    whole = table[(table.condition == "mixtures") & ~table.subset & ~table.magnitude].set_index(["method", "metric"])
    for method in CHEAP:
        for metric in ("fidelity", "ad", "insertion", "seconds", "wav_ag"):
            values = scores[(scores.method == method) & (scores.condition == "mixtures")][metric]
            assert whole.loc[(method, metric), "mean"] == pytest.approx(values.mean(), rel=1e-5, abs=1e-9)
            assert whole.loc[(method, metric), "n"] == values.notna().sum()
    assert whole.loc[("empty", "fidelity"), "silent"] == 5
    text = (done / "tables" / "tables.md").read_text()
    assert text.count("### ") == 2 * 2 * 2 + 2  # white noise has no subset
    whole_text = text.split("### clean: each")[1].split("### ")[0]
    assert "| slow |" not in whole_text and "| slow |" in text.split("### clean, subset: each")[1].split("### ")[0]
    # Four channels want eight clips; of the clean ones there are three.
    assert "3 clips for 4 channels, 8 needed" in text
    assert (done / "tables" / "tables.tex").read_text().isascii()


def test_differences_name_every_method(done):
    tested = pd.read_csv(done / "tables" / "differences.csv")
    clean = tested[(tested.condition == "clean") & (tested.metric == "ad")]
    assert set(clean[clean["first"] == "l2i"].second) == CHEAP - {"l2i"} | {"slow"}
    assert ("piq", "loudest_piq") in set(zip(clean["first"], clean.second))
    several = tested.dropna(subset="p_bootstrap")  # one item has no bootstrap
    assert len(several) and set(tested[tested.p_bootstrap.isna()].n) <= {1}
    assert several.p_holm.between(0, 1).all() and (several.p_holm >= several.p_bootstrap).all()


def test_what_was_not_run_is_named(done, facts):
    assert facts["not_run"] == {"speech": "no folder was given"}
    page = (done / "report.html").read_text()
    assert "Not run" in page and "speech" in page and "no folder was given" in page


def test_sounds_of_the_subset_stay(done, facts, scores):
    kept = {*facts["subset"]["clean"], *facts["subset"]["mixtures"]}
    assert {path.name for path in (done / "audio").iterdir() if not path.name.startswith(".")} == kept
    manifest = pd.read_csv(done / "manifest.csv")
    assert set(manifest.item_id) == kept
    for path, frames in zip(manifest.path, manifest.n_frames):
        assert soundfile.info(done / path).frames == frames == 8000
    # And all rows have been judged on files, kept or not.
    assert scores.wav_ad.notna().all()
    page = (done / "report.html").read_text()
    for item in kept:
        methods = scores[scores.item_id == item].method
        assert all(f"audio/{item}/{method}_listening.wav" in page for method in methods)
    linked = set(re.findall(r'(?:src|href)="([^"#:]+)"', page))
    assert {"scores.csv", "manifest.csv"} <= linked and all((done / name).is_file() for name in linked)


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables without time, in an order that does not depend on what was made first."""
    scores = pd.read_csv(folder / "scores.csv").drop(columns="seconds").sort_values(["item_id", "method"])
    scores["source"] = [Path(each).name for each in scores["source"]]
    cells = pd.read_csv(folder / "tables" / "tables.csv").query("metric != 'seconds'")
    return {
        "scores": scores.reset_index(drop=True),
        "cells": cells.sort_values(["condition", "subset", "magnitude", "method", "metric"]).reset_index(drop=True),
        "differences": pd.read_csv(folder / "tables" / "differences.csv"),
        "embeddings": pd.read_csv(folder / "embeddings.csv").sort_values(["item_id", "method"]).reset_index(drop=True),
    }


def assert_same_tables(first: Path, second: Path) -> None:
    for name, table in tables_of(first).items():
        pd.testing.assert_frame_equal(table, tables_of(second)[name], rtol=1e-4, atol=1e-6, obj=name)


def test_stopped_and_gone_on_with(root, done, tmp_path, monkeypatch):
    """Stopped within an item, after its embedding and before its row: the same tables in the end."""
    add, calls = Scores.add_rows, []

    def stop(self, rows):
        calls.append(1)
        if len(calls) == 31:
            raise KeyboardInterrupt
        add(self, rows)

    monkeypatch.setattr(Scores, "add_rows", stop)
    assert status_of(*command(root, tmp_path)) == 130
    monkeypatch.undo()
    folder = tmp_path / "compare" / "7"
    assert len(pd.read_csv(folder / "scores.csv")) < len(pd.read_csv(done / "scores.csv"))
    assert status_of(*command(root, tmp_path)) == 0
    assert_same_tables(done, folder)
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {
        path.relative_to(done) for path in done.rglob("*")
    }


@pytest.fixture
def drawn(monkeypatch) -> dict[str, Figure]:
    """Figures by file name; they are laid out and written in tests that look for the files only."""
    kept: dict[str, Figure] = {}
    monkeypatch.setattr(comparison_figures, "save_figure", lambda figure, path: kept.update({Path(path).name: figure}))
    return kept


def test_figures_show_what_the_tables_say(done, tmp_path, drawn):
    copy = tmp_path / "copy"
    shutil.copytree(done, copy, ignore=shutil.ignore_patterns("audio", "mixtures"))
    comparison_report.write(copy)
    tested = pd.read_csv(done / "tables" / "differences.csv")
    tested = tested[(tested.condition == "mixtures") & (tested["first"] == "l2i")]
    first, *_ = axes = [each for each in drawn["differences_mixtures.png"].axes if each.get_visible()]
    names = [text.get_text() for text in first.get_yticklabels()]  # of the first of a row; they are shared
    for axis in axes:
        metric = next(name for name in set(tested.metric) if describe(name).label == axis.get_title("left"))
        rows = tested[tested.metric == metric].set_index("second")
        points = {names[int(line.get_ydata()[0])]: line for line in axis.lines if line.get_marker() == "o"}
        assert set(points) == set(rows.index)
        for name, line in points.items():
            assert float(line.get_xdata()[0]) == pytest.approx(rows.difference[name])
            assert (line.get_markerfacecolor() != "white") == (rows.p_holm[name] < 0.05)
        assert ("right" if describe(metric).higher_is_better else "left") in axis.get_xlabel()
    table = pd.read_csv(done / "tables" / "tables.csv").query("not subset and not magnitude")
    for name, x in (("faithfulness_energy.png", "kept_energy"), ("faithfulness_speed.png", "seconds")):
        for axis in drawn[name].axes:
            means = table[table.condition == axis.get_title("left")].pivot(
                index="method", columns="metric", values="mean"
            )
            bars = {bar.get_label(): bar.lines[0] for bar in axis.containers}
            assert set(bars) == set(means.index)
            for method, line in bars.items():
                place = float(line.get_xdata()[0]), float(line.get_ydata()[0])
                assert place == pytest.approx((means[x][method], means.faithfulness[method]))
            # Mathematics is not parsed, so that names are shown as they are.
            assert not [text for text in axis.get_xticklabels(which="both") if "$" in text.get_text()]


def test_again_nothing_is_explained(root, done, drawn, monkeypatch):
    before = {path: path.read_bytes() for path in done.rglob("*") if path.suffix in (".csv", ".wav", ".tex", ".md")}
    monkeypatch.setattr(PIQ, "make_mask", lambda *given: pytest.fail("it explains again"))
    assert status_of(*command(root, root / "results")) == 0
    assert before == {path: path.read_bytes() for path in before}


def test_the_page_alone_by_report(done, tmp_path, drawn):
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    shutil.rmtree(copy / "tables")
    (copy / "report.html").unlink()
    assert status_of("report", copy) == 0
    assert_same_tables(done, copy)
    assert {path.name for path in (done / "figures").iterdir()} == set(drawn)
    assert (copy / "report.html").is_file()


def test_a_method_that_is_left_out_is_not_missed(root, tmp_path, monkeypatch):
    """Its name may remain in the lists of the recipe's comparison."""
    compared = []

    def stop(wanted, methods, *rest):
        compared.append((wanted, methods))
        raise ValueError("stopped")

    monkeypatch.setattr(comparison, "compare", stop)
    assert status_of(*command(root, tmp_path, "--methods.l2i", "null", "--comparison.reference", "piq")) == 2
    ((wanted, methods),) = compared
    assert list(wanted.like) == ["piq"] and "l2i" not in methods and "piq" in methods
    assert list(wanted.other_class) == ["piq", "slow"] and list(wanted.costly) == ["slow"]


# --- what cannot be compared


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--comparison.like", "[nobody]"), ("comparison.like", "'nobody'", "piq")),
        (("--comparison.like", "[all_pass]"), ("comparison.like", "'all_pass'", "control")),
        (("--comparison.costly", "[nobody]"), ("comparison.costly", "'nobody'")),
        (("--comparison.beyond", "[nobody]"), ("comparison.beyond", "'nobody'", "piq")),
        (("--comparison.other_class", "[nobody]"), ("comparison.other_class", "'nobody'")),
        (("--comparison.reference", "nobody"), ("comparison.reference", "'nobody'")),
        (("--comparison.subset", "{nowhere: 3}"), ("comparison.subset", "'nowhere'", "clean")),
        (("--methods", "{piq: {models}/other}"), ("method piq", "another classifier")),
        (("--methods", "{piq: {models}/classifier}"), ("method piq", "no interpreter", "VGGSound")),
        (("--methods", "{piq: {models}/nothing}"), ("nothing",)),
        (("--methods", "{piq_magnitude: {models}/piq}"), ("'piq_magnitude'",)),
        (("--methods", "{all_pass: {models}/piq}"), ("'all_pass'", "control")),
        (("--methods", "{mixture: {models}/piq}"), ("'mixture'",)),
    ],
)
def test_one_line_says_what_is_wrong(root, tmp_path, capsys, options, words):
    capsys.readouterr()
    options = [each.replace("{models}", str(root / "models")) for each in options]
    if options[0] == "--methods":
        options += ["--comparison.like", "[]", "--comparison.other_class", "[]", "--comparison.costly", "[]"]
        options += ["--comparison.reference", "null"]
    assert status_of(*command(root, tmp_path, *options)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not (tmp_path / "compare" / "7" / "scores.csv").exists()


def dataset_of(root: Path, labels) -> ClipDataset:
    clips = [clip for clip in read_esc50(root / "data") if clip.fold in (4, 5)]
    return ClipDataset(clips[:4], labels, 16000, 0.5)


@pytest.fixture
def tiny_vggsound(root) -> VGGSound:
    return bundle.load(root / "models" / "classifier")


class Greedy(Loudest):
    passes = 500


def test_a_method_that_asks_too_often(root, tiny_vggsound, tmp_path):
    wanted = Comparison({"clean": CleanClips()})
    with pytest.raises(ValueError, match="514 classifier passes") as caught:
        compare(wanted, {"greedy": Greedy(tiny_vggsound)}, {}, dataset_of(root, tiny_vggsound.labels), tmp_path, 0)
    assert "greedy" in str(caught.value) and "\n" not in str(caught.value)
    Greedy.passes = 498
    compare(
        Comparison({"clean": CleanClips(1)}),
        {"greedy": Greedy(tiny_vggsound)},
        {},
        dataset_of(root, tiny_vggsound.labels),
        tmp_path,
        0,
    )


class Thorough(Loudest):
    passes = 12_000


def test_a_method_may_ask_more_often_if_the_page_says_so(root, tiny_vggsound, tmp_path):
    data, conditions = dataset_of(root, tiny_vggsound.labels), {"clean": CleanClips(1)}
    methods = {"thorough": Thorough(tiny_vggsound), "cheap": AllPass(tiny_vggsound)}
    for named in ((), ("cheap",)):
        with pytest.raises(ValueError, match=r"thorough takes 12014 .* more than 512 .* comparison\.beyond"):
            compare(Comparison(conditions, beyond=named), methods, {}, data, tmp_path, 0)
    facts = compare(Comparison(conditions, beyond=("thorough",)), methods, {}, data, tmp_path, 0)
    assert facts["beyond"] == {"thorough": 12_000}
    assert "<b>thorough</b> (up to 12,000;" in (page := write_report(tmp_path, facts)) and "<b>cheap</b>" not in page
    assert "More than 512 passes" in page
    assert "More than 512 passes" not in write_report(tmp_path, facts | {"beyond": {}})


def test_a_control_may_ask_more_often_too(root, tiny_vggsound, tmp_path):
    wanted = Comparison({"clean": CleanClips(1)}, beyond=("control",))
    everything = {"cheap": AllPass(tiny_vggsound)}, {"control": Thorough(tiny_vggsound)}
    facts = compare(wanted, *everything, dataset_of(root, tiny_vggsound.labels), tmp_path, 0)
    assert facts["beyond"] == {"control": 12_000}


@pytest.mark.parametrize(
    "conditions", [{"one": CleanClips(), "two": CleanClips(2)}, {"Clean": CleanClips()}, {}, {"speech": Noise()}]
)
def test_conditions_that_would_be_confused(root, tiny_vggsound, tmp_path, conditions):
    data = dataset_of(root, tiny_vggsound.labels)
    with pytest.raises(ValueError, match="condition") as caught:
        compare(Comparison(conditions), {"a": AllPass(tiny_vggsound)}, {}, data, tmp_path, 0)
    assert "\n" not in str(caught.value)


def test_controls_beside_a_costly_method_are_costly(root, tiny_vggsound, tmp_path):
    """Each of their masks is made by it."""
    slow = Loudest(tiny_vggsound)
    wanted = Comparison({"clean": CleanClips()}, costly=("slow",), subset={"clean": 1})
    controls = {"loudest": Loudest(tiny_vggsound, like=slow), "empty": Empty(tiny_vggsound)}
    methods = {"cheap": AllPass(tiny_vggsound), "slow": slow}
    facts = compare(wanted, methods, controls, dataset_of(root, tiny_vggsound.labels), tmp_path, 0)
    counted = pd.read_csv(tmp_path / "scores.csv").groupby("method").size().to_dict()
    assert counted == {"cheap": 4, "slow": 1, "loudest": 1, "empty": 4}
    assert [name for name, each in facts["methods"].items() if each["costly"]] == ["slow", "loudest"]


def write_report(folder: Path, facts: dict) -> str:
    (folder / "run.json").write_text(json.dumps({"comparison": facts, "finished": True}))
    return comparison_report.write(folder).read_text()


def test_a_classifier_of_ones_own_one_method_and_no_mixtures(root, tmp_path):
    """No embedding, so no Frechet distance; nothing to rank against; nothing to pair."""
    labels = tuple(sorted({clip.labels[0] for clip in read_esc50(root / "data")}))
    torch.manual_seed(0)
    classifier = External(TinyConv(len(labels)), labels, 16000)
    wanted = Comparison({"clean": CleanClips(3), "noise": Noise()})
    methods = build_methods({"loudest": Loudest}, classifier)
    facts = compare(wanted, methods, {}, dataset_of(root, labels), tmp_path, 0)
    assert facts["not_run"] == {"noise": "no folder was given"} and facts["reference"] == "loudest"
    page = write_report(tmp_path, facts)
    assert "no embedding" in page and "Not run" in page
    assert not (tmp_path / "embeddings.csv").exists() and not list(tmp_path.rglob("differences*.png"))
    assert list(pd.read_csv(tmp_path / "tables" / "differences.csv")) != []


def test_a_method_that_is_silent_everywhere(root, tiny_vggsound, tmp_path, drawn):
    data = dataset_of(root, tiny_vggsound.labels)
    wanted = Comparison({"clean": CleanClips(2), "mixtures": Mixtures(2)}, subset={"mixtures": 1})
    methods = {"empty": Empty(tiny_vggsound), "loudest": Loudest(tiny_vggsound)}
    page = write_report(tmp_path, compare(wanted, methods, {}, data, tmp_path, 0))
    assert "2 silent" in page and "Mean rank" not in page
    assert "No mean rank" in (tmp_path / "tables" / "tables.md").read_text()


def test_a_folder_with_one_table_is_read_once_a_run(root, tiny_vggsound, tmp_path, monkeypatch):
    """Rows are appended; a table that was read again for each item would make long runs slow."""
    opened = []
    start = tables.RowTable.__init__

    def count(self, path, *given, **named):
        opened.append(path.name)
        start(self, path, *given, **named)

    monkeypatch.setattr(tables.RowTable, "__init__", count)
    waveforms = torch.randn(6, 1, 4000, generator=torch.Generator().manual_seed(0))
    items = [Item.of_waveform(f"i{i}", "", each, 16000) for i, each in enumerate(waveforms)]
    evaluate(items, {"a": AllPass(tiny_vggsound)}, tmp_path, Wanted(figures=False))
    assert sorted(opened) == ["manifest.csv", "scores.csv"]
    compare(
        Comparison({"clean": CleanClips()}),
        {"a": AllPass(tiny_vggsound)},
        {},
        dataset_of(root, tiny_vggsound.labels),
        tmp_path / "b",
        0,
    )
    assert len(opened) < 10


@pytest.mark.usefixtures("drawn")
def test_damaged_tables(done, tmp_path):
    fuzz_tables(done, tmp_path, 12)


@pytest.mark.usefixtures("drawn")
def test_nothing_is_wrong_with_the_page(done):
    check_page(done / "report.html")


def test_a_condition_of_an_included_recipe_is_left_out_with_its_subset(root, tiny_vggsound, tmp_path):
    data = dataset_of(root, tiny_vggsound.labels)
    comparison = Comparison({"clean": CleanClips(1), "white_noise": None}, subset={"clean": 1, "white_noise": 3})
    facts = compare(comparison, {"a": AllPass(tiny_vggsound)}, {}, data, tmp_path, 0)
    assert facts["conditions"] == ["clean"] and list(facts["subset"]) == ["clean"] and facts["not_run"] == {}


@pytest.mark.parametrize("given", [0.0, 1.0, -0.1, math.nan])
def test_recognised_is_a_probability_between_0_and_1(given):
    with pytest.raises(ValueError, match=r"recognised is .*; give a probability above 0 and below 1, or null"):
        Comparison(recognised=given)


def test_a_method_given_as_several_runs(root, tmp_path, capsys):
    """Two runs of PIQ, their twins and what they say of the other class, in one row of the tables."""
    classifier = bundle.load(root / "models" / "classifier")
    torch.manual_seed(5)
    bundle.save(piq(classifier, codes=20), tmp_path / "second")
    given = f"[{root / 'models' / 'piq'}, {tmp_path / 'second'}]"
    assert status_of(*command(root, tmp_path / "results", "--methods.piq", given)) == 0
    folder = tmp_path / "results" / "compare" / "7"
    scores = pd.read_csv(folder / "scores.csv")
    assert {"piq-1", "piq-2", "piq-1_magnitude", "piq-2_magnitude", "piq-1_other"} <= {*scores["method"]}
    assert "loudest_piq" in {*scores["method"]} and not {"piq", "loudest_piq-2"} & {*scores["method"]}
    page = (folder / "report.html").read_text()
    assert "<b>piq</b> (2)" in page and 'data-play="piq-1"' in page and '<th scope="row">piq-1</th>' not in page
    text = (folder / "tables" / "tables.md").read_text()
    assert re.search(r"^\| piq \|", text, re.M) and not re.search(r"^\| piq-1 \|", text, re.M)
    long = pd.read_csv(folder / "tables" / "tables.csv")
    row = long[(long["method"] == "piq") & (long["metric"] == "faithfulness") & (long["condition"] == "clean")].iloc[0]
    means = scores[scores["condition"] == "clean"].groupby("method")["faithfulness"].mean()
    assert row["runs"] == 2 and row["mean"] == pytest.approx((means["piq-1"] + means["piq-2"]) / 2)
    assert row["sd"] == pytest.approx(abs(means["piq-1"] - means["piq-2"]) / 2**0.5)


@pytest.mark.parametrize(("given", "message"), [("[]", "holds bundles or runs"), ("[1, 2]", "holds bundles or runs")])
def test_lists_that_are_no_runs(root, tmp_path, capsys, given, message):
    assert status_of(*command(root, tmp_path / "results", "--methods.piq", given)) == 2
    error = capsys.readouterr().err
    assert "method piq" in error and message in error and error.count("\n") == 1, error
