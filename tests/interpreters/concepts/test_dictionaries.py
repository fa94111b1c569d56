"""Dictionaries against scikit-learn, SciPy, and data made of known directions."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from audiointerp.interpreters.concepts import DICTIONARIES
from audiointerp.interpreters.concepts.dictionaries import KMeans, NonNegative, PrincipalComponents, SemiNMF

NAMES = list(DICTIONARIES)


def planted(count=600, concepts=5, channels=12, active=2, seed=10):
    """Vectors of `active` of some known unit directions of any sign, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(concepts, channels, generator=generator), dim=1)
    chosen = torch.rand(count, concepts, generator=generator).argsort(1)[:, :active]
    codes = torch.zeros(count, concepts).scatter(1, chosen, 0.5 + torch.rand(count, active, generator=generator))
    return 3 * codes @ directions + 0.01 * torch.randn(count, channels, generator=generator), directions


def found_share(model, directions):
    """Mean over the known directions of the highest cosine with a learnt one."""
    learnt = torch.nn.functional.normalize(model.directions, dim=1)
    return float((directions @ learnt.T).max(1).values.mean())


def error(vectors, model):
    return float((vectors - model.rebuild(model(vectors))).square().sum())


def test_semi_nmf_finds_the_directions():
    vectors, directions = planted()
    model = SemiNMF(5, 12, sparsity=0.02)
    model.fit(vectors)
    assert found_share(model, directions) > 0.98
    assert bool((model(vectors) >= 0).all())
    torch.testing.assert_close(model.directions.norm(dim=1), torch.ones(5))


def test_autoencoder_finds_the_directions():
    vectors, directions = planted(active=1)
    model = DICTIONARIES["sparse_autoencoder"](5, 12, active=1)
    model.fit(vectors)
    assert found_share(model, directions) > 0.95
    codes = model(vectors)
    assert int((codes > 0).sum(1).max()) <= 1 and bool((codes >= 0).all())


def test_activations_are_those_of_non_negative_least_squares():
    vectors, _ = planted(count=20)
    model = DICTIONARIES["random"](5, 12, sparsity=0.0)
    model.fit(vectors)
    expected = [nnls(model.directions.T.numpy(), (each / model.scale).numpy())[0] for each in vectors]
    np.testing.assert_allclose(model(vectors).numpy(), np.stack(expected), atol=2e-3)


def test_pca_is_scikit_learns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors, _ = planted(channels=6, concepts=6)
    model = PrincipalComponents(3, 6)
    model.fit(vectors)
    theirs = decomposition.PCA(3).fit(vectors.numpy())
    cosine = np.abs(np.sum(theirs.components_ * model.directions.numpy(), 1))
    np.testing.assert_allclose(cosine, 1, atol=1e-4)
    np.testing.assert_allclose(model.rebuild(model(vectors)), theirs.inverse_transform(theirs.transform(vectors)),
                               atol=1e-3)  # fmt: skip


def test_k_means_is_as_good_as_scikit_learns():
    cluster = pytest.importorskip("sklearn.cluster")
    vectors, _ = planted(active=1)
    model = KMeans(8, 12)
    model.fit(vectors)
    scaled = vectors / model.scale
    ours = float(torch.cdist(scaled, model.directions).min(1).values.square().sum())
    theirs = cluster.KMeans(8, n_init=5, random_state=0).fit(scaled.numpy()).inertia_
    assert ours < 1.15 * theirs
    codes = model(vectors)
    assert bool(((codes > 0).sum(1) == 1).all())


def test_nmf_is_as_good_as_scikit_learns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) @ torch.rand(4, 12) + 0.01
    model = NonNegative(4, 12, sparsity=0.0)
    model.fit(vectors)
    theirs = decomposition.NMF(4, init="random", tol=1e-3, max_iter=4000, random_state=0).fit(vectors.numpy())
    assert bool((model.directions >= 0).all())
    assert error(vectors, model) < max(2 * theirs.reconstruction_err_**2, 1e-3 * float(vectors.square().sum()))


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up_to_the_rebuilt_map(name):
    vectors, _ = planted()
    model = DICTIONARIES[name](5, 12, active=2)
    model.fit(vectors)
    maps = vectors[:24].view(2, 3, 4, 12).movedim(-1, 1)
    codes = model.activations(maps)
    assert codes.shape == (2, 5, 3, 4)
    torch.testing.assert_close(codes[1, :, 2, 3], model(vectors[23:24])[0], atol=1e-5, rtol=1e-4)
    whole = model.parts(codes[0]).sum(0) + model.offset[:, None, None]
    torch.testing.assert_close(model.rebuilt(codes[0]), whole, atol=1e-5, rtol=1e-4)
    first = model.rebuild(codes[0, :, 0, 0][None])[0]
    torch.testing.assert_close(whole[:, 0, 0], first, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [each for each in NAMES if each != "random"])
def test_learnt_directions_explain_more_than_random_ones(name):
    vectors, _ = planted()
    vectors = vectors - vectors.min() if name == "nmf" else vectors
    models = [DICTIONARIES[each](5, 12, active=2) for each in (name, "random")]
    for each in models:
        each.fit(vectors)
    assert error(vectors, models[0]) < 0.5 * error(vectors, models[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides(name):
    vectors, _ = planted(count=80)
    made = []
    for shift in (0, 3):
        torch.manual_seed(shift)
        model = DICTIONARIES[name](3, 12, active=1, seed=7)
        model.fit(vectors)
        made.append(model.directions)
    assert torch.equal(*made)


def test_what_cannot_be_learnt():
    with pytest.raises(ValueError, match="at most one for each of 12 channels"):
        PrincipalComponents(13, 12)
    with pytest.raises(ValueError, match="n_concepts is 0"):
        SemiNMF(0, 12)
    with pytest.raises(ValueError, match="active is 9"):
        DICTIONARIES["sparse_autoencoder"](4, 12, active=9)
    with pytest.raises(ValueError, match="no positive value"):
        NonNegative(2, 3).fit(-torch.rand(9, 3))
    with pytest.raises(ValueError, match="all 0"):
        SemiNMF(2, 3).fit(torch.zeros(9, 3))
    with pytest.raises(ValueError, match=r"at least \(4, 3\)"):
        SemiNMF(4, 3).fit(torch.rand(3, 3))
