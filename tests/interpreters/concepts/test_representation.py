"""A layer that is changed gives the logits that are computed from the changed map by hand."""

import cell_maps
import pytest
import torch
from cases import instrument, vggsound

from audiointerp.classifiers import External
from audiointerp.interpreters.concepts import Representation, cells_of


def by_hand(model, maps):
    head = model.module.head
    return maps.mean((2, 3)) @ head.weight.T + head.bias


@pytest.fixture
def changes():
    return torch.randn(3, 16, 4, 63, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("flat", [False, True])
def test_changes_reach_the_logits(flat, changes):
    model = cell_maps.classifier(flat)
    layer = Representation(model)
    waveform = cell_maps.tone("low")[None]
    maps = layer.of(waveform)
    assert maps.shape == (1, 16, 4, 63) and layer.channels == 16
    torch.testing.assert_close(layer.logits_after(waveform, changes, most=2), by_hand(model, maps + changes))
    assert not model.module.maps._forward_hooks


def test_a_clip_in_pieces(changes):
    model = cell_maps.classifier(max_samples=4000)
    layer = Representation(model)
    waveform = cell_maps.tone("low")[None]
    maps = layer.of(waveform)  # two pieces of 32 columns each
    changes = torch.cat([changes, changes[..., :1]], 3)
    expected = (by_hand(model, (maps + changes)[..., :32]) + by_hand(model, (maps + changes)[..., 32:])) / 2
    torch.testing.assert_close(layer.logits_after(waveform, changes), expected)


@pytest.mark.parametrize("number", [-1, 1])
def test_our_own_classifier(number):
    """Maps of the encoder that follow the changed one are computed again."""
    model = vggsound()
    layer = Representation(model, number)
    waveform = torch.randn(1, 4800, generator=torch.Generator().manual_seed(0)) / 5
    maps = layer.of(waveform)
    change = torch.randn(2, *maps.shape[1:], generator=torch.Generator().manual_seed(1))
    found = layer.logits_after(waveform, change)
    stages = model.encoder.stages
    changed = maps + change
    if number == 1:
        changed = model.encoder.residual(stages[3](stages[2](changed)))
    torch.testing.assert_close(found, model.head(changed.mean((2, 3))), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("flat", [False, True])
def test_gradient_of_a_linear_head_is_its_weights(flat):
    model = cell_maps.classifier(flat)
    waveform = torch.stack([cell_maps.tone("low"), cell_maps.tone("high")])
    target = torch.tensor([[True, False, False], [False, True, True]])
    found = Representation(model).gradient(waveform, target)
    weight = model.module.head.weight
    torch.testing.assert_close(found, torch.stack([weight[0], weight[1:].mean(0)]).detach())
    assert all(each.requires_grad for each in model.parameters())


def test_place_and_time():
    """A tone that begins in the middle: its row, and its half of the frames, hold the level."""
    model = cell_maps.classifier()
    layer = Representation(model)
    waveform = cell_maps.tone("middle", seed=1, start=0.25)[None]
    row, channel = cell_maps.TONE["middle"]
    values = layer.of(waveform)[:, channel]
    assert int(values.mean((0, 2)).argmax()) == row
    over_time = layer.over_time(values, waveform.shape[1])[0]
    frames = 1 + waveform.shape[1] // model.spectrogram.hop_length
    torch.testing.assert_close(over_time, layer.placed(values.mean(1, keepdim=True).expand_as(values), 8000)[0, 0])
    assert len(over_time) == frames and float(over_time[frames // 2 + 3 :].mean()) > 3 * float(over_time[:18].mean())


def test_cells():
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert cells_of(maps)[5].tolist() == [maps[0, 0, 1, 1], maps[0, 1, 1, 1]]


def test_layers_that_cannot_be_changed():
    with pytest.raises(ValueError, match="gives 1; name its layers"):
        Representation(cell_maps.classifier(), 3)
    with pytest.raises(ValueError, match="gives 0"):
        Representation(instrument())
    squared = External(cell_maps.CellMaps(), cell_maps.LABELS, 16000, layers=["maps"], reshape=lambda maps: maps**2)
    with pytest.raises(ValueError, match="reshape does more than move"):
        Representation(squared)
