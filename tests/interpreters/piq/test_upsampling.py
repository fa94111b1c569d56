"""The fast layers against torch's own, in values, gradients, state and running statistics."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from audiointerp.interpreters.piq.upsampling import FastConvTranspose2d, NormalizedUpsampling

# kernel, stride, padding: the decoder's layers, then others on the same paths
GEOMETRIES = [
    (4, 2, 1),
    (3, 2, 1),
    (12, 1, 1),
    (4, 2, 0),
    (5, 3, 2),
    ((4, 3), (2, 1), (0, 1)),
    ((2, 4), (2, 2), (0, 1)),
]


def layer(channels, out_channels, kernel, stride, padding, **rest):
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(channels, out_channels, kernel, stride, padding, **rest)
    fast = FastConvTranspose2d(channels, out_channels, kernel, stride, padding, **rest)
    fast.load_state_dict(plain.state_dict())
    return plain, fast


def gradients(module, input, output):
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)  # no accidental symmetry
    return torch.autograd.grad((output * weights).sum(), [input, *module.parameters()])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("out_channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 7, 5), (1, 5, 4, 9)])
def test_equals_torch_with_all_gradients(shape, out_channels, geometry, dtype, tolerance):
    plain, fast = layer(shape[1], out_channels, *geometry)
    plain, fast = plain.to(dtype), fast.to(dtype)
    input = torch.randn(shape, dtype=dtype, requires_grad=True)
    expected, output = plain(input), fast(input)
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=tolerance)
    for each, wanted in zip(gradients(fast, input, output), gradients(plain, input, expected), strict=True):
        torch.testing.assert_close(each, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("geometry", [(4, 2, 1), (3, 2, 1), (12, 1, 1)])
def test_one_pixel(geometry):
    plain, fast = layer(2, 1, *geometry)
    input = torch.randn(1, 2, 1, 1)
    torch.testing.assert_close(fast(input), plain(input))


@pytest.mark.parametrize("geometry", [(4, 2, 1), (3, 1, 1)])
def test_gradcheck(geometry):
    fast = layer(2, 1, *geometry)[1].double()
    input = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: torch.func.functional_call(fast, {"weight": weight, "bias": bias}, (x,)),
        (input, fast.weight, fast.bias),
    )


def test_memory_order_does_not_matter():
    _, fast = layer(3, 2, 4, 2, 1)
    input = torch.randn(2, 3, 5, 6)
    assert torch.equal(fast(input), fast(input.contiguous(memory_format=torch.channels_last)))
    assert fast(input).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "rest", [{"groups": 2}, {"dilation": 2}, {"output_padding": 1}, {"bias": False}, {"bias": False, "groups": 4}]
)
def test_other_options_are_torchs(rest):
    plain, fast = layer(4, 4, 4, 2, 1, **rest)
    input = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(fast(input), plain(input))


def test_output_size_and_unbatched_input():
    plain, fast = layer(2, 2, 4, 2, 1)
    input = torch.randn(1, 2, 3, 5)
    torch.testing.assert_close(fast(input, [7, 11]), plain(input, [7, 11]))
    torch.testing.assert_close(fast(input[0]), plain(input[0]))


@pytest.mark.parametrize("geometry, out_channels", [((4, 2, 1), 4), ((12, 1, 1), 1)])
def test_bfloat16_autocast_is_as_close_as_torchs(geometry, out_channels):
    plain, fast = layer(4, out_channels, *geometry)
    input = torch.randn(2, 4, 9, 8, requires_grad=True)
    exact = plain(input)
    with torch.autocast("cpu", torch.bfloat16):
        output = fast(input)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, atol=0.03, rtol=0.03)
    for each, wanted in zip(gradients(fast, input, output.float()), gradients(plain, input, exact), strict=True):
        assert each.dtype == torch.float32
        assert (each - wanted).norm() < 0.02 * wanted.norm()


# --- ReLU, batch norm and transposed convolution in one


def stage(channels, out_channels, kernel, stride, padding):
    """The fused stage, and torch's three layers with the same weights, away from their starting values."""
    torch.manual_seed(0)
    fused = NormalizedUpsampling(channels, out_channels, kernel, stride, padding)
    fused.norm.weight.data.uniform_(-1, 2)
    fused.norm.bias.data.normal_()
    fused.norm.running_mean.normal_()
    fused.norm.running_var.uniform_(0.5, 2)
    norm, conv = copy.deepcopy(fused.norm), nn.ConvTranspose2d(channels, out_channels, kernel, stride, padding)
    conv.load_state_dict(fused.conv.state_dict())
    return fused, nn.Sequential(nn.ReLU(), norm, conv)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("shape, out_channels", [((2, 3, 7, 5), 4), ((1, 5, 4, 9), 1), ((3, 1, 4, 4), 2)])
