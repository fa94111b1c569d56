"""The layers of an upsampling decoder, with a memory layout and an order of summation that are fast on CPUs.

`FastConvTranspose2d` replaces `torch.nn.ConvTranspose2d`; `NormalizedUpsampling` is a ReLU, a batch normalisation and a
transposed convolution as one operation. Results and parameters are those of torch's layers, up to rounding.

Four measures reduce the time on a CPU:

1. oneDNN's convolutions of these shapes are two to three times faster in channels-last order.
2. With one output channel, these convolutions leave most of a vector register idle: `_to_one_channel` sums in another
   order.
3. Bias gradients inside the convolutions cost half as much as weight gradients: here they are plain sums.
4. The page faults of a new tensor cost more than the arithmetic on it. `NormalizedUpsampling` allocates one tensor in a
   forward and one in a backward pass, three separate layers allocate three in each: here the ReLU is in place, the
   affine map of the normalisation is folded into the kernel, and the gradient is completed in place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from audiointerp.classifiers.encoding import update_running
from audiointerp.processes import dividing

# Largest number of values in a temporary copy. Smaller copies need less memory but more operations, and the threads
# synchronise after each operation, which is slow on a busy machine.
PART = 2**23
Pair = tuple[int, ...]

__all__ = ["FastConvTranspose2d", "NormalizedUpsampling"]


class FastConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` in channels-last order, with the same arguments, state and values.

    Shape:
        (batch, in_channels, freq, time) -> (batch, out_channels, freq', time'), as the parent class.

    >>> FastConvTranspose2d(8, 8, kernel_size=4, stride=2, padding=1)(torch.zeros(1, 8, 16, 14)).shape
    torch.Size([1, 8, 32, 28])
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsampled maps."""
        if output_size is not None or not self.is_plain or not _is_ours(input):
            return super().forward(input, output_size)
        bias = self.weight.new_zeros(self.out_channels) if self.bias is None else self.bias
        operands = (input.contiguous(memory_format=torch.channels_last), self.weight, bias)
        if torch.is_autocast_enabled("cpu"):
            operands = tuple(each.to(torch.get_autocast_dtype("cpu")) for each in operands)
        with torch.autocast("cpu", enabled=False):
            return _Upsample.apply(*operands, self.stride, self.padding)

    @property
    def is_plain(self) -> bool:
        """Whether there are no groups, no dilation and no output padding."""
        return self.groups == 1 and self.dilation == (1, 1) and self.output_padding == (0, 0)


class NormalizedUpsampling(nn.Module):
    """conv(norm(relu(input))): `norm` a `torch.nn.BatchNorm2d`, `conv` a `FastConvTranspose2d`. Overwrites `input`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: of the transposed convolution.
    Shape:
        (batch, in_channels, freq, time) -> (batch, out_channels, freq', time').

    >>> NormalizedUpsampling(8, 1, kernel_size=12, padding=1)(torch.randn(2, 8, 16, 14)).shape
    torch.Size([2, 1, 25, 23])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = FastConvTranspose2d(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, input: Tensor) -> Tensor:
        """Upsampled maps; in training, normalised by the batch's statistics, which also update the running ones."""
        norm, conv = self.norm, self.conv
        count = input.numel() // conv.in_channels
        # For one value per channel torch's batch normalisation raises an error; that of a divided batch is the layer's.
        by_layer = norm.training and (count == 1 or dividing.divided() is not None)
        if not _is_ours(input) or torch.is_autocast_enabled("cpu") or by_layer:
            return conv(norm(functional.relu(input)))
        known = () if norm.training else (norm.running_mean, norm.running_var)
        input = input.contiguous(memory_format=torch.channels_last)
        _, output, mean, variance = _NormalizedUpsample.apply(
            input, norm.weight, norm.bias, conv.weight, conv.bias, norm.eps, conv.stride, conv.padding, *known
        )
        if norm.training:
            update_running(norm, mean, variance * (count / (count - 1)))
        return output


