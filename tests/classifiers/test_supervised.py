"""Supervised training: losses by hand, mixed and multiple labels, a last batch of one clip, what is scored."""

import math

import pytest
import torch
from torch import nn

from audiointerp.classifiers import External, Supervised, VGGSound
from audiointerp.contracts import Batch, Trainable


class Fixed(nn.Module):
    """Logits that do not depend on the sound: log of 0.5, 0.25, 0.25."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.5, 0.25, 0.25]).log())

    def forward(self, waveform):
        return self.logits.expand(len(waveform), -1)


def fixed(multilabel=False):
    return External(Fixed(), ["a", "b", "c"], 16000, multilabel)


def batch_of(label, samples=800):
    return Batch(torch.randn(len(label), samples), label, torch.arange(len(label)))


def loss_of(classifier, label, **arguments):
    losses = Supervised(classifier, **arguments).losses(batch_of(label))
    assert list(losses) == ["classification"]
    return losses["classification"].item()


def test_cross_entropy_by_hand():
    expected = -(math.log(0.5) + math.log(0.25)) / 2
    assert loss_of(fixed(), torch.tensor([0, 2])) == pytest.approx(expected)
    # mixup: a clip that is 0.7 of class a and 0.3 of class c
    mixed = torch.tensor([[0.7, 0.0, 0.3]])
    assert loss_of(fixed(), mixed) == pytest.approx(-(0.7 * math.log(0.5) + 0.3 * math.log(0.25)))
    # 0.3 of the label spread over three classes
    smoothed = -(0.8 * math.log(0.5) + 0.2 * math.log(0.25))
    assert loss_of(fixed(), torch.tensor([0]), label_smoothing=0.3) == pytest.approx(smoothed)


def test_binary_cross_entropy_by_hand():
    p = [x / (1 + x) for x in (0.5, 0.25, 0.25)]  # sigmoid(log x)
    labels = torch.tensor([[1.0, 0, 1]])
    each = [-math.log(p[0]), -math.log(1 - p[1]), -math.log(p[2])]
    assert loss_of(fixed(True), labels) == pytest.approx(sum(each) / 3)
    weighted = (3 * each[0] + each[1] + 3 * each[2]) / 3
    assert loss_of(fixed(True), labels, positive_weight=3.0) == pytest.approx(weighted)
    assert loss_of(fixed(True), labels.long()) == pytest.approx(sum(each) / 3)


def test_scores_by_hand():
    scores = Supervised(fixed()).scores(batch_of(torch.tensor([0, 2])))
    assert scores["accuracy"].tolist() == [1.0, 0.0]
    torch.testing.assert_close(scores["log_probability"], torch.tensor([0.5, 0.25]).log())
    assert not scores["log_probability"].requires_grad
    # No label is above 0.5: absent labels are decided rightly.
    scores = Supervised(fixed(True)).scores(batch_of(torch.tensor([[1, 0, 1], [0, 0, 0]])))
    torch.testing.assert_close(scores["accuracy"], torch.tensor([1 / 3, 1.0]))


def test_a_last_batch_of_one_clip():
    torch.manual_seed(0)
    trainable = Supervised(VGGSound(["a", "b"], channels=4)).train()
    assert isinstance(trainable, Trainable)
    loss = trainable.losses(batch_of(torch.tensor([1])))["classification"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(module.training for module in trainable.modules())
    assert all(each.grad is not None for each in trainable.parameters())


def test_weights_that_the_owner_froze_are_not_trained():
    classifier = VGGSound(["a", "b"], channels=4)
    classifier.encoder.requires_grad_(False)
    group = Supervised(classifier).parameter_groups()["classifier"]
    assert set(map(id, group)) == set(map(id, classifier.head.parameters()))


def test_features_are_augmented_as_the_global_seed_says():
    drawn = []

    def augment(features, generator):
        assert features.shape == (2, 513, 5)
        drawn.append(float(torch.rand((), generator=generator)))
        return torch.zeros_like(features)

    classifier = VGGSound(["a", "b"], channels=4).eval()
    trainable, batch = Supervised(classifier, augment_features=augment), batch_of(torch.tensor([0, 1]))
    silent = Supervised(classifier).losses(batch.replace(waveform=torch.zeros(2, 800)))
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        torch.testing.assert_close(trainable.losses(batch)["classification"], silent["classification"])
    assert drawn[0] == drawn[1] != drawn[2]
    trainable.scores(batch)
    assert len(drawn) == 3  # judged as they are


def test_a_few_steps_learn_two_sounds():
    torch.manual_seed(0)
    time = torch.arange(3200) / 16000
    tones = torch.stack([torch.sin(2 * torch.pi * pitch * time) for pitch in (400, 500, 3000, 3500)])
    batch = Batch(tones, torch.tensor([0, 0, 1, 1]), torch.arange(4))
    trainable = Supervised(VGGSound(["low", "high"], channels=4, dropout=0))
    optimizer = torch.optim.Adam(trainable.parameters(), 0.02)
    trainable.train()
    for _ in range(40):
        loss = trainable.losses(batch)["classification"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert trainable.eval().scores(batch)["accuracy"].tolist() == [1.0] * 4
