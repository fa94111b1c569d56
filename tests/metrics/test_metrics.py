"""Scores against hand-worked cases, their textbook definitions, and other libraries."""

import math

import numpy as np
import pytest
import torch
from references import score_formulas
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from audiointerp.metrics import compactness, curves, faithfulness, names, separation
from audiointerp.results.tables import SCORE_COLUMNS
from audiointerp.sound.masking import apply_mask
from audiointerp.sound.spectrogram import STFT, log_magnitude


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def bools(*rows: str) -> torch.Tensor:
    """'01' -> [[False, True]]."""
    return torch.tensor([[each == "1" for each in row] for row in rows])


def single(value: float) -> torch.Tensor:
    return torch.tensor([value])


# Faithfulness


def test_average_drop_takes_the_softmax_once():
    assert float(faithfulness.average_drop(single(0.9), single(0.1))) == pytest.approx(88.9, abs=0.05)
    assert float(faithfulness.average_drop(single(1.0), single(0.0))) == 100
    assert float(faithfulness.average_drop(single(0.9), single(0.45))) == pytest.approx(50)
    assert float(faithfulness.average_drop(single(0.05), single(0.0))) == 100


def test_the_released_code_would_report_less():
    """54.6, as the module says, for 0.9 -> 0.1 among 50 classes: a second softmax squashes the probabilities."""
    p, o = (torch.cat([torch.full((1, 1), x), torch.full((1, 49), (1 - x) / 49)], 1) for x in (0.9, 0.1))
    twice = faithfulness.average_drop(p.softmax(1)[:, 0], o.softmax(1)[:, 0])
    assert float(twice) == pytest.approx(54.6, abs=0.05)


def test_scores_of_many_clips_are_the_textbook_formulas():
    p, o, q = random(50), random(50, seed=1), random(50, seed=2)
    cases = list(zip(p.tolist(), o.tolist(), q.tolist()))
    expected = {
        faithfulness.average_drop: [score_formulas.average_drop(p, o) for p, o, _ in cases],
        faithfulness.average_gain: [score_formulas.average_gain(p, o) for p, o, _ in cases],
        faithfulness.average_increase: [100.0 if o > p else 0.0 for p, o, _ in cases],
    }
    for metric, values in expected.items():
        np.testing.assert_allclose(metric(p, o).numpy(), values, rtol=1e-4, err_msg=metric.__name__)
    np.testing.assert_allclose(faithfulness.faithfulness(p, q), [p - q for p, _, q in cases], atol=1e-6)


def test_increase_is_strict_and_gain_and_drop_exclude_each_other():
    same = single(0.3)
    assert [float(metric(same, same)) for metric in (faithfulness.average_increase, faithfulness.average_drop)] == [
        0,
        0,
    ]
    p, o = random(50), random(50, seed=1)
    assert not (faithfulness.average_drop(p, o) * faithfulness.average_gain(p, o)).any()


def test_certain_and_impossible_classes_have_finite_scores():
    zero, one = single(0.0), single(1.0)
    assert float(faithfulness.average_gain(one, one)) == 0
    assert float(faithfulness.average_gain(zero, one)) == 100
    assert float(faithfulness.average_drop(zero, zero)) == 0
    assert float(faithfulness.average_increase(zero, one)) == 100


def test_fidelity_asks_for_the_likeliest_class():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    assert faithfulness.fidelity(probabilities, bools("010", "001", "011")).tolist() == [1, 0, 1]


def test_target_probability_of_one_and_of_several_classes():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.25, 0.5, 0.25]])
    assert faithfulness.target_probability(probabilities, bools("001", "110")).tolist() == pytest.approx([0.3, 0.375])


@pytest.mark.parametrize("metric", [faithfulness.fidelity, faithfulness.target_probability])
@pytest.mark.parametrize(
    "target", [torch.tensor([0, 1]), torch.tensor([[0], [1]]), torch.zeros(2, 3), bools("01", "10")]
)
def test_labels_instead_of_a_set_of_classes_are_refused(metric, target):
    # The released code compares with labels (batch, 1), whose argmax is always 0.
    with pytest.raises(ValueError, match="need a bool target"):
        metric(random(2, 3), target)


