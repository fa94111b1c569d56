"""Synthetic clips of three classes and a classifier with random weights that tells them apart, for whole commands."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import nn

from audiointerp.classifiers import VGGSound
from audiointerp.datasets import make_synthetic


def three_classes(folder: Path) -> VGGSound:
    """Writes `folder/data` in ESC-50's layout, five clips of 0.5 s a class; returns a classifier of its classes."""
    make_synthetic(folder / "data", clips_per_class=5, seconds=0.5)
    table = pd.read_csv(folder / "data" / "meta" / "esc50.csv")
    labels = tuple(sorted(table.category.unique())[:3])
    table[table.category.isin(labels)].to_csv(folder / "data" / "meta" / "esc50.csv", index=False)
    torch.manual_seed(0)
    classifier = VGGSound(labels, channels=4)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.01, 0.1)
    return classifier.eval()
