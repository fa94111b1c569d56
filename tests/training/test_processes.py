"""Training by several processes (gloo, on the CPU) against training by one: the same weights, kills included.

In double precision, since Adam turns the rounding errors of a gradient that is 0 (the bias of a convolution before a
batch normalisation) into steps as large as others: there every weight agrees. In single precision all others do.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from cases import LABELS, explainer, flint, l2i, lmac, lmac_td, piq, rtis, vggsound, vibi
from lightning_fabric import Fabric
from worlds import in_world, started

from audiointerp.classifiers import Supervised, VGGSound
from audiointerp.contracts import Batch, Trainable
from audiointerp.datasets.augment.spectrograms import FrequencyMask, WeakBinMask
from audiointerp.interpreters import JointFLINT
from audiointerp.interpreters.rde import Inpainter
from audiointerp.processes import dividing
from audiointerp.processes.world import World, current
from audiointerp.training.loop import Trainer, TrainingSettings
from audiointerp.training.shared_layers import share_layers

ROWS = (7, 6, 5, 4, 1)  # the last two are not divided between three, and between two, processes
EPOCHS = 3
# A batch normalisation removes what these add, and the means that it keeps are of what it removes.
WITHOUT_EFFECT = re.compile(
    r"stages\.\d\.0\.bias|residual\.block\.[034]\.bias|adapter\.0\.block\.[03]\.bias|running_mean"
)


def clips(epoch: int):
    generator = torch.Generator().manual_seed(epoch)
    for rows in ROWS:
        waveform = torch.randn(rows, 4800, generator=generator)
        label = torch.randint(4, (rows,), generator=generator)
        yield Batch(waveform / waveform.abs().amax(1, keepdim=True), label, torch.arange(rows))


def augment(batch: Batch, generator: torch.Generator) -> Batch:
    """Draws from the loop's generator and from the global one; mixes clips of the batch."""
    level = 1 + 0.1 * torch.rand(len(batch), 1, generator=generator) + 0.1 * torch.rand(len(batch), 1)
    return batch.replace(waveform=batch.waveform * level + 0.1 * batch.waveform.roll(1, 0))


def classifier() -> Trainable:
    torch.manual_seed(0)
    made = VGGSound(LABELS, channels=4, dropout=0.5)
    return Supervised(made, label_smoothing=0.1, augment_features=WeakBinMask())


def quantised() -> Trainable:
    """Few enough codes that no two begin alike, and so many that some die."""
    return piq(vggsound(), codes=96, condition="label")


def doubled(trainable: Trainable) -> Trainable:
    frozen = getattr(trainable, "classifier", None)
    if frozen is not None:
        frozen.double()
    return trainable.double()


def trainer_of(make, folder: str, double: bool, **settings) -> tuple[Trainable, Trainer]:
    torch.set_num_threads(1)
    trainable = doubled(make()) if double else make()
    chosen = TrainingSettings(**({"epochs": EPOCHS, "lr": 0.01, "seed": 7} | settings))
    return trainable, Trainer(trainable, Path(folder), chosen, len(ROWS), Fabric(accelerator="cpu", devices=1))


def state_of(trainable: Trainable) -> dict[str, list]:
    state = {**trainable.state_dict(), **dict(trainable.named_buffers())}
    return {name: each.tolist() for name, each in state.items()}


def train(make, folder: str, double: bool = True, dies_after: int = -1, **settings):
    """Trains, and kills process 1 after so many batches; every weight, and the losses of the last epoch."""
    trainable, trainer = trainer_of(make, folder, double, **settings)
    handed = [0]

    def batches(epoch: int):
        for batch in clips(epoch):
            if handed[0] == dies_after and current().rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            handed[0] += trainable.training  # not those that the start or the validation reads
            yield batch.replace(waveform=batch.waveform.double()) if double else batch

    kept = trainer.fit(batches, lambda: batches(99), augment)
    return state_of(trainable), kept


def train_an_epoch(make, folder: str) -> dict[str, list]:
    """Every weight after one epoch in single precision at a usual learning rate."""
    return train(make, folder, double=False, epochs=1, lr=0.001)[0]


def furthest(first: dict[str, list], second: dict[str, list], left_out: re.Pattern | None = None) -> float:
    """The largest difference of two states."""
    assert first.keys() == second.keys()
    return max(
        float((torch.tensor(each, dtype=torch.float64) - torch.tensor(second[name], dtype=torch.float64)).abs().max())
        for name, each in first.items()
        if not (left_out and left_out.search(name))
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [classifier, quantised])
def test_any_number_of_processes_gives_the_same_weights(make, tmp_path):
    """Batch normalisation, dropout, augmentation, codes and their replacement, uneven shares, a batch of one clip."""
    (whole,) = in_world(1, train, make, str(tmp_path / "1"))
    for size in (2, 3):
        divided = in_world(size, train, make, str(tmp_path / str(size)))
        assert all(each == divided[0] for each in divided)  # bit for bit among the processes
        assert furthest(divided[0][0], whole[0]) < 1e-6
        assert divided[0][1] == pytest.approx(whole[1], rel=1e-6)
    if make is quantised:
        assert whole[1]["unused_codes"] > 0
    assert furthest(state_of(doubled(make())), whole[0]) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("make", [classifier, quantised])
