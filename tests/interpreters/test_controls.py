"""Controls: equal area to the bin, seeded draws, oracles only with a stem, random components as many as L2I selects."""

import copy

import pytest
import torch
from cases import by_design, external, l2i, piq, vggsound

from audiointerp.interpreters import (
    L2I,
    AllPass,
    Empty,
    IdealParts,
    Loudest,
    RandomComponents,
    RandomMask,
    TargetMasking,
    Threshold,
)
from audiointerp.interpreters.l2i.relevance import component_mask
from audiointerp.metrics.separation import si_sdr
from audiointerp.runs.comparison import compare as comparison
from audiointerp.runs.methods import build_controls
from audiointerp.sound.masking import EnergyMask, StemMask
from audiointerp.sound.spectrogram import STFT


def sounds(rows: int = 3, samples: int = 4800) -> torch.Tensor:
    """Noise under a slow swell, each row another level and swell."""
    noise = torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))
    swell = torch.sin(torch.linspace(0, 3, samples) * torch.arange(1, rows + 1)[:, None]).square()
    return noise * swell * torch.tensor([1.0, 0.01, 0.3])[:rows, None]


def mask_of(interpreter, waveform=None, **rest):
    made = interpreter.interpret(sounds() if waveform is None else waveform, **rest)
    assert made.mask is not None
    return made.mask


@pytest.fixture(scope="module")
def classifier():
    return vggsound()


# --- area


LIKES = {
    "piq": piq,
    "piq_binary": lambda it: piq(it, binary=True),
    "piq_fill": lambda it: piq(it, fill=True),
    "piq_magnitude": lambda it: piq(it, domain="magnitude"),
    "l2i": l2i,
    "threshold": Threshold,
}


