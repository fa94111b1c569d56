"""One row an interpreter and one row a classifier: a row buys every test of test_contract.py.

A new interpreter adds one `Case`; its builder takes a classifier of `CLASSIFIERS` and returns it ready to interpret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiointerp.classifiers import External, VGGSound
from audiointerp.contracts import Classifier, Interpreter
from audiointerp.interpreters import PIQ, Loudest, TargetMasking, Threshold
from audiointerp.masking import EnergyMask, StemMask

LABELS = ("bell", "cat", "dog", "rain")


class TinyConv(nn.Module):
    """Waveform -> logits, with one layer, `maps`, of (batch, channel, 32, samples / (186 * 16)), rounded up."""

    def __init__(self, classes: int, channels: int = 4):
        super().__init__()
        self.bank = nn.Conv1d(1, 64, 65, stride=186, padding=32)
        self.maps = nn.Conv2d(1, channels, (3, 17), stride=(2, 16), padding=(1, 8))
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = self.bank(waveform.unsqueeze(1)).relu().unsqueeze(1)
        return self.head(self.norm(self.maps(frames)).relu().mean((2, 3)))


def _lively(classifier: nn.Module) -> nn.Module:
    """Running statistics as after training: an untrained network says the same of every sound."""
    for module in classifier.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.01, 0.1)
    return classifier.eval()


def vggsound(multilabel: bool = False) -> Classifier:
    torch.manual_seed(0)
    return _lively(VGGSound(LABELS, channels=4, multilabel=multilabel))


def external() -> Classifier:
    torch.manual_seed(0)
    return _lively(External(TinyConv(len(LABELS)), LABELS, 16000, layers=["maps"]))


def piq(classifier: Classifier, **arguments) -> PIQ:
    """PIQ with codes far apart, so that another class or another vector gives another mask."""
    torch.manual_seed(1)
    made = PIQ(classifier, **{"codes": 16} | arguments)
    nn.init.normal_(made.codebook.weight, std=3)
    return made.eval()


CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    "vggsound": vggsound,
    "multilabel": lambda: vggsound(multilabel=True),
    "external": external,
}


@dataclass(frozen=True)
class Case:
    """An interpreter under the shared contract.

    Attributes:
        name: shown by pytest.
        build: classifier -> interpreter.
        mask: whether it makes a mask on the STFT grid.
        additive: waveform + residual = input.
        trained: whether it is a torch module with weights of its own.
        needs_stem: whether `interpret` wants the known stem.
        binary: whether its mask is 0 or 1 only.
        by_class: whether the mask depends on the class asked for.
    """

    name: str
    build: Callable[[Classifier], Interpreter]
    mask: bool = True
    additive: bool = False
    trained: bool = False
    needs_stem: bool = False
    binary: bool = False
    by_class: bool = False


INTERPRETERS = [
    Case("piq", piq, trained=True, by_class=True),
    Case("piq_magnitude", lambda it: piq(it, domain="magnitude", shared=2), additive=True, trained=True, by_class=True),
    Case("piq_binary", lambda it: piq(it, binary=True, normalize=True), trained=True, binary=True, by_class=True),
    Case("piq_fill", lambda it: piq(it, binary=True, fill=True), trained=True, by_class=True),
    Case("piq_light", lambda it: piq(it, decoder="light"), trained=True, by_class=True),
    Case("piq_detail", lambda it: piq(it, decoder="light", detail=True), trained=True, by_class=True),
    Case("piq_early_layer", lambda it: piq(it, layers=(0,), channels=6), trained=True, by_class=True),
    Case(
        "piq_stems",  # as recipes/esc50/piq_stems.yaml
        lambda it: piq(it, decoder="light", detail=True, stride=16, layers=(-1, 0), temperature=0.1, normalize=True),
        trained=True,
        by_class=True,
    ),
    Case("threshold", Threshold, binary=True),
    Case("target_energy", lambda it: TargetMasking(it, EnergyMask(0.9)), binary=True),
    Case("target_stem", lambda it: TargetMasking(it, StemMask(), "magnitude"), additive=True, needs_stem=True),
    Case("threshold_magnitude", lambda it: Threshold(it, 0.1, "magnitude"), additive=True, binary=True),
    Case("loudest", Loudest, binary=True),
    Case(
        "loudest_like_piq",  # as many bins as PIQ keeps, so the class counts
        lambda it: Loudest(it, domain="magnitude", like=piq(it)),
        additive=True,
        binary=True,
        by_class=True,
    ),
]
