"""The training loop for every `Trainable`.

Losses are a dict of named scalars; the recipe gives their weights, and the same dict is logged. A run that is killed at
any moment resumes from `checkpoints/last.ckpt` and ends with the same weights.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import pandas
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiointerp.contracts import Batch, Trainable
from audiointerp.results.writing import write_bytes, write_table
from audiointerp.training.progress import Progress
from audiointerp.training.schedules import Schedule, Weight, weight_at

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
        fabric: device, precision and processes; None: the CPU.
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
    ) -> dict[str, float]:
        """Trains to the last epoch and returns the log row of the weights to keep.

        Args:
            batches: epoch -> its batches, the same ones at each call.
            valid_batches: the validation clips.
            augment: changes a training batch, drawing random numbers from the given generator.
            on_best: called with the log row of each epoch that is the best so far, while its weights are in place.

        Raises:
            ValueError: a damaged or unfit checkpoint, a loss that is not finite, a weight without a loss, or a `select`
                that no epoch logs.
        """
        if not self._resume():
            torch.manual_seed(self.settings.seed)
            self.trainable.on_start(each.to(self.fabric.device) for each in batches(0))
        epochs, steps = self.settings.epochs, self.steps_per_epoch
        done = self.epoch * steps + self.step
        with Progress(epochs * steps, "training", done, self.fabric.is_global_zero) as progress:
            while self.epoch < epochs:
                if self.step == 0:
                    self._start_epoch()
                progress.rename(f"training, epoch {self.epoch + 1} of {epochs}")
                self._train_epoch(batches, augment, progress)
                row = self._log_row() | self._validate(valid_batches)
                if self._is_best(row):
                    self.best = row
                    if on_best is not None and self.fabric.is_global_zero:
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

    def _train_epoch(
        self, batches: Callable[[int], Iterable[Batch]], augment: Augment | None, progress: Progress
    ) -> None:
        self.trainable.train()
        for number, batch in enumerate(batches(self.epoch)):
            if number < self.step:
                continue
            self._train_step(augment(batch, self.generator) if augment else batch)
            self.step = number + 1
            progress.step()
            if time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
                self._save()

    def _train_step(self, batch: Batch) -> None:
        batch = batch.to(self.fabric.device)
        known: set[str] = set()
        for group, optimizer in self._steps():
            with self.fabric.autocast():
                losses = self.module.losses(batch, group)
            known |= set(losses)
            total = self._weighted_sum(losses)
            optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(total)
            nn.utils.clip_grad_norm_(self.groups[group], self.settings.clip_norm)
            optimizer.step()
            self.schedulers[group].step()
            for name, value in {**losses, "loss": total}.items():
                key = name if len(self.groups) == 1 else f"{group}_{name}"
                self.sums[key] = self.sums.get(key, 0.0) + float(value.detach()) / self.repeats.get(group, 1)
        if unknown := set(self.settings.loss_weights) - known:
            raise ValueError(f"loss_weights names {sorted(unknown)}; the losses are {sorted(known)}")

    def _steps(self) -> Iterator[tuple[str, Any]]:
        """Each group in turn with its optimiser, as many times as it is stepped."""
        for group, optimizer in self.optimizers.items():
            yield from [(group, optimizer)] * self.repeats.get(group, 1)

    def _weighted_sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        weights = {name: weight_at(self.settings.loss_weights.get(name, 1.0), self.epoch) for name in losses}
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        if not torch.isfinite(total.detach()):
            raise ValueError(
                f"the loss became {float(total.detach())} in epoch {self.epoch + 1}; lower lr ({self.settings.lr})"
            )
        return total

    def _log_row(self) -> dict[str, float]:
        row = {"epoch": float(self.epoch + 1), "lr": float(next(iter(self.optimizers.values())).param_groups[0]["lr"])}
        row |= {name: value / self.steps_per_epoch for name, value in self.sums.items()}
        return row | dict(self.trainable.epoch_scores())

    def _validate(self, valid_batches: Callable[[], Iterable[Batch]] | None) -> dict[str, float]:
        if valid_batches is None:
            return {}
        self.trainable.eval()
        values: dict[str, list[Tensor]] = {}
        for batch in valid_batches():
            for name, each in self.trainable.scores(batch.to(self.fabric.device)).items():
                values.setdefault(f"valid_{name}", []).append(each.detach().double().cpu())
        return {name: float(torch.cat(each).mean()) for name, each in values.items()}

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
        if self.fabric.is_global_zero:
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
                torch.cuda.set_rng_state_all(state["cuda_rng"])
            self.generator.set_state(state["generator"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise ValueError(
                f"{self.checkpoint}: holds another architecture ({first}); use another output_folder or delete it"
            ) from None
        for name in ("epoch", "step", "sums", "history", "best"):
            setattr(self, name, state[name])
        if self.history:  # the process may have ended between the checkpoint and the log of an epoch
            write_table(self.folder / "log.csv", pandas.DataFrame(self.history))
        return True
