"""Layers that look at all rows of a batch which is divided among processes, where torch's look at those of one process.

torch's own `SyncBatchNorm` refuses tensors on the CPU, and its dropout draws for the rows that it sees.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.processes import dividing

__all__ = ["share_layers"]


def share_layers(module: nn.Module) -> None:
    """Makes every batch normalisation and dropout layer of a module look at divided batches, in place.

    Parameters, buffers, their names and what the layers compute for a whole batch stay as they are. Dropout by the
    function `torch.nn.functional.dropout` is left as it is.
    """
    for each in module.modules():
        if type(each) in _SHARED:
            each.__class__ = _SHARED[type(each)]  # as torch's parametrizations do: whoever holds the layer has it, too


class _SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of the rows of all processes (Ioffe and Szegedy, 2015, algorithm 1).

    Shape:
        (batch, channel, ...) -> the same shape.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or dividing.divided() is None:
            return super().forward(input)
        values, axes = input.float() if input.dtype.itemsize < 4 else input, [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        number = values.new_tensor([values.numel() / values.shape[1]])
        sums = dividing.summed(torch.cat([values.sum(axes), number]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        # The variance from centred values, as a difference of two large sums would lose digits.
        variance = dividing.summed((values - mean.view(shape)).square().sum(axes)) / count
        self._move_running(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        output = (values - mean.view(shape)) * scale.view(shape)
        return (output + self.bias.view(shape) if self.affine else output).to(input.dtype)

    @torch.no_grad()
    def _move_running(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics towards those of a batch, as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)


class _SharedNorm1d(_SharedNorm, nn.BatchNorm1d):
    pass


class _SharedNorm2d(_SharedNorm, nn.BatchNorm2d):
    pass


class _SharedDropout(nn.Dropout):
    """Dropout whose random numbers are drawn for the rows of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        share = dividing.divided()
        if not self.training or share is None or len(input) != share.last - share.first:
            return super().forward(input)
        # Numbers are drawn in the order of memory, in which the axes may stand in another order than in the shape.
        order = [0, *sorted(range(1, input.ndim), key=lambda axis: -input.stride(axis))]
        ones = input.new_ones(share.total, *(input.shape[axis] for axis in order[1:]))
        ones = ones.permute(*(order.index(axis) for axis in range(input.ndim)))
        return input * dividing.own(functional.dropout(ones, self.p, True))


_SHARED: dict[type, type] = {
    nn.BatchNorm1d: _SharedNorm1d,
    nn.BatchNorm2d: _SharedNorm2d,
    nn.Dropout: _SharedDropout,
}
