"""Checks that can fail a method: each on a method that must pass it and one that must not."""

from __future__ import annotations

import copy
import json

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from audiointerp.classifiers import VGGSound
from audiointerp.contracts import Classifier
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import AllPass, Loudest, MaskInterpreter
from audiointerp.interpreters.base import Scene
from audiointerp.runs.registry import kind_of
from audiointerp.runs.sanity import checks as sanity
from audiointerp.runs.sanity import page as sanity_report
from audiointerp.runs.sanity.checks import Sanity, mask_correlation, randomised, verdicts

LABELS = ("low", "high")
TIME = torch.arange(8000) / 16000


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return VGGSound(LABELS, channels=4).eval()


class Halves(MaskInterpreter):
    """Keeps the lower half of the bins for class 0 and the upper for class 1, or the other way round."""

    def __init__(self, classifier: Classifier, swapped: bool = False):
        super().__init__(classifier)
        self.swapped = swapped

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        mask = torch.zeros_like(scene.stft.abs())
        for row, asked in zip(mask, scene.target[:, 0].tolist()):
            row[:256] = float(asked != self.swapped)
            row[256:] = 1 - row[0, 0]
        return mask, {}


class FirstMap(MaskInterpreter):
    """The first channel of the classifier's first feature map: lost with the weights of the first layer."""

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        level = scene.prediction.feature_maps[0][:, :1]
        mask = torch.nn.functional.interpolate(level, scene.stft.shape[1:])[:, 0]
        return mask / mask.amax((1, 2), keepdim=True).clamp(min=1e-8), {}