def test_in_single_precision(make, tmp_path):
    """The default precision over one epoch: to 1e-5, but for weights that have no effect."""
    (whole,) = in_world(1, train_an_epoch, make, str(tmp_path / "1"))
    divided, _ = in_world(2, train_an_epoch, make, str(tmp_path / "2"))
    assert furthest(divided, whole, WITHOUT_EFFECT) < 1e-5


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_any_number_goes_on(tmp_path):
    (whole,) = in_world(1, train, quantised, str(tmp_path / "whole"))
    # Killed in the second epoch; a checkpoint of each epoch is kept.
    processes, queue, _store = started(2, train, quantised, str(tmp_path / "killed"), True, 7)
    since = time.monotonic()
    assert queue.get(timeout=120) == (0, "LostProcess: another of the 2 processes has ended")
    for each in processes:
        each.join(60)
    assert [each.exitcode for each in processes] == [1, -signal.SIGKILL] and time.monotonic() - since < 120
    before = torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt")
    assert before["epoch"] == 1
    for size in (2, 1, 3):
        folder = tmp_path / f"again_{size}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").write_bytes((tmp_path / "killed/checkpoints/last.ckpt").read_bytes())
        resumed = in_world(size, train, quantised, str(folder))
        assert furthest(resumed[0][0], whole[0]) < 1e-6 and resumed[0][1] == pytest.approx(whole[1], rel=1e-6)
        assert len((folder / "log.csv").read_text().splitlines()) == 1 + EPOCHS


# --- every trained method: one step


def tagger(**arguments) -> Trainable:
    return piq(vggsound(multilabel=True), codes=96, **arguments)


STEPS = {
    "supervised": lambda: Supervised(VGGSound(LABELS, channels=4, dropout=0.3), augment_features=FrequencyMask(40)),
    "supervised_tags": lambda: Supervised(VGGSound(LABELS, channels=4, multilabel=True), positive_weight=3.0),
    "piq_separation": lambda: tagger(separate_classes=True, condition="label"),
    "piq_light": lambda: piq(vggsound(), decoder="light", mask_loss="dice", detail=True),
    "piq_weighted": lambda: piq(vggsound(), mask_loss="weighted_bce", normalize=True, temperature=0.1),
    "l2i": lambda: l2i(vggsound()),
    "lmac": lambda: lmac(vggsound(), condition="likeliest", least=0.0),
    "lmac_td": lambda: lmac_td(vggsound(), condition="likeliest", least=0.0),
    "explainer": lambda: explainer(vggsound(multilabel=True), labels_kept="one"),
    "rtis": lambda: rtis(vggsound(multilabel=True)),
    "vibi": lambda: vibi(vggsound()),
    "flint": lambda: flint(vggsound()),
    "flint_by_design": lambda: JointFLINT(flint(vggsound())),
    "inpainter": lambda: Inpainter(bands=32, width=4, blocks=1, donors=4),
}
MULTILABEL = ("supervised_tags", "piq_separation", "explainer", "rtis")


def step(name: str) -> dict[str, list]:
    """The weights after two steps on a batch of seven clips of unequal numbers of labels, one without any."""
    torch.manual_seed(3)
    trainable = doubled(STEPS[name]())
    (batch, *_) = clips(5)
    sets = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1] * 4])
    if name == "piq_separation":
        sets[1, 1] = 1
    label = sets.double() if name in MULTILABEL else batch.label
    features = torch.rand(7, 3, 32, dtype=torch.float64) if name == "inpainter" else None
    batch = batch.replace(waveform=batch.waveform.double(), label=label, features=features)
    trainer = Trainer(trainable, Path("never"), TrainingSettings(1, 0.01), 2)
    torch.manual_seed(4)
    trainable.train()
    for _ in range(2):
        trainer._train_step(batch)
    return {**state_of(trainable), **{name: [value] for name, value in trainer.sums.items()}}


def every_step() -> dict[str, dict[str, list]]:
    torch.set_num_threads(1)
    return {name: step(name) for name in STEPS}


@pytest.mark.slow
def test_steps_of_every_trained_method():
    (whole,) = in_world(1, every_step)
    divided = in_world(2, every_step)
    for name in STEPS:
        assert furthest(divided[0][name], whole[name]) < 1e-6, name
        assert divided[1][name] == divided[0][name], name


# --- parts, without processes


def test_shares_are_all_rows_once():
    for size in (2, 3, 5):
        for rows in range(2 * size, 30):
            shares = [dividing.Share.of(rows, World(rank, size)) for rank in range(size)]
            covered = [row for each in shares for row in range(each.first, each.last)]
            assert covered == list(range(rows)) and min(each.last - each.first for each in shares) >= 2
            assert sum(each.part for each in shares) == pytest.approx(1)
    assert dividing.Share.of(3, World(0, 2)) is None and dividing.Share.of(30, World()) is None


def test_shared_layers_compute_whole_batches_as_torch_does():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5), torch.nn.BatchNorm2d(3))
    names = list(layers.state_dict())
    x = torch.randn(4, 3, 5, 6)
    torch.manual_seed(1)
    expected = layers(x)
    layers[0].reset_running_stats(), layers[2].reset_running_stats()
    share_layers(layers)
    torch.manual_seed(1)
    assert torch.equal(layers(x), expected) and list(layers.state_dict()) == names


def test_alone_nothing_is_changed():
    values = torch.randn(3, 2)
    for same in (dividing.own, dividing.gathered, dividing.summed):
        assert same(values) is values
    assert dividing.fair(values, 7) is values and current() == World()
