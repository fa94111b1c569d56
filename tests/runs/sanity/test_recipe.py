"""sanity.yaml by the command line on a few clips: verdicts, what a second run does, and who shows them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsing import check_page
from damage import fuzz_tables
from scipy.stats import spearmanr
from tiny_runs import L2I_OPTIONS, RECIPES, clips_of, linked, results_of, run, snapshot, with_options

import audiointerp
from audiointerp.runs.sanity import checks
from audiointerp.runs.verdicts import CHECKS, SHOWN_ONLY, overall, read_verdicts

pytestmark = pytest.mark.slow  # whole recipes

METHODS = ("l2i", "gradcam", "loudest")  # the oracle is left out: it does not explain the classifier
CLIPS, COSTLY_CLIPS, MIXTURES, COSTLY_MIXTURES, CLASSES = 2, 1, 3, 2, 10
COMPARED = """\
methods:
    l2i: !PLACEHOLDER
    gradcam: !name:audiointerp.interpreters.GradCAM

controls:
    loudest: !name:audiointerp.interpreters.Loudest
    ideal: !name:audiointerp.interpreters.TargetMasking
        target_mask: !new:audiointerp.sound.StemMask

comparison: !new:audiointerp.runs.Comparison
    like: [l2i]
    costly: [gradcam]
    conditions:
        clean: !new:audiointerp.evaluation.CleanClips
            clips: 2
    subset:
        clean: 2
"""


@pytest.fixture(scope="module")
def root(tiny, trained, tmp_path_factory) -> Path:
    """The recipes with two methods and two controls in place of compare.yaml's own; and L2I on shuffled labels."""
    root = tmp_path_factory.mktemp("sanity")
    recipes = shutil.copytree(RECIPES, root / "recipes")
    (recipes / "compare.yaml").write_text("<<: !include:base.yaml\n\nclassifier: esc10-piq\n" + COMPARED)
    longer = ("--epochs", 6, "--lr", 0.01, "--batch_size", 10, "--augment", "null")
    run(with_options(tiny.recipe("classifier", root), "--channels", 8, "--shuffle_labels", "true", *longer))
    none = ("--evaluation.clips", 1, "--evaluation.mixtures", 0, "--evaluation.figures", "false")
    given = ("--classifier", root / "classifier" / "1234", "--dictionary", trained.dictionary)
    run(with_options(tiny.recipe("l2i", root), *given, *L2I_OPTIONS, *none))
    return root


def command(tiny, trained, root: Path, name: str, *more: object) -> list[str]:
    given = with_options(tiny.recipe(name, root), "--classifier", trained.classifier, "--methods.l2i", trained.l2i)
    return [given[0], str(root / "recipes" / f"{name}.yaml"), *with_options(given[2:], *more)]


@pytest.fixture(scope="module")
def again(tiny, trained, root) -> list[str]:
    """The command that made `done`."""
    few = ("--sanity.clips", CLIPS, "--sanity.costly_clips", COSTLY_CLIPS)
    few += ("--sanity.mixtures", MIXTURES, "--sanity.costly_mixtures", COSTLY_MIXTURES)
    few += ("--sanity.retrained", f"{{l2i: {root / 'l2i' / '1234'}}}")
    return command(tiny, trained, root, "sanity", *few)


@pytest.fixture(scope="module")
def done(again, root) -> Path:
    run(again)
    return root / "sanity" / "1234"


@pytest.fixture
def rows(done) -> pd.DataFrame:
    return pd.read_csv(done / "sanity.csv")


@pytest.fixture
def verdicts(done) -> pd.DataFrame:
    return read_verdicts(done).set_index(["method", "check"])