class Nervous(MaskInterpreter):
    """Another mask for every waveform, however near."""

    def make_mask(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(int(1e6 * abs(scene.waveform.sum().item())))
        return torch.rand(scene.stft.shape, generator=generator), {}


def tone(hertz: float) -> Tensor:
    return (0.4 * torch.sin(2 * torch.pi * hertz * TIME))[None]


def clips() -> list[Item]:
    noise = torch.rand(3, 1, 8000, generator=torch.Generator().manual_seed(1)) - 0.5
    return [Item.of_waveform(f"c_{i}", "", each, 16000, label="low") for i, each in enumerate(noise)]


def mixtures() -> list[Item]:
    pairs = [(400.0, 6000.0), (700.0, 5500.0)]
    return [
        Item.of_waveform(f"m_{i}", "", tone(a) + tone(b), 16000, label="low", stems={"low": tone(a), "high": tone(b)})
        for i, (a, b) in enumerate(pairs)
    ]


def mean(rows: list[dict], stage: str | None = None) -> float:
    values = [row["value"] for row in rows if stage is None or row["stage"] == stage]
    return sum(values) / len(values)


def rows_of(rows: list[dict], check: str) -> list[dict]:
    return [row for row in rows if row["check"] == check]


def test_rank_correlation_is_spearmans():
    torch.manual_seed(0)
    first, second = torch.rand(2, 30, 20)
    second = (4 * (first + second)).round() / 4  # with ties
    expected = spearmanr(first.flatten(), second.flatten()).statistic
    assert mask_correlation(first, second) == pytest.approx(expected, abs=1e-12)
    assert mask_correlation(first, first) == 1.0
    assert mask_correlation(torch.ones(3, 4), torch.ones(3, 4)) == 1.0
    assert mask_correlation(first, torch.ones(30, 20)) == 0.0


def test_randomisation_goes_from_the_output_to_the_input(classifier):
    before = copy.deepcopy(classifier.state_dict())
    stages = list(randomised(classifier, seed=3))
    names = [name for name, _ in stages]
    assert names[0] == "head" and names[-1] == "encoder.stages.0"
    first = stages[0][1].state_dict()
    assert torch.equal(first["encoder.stages.0.0.weight"], before["encoder.stages.0.0.weight"])
    assert not torch.equal(first["head.1.weight"], before["head.1.weight"])
    # Each stage keeps what earlier ones drew, and in the end no convolution is as it was.
    last = stages[-1][1].state_dict()
    assert torch.equal(last["head.1.weight"], first["head.1.weight"])
    assert not any(
        torch.equal(last[name], before[name]) for name in before if name.endswith("0.weight") and last[name].ndim > 1
    )
    assert all(torch.equal(each, before[name]) for name, each in classifier.state_dict().items())


def test_a_mask_that_ignores_the_model_fails_randomisation(classifier):
    last = "encoder.stages.0"
    blind = sanity._randomise_model("loudest", Loudest(classifier), clips(), 0)
    assert mean(blind, last) == 1.0
    seeing = sanity._randomise_model("first_map", FirstMap(classifier), clips(), 0)
    # The first layer is drawn anew last: until then this mask stays.
    assert mean(seeing, "head") == 1.0 and mean(seeing, "encoder.stages.1") == 1.0
    assert mean(seeing, last) < 0.5


def test_class_sensitivity_by_tones(classifier):
    for swapped, right in ((False, 1.0), (True, 0.0)):
        rows = sanity._ask_both("halves", Halves(classifier, swapped), mixtures())
        assert len(rows) == 8 and mean(rows_of(rows, "class_sensitivity")) == right
        assert (mean(rows_of(rows, "improvement")) > 20) == (not swapped)
    # What is the same whatever is asked is right for one of two at most.
    rows = sanity._ask_both("all_pass", AllPass(classifier), mixtures())
    assert mean(rows_of(rows, "class_sensitivity")) <= 0.5


def test_randomisation_by_hearing_and_over_audible_bins(classifier):
    """The method on the "randomised" classifier asks for the wrong half: other masks, and never the right sound."""
    others = {"model_randomisation": Halves(classifier, swapped=True), "label_randomisation": None}
    rows = sanity._ask_both("halves", Halves(classifier), mixtures(), others)
    assert {row["check"] for row in rows if "label" in row["check"]} == set()
    assert mean(rows_of(rows, "model_randomisation_heard")) == 0
    assert mean(rows_of(rows, "model_randomisation_audible")) == pytest.approx(-1)
    assert mean(rows_of(rows, "model_randomisation_improvement")) < -20
    # A method that ignores the model: the same masks and the same sounds.
    rows = sanity._ask_both("halves", Halves(classifier), mixtures(), {"model_randomisation": Halves(classifier)})
    assert mean(rows_of(rows, "model_randomisation_audible")) == mean(rows_of(rows, "model_randomisation_heard")) == 1


def test_audible_bins_are_the_fewest_with_995_thousandths_of_the_energy():
    stft = torch.tensor([[3.0, 1.0], [0.1, 0.01]], dtype=torch.complex64)
    power = stft.abs().square()
    kept = sanity._audible(stft)
    assert kept.tolist() == [[True, True], [False, False]]
    assert power[kept].sum() >= 0.995 * power.sum() and power[0, 0] < 0.995 * power.sum()
    assert sanity._audible(stft, 0.9).tolist() == [[True, True], [False, False]]
    assert sanity._audible(stft, 0.89).tolist() == [[True, False], [False, False]]


def test_stability_under_a_whisper(classifier):
    assert mean(sanity._add_noise("loudest", Loudest(classifier), clips(), 60.0, 0)) > 0.9
    assert abs(mean(sanity._add_noise("nervous", Nervous(classifier), clips(), 60.0, 0))) < 0.1


def test_shuffled_labels_are_compared_where_a_retrained_method_is_given(classifier):
    rows = sanity._randomise_labels("loudest", Loudest(classifier), None, clips())
    assert len(rows) == 1 and rows[0]["value"] != rows[0]["value"]
    rows = sanity._randomise_labels("loudest", Loudest(classifier), Loudest(classifier), clips())
    assert mean(rows) == 1.0


def test_probability_of_the_class_present(classifier):
    rows = sanity._ask_all("all_pass", AllPass(classifier), clips()[:1])
    assert [row["stage"] for row in rows] == ["low|low", "low|high"]
    # An open mask changes nothing, whatever class is asked for.
    waveform = next(clips()[0].windows()).waveform
    with torch.no_grad():
        expected = float(classifier(waveform / waveform.abs().max()).probabilities[0, 0])
    assert [row["value"] for row in rows] == pytest.approx([expected, expected], abs=1e-5)


def test_verdicts_by_hand():
    rows = []
    for method, values in {"good": (0.2, 0.9, 0.95), "bad": (0.6, 0.65, 0.95)}.items():
        rows += [{"method": method, "check": "model_randomisation", "stage": "head", "value": 0.99}]
        rows += [{"method": method, "check": "model_randomisation", "stage": "encoder", "value": values[0]}]
        rows += [{"method": method, "check": "label_randomisation", "stage": "", "value": float("nan")}]
        rows += [{"method": method, "check": "class_sensitivity", "stage": "a", "value": values[1]}]
        rows += [{"method": method, "check": "model_randomisation_audible", "stage": "a", "value": values[0]}]
        rows += [
            {"method": method, "check": "model_randomisation_heard", "stage": "a", "value": 1.0 - (method == "good")}
        ]
        rows += [{"method": method, "check": "stability", "stage": "", "value": values[2]}]
    table = verdicts(pd.DataFrame(rows), Sanity())
    said = {(row["method"], row["check"]): row["verdict"] for row in table.to_dict("records")}
    assert said["good", "model_randomisation"] == "pass" and said["bad", "model_randomisation"] == "fail"
    assert said["good", "label_randomisation"] == said["good", "label_randomisation_heard"] == "not run"
    assert said["bad", "model_randomisation_audible"] == said["bad", "model_randomisation_heard"] == "fail"
    assert said["bad", "class_sensitivity"] == "fail" and said["bad", "stability"] == "pass"
    words = "fail: class sensitivity, model randomised, model randomised, by hearing"
    assert sanity_report.overall(table) == {"good": "pass", "bad": words}
    # The correlation over all bins is shown without a verdict.
    cells = "| bad | 0.65 ✗ | 0.60 ✗ | 1.00 ✗ | not run | not run | 0.95 ✓ | 0.60 | not run |"
    assert f"{cells} {words} |" in sanity_report.markdown(table)


def test_all_bins_alone_do_not_fail_a_method():
    table = pd.DataFrame([{"method": "m", "check": "model_randomisation", "verdict": "fail"}])
    assert sanity_report.overall(table) == {"m": "pass"}


def test_a_whole_run_and_its_page(classifier, tmp_path):
    """Files only are read for the page; what is done already is not done again."""
    from audiointerp.datasets import ClipDataset, make_synthetic, read_esc50

    make_synthetic(tmp_path / "data", clips_per_class=1, folds=1, seconds=0.5)
    found = read_esc50(tmp_path / "data")
    labels = tuple(sorted({clip.labels[0] for clip in found})[:2])
    test = ClipDataset([clip for clip in found if clip.labels[0] in labels], labels, seconds=0.5)
    torch.manual_seed(0)
    own = VGGSound(labels, channels=4).eval()
    methods = {"loudest": Loudest(own), "halves": Halves(own)}
    wanted = Sanity(clips=1, costly_clips=1, mixtures=2, costly_mixtures=1)
    folder = tmp_path / "run"
    first = sanity.check_methods(wanted, methods, {}, ["halves"], test, folder, 0)
    assert first.set_index(["method", "check"])["verdict"]["loudest", "model_randomisation"] == "fail"
    rows = pd.read_csv(folder / "sanity.csv")
    # The costly method: fewer mixtures, and no table of all classes.
    counts = rows.groupby(["method", "check"]).size()
    assert counts["loudest", "class_sensitivity"] == 4 and counts["halves", "class_sensitivity"] == 2
    assert counts["loudest", "present"] == 4 and ("halves", "present") not in counts
    (folder / "run.json").write_text(json.dumps({"name": "sanity", "seed": 0, "kind": "sanity", "finished": True}))
    page = sanity_report.write(folder)
    assert "loudest" in page.read_text() and (folder / "figures" / "randomisation.png").is_file()
    stamp = (folder / "sanity.csv").read_bytes()
    again = sanity.check_methods(wanted, methods, {}, [], test, folder, 0)
    assert (folder / "sanity.csv").read_bytes() == stamp and len(again) == len(first)


def test_no_verdicts_to_read(tmp_path):
    with pytest.raises(ValueError, match=r"verdicts\.csv; run sanity\.yaml"):
        sanity_report.read_verdicts(tmp_path)


def test_a_recipe_with_checks_is_a_sanity_run():
    assert kind_of({"sanity": 1, "methods": 1}).name == "sanity"
