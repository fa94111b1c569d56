"""Dictionaries of concepts: a vector of a layer as a sum of few directions, z ~ offset + scale * sum over k of v_k u_k.

The directions u_k are the concepts, the activations v_k say how much of each a vector has. Parekh et al. (2024),
"A Concept-Based Explainability Framework for Large Multimodal Models", https://arxiv.org/abs/2406.08074, learn them by
semi-NMF (V >= 0, U free) and compare k-means and PCA. The sparse autoencoder is that of Gao et al. (2024),
https://arxiv.org/abs/2406.04093; the same kind of concepts is learnt from audio language models in
https://arxiv.org/abs/2602.22253. `random` directions are a control.

Vectors are divided by one number, their root mean square norm, so that the weight of the sparsity has the same meaning
for every layer.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.sound.nmf import NMF, coordinate_sweeps

SWEEPS = 30  # coordinate descent sweeps over the activations of vectors for fixed directions

__all__ = [
    "DICTIONARIES",
    "ConceptDictionary",
    "KMeans",
    "NonNegative",
    "PrincipalComponents",
    "RandomDirections",
    "SemiNMF",
    "TopKAutoencoder",
]


class ConceptDictionary(nn.Module):
    """Directions in a layer's vectors: `fit` learns them, `forward` gives activations, `rebuild` the vectors.

    By default, activations are those of semi-NMF: min over v >= 0 of 1/2 |z / scale - v U|^2 + sparsity * sum(v), by
    coordinate descent.

    Args:
        n_concepts: number of directions.
        channels: length of a vector.
        sparsity: weight of the sum of the activations.
        active: concepts that are active in a vector; of the sparse autoencoder only.
        seed: of everything random.
    Attributes:
        directions: (concept, channel).
        offset: (channel,), in the vectors' units.
        scale: root mean square norm of the vectors that it was learnt from.
    Raises:
        ValueError: for fewer than one concept, a negative sparsity, or fewer than one active concept.
    """

    name: ClassVar[str]
    directions: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, n_concepts: int, channels: int, sparsity: float = 0.05, active: int = 4, seed: int = 0):
        super().__init__()
        if n_concepts < 1:
            raise ValueError(f"n_concepts is {n_concepts}; a dictionary needs at least one concept")
        if not 0 <= sparsity < float("inf") or active < 1:
            raise ValueError(f"sparsity is {sparsity}, active {active}; sparsity is at least 0, active at least 1")
        self.sparsity, self.active, self.seed = sparsity, active, seed
        # Random directions, so that a dictionary which was not learnt yet is a valid one.
        start = torch.randn(n_concepts, channels, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("directions", functional.normalize(start, dim=1))
        self.register_buffer("offset", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Learns the directions from vectors (n, channel).

        Raises:
            ValueError: if there are fewer vectors than concepts, all are 0, or some are not finite.
        """
        concepts, channels = self.directions.shape
        if vectors.ndim != 2 or vectors.shape[1] != channels or len(vectors) < concepts:
            raise ValueError(f"vectors have shape {tuple(vectors.shape)}; expected at least ({concepts}, {channels})")
        if not bool(torch.isfinite(vectors).all()) or not bool(vectors.any()):
            raise ValueError("the layer's vectors are NaN, infinite or all 0; no concepts can be learnt from them")
        self.scale = vectors.square().sum(1).mean().sqrt()
        self._learn(vectors / self.scale)

    def _learn(self, vectors: Tensor) -> None:
        """Sets directions and offset for vectors of root mean square norm 1; random directions are left as drawn."""

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """Activations (n, concept) of vectors (n, channel)."""
        return self._encode((vectors - self.offset) / self.scale)

    def _encode(self, vectors: Tensor) -> Tensor:
        return _non_negative(vectors, self.directions, self.sparsity)

    def rebuild(self, activations: Tensor) -> Tensor:
        """The vectors (n, channel) that activations (n, concept) stand for."""
        return self.offset + self.scale * (activations @ self.directions)

    def activations(self, maps: Tensor) -> Tensor:
        """Activations (batch, concept, freq, time) of feature maps (batch, channel, freq, time)."""
        batch, channels, rows, columns = maps.shape
        vectors = maps.movedim(1, -1).reshape(-1, channels)
        return self(vectors).view(batch, rows, columns, -1).movedim(-1, 1)

    def parts(self, activations: Tensor) -> Tensor:
        """What each concept adds to a map, (concept, channel, freq, time); activations (concept, freq, time)."""
        return self.scale * self.directions[:, :, None, None] * activations[:, None]

    def rebuilt(self, activations: Tensor) -> Tensor:
        """The feature map (channel, freq, time) of activations (concept, freq, time)."""
        return self.rebuild(activations.movedim(0, -1)).movedim(-1, 0)


