"""Augmentation of waveforms and spectrograms."""

import pytest
import torch

from audiointerp.contracts import Batch
from audiointerp.datasets import (
    Chain,
    FrequencyMask,
    Gain,
    Mixup,
    Remix,
    RemixPairs,
    TimeMask,
    TimeRoll,
    WeakBinMask,
    one_hot_labels,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(labels: list, samples: int = 400) -> Batch:
    waveform = torch.randn(len(labels), samples, generator=seeded(99))
    return Batch(waveform, torch.tensor(labels), torch.arange(len(labels)), feature_maps=(torch.zeros(len(labels), 1),))


def shift_of(rolled: torch.Tensor, original: torch.Tensor) -> int:
    """By how much a row was rolled, found by trying all."""
    (found,) = [k for k in range(len(original)) if torch.equal(original.roll(k), rolled)]
    return found


WAVEFORM = [TimeRoll(), Gain(-6, 6), Remix(), Chain([TimeRoll(), Remix(probability=0.5), Gain(-3, 0)])]
SPECTROGRAM = [FrequencyMask(8), TimeMask(8), WeakBinMask(0.8), Chain([FrequencyMask(4), TimeMask(4)])]


@pytest.mark.parametrize("augment", WAVEFORM, ids=lambda augment: type(augment).__name__)
def test_waveform_augmentation_draws_from_its_generator_alone(augment):
    batch = noise([0, 1, 2, 1])
    before = batch.waveform.clone()
    state = torch.get_rng_state()
    first, again, other = augment(batch, seeded(3)), augment(batch, seeded(3)), augment(batch, seeded(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.waveform, again.waveform)
    assert not torch.equal(first.waveform, other.waveform)
    assert torch.equal(batch.waveform, before)  # the input is left alone
    assert first.feature_maps is None  # they belonged to the waveform as it was
    assert torch.equal(first.label, batch.label)


@pytest.mark.parametrize("augment", SPECTROGRAM, ids=lambda augment: type(augment).__name__)
def test_spectrogram_augmentation_only_silences(augment):
    features = torch.rand(6, 30, 40, generator=seeded(1)) + 0.1
    before = features.clone()
    first, again, other = augment(features, seeded(3)), augment(features, seeded(3)), augment(features, seeded(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(features, before)
    assert torch.equal(first[first != 0], features[first != 0])
    assert (first == 0).any()


@pytest.mark.parametrize("augment", [*WAVEFORM, Mixup(0.4)], ids=lambda augment: type(augment).__name__)
def test_a_batch_of_one(augment):
    batch = one_hot_labels(noise([1]), 2)
    assert augment(batch, seeded()).waveform.shape == (1, 400)


def test_time_roll_moves_waveform_and_stem_alike():
    batch = noise([0, 1, 2])
    rolled = TimeRoll()(batch.replace(stem=2 * batch.waveform), seeded())
    shifts = [shift_of(rolled.waveform[row], batch.waveform[row]) for row in range(3)]
    assert len(set(shifts)) == 3
    assert rolled.stem is not None
    assert torch.equal(rolled.stem, 2 * rolled.waveform)


def test_gain_is_uniform_in_db():
    batch = Batch(
        torch.ones(4000, 1), torch.zeros(4000, dtype=torch.long), torch.arange(4000), stem=torch.ones(4000, 1)
    )
    louder = Gain(-12, 6)(batch, seeded())
    level = 20 * louder.waveform.log10()
    assert -12 <= float(level.min()) < -11.9
    assert 5.9 < float(level.max()) <= 6
    assert float(level.mean()) == pytest.approx(-3, abs=0.3)  # 18 / sqrt(12 * 4000) is 0.08
    assert louder.stem is not None
    assert torch.equal(louder.stem, louder.waveform)


def test_mixup_blends_labels_as_it_blends_sounds():
    # Clip n is the unit vector n and has class n: the mixed waveform must be the mixed label.
    eye = torch.eye(8)
    mixed = Mixup(0.5)(Batch(eye, eye.clone(), torch.arange(8), stem=eye.clone()), seeded())
    torch.testing.assert_close(mixed.waveform, mixed.label)
    torch.testing.assert_close(mixed.label.sum(1), torch.ones(8))
    assert ((mixed.label > 0).sum(1) <= 2).all()
    assert (mixed.label.amax(1) < 1).any()
    assert mixed.stem is not None
    assert torch.equal(mixed.stem, mixed.waveform)


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_mixup_weights_are_beta_distributed(alpha):
    size = 20000
    batch = Batch(torch.zeros(size, 1), torch.eye(2)[torch.arange(size) % 2], torch.arange(size))
    weight = Mixup(alpha)(batch, seeded()).label[:, 0]
    weight = weight[(weight > 0) & (weight < 1)]  # half of the rows meet their own class
    assert float(weight.mean()) == pytest.approx(0.5, abs=0.02)
    # Var Beta(a, a) = 1 / (4 (2 a + 1))
    assert float(weight.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_one_hot_labels():
    batch = one_hot_labels(noise([2, 0]), 3)
    assert batch.label.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot_labels(batch, 3) is batch
    with pytest.raises(ValueError, match="label 2 does not fit 2 classes"):
        one_hot_labels(noise([2, 0]), 2)
    with pytest.raises(ValueError, match="3 classes; expected 4"):
        one_hot_labels(batch, 4)
    with pytest.raises(ValueError, match="apply one_hot_labels"):
        Mixup(1.0)(noise([1, 2]), seeded())


def test_remix_makes_a_mixture_at_an_snr_in_range():
    batch = noise([0, 1, 0, 2, 2, 1] * 10)
    mixed = Remix(snr_low=-5, snr_high=15)(batch, seeded())
    stem = mixed.stem
    assert stem is not None
    rest = mixed.waveform - stem
    snr_db = 10 * (stem.square().sum(1) / rest.square().sum(1)).log10()
    assert -5 <= float(snr_db.min()) < -3
    assert 13 < float(snr_db.max()) <= 15
    torch.testing.assert_close(mixed.waveform.abs().amax(1), torch.ones(60))
    # The stem is the clip itself, scaled; the rest is a clip of another label, rolled.
    torch.testing.assert_close(_unit(stem), _unit(batch.waveform))
    rolled = 0
    for row in range(60):
        partner, shift = _best_match(rest[row], batch.waveform)
        assert batch.label[partner] != batch.label[row]
        rolled += shift != 0
    assert rolled > 50


def _unit(waveform):
    return waveform / waveform.norm(dim=-1, keepdim=True)


def _best_match(sound, candidates):
    """Candidate and roll with the highest circular correlation."""
    correlation = torch.fft.irfft(torch.fft.rfft(_unit(sound)) * torch.fft.rfft(_unit(candidates)).conj())
    best = int(correlation.argmax())
    assert float(correlation.max()) == pytest.approx(1, abs=1e-4)
    return divmod(best, correlation.shape[1])


def test_remix_leaves_rows_clean_that_have_no_partner():
    same = noise([3, 3, 3])
    clean = Remix()(same, seeded())
    assert clean.stem is not None
    assert torch.equal(clean.waveform, same.waveform)
    assert torch.equal(clean.stem, same.waveform)

    batch = noise([0, 0, 1])
    batch.waveform[2] = 0  # the only partner is silent, and a silent clip has no SNR
    assert torch.equal(Remix()(batch, seeded()).waveform, batch.waveform)


def test_remix_reads_label_sets_and_mixes_by_probability():
    labels = [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    batch = noise(labels)
    partners = set()
    for seed in range(40):
        mixed = Remix()(batch, seeded(seed))
        assert mixed.stem is not None
        assert torch.equal(mixed.waveform[0], batch.waveform[0])  # shares a label with every other clip
        partners |= {(row, _best_match((mixed.waveform - mixed.stem)[row], batch.waveform)[0]) for row in (1, 2, 3)}
    assert partners == {(1, 3), (2, 3), (3, 1), (3, 2)}

    many = noise([0, 1] * 500, samples=8)
    changed = (Remix(probability=0.3)(many, seeded()).waveform != many.waveform).any(1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(Remix(probability=0)(many, seeded()).waveform, many.waveform)
    with pytest.raises(ValueError, match="needs clean clips"):
        Remix()(mixed, seeded())


@pytest.mark.parametrize(("mask", "axis"), [(FrequencyMask(7), 1), (TimeMask(7), 2)])
def test_stripes_are_single_runs_of_every_width_up_to_the_largest(mask, axis):
    silenced = mask(torch.ones(600, 20, 20), seeded()) == 0
    along = silenced.any(3 - axis)
    assert torch.equal(silenced, along.unsqueeze(3 - axis).expand_as(silenced))  # whole rows or columns
    assert set(along.sum(1).tolist()) == set(range(8))
    starts = (along.int().diff(dim=1) == 1).sum(1) + along[:, 0]
    assert int(starts.max()) == 1
    assert along.any(0).all()  # no place is out of reach


def test_a_stripe_wider_than_the_spectrogram_is_cut_to_it():
    assert FrequencyMask(99)(torch.ones(5, 3, 3), seeded()).shape == (5, 3, 3)


def test_energy_mask_takes_weak_bins_only():
    features = torch.rand(300, 10, 10, generator=seeded(1)) + 0.1
    silenced = WeakBinMask(0.6)(features, seeded()) == 0
    rank = features.flatten(1).argsort(1).argsort(1).view_as(features)  # 0 is the weakest of 100 bins
    assert int(rank[silenced].max()) in range(50, 60)
    shares = silenced.flatten(1).float().mean(1)
    assert float(shares.mean()) == pytest.approx(0.6 / 4, abs=0.03)  # E[q] E[p] = 0.3 * 0.5
    assert not (WeakBinMask(0.0)(features, seeded()) == 0).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gain(3, -3), "Gain's range 3 to -3 dB is empty"),
        (lambda: Remix(5, 0), "Remix's range 5 to 0 dB is empty"),
        (lambda: Remix(probability=2), "probability is 2"),
        (lambda: Mixup(0), "alpha is 0"),
        (lambda: TimeMask(-1), "TimeMask's width is -1"),
        (lambda: WeakBinMask(1.5), "max_quantile is 1.5"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pairs_share_a_mixture_and_ask_for_opposite_parts():
    batch = noise([0, 1, 2, 0, 1, 1])
    mixed = RemixPairs(max_db=6.0, probability=1.0)(batch, seeded())
    assert mixed.stem is not None
    same = (mixed.waveform[:, None] == mixed.waveform[None]).all(2) & ~torch.eye(6, dtype=torch.bool)
    assert (same.sum(1) == 1).all(), "every row has one other with the same mixture"
    for row in range(6):
        other = int(same[row].nonzero())
        assert batch.label[row] != batch.label[other]
        torch.testing.assert_close(mixed.stem[row] + mixed.stem[other], mixed.waveform[row])
        own = torch.nn.functional.cosine_similarity(mixed.stem[row], batch.waveform[row], dim=0)
        assert own > 0.999
        snr_db = 20 * torch.log10(mixed.stem[row].norm() / mixed.stem[other].norm())
        assert abs(snr_db) <= 6.0 + 1e-4


def test_pairs_leave_clean_what_has_no_partner():
    batch = noise([1, 1, 1])
    mixed = RemixPairs(probability=1.0)(batch, seeded())
    assert torch.equal(mixed.waveform, batch.waveform)
    assert mixed.stem is not None
    assert torch.equal(mixed.stem, batch.waveform)


def test_union_labels_both_clips_and_keeps_no_stem():
    batch = one_hot_labels(noise([0, 1]), 3)
    mixed = Remix(union=True)(batch, seeded())
    assert mixed.label.tolist() == [[1, 1, 0], [1, 1, 0]]
    assert mixed.stem is None
    with pytest.raises(ValueError, match="multilabel"):
        Remix(union=True)(noise([0, 1]), seeded())
