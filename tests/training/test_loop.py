"""The training loop: resuming bit for bit, weights of losses, schedules, groups in turn, errors."""

import csv
import itertools
import math

import pytest
import torch
from cases import piq, vggsound
from torch import nn

from audiointerp.classifiers import Supervised, VGGSound
from audiointerp.contracts import Batch, Trainable
from audiointerp.training.loop import Trainer, TrainingSettings
from audiointerp.training.schedules import Schedule, weight_at

STEPS, EPOCHS = 4, 3


class Stop(Exception):
    """The run is killed."""


def clips(epoch):
    """Four batches, the last of one clip; the same ones each time an epoch is asked for."""
    generator = torch.Generator().manual_seed(epoch)
    for rows in (3, 3, 3, 1):
        waveform = torch.randn(rows, 800, generator=generator)
        label = torch.randint(4, (rows,), generator=generator)
        yield Batch(waveform / waveform.abs().amax(1, keepdim=True), label, torch.arange(rows))


def augment(batch, generator):
    """Draws from the loop's generator and from the global one, as augmentations and dropout do."""
    level = 1 + 0.1 * torch.rand(len(batch), 1, generator=generator) + 0.1 * torch.rand(len(batch), 1)
    return batch.replace(waveform=batch.waveform * level)


def make_classifier():
    torch.manual_seed(0)
    return Supervised(VGGSound(["a", "b", "c", "d"], channels=4, dropout=0.5))


def make_piq():
    return piq(vggsound(), codes=256)  # so many that some die


class Toy(Trainable):
    """One weight pulled to 3; counts what the loop calls."""

    def __init__(self, scores=()):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.called, self.given = [], list(scores)

    def parameter_groups(self):
        return {"toy": [self.weight]}

    def losses(self, batch, group):
        assert self.training
        self.called.append(("losses", group))
        return {"pull": (self.weight - 3).square(), "size": self.weight.abs()}

    def on_start(self, batches):
        self.called.append(("start", len(list(batches))))

    def on_epoch(self, epoch):
        self.called.append(("epoch", epoch))

    def scores(self, batch):
        assert not self.training
        return {"score": torch.full((len(batch),), self.given.pop(0))}


