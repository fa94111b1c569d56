"""The first page of `audiointerp demo`: made by the shipped PIQ, and announced before anything is trained."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from tiny_runs import changed_files, linked, snapshot

from audiointerp import datasets
from audiointerp.__main__ import main
from audiointerp.interpreters import PIQ
from audiointerp.runs.experiment import Experiment


@pytest.fixture
def no_training(monkeypatch):
    """The demo on a few clips of 1 s; it ends where its first training begins."""

    def stop(experiment):
        raise ValueError(f"{experiment.name} would be trained now")

    small = functools.partial(datasets.make_synthetic, seconds=1.0)
    monkeypatch.setattr(datasets, "make_synthetic", lambda folder, clips_per_class: small(folder, 5))
    monkeypatch.setattr(Experiment, "run", stop)


def test_it_is_there_before_anything_is_trained(no_training, tmp_path, capsys, monkeypatch):
    out = tmp_path / "demo"
    assert main(["demo", "-o", str(out)]) == 2
    said = capsys.readouterr()
    assert "demo_classifier would be trained now" in said.err
    (page,) = re.findall(r"^first page.*: (.*)$", said.out, re.M)
    names = linked(Path(page))
    scores = pd.read_csv(out / "first" / "scores.csv")
    table = pd.read_csv(out / "first" / "mixtures" / "mixtures.csv").set_index("item_id")
    assert set(scores.item_id) == set(table.index) and len(table) == 3
    # Both classes of each mixture are explained, whatever is predicted, and compared with their known part.
    explained = scores.set_index(["item_id", "method"]).target
    assert explained.xs("esc10-piq", level=1).to_dict() == table.base_label.to_dict()
    assert explained.xs("esc10-piq_other", level=1).to_dict() == table.other_label.to_dict()
    assert len(scores) == 6 and scores.si_sdr_improvement.notna().all()
    for item, row in table.iterrows():
        assert {f"audio/{item}/mixture.wav", f"audio/{item}/esc10-piq.wav"} <= set(names)
        assert row.base_label != row.other_label and {row.base_label, row.other_label} <= {"clock_tick", "dog", "rain"}
        kept, mixture = (
            soundfile.read(out / "first" / "audio" / item / f"{each}.wav")[0] for each in ("esc10-piq", "mixture")
        )
        assert len(kept) == len(mixture) and np.abs(kept).max() > 0 and not np.allclose(kept, mixture, atol=1e-2)

    before = snapshot(out)
    monkeypatch.setattr(PIQ, "interpret", lambda *given, **rest: pytest.fail("it explains again"))
    assert main(["demo", "-o", str(out)]) == 2
    assert page in capsys.readouterr().out and not changed_files(before, out)