def test_how_often_each_method_was_asked(done, rows, trained):
    assert results_of(done) == {}
    counts = rows.groupby(["method", "check"]).size().to_dict()
    blocks = rows[rows.check == "model_randomisation"].stage.drop_duplicates().tolist()
    assert blocks == ["head", "encoder.residual.block", *(f"encoder.stages.{each}" for each in (3, 2, 1, 0))]
    for method in METHODS:
        clips = COSTLY_CLIPS if method == "gradcam" else CLIPS
        mixtures = COSTLY_MIXTURES if method == "gradcam" else MIXTURES
        assert counts.pop((method, "model_randomisation")) == len(blocks) * clips
        assert counts.pop((method, "label_randomisation")) == (clips if method == "l2i" else 1)
        assert counts.pop((method, "stability")) == clips
        compared = ["model_randomisation", *(["label_randomisation"] if method == "l2i" else [])]
        for check in ("class_sensitivity", "improvement"):
            assert counts.pop((method, check)) == 2 * mixtures
        for check in (f"{each}_{what}" for each in compared for what in ("audible", "heard", "improvement")):
            assert counts.pop((method, check)) == 2 * mixtures
        if method != "gradcam":
            assert counts.pop((method, "present")) == CLASSES**2
    assert not counts
    # Both classes of each mixture are asked for.
    table = pd.read_csv(done / "mixtures" / "mixture" / "mixtures.csv")
    asked = rows[(rows.check == "class_sensitivity") & (rows.method == "loudest")]
    assert len(table) == MIXTURES
    for item, group in asked.groupby("item_id"):
        (row,) = [each for each in table.itertuples() if str(item).endswith(each.item_id)]
        assert set(group.stage) == {row.base_label, row.other_label}


def test_verdicts_follow_from_the_rows(rows, verdicts):
    assert set(verdicts.index) == {(method, check) for method in METHODS for check in CHECKS}
    bounds = {"class_sensitivity": 0.7, "stability": 0.9}
    for check in ("model_randomisation", "label_randomisation"):
        bounds |= {check: 0.5, f"{check}_audible": 0.5, f"{check}_heard": 0.6}
    for (method, check), verdict in verdicts.iterrows():
        values = rows[(rows.method == method) & (rows.check == check)]
        if check == "model_randomisation":
            values = values[values.stage == "encoder.stages.0"]
        values = values.value.dropna()
        assert verdict.n == len(values)
        if values.empty:
            assert check.startswith("label_randomisation") and method != "l2i"
            assert verdict.verdict == "not run" and np.isnan(verdict.value)
            continue
        assert verdict.value == pytest.approx(values.mean())
        low = check.startswith(("model_randomisation", "label_randomisation"))
        right = values.mean() <= bounds[check] if low else values.mean() >= bounds[check]
        assert verdict.verdict == ("pass" if right else "fail")
        assert verdict.rule.endswith(f"{'<=' if low else '>='} {bounds[check]:g}")


def test_what_must_come_out(rows, verdicts):
    """The loudest bins know neither the model nor the class, and quiet noise does not change which they are."""
    assert verdicts.loc[("loudest", "model_randomisation"), "value"] == 1
    assert verdicts.loc[("loudest", "class_sensitivity"), "value"] <= 0.5
    said = overall(verdicts.reset_index())
    failed = (CHECKS["class_sensitivity"], CHECKS["model_randomisation_audible"])
    assert verdicts.loc[("loudest", "model_randomisation_audible"), "value"] == 1
    assert said["loudest"] == f"fail: {', '.join(failed).lower()}" and said["l2i"].startswith(("pass", "fail: "))
    assert rows[~rows.check.str.endswith("improvement")].value.dropna().between(-1, 1).all()
    for method in METHODS:
        assert verdicts.loc[(method, "stability"), "value"] > 0.9
    # GradCAM reads the last feature map: with every weight drawn anew its mask is another.
    assert verdicts.loc[("gradcam", "model_randomisation"), "value"] < 0.9
    present = rows[(rows.check == "present") & (rows.method == "loudest")]
    pairs = present.stage.str.split("|", expand=True)
    assert len(set(pairs[0])) == len(set(pairs[1])) == CLASSES and not present.stage.duplicated().any()
    assert present.value.between(0, 1).all()
    assert (present.groupby(pairs[0]).value.nunique() == 1).all()  # the same mask, whatever class is asked for


def test_shuffled_labels_are_compared_by_the_masks_of_both_runs(tiny, trained, root, rows):
    trained_l2i, shuffled = (audiointerp.load(each) for each in (trained.l2i, root / "l2i" / "1234"))
    clips = clips_of(tiny.data, trained_l2i.classifier.labels, 4)
    expected = {}
    for number, clip in enumerate(clips.clips):
        waveform = clips.batch([number]).waveform
        made = trained_l2i.interpret(waveform)
        after = shuffled.interpret(waveform, made.target).mask
        # A mask without any order, such as that of no component, has no correlation with another, but with itself.
        ordered = made.mask.std() > 0 and after.std() > 0
        value = spearmanr(made.mask.flatten(), after.flatten()).statistic if ordered else (made.mask == after).all()
        expected[clip.path.stem] = float(value)
    found = rows[(rows.check == "label_randomisation") & (rows.method == "l2i")]
    for row in found.itertuples():
        (name,) = [each for each in expected if each.lower().replace("-", "_") in row.item_id]
        assert row.value == pytest.approx(expected[name], abs=1e-4)


