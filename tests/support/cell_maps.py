"""A classifier whose layer and logits can be computed by hand: band levels, their mean over cells, one linear layer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from audiointerp.classifiers import External
from audiointerp.sound import files as audio

RATE, ROWS, CHANNELS = 16000, 4, 16
LABELS = ("high", "low", "middle")
#: Pitch in Hz of each label's tone: near the middle of rows 3, 0 and 1 of the map, where a mask of the row is 1.
PITCHES = {"high": 6906.25, "low": 562.5, "middle": 3062.5}
TONE = {"high": (3, 7), "low": (0, 4), "middle": (1, 8)}  # row, channel


class CellMaps(nn.Module):
    """`maps` is (batch, 16, 4, time): channel c of row r is the level of bins 64 r + 4 c to 64 r + 4 c + 3 of 256."""

    def __init__(self, classes: int = 3, flat: bool = False):
        super().__init__()
        self.flat = flat
        self.maps, self.head = nn.Identity(), nn.Linear(CHANNELS, classes)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.copy_(torch.linspace(-0.1, 0.1, classes))
            for number, label in enumerate(LABELS[:classes]):
                self.head.weight[number, TONE[label][1]] = 2.0

    def forward(self, waveform: Tensor) -> Tensor:
        window = torch.hann_window(512)
        level = torch.stft(waveform, 512, 128, window=window, return_complex=True).abs()[:, :256].log1p()
        cells = level.view(len(level), ROWS, CHANNELS, 4, -1).mean(3).transpose(1, 2)
        if self.flat:  # (batch, time, row * channel), as a transformer's
            cells = self.maps(cells.permute(0, 3, 2, 1).flatten(2))
            cells = unflatten(cells)
        else:
            cells = self.maps(cells)
        return self.head(cells.mean((2, 3)))


def unflatten(cells: Tensor) -> Tensor:
    return cells.unflatten(2, (ROWS, CHANNELS)).permute(0, 3, 2, 1)


def classifier(flat: bool = False, **options) -> External:
    return External(CellMaps(flat=flat), LABELS, RATE, layers=["maps"], reshape=unflatten if flat else None, **options)


def make() -> External:
    """For `python:cell_maps:make`."""
    return classifier()


def tone(label: str, seconds: float = 0.5, seed: int = 0, start: float = 0.0, noise: float = 0.003) -> Tensor:
    """A tone of the label's pitch from `start` seconds on, on a little noise; (samples,)."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * RATE)) / RATE
    sound = torch.sin(2 * torch.pi * PITCHES[label] * time) * (time >= start)
    level = 0.2 + 0.6 * float(torch.rand((), generator=generator))
    return level * sound + noise * torch.randn(len(time), generator=generator)


def write_clips(folder: Path, each: int = 6, seconds: float = 0.5) -> Path:
    """Tones of all labels in two folds, and clips.csv; returns its path."""
    rows = ["path,label,fold"]
    for label in LABELS:
        for number in range(2 * each):
            path = folder / f"{label}_{number}.wav"
            audio.write(path, tone(label, seconds, seed=number), RATE)
            rows.append(f"{path.name},{label},{number % 2 + 1}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"
