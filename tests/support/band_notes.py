"""Notes as log-frequency features, drawn without a sound: levels, cosines and sines of each band."""

from math import pi

import torch

BANDS = 32


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def notes(count=12, bands=BANDS, seed=0):
    """Three partials at log distances on a faint floor, with phases that turn with the band."""
    generator = seeded(seed)
    base = torch.randint(0, bands // 2, (count, 1), generator=generator)
    level = 0.1 * torch.rand(count, bands, generator=generator)
    level.scatter_(1, base + torch.tensor([0, bands // 4, bands // 3]), 3.0)
    angle = 2 * pi * torch.rand(count, 1, generator=generator) + 0.5 * torch.arange(bands)
    return torch.stack([level, angle.cos(), angle.sin()], 1)