@pytest.mark.parametrize("domain", ["log_magnitude", "magnitude"])
def test_a_mask_of_ones_changes_no_decision_and_one_of_zeros_keeps_nothing(domain):
    torch.manual_seed(0)
    front_end, head = STFT(), torch.nn.Linear(513, 4)
    stft = front_end(torch.randn(3, 3000))

    def probabilities(stft: torch.Tensor) -> torch.Tensor:
        return head(log_magnitude(stft).mean(2)).softmax(1)

    whole = probabilities(stft)
    target = torch.nn.functional.one_hot(whole.argmax(1), 4).bool()
    ones = torch.ones(stft.shape)
    kept, left = (probabilities(apply_mask(stft, mask, domain)) for mask in (ones, 1 - ones))
    p, o, q = (faithfulness.target_probability(each, target) for each in (whole, kept, left))
    for metric in (faithfulness.average_increase, faithfulness.average_drop, faithfulness.average_gain):
        assert metric(p, o).tolist() == [0, 0, 0], metric.__name__
    assert faithfulness.fidelity(kept, target).tolist() == [1, 1, 1]
    # With nothing taken out, the probability does not fall: here the roles of kept and left are swapped.
    assert faithfulness.faithfulness(p, o).tolist() == [0, 0, 0]
    silent = faithfulness.target_probability(head(torch.zeros(3, 513)).softmax(1), target)
    torch.testing.assert_close(q, silent)


# Compactness


@pytest.mark.parametrize(("kept", "bins"), [(1, 100), (7, 100), (50, 100), (100, 100), (513, 513 * 431)])
def test_binary_masks_by_hand(kept, bins):
    mask = torch.zeros(1, bins)
    mask[0, :kept] = 1
    assert float(compactness.sparseness(mask)) == pytest.approx(1 - kept / bins, abs=1e-4)
    assert float(compactness.complexity(mask)) == pytest.approx(math.log(kept), abs=1e-9)
    assert float(compactness.mean_mask(mask)) == pytest.approx(kept / bins)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_maps(value):
    mask = torch.full((2, 513, 43), value)
    assert compactness.sparseness(mask).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert compactness.complexity(mask).tolist() == pytest.approx([math.log(513 * 43)] * 2)


def test_largest_complexity_of_five_seconds():
    assert float(compactness.complexity(torch.ones(1, 513, 431))) == pytest.approx(12.306, abs=5e-4)


def test_soft_masks_are_the_textbook_formulas():
    mask = random(3, 6, 7) ** 3
    mask[2, :4] = 0
    for row in range(3):
        values = mask[row].flatten().double().tolist()
        assert float(compactness.sparseness(mask)[row]) == pytest.approx(score_formulas.gini(values), rel=1e-9)
        assert float(compactness.complexity(mask)[row]) == pytest.approx(score_formulas.entropy(values), rel=1e-9)


@pytest.mark.parametrize("scale", [-3.0, 1e-5])
def test_sign_and_scale_do_not_matter(scale):
    mask = random(2, 6, 7)
    for metric in (compactness.sparseness, compactness.complexity):
        torch.testing.assert_close(metric(scale * mask), metric(mask), rtol=1e-5, atol=0)


def test_kept_energy():
    waveform = torch.tensor([[3.0, 4.0], [1.0, 1.0], [0.0, 0.0]])
    kept = compactness.kept_energy(waveform, torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    assert kept[:2].tolist() == pytest.approx([0.36, 1])
    assert kept[2].isnan()


# Separation


def test_si_sdr_is_torchmetrics_and_the_textbook():
    reference = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4, 500, generator=torch.Generator().manual_seed(1))
    estimate = 0.3 * reference + torch.tensor([0.001, 0.1, 1.0, 30.0])[:, None] * noise
    ours = separation.si_sdr(estimate, reference)
    theirs = scale_invariant_signal_distortion_ratio(estimate.double(), reference.double())
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for row in range(4):
        by_hand = score_formulas.si_sdr(estimate[row].double().tolist(), reference[row].double().tolist())
        assert float(ours[row]) == pytest.approx(by_hand, abs=1e-6)


