"""Pictures are written for awkward input without warnings, and show what they claim to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.signal import ShortTimeFFT, get_window

from audiointerp.results import figures
from audiointerp.results.writing import write_figure

RATE = 16000


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def is_picture(path, least: int = 100) -> bool:
    image = imread(path)
    return min(image.shape[:2]) > least and image[..., :3].std() > 0.01


def test_magnitude_agrees_with_scipy():
    waveform = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    ours = figures._magnitude(waveform, 1024, 186, 372)
    reference = ShortTimeFFT(get_window("hamming", 372), 186, RATE, mfft=1024).stft(waveform, p0=0, p1=ours.shape[1])
    assert ours.shape == (513, 1 + 4000 // 186)
    np.testing.assert_allclose(ours, np.abs(reference), atol=1e-3)


def test_a_long_clip_keeps_its_short_event():
    """Ten minutes of silence with one click: pooled columns keep the click, at its place."""
    waveform = np.zeros(600 * RATE, np.float32)
    waveform[450 * RATE // 186 * 186] = 1  # in the middle of a frame
    image = figures._magnitude(waveform, 1024, 186, 372)
    assert image.shape[1] <= figures.MAX_COLUMNS
    loudest = image.max(0).argmax()
    assert loudest / image.shape[1] == pytest.approx(0.75, abs=2e-3)
    assert image.max() == pytest.approx(1.0, abs=0.01)  # the window's peak


def test_decibels_are_relative_to_the_loudest_and_have_a_floor():
    np.testing.assert_allclose(figures._decibels(np.array([10.0, 1.0, 0.0]), 10.0), [0, -20, -80])


@pytest.mark.parametrize("silent", [False, True])
def test_a_scaleogram_stands_where_a_mask_would(tmp_path, silent, monkeypatch):
    """Three levels over 1 s: the middle one is relevant at 0.5 s; levels with a million values are pooled."""
    drawn = []
    save = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path)))
    waveform, relevant = tone(3000), np.zeros(2003)
    relevant[1000] = 0.0 if silent else 2.0
    levels = [
        (np.zeros(504), -0.003, 1 / 500, 0.0, 2000.0),
        (relevant, -0.001, 1 / 2000, 2000.0, 4000.0),
        (np.zeros(1_000_000), 0.0, 1e-6, 4000.0, 8000.0),
    ]
    figures.plot_interpretation(tmp_path / "a.png", waveform, waveform, None, RATE, "wam", scaleogram=levels)
    assert is_picture(tmp_path / "a.png")
    axis = drawn[0].axes[1]
    assert axis.get_title(loc="left") == "Relevance by level" and axis.get_yscale() == "log"
    assert axis.get_ylim() == (1000, 8000) and axis.get_xlim() == (0, 1)
    cells = axis.collections[1]
    values = np.asarray(cells.get_array()).ravel()
    assert values.max() == (0.0 if silent else 1.0) and len(values) <= figures.MAX_COLUMNS
    if not silent:
        edges = np.unique(np.asarray(cells.get_coordinates())[0, :, 0])
        place = int(values.argmax())
        assert edges[place] <= -0.001 + 1000.5 / 2000 <= edges[place + 1]
    assert np.asarray(axis.collections[2].get_array()).size <= figures.MAX_COLUMNS


@pytest.mark.parametrize("seconds", [0.05, 1.0, 1 / RATE])
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_interpretation(tmp_path, seconds, silent, masked):
    waveform = tone(1000, seconds) * (not silent)
    mask = np.full((513, 1 + len(waveform) // 186), 0.5) if masked else None
    figures.plot_interpretation(tmp_path / "sub" / "a.png", waveform, 0.5 * waveform, mask, RATE, "a $title$ <b> ünï")
    assert is_picture(tmp_path / "sub" / "a.png")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("waveform", "kept", "mask", "message"),
    [
        (np.zeros((1, 9)), np.zeros((1, 9)), None, "must be"),
        (np.zeros(9), np.zeros(8), None, "equally long"),
        (np.zeros(0), np.zeros(0), None, "must be"),
        (np.full(9, np.nan), np.zeros(9), None, "NaN"),
        (np.zeros(9), np.zeros(9), np.zeros(3), r"\(freq, time\)"),
        (np.zeros(9), np.zeros(9), np.full((3, 3), 1.5), "0 and 1"),
        (np.zeros(9), np.zeros(9), np.full((3, 3), np.nan), "0 and 1"),
    ],
)
def test_interpretation_refuses(tmp_path, waveform, kept, mask, message):
    with pytest.raises(ValueError, match=message):
        figures.plot_interpretation(tmp_path / "a.png", waveform, kept, mask, RATE, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [1, 50, 130])
def test_confusion(tmp_path, classes):
    counts = np.eye(classes, dtype=int) * 3
    counts[0] = 0  # a class without clips
    figures.plot_confusion(tmp_path / "c.png", counts, [f"class_{index} $x" for index in range(classes)])
    assert is_picture(tmp_path / "c.png")


def test_confusion_shades_shares_of_the_row(tmp_path):
    """A class with 1 clip, always right, is as dark as one with 1000; a class split evenly is not."""

    def darkest(counts: list[list[int]]) -> int:
        figures.plot_confusion(tmp_path / "c.png", np.array(counts), ["a", "b"])
        return int((np.abs(imread(tmp_path / "c.png")[..., :3] - np.array([8, 48, 107]) / 255).max(-1) < 0.01).sum())

    split, one, both = darkest([[5, 5], [500, 500]]), darkest([[1, 0], [500, 500]]), darkest([[1, 0], [0, 1000]])
    cell = one - split
    assert cell > 5000
    assert both - one == pytest.approx(cell, rel=0.1)


def test_confusion_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"2 labels need \(2, 2\)"):
        figures.plot_confusion(tmp_path / "c.png", np.zeros((2, 3)), ["a", "b"])
    with pytest.raises(ValueError, match="negative"):
        figures.plot_confusion(tmp_path / "c.png", np.array([[-1]]), ["a"])


def test_training_curves_are_sorted_into_losses_and_scores():
    log = pd.DataFrame(
        {
            "epoch": [1.0, 2.0],
            "lr": [1e-3, 1e-4],
            "cross_entropy": [2.0, 1.0],
            "valid_accuracy": [0.5, np.nan],
            "valid_ad": [40.0, 30.0],
            "valid_log_probability": [-2.0, -1.0],
            "generator/loss": [0.5, 0.1],
            "note": ["a", "b"],
            "empty": [np.nan, np.nan],
        }
    )
    assert figures._curves(log) == {
        "Losses": ["cross_entropy", "generator/loss"],
        "Scores": ["valid_accuracy"],
        "Other scores": ["valid_ad", "valid_log_probability"],
    }


def test_training(tmp_path):
    log = pd.DataFrame({"epoch": [1, 2, 3], "loss": [100.0, 1.0, 0.1], "valid_fidelity": [np.nan, 0.5, 0.9]})
    figures.plot_training(tmp_path / "t.png", log)
    figures.plot_training(tmp_path / "one.png", log[:1])
    assert is_picture(tmp_path / "t.png") and is_picture(tmp_path / "one.png")


def test_training_refuses_an_empty_log(tmp_path):
    with pytest.raises(ValueError, match="0 epochs, columns epoch, loss"):
        figures.plot_training(tmp_path / "t.png", pd.DataFrame({"epoch": [], "loss": []}))


LABELS = ["犬の鳴き声", "下雨声", "காற்று", "🐕 barks", "à côté"]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_letters_that_the_font_lacks_are_drawn_without_a_warning(tmp_path, kind):
    """Warnings are errors in these tests."""
    sound = tone(440.0, 0.2)
    figures.plot_interpretation(tmp_path / "a.png", sound, sound, None, RATE, f"{LABELS[0]}: {LABELS[3]}")
    figures.plot_confusion(tmp_path / "b.png", np.eye(5), LABELS)
    figures.plot_training(tmp_path / "c.png", pd.DataFrame({"epoch": [1, 2], LABELS[1]: [2.0, 1.0]}))
    figure = Figure()
    figure.text(0.5, 0.5, " ".join(LABELS))
    write_figure(tmp_path / f"d.{kind}", figure)
    assert is_picture(tmp_path / "a.png") and is_picture(tmp_path / "b.png") and is_picture(tmp_path / "c.png")
    assert (tmp_path / f"d.{kind}").stat().st_size > 1000
