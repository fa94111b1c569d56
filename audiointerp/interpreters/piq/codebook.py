"""Vector quantisation with a codebook whose codes belong to classes.

van den Oord et al. (2017), "Neural Discrete Representation Learning", https://arxiv.org/abs/1711.00937; partitioned by
class in Paissan et al. (2023), https://arxiv.org/abs/2303.12659, section 2. Departures:

1. Class c has floor((c + 1) K / C) - floor(c K / C) codes, so that block sizes differ by at most one (the released code
   rounds differently; give its block bounds as `offsets` to use weights copied from it).
2. Shared codes may be chosen in training and in evaluation (the released code excludes them in training).
3. Distances are computed to the codes that a clip may use only, not to all K codes.
4. The gradient may be that of a soft choice (option `temperature`).
5. Blocks are initialised from the first latent vectors of their class; codes that were not used for an epoch move to
   the vectors with the largest quantisation error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.processes import dividing

__all__ = ["ClassCodebook", "Quantized", "even_offsets"]


@dataclass(frozen=True)
class Quantized:
    """The result of quantising vectors with the codebook.

    Attributes:
        quantized: (batch, channel, freq, time), the code vectors; gradients pass straight through to the input.
        codes: (batch, freq, time), indices into the codebook.
        codebook_loss: mean squared distance of vectors and codes, with a gradient for the codes only.
        commitment_loss: the same distance, with a gradient for the vectors only.
    """

    quantized: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


def even_offsets(codes: int, classes: int, taking_part: Sequence[int] | None = None) -> Tensor:
    """Bounds of the classes' blocks, (classes + 1,): block c is floor(cK/C) .. floor((c+1)K/C).

    With `taking_part` only these classes have codes, and C is their number; the blocks of the others are empty.

    >>> even_offsets(10, 3)
    tensor([ 0,  3,  6, 10])
    >>> even_offsets(10, 4, [1, 3])
    tensor([ 0,  0,  5,  5, 10])
    """
    if taking_part is None:
        return torch.arange(classes + 1) * codes // classes
    before = torch.zeros(classes + 1, dtype=torch.long)
    before[torch.tensor(sorted(set(taking_part))) + 1] = 1
    before = before.cumsum(0)
    return before * codes // before[-1]


class ClassCodebook(nn.Module):
    """K codes: one block for each class and a block shared by all classes.

    Args:
        classes: number of classes; without `offsets` each needs at least one code.
        codes: K, shared codes included.
        dim: length of a code vector.
        shared: number of codes, at the end of the codebook, that every class may use.
        normalize: quantise on the unit sphere: vectors and codes are L2-normalised first (the paper's appendix D).
        temperature: None: the gradient passes straight through (the paper). A number: the gradient is that of a softmax
            over the candidates' negative squared distances at this temperature (Agustsson et al., 2017,
            https://arxiv.org/abs/1704.00648), so that the decoder's loss also trains the codes; the same codes are
            chosen.
        offsets: (classes + 1,) block bounds; a class may have an empty block; None: even blocks.
    Shape:
        vectors (batch, dim, freq, time), allowed (batch, classes) bool -> Quantized.
    Raises:
        ValueError: if there are fewer codes than classes.

    >>> codebook = ClassCodebook(classes=2, codes=8, dim=4)
    >>> out = codebook(torch.randn(1, 4, 3, 5), torch.tensor([[False, True]]))
    >>> out.codes.shape, bool((out.codes >= 4).all())
    (torch.Size([1, 3, 5]), True)
    """

    offsets: Tensor
    usage: Tensor
    dead: Tensor

    def __init__(
        self,
        classes: int,
        codes: int,
        dim: int,
        shared: int = 0,
        normalize: bool = False,
        temperature: float | None = None,
        offsets: Tensor | None = None,
    ):
        super().__init__()
        if offsets is None and codes - shared < classes:
            raise ValueError(f"{codes} codes, {shared} of them shared, cannot give each of {classes} classes one")
        self.classes, self.shared, self.normalize, self.temperature = classes, shared, normalize, temperature
        bounds = even_offsets(codes - shared, classes) if offsets is None else offsets
        self.register_buffer("offsets", bounds)
        self.register_buffer("usage", torch.zeros(codes, dtype=torch.long), persistent=False)
        self.register_buffer("dead", torch.zeros(codes, dtype=torch.bool))
        self.weight = nn.Parameter(torch.empty(codes, dim).uniform_(-1 / codes, 1 / codes))

    def forward(self, vectors: Tensor, allowed: Tensor) -> Quantized:
        """Nearest candidate code of each vector; a row's candidates are its classes' blocks and the shared block."""
        vectors = functional.normalize(vectors, dim=1) if self.normalize else vectors
        flat = vectors.flatten(2).transpose(1, 2)
        if self.training and self.dead.any():
            self._revive(dividing.gathered(flat), dividing.gathered(allowed))
        codebook = functional.normalize(self.weight, dim=1) if self.normalize else self.weight
        candidates, usable = self.candidates(allowed)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.temperature is not None):
            choices = codebook[candidates]
            # |v - c|^2 = |v|^2 - 2 v.c + |c|^2, and |v|^2 is the same for every candidate.
            distance = torch.baddbmm(choices.square().sum(2)[:, None], flat, choices.transpose(1, 2), alpha=-2)
            distance = distance.masked_fill(~usable[:, None], torch.inf)
            codes = candidates.gather(1, distance.argmin(2))
        if self.training:
            self.usage += dividing.summed(codes.flatten().bincount(minlength=len(self.usage)))
        chosen = functional.embedding(codes, codebook)
        codebook_loss = functional.mse_loss(chosen, flat.detach())
        commitment_loss = functional.mse_loss(flat, chosen.detach())
        smooth = flat if self.temperature is None else (-distance / self.temperature).softmax(2) @ choices
        straight = smooth + (chosen - smooth).detach()
        shape = (len(flat), *vectors.shape[2:])
        return Quantized(
            straight.transpose(1, 2).reshape_as(vectors), codes.view(shape), codebook_loss, commitment_loss
        )

    def candidates(self, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the codes each row may use, padded to (batch, most), and a mask, False at the padding."""
        shared = self.owner[None] < 0
        member = shared | allowed[:, self.owner.clamp(min=0)]
        most = int(member.sum(1).max())
        order = member.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
        return order, member.gather(1, order)

    @property
    def owner(self) -> Tensor:
        """Class of each code, (codes,); -1 for the shared ones."""
        index = torch.arange(len(self.weight), device=self.offsets.device)
        owner = torch.searchsorted(self.offsets, index, right=True) - 1
        return owner.masked_fill(owner >= self.classes, -1)

    @torch.no_grad()
    def start_from(self, batches: Iterable[tuple[Tensor, Tensor]], most: int = 4096, rounds: int = 10) -> None:
        """Sets each class's block to the k-means centres of a random selection of its vectors.

        Args:
            batches: pairs of vectors (batch, dim, freq, time) and allowed classes (batch, classes).
            most: number of vectors used per class.
            rounds: Lloyd iterations.
        """
        pools: list[list[Tensor]] = [[] for _ in range(self.classes)]
        for vectors, allowed in batches:
            vectors = functional.normalize(vectors, dim=1) if self.normalize else vectors
            flat = vectors.flatten(2).transpose(1, 2)
            for row, label in allowed.nonzero().tolist():
                pools[label].append(flat[row])
        everything = [torch.cat(pool) for pool in pools if pool]
        for label, pool in enumerate(pools):
            if pool:
                self._start_block(self.owner == label, torch.cat(pool), most, rounds)
        if self.shared and everything:
            self._start_block(self.owner < 0, torch.cat(everything), most, rounds)

    def _start_block(self, block: Tensor, pool: Tensor, most: int, rounds: int) -> None:
        pool = pool[torch.randperm(len(pool))[:most].to(pool.device)]
        wanted = int(block.sum())
        centres = pool[torch.arange(wanted, device=pool.device) % len(pool)]
        for _ in range(rounds):
            nearest = torch.cdist(pool, centres).argmin(1)
            count = nearest.bincount(minlength=wanted)[:, None]
            total = torch.zeros_like(centres).index_add_(0, nearest, pool)
            centres = torch.where(count > 0, total / count.clamp(min=1), centres)
        self.weight[block] = centres

    def end_epoch(self) -> None:
        """Marks the codes that were not chosen since the last call, to be moved with the next clips of their class."""
        # One entry per class; the last entry, index -1, is for the shared codes.
        seen = torch.zeros(self.classes + 1, dtype=torch.bool, device=self.usage.device)
        seen[self.owner[self.usage > 0]] = True
        self.dead = (self.usage == 0) & seen[self.owner]
        self.usage.zero_()

    @torch.no_grad()
    def _revive(self, flat: Tensor, allowed: Tensor) -> None:
        """Moves a class's dead codes to the vectors of its clips that are furthest from its other codes."""
        for label in allowed.any(0).nonzero()[:, 0].tolist():
            block, rows = self.owner == label, allowed[:, label]
            lost = (block & self.dead).nonzero()[:, 0]
            alive = block & ~self.dead
            if len(lost) == 0 or not alive.any():
                continue
            pool = flat[rows].flatten(0, 1)
            codes = functional.normalize(self.weight[alive], dim=1) if self.normalize else self.weight[alive]
            worst = torch.cdist(pool, codes).amin(1).topk(min(len(lost), len(pool))).indices
            self.weight[lost[: len(worst)]] = pool[worst]
            self.dead[lost] = False

    def perplexity(self) -> Tensor:
        """exp(entropy) of the use of each class's codes this epoch, (classes,): 1 = one code, K / C = all equally."""
        used = self.usage.double()
        result = []
        for label in range(self.classes):
            share = used[self.owner == label]
            share = share / share.sum().clamp(min=1)
            result.append(torch.special.entr(share).sum().exp())
        return torch.stack(result)
