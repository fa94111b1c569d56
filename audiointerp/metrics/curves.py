"""Insertion and deletion at equal energy: the class's probability as the mask's highest bins are added or removed.

Petsiuk et al. (2018), https://arxiv.org/abs/1806.07421, on spectrograms, with one change: the axis is the clip's
energy, not the number of bins. A few loud bins hold most of a clip's energy, so at equal area a mask that ranks loud
bins first scores well; at equal energy, loudness alone gives no advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiointerp.metrics.shapes import check_alike

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # midpoints of five equal parts of the energy

__all__ = ["SHARES", "energy_ranked_masks", "insertion_and_deletion"]


def energy_ranked_masks(mask: Tensor, magnitude: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """Masks (batch, share, freq, time), in the magnitude domain, that keep the highest-ranked bins of each clip.

    Bins are added in falling order of the mask until they hold the share of the clip's energy (power of the STFT). Bins
    of equal mask value are added together, attenuated so that the energy is exact, because the mask does not rank them.

    Args:
        mask: (batch, freq, time), the ranking.
        magnitude: (batch, freq, time), linear amplitude.
        shares: of the energy, in (0, 1).

    >>> ranked = energy_ranked_masks(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]]), (0.5, 0.75))
    >>> ranked.square()
    tensor([[[[1.0000, 0.0000]],
             [[1.0000, 0.5000]]]])
    """
    check_alike(3, mask=mask, magnitude=magnitude)
    power = magnitude.double().square().flatten(1)
    ranks, order = mask.flatten(1).sort(1, descending=True)
    cumulated = power.gather(1, order).cumsum(1)
    first = torch.ones_like(ranks, dtype=torch.bool)
    first[:, 1:] = ranks[:, 1:] != ranks[:, :-1]
    # Summed energy before and after each bin's group of equal values, taken from the group's first and last bin.
    before = torch.where(first, cumulated - power.gather(1, order), -torch.inf).cummax(1).values
    last = first.roll(-1, 1)
    last[:, -1] = True
    after = torch.where(last, cumulated, torch.inf).flip(1).cummin(1).values.flip(1)
    wanted = torch.as_tensor(shares, dtype=torch.float64, device=mask.device)[None, :, None] * cumulated[:, None, -1:]
    held = (after - before)[:, None].clamp(min=1e-300)
    kept = ((wanted - before[:, None]) / held).clamp(0, 1).sqrt()
    out = torch.zeros_like(kept).scatter(2, order[:, None].expand_as(kept), kept)
    return out.to(magnitude.dtype).view(len(mask), len(shares), *mask.shape[1:])


def insertion_and_deletion(
    mask: Tensor, stft: Tensor, probability: Callable[[Tensor], Tensor], shares: Sequence[float] = SHARES
) -> tuple[Tensor, Tensor]:
    """Mean probability of the target class for the mask's highest bins alone, and for the clip without them.

    The mean over the shares is the area under the curve by the midpoint rule. Insertion: higher is better; deletion:
    lower. Both keep (or remove) the same energy whatever the mask.

    Args:
        mask: (batch, freq, time).
        stft: complex, (batch, freq, time).
        probability: complex STFTs (batch * share, freq, time), a clip's shares in successive rows -> (batch * share,).
        shares: of the energy.

    Returns:
        Two tensors (batch,); NaN for silent clips.
    """
    masks = energy_ranked_masks(mask, stft.abs(), shares)
    silent = stft.abs().amax((1, 2)) == 0
    scores = []
    for each in (masks, (1 - masks.square()).clamp(min=0).sqrt()):
        heard = probability((stft[:, None] * each).flatten(0, 1)).view(len(mask), len(shares)).mean(1)
        scores.append(heard.masked_fill(silent, torch.nan))
    return scores[0], scores[1]