class _Upsample(torch.autograd.Function):
    """conv_transpose2d with a bias."""

    @staticmethod
    def forward(ctx, input: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return _upsample(input, weight, stride, padding).add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        input, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grad_input, grad_weight = _upsample_backward(grad, input, weight, ctx.stride, ctx.padding, needed)
        return grad_input, grad_weight, grad.sum((0, 2, 3)) if needed[2] else None, None, None


class _NormalizedUpsample(torch.autograd.Function):
    """r = relu(input); conv_transpose2d(gain r + shift), gain = gamma / deviation and shift = beta - gain mean.

    By linearity this is conv_transpose2d(r, gain weight) + conv_transpose2d of the constant image `shift`, so that r is
    the only large tensor made or kept. The second term depends on the place only through the kernel rows and columns
    that reach a bin: with 0/1 matrices R (kernel row, freq') and C (kernel column, time') it is R' S C, S = sum of
    shift x weight over input channels.
    """

    @staticmethod
    def forward(ctx, input, gamma, beta, weight, bias, eps, stride, padding, mean=None, variance=None):
        ctx.mark_dirty(input)
        ctx.set_materialize_grads(False)
        rectified = input.relu_()
        ctx.batch_statistics = mean is None
        if mean is None:
            mean, variance = _statistics(_pixels(rectified))
        scale = (variance + eps).rsqrt()
        gain = gamma * scale
        shift = beta - gain * mean
        output = _upsample(rectified, weight * gain[:, None, None, None], stride, padding)
        rows, columns = _reach(input, weight, output, stride, padding)
        constant = torch.einsum("i,iokl->klo", shift, weight)
        by_row = (rows.t() @ constant.flatten(1)).view(-1, *constant.shape[1:])
        output += (columns.t() @ by_row + bias).permute(2, 0, 1)
        ctx.save_for_backward(rectified, gamma, weight, mean, scale, gain, shift)
        ctx.stride, ctx.padding = stride, padding
        ctx.mark_non_differentiable(mean, variance)
        return input, output, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, _, grad, *__):
        rectified, gamma, weight, mean, scale, gain, shift = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_input, grad_scaled = _upsample_backward(
            grad,
            rectified,
            weight * gain[:, None, None, None],
            ctx.stride,
            ctx.padding,
            (ctx.needs_input_grad[0], True),
        )
        rows, columns = _reach(rectified, weight, grad, ctx.stride, ctx.padding)
        by_row = (rows @ grad.permute(0, 2, 3, 1).flatten(2)).sum(0).view(len(rows), -1, grad.shape[1])
        grad_constant = (columns @ by_row).permute(2, 0, 1)
        grad_gain = (grad_scaled * weight).sum((1, 2, 3))
        grad_shift = (grad_constant * weight).sum((1, 2, 3))
        grad_weight = grad_scaled * gain[:, None, None, None] + shift[:, None, None, None] * grad_constant
        grad_gamma = (grad_gain - grad_shift * mean) * scale
        if grad_input is not None:
            grad_input = grad_input.contiguous(memory_format=torch.channels_last)
            if ctx.batch_statistics:
                # d mean / d r = 1 / count, d variance / d r = 2 (r - mean) / count, d scale / d variance = -scale^3 / 2
                count = grad_input.numel() // len(mean)
                slope = -gamma * scale**2 * grad_gamma / count
                offset = -gain * grad_shift / count - slope * mean
            else:
                slope = offset = torch.zeros_like(mean)
            _finish(_pixels(grad_input), _pixels(rectified), slope, offset)
        return grad_input, grad_gamma, grad_shift, grad_weight, grad.sum((0, 2, 3)), *[None] * 5


def _is_ours(input: Tensor) -> bool:
    """Whether this module's implementation is used: for images on the CPU; torch's layers are called otherwise."""
    return input.device.type == "cpu" and input.ndim == 4


def _pixels(image: Tensor) -> Tensor:
    """View (pixel, channel) of a channels-last image."""
    return image.permute(0, 2, 3, 1).view(-1, image.shape[1])


