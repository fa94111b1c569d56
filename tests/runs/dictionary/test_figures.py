"""Pictures of a dictionary and of its relevance for each class: sorted by centroid, and no picture of what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from audiointerp.runs.dictionary import figures
from audiointerp.runs.dictionary.figures import plot_dictionary, plot_relevance

RATE = 16000


def bumps(count: int, bins: int = 65) -> np.ndarray:
    places = np.random.default_rng(0).permutation(np.linspace(5, bins - 5, count))
    return np.exp(-((np.arange(bins)[:, None] - places) ** 2) / 4)


@pytest.mark.parametrize("count", [1, 5, 150])
def test_dictionary_picture(tmp_path, count):
    dictionary = bumps(count)
    dictionary[:, 0] = 0
    plot_dictionary(tmp_path / "sub" / "d.png", dictionary, RATE)
    plot_dictionary(tmp_path / "sub" / "named.png", dictionary, RATE, [f"$dog {index}" for index in range(count)])
    assert imread(tmp_path / "sub" / "d.png")[..., :3].std() > 0.01
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["d.png", "named.png"]


def test_dictionary_picture_sorts_by_centroid(tmp_path):
    """Columns in any order give the same picture, but for the names below."""
    dictionary = bumps(6)
    plot_dictionary(tmp_path / "a.png", dictionary, RATE, names=[""] * 6)
    plot_dictionary(tmp_path / "b.png", dictionary[:, ::-1], RATE, names=[""] * 6)
    np.testing.assert_array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))
    plot_dictionary(tmp_path / "c.png", dictionary[::-1], RATE, names=[""] * 6)
    assert (imread(tmp_path / "c.png") != imread(tmp_path / "a.png")).any()


@pytest.mark.parametrize(
    ("dictionary", "names", "message"),
    [
        (np.zeros(5), None, r"must be \(freq, components\)"),
        (np.full((5, 2), -1.0), None, "negative"),
        (np.full((5, 2), np.nan), None, "NaN"),
        (np.ones((5, 2)), ["a"], "1 names for 2 components"),
    ],
)
def test_dictionary_picture_refuses(tmp_path, dictionary, names, message):
    with pytest.raises(ValueError, match=message):
        plot_dictionary(tmp_path / "d.png", dictionary, RATE, names)
    assert not list(tmp_path.iterdir())


# --- relevance


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Figures, laid out and not written."""
    kept: list[Figure] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))
    return kept


def test_relevance_picture_sorts_by_centroid_and_leaves_unknown_rows_empty(tmp_path, drawn):
    values = np.array([[0.5, -1.0, 0.25], [np.nan, np.nan, np.nan]])
    plot_relevance(tmp_path / "r.png", values, ["dog", "a class with a name far too long to show"], [3000, 1000, 2000])
    axis = drawn[0].axes[0]
    (image,) = axis.images
    np.testing.assert_array_equal(np.asarray(image.get_array())[0], [-1.0, 0.25, 0.5])
    assert np.ma.getmaskarray(image.get_array())[1].all() or np.isnan(np.asarray(image.get_array())[1]).all()
    assert image.get_clim() == (-1, 1)
    # Blue speaks for, red against.
    red, _, blue, _ = image.cmap(image.norm(0.9))
    assert blue > red and image.cmap(image.norm(-0.9))[0] > image.cmap(image.norm(-0.9))[2]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1.0", "2.0", "3.0"]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names[0] == "dog" and len(names[1]) == 24 and names[1].endswith("…")


@pytest.mark.parametrize(("classes", "components"), [(1, 1), (3, 5), (50, 150)])
def test_relevance_picture_of_any_size(tmp_path, classes, components):
    values = np.random.default_rng(0).uniform(-1, 1, (classes, components))
    labels = [f"$class {index}" for index in range(classes)]
    plot_relevance(tmp_path / "sub" / "r.png", values, labels, np.linspace(100, 7000, components))
    assert imread(tmp_path / "sub" / "r.png")[..., :3].std() > 0.01
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["r.png"]


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (2,)])
def test_relevance_picture_refuses(tmp_path, shape):
    with pytest.raises(ValueError, match="for 2 labels and 3 centroids"):
        plot_relevance(tmp_path / "r.png", np.zeros(shape), ["a", "b"], np.arange(3.0))
    assert not list(tmp_path.iterdir())
