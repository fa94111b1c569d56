"""Scores over time, by hand and against scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from audiointerp.metrics import times

SCORES = (times.time_auc, times.time_iou, times.time_f1, times.pointing_game)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def test_active_steps_by_hand():
    # Steps of 0.5 s, the last of 0.2 s. The first event covers 0.04 s of step 0, less than a tenth, and step 1 whole.
    found = times.active_steps([(0.46, 1.0), (1.6, 1.7), (1.65, 1.9), (2.15, 9.0)], seconds=2.2, step=0.5)
    assert found.tolist() == [False, True, False, True, True]
    assert times.active_steps([(0.0, 0.02), (0.02, 0.05)], 0.5, 0.5).tolist() == [True]  # 10 % together
    assert times.active_steps([(0.0, 0.03), (0.0, 0.03)], 0.5, 0.5).tolist() == [False]  # 6 %, not twice 6 %
    assert times.active_steps([], 0.3).tolist() == [False] * 3
    assert len(times.active_steps([], 5.0)) == 50
    with pytest.raises(ValueError, match="ends before it begins"):
        times.active_steps([(2.0, 1.0)], 3.0)
    with pytest.raises(ValueError, match="above 0"):
        times.active_steps([], 0.0)


def test_relevance_by_step_by_hand():
    # Frames at 0, 0.1, 0.2, 0.3, 0.4 s; steps of 0.2 s hold two frames each, the last also the one at its end.
    found = times.by_step(row(1.0, 3.0, 10.0, 20.0, 60.0), 0.1, 0.4, 0.2)
    assert found.tolist() == [[2.0, 30.0]]
    # Frames further apart than steps: the nearest frame.
    assert times.by_step(row(1.0, 5.0), 0.4, 0.4, 0.1).tolist() == [[1.0, 1.0, 5.0, 5.0]]
    with pytest.raises(ValueError, match="finite"):
        times.by_step(row(math.nan), 0.1, 0.4)


def test_scores_by_hand():
    relevance = row(0.1, 0.9, 0.5, 0.5, 0.0, 0.2)
    active = torch.tensor([[False, True, True, False, False, False]])
    # Pairs: 0.9 wins all 4; 0.5 wins 3 and ties with 0.5: (4 + 3.5) / 8.
    assert times.time_auc(relevance, active).tolist() == [7.5 / 8]
    # At least 0.45: steps 1, 2, 3 are detected; 2 of them are active.
    assert times.time_iou(relevance, active).tolist() == [2 / 3]
    assert times.time_f1(relevance, active).tolist() == [0.8]
    assert times.pointing_game(relevance, active).tolist() == [1.0]
    assert times.pointing_game(-relevance, active).tolist() == [0.0]


def test_scores_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    relevance = torch.randint(-5, 9, (20, 30), generator=generator).double()
    active = torch.rand(20, 30, generator=generator) < torch.linspace(0.1, 0.9, 20)[:, None]
    for auc, iou, f1, x, a in zip(*(each(relevance, active) for each in SCORES[:3]), relevance, active):
        detected = x >= 0.5 * x.max()
        assert float(auc) == pytest.approx(roc_auc_score(a, x))
        assert float(iou) == pytest.approx(jaccard_score(a, detected))
        assert float(f1) == pytest.approx(f1_score(a, detected))


def test_clips_without_an_event_and_with_nothing_else():
    relevance = row(0.0, 1.0, 2.0).expand(2, 3)
    active = torch.tensor([[False] * 3, [True] * 3])
    for score in SCORES:
        assert score(relevance, active)[0].isnan()
    assert times.time_auc(relevance, active)[1].isnan() and times.pointing_game(relevance, active)[1].isnan()
    assert times.time_iou(relevance, active)[1] == pytest.approx(2 / 3)
    assert times.time_f1(relevance, active)[1] == pytest.approx(0.8)


def test_an_explanation_that_points_nowhere():
    active = torch.tensor([[True, False]])
    for constant in (0.0, -1.0):
        found = [float(score(row(constant, constant), active)) for score in SCORES]
        assert found == [0.5, 0.0, 0.0, 0.0]
    assert float(times.pointing_game(row(1.0, 1.0), active)) == 0.0


def test_rows_and_scale():
    generator = torch.Generator().manual_seed(1)
    relevance = torch.rand(3, 40, generator=generator)
    active = torch.rand(3, 40, generator=generator) < 0.3
    for score in SCORES:
        whole = score(relevance, active)
        assert torch.equal(whole, torch.cat([score(relevance[i : i + 1], active[i : i + 1]) for i in range(3)]))
        torch.testing.assert_close(score(1000 * relevance, active), whole)


def test_wrong_shapes_and_values_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        times.time_auc(torch.rand(2, 3), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected bool"):
        times.time_auc(torch.rand(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="threshold"):
        times.time_iou(torch.rand(2, 3), torch.ones(2, 3, dtype=torch.bool), 0.0)
