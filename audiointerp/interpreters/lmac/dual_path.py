"""A dual-path transformer: the network that makes LMAC-TD's masks.

Subakan et al. (2021), "Attention is all you need in speech separation" (SepFormer), https://arxiv.org/abs/2010.13154,
section 2.2, after Luo et al. (2020), "Dual-path RNN", https://arxiv.org/abs/1910.06379. A long sequence is cut into
chunks that overlap by half. Transformers look along each chunk, then across all chunks at one place in them, so that
every frame reaches every other one at the cost of short sequences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 16  # channels of an attention head

__all__ = ["DualPath"]


class DualPath(nn.Module):
    """Frames (batch, width, frames) -> (batch, width, frames), each made from all.

    Args:
        width: channels, a multiple of 16: each head of the attention has 16.
        chunk: frames of a chunk, an even number.
        blocks: number of passes along and across the chunks.
        depth: layers along the chunks and layers across them, in each block.
    Raises:
        ValueError: for a size that cannot be used.
    """

    def __init__(self, width: int, chunk: int, blocks: int, depth: tuple[int, int]):
        super().__init__()
        if width < HEAD or width % HEAD or chunk < 2 or chunk % 2 or blocks < 1 or len(depth) != 2 or min(depth) < 1:
            raise ValueError(
                f"a dual path of width {width}, chunk {chunk}, {blocks} blocks and depth {tuple(depth)} is not "
                f"possible; the width is a multiple of {HEAD}, the chunk an even number, and depth two numbers from 1"
            )
        self.chunk = chunk
        self.along = nn.ModuleList(_Path(width, depth[0]) for _ in range(blocks))
        self.across = nn.ModuleList(_Path(width, depth[1]) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """The frames after all blocks."""
        batch, width, frames = x.shape
        half = self.chunk // 2
        number = -(-frames // half) + 1  # chunks; two of them contain each frame
        padded = functional.pad(x, (half, number * half - frames))
        chunks = padded.unfold(2, self.chunk, half).permute(0, 2, 3, 1)  # (batch, chunks, chunk, width)
        for along, across in zip(self.along, self.across):
            chunks = along(chunks.flatten(0, 1)).view(batch, number, self.chunk, width)
            turned = across(chunks.transpose(1, 2).flatten(0, 1))
            chunks = turned.view(batch, self.chunk, number, width).transpose(1, 2)
        first, second = chunks.chunk(2, 2)
        made = (second[:, :-1] + first[:, 1:]) / 2
        return made.reshape(batch, -1, width)[:, :frames].transpose(1, 2)


class _Path(nn.Module):
    """x + norm(layers(x + position)), (rows, length, width), as SepFormer's intra and inter transformers."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, width // HEAD, 4 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        made = x + _positions(x.shape[1], x.shape[2]).to(x)
        for layer in self.layers:
            made = layer(made)
        return x + self.norm(made)


def _positions(length: int, width: int) -> Tensor:
    """Sines and cosines of the places 0 to length - 1, (length, width): Vaswani et al. (2017), section 3.5."""
    rate = torch.exp(-math.log(10_000) / width * torch.arange(0, width, 2))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
