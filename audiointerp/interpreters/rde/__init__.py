"""Rate-distortion explanations: the fewest parts of an input that must stay for a model's scores to stay.

MacDonald et al. (2019), https://arxiv.org/abs/1905.11092; with plausible fillers, Heiss et al. (2020),
https://arxiv.org/abs/2007.00758, equation 1: min over s of 1/2 E |Phi(x) - Phi(z)|^2 + lambda |s|, z = x s + n (1 - s).
A `Problem` says what the parts are; `Concrete`, `Relaxed` and `MatchingPursuit` look for those that matter. `RDE`
explains clips, in parts of their STFT; `BandRDE` explains notes, in log-frequency bands.

Two games (Chang et al., 2019, https://arxiv.org/abs/1807.08024): "sufficient", the fewest parts that, kept, keep the
scores; "deletion", the fewest that, taken away, bring the target's score down: min of lambda |1 - s| - E[Phi(x) -
Phi(z)].

|s| is the mean over the parts (a sum of a thousand would dwarf any distortion), and lambda = `weight` times what is at
stake, D(nothing kept) or the fall of the score there, for logits have no fixed scale.

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
from audiointerp.interpreters.rde.clips import RDE
from audiointerp.interpreters.rde.inpainter import Inpainter
from audiointerp.interpreters.rde.problem import Problem, Solution
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed, Solver

__all__ = ["RDE", "BandRDE", "Concrete", "Inpainter", "MatchingPursuit", "Problem", "Relaxed", "Solution", "Solver"]
