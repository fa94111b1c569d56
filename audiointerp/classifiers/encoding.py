"""The layers of a convolutional encoder, with an order of operations that is fast on CPUs.

A `Stage` is a convolution, a batch normalisation and a ReLU, `ImageStage` one of a one-channel image; `HalvingConv2d`
replaces `torch.nn.Conv2d`. Results and parameters are those of torch's layers, up to rounding.

1. A convolution of one channel leaves most of a vector register idle, and the passes of a batch normalisation over its
   large output take longer than the arithmetic. In training `ImageStage` takes the statistics of the convolution's
   output from those of its input, folds the normalisation into the kernel, and keeps one large tensor instead of three.
2. oneDNN's convolutions of these shapes are faster in channels-last order, but without AVX-512 their weight gradients
   take less than half the time in torch's default order (8 clips of 5 s, 32 channels: 0.08 instead of 0.2 s).
3. Where nothing is trained and no gradient asked for, a stage folds its normalisation into the kernel and has one pass
   over its output instead of three.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from audiointerp.processes import dividing

__all__ = ["HalvingConv2d", "ImageStage", "Stage", "update_running"]


class Stage(nn.Sequential):
    """relu(norm(conv(x))), with a batch normalisation.

    Args:
        conv: a convolution with a bias.

    >>> Stage(HalvingConv2d(8, 4))(torch.zeros(1, 8, 16, 14)).shape
    torch.Size([1, 4, 8, 7])
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))

    def forward(self, input: Tensor) -> Tensor:
        """Feature maps (batch, channel, freq, time)."""
        conv, norm = cast(nn.Conv2d, self[0]), cast(nn.BatchNorm2d, self[1])
        # Hooks must see the layers' own outputs; with a gradient or in lower precision torch's layers are used.
        plain = input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if norm.training or torch.is_grad_enabled() or not plain or self._is_watched():
            return super().forward(input)
        assert norm.running_mean is not None and norm.running_var is not None and conv.bias is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = (conv.bias - norm.running_mean) * scale + norm.bias
        return torch.conv2d(input, conv.weight * scale[:, None, None, None], bias, conv.stride, conv.padding).relu_()

    def _is_watched(self) -> bool:
        return any(each._forward_hooks or each._forward_pre_hooks or each._backward_hooks for each in self)


class ImageStage(Stage):
    """relu(norm(conv(image))) of a one-channel image; half as many rows and columns, `channels` channels.

    Shape:
        (batch, 1, freq, time) -> (batch, channels, freq // 2, time // 2).

    >>> ImageStage(8)(torch.zeros(2, 1, 16, 14)).shape
    torch.Size([2, 8, 8, 7])
    """

    def __init__(self, channels: int):
        super().__init__(nn.Conv2d(1, channels, 4, stride=2, padding=1))

    def forward(self, input: Tensor) -> Tensor:
        """Feature maps; in training, normalised by the batch's statistics, which also update the running ones."""
        if not self._is_one_operation(input):
            return super().forward(input)
        conv, norm = cast(nn.Conv2d, self[0]), cast(nn.BatchNorm2d, self[1])
        patches, size = _patches(input)
        centre = patches.mean(0)
        patches -= centre
        output, mean, variance = _NormalizedImage.apply(
            patches, centre, conv.weight.flatten(1), conv.bias, norm.weight, norm.bias, norm.eps
        )
        update_running(norm, mean, variance * (len(patches) / (len(patches) - 1)))
        return output.view(*size, -1).permute(0, 3, 1, 2)

    def _is_one_operation(self, input: Tensor) -> bool:
        """Whether a whole batch is trained on, on a CPU, an image without gradient, and nothing watches its layers."""
        trains = cast(nn.BatchNorm2d, self[1]).training and torch.is_grad_enabled() and not input.requires_grad
        several = len(input) * (input.shape[2] // 2) * (input.shape[3] // 2) > 1  # else torch raises an error
        plain = input.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and several
        return trains and plain and not self._is_watched() and dividing.divided() is None


class HalvingConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with a kernel of 4 x 4, stride 2 and padding 1, in channels-last order.

    Shape:
        (batch, in_channels, freq, time) -> (batch, out_channels, freq // 2, time // 2).

    >>> HalvingConv2d(8, 8)(torch.zeros(1, 8, 16, 14)).shape
    torch.Size([1, 8, 8, 7])
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Feature maps."""
        trains = self.training and torch.is_grad_enabled() and self.weight.requires_grad
        if not trains or input.device.type != "cpu" or input.ndim != 4 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return _Halving.apply(input.contiguous(memory_format=torch.channels_last), self.weight, self.bias)


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Moves a batch normalisation's running statistics towards those of a batch, (channel,), as torch does."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


def _patches(image: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """The 4 x 4 patches (pixel, value) of a one-channel image at stride 2 and padding 1; batch, rows and columns."""
    windows = functional.pad(image[:, 0], (1, 1, 1, 1)).unfold(1, 4, 2).unfold(2, 4, 2)
    return windows.reshape(-1, 16), (windows.shape[0], windows.shape[1], windows.shape[2])


class _NormalizedImage(torch.autograd.Function):
    """relu(gamma (y - mean(y)) / deviation(y) + beta), y = W (p + m) + bias: (pixel, value) -> (pixel, channel).

    p are centred patches with covariance C, and m their mean, so that mean(y) = W m + bias and variance(y) is the
    diagonal of W C W'. The bias is in mean(y) alone: its gradient is zero.
    """

    @staticmethod
    def forward(ctx, patches, centre, weight, bias, gamma, beta, eps):
        by_covariance = weight @ (patches.t() @ patches / len(patches))
        mean, variance = weight @ centre + bias, (by_covariance * weight).sum(1)
        scale = (variance + eps).rsqrt()
        output = torch.addmm(beta, patches, ((gamma * scale)[:, None] * weight).t()).relu_()
        ctx.save_for_backward(patches, output, weight, gamma, scale, by_covariance)
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, *_):
        patches, output, weight, gamma, scale, by_covariance = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad.contiguous(), output, 0)
        by_patch, grad_beta = grad.t() @ patches, grad.sum(0)
        grad_gamma = (by_patch * weight).sum(1) * scale
        grad_weight = (gamma * scale)[:, None] * (by_patch - (grad_gamma * scale)[:, None] * by_covariance)
        return None, None, grad_weight, torch.zeros_like(gamma), grad_gamma, grad_beta, None


class _Halving(torch.autograd.Function):
    """conv2d with stride 2 and padding 1, of a channels-last input."""

    @staticmethod
    def forward(ctx, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return functional.conv2d(input, weight, bias, 2, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        input, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_input = _gradients(grad, input, weight, (True, False))[0] if ctx.needs_input_grad[0] else None
        grad_weight = _gradients(grad.contiguous(), input.contiguous(), weight.contiguous(), (False, True))[1]
        return grad_input, grad_weight, grad.sum((0, 2, 3))


def _gradients(grad: Tensor, input: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """The wanted gradients of a convolution with stride 2 and padding 1, for its input and its weight."""
    options = ([2, 2], [1, 1], [1, 1], False, [0, 0], 1)
    return torch.ops.aten.convolution_backward(grad, input, weight, None, *options, [*wanted, False])[:2]
