"""The encoder's fast layers against torch's own, in values, gradients, state and running statistics."""

import copy

import pytest
import torch
from torch import nn

from audiointerp.classifiers.encoding import HalvingConv2d, ImageStage, Stage

TYPES = [(torch.float32, 1e-4), (torch.float64, 1e-10)]


def plain_stage(stage: ImageStage) -> nn.Sequential:
    """The same layers as torch runs them, with copies of the weights."""
    return nn.Sequential(*copy.deepcopy(list(stage)))


def image_stage(channels: int = 5) -> ImageStage:
    torch.manual_seed(0)
    stage = ImageStage(channels)
    nn.init.normal_(stage[1].weight)
    nn.init.normal_(stage[1].bias)
    return stage


def weighted(output):
    """A sum in which every value has a weight of its own, so that no symmetry hides an error."""
    return (output * torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)).sum()


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 1, 9, 7), (1, 1, 4, 5), (2, 1, 2, 2)])
def test_an_image_stage_is_torchs_layers_in_training(shape, dtype, tolerance):
    stage = image_stage().to(dtype)
    plain = plain_stage(stage)
    image = 1 + torch.randn(shape, dtype=dtype)
    found, expected = stage(image), plain(image)
    assert type(found.grad_fn).__name__ != type(expected.grad_fn).__name__  # it did take the other way
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(dict(stage.named_buffers()), dict(plain.named_buffers()), atol=tolerance, rtol=tolerance)
    for one, other in zip(
        torch.autograd.grad(weighted(found), list(stage.parameters())),
        torch.autograd.grad(weighted(expected), list(plain.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=10 * tolerance, rtol=tolerance)


def test_an_image_stage_has_torchs_state():
    stage = image_stage()
    assert stage.state_dict().keys() == plain_stage(stage).state_dict().keys()


@pytest.mark.parametrize("why", ["evaluation", "gradient of the image", "hook"])
def test_an_image_stage_runs_its_layers_where_they_count(why):
    """Methods read gradients of the image and hooks of layers; classifiers that are explained are not in training."""
    stage, image, seen = image_stage(), torch.randn(2, 1, 8, 6), []
    if why == "evaluation":
        stage.eval()
    elif why == "hook":
        stage[0].register_forward_hook(lambda *given: seen.append(given))
    else:
        image.requires_grad_()
    plain = plain_stage(stage)
    found, expected = stage(image), plain(image)
    assert torch.equal(found, expected) and bool(seen) == (why == "hook")
    if why == "gradient of the image":
        (one,), (other,) = (torch.autograd.grad(weighted(each), [image]) for each in (found, expected))
        assert torch.equal(one, other) and one.abs().max() > 0


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("watched", [False, True])
def test_a_stage_without_gradient_is_torchs_layers(channels, watched, dtype, tolerance):
    torch.manual_seed(0)
    stage = (ImageStage(5) if channels == 1 else Stage(HalvingConv2d(channels, 5))).to(dtype)
    for each in (stage[1].weight, stage[1].bias, stage[1].running_mean):
        nn.init.normal_(each)
    nn.init.uniform_(stage[1].running_var, 0.1, 2)
    image, seen = torch.randn(2, channels, 9, 8, dtype=dtype), []
    stage.eval().requires_grad_(False)
    plain = plain_stage(stage)
    if watched:
        stage[1].register_forward_hook(lambda *given: seen.append(given))
    with torch.no_grad():
        found, expected = stage(image), plain(image)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert bool(seen) == watched and (torch.equal(found, expected) or not watched)
    assert torch.equal(stage(image), expected)  # torch's layers, as a gradient might be asked for later


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 2, 7, 9), (1, 4, 4, 5), (2, 3, 6, 2)])
def test_a_halving_convolution_is_torchs(shape, dtype, tolerance):
    torch.manual_seed(0)
    fast = HalvingConv2d(shape[1], 5).to(dtype)
    plain = nn.Conv2d(shape[1], 5, 4, stride=2, padding=1).to(dtype)
    plain.load_state_dict(fast.state_dict())
    image = torch.randn(shape, dtype=dtype, requires_grad=True)
    found, expected = fast(image), plain(image)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    for one, other in zip(
        torch.autograd.grad(weighted(found), [image, *fast.parameters()]),
        torch.autograd.grad(weighted(expected), [image, *plain.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    assert torch.equal(fast.eval()(image), plain(image))