def test_only_what_is_missing_is_checked_again(again, done, rows, monkeypatch):
    before, checked = (done / "sanity.csv").read_bytes(), []
    original = checks._randomise_model

    def count(name, *given):
        checked.append(name)
        return original(name, *given)

    monkeypatch.setattr(checks, "_randomise_model", count)
    run(again)
    assert checked == [] and (done / "sanity.csv").read_bytes() == before
    said = read_verdicts(done)
    rows[rows.method != "gradcam"].to_csv(done / "sanity.csv", index=False)
    said[said.check != "stability"].to_csv(done / "verdicts.csv", index=False)
    run(again)
    assert checked == ["gradcam"]
    order = ["method", "check", "stage", "item_id"]
    back = pd.read_csv(done / "sanity.csv").sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(back, rows.sort_values(order, ignore_index=True), rtol=1e-6)
    back, said = (each.sort_values(["method", "check"], ignore_index=True) for each in (read_verdicts(done), said))
    pd.testing.assert_frame_equal(back, said, rtol=1e-6)


def test_report_writes_the_page_again_from_files_alone(done, verdicts, tmp_path, monkeypatch):
    done = shutil.copytree(done, tmp_path / "run")
    before = snapshot(done)
    monkeypatch.setattr("audiointerp.bundles.bundle.load", lambda *given: pytest.fail("a model is loaded"))
    (done / "report.html").unlink()
    shutil.rmtree(done / "figures")
    shutil.rmtree(done / "tables")
    run(["report", done])
    after = snapshot(done)
    assert after.keys() == before.keys() and {"figures/randomisation.png", "figures/classes.png"} <= after.keys()
    assert [name for name in after if after[name] != before[name]] in ([], ["report.html"])  # the folder's name
    page = (done / "report.html").read_text()
    assert {"sanity.csv", "verdicts.csv", "tables/verdicts.md", "figures/classes.png"} <= set(
        linked(done / "report.html")
    )
    table = (done / "tables" / "verdicts.md").read_text()
    for method in METHODS:
        cells = [verdicts.loc[(method, check)] for check in CHECKS]
        words = [
            "not run"
            if cell.verdict == "not run"
            else f"{cell.value:.2f}"
            if check in SHOWN_ONLY
            else f"{cell.value:.2f} {'✓' if cell.verdict == 'pass' else '✗'}"
            for check, cell in zip(CHECKS, cells)
        ]
        said = overall(verdicts.reset_index())[method]
        assert f"| {' | '.join([method, *words, said])} |" in table
        shown = page.split(f'<th scope="row">{method}</th>')[1].split("</tr>")[0]
        assert re.findall(r">(not run|✓ pass|✗ fail)<", shown) == [
            {"pass": "✓ pass", "fail": "✗ fail"}.get(cell.verdict, "not run")
            for check, cell in zip(CHECKS, cells)
            if check not in SHOWN_ONLY or cell.verdict == "not run"
        ]
        assert f"<td>{said}</td>" in shown


def test_a_comparison_shows_the_verdicts(tiny, trained, root, done):
    run(command(tiny, trained, root, "compare", "--comparison.verdicts", done))
    folder = root / "compare" / "1234"
    said = overall(read_verdicts(done))
    facts = json.loads((folder / "run.json").read_text())["comparison"]
    # A control that goes with a method, and a mask in the other domain, carry the verdict of what they are.
    assert facts["verdicts"] == {name: said[name] for name in facts["verdicts"]} and set(said) <= set(facts["verdicts"])
    scores = pd.read_csv(folder / "scores.csv")
    assert set(METHODS) <= set(scores.method) and (scores.groupby("method").size() == 2).all()
    text, page = (folder / "tables" / "tables.md").read_text(), (folder / "report.html").read_text()
    for method in METHODS:
        lines = [line for line in text.splitlines() if line.startswith(f"| {method} |")]
        assert lines[0].endswith(f"| {said[method]} |")
        assert f'<td class="verdict">{said[method]}</td>' in page


def test_damaged_tables(done, tmp_path):
    fuzz_tables(done, tmp_path, 12)


def test_nothing_is_wrong_with_the_page(done):
    check_page(done / "report.html")