class Two(Trainable):
    """Two weights with a loss each; the right one's loss depends on the left one as well."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.seen = []

    def parameter_groups(self):
        return {"left": [self.left], "right": [self.right]}

    def losses(self, batch, group):
        self.seen.append((group, float(self.left.detach()), float(self.right.detach())))
        if group == "left":
            return {"left": (self.left - 1).square()}
        return {"right": (self.right - 1).square() + (self.left + 100).square()}


def train(trainable, folder, batches=clips, *, valid=None, on_best=None, augment=None, **arguments):
    steps, fabric = arguments.pop("steps_per_epoch", STEPS), arguments.pop("fabric", None)
    settings = TrainingSettings(**({"epochs": EPOCHS, "lr": 0.01, "seed": 7} | arguments))
    trainer = Trainer(trainable, folder, settings, steps, fabric)
    return trainer, trainer.fit(batches, valid, augment, on_best)


def rows(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


# --- resuming


def interrupted(after):
    """`clips` that are killed when the given number of batches has been handed out."""
    left = [after]

    def batches(epoch):
        for batch in clips(epoch):
            if left[0] == 0:
                raise Stop
            left[0] -= 1
            yield batch

    return batches


def everything(trainable):
    return {**trainable.state_dict(), **dict(trainable.named_buffers())}


@pytest.mark.parametrize(
    "make, minutes, stops",
    [
        *((make_classifier, 0, [stop]) for stop in (1, 4, 7, 11)),
        (make_classifier, 60, [6]),
        (make_classifier, 0, [3, 2, 4]),
        (make_piq, 0, [6]),
        (make_piq, 60, [9]),
        (make_piq, 0, [3, 2, 4]),
    ],
)
def test_a_killed_run_ends_with_the_same_weights(tmp_path, make, minutes, stops):
    whole = make()
    _, kept = train(whole, tmp_path / "whole", augment=augment, checkpoint_minutes=minutes)
    starts = STEPS if make is make_piq else 0  # on_start sees the first epoch's batches
    for stop in stops:
        again = make()
        with pytest.raises(Stop):
            train(again, tmp_path / "parts", interrupted(starts + stop), augment=augment, checkpoint_minutes=minutes)
        if (tmp_path / "parts" / "checkpoints" / "last.ckpt").exists():
            starts = 0
    resumed = make()
    trainer, kept_again = train(resumed, tmp_path / "parts", augment=augment, checkpoint_minutes=minutes)
    for name, value in everything(whole).items():
        assert torch.equal(everything(resumed)[name], value), name
    assert kept_again == kept and trainer.epoch == EPOCHS
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole") and len(rows(tmp_path / "whole")) == EPOCHS
    before = make()
    assert not torch.equal(everything(before)[name := next(iter(before.state_dict()))], everything(whole)[name])


@pytest.mark.parametrize("stop", [2, 6])
def test_a_resumed_epoch_does_not_read_the_batches_that_are_done(tmp_path, stop):
    whole, again, resumed = make_classifier(), make_classifier(), make_classifier()
    train(whole, tmp_path / "whole", augment=augment, checkpoint_minutes=0)
    with pytest.raises(Stop):
        train(again, tmp_path / "parts", interrupted(stop), augment=augment, checkpoint_minutes=0)
    asked = []

    def later(epoch, step):
        asked.append((epoch, step))
        return itertools.islice(clips(epoch), step, None)

    settings = TrainingSettings(epochs=EPOCHS, lr=0.01, seed=7, checkpoint_minutes=0)
    trainer = Trainer(resumed, tmp_path / "parts", settings, STEPS)
    trainer.fit(lambda epoch: pytest.fail("reads all"), augment=augment, later_batches=later)
    assert asked == [(stop // STEPS, stop % STEPS), *((epoch, 0) for epoch in range(stop // STEPS + 1, EPOCHS))]
    for name, value in everything(whole).items():
        assert torch.equal(everything(resumed)[name], value), name


def test_mid_epoch_checkpoints_repeat_no_step(tmp_path):
    first = Toy()
    with pytest.raises(Stop):
        train(first, tmp_path, interrupted(STEPS + 6), checkpoint_minutes=0)
    second = Toy()
    train(second, tmp_path, checkpoint_minutes=0)
    assert len([each for each in first.called if each[0] == "losses"]) == 6
    assert len([each for each in second.called if each[0] == "losses"]) == EPOCHS * STEPS - 6


def test_a_finished_run_is_not_trained_again(tmp_path):
    _, kept = train(Toy(), tmp_path)
    again = Toy()
    _, same = train(again, tmp_path, lambda epoch: pytest.fail("asked for batches"))
    assert same == kept and again.called == [] and again.weight.item() != 0


def test_start_is_called_once_and_each_epoch_once(tmp_path):
    first = Toy()
    with pytest.raises(Stop):
        train(first, tmp_path, interrupted(STEPS + 6), checkpoint_minutes=0)
    assert [each for each in first.called if each[0] != "losses"] == [("start", STEPS), ("epoch", 0), ("epoch", 1)]
    second = Toy()
    train(second, tmp_path, checkpoint_minutes=0)
    assert [each for each in second.called if each[0] != "losses"] == [("epoch", 2)]


def test_a_checkpoint_of_another_architecture(tmp_path):
    train(Toy(), tmp_path)
    with pytest.raises(ValueError, match=r"last\.ckpt: holds another architecture") as caught:
        train(make_classifier(), tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_is_left_aside(tmp_path):
    train(Toy(), tmp_path, checkpoint_minutes=0)
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()) == [
        "checkpoints/last.ckpt",
        "log.csv",
    ]


# --- losses and their weights


def test_weight_at():
    assert [weight_at(2, epoch) for epoch in (0, 9)] == [2.0, 2.0]
    steps = [[5, 0.1], [0, 1.0], [8, 0]]
    assert [weight_at(steps, epoch) for epoch in (0, 4, 5, 7, 8, 100)] == [1.0, 1.0, 0.1, 0.1, 0.0, 0.0]
    assert weight_at([[3, 1.0]], 2) == 0.0


def test_the_log_holds_each_loss_and_their_weighted_sum(tmp_path):
    trainable = Toy()
    train(trainable, tmp_path, loss_weights={"size": [[0, 0.5], [1, 2.0]]}, lr=1e-9, epochs=2, steps_per_epoch=STEPS)
    with torch.no_grad():
        trainable.weight.fill_(2.0)
    logged = rows(tmp_path)
    for row in logged:
        assert float(row["pull"]) == pytest.approx(9, abs=1e-5) and float(row["size"]) == pytest.approx(0, abs=1e-5)
    other = Toy()
    with torch.no_grad():
        other.weight.fill_(2.0)
    train(other, tmp_path / "other", loss_weights={"size": [[0, 0.5], [1, 2.0]]}, lr=1e-9, epochs=2)
    assert [float(row["loss"]) for row in rows(tmp_path / "other")] == pytest.approx(
        [1 + 0.5 * 2, 1 + 2.0 * 2], abs=1e-4
    )


def test_weights_reach_the_gradient(tmp_path):
    still, moved = Toy(), Toy()
    train(still, tmp_path / "a", loss_weights={"pull": 0.0, "size": 0.0}, weight_decay=0.0)
    train(moved, tmp_path / "b", loss_weights={"size": 0.0}, weight_decay=0.0)
    assert still.weight.item() == 0 and moved.weight.item() > 0


@pytest.mark.parametrize("make, known", [(Toy, "pull"), (Two, "left")], ids=["one group", "two groups"])
def test_a_weight_without_a_loss(tmp_path, make, known):
    with pytest.raises(ValueError, match=rf"loss_weights names \['pul'\]; the losses are .*'{known}'"):
        train(make(), tmp_path, loss_weights={"pul": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(tmp_path, value):
    class Broken(Toy):
        def losses(self, batch, group):
            return {"pull": self.weight + value}

    with pytest.raises(ValueError, match=r"the loss became (nan|inf) in epoch 1; lower lr \(0.01\)"):
        train(Broken(), tmp_path)


def test_gradients_are_clipped(tmp_path):
    class Steep(Toy):
        def losses(self, batch, group):
            return {"pull": 1e6 * self.weight}

    trainable = Steep()
    norms = []
    trainable.weight.register_post_accumulate_grad_hook(lambda each: norms.append(each.grad))
    train(trainable, tmp_path, clip_norm=0.5)
    assert norms and all(float(each) == pytest.approx(0.5) for each in norms)  # the same tensors, clipped in place


# --- groups


def test_groups_are_stepped_in_turn_each_by_its_own_loss(tmp_path):
    trainable = Two()
    train(trainable, tmp_path, weight_decay=0.0)
    assert [group for group, _, _ in trainable.seen] == ["left", "right"] * (STEPS * EPOCHS)
    for (_, left, right), (_, left_then, right_then) in zip(trainable.seen[::2], trainable.seen[1::2]):
        assert left_then > left and right_then == right  # the first has moved when the second is asked
    for (_, left, right), (_, left_next, right_next) in zip(trainable.seen[1::2], trainable.seen[2::2]):
        assert left_next == left and right_next > right  # (left + 100)^2 does not pull the left one down
    assert {"left_left", "left_loss", "right_right", "right_loss"} < set(rows(tmp_path)[0])


# --- schedules


def rates(folder, epochs=5, **schedule):
    """The learning rate of every step."""
    trainable = Toy()
    trainer = Trainer(trainable, folder, TrainingSettings(epochs, lr=0.01, schedule=Schedule(**schedule)), STEPS)
    used = []
    optimizer = trainer.optimizers["toy"]
    trainable.weight.register_hook(lambda _: used.append(optimizer.param_groups[0]["lr"]))
    trainer.fit(clips)
    return used


def test_one_cycle_goes_up_and_all_the_way_down(tmp_path):
    used = rates(tmp_path, warmup=0.3)
    peak = used.index(max(used))
    assert len(used) == 20 and max(used) == pytest.approx(0.01)
    assert peak == 5  # a ramp of 0.3 * 20 steps, counted from 0
    assert used[: peak + 1] == sorted(used[: peak + 1]) and used[peak:] == sorted(used[peak:], reverse=True)
    assert used[-1] < 1e-6
    for step in range(peak, 20):  # the cosine, written out
        share = (step - peak) / (19 - peak)
        assert used[step] == pytest.approx(0.01 * (1 + math.cos(math.pi * share)) / 2, abs=1e-7)


@pytest.mark.parametrize("epochs, warmup", [(1, 0.25), (1, 0.5), (1, 0.01), (5, 0.05), (5, 0.9)])
def test_one_cycle_of_any_length(tmp_path, epochs, warmup):
    used = rates(tmp_path, epochs, warmup=warmup)
    assert len(used) == epochs * STEPS and max(used) == pytest.approx(0.01) and used[-1] < 1e-6


def test_constant(tmp_path):
    assert rates(tmp_path, kind="constant") == [0.01] * 20


@pytest.mark.parametrize(
    "schedule, message",
    [
        ({"kind": "cyclic"}, "schedule 'cyclic' does not exist; choose one_cycle or constant"),
        ({"warmup": 0.0}, "warmup is 0.0"),
        ({"warmup": 30}, "warmup is 30"),
    ],
)
def test_schedules_that_do_not_exist(tmp_path, schedule, message):
    with pytest.raises(ValueError, match=message):
        rates(tmp_path, **schedule)


# --- validation and the weights to keep


def test_the_best_epoch_is_kept(tmp_path):
    trainable = Toy(scores=[0.2, 0.9, 0.9])
    kept = []
    _, best = train(
        trainable,
        tmp_path,
        valid=lambda: [next(clips(0))],
        on_best=lambda row: kept.append((row["epoch"], float(trainable.weight.detach()))),
        select="valid_score",
    )
    assert [epoch for epoch, _ in kept] == [1, 2]  # a tie keeps the earlier
    assert best["epoch"] == 2 and best["valid_score"] == pytest.approx(0.9)
    assert [float(row["valid_score"]) for row in rows(tmp_path)] == pytest.approx([0.2, 0.9, 0.9])


def test_without_select_the_last_epoch_is_kept(tmp_path):
    kept = []
    _, best = train(Toy(), tmp_path, on_best=lambda row: kept.append(row["epoch"]))
    assert kept == [EPOCHS] and best["epoch"] == EPOCHS


def test_validation_means_are_over_clips_not_batches(tmp_path):
    sizes = list(clips(0))[2:]  # 3 clips and 1 clip
    _, best = train(Toy(scores=[1.0, 0.0]), tmp_path, valid=lambda: sizes, epochs=1)
    assert best["valid_score"] == pytest.approx(0.75)


def test_select_names_no_column(tmp_path):
    with pytest.raises(
        ValueError, match=r"select names 'valid_acuracy', which no epoch logs; the columns are .*'pull'"
    ):
        train(Toy(), tmp_path, select="valid_acuracy")


def test_what_cannot_be_trained(tmp_path):
    with pytest.raises(ValueError, match=r"Linear is not a Trainable: it cannot be trained"):
        train(nn.Linear(1, 1), tmp_path)
    with pytest.raises(ValueError, match="epochs is 0"):
        train(Toy(), tmp_path, epochs=0)


def test_training_a_classifier_keeps_to_the_seed(tmp_path):
    first, second, third = make_classifier(), make_classifier(), make_classifier()
    train(first, tmp_path / "1")
    train(second, tmp_path / "2")
    train(third, tmp_path / "3", seed=8)
    name = "classifier.head.4.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], third.state_dict()[name])
