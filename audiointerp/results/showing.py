"""One explained clip as HTML for a notebook: labels, spectrograms, mask, players. From arrays, without torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = ["Players", "ShownFigure", "clip_html"]


class ShownFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110, bbox_inches="tight")
        return file.getvalue()


@dataclass(frozen=True, repr=False)
class Players:
    """Sounds of one clip, which a notebook shows as players.

    Attributes:
        title: one line.
        sounds: name -> (samples,); in a page, 16-bit WAVs, samples beyond full scale limited to it.
        sample_rate: in Hz.
    """

    title: str
    sounds: Mapping[str, np.ndarray]
    sample_rate: int

    def __repr__(self) -> str:
        """One line, for consoles, which cannot play."""
        return (
            f"Players({self.title!r}: {', '.join(self.sounds)}; a notebook shows them, made.save(folder) writes them)"
        )

    def _repr_html_(self) -> str:
        """HTML that holds its sounds, so that they stay in a saved notebook."""
        return str(Markup("<div><p><b>{}</b></p>{}</div>").format(self.title, self.players))

    @property
    def players(self) -> Markup:
        """A player for each sound, without the title."""
        return Markup("").join(
            Markup(
                '<label style="display:inline-block;margin-right:1em">{}<br><audio controls src="{}"></audio></label>'
            ).format(name, _wav_address(samples, self.sample_rate))
            for name, samples in self.sounds.items()
        )


def clip_html(likeliest: Sequence[tuple[str, float]], figure: ShownFigure, listen: Players) -> str:
    """HTML that holds its picture and its sounds, so that it stays in a saved notebook.

    Args:
        likeliest: labels with their probabilities.
        figure: of the clip.
        listen: its sounds and its title.
    """
    picture = base64.b64encode(figure._repr_png_()).decode()
    labels = Markup(", ").join(Markup("{} {:.2f}").format(name, value) for name, value in likeliest)
    return str(
        Markup(
            '<div><p><b>{}</b><br>Likeliest: {}</p><img alt="Input, mask and interpretation as spectrograms: {}" '
            'style="max-width:100%" src="data:image/png;base64,{}"><div>{}</div></div>'
        ).format(listen.title, labels, listen.title, picture, listen.players)
    )


def _wav_address(samples: np.ndarray, sample_rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"
