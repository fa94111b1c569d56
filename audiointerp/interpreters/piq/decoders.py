"""Decoders from quantised codes to a mask on the STFT grid: PIQ's decoder as released, and a lighter one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.interpreters.piq.upsampling import FastConvTranspose2d, NormalizedUpsampling

__all__ = ["Decoder", "LightDecoder"]


class Decoder(nn.Module):
    """PIQ's released decoder: quantised latent (batch, channel, freq / 32, time / 32) -> mask logits.

    n rows (or columns) of codes give 32 n + 1 bins (or frames), cropped to the size of the input.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.up = FastConvTranspose2d(channels, channels, 4, stride=2, padding=1)
        self.first = FastConvTranspose2d(channels, channels, 3, stride=2, padding=1)
        self.stages = nn.Sequential(
            *(NormalizedUpsampling(channels, channels, 4, stride=2, padding=1) for _ in range(3)),
            NormalizedUpsampling(channels, 1, 12, padding=1),
        )

    def forward(self, latent: Tensor, log_magnitude: Tensor) -> Tensor:
        """Logits (batch, freq, time), cropped to the size of the input's log-magnitude."""
        logits = self.stages(self.first(self.up(latent)))
        return _crop(logits, log_magnitude)[:, 0]


class LightDecoder(nn.Module):
    """A decoder whose convolutions stop at half the resolution: a tenth of the operations; a departure from the paper.

    Args:
        channels: channels of the codes.
        stride: bins and frames per code, a power of two from 8.
        width: channels of the maps at half resolution.
        detail: the last layers also read the clip's log-magnitude, so that the mask can follow a partial or an onset,
            which the codes (one per 500 Hz x 0.37 s at stride 32) do not resolve. The target class enters through the
            codes alone.
        masks: number of masks; one by default.
    """

    def __init__(self, channels: int, stride: int = 32, width: int = 16, detail: bool = False, masks: int = 1):
        super().__init__()
        self.detail = detail
        doublings = stride.bit_length() - 2  # up to half the resolution
        widths = (channels,) * (doublings - 1) + (width,) * 2
        self.widths = widths[1:]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    FastConvTranspose2d(before, after, 4, stride=2, padding=1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                )
                for before, after in pairwise(widths)
            )
        )
        inputs = width + 4 if detail else width
        self.join = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(width, 4 * masks, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, latent: Tensor, log_magnitude: Tensor, skips: Sequence[Tensor | None] = ()) -> Tensor:
        """Logits (batch, freq, time) of the first mask, see `every_mask`."""
        return self.every_mask(latent, log_magnitude, skips)[:, 0]

    def every_mask(self, latent: Tensor, log_magnitude: Tensor, skips: Sequence[Tensor | None] = ()) -> Tensor:
        """Logits (batch, masks, freq, time), cropped to the size of the input's log-magnitude.

        Args:
            latent: (batch, channels, freq / stride, time / stride).
            log_magnitude: of the clip, (batch, freq, time).
            skips: finer maps, which are added to the result of each stage, as in a U-Net; none by default. Stage i,
                from 0, has twice the rows and columns of the one before, and `widths[i]` channels.
        """
        x = latent
        for stage, skip in zip_longest(self.stages, skips):
            x = stage(x) if skip is None else stage(x) + skip
        if self.detail:
            # Four neighbouring bins become four channels at half the resolution, so that no value is lost.
            size = [2 * each for each in x.shape[2:]]
            grid = functional.pad(
                log_magnitude, (0, size[1] - log_magnitude.shape[2], 0, size[0] - log_magnitude.shape[1])
            )
            fine = functional.pixel_unshuffle(grid.unsqueeze(1), 2)
            x = torch.cat([x, fine.to(memory_format=torch.channels_last)], 1)
        return _crop(functional.pixel_shuffle(self.last(self.join(x)), 2), log_magnitude)


def _crop(logits: Tensor, log_magnitude: Tensor) -> Tensor:
    """(batch, masks, freq', time') -> the input's grid; a missing last row or column repeats the one before."""
    (freq, time), (have_freq, have_time) = log_magnitude.shape[1:], logits.shape[2:]
    if freq > have_freq or time > have_time:
        logits = functional.pad(logits, (0, max(0, time - have_time), 0, max(0, freq - have_freq)), mode="replicate")
    return logits[..., :freq, :time]
