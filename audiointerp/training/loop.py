"""The training loop for every `Trainable`.

Losses are a dict of named scalars; the recipe gives their weights, and the same dict is logged. A run that is killed at
any moment resumes from `checkpoints/last.ckpt` and ends with the same weights.

Several processes (`processes.world`) divide each batch. All of them read and augment the whole batch, so that random
numbers do not depend on their number; each computes the losses of its own rows, and gradients are summed. Weights are
therefore the same in all of them, and process 0 writes the checkpoint, with which any number of processes can go on.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import pandas
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiointerp.contracts import Batch, Trainable
from audiointerp.processes import dividing
from audiointerp.processes.world import current
from audiointerp.results.writing import write_bytes, write_table
from audiointerp.training.progress import Progress
from audiointerp.training.schedules import Schedule, Weight, weight_at
from audiointerp.training.shared_layers import share_layers

Augment = Callable[[Batch, torch.Generator], Batch]

# What a checkpoint must hold; older ones may lack the buffers.
STATE = (
    *("trainable", "optimizers", "schedulers", "rng", "cuda_rng", "generator"),
    *("epoch", "step", "sums", "history", "best"),
)

# Errors of torch.load for arbitrary bytes.
UNREADABLE = (RuntimeError, EOFError, OSError, pickle.UnpicklingError)
UNREADABLE += (LookupError, ValueError, TypeError, AttributeError)

__all__ = ["Trainer", "TrainingSettings", "epoch_seed"]


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of an epoch's random numbers; a function of its arguments, so that a resumed epoch repeats exactly."""
    return seed * 100_003 + epoch


@dataclass(frozen=True)
class TrainingSettings:
    """How a module is trained.

    Args:
        epochs: number of passes over the training clips.
        lr: peak learning rate of AdamW.
        weight_decay, betas: of AdamW.
        clip_norm: largest gradient norm of a group.
        loss_weights: name -> weight; a loss not named here has weight 1, a name without a loss is an error.
        schedule: of the learning rate.
        seed: of every random number drawn during training.
        select: column of the log whose highest value selects the weights to keep; None: those of the last epoch.
        checkpoint_minutes: longest time between checkpoints; one is always kept at the end of an epoch.
    Raises:
        ValueError: without an epoch, or for a learning rate that is not above 0.
    """

    epochs: int
    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 5.0
    loss_weights: Mapping[str, Weight] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    select: str | None = None
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; train for at least 1")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; a learning rate is above 0")


