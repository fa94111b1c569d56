"""FLINT by design: classifier and interpreter trained together."""

import copy

import pytest
import torch
from cases import flint, vggsound
from torch.nn import functional
from training_batches import SAMPLES, batch_of, noise

from audiointerp.bundles import bundle
from audiointerp.classifiers import VGGSound
from audiointerp.contracts import Batch
from audiointerp.interpreters import PIQ, JointFLINT
from audiointerp.training.loop import Trainer, TrainingSettings

SHARES = torch.tensor([[1.0, 0, 0, 0], [0, 0.3, 0.7, 0], [0, 0, 0, 1]])


def joint(multilabel: bool = False, **settings) -> JointFLINT:
    return JointFLINT(flint(vggsound(multilabel)), **settings)


@pytest.mark.parametrize("multilabel", [False, True])
def test_losses_are_those_of_the_two(multilabel):
    made = joint(multilabel).eval()
    labels = (SHARES > 0).float() if multilabel else SHARES
    losses = made.losses(batch_of(noise(), labels))
    logits = made.classifier(noise()).logits
    compare = functional.binary_cross_entropy_with_logits if multilabel else functional.cross_entropy
    torch.testing.assert_close(losses["classification"], compare(logits, labels), atol=1e-5, rtol=1e-4)
    for name, value in made.interpreter.losses(batch_of(noise())).items():
        torch.testing.assert_close(losses[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_attributes_shape_the_classifier_but_its_answer_is_the_goal():
    """L_if and the entropies reach f through its feature maps; L_of asks g to follow f, not f to follow g."""
    made = joint().train()
    for name, reaches in (("input_fidelity", True), ("conciseness", True), ("output_fidelity", True)):
        made.zero_grad()
        made.losses(batch_of(noise(), SHARES))[name].backward()
        assert (made.classifier.encoder.stages[0][0].weight.grad is not None) == reaches, name
        assert all(each.grad is None for each in made.classifier.head.parameters()), name
    made.zero_grad()
    made.losses(batch_of(noise(), SHARES))["classification"].backward()
    assert all(each.grad is None for each in made.interpreter.parameters())
    assert all(each.grad is not None for each in made.classifier.head.parameters())


def test_every_weight_of_both_is_trained():
    made = joint().train()
    before = copy.deepcopy(dict(made.named_parameters()))
    assert set(map(id, made.parameter_groups()["interpreter"])) == set(map(id, made.parameters()))
    optimizer = torch.optim.AdamW(made.parameter_groups()["interpreter"], 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(made.losses(batch_of(noise(), SHARES)).values()).backward()
        optimizer.step()
    assert [name for name, each in made.named_parameters() if torch.equal(each, before[name])] == []
    # The checkpoint of the training loop holds both.
    names = set(made.state_dict())
    assert "classifier.encoder.stages.0.0.weight" in names and "interpreter.h.linear.weight" in names


def test_a_batch_of_one_clip():
    made = joint().train()
    sum(made.losses(batch_of(noise(1), SHARES[:1])).values()).backward()
    assert made.classifier.training and made.interpreter.training


def test_scores_are_of_both():
    made = joint().eval()
    batch = batch_of(noise(), torch.tensor([0, 1, 2]))
    scores = made.scores(batch)
    assert {"accuracy", "theta_fidelity", "concise", "fidelity"} <= set(scores)
    predicted = made.classifier(noise()).predicted
    assert scores["accuracy"].tolist() == (predicted == batch.label).float().tolist()
    assert all(each.shape == (3,) for each in scores.values())


def test_the_bundle_holds_both(tmp_path):
    made = joint().eval()
    with torch.no_grad():
        for each in made.parameters():
            each.add_(0.01)
    bundle.save(made.interpreter, tmp_path / "bundle")
    loaded = bundle.load(tmp_path / "bundle")
    expected = made.interpreter.interpret(noise(1, 2 * SAMPLES))
    found = loaded.interpret(noise(1, 2 * SAMPLES))
    torch.testing.assert_close(found.prediction.logits, expected.prediction.logits)
    torch.testing.assert_close(found.mask, expected.mask)


class Killed(BaseException):
    """Raised in place of a kill."""


@pytest.mark.parametrize("build", [joint, lambda: flint(vggsound())], ids=["by_design", "post_hoc"])
def test_a_killed_training_ends_as_one_that_was_left_alone(build, tmp_path):
    """Killed in its third epoch; the second training reads classifier, attributes and decoder from the checkpoint."""
    settings = TrainingSettings(epochs=4, lr=0.01, loss_weights={"output_fidelity": [[2, 1.0]]})

    def batches(epoch: int) -> list[Batch]:
        return [batch_of(noise() * (1 + 0.1 * epoch), SHARES)]

    def until_killed(epoch: int) -> list[Batch]:
        if epoch == 2:
            raise Killed
        return batches(epoch)

    whole, killed, again = build(), build(), build()
    Trainer(whole, tmp_path / "whole", settings, 1).fit(batches)
    with pytest.raises(Killed):
        Trainer(killed, tmp_path / "killed", settings, 1).fit(until_killed)
    Trainer(again, tmp_path / "killed", settings, 1).fit(batches)
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert (tmp_path / "whole" / "log.csv").read_bytes() == (tmp_path / "killed" / "log.csv").read_bytes()


def test_what_cannot_be_trained_together():
    with pytest.raises(ValueError, match="trains a FLINT, not a PIQ"):
        JointFLINT(PIQ(VGGSound(("a", "b"), channels=4), codes=8))
