"""NMF against scikit-learn, against its objective written out in loops, and on spectra whose parts are known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from references import nmf as literal

from audiointerp.sound.nmf import NMF, UPDATES, spectral_centroids

BINS, FRAMES, COMPONENTS = 12, 40, 3


def random_data(seed: int = 0, bins: int = BINS, frames: int = FRAMES) -> torch.Tensor:
    """Low rank with sparse activations, plus noise; float64, so that a rise is no rounding."""
    rng = np.random.default_rng(seed)
    model = rng.gamma(0.5, size=(bins, 5)) @ (rng.random((5, frames)) * (rng.random((5, frames)) < 0.5))
    return torch.from_numpy(model + 0.05 * rng.random((bins, frames)))


def random_start(seed: int = 1, bins: int = BINS, frames: int = FRAMES, components: int = COMPONENTS):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((bins, components))), torch.from_numpy(rng.random((components, frames)))


def make(**options) -> NMF:
    return NMF(**{"n_components": COMPONENTS, "bins": BINS, **options}).double()


@pytest.mark.parametrize(
    ("loss", "solver", "beta"), [("frobenius", "cd", "frobenius"), ("kl", "mu", "kullback-leibler")]
)
@pytest.mark.parametrize("iterations", [1, 2, 25])
def test_equals_scikit_learn_from_the_same_start(loss, solver, beta, iterations):
    """Same dictionary up to the columns' scale, and same error, after one, two and many iterations."""
    factorize = pytest.importorskip("sklearn.decomposition").non_negative_factorization
    data, (dictionary, activations) = random_data(), random_start()
    theirs = {"solver": solver, "beta_loss": beta, "max_iter": iterations, "tol": 0, "n_components": COMPONENTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w, h, _ = factorize(
            data.numpy(), dictionary.numpy().copy(), activations.numpy().copy(), init="custom", **theirs
        )
    nmf = make(loss=loss)
    losses = nmf.fit(data, iterations, start=(dictionary, activations))
    np.testing.assert_allclose(nmf.dictionary, w / np.linalg.norm(w, axis=0), rtol=1e-8, atol=1e-12)
    assert losses[-1] == pytest.approx(
        literal.objective(data.numpy(), w, h * np.linalg.norm(w, axis=0)[:, None], loss, 0)
    )
    assert len(losses) == iterations


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_frobenius_is_the_literal_sweep(sparsity):
    data, (dictionary, activations) = random_data(frames=8), random_start(frames=8)
    scale = dictionary.norm(dim=0)
    w, h = (dictionary / scale).numpy(), (activations * scale[:, None]).numpy()
    nmf = make(sparsity=sparsity)
    losses = nmf.fit(data, 3, start=(dictionary, activations))
    for loss in losses:
        w = literal.dictionary_sweep(data.numpy(), w, h, unit=sparsity > 0)
        h = literal.activation_sweep(data.numpy(), w, h, sparsity)
        norm = np.linalg.norm(w, axis=0)
        assert loss == pytest.approx(literal.objective(data.numpy(), w, h * norm[:, None], "frobenius", sparsity))
    np.testing.assert_allclose(nmf.dictionary, w / norm, rtol=1e-9, atol=1e-12)


def test_unit_norm_column_is_the_best_of_many():
    """With a sparsity penalty, the first column's update cannot be beaten by any other column of unit norm."""
    data, (dictionary, activations) = random_data(), random_start()
    dictionary = dictionary / dictionary.norm(dim=0)
    cross, gram = data @ activations.T, activations @ activations.T
    best = dictionary.clone()
    best[:, 0] = UPDATES["frobenius"](0.5).learn(dictionary, (cross, gram), 1)[0][:, 0]
    reached = float((data - best @ activations).square().sum())
    tried = torch.rand(BINS, 5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tried = torch.cat([tried, (best[:, :1] + 0.01 * (tried - 0.5)).clamp(min=0), torch.eye(BINS).double()], 1)
    tried /= tried.norm(dim=0)
    rest = data - dictionary[:, 1:] @ activations[1:]
    others = rest.square().sum() - 2 * tried.T @ (rest @ activations[0]) + activations[0].square().sum()
    assert reached <= float(others.min()) + 1e-9
    assert float(others.min()) == pytest.approx(reached, rel=1e-2)  # the nearby ones are nearly as good: a fair contest


def test_kl_dictionary_update_follows_the_normalised_gradient():
    """Its factor exceeds 1 exactly where the objective, with columns divided by their norm, falls."""
    data, (dictionary, activations) = random_data(frames=10), random_start(frames=10)
    dictionary = dictionary / dictionary.norm(dim=0)
    rule = UPDATES["kl"](0.5)
    _, (pull, push) = rule.judge(data, dictionary, activations)
    grown = pull + dictionary.square() * (dictionary * push).sum(0)
    factor = grown / (push + dictionary * pull.sum(0)) / dictionary
    gradient = literal.normalised_divergence_gradient(data.numpy(), dictionary.numpy(), activations.numpy())
    clear = np.abs(gradient) > 1e-6
    assert clear.sum() > 20
    np.testing.assert_array_equal((factor > 1).numpy()[clear], (gradient < 0)[clear])
    new, scale = rule.learn(dictionary, (pull, push), 1)
    expected = dictionary * factor
    torch.testing.assert_close(new, expected / expected.norm(dim=0))
    assert (scale == 1).all()


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.8, 5.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_never_rises(loss, sparsity, seed):
    nmf = make(loss=loss, sparsity=sparsity, seed=seed)
    losses = np.array(nmf.fit(random_data(seed), 150))
    assert losses[-1] < 0.9 * losses[0] or sparsity == 5.0
    assert losses[-1] <= losses.min() * 1.001
    if loss == "frobenius" or sparsity == 0:
        assert (np.diff(losses) <= 1e-12 * losses[0]).all()
    torch.testing.assert_close(nmf.dictionary.norm(dim=0), torch.ones(COMPONENTS, dtype=torch.float64))
    assert (nmf.dictionary >= 0).all()


def test_never_rises_in_single_precision():
    losses = np.array(NMF(COMPONENTS, bins=BINS).fit(random_data().float(), 300))
    assert (np.diff(losses) <= 1e-6 * losses[:-1]).all()


def test_sparsity_makes_activations_sparse_and_keeps_columns():
    data = random_data()
    share = []
    for sparsity in (0.0, 2.0):
        nmf = make(sparsity=sparsity)
        nmf.fit(data, 100)
        share.append(float((nmf(data[None]) > 1e-6).double().mean()))
    assert share[1] < 0.8 * share[0]


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_finds_the_parts_of_a_sum(loss):
    """Three spectra that do not overlap, sounding at random: the dictionary is those spectra."""
    rng = np.random.default_rng(0)
    parts = np.kron(np.eye(3), np.array([[1.0], [2.0], [3.0], [1.0]]))
    data = torch.from_numpy(parts @ (rng.random((3, 60)) * (rng.random((3, 60)) < 0.6)))
    nmf = make(loss=loss)
    assert nmf.fit(data, 500)[-1] < 1e-6
    similar = (nmf.dictionary.T.numpy() @ (parts / np.linalg.norm(parts, axis=0))).max(0)
    assert similar.min() > 0.9999


@pytest.mark.parametrize("sparsity", [0.0, 0.3])
def test_activations_minimise_for_the_fixed_dictionary(sparsity):
    """Non-negative least squares by scipy; its penalty enters as sum(H) = 1^T H by completing the square."""
    from scipy.optimize import nnls

    nmf = make(sparsity=sparsity)
    data = random_data().view(BINS, 2, FRAMES // 2).transpose(0, 1).contiguous()
    found = nmf.activations(data, iterations=500)
    w = nmf.dictionary.numpy()
    shift = np.linalg.solve(w.T @ w, np.full(COMPONENTS, sparsity / 2))
    for row in range(2):
        for t in range(FRAMES // 2):
            expected = nnls(w, data[row, :, t].numpy() - w @ shift)[0]
            np.testing.assert_allclose(found[row, :, t], expected, atol=1e-6)


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_rows_and_blocks_do_not_depend_on_each_other(loss, monkeypatch):
    nmf = make(loss=loss)
    data = torch.stack([random_data(0), random_data(1), torch.zeros(BINS, FRAMES, dtype=torch.float64)])
    together = nmf(data)
    assert together.shape == (3, COMPONENTS, FRAMES)
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], nmf(data[row : row + 1]))
    assert (together[2] == 0).all()
    whole = make(loss=loss).fit(data, 5)
    monkeypatch.setattr("audiointerp.sound.nmf.BLOCK", 1)  # 64 frames a block
    torch.testing.assert_close(nmf(data), together)
    np.testing.assert_allclose(make(loss=loss).fit(data, 5), whole)
    flat = data.transpose(0, 1).reshape(BINS, -1)
    np.testing.assert_allclose(make(loss=loss).fit(flat, 5), whole)


def test_kl_activations_approach_the_optimum():
    """At the minimum the gradient is 0 where an activation is positive, and not negative elsewhere."""
    nmf = make(loss="kl")
    data = random_data()
    found = nmf.activations(data[None], iterations=3000)[0]
    gradient = nmf.dictionary.sum(0)[:, None] - nmf.dictionary.T @ (data / (nmf.dictionary @ found))
    assert float(gradient[found > 1e-4].abs().max()) < 1e-3
    assert float(gradient.min()) > -1e-3


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_batches_come_close_to_all_at_once(loss, sparsity):
    data = random_data(frames=600)
    whole = make(loss=loss, sparsity=sparsity).fit(data, 300)[-1]
    nmf = make(loss=loss, sparsity=sparsity)
    losses = nmf.fit_batches(lambda: data.split(70, 1), epochs=30)
    assert len(losses) == 30 and losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(whole, rel=0.1)
    torch.testing.assert_close(nmf.dictionary.norm(dim=0), torch.ones(COMPONENTS, dtype=torch.float64))


def test_sums_without_forgetting_are_those_of_one_batch():
    """Two batches under a dictionary that stays: their statistics add up to those of both at once."""
    data, (dictionary, activations) = random_data(), random_start()
    for rule in (UPDATES["frobenius"](0.2), UPDATES["kl"](0.2)):
        loss, whole = rule.judge(data, dictionary, activations)
        halves = [rule.judge(data[:, part], dictionary, activations[:, part]) for part in (slice(0, 9), slice(9, None))]
        torch.testing.assert_close(halves[0][0] + halves[1][0], loss)
        for one, two, both in zip(halves[0][1], halves[1][1], whole):
            torch.testing.assert_close(one + two, both)
        scale = torch.tensor([[2.0], [0.5], [1.0]]).double()
        moved = rule.judge(data, dictionary / scale.T, activations * scale)[1]
        for ours, expected in zip(rule.rescale(whole, scale), moved):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_silence_is_legal(loss, sparsity):
    nmf = make(loss=loss, sparsity=sparsity)
    silent = torch.zeros(BINS, FRAMES, dtype=torch.float64)
    assert np.abs(nmf.fit(silent, 5)).max() < 1e-9
    assert np.abs(nmf.fit_batches(lambda: [silent], 2)).max() < 1e-9
    data = random_data()
    data[:, 10:20] = 0
    data[3] = 0
    losses = nmf.fit(data, 50)
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert nmf.dictionary.isfinite().all()
    assert (nmf(data[None])[0, :, 10:20] == 0).all()


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_a_component_too_many_is_harmless(loss):
    """Rank one, three components, one of them switched off at the start."""
    data = torch.outer(torch.arange(1.0, BINS + 1), torch.rand(FRAMES)).double()
    start = random_start()
    start[1][0] = 0
    nmf = make(loss=loss)
    losses = nmf.fit(data, 200, start=start)
    assert losses[-1] < 1e-3 * float(data.square().mean())
    assert nmf.dictionary.isfinite().all()
    torch.testing.assert_close(nmf.dictionary.norm(dim=0), torch.ones(COMPONENTS, dtype=torch.float64))


def test_seed_and_state():
    data = random_data()
    first, again, other = make(), make(), make(seed=7)
    assert first.fit(data, 5) == again.fit(data, 5) != other.fit(data, 5)
    copy = NMF(**first.config).double()
    assert not torch.equal(copy.dictionary, first.dictionary)
    copy.load_state_dict(first.state_dict())
    torch.testing.assert_close(copy(data[None]), first(data[None]))


def test_tolerance_ends_early_and_fitting_goes_on():
    data = random_data()
    nmf = make()
    early = nmf.fit(data, 1000, tolerance=1e-3)
    assert 2 <= len(early) < 500
    assert early[-2] - early[-1] <= 1e-3 * early[-2]
    assert nmf.fit(data, 100)[-1] < early[-1]


def test_start_is_left_as_it_was():
    start = random_start()
    kept = [each.clone() for each in start]
    make().fit(random_data(), 3, start=start)
    assert all(torch.equal(one, two) for one, two in zip(start, kept))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components is 0"),
        ({"bins": 0}, "bins 0"),
        ({"sparsity": -1.0}, "sparsity is -1.0"),
        ({"sparsity": float("nan")}, "sparsity is nan"),
        ({"loss": "l2"}, "loss is 'l2'; choose one of 'frobenius', 'kl'"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.full((BINS, 4), -1.0), "run from -1 to -1"),
        (torch.full((BINS, 4), torch.nan), "nan"),
        (torch.full((BINS, 4), torch.inf), "inf"),
        (torch.rand(BINS + 1, 4), r"expected \(12, frames\)"),
        (torch.rand(BINS), "expected"),
        (torch.rand(BINS, 0), "expected"),
        (torch.rand(BINS, 4) + 0j, "complex"),
    ],
)
def test_refuses_data(data, message):
    nmf = make()
    for call in (nmf.fit, lambda each: nmf.fit_batches(lambda: [each])):
        with pytest.raises(ValueError, match=message):
            call(data)
    with pytest.raises(ValueError, match=r"must be \(batch, freq, time\)"):
        nmf(data)
    if data.ndim == 2:
        with pytest.raises(ValueError, match=message):
            nmf(data[None])


def test_refuses_starts_and_batches():
    nmf, data, (dictionary, activations) = make(), random_data(), random_start()
    with pytest.raises(ValueError, match="start has shapes"):
        nmf.fit(data, 1, start=(dictionary, activations[:, 1:]))
    with pytest.raises(ValueError, match="non-negative"):
        nmf.fit(data, 1, start=(-dictionary, activations))
    with pytest.raises(ValueError, match="no batch"):
        nmf.fit_batches(list)
    with pytest.raises(ValueError, match="forgetting is 0"):
        nmf.fit_batches(lambda: [data], forgetting=0)


def test_centroids():
    dictionary = torch.tensor([[0.0, 1.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.5]])
    torch.testing.assert_close(spectral_centroids(dictionary, 8000), torch.tensor([4000.0, 0.0, 0.0, 2000.0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_gpu_agrees(loss):
    data = random_data()
    there = make(loss=loss).cuda()
    np.testing.assert_allclose(there.fit(data, 20), make(loss=loss).fit(data, 20), rtol=1e-8)
    assert there(data[None].cuda()).is_cuda