def test_stage_equals_three_layers(shape, out_channels, geometry, dtype, tolerance, training):
    fused, layers = stage(shape[1], out_channels, *geometry)
    fused, layers = fused.to(dtype).train(training), layers.to(dtype).train(training)
    input = torch.randn(shape, dtype=dtype, requires_grad=True)
    expected, output = layers(input), fused(input * 1)  # fused overwrites its input
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=tolerance)
    for each, wanted in zip(gradients(fused, input, output), gradients(layers, input, expected), strict=True):
        torch.testing.assert_close(each, wanted, atol=tolerance, rtol=tolerance)
    for each, wanted in zip(fused.norm.buffers(), layers[1].buffers(), strict=True):
        torch.testing.assert_close(each, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_stage_keeps_running_statistics_as_torch_does(momentum):
    fused, layers = stage(3, 2, 4, 2, 1)
    fused.norm.momentum = layers[1].momentum = momentum
    for scale in (1, 2, 3):
        input = torch.randn(2, 3, 4, 5) * scale
        layers(input)
        fused(input.clone())
    for each, wanted in zip(fused.norm.buffers(), layers[1].buffers(), strict=True):
        torch.testing.assert_close(each, wanted)


def test_stage_survives_a_channel_that_is_never_on():
    fused, layers = stage(2, 2, 4, 2, 1)
    fused.norm.weight.data[0] = layers[1].weight.data[0] = 0
    input = torch.randn(2, 2, 4, 5)
    input[:, 1] = -1
    torch.testing.assert_close(fused(input.clone()), layers(input), atol=1e-4, rtol=1e-4)


def test_stage_statistics_are_exact_where_the_mean_is_large():
    fused, layers = stage(2, 1, 3, 1, 1)
    input = 50 + torch.randn(2, 2, 200, 200)
    exact = layers.double()(input.double())
    assert (fused(input.clone()) - exact).abs().max() < 1e-3


def test_stage_in_evaluation_without_gradient_leaves_statistics_alone():
    fused, _ = stage(2, 1, 12, 1, 1)
    fused.eval()
    before = copy.deepcopy(fused.state_dict())
    with torch.no_grad():
        first, again = (fused(torch.ones(1, 2, 4, 4)) for _ in range(2))
    assert torch.equal(first, again)
    assert all(torch.equal(value, before[name]) for name, value in fused.state_dict().items())


def test_stage_frozen_passes_gradients_on():
    fused, layers = stage(2, 1, 4, 2, 1)
    for each in (*fused.parameters(), *layers.parameters()):
        each.requires_grad_(False)
    input = torch.randn(2, 2, 4, 5, requires_grad=True)
    expected = torch.autograd.grad(layers(input).square().sum(), input)[0]
    torch.testing.assert_close(torch.autograd.grad(fused(input * 1).square().sum(), input)[0], expected)


def test_stage_refuses_one_value_a_channel_in_training():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        NormalizedUpsampling(2, 1, 4, 2, 1)(torch.randn(1, 2, 1, 1))


def test_stage_under_autocast_trains():
    fused, layers = stage(4, 1, 12, 1, 1)
    input = torch.randn(2, 4, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        output = fused(input.clone())
    functional.mse_loss(output.float(), torch.ones_like(output).float()).backward()
    torch.testing.assert_close(output.float(), layers(input), atol=0.1, rtol=0.05)
    assert all(torch.isfinite(each.grad).all() for each in fused.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    fused, layers = stage(4, 1, 12, 1, 1)
    input = torch.randn(2, 4, 9, 8).cuda()
    expected = layers.cuda()(input)
    torch.testing.assert_close(fused.cuda()(input.clone()), expected, atol=1e-3, rtol=1e-3)
