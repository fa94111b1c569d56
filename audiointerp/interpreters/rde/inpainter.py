"""The inpainter: a generator that fills removed parts of a note's spectrum, trained against a discriminator.

Heiss et al. (2020), https://arxiv.org/abs/2007.00758, section 3.1: a residual CNN with noise in its input and in its
deep features. The paper states neither the layers, the losses nor the masks. Ours: the networks, the masks and the
losses, in which the discriminator reads the composite `x * s + G(x, s, n) * (1 - s)`, so that seams are penalised too
(see `Inpainter.losses`). For features and masks see `audiointerp.interpreters.rde.fillers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiointerp.contracts import Batch, Trainable
from audiointerp.interpreters.rde.fillers import Donors, Filler, GaussianNoise, Zeros, compose, fit_fillers
from audiointerp.interpreters.rde.inpainter_networks import Discriminator, Generator
from audiointerp.processes import dividing
from audiointerp.sound.logfrequency import LogFrequency

KINDS = {"single bands": 0.3, "blocks": 0.4, "whole channels": 0.3}
BLOCKS = 16  # number of blocks of bands, for level and for phase

__all__ = ["Discriminator", "Generated", "Generator", "Inpainter", "sample_masks"]


def sample_masks(count: int, bands: int, generator: torch.Generator | None = None) -> Tensor:
    """Random masks (count, 2, band) of 0 and 1 (kept) for training an inpainter, of all kinds that explanations use.

    30 % of the masks keep each band with a probability p ~ U(0, 1), 40 % keep each of 16 blocks of neighbouring bands
    with such a probability; p and the choice are drawn independently for level and phase. 30 % keep or drop the whole
    level and the whole phase, each of the four cases with equal probability.

    Args:
        count: number of masks.
        bands: number of bands of the features.
        generator: random generator; None: torch's default on the CPU.

    >>> sample_masks(3, 64, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2, 64])
    """
    device = None if generator is None else generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    kind, share = uniform(count, 1, 1), uniform(count, 2, 1)
    single = uniform(count, 2, bands) < share
    block = torch.arange(bands, device=device) * BLOCKS // bands
    blocks = (uniform(count, 2, BLOCKS) < share)[:, :, block]
    channels = (uniform(count, 2, 1) < 0.5).expand_as(single)
    first, second = KINDS["single bands"], KINDS["single bands"] + KINDS["blocks"]
    return torch.where(kind < first, single, torch.where(kind < second, blocks, channels)).float()


class Generated(Filler):
    """The generator as a filler: it reads the kept features, selected by the rounded mask, without gradient."""

    def __init__(self, generator: Generator, donors: Donors | None = None):
        super().__init__()
        self.generator, self.donors = generator, donors

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The generator's noise and the donors it starts from, (count, 2 + blocks + 3, band)."""
        donor = None if self.donors is None else self.donors.draw(count, generator)
        return self.generator.draw(count, generator, donor)

    @torch.no_grad()
    def fill(self, features: Tensor, keep: Tensor, drawn: Tensor) -> Tensor:
        """The generator's features where the rounded mask removes, the donor's where it keeps.

        A relaxed mask below 1 mixes in some of the filler at kept places, where the generator's output is untrained.
        """
        rounded = keep.round()
        made = self.generator(features, rounded, drawn)
        return made if self.donors is None else compose(drawn[:, -3:], rounded, made)