@pytest.mark.parametrize("like", LIKES)
@pytest.mark.parametrize("control", [Loudest, RandomMask])
def test_as_many_bins_as_the_method_keeps(classifier, control, like):
    """The sum of the mask that is heard, rounded to whole bins, clip by clip."""
    method = LIKES[like](classifier)
    theirs, ours = mask_of(method), mask_of(control(classifier, like=method))
    expected = theirs.double().sum((1, 2)).round()
    # The sum of 10,000 float32 values is itself known to a tenth of a bin.
    assert (ours.double().sum((1, 2)) - expected).abs().max() <= 1
    if like in ("piq_binary", "threshold"):
        assert torch.equal(ours.double().sum((1, 2)), expected)
    assert set(ours.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("control", [Loudest, RandomMask])
def test_a_fixed_share(classifier, control, share):
    mask = mask_of(control(classifier, share=share))
    bins = mask[0].numel()
    assert mask.sum((1, 2)).tolist() == [round(share * bins)] * 3


def test_loudest_bins_are_louder_than_the_rest(classifier):
    waveform = sounds()
    mask = mask_of(Loudest(classifier, share=0.3), waveform).bool()
    level = classifier.spectrogram(waveform).abs()
    for row in range(3):
        assert level[row][mask[row]].min() >= level[row][~mask[row]].max()


def test_random_bins_are_a_function_of_the_seed_alone(classifier):
    """Of nothing else: not of the sound, the row, the global generator, or how many rows there are."""
    first = mask_of(RandomMask(classifier, seed=3))
    torch.rand(5)
    assert torch.equal(first, mask_of(RandomMask(classifier, seed=3), 0.1 * sounds().flip(0)))
    assert torch.equal(first[1:2], mask_of(RandomMask(classifier, seed=3), sounds()[1:2]))
    assert torch.equal(first[0], first[2])
    other = mask_of(RandomMask(classifier, seed=4))
    overlap = (first * other).sum() / first.sum()
    assert 0.15 < overlap < 0.25  # two draws of a fifth share a fifth of their bins


def test_random_bins_are_spread_evenly(classifier):
    mask = mask_of(RandomMask(classifier, share=0.3), sounds(1))[0]
    freq, time = mask.shape
    for part in (mask[: freq // 2], mask[freq // 2 :], mask[:, : time // 2], mask[:, time // 2 :]):
        assert part.mean() == pytest.approx(0.3, abs=0.03)


def test_all_and_nothing(classifier):
    waveform = sounds()
    everything, nothing = AllPass(classifier).interpret(waveform), Empty(classifier).interpret(waveform)
    torch.testing.assert_close(everything.waveform, waveform, atol=1e-5, rtol=0)
    assert torch.equal(nothing.waveform, torch.zeros_like(waveform))
    torch.testing.assert_close(nothing.residual, waveform)
    assert everything.residual.abs().max() < 1e-5


# --- oracles


def test_the_ideal_masks_of_a_known_stem(classifier):
    mixture = sounds(2)
    stem = torch.roll(mixture, 700, 1) * 0.5
    binary, ratio = (
        TargetMasking(classifier, StemMask(kind), "magnitude").interpret(mixture, stem=stem).mask
        for kind in ("binary", "ratio")
    )
    spectrogram = STFT()
    wanted, rest = spectrogram(stem).abs(), spectrogram(mixture - stem).abs()
    sure = (wanted - rest).abs() > 1e-4 * (wanted + rest)
    assert torch.equal(binary[sure], (wanted > rest).float()[sure]) and 0.05 < binary.mean() < 0.95
    loud = wanted + rest > 1e-3
    torch.testing.assert_close(ratio[loud], (wanted / (wanted + rest))[loud], atol=1e-3, rtol=1e-3)


def test_only_oracles_need_a_stem(classifier):
    oracle = TargetMasking(classifier, StemMask(), "magnitude")
    assert oracle.needs_stem
    with pytest.raises(ValueError, match="stem") as caught:
        oracle.interpret(sounds())
    assert "\n" not in str(caught.value)
    for each in (AllPass, Empty, Loudest, RandomMask, Threshold, lambda it: TargetMasking(it, EnergyMask())):
        assert not each(classifier).needs_stem
        assert each(classifier).only_binary


# --- random components


@pytest.mark.parametrize("build", [l2i, lambda it: l2i(it, domain="magnitude"), lambda it: l2i(it, top_k=2)])
def test_as_many_components_as_l2i_selects(classifier, build):
    method = build(classifier)
    control = build_controls({"random": RandomComponents}, classifier, {"l2i": method})["random"]
    theirs, ours = method.interpret(sounds()), control.interpret(sounds())
    assert ours.details["selected"].sum(1).tolist() == theirs.details["selected"].sum(1).tolist()
    assert set(ours.details["selected"].unique().tolist()) <= {0.0, 1.0}
    expected = component_mask(method.dictionary, theirs.details["activations"], ours.details["selected"])
    assert torch.equal(ours.mask, expected) and not torch.equal(ours.mask, theirs.mask)
    # A random mask in another domain than the method's would be compared with its domain, not with its choice.
    assert ours.domain == theirs.domain
    assert "theta_probabilities" not in ours.details


def test_random_components_are_seeded_and_rows_independent(classifier):
    method = l2i(classifier)
    draws = {seed: RandomComponents(classifier, like=method, seed=seed) for seed in range(6)}
    first = draws[0].interpret(sounds())
    assert torch.equal(first.mask, draws[0].interpret(sounds()).mask)
    torch.testing.assert_close(first.mask[1:2], mask_of(draws[0], sounds()[1:2]), atol=1e-5, rtol=1e-4)
    drawn = {tuple(each.interpret(sounds()).details["selected"].flatten().tolist()) for each in draws.values()}
    assert len(drawn) > 1


def test_random_components_of_l2i_by_design():
    classifier = by_design()
    method = L2I(classifier)
    ours = RandomComponents(classifier, like=method).interpret(sounds())
    assert ours.details["selected"].sum(1).tolist() == method.interpret(sounds()).details["selected"].sum(1).tolist()


def test_random_components_stand_beside_l2i_only(classifier):
    control = RandomComponents(classifier)
    assert control.fits(l2i(classifier)) and not control.fits(piq(classifier))
    for like in (None, piq(classifier)):
        with pytest.raises(ValueError, match="L2I") as caught:
            RandomComponents(classifier, like=like).interpret(sounds())
        assert "\n" not in str(caught.value)


# --- beside which method


def test_a_control_of_equal_area_stands_beside_each_method(classifier):
    likes = {"piq": piq(classifier), "l2i": l2i(classifier)}
    makers = {"loudest": Loudest, "all_pass": AllPass, "random_components": RandomComponents}
    controls = build_controls(makers, classifier, likes)
    assert list(controls) == ["loudest_piq", "loudest_l2i", "all_pass", "random_components"]
    assert controls["loudest_piq"].like is likes["piq"] and controls["loudest_l2i"].like is likes["l2i"]
    assert controls["random_components"].like is likes["l2i"]
    alone = build_controls({"loudest": Loudest}, classifier, {"piq": likes["piq"]})
    assert list(alone) == ["loudest"] and alone["loudest"].like is likes["piq"]
    free = build_controls({"loudest": Loudest}, classifier, {})
    assert list(free) == ["loudest"] and free["loudest"].like is None


def test_controls_work_on_a_classifier_of_their_owner():
    classifier = external()
    before = copy.deepcopy(classifier.state_dict())
    for control in build_controls({"loudest": Loudest, "random": RandomMask}, classifier, {}).values():
        assert mask_of(control).mean() == pytest.approx(0.2, abs=1e-3)
    torch.testing.assert_close(classifier.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("build", "twin"),
    [
        (piq, True),
        (lambda it: piq(it, domain="magnitude"), False),
        (lambda it: piq(it, binary=True), False),
        (lambda it: piq(it, binary=True, fill=True), False),
        (l2i, True),
        (Threshold, False),
        (lambda it: TargetMasking(it, StemMask(), "magnitude"), False),
    ],
)
def test_methods_have_a_twin_where_it_sounds_otherwise(classifier, build, twin):
    method = build(classifier)
    assert comparison._is_soft_log(method) == twin
    if not method.needs_stem and method.domain == "log_magnitude":
        own = method.interpret(sounds()).waveform
        other = comparison._in_magnitude(method).interpret(sounds()).waveform
        assert torch.allclose(own, other, atol=1e-6) != twin
        assert method.domain == "log_magnitude"  # the twin is a copy


def test_the_best_selection_of_parts_is_found_by_trying_all(classifier):
    """Against the SI-SDR of every selection's own sound; the stem is one of two tones, so that its bands are known."""
    time = torch.arange(8000) / 16000
    stem, other = (torch.sin(6.2832 * hertz * time)[None] for hertz in (400.0, 5000.0))
    control = IdealParts(classifier, "bands", n_components=4)
    mixture = stem + 2 * other
    made = control.interpret(mixture, 0, stem=stem)
    stft = classifier.spectrogram(mixture * made.input_gain[:, None])
    scores = {}
    for number in range(1, 16):
        chosen = torch.tensor([[float(number >> k & 1) for k in range(4)]])
        sound = classifier.spectrogram.inverse(control.split(stft, 0).render(chosen), 8000)
        scores[tuple(chosen[0].tolist())] = float(si_sdr(sound, stem))
    best = max(scores, key=scores.__getitem__)
    assert tuple(made.details["selection"][0].tolist()) == best and best[0] == 1 and best[3] == 0
    assert float(si_sdr(made.waveform, stem)) == pytest.approx(scores[best], abs=1e-3) and scores[best] > 20


def test_more_parts_than_can_be_tried_are_refused(classifier):
    with pytest.raises(ValueError, match="13 are more than 12"):
        IdealParts(classifier, n_components=13)
