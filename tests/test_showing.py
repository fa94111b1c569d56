"""How results show themselves: one line in a console, players and pictures in a notebook."""

import base64
import io
import pydoc
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch
from two_tones import RATE, tones, two_bands

import audiointerp
from audiointerp.explore import Brush, Region
from audiointerp.interpreters import Loudest


@pytest.fixture
def made():
    """What is below 2 kHz of two tones, which is the class "low"."""
    below = Brush(two_bands(), [Region(0, 2000, 0, 1, keep=True)])
    return below.interpret(torch.stack([tones(0.5), tones(0.5, 0.2, 0.05)]), 0)


class Reader(HTMLParser):
    """Collects the addresses of pictures and sounds, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.sources, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [(tag, value) for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.text += data + "\n"


def test_one_line_in_a_console(made):
    assert repr(made) == (
        "Interpretation(clips=2, samples=8000 at 16000 Hz, target=[low, low], mask=(2, 513, 44) on the magnitude, "
        "Prediction(clips=2, classes=2, predicted=[1, 0], probability=[0.69, 0.94]))"
    )
    many = Loudest(two_bands()).interpret(torch.randn(50, 800))
    assert len(repr(many)) < 300 and "..." in repr(many)


def test_players_and_pictures_in_a_notebook(made):
    shown = Reader(made._repr_html_())
    assert [tag for tag, _ in shown.sources] == ["img", "audio", "audio", "audio"] * 2
    assert "What speaks for low (0.31)" in shown.text and "high 0.69, low 0.31" in shown.text
    sounds = []
    for _, address in shown.sources[1:4]:
        kind, data = address.split(";base64,")
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert kind == "data:audio/wav" and rate == RATE
        sounds.append(samples)
    for samples, expected in zip(sounds, (tones(0.5), made.waveform[0], made.residual[0])):
        assert np.abs(samples - expected.numpy()).max() < 1.1 / 2**15
    assert base64.b64decode(shown.sources[0][1].split(",")[1]).startswith(b"\x89PNG")


def test_what_is_in_a_page_cannot_become_markup(made):
    shown = Reader(replace(made, labels=("<img src=x>", "b"))._repr_html_())
    assert not [each for each in shown.sources if each[1] == "x"] and "<img src=x>" in shown.text


def test_the_figure_has_the_mask_and_both_sounds(made):
    figure = made.plot(1)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert [each for each in titles if each and each != "dB"] == ["Input", "Mask", "Interpretation: masked input"]
    mask = next(axis for axis in figure.axes if axis.get_title(loc="left") == "Mask").images[0].get_array()
    assert np.array_equal(np.asarray(mask), made.mask[1].numpy())
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(IndexError):
        made.plot(2)


def test_public_names_are_listed():
    names = dir(audiointerp)
    assert {"GradCAM", "LIME", "PIQ", "EfficientAT", "load", "read"} <= set(names) and "Any" not in names
    assert all(getattr(audiointerp, name) is not None for name in names)
    assert not [name for name in names if re.match(r"_[^_]", name)]


def test_players_by_themselves(made):
    shown = Reader(made.listen(1)._repr_html_())
    assert [tag for tag, _ in shown.sources] == ["audio"] * 3 and "What speaks for low" in shown.text
    assert "\n" not in repr(made.listen()) and "Interpretation" in repr(made.listen())


def test_several_explanations_in_one_figure(made):
    classifier, sound = two_bands(), torch.stack([tones(0.5), tones(0.5, 0.2, 0.05)])
    loudest = Loudest(classifier).interpret(sound)
    without = replace(loudest, mask=None, domain=None)
    figure = audiointerp.plot_comparison({"brush": made, "loudest": loudest, "none": without}, row=1)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left") not in ("", "dB")]
    assert [each.split(":")[0] for each in titles] == ["brush", "loudest", "none"]
    images = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    masks = [each for each in images if np.asarray(each).min() >= 0]
    assert any(np.array_equal(np.asarray(each), loudest.mask[1].numpy()) for each in masks)
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="'other' explains another sound than 'brush'"):
        audiointerp.plot_comparison({"brush": made, "other": Loudest(classifier).interpret(0.5 * sound)})
    with pytest.raises(ValueError, match="no interpretation is given"):
        audiointerp.plot_comparison({})


def test_help_of_the_package_is_a_page():
    text = pydoc.render_doc(audiointerp, renderer=pydoc.plaintext)
    assert len(text.splitlines()) < 100 and "plot_comparison" in text
    named = re.findall(r"\n    ([\w, ]+?)  +\w", text[text.index("What most programs use") : text.index("PACKAGE")])
    assert named and {name for line in named for name in line.split(", ")} <= set(dir(audiointerp))
