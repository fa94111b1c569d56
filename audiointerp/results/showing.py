"""One explained clip as HTML for a notebook: labels, spectrograms, mask, players. From arrays, without torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import soundfile
from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = ["ShownFigure", "clip_html"]


class ShownFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110, bbox_inches="tight")
        return file.getvalue()


def clip_html(title: str, likeliest: Sequence[tuple[str, float]], figure: ShownFigure, sounds: Mapping[str, np.ndarray],
              sample_rate: int) -> str:  # fmt: skip
    """HTML that holds its picture and its sounds, so that it stays in a saved notebook.

    Args:
        title: one line.
        likeliest: labels with their probabilities.
        figure: of the clip.
        sounds: name -> (samples,); written as 16-bit WAVs, samples beyond full scale limited to it.
        sample_rate: in Hz.
    """
    picture = base64.b64encode(figure._repr_png_()).decode()
    labels = Markup(", ").join(Markup("{} {:.2f}").format(name, value) for name, value in likeliest)
    players = Markup("").join(
        Markup(
            '<label style="display:inline-block;margin-right:1em">{}<br><audio controls src="{}"></audio></label>'
        ).format(name, _wav_address(samples, sample_rate))
        for name, samples in sounds.items()
    )
    return str(
        Markup(
            '<div><p><b>{}</b><br>Likeliest: {}</p><img alt="Input, mask and interpretation as spectrograms: {}" '
            'style="max-width:100%" src="data:image/png;base64,{}"><div>{}</div></div>'
        ).format(title, labels, title, picture, players)
    )


def _wav_address(samples: np.ndarray, sample_rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"
