"""Judging fillers: each number beside a case whose answer is known, and the verdict."""

from math import log

import numpy as np
import pytest
import torch
from band_notes import BANDS, notes, seeded
from sklearn.metrics import roc_auc_score

from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters.rde.fillers import Donors, Filler, GaussianNoise, Zeros
from audiointerp.runs.notes.filler_judging import (
    accepted,
    class_entropy,
    diversity,
    judge_fillers,
    rank_auc,
    train_discriminator,
)
from audiointerp.sound.spectrogram import STFT

SMALL = {"steps": 80, "batch": 16, "width": 8, "seeds": (0, 1), "resamples": 200}


class LowOrHigh(Classifier):
    """Says in which quarter of the bands the strongest one lies."""

    def __init__(self, multilabel=False):
        super().__init__()
        self.labels, self.sample_rate, self.multilabel = ("a", "b", "c", "d"), 16000, multilabel
        self.spectrogram = STFT()
        self.dropout = torch.nn.Dropout(0.5)

    def features(self, waveform):
        raise NotImplementedError

    def classify(self, features):
        assert not self.training and not torch.is_grad_enabled()
        return Prediction.from_logits(40 * features[:, 0].view(len(features), 4, -1).amax(2), self.multilabel)


class Same(Filler):
    """Gives the note itself back: composites are real."""

    def draw(self, count, generator):
        return torch.empty(count, 0)

    def fill(self, features, keep, drawn):
        return features.clone()


def test_entropy_by_hand():
    assert class_entropy(torch.full((3, 4), 0.25)) == pytest.approx(log(4))
    assert class_entropy(torch.eye(4)[[1, 1, 1]]) == 0
    # Half of the notes of one class, a quarter each of two others: 1.5 bits.
    assert class_entropy(torch.eye(4)[[0, 0, 1, 2]]) == pytest.approx(1.5 * log(2))
    assert class_entropy(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(log(2))


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_scikit_learns_with_ties(seed):
    rng = np.random.default_rng(seed)
    real, composite = rng.integers(0, 6, 40), rng.integers(0, 5, 25)
    label = np.r_[np.ones(40), np.zeros(25)]
    assert rank_auc(real, composite) == pytest.approx(roc_auc_score(label, np.r_[real, composite]))
    assert rank_auc([2, 3], [0, 1]) == 1 and rank_auc([0, 1], [2, 3]) == 0 and rank_auc([1, 1], [1]) == 0.5


def test_diversity_by_hand():
    x, everything = notes(40), torch.zeros(40, 2, BANDS)
    assert diversity(Zeros(), x, everything, seeded()) == (0, 0, 0)
    # Donors are real notes: two draws differ as two notes do, but for the draws of the same donor twice (1 in 40).
    for value in diversity(Donors(x), x, everything, seeded()):
        assert value == pytest.approx(1, abs=0.12)
    # A noise of constant level varies in phase alone.
    still = diversity(GaussianNoise(torch.ones(BANDS), torch.zeros(BANDS)), x, everything, seeded())
    assert still.level == 0 and still.phase > 0.5
    # What is kept counts on neither side.
    level_only = torch.stack([torch.zeros(40, BANDS), torch.ones(40, BANDS)], 1)
    kept = diversity(Donors(x), x, level_only, seeded())
    assert kept.both == kept.level == pytest.approx(1, abs=0.12) and np.isnan(kept.phase)


def test_twice_the_spread_is_twice_the_diversity():
    x, everything = notes(200), torch.zeros(200, 2, BANDS)
    one, two = (
        diversity(GaussianNoise(torch.full((BANDS,), 100.0), std * torch.ones(BANDS)), x, everything, seeded()).level
        for std in (1, 2)
    )
    assert two == pytest.approx(2 * one, rel=1e-4)


def test_discriminator_is_fresh_and_repeatable():
    before = torch.get_rng_state()
    first, again, other = (
        train_discriminator(Zeros(), notes(), steps=2, batch=4, width=4, seed=seed).layers[0].weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture(scope="module")
def table():
    train, held_out = notes(200, seed=1), notes(120, seed=2)
    mean, std = train[:, 0].mean(0), train[:, 0].std(0)
    fillers = {"same": Same(), "zeros": Zeros(), "noise": GaussianNoise(mean, std), "donor": Donors(train)}
    classifier = LowOrHigh().train()
    made = judge_fillers(fillers, classifier, train, held_out, **SMALL).set_index("filler")
    assert classifier.training and classifier.dropout.training  # left as found
    return made


def test_real_notes_cannot_be_told_apart_and_zeros_can(table):
    assert table.auc["same"] == pytest.approx(0.5, abs=1e-9)  # the same scores, note by note
    assert table.auc["zeros"] > 0.97 and table.auc_replaced["zeros"] == 1
    assert table.auc["donor"] < table.auc["zeros"]
    # Whole donor notes are real notes, of which the held-out ones are others.
    assert table.auc_replaced["donor"] == pytest.approx(0.5, abs=0.12)


def test_interval_holds_the_estimate(table):
    assert ((table.auc_low <= table.auc) & (table.auc <= table.auc_high)).all()
    assert table.auc_high["donor"] - table.auc_low["donor"] > 0.01


def test_classes_of_replaced_notes(table):
    # Zeros give four equal scores: as much entropy as there is, and all of it doubt.
    assert table.entropy["zeros"] == pytest.approx(log(4))
    assert table.entropy_share["zeros"] == pytest.approx(1)
    assert table.information["zeros"] == pytest.approx(0, abs=1e-9)
    assert table.entropy["same"] == pytest.approx(table.real_entropy["same"])
    assert table.information["donor"] == pytest.approx(table.real_information["donor"], abs=0.1)
    assert table.real_information["donor"] > 0.3


def test_verdicts(table):
    ok, reasons = accepted(table.loc["zeros"])
    assert not ok and len(reasons) == 3 and "AUC" in reasons[2]
    assert [each.split()[0] for each in reasons[:2]] == ["diversity", "diversity"]
    row = {"entropy": 1.0, "real_entropy": 2.0, "level_diversity": 0.1, "phase_diversity": 0.1, "auc": 0.95}
    assert accepted(row) == (True, [])
    assert not accepted(row, min_entropy=0.51)[0] and not accepted(row, min_diversity=0.2)[0]
    assert not accepted(row | {"entropy": 0.9})[0] and not accepted(row | {"phase_diversity": 0.09})[0]
    assert accepted(row | {"auc": 0.97}) == (False, ["AUC 0.970 is above 0.95"])
    assert accepted(row | {"auc": 0.97}, donor_auc=0.98)[0]
    ok, reasons = accepted(row | {"auc": 0.97}, donor_auc=0.96)
    assert not ok and reasons == ["AUC 0.970 is above 0.95 and not below 0.960 of donor notes"]
    assert not accepted(dict.fromkeys(row, float("nan")))[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": LowOrHigh(multilabel=True)}, "multilabel"),
        ({"held_out": notes(1)}, "give at least 1 and 2"),
        ({"train": notes(4)[:0]}, "0 training"),
        ({"steps": 0}, "at least 1"),
        ({"seeds": ()}, "at least 1"),
    ],
)
def test_bad_input_is_one_clear_line(changes, message):
    given = {"fillers": {}, "classifier": LowOrHigh(), "train": notes(4), "held_out": notes(4)} | SMALL | changes
    with pytest.raises(ValueError, match=message) as caught:
        judge_fillers(**given)
    assert "\n" not in str(caught.value)
