"""The labels that a classifier finds likeliest in a recording, kept in the run folder for its page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from audiointerp.contracts import Classifier, frozen
from audiointerp.evaluation.items import Item, naming
from audiointerp.results.reading import LIKELIEST, read_table
from audiointerp.results.writing import write_table
from audiointerp.sound.files import normalize_peak

SHOWN = 5

__all__ = ["note_likeliest"]


@torch.no_grad()
def note_likeliest(item: Item, classifier: Classifier, folder: Path) -> list[int]:
    """Indices of all labels, likeliest first, in a recording's first 30 s; adds five of them to likeliest.csv."""
    waveform = normalize_peak(next(item.windows()).waveform.to(classifier.device))[0]
    with frozen(classifier), naming(item.source):
        probabilities = classifier(waveform).probabilities[0].cpu()
    order = probabilities.argsort(descending=True, stable=True).tolist()
    rows = [
        {
            "item_id": item.item_id,
            "rank": rank,
            "label": classifier.labels[i],
            "probability": float(probabilities[i]),
        }
        for rank, i in enumerate(order[:SHOWN], 1)
    ]
    known = read_table(folder / LIKELIEST, ("item_id", "label", "probability"))
    if not len(known) or item.item_id not in set(known["item_id"]):
        write_table(folder / LIKELIEST, pd.concat([known, pd.DataFrame(rows)], ignore_index=True), "%.6g")
    return order