def _statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance per channel, in two passes (torch 2.11's batch norm is slow: it adds pixels one by one)."""
    mean = pixels.mean(0)
    parts = pixels.split(max(1, PART // len(mean)))
    centred = torch.empty_like(parts[0])
    sums = [torch.sub(part, mean, out=centred[: len(part)]).square_().sum(0) for part in parts]
    return mean, torch.stack(sums).sum(0) / len(pixels)


def _finish(grad: Tensor, rectified: Tensor, slope: Tensor, offset: Tensor) -> None:
    """grad <- (grad + slope r + offset) where r > 0, else 0; all (pixel, channel)."""
    grad.addcmul_(rectified, slope).add_(offset)
    torch.ops.aten.threshold_backward.grad_input(grad, rectified, 0, grad_input=grad)


def _upsample(input: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """conv_transpose2d without a bias, of a channels-last input."""
    fits = all(each < size for each, size in zip(padding, weight.shape[2:]))
    if weight.shape[1] == 1 and stride == (1, 1) and fits:
        return _to_one_channel(input, weight, padding)
    return functional.conv_transpose2d(input, weight, None, stride, padding)


def _to_one_channel(input: Tensor, weight: Tensor, padding: Pair) -> Tensor:
    """conv_transpose2d to one channel with stride 1.

    First the sum over kernel rows and input channels, a convolution to as many channels as the kernel has columns; then
    the columns' results are added with their shifts.
    """
    rows, columns = weight.shape[2:]
    width = input.shape[3]
    # (channel, 1, row, column) -> (column, channel, flipped row, 1)
    down = weight[:, 0].flip(1).permute(2, 0, 1)[..., None].contiguous(memory_format=torch.channels_last)
    by_column = functional.conv2d(input, down, padding=(rows - 1 - padding[0], 0))
    # Rows of width + columns values are read as rows of one value less, so that each kernel column's row is shifted by
    # one bin against that of the column before.
    row = width + columns - 1
    skewed = functional.pad(by_column.transpose(1, 2), (0, columns)).flatten(2)[..., : columns * row]
    full = skewed.unflatten(2, (columns, row)).sum(2)
    return full[..., padding[1] : row - padding[1]].unsqueeze(1).contiguous()


def _upsample_backward(
    grad: Tensor, input: Tensor, weight: Tensor, stride: Pair, padding: Pair, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of `_upsample` for its input and its weight."""
    paired = needed[1] and stride == (2, 2) and padding[1] == 1 and weight.shape[3] == 4
    wanted = [needed[0], needed[1] and not paired, False]
    grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad, input, weight, None, stride, padding, [1, 1], True, [0, 0], 1, wanted
    )
    return grad_input, _paired_weight_gradient(grad, input, weight, padding[0]) if paired else grad_weight


def _paired_weight_gradient(grad: Tensor, input: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Gradient for a weight of 4 columns, with stride 2 and padding 1.

    Two neighbouring columns of `grad` are viewed as one column with twice the channels, which in channels-last order
    needs no copy except for the padding. This makes a kernel of 2 columns with stride 1, much faster than 4 columns
    with stride 2.
    """
    channels, rows = weight.shape[1:3]
    kernel = weight.new_empty(len(weight), 2 * channels, rows, 2)
    total = torch.zeros_like(kernel)
    images = min(len(grad), max(1, 2 * PART // grad[0].numel()))
    padded = grad.new_zeros(images, grad.shape[2], grad.shape[3] + 2, channels)
    pairs = padded.view(images, grad.shape[2], -1, 2 * channels).permute(0, 3, 1, 2)
    for part, source in zip(grad.split(images), input.split(images)):
        padded[: len(part), :, 1:-1] = part.permute(0, 2, 3, 1)
        total += torch.ops.aten.convolution_backward(
            source,
            pairs[: len(part)],
            kernel,
            None,
            [2, 1],
            [padding, 0],
            [1, 1],
            False,
            [0, 0],
            1,
            [False, True, False],
        )[1]
    return total.view(len(weight), 2, channels, rows, 2).permute(0, 2, 3, 4, 1).flatten(3)


def _reach(input: Tensor, weight: Tensor, output: Tensor, stride: Pair, padding: Pair) -> tuple[Tensor, Tensor]:
    """For both axes, (kernel, output) 0/1: whether kernel element k connects an input bin to output bin j.

    It connects input bin i to it if stride i = j + padding - k.
    """
    reach = []
    for axis in range(2):
        kernel, size_in, size_out = (each.shape[2 + axis] for each in (weight, input, output))
        source = torch.arange(size_out) + padding[axis] - torch.arange(kernel)[:, None]
        inside = (source >= 0) & (source < stride[axis] * size_in) & (source % stride[axis] == 0)
        reach.append(inside.to(weight.dtype))
    return reach[0], reach[1]
