"""MostFaithful: the classifier decides which of several masks is shown, on a classifier whose answer is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from cases import piq
from torch import Tensor
from two_tones import RATE, TwoBands, tones, two_bands

from audiointerp.classifiers import VGGSound
from audiointerp.contracts import Prediction
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import LIME, WAM, Loudest, MaskInterpreter, MostFaithful
from audiointerp.interpreters.catalogue import choose
from audiointerp.interpreters.most_faithful import log_odds
from audiointerp.runs.methods import build_methods


class Band(MaskInterpreter):
    """Keeps a band whatever the target: what it was taught."""

    def __init__(self, classifier, lowest: float, highest: float, kept: float = 1.0):
        super().__init__(classifier)
        self.lowest, self.highest, self.kept = lowest, highest, kept

    def make_mask(self, scene) -> tuple[Tensor, dict[str, Tensor]]:
        hertz = torch.linspace(0, RATE / 2, scene.stft.shape[1])
        row = ((hertz >= self.lowest) & (hertz < self.highest)).float() * self.kept
        return row[None, :, None].expand(scene.stft.shape), {}


@pytest.fixture
def chooser() -> MostFaithful:
    classifier = two_bands()
    return MostFaithful(classifier, {"low": Band(classifier, 0, 2000), "high": Band(classifier, 2000, 8001)})


def test_each_target_is_explained_by_the_sound_that_the_classifier_uses(chooser):
    sound = tones().expand(2, -1)
    made = chooser.interpret(sound, torch.tensor([0, 1]))
    assert made.details["chosen"].tolist() == [0, 1] and chooser.chosen(made) == ["low", "high"]
    assert Band(chooser.classifier, 0, 2000).chosen(made) is None
    found = made.details["faithfulness"]
    torch.testing.assert_close(found[0], -found[1], rtol=1e-3, atol=1e-2)  # kept and rest are exchanged
    assert found[0, 0] > 5 > -5 > found[0, 1]
    for row, hertz in enumerate((500, 4000)):
        spectrum = torch.fft.rfft(made.waveform[row]).abs()
        assert abs(int(spectrum.argmax()) - hertz) <= 1
    torch.testing.assert_close(made.waveform + made.residual, sound, atol=1e-5, rtol=0)


def test_faithfulness_is_that_of_the_sounds_one_hears(chooser):
    """Of two classes, log-odds are the difference of the logits; here of the classifier's own for both sounds."""
    made = chooser.interpret(tones()[None] / 0.6, 0)
    (kept,), (rest,) = (TwoBands()(each * made.input_gain).numpy() for each in (made.waveform, made.residual))
    assert made.details["chosen"].tolist() == [0]
    expected = (kept[0] - kept[1]) - (rest[0] - rest[1])
    assert float(made.details["faithfulness"][0, 0]) == pytest.approx(float(expected), rel=1e-3)


def test_log_odds_are_those_of_the_probability():
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    several, one = Prediction.from_logits(logits, True), Prediction.from_logits(logits, False)
    target = torch.tensor([[True, False, True]])
    assert float(log_odds(several, target)) == pytest.approx(0.75)
    first = torch.tensor([[True, False, False]])
    assert float(log_odds(one, first)) == pytest.approx(1.0 - math.log(math.exp(-2) + math.exp(0.5)), rel=1e-5)
    certain = Prediction.from_logits(torch.tensor([[500.0, -500.0]]), False)
    assert math.isfinite(float(log_odds(certain, torch.tensor([[False, True]]))))


def test_the_first_within_the_margin_is_preferred(chooser):
    """A mask that keeps a little less is almost as faithful; within the margin the order decides."""
    classifier = chooser.classifier
    weaker, whole = Band(classifier, 0, 2000, 0.999), Band(classifier, 0, 2000)
    sound = tones()[None]
    strict = MostFaithful(classifier, {"weaker": weaker, "whole": whole}, margin=0).interpret(sound, 0).details
    gap = float(strict["faithfulness"][0, 1] - strict["faithfulness"][0, 0])
    assert strict["chosen"].tolist() == [1] and gap > 0
    lenient = MostFaithful(classifier, {"weaker": weaker, "whole": whole}, margin=gap * 1.01).interpret(sound, 0)
    assert lenient.details["chosen"].tolist() == [0]


def test_a_mask_of_the_log_magnitude_keeps_the_same_sound():
    torch.manual_seed(0)
    classifier = VGGSound(("a", "b", "c"), channels=4).eval()
    own = piq(classifier, codes=9)
    assert own.domain == "log_magnitude"
    sound = tones()[None] + 0.01 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    made, alone = (each.interpret(sound) for each in (MostFaithful(classifier, {"piq": own}), own))
    torch.testing.assert_close(made.waveform, alone.waveform, atol=1e-5, rtol=1e-3)
    assert made.domain == "magnitude" and made.mask.min() >= 0 and made.mask.max() <= 1


def test_passes_are_those_of_all_methods(chooser):
    classifier = chooser.classifier
    lime = LIME(classifier, tiles=(2, 2))
    assert MostFaithful(classifier, {"lime": lime, "loudest": Loudest(classifier)}).passes == lime.passes + 2 + 1 + 2


def test_recipes_name_other_methods_and_commands_choose_among_them():
    classifier = two_bands()
    makers = {
        "best": lambda it: MostFaithful(it, ["loudest", "lime"], margin=0.5),
        "lime": lambda it: LIME(it, tiles=(2, 1)),
        "loudest": Loudest,
    }
    methods = build_methods(makers, classifier)
    best = methods["best"]
    assert list(methods) == ["best", "lime", "loudest"] and isinstance(best, MostFaithful) and best.margin == 0.5
    assert best.methods == {"loudest": methods["loudest"], "lime": methods["lime"]}
    with pytest.raises(ValueError, match="names 'nothing', which is no other method; name some of"):
        build_methods(makers | {"best": lambda it: MostFaithful(it, ["nothing"])}, classifier)
    named = choose(classifier, ["mostfaithful"], "x")["mostfaithful"]
    assert isinstance(named, MostFaithful) and list(named.methods) == ["lime_nmf", "lime"]


def test_the_table_names_the_method_that_is_shown(chooser, tmp_path):
    item = Item.of_waveform("a", "a.wav", tones()[None], RATE)
    evaluate(
        [item], {"best": chooser, "loudest": Loudest(chooser.classifier)}, tmp_path, Wanted(target=1, figures=False)
    )
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False).set_index("method")
    assert table.chosen.to_dict() == {"best": "high", "loudest": ""}


def test_what_cannot_be(chooser):
    classifier, sound = chooser.classifier, tones()[None]
    with pytest.raises(ValueError, match="margin is -1"):
        MostFaithful(classifier, margin=-1)
    with pytest.raises(ValueError, match="no methods to choose among"):
        MostFaithful(classifier).interpret(sound)
    with pytest.raises(ValueError, match="method wavelets has none"):
        MostFaithful(classifier, {"wavelets": WAM(classifier)}).interpret(sound)
