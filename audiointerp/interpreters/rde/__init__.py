"""Rate-distortion explanations: the fewest parts of an input that must be kept so that a model's scores hardly change.

MacDonald et al. (2019), https://arxiv.org/abs/1905.11092; with plausible fillers, Heiss et al. (2020),
https://arxiv.org/abs/2007.00758, equation 1: min over s of 1/2 E |Phi(x) - Phi(z)|^2 + lambda |s|, z = x s + n (1 - s).
A `Problem` defines the parts; the solvers `Concrete`, `Relaxed` and `MatchingPursuit` choose among them. `RDE` explains
clips in parts of their STFT; `BandRDE` explains notes in log-frequency bands.

There are two objectives, called games (Chang et al., 2019, https://arxiv.org/abs/1807.08024). "sufficient": the fewest
parts that preserve the scores when only they are kept. "deletion": the fewest parts that lower the target's score when
they are removed, min of lambda |1 - s| - E[Phi(x) - Phi(z)].

|s| is the mean over the parts: a sum over a thousand parts would be far larger than any distortion. Logits have no
fixed scale, so lambda is `weight` times D(nothing kept), or in the deletion game times the fall of the score there.

>>> class Weighted(Problem):
...     count = 3
...     def draw(self, n, generator):
...         return torch.randn(n, 3, generator=generator)
...     def change(self, keep, drawn):
...         return ((1 - keep) * drawn * torch.tensor([0.1, 5.0, 0.2])).sum(1, keepdim=True)
>>> import torch
>>> MatchingPursuit().solve(Weighted()).order
tensor([1])
"""

from audiointerp.interpreters.rde.bands import BandRDE
from audiointerp.interpreters.rde.cartoonx import CartoonX
from audiointerp.interpreters.rde.clips import RDE
from audiointerp.interpreters.rde.inpainter import Inpainter
from audiointerp.interpreters.rde.problem import Problem, Solution
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed, Solver

__all__ = [
    "RDE",
    "BandRDE",
    "CartoonX",
    "Concrete",
    "Inpainter",
    "MatchingPursuit",
    "Problem",
    "Relaxed",
    "Solution",
    "Solver",
]
