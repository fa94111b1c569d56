"""iGOS++: its loss and direction against a literal version, and a planted tone."""

import pytest
import torch
from cases import vggsound
from magnitude_classifiers import RATE, hears, tone
from torch.nn import functional

from audiointerp.classifiers import External
from audiointerp.interpreters import IGOSPlusPlus
from audiointerp.metrics.separation import si_sdr

FAST = {"cells": (16, 16), "points": 6, "steps": 8}


HIGH, LOW = tone(3000.0, 0.2, 0.4), tone(700.0, 0.0, 0.6)


def literal(classifier, waveform, target, cells, points, l1, variation, edges, steps, longest, tries):
    """One clip, one version at a time: the loss written out, integrated gradients by a loop, the best of the steps."""
    stft = classifier.spectrogram(waveform)
    magnitude = stft.abs()

    def logit(kept):
        return classifier.classify_stft(kept * magnitude, waveform.shape[1]).logits[0, target]

    with torch.no_grad():
        silent, whole = logit(torch.zeros(1)), logit(torch.ones(1))
    scale = (whole - silent).abs()
    level = functional.adaptive_avg_pool2d(magnitude.log1p()[:, None], cells)[0, 0]
    level = level / level.max()

    def large(grid):
        return functional.interpolate(grid[None, None], stft.shape[1:], mode="bilinear", align_corners=False)[0]

    def penalty(grid):
        total = l1 * grid.mean()
        for axis in (0, 1):
            weight = torch.exp(-((level.diff(dim=axis) / edges) ** 2))
            total = total + variation * (weight * grid.diff(dim=axis) ** 2).sum() / grid.numel()
        return total

    def parts(first, second, scale_of_path):
        """The four terms, with what is left over of the clip scaled."""
        both = 1 - (1 - first) * (1 - second)
        deleted = [logit(scale_of_path * (1 - large(each))) for each in (first, both)]
        inserted = [logit(1 - scale_of_path * (1 - large(each))) for each in (second, both)]
        return (sum(deleted) - sum(inserted)) / scale

    masks = [torch.zeros(cells), torch.zeros(cells)]
    losses = []
    for _ in range(steps):
        leaves = [each.clone().requires_grad_() for each in masks]
        total = sum(parts(*leaves, (k + 1) / points) for k in range(points)) / points
        total = total + sum(penalty(each) for each in leaves)
        gradients = torch.autograd.grad(total, leaves)
        with torch.no_grad():
            tried = [masks]
            for k in range(tries):
                tried.append([(m - longest / 4**k * g).clamp(0, 1) for m, g in zip(masks, gradients)])
            values = [parts(*each, 1.0) + sum(penalty(mask) for mask in each) for each in tried]
            masks = tried[int(torch.stack(values).argmin())]
            losses.append(min(values))
    return large(1 - (1 - masks[0]) * (1 - masks[1]))[0], torch.stack(losses)


@pytest.mark.parametrize("build", [hears, vggsound])
def test_the_mask_is_that_of_the_literal_version(build):
    classifier, waveform = build().eval(), (HIGH + LOW) / (HIGH + LOW).abs().max()
    settings = {"cells": (5, 4), "points": 3, "l1": 0.7, "variation": 5.0, "edges": 0.2}
    settings |= {"steps": 3, "longest": 300.0, "tries": 4}
    mask, losses = literal(classifier, waveform, 1 if build is vggsound else 0, **settings)
    made = IGOSPlusPlus(classifier, max_batch=5, **settings).interpret(waveform, 1 if build is vggsound else 0)
    assert mask.max() > 0.05
    torch.testing.assert_close(made.details["loss"][0], losses, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(made.mask[0], mask, atol=1e-3, rtol=0)


@pytest.mark.parametrize("filler", ["silence", "noise_floor"])
def test_the_planted_tone_is_found(filler):
    made = IGOSPlusPlus(hears(), filler=filler, **FAST).interpret(HIGH + LOW, 0)
    mask = made.mask[0]
    assert mask[190:195, 18:34].mean() > 0.8 > 0.2 > mask[40:50].mean()
    assert si_sdr(made.waveform, HIGH) > 10 > 0 > si_sdr(made.waveform, LOW)
    assert made.details["kept"] > 0.8 and made.details["removed"] < 0.3
    # Without masks the loss is 2: nothing is removed, D = 1, and nothing is inserted, I = 0, each counted twice.
    loss = made.details["loss"][0]
    assert (loss.diff() <= 0).all() and loss[0] < 0


def test_clips_of_a_batch_are_explained_apart():
    both = torch.cat([HIGH + LOW, 0.1 * (HIGH.flip(1) + LOW)])
    settings = FAST | {"steps": 2}
    together = IGOSPlusPlus(hears(), max_batch=3, **settings).interpret(both, 0)
    for row in range(2):
        alone = IGOSPlusPlus(hears(), max_batch=8, **settings).interpret(both[row : row + 1], 0)
        torch.testing.assert_close(alone.mask[0], together.mask[row], atol=1e-3, rtol=0)
        torch.testing.assert_close(alone.details["kept"][0], together.details["kept"][row], atol=1e-3, rtol=0)


def test_a_classifier_without_gradients_is_refused_in_one_line():
    class Detached(torch.nn.Module):
        def forward(self, waveform):
            loud = waveform.detach().square().mean(1, keepdim=True)
            return torch.cat([loud, -loud], 1)

    with pytest.raises(ValueError, match="IGOSPlusPlus needs gradients, but none reaches") as caught:
        IGOSPlusPlus(External(Detached(), ["a", "b"], RATE)).interpret(HIGH)
    assert "\n" not in str(caught.value)


BAD = [
    ({"steps": 0}, "steps is 0"),
    ({"points": 0}, "points is 0"),
    ({"tries": 1.5}, "tries is 1.5"),
    ({"l1": -1.0}, "l1 is -1.0"),
    ({"variation": float("nan")}, "variation is nan"),
    ({"power": 0.5}, "power is 0.5; give 1 or more"),
    ({"edges": 0.0}, "edges is 0.0"),
    ({"longest": -1.0}, "longest is -1.0"),
    ({"cells": (0, 1)}, "cells (0, 1)"),
    ({"filler": "blur"}, "filler is 'blur'"),
]


@pytest.mark.parametrize("arguments, message", BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        IGOSPlusPlus(vggsound(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