class Trainer:
    """Trains a module in place, keeping checkpoints/last.ckpt and log.csv in the run folder.

    Args:
        trainable: the module.
        folder: the run folder.
        settings: how it is trained.
        steps_per_epoch: number of batches in an epoch.
        fabric: device and precision of this process; None: the CPU.
    Raises:
        ValueError: for a module that is not a `Trainable`.
    """

    def __init__(
        self,
        trainable: Trainable,
        folder: Path,
        settings: TrainingSettings,
        steps_per_epoch: int,
        fabric: Fabric | None = None,
    ):
        if not isinstance(trainable, Trainable):
            raise ValueError(f"{type(trainable).__name__} is not a Trainable: it cannot be trained")
        self.trainable, self.folder, self.settings = trainable, folder, settings
        self.steps_per_epoch, self.saved_at = steps_per_epoch, time.monotonic()
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1)
        self.world = current()
        if self.world.others:
            share_layers(trainable)
            dividing.open_group(self.world, self.fabric.device)
        self.groups = {name: list(parameters) for name, parameters in trainable.parameter_groups().items()}
        self.repeats, lr = trainable.repeats, settings.lr
        rates = [lr * trainable.lr_scales.get(name, 1.0) for name in self.groups]
        optimizers = [
            torch.optim.AdamW(each, rate, settings.betas, weight_decay=settings.weight_decay)
            for each, rate in zip(self.groups.values(), rates)
        ]
        self.module, *wrapped = self.fabric.setup(trainable, *optimizers)
        self.module.mark_forward_method("losses")
        self.optimizers = dict(zip(self.groups, wrapped))
        steps = settings.epochs * steps_per_epoch
        self.schedulers = {
            name: settings.schedule.build(each, rate, steps * self.repeats.get(name, 1))
            for name, each, rate in zip(self.groups, optimizers, rates)
        }
        self.generator = torch.Generator()
        self.epoch = self.step = 0
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None

    @property
    def checkpoint(self) -> Path:
        """The file that the run resumes from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def fit(
        self,
        batches: Callable[[int], Iterable[Batch]],
        valid_batches: Callable[[], Iterable[Batch]] | None = None,
        augment: Augment | None = None,
        on_best: Callable[[dict[str, float]], None] | None = None,
        later_batches: Callable[[int, int], Iterable[Batch]] | None = None,
    ) -> dict[str, float]:
        """Trains to the last epoch and returns the log row of the weights to keep.

        Args:
            batches: epoch -> its batches, the same ones at each call.
            valid_batches: the validation clips.
            augment: changes a training batch, drawing random numbers from the given generator.
            on_best: called with the log row of each epoch that is the best so far, while its weights are in place.
            later_batches: epoch and step -> the epoch's batches from that step on, for a run that resumes within it.
                None: the batches before it are read again and left out.

        Raises:
            ValueError: a damaged or unfit checkpoint, a loss that is not finite, a weight without a loss, or a `select`
                that no epoch logs.
        """
        if not self._resume():
            torch.manual_seed(self.settings.seed)
            self.trainable.on_start(each.to(self.fabric.device) for each in batches(0))
        dividing.same([*self.trainable.parameters(), *self.trainable.buffers()])
        epochs, steps = self.settings.epochs, self.steps_per_epoch
        done = self.epoch * steps + self.step
        with Progress(epochs * steps, "training", done) as progress:
            while self.epoch < epochs:
                if self.step == 0:
                    self._start_epoch()
                progress.rename(f"training, epoch {self.epoch + 1} of {epochs}")
                self._train_epoch(self._left(batches, later_batches), augment, progress)
                row = self._log_row() | self._validate(valid_batches)
                if self._is_best(row):
                    self.best = row
                    if on_best is not None and self.world.first:
                        on_best(row)
                self._finish_epoch(row)
        assert self.best is not None
        return self.best

    def _start_epoch(self) -> None:
        start = epoch_seed(self.settings.seed, self.epoch)
        torch.manual_seed(start)
        self.generator.manual_seed(start)
        self.sums = {}
        self.trainable.on_epoch(self.epoch)

    def _left(
        self, batches: Callable[[int], Iterable[Batch]], later: Callable[[int, int], Iterable[Batch]] | None
    ) -> Iterable[Batch]:
        """The batches of this epoch that no step has used yet."""
        if later is not None:
            return later(self.epoch, self.step)
        return islice(batches(self.epoch), self.step, None)

    def _train_epoch(self, batches: Iterable[Batch], augment: Augment | None, progress: Progress) -> None:
        self.trainable.train()
        for number, batch in enumerate(batches, self.step):
            self._train_step(augment(batch, self.generator) if augment else batch)
            self.step = number + 1
            progress.step()
            if self.world.first and time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
                self._save()

    def _train_step(self, batch: Batch) -> None:
        share = dividing.Share.of(len(batch), self.world)
        batch = (batch if share is None else batch.rows(share.first, share.last)).to(self.fabric.device)
        # A batch that is not divided is computed by every process, so that each has an equal part in the sum.
        part = 1 / self.world.size if share is None else share.part
        known: set[str] = set()
        for group, optimizer in self._steps():
            with dividing.taken(share):
                with self.fabric.autocast():
                    losses = self.module.losses(batch, group)
                known |= set(losses)
                total = self._weighted_sum(losses)
                values = self._of_all({**losses, "loss": total}, part)
                optimizer.zero_grad(set_to_none=True)
                self.fabric.backward(total * part if self.world.others else total)
            dividing.add_gradients(self.groups[group])
            nn.utils.clip_grad_norm_(self.groups[group], self.settings.clip_norm)
            optimizer.step()
            self.schedulers[group].step()
            for name, value in values.items():
                key = name if len(self.groups) == 1 else f"{group}_{name}"
                self.sums[key] = self.sums.get(key, 0.0) + value / self.repeats.get(group, 1)
        if unknown := set(self.settings.loss_weights) - known:
            raise ValueError(f"loss_weights names {sorted(unknown)}; the losses are {sorted(known)}")

    def _steps(self) -> Iterator[tuple[str, Any]]:
        """Each group in turn with its optimiser, as many times as it is stepped."""
        for group, optimizer in self.optimizers.items():
            yield from [(group, optimizer)] * self.repeats.get(group, 1)

    def _weighted_sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        weights = {name: weight_at(self.settings.loss_weights.get(name, 1.0), self.epoch) for name in losses}
        return torch.stack([weights[name] * value for name, value in losses.items()]).sum()

    def _of_all(self, losses: Mapping[str, Tensor], part: float) -> dict[str, float]:
        """The losses of the whole batch; raises ValueError, in all processes, if their weighted sum is not finite."""
        values = {name: float(value.detach()) for name, value in losses.items()}
        if self.world.others:
            own = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
            values = dict(zip(sorted(values), dividing.total(own * part).tolist()))
        if not isfinite(values["loss"]):
            raise ValueError(
                f"the loss became {values['loss']} in epoch {self.epoch + 1}; lower lr ({self.settings.lr})"
            )
        return {name: values[name] for name in losses}

    def _log_row(self) -> dict[str, float]:
        row = {"epoch": float(self.epoch + 1), "lr": float(next(iter(self.optimizers.values())).param_groups[0]["lr"])}
        row |= {name: value / self.steps_per_epoch for name, value in self.sums.items()}
        return row | dict(self.trainable.epoch_scores())

    def _validate(self, valid_batches: Callable[[], Iterable[Batch]] | None) -> dict[str, float]:
        if valid_batches is None:
            return {}
        self.trainable.eval()
        own: list[dict[str, list[float]]] = []  # each process scores every so many-th batch
        for batch in islice(valid_batches(), self.world.rank, None, self.world.size):
            scores = self.trainable.scores(batch.to(self.fabric.device))
            own.append({f"valid_{name}": each.detach().double().tolist() for name, each in scores.items()})
        values: dict[str, list[float]] = {}
        for scored in (each for turn in zip_longest(*self.world.gather(own)) for each in turn if each is not None):
            for name, some in scored.items():
                values.setdefault(name, []).extend(some)
        return {name: float(torch.tensor(each, dtype=torch.float64).mean()) for name, each in values.items()}

    def _is_best(self, row: dict[str, float]) -> bool:
        select = self.settings.select
        if select is None:
            return self.epoch + 1 == self.settings.epochs
        if select not in row:
            raise ValueError(f"select names {select!r}, which no epoch logs; the columns are {sorted(row)}")
        # Any number is better than NaN.
        return self.best is None or (not row[select] <= self.best[select] and not isnan(row[select]))

    def _finish_epoch(self, row: dict[str, float]) -> None:
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        if self.world.first:
            self._save()
            write_table(self.folder / "log.csv", pandas.DataFrame(self.history))

    def _save(self) -> None:
        """Writes the state needed to resume bit for bit, under a temporary name, then renames it."""
        state: dict[str, Any] = {
            "trainable": self.trainable.state_dict(),
            "buffers": self._passing_buffers(),
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            "schedulers": {name: each.state_dict() for name, each in self.schedulers.items()},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "generator": self.generator.get_state(),
            **{name: getattr(self, name) for name in ("epoch", "step", "sums", "history", "best")},
        }
        # Serialised in memory first, because torch does not report a full disk as an OSError.
        data = io.BytesIO()
        torch.save(state, data)
        write_bytes(self.checkpoint, data.getbuffer())
        self.saved_at = time.monotonic()

    def _passing_buffers(self) -> dict[str, Tensor]:
        """Buffers that bundles leave out but the next step depends on, such as counts of this epoch's codes."""
        kept = self.trainable.state_dict().keys()
        return {name: each for name, each in self.trainable.named_buffers() if name not in kept}

    def _set_cuda_rng(self, states: list[Tensor]) -> None:
        """Sets the generators of the GPUs; of several processes, each to that of process 0, which wrote the file."""
        if self.world.others and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(states[0], self.fabric.device)
        else:
            torch.cuda.set_rng_state_all(states)

    def _resume(self) -> bool:
        if not self.checkpoint.is_file():
            return False
        data = io.BytesIO(self.checkpoint.read_bytes())
        try:
            state = torch.load(data, map_location="cpu", weights_only=True)
        except UNREADABLE:
            raise ValueError(f"{self.checkpoint}: is damaged; delete it to train from the start") from None
        try:
            if missing := [name for name in STATE if name not in state]:
                raise KeyError(f"it has no {missing[0]}")
            self.trainable.load_state_dict(state["trainable"])
            passing = self._passing_buffers()
            for name, value in state.get("buffers", {}).items():
                passing[name].copy_(value)
            for name in self.groups:
                self.optimizers[name].load_state_dict(state["optimizers"][name])
                self.schedulers[name].load_state_dict(state["schedulers"][name])
            torch.set_rng_state(state["rng"])
            if state["cuda_rng"] and torch.cuda.is_available():
                self._set_cuda_rng(state["cuda_rng"])
            self.generator.set_state(state["generator"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise ValueError(
                f"{self.checkpoint}: holds another architecture ({first}); use another output_folder or delete it"
            ) from None
        for name in ("epoch", "step", "sums", "history", "best"):
            setattr(self, name, state[name])
        if (
            self.history and self.world.first
        ):  # the process may have ended between the checkpoint and the log of an epoch
            write_table(self.folder / "log.csv", pandas.DataFrame(self.history))
        return True