class SemiNMF(ConceptDictionary):
    """min over U, V >= 0 of 1/2 |Z - V U|^2 + sparsity * sum(V), |u_k| = 1: CoX-LMM's default.

    Ding, Li & Jordan (2010), https://doi.org/10.1109/TPAMI.2008.277, start from k-means, as here. Directions and
    activations are updated in turn by coordinate descent, as in Mairal et al. (2010), https://arxiv.org/abs/0908.0050;
    a direction that no vector uses is replaced by a vector drawn at random.

    Shape:
        vectors (n, channel) -> activations (n, concept), at least 0.

    >>> torch.manual_seed(0) is not None
    True
    >>> vectors = torch.rand(500, 2) @ torch.tensor([[1.0, 0, -1], [0, 1, 1]])
    >>> model = SemiNMF(2, 3, sparsity=0.0)
    >>> model.fit(vectors)
    >>> bool((model.rebuild(model(vectors)) - vectors).norm() < 0.005 * vectors.norm())
    True
    """

    name = "semi_nmf"
    rounds: ClassVar[int] = 100

    def _learn(self, vectors: Tensor) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        directions = functional.normalize(_k_means(vectors, len(self.directions), generator), dim=1)
        codes = _non_negative(vectors, directions, self.sparsity)
        for _ in range(self.rounds):
            gram, cross = codes.T @ codes, codes.T @ vectors
            for k in range(len(directions)):
                if gram[k, k] <= 1e-8:
                    drawn = int(torch.randint(len(vectors), (1,), generator=generator))
                    moved = vectors[drawn]
                else:
                    moved = directions[k] + (cross[k] - gram[k] @ directions) / gram[k, k]
                if bool(moved.any()):
                    directions[k] = functional.normalize(moved, dim=0)
            codes = _non_negative(vectors, directions, self.sparsity, codes, sweeps=3)
        self.directions = directions


class NonNegative(ConceptDictionary):
    """NMF of the vectors' positive part; what a layer has below 0 is left to the error.

    The NMF is `audiointerp.sound.nmf.NMF` with the Frobenius loss.

    Shape:
        vectors (n, channel) -> activations (n, concept), at least 0.
    """

    name = "nmf"

    def _learn(self, vectors: Tensor) -> None:
        concepts, channels = self.directions.shape
        if not bool((vectors > 0).any()):
            raise ValueError("the layer's vectors have no positive value; NMF cannot explain them, use semi_nmf")
        # `NMF` minimises |Z - WH|^2 + its sparsity * sum(H), without the factor 1/2 of the other dictionaries.
        model = NMF(concepts, "frobenius", 2 * self.sparsity, bins=channels, seed=self.seed).to(vectors.device)
        model.fit(vectors.clamp(min=0).T.contiguous(), iterations=60)
        self.directions = model.dictionary.T.contiguous()


class KMeans(ConceptDictionary):
    """Each vector is the nearest of K centroids, times the factor that fits it best (at least 0).

    Plain k-means would give every vector of a cluster the same activation, so that no clip would be its strongest.

    Shape:
        vectors (n, channel) -> activations (n, concept), one of them not 0.
    """

    name = "k_means"

    def _learn(self, vectors: Tensor) -> None:
        self.directions = _k_means(vectors, len(self.directions), torch.Generator().manual_seed(self.seed))

    def _encode(self, vectors: Tensor) -> Tensor:
        nearest = torch.cdist(vectors, self.directions).argmin(1)
        chosen = self.directions[nearest]
        factor = (vectors * chosen).sum(1) / chosen.square().sum(1).clamp(min=1e-12)
        return functional.one_hot(nearest, len(self.directions)) * factor.clamp(min=0)[:, None]


class PrincipalComponents(ConceptDictionary):
    """PCA: the directions of the largest variance around the mean; activations have any sign.

    The sign of a direction is chosen so that its activations have the heavier tail above 0.

    Shape:
        vectors (n, channel) -> activations (n, concept), any sign.
    """

    name = "pca"

    def __init__(self, n_concepts: int, channels: int, sparsity: float = 0.05, active: int = 4, seed: int = 0):
        super().__init__(n_concepts, channels, sparsity, active, seed)
        if n_concepts > channels:
            raise ValueError(f"n_concepts is {n_concepts}; pca gives at most one for each of {channels} channels")

    def _learn(self, vectors: Tensor) -> None:
        mean = vectors.mean(0)
        _, _, directions = torch.linalg.svd(vectors - mean, full_matrices=False)
        directions = directions[: len(self.directions)]
        skew = ((vectors - mean) @ directions.T).pow(3).mean(0)
        self.offset = mean * self.scale
        self.directions = directions * torch.where(skew < 0, -1.0, 1.0)[:, None]

    def _encode(self, vectors: Tensor) -> Tensor:
        return vectors @ self.directions.T