def test_si_sdr_by_hand_whatever_the_level():
    reference = torch.tensor([[1.0, 0.0]])
    for scale in (1e-3, 1.0, -50.0):
        estimate = scale * torch.tensor([[10.0, 1.0]])
        assert float(separation.si_sdr(estimate, reference)) == pytest.approx(20)


def test_silence_has_no_si_sdr():
    sound, silence = torch.randn(1, 100), torch.zeros(1, 100)
    assert separation.si_sdr(silence, sound).isnan().all()
    assert separation.si_sdr(sound, silence).isnan().all()
    assert separation.si_sdr(silence, silence).isnan().all()
    assert separation.si_sdr_improvement(silence, sound, sound + 1).isnan().all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_perfect_and_unrelated_estimates_have_finite_si_sdr(scale):
    left, right = scale * torch.tensor([[1.0, 0.0]]), scale * torch.tensor([[0.0, 1.0]])
    assert float(separation.si_sdr(left, left)) == pytest.approx(156.5, abs=0.1)
    assert float(separation.si_sdr(left, right)) == pytest.approx(-156.5, abs=0.1)
    assert float(separation.si_sdr_improvement(left, left, left)) == 0


def test_improvement_is_over_the_mixture():
    reference, mixture, estimate = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[10.0, 1.0]])
    assert float(separation.si_sdr_improvement(estimate, reference, mixture)) == pytest.approx(20)
    assert float(separation.si_sdr_improvement(mixture, reference, mixture)) == 0


def test_silent_is_eighty_decibels_below_the_input():
    waveform = torch.full((4, 10), -0.5)
    interpretation = torch.tensor([0.0, 0.49e-4, 0.51e-4, -0.5])[:, None].expand(4, 10)
    assert separation.is_silent(interpretation, waveform).tolist() == [True, True, False, False]


# One value a clip; words


@pytest.mark.parametrize("metric", [compactness.sparseness, compactness.complexity, compactness.mean_mask])
def test_a_row_of_a_batch_is_a_batch_of_one(metric):
    mask = random(3, 6, 7)
    torch.testing.assert_close(metric(mask), torch.cat([metric(mask[row : row + 1]) for row in range(3)]))


def test_every_described_score_is_a_column():
    assert set(names.INFO) <= set(SCORE_COLUMNS)
    for name, info in names.INFO.items():
        assert name == info.name
        assert info.help.endswith(".")
        assert info.unit in ("", "%", "dB", "s")


# Shapes


@pytest.mark.parametrize("other", [(1, 16), (3, 15), (3, 1), (16,), (3, 16, 1)])
def test_waveforms_of_another_shape_are_refused_instead_of_repeated(other):
    mine, theirs = random(3, 16), random(*other)
    for measure in (
        separation.si_sdr,
        lambda a, b: separation.si_sdr_improvement(a, a, b),
        separation.is_silent,
        compactness.kept_energy,
    ):
        for pair in ((mine, theirs), (theirs, mine)):
            with pytest.raises(ValueError, match=r"shapes (differ|do not have)"):
                measure(*pair)


def test_scores_of_another_shape_are_refused_instead_of_repeated():
    measures = (
        faithfulness.faithfulness,
        faithfulness.average_increase,
        faithfulness.average_drop,
        faithfulness.average_gain,
    )
    for measure in measures:
        with pytest.raises(ValueError, match=r"shapes differ: p \(3,\), . \(1,\)"):
            measure(random(3), random(1))
        with pytest.raises(ValueError, match="do not have 1 axes"):
            measure(random(3, 2), random(3, 2))
    with pytest.raises(ValueError, match=r"3 clips have \(clips, 1\) classes"):
        faithfulness.in_top(random(3, 4), torch.zeros(1, 1), 1)
    with pytest.raises(ValueError, match="shapes differ"):
        curves.energy_ranked_masks(random(1, 4, 5), random(3, 4, 5))