class Inpainter(Trainable):
    """Trains a generator against a discriminator, and holds the untrained fillers to compare it with.

    Args:
        bands: number of bands of the features.
        width: channels of the generator; the discriminator's first layer has three quarters of them.
        blocks: residual blocks of the generator.
        donors: largest number of notes kept as donors.
        sample_rate: of the notes, in Hz.
        from_donors: whether the generator modifies another note instead of making one from noise alone.
    Attributes:
        config: the constructor's arguments, for a bundle.
    Raises:
        ValueError: if a size is below 1.
    """

    # The discriminator learns faster than the generator. With one step each at the same learning rate, it did not
    # separate real from filled notes, and the generator collapsed.
    lr_scales = {"discriminator": 5.0}
    repeats = {"discriminator": 3}

    mean: Tensor
    std: Tensor
    bank: Tensor
    notes: Tensor

    def __init__(
        self,
        bands: int = 512,
        width: int = 48,
        blocks: int = 6,
        donors: int = 256,
        sample_rate: int = 16000,
        from_donors: bool = True,
    ):
        super().__init__()
        if donors < 1:
            raise ValueError(f"donors is {donors}; the bank needs at least 1 note")
        self.config: dict[str, Any] = {
            "bands": bands,
            "width": width,
            "blocks": blocks,
            "donors": donors,
            "sample_rate": sample_rate,
            "from_donors": from_donors,
        }
        self.from_donors = from_donors
        self.log_frequency = LogFrequency(sample_rate=sample_rate, bands=bands)
        self.generator, self.discriminator = Generator(bands, width, blocks), Discriminator(max(1, 3 * width // 4))
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.zeros(bands))
        self.register_buffer("bank", torch.zeros(donors, 3, bands))
        self.register_buffer("notes", torch.tensor(0))  # number of notes in the bank; its other rows are zeros

    def features_of(self, batch: Batch) -> Tensor:
        """Features of a batch, (batch, 3, band): its cached features, or computed from its waveform.

        Raises:
            ValueError: if the cached features have other bands.
        """
        if batch.features is None:
            return self.log_frequency(batch.waveform)
        if batch.features.shape[1:] != (3, self.generator.bands):
            raise ValueError(
                f"features are {tuple(batch.features.shape)}; this inpainter needs (batch, 3, {self.generator.bands})"
            )
        return batch.features

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The two networks, trained in alternation."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def losses(self, batch: Batch, group: str) -> dict[str, Tensor]:
        """Losses of one network: the logistic loss (Goodfellow et al., 2014, non-saturating) and a second term.

        "gradient_penalty" is half the squared gradient of the scores of real notes (R1, Mescheder et al., 2018,
        https://arxiv.org/abs/1801.04406). "reconstruction", the mean error of the generator's levels where the mask
        removes, is for the log only: weighted as a loss, it would train the generator to output the median note.
        """
        features = self.features_of(batch)
        # Drawn for the whole batch, whose notes are each other's donors.
        whole = dividing.gathered(features)
        keep = dividing.own(sample_masks(len(whole), self.generator.bands).to(features))
        noise = dividing.own(self.generator.draw(len(whole), donor=self._donor(whole)))
        if group == "discriminator":
            with torch.no_grad():
                composite = compose(features, keep, self.generator(features, keep, noise))
            real = features.detach().requires_grad_()
            scores = self.discriminator(real)
            gradient = torch.autograd.grad(scores.mean(1).sum(), real, create_graph=True)[0]
            told_apart = functional.softplus(-scores).mean() + functional.softplus(self.discriminator(composite)).mean()
            return {
                "discrimination": told_apart,
                "gradient_penalty": 0.5 * gradient.square().sum((1, 2)).mean(),
            }
        filled = self.generator(features, keep, noise)
        with _fixed(self.discriminator):
            adversarial = functional.softplus(-self.discriminator(compose(features, keep, filled))).mean()
        return {"adversarial": adversarial, "reconstruction": _level_error(features, keep, filled).mean()}

    @torch.no_grad()
    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Mean error of the filled levels under fixed masks, and the discriminator's scores of notes and composites."""
        features = self.features_of(batch)
        random = torch.Generator().manual_seed(0)
        keep = sample_masks(len(features), self.generator.bands, random).to(features)
        filled = self.generator(features, keep, self.generator.draw(len(features), random, self._donor(features, 1)))
        return {
            "level_error": _level_error(features, keep, filled),
            "real": self.discriminator(features).mean(1),
            "composite": self.discriminator(compose(features, keep, filled)).mean(1),
        }

    def _donor(self, features: Tensor, shift: int | None = None) -> Tensor | None:
        """For each note of a batch another note of the batch, `shift` rows later; `shift` is random if None."""
        if not self.from_donors:
            return None
        shift = int(torch.randint(1, max(2, len(features)), ())) if shift is None else shift
        return features.roll(shift, 0)

    def on_start(self, batches: Iterable[Batch]) -> None:
        """Fits the fillers that need no training, on the notes of one epoch."""
        self.set_fillers(self.features_of(batch) for batch in batches)

    @torch.no_grad()
    def set_fillers(self, features: Tensor | Iterable[Tensor]) -> None:
        """Fits and keeps the fillers that need no training; `features` as for `fit_fillers`."""
        fitted = fit_fillers(features, donors=len(self.bank))
        noise, donor = fitted["noise"], fitted["donor"]
        assert isinstance(noise, GaussianNoise) and isinstance(donor, Donors)
        self.mean.copy_(noise.mean)
        self.std.copy_(noise.std)
        self.bank.zero_()
        self.bank[: len(donor.bank)] = donor.bank.to(self.bank)
        self.notes.fill_(len(donor.bank))

    def fillers(self) -> dict[str, Filler]:
        """The four fillers to compare: "zeros", "noise", "donor" and "generator".

        Raises:
            ValueError: before they were fitted, by training or `set_fillers`.
        """
        if self.notes == 0:
            raise ValueError("the inpainter has no fitted fillers; train it, or call set_fillers on training features")
        noise, donor = GaussianNoise(self.mean, self.std), Donors(self.bank[: int(self.notes)])
        generated = Generated(self.generator, donor if self.from_donors else None)
        return {"zeros": Zeros(), "noise": noise, "donor": donor, "generator": generated}


def _level_error(features: Tensor, keep: Tensor, filled: Tensor) -> Tensor:
    """Mean absolute error of the level where the mask removes it, (batch,); 0 if the mask keeps everything."""
    gone = 1 - keep[:, 0]
    return ((filled - features)[:, 0].abs() * gone).sum(1) / gone.sum(1).clamp(min=1)


@contextmanager
def _fixed(module: nn.Module) -> Iterator[None]:
    """Disables the gradients of the module's parameters; gradients with respect to its input remain."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
