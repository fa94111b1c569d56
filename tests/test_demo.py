"""`audiointerp demo`, whole: it takes about 15 minutes on one core."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from tiny_runs import changed_files, linked, results_of, run, snapshot

import audiointerp
from audiointerp.interpreters import PIQ
from audiointerp.training.loop import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory, _own_cache) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    run(["demo", "-o", folder])
    return folder


@pytest.fixture
def explained(demo) -> Path:
    (folder,) = (demo / "results" / "demo_piq").iterdir()
    return folder


def test_the_shipped_piq_has_a_page_of_its_own(demo):
    names = linked(demo / "first" / "report.html")
    assert "scores.csv" in names and results_of(demo / "first") == {}
    assert len(pd.read_csv(demo / "first" / "mixtures" / "mixtures.csv")) == 3


def test_the_classifier_hears_the_classes(demo):
    (folder,) = (demo / "results" / "demo_classifier").iterdir()
    results = results_of(folder)
    assert results["test_clips"] == 80 and results["test_accuracy"] > 0.8
    log = pd.read_csv(folder / "log.csv")
    assert len(log) == 15 and log.loss.iloc[-1] < 0.75 * log.loss.iloc[0]


def test_what_is_explained_is_nearer_to_its_class(explained):
    """Of ten mixtures of two classes: PIQ's sound is nearer to the explained class's part than the mixture is."""
    results_of(explained)
    scores = pd.read_csv(explained / "scores.csv")
    own = scores[~scores.method.str.endswith("_other")]
    expected = {(condition, name): 10 for condition in ("clean", "mixture") for name in set(own.method)}
    assert own.groupby(["condition", "method"]).size().to_dict() == expected
    assert set(own.method) == {"demo_piq", "threshold", "loudest"}
    mixtures = scores[scores.condition == "mixture"].set_index("item_id")
    means = mixtures.groupby("method").si_sdr_improvement.mean()
    assert means["demo_piq"] > 0 and means["demo_piq_other"] > 0
    assert means["demo_piq"] > max(means["loudest"], means["threshold"])
    # One mixture by hand, where the explained class is the reference: Le Roux et al. (2019), equation (3).
    table = pd.read_csv(explained / "mixtures" / "mixtures.csv").set_index("item_id")
    piq = mixtures[mixtures.method == "demo_piq"]
    known = piq[piq.target == table.loc[piq.index].base_label]
    assert len(known) >= 1
    for item, row in known.iterrows():
        folder = explained / "audio" / str(item)
        kept, mixture, stem = (
            soundfile.read(folder / f"{each}.wav")[0] for each in ("demo_piq", "mixture", "reference")
        )
        gain = si_sdr(kept, stem) - si_sdr(mixture, stem)
        assert row.si_sdr_improvement == pytest.approx(gain, abs=0.05)


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    target = (estimate @ reference) / (reference @ reference) * reference
    return float(10 * np.log10((target @ target) / ((target - estimate) @ (target - estimate))))


def test_its_page_plays_everything(explained):
    names = linked(explained / "report.html")
    assert "scores.csv" in names
    scores = pd.read_csv(explained / "scores.csv")
    page = (explained / "report.html").read_text()
    assert set(scores.item_id) <= set(re.findall(r"audio/([^/\"]+)/", page))
    assert isinstance(audiointerp.load(explained), PIQ)


def test_again_nothing_is_done(demo, capsys, monkeypatch):
    before = snapshot(demo)
    monkeypatch.setattr(Trainer, "_train_step", lambda *given: pytest.fail("it trains again"))
    monkeypatch.setattr(PIQ, "interpret", lambda *given, **rest: pytest.fail("it explains again"))
    monkeypatch.setattr("audiointerp.datasets.synthetic.synthesize", lambda *given: pytest.fail("it synthesises again"))
    run(["demo", "-o", demo])
    assert not changed_files(before, demo)
    said = capsys.readouterr().out
    (page,) = re.findall(r"^open (.*)$", said, re.M)
    first, again = re.findall(r": (.*first/report.html)$", said, re.M)
    assert first == again and Path(first).samefile(demo / "first" / "report.html")
    assert Path(page).samefile(next((demo / "results" / "demo_piq").iterdir()) / "report.html")