class TopKAutoencoder(ConceptDictionary):
    """Sparse autoencoder: v = the `active` largest of relu(W (z - b) + c), z ~ b + v U, |u_k| = 1.

    Gao et al. (2024), https://arxiv.org/abs/2406.04093, without their auxiliary loss: a concept that is active in no
    vector of 300 steps starts again from a vector that is rebuilt badly.

    Shape:
        vectors (n, channel) -> activations (n, concept), at least 0, at most `active` not 0.
    Raises:
        ValueError: if more concepts shall be active than there are.
    """

    name = "sparse_autoencoder"
    steps: ClassVar[int] = 1800
    batch: ClassVar[int] = 256
    every: ClassVar[int] = 300
    encoder: Tensor
    bias: Tensor

    def __init__(self, n_concepts: int, channels: int, sparsity: float = 0.05, active: int = 4, seed: int = 0):
        super().__init__(n_concepts, channels, sparsity, active, seed)
        if active > n_concepts:
            raise ValueError(f"active is {active}; a dictionary of {n_concepts} concepts has at most as many active")
        self.register_buffer("encoder", self.directions.clone())
        self.register_buffer("bias", torch.zeros(n_concepts))

    def _learn(self, vectors: Tensor) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        before = vectors.mean(0)
        directions = self.directions.clone()
        weights = [directions, directions.clone(), torch.zeros_like(self.bias), before.clone()]
        with torch.enable_grad():
            for each in weights:
                each.requires_grad_()
            optimiser = torch.optim.Adam(weights, lr=3e-3)
            used = torch.zeros(len(directions), dtype=torch.bool, device=vectors.device)
            for step in range(self.steps):
                drawn = torch.randint(len(vectors), (self.batch,), generator=generator).to(vectors.device)
                batch = vectors[drawn]
                codes = _top(batch - weights[3], weights[1], weights[2], self.active)
                error = batch - weights[3] - codes @ weights[0]
                optimiser.zero_grad()
                error.square().sum(1).mean().backward()
                optimiser.step()
                used |= (codes.detach() > 0).any(0)
                with torch.no_grad():
                    weights[0].copy_(functional.normalize(weights[0], dim=1))
                    if (step + 1) % self.every == 0 and step + 1 < self.steps:
                        worst = functional.normalize(error[error.square().sum(1).argsort(descending=True)], dim=1)
                        dead = (~used).nonzero()[:, 0][: len(worst)]
                        weights[0][dead] = worst[: len(dead)]
                        weights[1][dead] = worst[: len(dead)]
                        used.zero_()
        self.directions, self.encoder, self.bias = (each.detach() for each in weights[:3])
        self.offset = weights[3].detach() * self.scale

    def _encode(self, vectors: Tensor) -> Tensor:
        return _top(vectors, self.encoder, self.bias, self.active)


class RandomDirections(ConceptDictionary):
    """A control: directions drawn at random; activations as in semi-NMF."""

    name = "random"


DICTIONARIES: dict[str, type[ConceptDictionary]] = {
    each.name: each for each in (SemiNMF, KMeans, PrincipalComponents, NonNegative, TopKAutoencoder, RandomDirections)
}


def _non_negative(
    vectors: Tensor, directions: Tensor, sparsity: float, start: Tensor | None = None, sweeps: int = SWEEPS
) -> Tensor:
    """Activations (n, concept) >= 0 of least squares plus sparsity * their sum, for fixed directions."""
    gram = directions @ directions.T
    cross = (vectors @ directions.T - sparsity).T.contiguous()
    codes = torch.zeros_like(cross) if start is None else start.T.contiguous()
    coordinate_sweeps(codes, gram, cross, sweeps)
    return codes.T


def _top(vectors: Tensor, encoder: Tensor, bias: Tensor, active: int) -> Tensor:
    found = (vectors @ encoder.T + bias).relu()
    kept = found.topk(active, dim=1)
    return torch.zeros_like(found).scatter(1, kept.indices, kept.values)


def _k_means(vectors: Tensor, count: int, generator: torch.Generator, rounds: int = 25) -> Tensor:
    """Centroids (count, channel) of Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii, 2007).

    A centroid that loses all its vectors moves to the vector that is farthest from its own.
    """
    first = int(torch.randint(len(vectors), (1,), generator=generator))
    chosen, gap = [first], (vectors - vectors[first]).square().sum(1)
    for _ in range(count - 1):
        # Equal vectors have no gap; any vector is then as good as another.
        weights = gap if bool(gap.any()) else torch.ones_like(gap)
        total = weights.double().cumsum(0).cpu()
        at = float(torch.rand((), generator=generator, dtype=torch.float64)) * float(total[-1])
        chosen.append(min(int(torch.searchsorted(total, at, right=True)), len(vectors) - 1))
        gap = torch.minimum(gap, (vectors - vectors[chosen[-1]]).square().sum(1))
    centroids = vectors[chosen].clone()
    for _ in range(rounds):
        distance, nearest = torch.cdist(vectors, centroids).min(1)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors)
        new = sums / sizes.clamp(min=1)[:, None]
        empty = (sizes == 0).nonzero()[:, 0]
        new[empty] = vectors[distance.argsort(descending=True)[: len(empty)]]
        if torch.equal(new, centroids):
            break
        centroids = new
    return centroids
