"""Pictures of notes: written without warnings for awkward input too, and they show what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from band_classifiers import random_features
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import imread

from audiointerp.runs.notes import figures as note_figures
from audiointerp.runs.notes.figures import plot_class_maps, plot_importance, plot_inpainting, plot_rate_distortion

BANDS = 24
HERTZ = 20 * 400 ** (np.arange(BANDS) / (BANDS - 1))
NOTE, OTHER = random_features(2, bands=BANDS).numpy()
SILENCE = np.zeros((3, BANDS), np.float32)
RAMP = np.stack([np.linspace(0, 1, BANDS), np.linspace(1, 0, BANDS)])


def assert_picture(path: Path, width: float, height: float) -> None:
    """A PNG of the shape in inches, to a fifth, large enough to read, that is not of one colour."""
    assert path.read_bytes()[:4] == b"\x89PNG" and [each.name for each in path.parent.iterdir()] == [path.name]
    image = imread(path)
    assert 500 < image.shape[1] < 4000 and image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.2)
    assert image[..., :3].std() > 0.01


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Figures that would have been written."""
    kept: list[Figure] = []
    monkeypatch.setattr(note_figures, "save_figure", lambda figure, path: kept.append(figure))
    return kept


@pytest.mark.parametrize("features", [NOTE, SILENCE], ids=["note", "silence"])
@pytest.mark.parametrize("importance", [RAMP, np.zeros((2, BANDS)), np.ones((2, BANDS))], ids=["ramp", "none", "all"])
def test_importance_is_written(tmp_path, features, importance):
    plot_importance(tmp_path / "sub" / "a.png", HERTZ, features, importance, "why $reed$? <b> ünï")
    assert_picture(tmp_path / "sub" / "a.png", 9, 4.4)


def test_importance_shows_the_note_and_the_map(drawn):
    plot_importance("a.png", HERTZ, NOTE, RAMP, "title")
    axes = drawn[0].axes
    signals = [axis for axis in axes if axis.lines]
    for axis, signal in zip(signals, (NOTE[0], np.arctan2(NOTE[2], NOTE[1]))):
        np.testing.assert_allclose(axis.lines[0].get_xdata(), HERTZ)
        np.testing.assert_allclose(axis.lines[0].get_ydata(), signal)
        assert axis.get_xscale() == "log" and axis.get_xlim() == pytest.approx((20, 8000))
    shares = [axis for axis in axes if axis.get_ylabel() == "Importance"]
    assert len(signals) == len(shares) == 2
    for axis, share in zip(shares, RAMP):
        # The edge of the filled area is the map.
        edge = axis.collections[0].get_paths()[0].vertices
        assert axis.get_ylim() == pytest.approx((0, 1.02))
        for hertz, value in zip(HERTZ, share):
            assert np.abs(edge[np.isclose(edge[:, 1], value)][:, 0] / hertz - 1).min() < 0.2
    labels = [text.get_text() for text in signals[1].get_xticklabels()]
    assert "20" in labels and "1k" in labels and "8k" in labels


@pytest.mark.parametrize("features", [NOTE, SILENCE], ids=["note", "silence"])
@pytest.mark.parametrize("keep", [RAMP.round(), np.zeros((2, BANDS)), np.ones((2, BANDS))], ids=["half", "none", "all"])
def test_inpainting_is_written(tmp_path, features, keep):
    plot_inpainting(tmp_path / "sub" / "a.png", HERTZ, features, np.where(keep[[0, 1, 1]], features, OTHER), keep, "a")
    assert_picture(tmp_path / "sub" / "a.png", 9, 4.4)


def test_inpainting_sets_the_note_lower_and_marks_what_was_taken_out(drawn):
    keep = np.zeros((2, BANDS))
    keep[0, : BANDS // 2] = keep[1, BANDS // 2 :] = 1
    plot_inpainting("a.png", HERTZ, NOTE, OTHER, keep, "title")
    signals = [each[0] for each in (NOTE, OTHER)], [np.arctan2(each[2], each[1]) for each in (NOTE, OTHER)]
    for axis, (note, made), kept in zip(drawn[0].axes, signals, keep):
        lower, own = (line.get_ydata() for line in axis.lines)
        np.testing.assert_allclose(own, made)
        shift = note - lower
        assert np.ptp(shift) < 1e-5 and shift[0] > 0.2 * np.ptp(note)
        marked = axis.collections[0].get_paths()[0].vertices[:, 0]
        gone = HERTZ[kept == 0]
        assert marked.min() == pytest.approx(gone[0], rel=0.2) and marked.max() == pytest.approx(gone[-1], rel=0.2)


POINTS = {"zeros": [(0.5, 0.1), (0.1, 0.8), (0.3, 0.4)], "donor": [(0.2, 0.2), (0.2, 0.2), (0.2, 0.2)]}


@pytest.mark.parametrize("curves", [POINTS, {"one": [(0.0, 0.0)]}, {"none": [(0.2, np.nan), (0.3, np.nan)]}])
def test_curves_are_written(tmp_path, curves):
    plot_rate_distortion(tmp_path / "sub" / "a.png", curves)
    assert_picture(tmp_path / "sub" / "a.png", 4.6, 3.2)


def test_curves_run_from_few_parts_to_many(drawn):
    plot_rate_distortion("a.png", POINTS)
    (axis,) = drawn[0].axes
    assert [line.get_label() for line in axis.lines] == list(POINTS)
    assert axis.lines[0].get_xydata().tolist() == [[0.1, 0.8], [0.3, 0.4], [0.5, 0.1]]
    assert len({line.get_color() for line in axis.lines}) == 2


@pytest.mark.parametrize("classes", [1, 11])
@pytest.mark.parametrize("constant", [False, True])
def test_class_maps_are_written(tmp_path, classes, constant):
    maps = {f"class {i}": np.full((2, BANDS), 0.5) if constant else RAMP for i in range(classes)}
    plot_class_maps(tmp_path / "sub" / "a.png", HERTZ, maps, "title")
    assert_picture(tmp_path / "sub" / "a.png", 10, 0.28 * classes + 1.3)


def test_class_maps_show_magnitude_left_and_phase_right(drawn):
    plot_class_maps("a.png", HERTZ, {"reed": RAMP, "flute": RAMP / 2}, "title")
    for part, axis in enumerate(drawn[0].axes[:2]):
        (mesh,) = (each for each in axis.collections if isinstance(each, QuadMesh))
        np.testing.assert_allclose(np.reshape(mesh.get_array(), (2, BANDS)), [RAMP[part], RAMP[part] / 2])
        assert mesh.get_clim() == (0, 1) and axis.get_title("left") == ("Magnitude", "Phase")[part]
        edges = mesh.get_coordinates()[0, :, 0]
        assert (edges[:-1] < HERTZ).all() and (edges[1:] > HERTZ).all()
    assert [text.get_text() for text in drawn[0].axes[0].get_yticklabels()] == ["reed", "flute"]
    assert drawn[0].axes[0].yaxis_inverted()
