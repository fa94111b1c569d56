"""Class-specific masks on a classifier whose two bands are known: the table, the four scores, and the page."""

import json

import pandas as pd
import pytest
import torch
from browsing import check_page
from damage import fuzz_tables
from magnitude_classifiers import HIGH_BINS, LOW_BINS, RATE, OfMagnitude, band_level, tone
from tiny_runs import linked, log_of, results_of, run, with_options

from audiointerp.evaluation.items import Item
from audiointerp.interpreters import WAM, AllPass, MaskInterpreter, TargetMasking
from audiointerp.metrics import segmentation
from audiointerp.runs.class_masks import page
from audiointerp.runs.class_masks.checks import ClassMasks, constant_rows, mask_rows, summarize
from audiointerp.sound import StemMask

LABELS = ("low", "high", "neither")


def two_bands() -> OfMagnitude:
    """Says "low" by the level around 700 Hz, "high" by that around 3,000 Hz, and "neither" if both are quiet."""

    def logits(magnitude):
        levels = [3 * band_level(magnitude, bins) for bins in (LOW_BINS, HIGH_BINS)]
        return *levels, torch.full_like(levels[0], 3.0)

    return OfMagnitude(logits, LABELS)


class OwnBand(MaskInterpreter):
    """The band of the class, 0.55 within and 0.25 elsewhere; for "neither", nothing."""

    def make_mask(self, scene):
        mask = torch.zeros_like(scene.stft.abs())
        for bins, asked in zip((LOW_BINS, HIGH_BINS), scene.target.T):
            mask[:, bins] = torch.where(asked[:, None, None], 0.55, 0.25)
        return mask, {}


def mixture(number: int = 0) -> Item:
    """Both tones, one after the other."""
    low, high = tone(700.0, 0.05, 0.3), 0.8 * tone(3000.0, 0.3, 0.55)
    stems = {"low": low, "high": high}
    return Item.of_waveform(f"m_{number}", "m.wav", low + high, RATE, label="low", stems=stems, condition="mixture")


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def cell(rows, label, target):
    (found,) = [row for row in rows if row["label"] == label and row["target"] == target]
    return found


def heard(classifier, bins, label):
    """Probability of a label if only these bins are left of the mixture."""
    magnitude = classifier.spectrogram(mixture().windows().__next__().waveform / mixture_peak()).abs()
    kept = torch.zeros_like(magnitude)
    kept[:, bins] = magnitude[:, bins]
    return float(classifier.classify(kept).probabilities[0, LABELS.index(label)])


def mixture_peak():
    return next(mixture().windows()).waveform.abs().max()


def test_a_cell_is_the_mean_over_thresholds_strictly_exceeded():
    """At 0.1 and 0.2 both bands are above the threshold, at 0.3 to 0.5 the class's own, from 0.6 on nothing."""
    classifier = two_bands()
    rows, covered = mask_rows(ClassMasks(), "own", OwnBand(classifier), mixture(), LABELS)
    assert len(rows) == 2 * 3 and [row["target"] for row in covered] == ["low", "high"]
    both = torch.zeros(513, dtype=torch.bool)
    both[LOW_BINS] = both[HIGH_BINS] = True
    none = torch.zeros(513, dtype=torch.bool)
    for label, own, other in (("low", LOW_BINS, HIGH_BINS), ("high", HIGH_BINS, LOW_BINS)):
        of = {name: heard(classifier, bins, label) for name, bins in (("both", both), ("own", own), ("none", none))}
        of["other"] = heard(classifier, other, label)
        opposite = "high" if label == "low" else "low"
        expected = {
            label: (2 * of["both"] + 3 * of["own"] + 4 * of["none"]) / 9,
            opposite: (2 * of["both"] + 3 * of["other"] + 4 * of["none"]) / 9,
            "neither": (2 * of["both"] + 7 * of["none"]) / 9,
        }
        for target, value in expected.items():
            found = cell(rows, label, target)
            assert found["probability"] == pytest.approx(value, rel=1e-4), (label, target)
            assert found["silence"] == pytest.approx(of["none"], rel=1e-4)
            assert found["whole"] == pytest.approx(heard(classifier, slice(None), label), rel=1e-3)


