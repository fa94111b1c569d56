"""The paper's Table 1 on classifiers whose answer is known, and its distortions by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from band_classifiers import BANDS, LinearBands, random_features, reads

from audiointerp.classifiers import InstrumentClassifier
from audiointerp.interpreters.rde.band_problem import NoteProblem
from audiointerp.interpreters.rde.fillers import Donors, fit_fillers
from audiointerp.interpreters.rde.inpainter import Generated, Generator
from audiointerp.runs.notes.magnitude_phase import (
    COLUMNS,
    MagnitudePhase,
    corner_distortions,
)
from audiointerp.runs.notes.magnitude_phase_page import PAPER_TABLE_1, as_text


@pytest.fixture(scope="module")
def fillers():
    torch.manual_seed(0)
    generated = Generated(Generator(BANDS, width=4, blocks=2))
    return {**fit_fillers(random_features(20, seed=9)), "generator": generated}


@pytest.mark.parametrize(("part", "corner"), [("phase", (0, 1)), ("magnitude", (1, 0))])
def test_the_query_says_what_the_classifier_reads_with_every_filler(part, corner, fillers):
    classifier, features = reads(part), random_features(12)
    label = torch.tensor([0, 1, 2]).repeat(4)
    table = MagnitudePhase(steps=40, samples=4)(classifier, features, label, fillers)
    assert tuple(table.columns) == COLUMNS
    assert table["filler"].tolist() == [name for name in fillers for _ in range(3)]
    assert table["class"].tolist() == list(classifier.labels) * 4
    assert (table["notes"] == 4).all()
    for _, row in table.iterrows():
        assert (row["own_magnitude"], row["own_phase"]) == corner, row
        read, other = ("D01", "D10") if part == "phase" else ("D10", "D01")
        assert row[read] == pytest.approx(0, abs=1e-6)
        if row["filler"] != "generator":  # which fills otherwise if it sees the rest
            assert row[other] == pytest.approx(row["D00"], rel=1e-4)
        # One penalty for all: a class whose distortion is less than its half keeps nothing.
        expected = corner if row["D00"] > row["penalty"] / 2 else (0, 0)
        assert (row["best_magnitude"], row["best_phase"]) == expected
        # Enumeration and the concrete relaxation agree.
        assert (round(row["theta_magnitude"]), round(row["theta_phase"])) == expected, row
    for _, rows in table.groupby("filler"):
        assert rows["penalty"].nunique() == 1
        assert rows["penalty"].iloc[0] == pytest.approx(0.5 * rows["D00"].mean())
    assert (table["best_magnitude"] + table["best_phase"] == 1).mean() > 0.8


@pytest.mark.parametrize(("part", "corner"), [("phase", (0, 1)), ("magnitude", (1, 0))])
def test_of_the_classifier_that_is_given_one_of_the_two(part, corner, fillers):
    torch.manual_seed(0)
    classifier = InstrumentClassifier(["harp", "horn"], bands=BANDS, channels=4, reads=part)
    features = random_features(6)
    table = MagnitudePhase(steps=0, samples=4)(classifier, features, torch.arange(6) % 2, fillers)
    assert classifier.training
    assert (table["D00"] > 0).all()
    assert (table["own_magnitude"] == corner[0]).all() and (table["own_phase"] == corner[1]).all()


def test_distortions_by_hand():
    """One band of each matters: logit 0 = 2 level of band 0 + 3 cos of band 1, logit 1 = -level of band 0."""
    weight = torch.zeros(2, 3, BANDS)
    weight[0, 0, 0], weight[0, 1, 1], weight[1, 0, 0] = 2.0, 3.0, -1.0
    features = torch.zeros(2, 3, BANDS)
    features[0, 0, 0], features[0, 1, 1] = 1.0, 0.5
    features[1, 0, 0], features[1, 1, 1] = 2.0, -1.0
    classifier = LinearBands(weight)
    asked = torch.tensor([[True, False]] * 2)
    made = corner_distortions(NoteProblem(classifier, features, None, asked, group=BANDS))
    # Logit 0 is 2 + 1.5 = 3.5 and 4 - 3 = 1; nothing but 0 is left when all is dropped.
    assert made[0, 0] == pytest.approx((0.5 * 3.5**2 + 0.5 * 1**2) / 2)
    assert made[1, 0] == pytest.approx((0.5 * 1.5**2 + 0.5 * 3**2) / 2)
    assert made[0, 1] == pytest.approx((0.5 * 2**2 + 0.5 * 4**2) / 2)
    summed = corner_distortions(NoteProblem(classifier, features, None, None, group=BANDS))
    assert summed[0, 0] == pytest.approx((0.5 * (3.5**2 + 1) + 0.5 * (1 + 2**2)) / 2)
    # Two donors, level 0 and 4 in band 0, all else 0: every draw is one of them.
    bank = torch.zeros(2, 3, BANDS)
    bank[1, 0, 0] = 4.0
    problem = NoteProblem(classifier, features, Donors(bank), asked, group=BANDS)
    made = corner_distortions(problem, samples=2000, max_batch=999)
    expected = np.mean([0.5 * (own - other) ** 2 for own in (2.0, 4.0) for other in (0.0, 8.0)])
    assert made[0, 1] == pytest.approx(expected, rel=0.05)


def test_whose_logit_is_asked():
    """Notes of class 0 that all are heard as class 1: its logit, the label's or all."""
    weight = torch.zeros(2, 3, BANDS)
    weight[0, 0], weight[1, 0] = 0.1, 0.3
    features, label = random_features(3), torch.zeros(3).long()
    level = features[:, 0].sum(1)
    made = {
        outputs: MagnitudePhase(outputs=outputs, steps=0)(LinearBands(weight), features, label, fit_fillers(features))
        for outputs in ("predicted", "label", "all")
    }
    for outputs, scale in (("predicted", 0.3**2), ("label", 0.1**2), ("all", 0.1**2 + 0.3**2)):
        zeros = made[outputs].iloc[0]
        assert zeros["D00"] == pytest.approx(float((0.5 * scale * level.square()).mean()), rel=1e-4)
        assert np.isnan(zeros["theta_magnitude"])


