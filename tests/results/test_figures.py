"""Pictures are written for awkward input without warnings, and show what they claim to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.signal import ShortTimeFFT, get_window

from audiointerp.results import figures
from audiointerp.results.stencil import ShadedImage, Stencil, write_picture
from audiointerp.results.templating import picture
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


def chirp(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (np.sin(2 * np.pi * 700 * time**2) + 0.01 * noise).astype(np.float32)


def shown(path) -> np.ndarray:
    return np.round(255 * imread(path)[..., :3]).astype(int)


@pytest.mark.parametrize("masked", [False, True])
def test_interpretations_are_drawn_as_matplotlib_draws_them(tmp_path, masked):
    """Axes, ticks, colour bars and title are the same pixels; images are averaged in dB instead of in colours."""
    sound, title = chirp(5.0), "dog.wav: dog and grass (piq)"
    mask = np.linspace(0, 1, 513)[:, None] * np.linspace(1, 0, 431) if masked else None
    figures.plot_interpretation(tmp_path / "a.png", sound, 0.5 * sound, mask, RATE, title)
    with rc_context(figures.STYLE):
        figure = figures.draw_interpretation(sound, 0.5 * sound, mask, RATE, title)
        figure.set_dpi(figures.DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    expected = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    ours = shown(tmp_path / "a.png")
    assert ours.shape == expected.shape
    far = np.abs(ours - expected).max(-1)
    within = np.zeros(far.shape, bool)
    for axis in figure.axes[: 3 if masked else 2]:
        left, bottom, right, top = (round(each) for each in axis.get_window_extent().extents)
        within[len(far) - top : len(far) - bottom, left:right] = True
    assert within.mean() > 0.3 and far[~within].max() <= 2
    assert far[within].mean() < 0.03 * 255 and (far[within] > 40).mean() < 0.005


def test_a_picture_says_where_its_panels_are(tmp_path):
    """As matplotlib places the axes of the same figure."""
    waveform, mask = tone(1000, 5.0), np.ones((513, 10), np.float32)
    path = tmp_path / "a.png"
    figures.plot_interpretation(path, waveform, waveform, mask, RATE, "a title")
    drawn = figures.draw_interpretation(waveform, waveform, mask, RATE, "a title")
    drawn.set_dpi(figures.DPI)
    drawn.draw_without_rendering()
    found = picture(path, tmp_path)
    pixels = 2 / min(found["width"], found["height"])
    assert len(found["panels"]) == 3
    for (left, right, top, bottom, start, end), axis in zip(found["panels"], drawn.axes):
        place = axis.get_position()
        assert (start, end) == (0, 5.0)
        assert [left, right, top, bottom] == pytest.approx([place.x0, place.x1, 1 - place.y1, 1 - place.y0], abs=pixels)


@pytest.mark.parametrize(
    "note", ["", "[", "[[1,2,3]]", '[["<script>",1,2,3,4,5]]', "[[NaN,1,2,3,4,5]]", "[" * 4000, "7"]
)
def test_a_note_of_another_shape_is_left_out(note, tmp_path):
    write_picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8), 100, note)
    assert picture(tmp_path / "a.png", tmp_path)["panels"] == []
    assert imread(tmp_path / "a.png").shape[:2] == (4, 4)


def test_a_stencil_sets_each_value_at_its_place():
    """A figure of 200 x 100 pixels whose axes fill the right half: four values, from the lower left on."""
    figure = Figure(figsize=(2, 1))
    axis = figure.add_axes((0.5, 0, 0.5, 1))
    axis.imshow(np.zeros((1, 1)), aspect="auto")
    axis.set_axis_off()
    made = Stencil(figure, 1, 100)
    values = np.array([[0.0, 1.0], [2.0, 3.0]])
    picture = made.filled([ShadedImage(values, 0, 3, "gray")], "")
    assert picture.shape == (100, 200, 3) and (picture[:, :100] == 255).all()
    corners = [picture[75, 110], picture[75, 190], picture[45, 110], picture[45, 190]]
    np.testing.assert_allclose([each[0] for each in corners], [0, 85, 170, 255], atol=1)
    other = made.filled([ShadedImage(values.T, 0, 3, "gray")], "")
    assert other[75, 190, 0] == picture[45, 110, 0]


@pytest.mark.parametrize("length", [3, 90, 400])
def test_titles_fit_the_figure(tmp_path, length):
    sound = tone(440.0)
    figures.plot_interpretation(tmp_path / "a.png", sound, sound, None, RATE, "W" * length)
    title = shown(tmp_path / "a.png")[:30].min(-1) < 128
    columns = np.nonzero(title.any(0))[0]
    assert columns[0] < 20 and columns[-1] < title.shape[1] - 2
    assert (columns[-1] > 0.9 * title.shape[1]) == (length > 80)


def test_pictures_are_written_as_they_are(tmp_path):
    """Against matplotlib's reader of PNG."""
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    write_picture(tmp_path / "a.png", picture, 100)
    assert (shown(tmp_path / "a.png") == picture).all()
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


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