def test_masks_of_one_class_pass_and_masks_of_every_class_fail():
    classifier, wanted = two_bands(), ClassMasks(thresholds=[0.5])
    methods = {
        "own": OwnBand(classifier),
        "all_pass": AllPass(classifier),
        "ideal": TargetMasking(classifier, StemMask("binary"), "magnitude"),
    }
    made = [mask_rows(wanted, name, method, mixture(), LABELS) for name, method in methods.items()]
    constants = constant_rows(wanted, mixture(), classifier)
    rows, covered = (frame([row for each in made for row in each[part]]) for part in (0, 1))
    covered = pd.concat([frame(constants), covered])
    # An oracle has the masks of the classes whose stem is known only.
    assert set(rows.loc[rows["method"] == "ideal", "target"]) == {"low", "high"}
    table = summarize(rows, covered, wanted).set_index("method")
    assert table["verdict"].drop(["constant_0", "constant_0.5", "constant_1"]).to_dict() == {
        "own": "pass", "all_pass": "fail", "ideal": "pass",
    }  # fmt: skip
    assert table.loc["all_pass", "ratio"] == pytest.approx(1, abs=1e-4)
    silence = rows.loc[rows["method"] == "own", "silence"].mean()
    own = {label: heard(classifier, bins, label) for label, bins in (("low", LOW_BINS), ("high", HIGH_BINS))}
    crossed = [heard(classifier, HIGH_BINS, "low"), heard(classifier, LOW_BINS, "high")]
    assert table.loc["own", "diagonal"] == pytest.approx(sum(own.values()) / 2, rel=1e-4)
    assert table.loc["own", "other_present"] == pytest.approx(sum(crossed) / 2, rel=1e-4)
    assert table.loc["own", "others"] == pytest.approx((sum(crossed) + 2 * silence) / 4, rel=1e-4)


def test_constant_masks_have_the_values_of_the_formulas():
    """With a binary ideal mask of the area A: mask 1 has accuracy and IoU A; 0 has 1 - A and 0; 0.5 has A / (1 + A)."""
    rows = frame(constant_rows(ClassMasks(), mixture(), two_bands()))
    for target in ("low", "high"):
        found = rows[rows["target"] == target].set_index("method")
        (area,) = found["ideal_area"].unique()
        assert 0 < area < 1
        scores = {name: [float(each) for each in found.loc[name, ["accuracy", "iou", "mae"]]] for name in found.index}
        assert scores["constant_0"] == pytest.approx([1 - area, 0, area], abs=1e-5)
        assert scores["constant_0.5"] == pytest.approx([0.5, area / (1 + area), 0.5], abs=1e-5)
        assert scores["constant_1"] == pytest.approx([area, area, 1 - area], abs=1e-5)
        assert scores["ideal"] == pytest.approx([1, 1, 0], abs=1e-5)
        classifier = two_bands()
        for name, bins in (("constant_0", slice(0, 0)), ("constant_1", slice(None))):
            p = torch.tensor(heard(classifier, bins, target))
            expected = torch.tensor(max(float(name[-1]), 0.05)).log() - p.log()
            assert found.loc[name, "saliency"] == pytest.approx(float(expected), rel=1e-3)