def test_an_absolute_penalty_the_cap_and_the_seed():
    classifier, features = reads("phase"), random_features(9)
    label = torch.zeros(9).long()
    fillers = fit_fillers(random_features(20, seed=9))
    before = torch.get_rng_state()
    query = MagnitudePhase(penalty=1e6, max_notes=4, steps=0, samples=2)
    table = query(classifier.train(), features, label, fillers)
    assert torch.equal(torch.get_rng_state(), before)
    assert classifier.training and all(each.requires_grad for each in classifier.parameters())
    assert (table["notes"] == 4).all() and (table["penalty"] == 1e6).all()
    assert (table["best_phase"] == 0).all() and (table["own_phase"] == 1).all()  # too dear; not at its own price
    again = query(classifier, features, label, fillers)
    distortions = ["D00", "D10", "D01"]
    assert (again[distortions] == table[distortions]).all(axis=None)
    other = MagnitudePhase(max_notes=4, steps=0, samples=2, seed=1)(classifier, features, label, fillers)
    assert (other["D00"] != table["D00"]).all()


@pytest.mark.parametrize("penalty", [0.3, 1.0, 3.0, 9.0, 30.0])
def test_the_corner_is_the_minimum_over_all_probabilities(penalty):
    """The expected loss of each pair of probabilities, by its formula, is nowhere below that of the corner."""
    features = random_features(8)
    row = MagnitudePhase(penalty=penalty, outputs="all", steps=0)(
        LinearBands(torch.randn(2, 3, BANDS, generator=torch.Generator().manual_seed(2)) / 4),
        features,
        torch.zeros(8).long(),
        {"donor": Donors(random_features(5, seed=3))},
    ).iloc[0]
    magnitude, phase = np.meshgrid(*[np.linspace(0, 1, 21)] * 2, indexing="ij")
    loss = row["D00"] * (1 - magnitude) * (1 - phase) + row["D10"] * magnitude * (1 - phase)
    loss = loss + row["D01"] * (1 - magnitude) * phase + penalty * (magnitude + phase) / 2
    best = np.unravel_index(loss.argmin(), loss.shape)
    assert (row["best_magnitude"], row["best_phase"]) == (best[0] // 20, best[1] // 20)


def test_markdown_has_the_papers_numbers_beside():
    assert len(PAPER_TABLE_1) == 10 and "synth_lead" not in PAPER_TABLE_1
    row = ["donor", "kazoo", 3, 3.0, 2.0, 0.5, 0, 1, 0.01, 0.99, 1.5, 0, 1, 1.5, 0.1, 1.0]
    table = pd.DataFrame([row, ["donor", "guitar", *row[2:]]], columns=COLUMNS)
    head, rows = as_text(table)
    assert rows[0][-2:] == ["0, 1", ""] and rows[1][-1] == "0.00, 1.00"
    assert "paper" in head[-1] and not any("paper" in each for each in as_text(table, None)[0])
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(3, BANDS)}, "expected (notes, 3, band)"),
        ({"features": torch.zeros(0, 3, BANDS), "label": torch.zeros(0).long()}, "at least 1 note"),
        ({"label": torch.zeros(4).long()}, "expected (5,)"),
        ({"label": torch.zeros(5)}, "float32"),
        ({"label": torch.tensor([0, 1, 2, 3, 0])}, "0 to 3"),
    ],
)
def test_bad_input(change, message):
    given = {"features": random_features(5), "label": torch.zeros(5).long(), "fillers": {}} | change
    with pytest.raises(ValueError) as caught:
        MagnitudePhase()(reads("phase"), **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_settings():
    with pytest.raises(ValueError, match="choose 'predicted'"):
        MagnitudePhase(outputs="true")
    with pytest.raises(ValueError, match="samples is 0"):
        MagnitudePhase(samples=0)
    problem = NoteProblem(reads("phase"), random_features(1))
    with pytest.raises(ValueError, match="32 parts"):
        corner_distortions(problem)
