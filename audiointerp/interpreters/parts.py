"""How a method splits a clip into parts that are heard or left out: the tiles of a grid, or NMF components."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional

from audiointerp.sound.components import Components
from audiointerp.sound.nmf import NMF
from audiointerp.sound.spectrogram import STFT, log_magnitude

Parts = Literal["tiles", "nmf"]

ITERATIONS = 100  # of the factorisation

__all__ = ["Parts", "Splitter"]


@dataclass(frozen=True)
class Splitter:
    """Clip -> `Components`.

    Attributes:
        parts: "tiles" or "nmf".
        tiles: along frequency and along time; fewer where the clip has fewer bins.
        n_components: of the NMF that is fitted to each clip's log-magnitude.
        dictionary: learnt before, instead.
    """

    parts: Parts
    tiles: tuple[int, int]
    n_components: int
    dictionary: NMF | None

    @classmethod
    def checked(
        cls,
        parts: Parts,
        tiles: tuple[int, int],
        n_components: int,
        dictionary: NMF | Tensor | None,
        spectrogram: STFT,
    ) -> Splitter:
        """From a method's arguments.

        Raises:
            ValueError: for unknown parts, no part, or a dictionary of other bins.
        """
        if parts not in get_args(Parts):
            raise ValueError(f"parts are {parts!r}; choose 'tiles' or 'nmf'")
        if min(*tiles, n_components) < 1:
            raise ValueError(f"tiles are {tuple(tiles)}, n_components {n_components}; at least 1 each")
        learnt = None if dictionary is None else _nmf(dictionary, spectrogram.n_fft // 2 + 1)
        return cls(parts, tiles, n_components if learnt is None else learnt.dictionary.shape[1], learnt)

    @property
    def count(self) -> int:
        """Parts of a clip that has bins enough."""
        return self.tiles[0] * self.tiles[1] if self.parts == "tiles" else self.n_components

    def __call__(self, stft: Tensor, seed: int) -> Components:
        """Parts of one clip, complex (1, freq, time); `seed` of the NMF's start."""
        freq, time = stft.shape[1:]
        if self.parts == "tiles":
            return Components.tiles(stft, min(self.tiles[0], freq), min(self.tiles[1], time))
        learnt = self.dictionary
        if learnt is None:
            learnt = NMF(self.n_components, bins=freq, seed=seed).to(stft.device)
            learnt.fit(log_magnitude(stft), ITERATIONS)
        return Components.nmf(stft, learnt.to(stft.device))


def _nmf(dictionary: NMF | Tensor, bins: int) -> NMF:
    given = dictionary.dictionary if isinstance(dictionary, NMF) else dictionary
    if given.ndim != 2 or len(given) != bins or not bool((given >= 0).all()):
        raise ValueError(f"dictionary has shape {tuple(given.shape)}; expected ({bins}, components), all 0 or more")
    if isinstance(dictionary, NMF):
        return copy.deepcopy(dictionary)
    made = NMF(given.shape[1], bins=bins)
    made.dictionary = functional.normalize(given.detach().float(), dim=0)
    return made