def test_scores_of_soft_masks_by_hand():
    mask, ideal = torch.tensor([[[0.2, 0.9], [0.4, 0.0]]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert float(segmentation.accuracy(mask, ideal)) == pytest.approx((0.8 + 0.9 + 0.4 + 1) / 4)
    assert float(segmentation.iou(mask, ideal)) == pytest.approx((0.9 + 0.4) / (0.2 + 1 + 1))
    assert float(segmentation.mean_absolute_error(mask, ideal)) == pytest.approx((0.2 + 0.1 + 0.6) / 4)
    found = segmentation.saliency(torch.stack([mask[0], 0 * mask[0]]), torch.tensor([0.5, 0.5])).exp()
    assert found.tolist() == pytest.approx([0.375 / 0.5, 0.05 / 0.5])
    assert float(segmentation.iou(0 * mask, 0 * ideal)) == 1
    assert torch.isfinite(segmentation.saliency(mask, torch.zeros(1))).all()


def test_what_cannot_work():
    with pytest.raises(ValueError, match="1 to 100000 mixtures"):
        ClassMasks(mixtures=0)
    with pytest.raises(ValueError, match="from 0 to below 1"):
        ClassMasks(thresholds=[1.0])
    with pytest.raises(ValueError, match="choose ratio or binary"):
        ClassMasks(ideal="soft")
    with pytest.raises(ValueError, match="method wam makes no mask"):
        mask_rows(ClassMasks(), "wam", WAM(two_bands(), n_samples=1), mixture(), LABELS)


def write_run(folder) -> list:
    """A run of one method on one mixture; the rows of its table."""
    classifier, wanted = two_bands(), ClassMasks(thresholds=[0.5])
    rows, covered = mask_rows(wanted, "own", OwnBand(classifier), mixture(), LABELS, folder)
    sounds = folder / "audio" / "m_0"
    (sounds / "mixture.wav").write_bytes((sounds / "own_000.wav").read_bytes())
    frame(rows).to_csv(folder / "class_masks.csv", index=False)
    table = summarize(frame(rows), frame(covered + constant_rows(wanted, mixture(), classifier)), wanted)
    table.to_csv(folder / "summary.csv", index=False)
    about = {"name": "class_masks", "kind": "class_masks", "scored": False, "seed": 1, "labels": list(LABELS)}
    (folder / "run.json").write_text(json.dumps(about))
    return rows


@pytest.mark.slow
def test_damaged_tables(tmp_path):
    write_run(tmp_path / "run")
    fuzz_tables(tmp_path / "run", tmp_path / "copy", 12)


def test_page_shows_the_sound_of_every_class(tmp_path):
    rows = write_run(tmp_path)
    written = page.write(tmp_path).read_text()
    assert written.count("<audio") == 1 + 3 and "why not neither" in written and "✓ pass" in written
    table = (tmp_path / "tables" / "class_masks_own.md").read_text().splitlines()
    assert table[0] == "| class present | unmasked | silence | mask of low | mask of high | mask of neither |"
    assert [line.split(" | ")[0] for line in table[2:]] == ["| low", "| high"]
    assert f"**{cell(rows, 'high', 'high')['probability']:.2f}**" in table[3]
    assert (tmp_path / "figures" / "class_masks_own.png").is_file()


def test_recipes_from_training_to_the_table(tiny, tmp_path):
    """explainer.yaml trains; class_masks.yaml adds the run by name, and started again finds everything done."""
    small = ("--classifier", tiny.classifier, "--interpreter.width", 4, "--interpreter.fine_width", 4)
    few = ("--evaluation.clips", 2, "--evaluation.mixtures", 2, "--evaluation.figures", "false", "--batch_size", 10)
    run(with_options(tiny.recipe("explainer", tmp_path), *small, *few, "--epochs", 2))
    trained = tmp_path / "explainer" / "1234"
    log = log_of(trained, 2)
    weights = {"area_others": 0.3, "classification": 1.0, "entropy": 0.15, "area": 0.1, "bounds": 1.0, "tv": 1.0}
    assert set(log) >= weights.keys()
    assert log.loss.tolist() == pytest.approx(sum(weight * log[name] for name, weight in weights.items()), rel=1e-4)
    scores = pd.read_csv(trained / "scores.csv")
    assert (
        {"explainer", "loudest", "threshold"}
        <= set(scores.method)
        <= {"explainer", "explainer_other", "loudest", "threshold"}
    )
    more = ("--classifier", tiny.classifier, "--methods.explainer", trained, "--methods.piq", "null")
    more += ("--class_masks.mixtures", 2, "--class_masks.sounds", 1)
    command = with_options(tiny.recipe("class_masks", tmp_path), *more)
    command = [each for i, each in enumerate(command) if "--epochs" not in command[max(0, i - 1) : i + 1]]
    run(command)
    folder = tmp_path / "class_masks" / "1234"
    assert results_of(folder) == {"mixtures": 2}
    rows = pd.read_csv(folder / "class_masks.csv")
    assert (rows[rows.method == "explainer"].groupby("item_id").target.nunique() == 10).all()
    assert rows.probability.between(0, 1).all() and rows.item_id.nunique() == 2
    summary = pd.read_csv(folder / "summary.csv").set_index("method")
    assert {"explainer", "gradcam", "all_pass", "ideal_binary", "constant_0.5"} <= set(summary.index)
    assert summary.loc["ideal_binary", "iou"] == pytest.approx(1) and summary.loc["constant_0", "iou"] == 0
    assert len(linked(folder / "report.html")) > 11
    before = (folder / "class_masks.csv").read_bytes()
    run(command)
    assert (folder / "class_masks.csv").read_bytes() == before


@pytest.mark.slow
def test_nothing_is_wrong_with_the_page(tmp_path):
    write_run(tmp_path)
    check_page(page.write(tmp_path))
