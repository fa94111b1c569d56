"""The notebooks run from their first cell to their last, with small settings and without a network."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from notebooks import cells, run

import audiointerp
from audiointerp.contracts import Interpretation
from audiointerp.datasets.synthetic import synthesize
from audiointerp.results.showing import Players, ShownFigure

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def kinds(shown):
    return [type(each) for each in shown if each is not None]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_stored_without_results(path):
    """Results of another version would look like those of this one."""
    code = [each for each in cells(path) if each["cell_type"] == "code"]
    assert all(each["outputs"] == [] and each["execution_count"] is None for each in code)
    assert sum("parameters" in each["metadata"].get("tags", ()) for each in code) == 1
    assert all(f"docs/notebooks/{path.name}" in (FOLDER.parents[1] / page).read_text() for page in ["README.md"])


@pytest.mark.slow
def test_explain_a_recording(models, capsys):
    sound = synthesize("bell", np.random.default_rng(0), 2.0)
    audiointerp.write("my.wav", torch.from_numpy(sound), 16000)
    weights = models / "efficientat_mn04" / "mn04_as.safetensors"
    scope, shown = run(FOLDER / "explain_a_recording.ipynb", model=f"efficientat:{weights}")
    assert kinds(shown) == [audiointerp.Waveform, Interpretation, ShownFigure, Players, list]
    explained = scope["explained"]
    assert (
        explained.target.sum() == 1 and scope["label"] == scope["tagger"].labels[int(explained.target.int().argmax())]
    )
    # The interpretation and the rest are the recording, and the mask is not trivial.
    assert torch.allclose(explained.waveform + explained.residual, scope["sound"].plain, atol=1e-5)
    assert 0.01 < float(explained.mask.mean()) < 0.99
    assert f"{scope['label']}: recording" in capsys.readouterr().out
    assert audiointerp.read("explained/interpretation.wav").shape == scope["sound"].shape


@pytest.mark.slow
def test_compare_methods(tiny, capsys):
    settings = {"data": str(tiny.data), "model": str(tiny.piq), "folds": ["5"], "mixtures": 2, "seconds": 1.0}
    scope, shown = run(FOLDER / "compare_methods.ipynb", **settings, methods=["piq", "gradcam", "loudest"])
    scores = scope["scores"]
    assert {"piq", "gradcam", "loudest"} <= set(scores["method"]) and scores["item_id"].nunique() == 2
    assert kinds(shown)[-2:] == [ShownFigure, Players]
    printed = capsys.readouterr().out
    for method in ("piq", "gradcam", "loudest"):
        assert re.search(rf"faithfulness +{method} +[+-]0\.\d\d \[[+-]0\.\d\d, [+-]0\.\d\d\]  n=2\n", printed), printed


@pytest.mark.slow
def test_train_piq(tiny):
    few = ["--evaluation.clips", "2", "--evaluation.mixtures", "2", "--evaluation.figures", "false"]
    settings = {"data": str(tiny.data), "seconds": 1.0, "channels": 4, "epochs": {"classifier": 1, "piq": 2}}
    more_piq = ["--interpreter.codes", "40", *few]
    scope, shown = run(FOLDER / "train_piq.ipynb", **settings, more=["--device", "cpu"], more_piq=more_piq)
    assert len(scope["log"]) == 2 and kinds(shown)[-1] is ShownFigure
    one, other = scope["made"].values()
    assert not torch.equal(one.target, other.target) and one.waveform.shape == (1, 16000)
