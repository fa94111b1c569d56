"""Recipes that train a classifier or an interpreter, end to end in small: logs, best weights and evaluations."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny_runs import EVALUATED, RATE, changed_files, clips_of, log_of, results_of, run, snapshot, with_options

import audiointerp
from audiointerp.classifiers import Supervised, VGGSound
from audiointerp.contracts import Classifier
from audiointerp.datasets import WeakBinMask
from audiointerp.interpreters import L2I, LMAC, LMACTD, PIQ, DictionaryClassifier
from audiointerp.runs import fit
from audiointerp.training.loop import Trainer

L2I_LOSSES = {"reconstruction": 10.0, "sparsity": 0.8, "fidelity": 1.0}


def check_loss(log: pd.DataFrame, weights: dict[str, float], *more: str) -> None:
    """The columns are those of the losses, and their weighted sum is the loss."""
    assert [name for name in log if not name.startswith("perplexity_")] == ["epoch", "lr", *weights, "loss", *more]
    np.testing.assert_allclose(log.loss, sum(weight * log[name] for name, weight in weights.items()), rtol=1e-5)


def check_scores(folder: Path, methods: set[str], clips: int, mixtures: int, others: tuple[str, ...] = ()) -> None:
    """A row for each item and method, of numbers that can be; a file for each."""
    scores = pd.read_csv(folder / "scores.csv")
    own = scores[~scores.method.str.endswith("_other")]
    assert set(own.method) == methods and not scores.duplicated(["item_id", "method"]).any()
    expected = {("clean", name): clips for name in methods} | {("mixture", name): mixtures for name in methods}
    assert own.groupby(["condition", "method"]).size().to_dict() == expected
    assert set(scores.method) - methods <= set(others)
    for column in ("fidelity", "mean_mask", "ad", "probability"):
        assert scores[column].between(0, 100 if column == "ad" else 1.0001).all(), column
    assert scores.kept_energy.between(0, 1.01).all() and scores.faithfulness.between(-1, 1).all()
    # The loudest bins keep as much area as the method itself, so that their energy is at least the same.
    by = own.pivot(index="item_id", columns="method", values=["mean_mask", "kept_energy"])
    (name,) = methods - {"threshold", "loudest", "random_components", "random_tiles"}
    np.testing.assert_allclose(by["mean_mask"]["loudest"], by["mean_mask"][name], atol=1e-3)
    assert (by["kept_energy"]["loudest"] >= by["kept_energy"][name] - 1e-3).all()
    for item, method in zip(scores.item_id, scores.method):
        kept, rest, whole = (
            soundfile.read(folder / "audio" / item / f"{file}.wav")[0]
            for file in (method, f"{method}_residual", "mixture")
        )
        assert len(kept) == len(rest) == len(whole) == RATE and np.isfinite(kept).all()
        if method == "loudest":  # binary: what it keeps and what it leaves are the sound
            assert np.abs(kept + rest - whole).max() < 1e-4


def check_first_row(folder: Path, data: Path) -> None:
    """The best weights, loaded, explain the first clean clip as the table says."""
    interpreter = audiointerp.load(folder)
    row = pd.read_csv(folder / "scores.csv").iloc[0]
    clips = clips_of(data, interpreter.classifier.labels, 4, multilabel=interpreter.classifier.multilabel)
    (number,) = [i for i, clip in enumerate(clips.clips) if str(clip.path) == row.source]
    # A classifier of several labels may predict others too; the clip's own class is explained.
    own = interpreter.classifier.labels.index(row.label) if interpreter.classifier.multilabel else None
    made = interpreter.interpret(clips.batch([number]).waveform, own)
    labels = np.array(interpreter.classifier.labels)
    assert ";".join(labels[made.target[0].numpy()]) == row.target and clips.clips[number].labels == (row.label,)
    assert labels[int(made.prediction.predicted)] == row.predicted
    assert float(made.prediction.probabilities.max()) == pytest.approx(row.probability, abs=1e-4)
    assert float(made.mask.mean()) == pytest.approx(row.mean_mask, abs=1e-4)


def accuracy_of(classifier: Classifier, data: Path) -> float:
    """On the clips of fold 4, one at a time."""
    clips = clips_of(data, classifier.labels, 4)
    batches = (clips.batch([i]) for i in range(len(clips)))
    return float(np.mean([bool(classifier(each.waveform).predicted == each.label) for each in batches]))


# --- L2I


def test_l2i(tiny, trained):
    folder = trained.l2i
    assert results_of(folder) == {}
    log = log_of(folder, 6)
    check_loss(log, L2I_LOSSES)
    assert log.loss.iloc[-1] < log.loss.iloc[0] and log.reconstruction.iloc[-1] < 0.9 * log.reconstruction.iloc[0]
    check_scores(folder, {"l2i", "threshold", "loudest", "random_components"}, 2, 2, others=("l2i_other",))
    check_first_row(folder, tiny.data)
    interpreter, learnt = audiointerp.load(folder), audiointerp.load(trained.dictionary)
    assert isinstance(interpreter, L2I) and torch.equal(interpreter.dictionary, learnt.dictionary)
    # Theta's answer is judged by the classifier's: the first of two is among the first three.
    scores = pd.read_csv(folder / "scores.csv").query("method == 'l2i'")
    assert (scores.theta_top1 <= scores.theta_top3).all() and (scores.theta_top3 <= scores.theta_top5).all()


def test_l2i_on_mixtures_is_trained_without_their_parts(tiny, trained, tmp_path, monkeypatch):
    heard, original = [], L2I.losses

    def listen(self, batch, group="interpreter"):
        heard.append(batch)
        return original(self, batch, group)

    monkeypatch.setattr(L2I, "losses", listen)
    none = ("--evaluation.clips", 1, "--evaluation.mixtures", 1, "--evaluation.figures", "false")
    more = ("--interpreter.width", 8, "--batch_size", 10)
    run(with_options(tiny.recipe("l2i_mixtures", tmp_path), *trained.options, *none, *more))
    folder = tmp_path / "l2i_mixtures" / "1234"
    check_loss(log_of(folder, 1), L2I_LOSSES)
    check_scores(
        folder, {"l2i_mixtures", "threshold", "loudest", "random_components"}, 1, 1, others=("l2i_mixtures_other",)
    )
    check_first_row(folder, tiny.data)
    assert [len(batch) for batch in heard] == [10, 10, 10]
    mixed = sum(int((batch.waveform != batch.stem).any(1).sum()) for batch in heard)
    assert 15 <= mixed <= 30 and mixed % 2 == 0  # of 15 pairs at most, 85 % are mixed
    # Its losses do not ask for the parts: without them they are the same.
    interpreter, batch = audiointerp.load(folder), heard[0]
    with torch.no_grad():
        told, untold = (original(interpreter.eval(), each) for each in (batch, batch.replace(stem=None)))
    assert told.keys() == untold.keys() == L2I_LOSSES.keys()
    assert all(torch.equal(told[name], untold[name]) for name in told)


def test_l2i_by_design(tiny, trained, tmp_path):
    few = ("--classifier.n_components", 8, "--classifier.width", 8, "--dictionary", trained.dictionary)
    run(with_options(tiny.recipe("l2i_by_design", tmp_path), *few, "--epochs", 4, "--batch_size", 10))
    folder = tmp_path / "l2i_by_design" / "1234"
    log = log_of(folder, 4)
    for epoch, weight in enumerate((0.0, 0.0, 0.8, 0.8)):  # of sparsity: once there is something to thin out
        losses = {"classification": 1.0, "reconstruction": 10.0, "sparsity": weight}
        check_loss(log.iloc[epoch : epoch + 1], losses)
    assert log.reconstruction.iloc[-1] < log.reconstruction.iloc[0]
    classifier = audiointerp.load(folder)
    assert isinstance(classifier, DictionaryClassifier)
    assert torch.equal(classifier.dictionary, audiointerp.load(trained.dictionary).dictionary)
    results = results_of(folder)
    assert results == {"test_clips": 10, "test_accuracy": pytest.approx(accuracy_of(classifier, tiny.data))}
    # It explains itself: what it counts for a class adds up to the class's logit.
    waveform = clips_of(tiny.data, classifier.labels, 4).batch([0]).waveform
    made = L2I(classifier).interpret(waveform)
    assert torch.allclose(made.details["theta_probabilities"], made.prediction.probabilities, atol=1e-5)
    assert not (folder / "scores.csv").exists()


# --- L-MAC


def test_lmac_and_its_fine_tuning(tiny, tmp_path):
    small = ("--classifier", tiny.classifier, "--interpreter.width", 8, "--interpreter.fine_width", 4)
    small += ("--batch_size", 10, *EVALUATED)
    run(with_options(tiny.recipe("lmac", tmp_path), *small, "--epochs", 2, "--lr", 0.01))
    folder = tmp_path / "lmac" / "1234"
    weights = {"masked_in": 4.0, "masked_out": 0.2, "area": 0.4, "tv": 0.0}
    check_loss(log_of(folder, 2), weights)
    check_scores(folder, {"lmac", "threshold", "loudest"}, 2, 2, others=("lmac_other",))
    check_first_row(folder, tiny.data)
    # Fine-tuning starts from these weights: with next to no learning rate it stays there.
    still = (*small, "--start_from", folder, "--lr", 1e-12)
    run(with_options(tiny.recipe("lmac_ft", tmp_path), *still))
    fine = tmp_path / "lmac_ft" / "1234"
    check_loss(log_of(fine, 1), {"masked_in": 4.0, "masked_out": 0.2, "guidance": 4.0, "area": 0.4, "tv": 0.0})
    before, after = audiointerp.load(folder), audiointerp.load(fine)
    assert isinstance(before, LMAC) and isinstance(after, LMAC)
    for (name, one), (_, other) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=0, msg=name)
    # What it cannot start from is said in a line.
    fresh = LMAC(before.classifier, width=6)
    for source, message in ((tiny.piq, "is a PIQ, not a LMAC"), (folder, "do not fit this interpreter")):
        with pytest.raises(ValueError, match=message) as caught:
            fit._start_from(fresh, str(source))
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)


# --- LMAC-TD


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("lmac_td", {"masked_in": 4.0, "masked_out": 0.2, "level": 0.4}),
        ("lmac_td_stems", {"masked_in": 0.1, "masked_out": 0.1, "level": 0.0, "stems": 0.1}),
    ],
)
def test_lmac_td(tiny, tmp_path, name, weights):
    small = ("--interpreter.width", 8, "--interpreter.separator", 16, "--interpreter.chunk", 10)
    small += ("--classifier", tiny.classifier, "--batch_size", 10, "--epochs", 2, "--lr", 0.01, *EVALUATED)
    run(with_options(tiny.recipe(name, tmp_path), *small, "--valid_folds", "[5]", "--select", "valid_fidelity"))
    folder = tmp_path / name / "1234"
    check_loss(log_of(folder, 2), weights, "valid_fidelity", "valid_faithfulness", "valid_mean_mask")
    interpreter = audiointerp.load(folder)
    assert isinstance(interpreter, LMACTD) and interpreter.basis.kernel == 256
    scores = pd.read_csv(folder / "scores.csv")
    own = scores[scores.method == name].set_index("item_id")
    assert set(own.condition) == {"clean", "mixture"} and len(own) == 4 and own.mean_mask.isna().all()
    assert own[["fidelity", "faithfulness", "kept_energy", "wav_fidelity"]].notna().all().all()
    for item in own.index:  # what it keeps and what it leaves are the sound; both are what was scored
        kept, rest, whole = (
            torch.from_numpy(soundfile.read(folder / "audio" / item / f"{file}.wav", dtype="float32")[0])[None]
            for file in (name, f"{name}_residual", "mixture")
        )
        assert (kept + rest - whole).abs().max() < 1e-5
        label = interpreter.classifier.labels.index(own.target[item])
        made = interpreter.interpret(whole, label)
        torch.testing.assert_close(made.waveform, kept, atol=1e-5, rtol=0)
        gain = made.input_gain[:, None]
        with torch.no_grad():
            heard, left = (interpreter.classifier(each * gain).probabilities[0, label] for each in (kept, rest))
        before = float(made.prediction.probabilities[0, label])
        assert before - float(left) == pytest.approx(own.faithfulness[item], abs=1e-4)
        assert 100 * max(0.0, before - float(heard)) / before == pytest.approx(own.ad[item], abs=0.01)


# --- RTIS and VIBI


@pytest.mark.parametrize(
    ("name", "more", "controls", "weights"),
    [
        (
            "rtis",
            ("--interpreter.width", 4, "--interpreter.fine_width", 4),
            {"threshold", "loudest"},
            {"preserved": 1.0, "destroyed": 1.0, "area": 1.0, "exists": 1.0, "tv": 0.01},
        ),
        (
            "vibi",
            ("--interpreter.width", 4),
            {"random_tiles", "loudest"},
            {"approximation": 1.0, "prior": 0.01},
        ),
    ],
)
def test_rtis_and_vibi(tiny, tmp_path, name, more, controls, weights):
    small = ("--classifier", tiny.classifier, *more, "--epochs", 2, "--batch_size", 10, *EVALUATED)
    run(with_options(tiny.recipe(name, tmp_path), *small))
    folder = tmp_path / name / "1234"
    check_loss(log_of(folder, 2), weights)
    check_scores(folder, {name, *controls}, 2, 2, others=(f"{name}_other",))
    check_first_row(folder, tiny.data)
    scores = pd.read_csv(folder / "scores.csv").set_index("method")
    own = scores.loc[name, "theta_top1"]  # the approximator's; RTIS has none
    assert own.isin([0, 1]).all() if name == "vibi" else own.isna().all()
    if name == "vibi":  # as many tiles at random, if not as many bins: low bands have fewer
        assert scores.loc["random_tiles", "mean_mask"].between(0.001, 1).all()


# --- several labels


@pytest.fixture(scope="module")
def multilabel(tiny, tmp_path_factory) -> tuple[Path, list[torch.Tensor]]:
    """A classifier of several labels, and the labels of the batches that it was trained on."""
    output, heard, original = tmp_path_factory.mktemp("multilabel"), [], Supervised.losses

    def listen(self, batch, group="classifier"):
        heard.append(batch.label)
        return original(self, batch, group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervised, "losses", listen)
        run(with_options(tiny.recipe("multilabel_classifier", output), "--epochs", 5, "--lr", 0.01, "--batch_size", 10))
    return output / "multilabel_classifier" / "1234", heard


def test_multilabel_classifier(tiny, multilabel):
    folder, heard = multilabel
    check_loss(log_of(folder, 5), {"classification": 1.0})
    labels = torch.cat(heard).sum(1)
    assert len(labels) == 5 * 30 and set(labels.tolist()) == {1.0, 2.0}
    assert 0.6 < (labels == 2).float().mean() < 0.95  # 80 % of the clips are mixed with another
    classifier = audiointerp.load(folder)
    assert isinstance(classifier, VGGSound) and classifier.multilabel
    clips = clips_of(tiny.data, classifier.labels, 4, multilabel=True)
    with torch.no_grad():
        right = (classifier(clips.batch(range(10)).waveform).probabilities > 0.5) == clips.labels_of().bool()
    assert results_of(folder) == {
        "test_clips": 10,
        "test_label_accuracy": pytest.approx(float(right.float().mean())),
        "test_exact": pytest.approx(float(right.all(1).float().mean())),
    }


def test_multilabel_piq(tiny, multilabel, tmp_path):
    more = ("--classifier", multilabel[0], "--interpreter.codes", 40, "--interpreter.channels", 8, "--batch_size", 10)
    run(with_options(tiny.recipe("multilabel_piq", tmp_path), *more, "--train_folds", "[1]", *EVALUATED))
    folder = tmp_path / "multilabel_piq" / "1234"
    losses = {"reconstruction": 1.0, "codebook": 0.1, "commitment": 0.05, "separation": 0.1}
    log = log_of(folder, 1)
    check_loss(log, losses, "perplexity", "unused_codes")
    names = [f"perplexity_{label}" for label in audiointerp.load(folder).classifier.labels]
    assert float(log.perplexity.iloc[0]) == pytest.approx(log[names].iloc[0].mean())
    assert log[names].to_numpy().min() >= 1 and log[names].to_numpy().max() <= 4  # of 40 codes, each class has 4
    others = ("multilabel_piq_other",)
    check_scores(folder, {"multilabel_piq", "threshold", "loudest"}, 2, 2, others)
    check_first_row(folder, tiny.data)
    interpreter = audiointerp.load(folder)
    assert isinstance(interpreter, PIQ) and interpreter.classifier.multilabel
    # Both classes of each mixture are asked for, one at a time, and each is judged by its own part.
    scores, table = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "mixtures" / "mixtures.csv")
    asked = scores[scores.method.str.startswith("multilabel_piq")].set_index(["item_id", "method"])
    for row in table.itertuples():
        assert asked.loc[(row.item_id, "multilabel_piq"), "target"] == row.base_label
        assert asked.loc[(row.item_id, "multilabel_piq_other"), "target"] == row.other_label
    both = asked.loc[list(table.item_id)]
    assert len(both) == 4 and np.isfinite(both[["si_sdr", "other_si_sdr"]].to_numpy(float)).all()


# --- classifiers


@pytest.fixture(scope="module")
def vggsound(tiny, tmp_path_factory) -> Path:
    """Twenty clips of the tiny data in VGGSound's layout: folds 1 to 3 for training, 4 for testing, a fifth missing."""
    folder = tmp_path_factory.mktemp("vggsound")
    clips = pd.read_csv(tiny.data / "meta" / "esc50.csv")
    clips = clips[clips.category.isin(["bell", "rain", "siren", "knock", "clock"])]
    with open(folder / "vggsound.csv", "w", newline="") as file:
        writer = csv.writer(file)
        for number, row in enumerate(clips.itertuples()):
            name, start = f"-id_{number}", 10 * number
            writer.writerow([name, start, f"{row.category}, of a kind", "train" if row.fold < 4 else "test"])
            target = folder / ("train" if row.fold < 4 else "test") / f"{name}_{start:06d}.wav"
            target.parent.mkdir(exist_ok=True)
            if row.fold < 5:
                shutil.copy(tiny.data / "audio" / row.filename, target)
    return folder


def test_pretraining_and_what_is_built_on_it(tiny, vggsound, tmp_path, caplog):
    command = with_options(tiny.recipe("pretrain", tmp_path), "--data_folder", vggsound, "--batch_size", 5)
    run(command)
    assert "5 of the table's 25 clips are missing" in caplog.text
    folder = tmp_path / "pretrain" / "1234"
    check_loss(log_of(folder, 1), {"classification": 1.0})
    classifier = audiointerp.load(folder)
    kinds = ("bell", "clock", "knock", "rain", "siren")
    assert classifier.labels == tuple(f"{each}, of a kind" for each in kinds)
    assert json.loads((folder / "run.json").read_text())["labels"] == list(classifier.labels)
    right = []
    for path in (vggsound / "test").iterdir():
        (row,) = [line for line in (vggsound / "vggsound.csv").read_text().splitlines() if path.stem[:-7] + "," in line]
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        heard = classifier.labels[int(classifier((samples / samples.abs().max())[None]).predicted)]
        right.append(f'"{heard}"' in row)
    assert results_of(folder) == {"test_clips": 5, "test_accuracy": pytest.approx(np.mean(right))}
    # A classifier of other classes starts from its encoder: with next to no learning rate it stays there.
    still = ("--pretrained", folder, "--lr", 1e-12, "--batch_size", 10)
    run(with_options(tiny.recipe("classifier", tmp_path), *still))
    after, before = audiointerp.load(tmp_path / "classifier" / "1234"), dict(classifier.named_parameters())
    encoder = {name: each for name, each in after.named_parameters() if name.startswith("encoder.")}
    assert len(encoder) >= 20 and len(after.labels) == 10
    for name, each in encoder.items():
        torch.testing.assert_close(each, before[name], atol=1e-7, rtol=0, msg=name)


def test_classifier_energy_has_heard_masked_sounds(tiny, tmp_path, monkeypatch):
    silenced, original = [], WeakBinMask.__call__

    def listen(self, features, generator):
        made = original(self, features, generator)
        silenced.append((made == 0).float().mean((1, 2)))
        return made

    monkeypatch.setattr(WeakBinMask, "__call__", listen)
    command = with_options(tiny.recipe("classifier_energy", tmp_path), "--epochs", 2, "--batch_size", 10)
    run(command)
    folder = tmp_path / "classifier_energy" / "1234"
    check_loss(log_of(folder, 2), {"classification": 1.0})
    shares = torch.cat(silenced)
    assert len(silenced) == 2 * 3 and len(shares) == 2 * 30
    # Up to 0.9 of the bins, drawn clip by clip; masked bands and frames are silent anyhow.
    assert shares.max() <= 1 and shares.min() < 0.5 < shares.max()
    assert len(shares.unique()) > 20
    results = results_of(folder)
    assert results == {
        "test_clips": 10,
        "test_accuracy": pytest.approx(accuracy_of(audiointerp.load(folder), tiny.data)),
    }
    before = snapshot(folder)
    monkeypatch.setattr(Trainer, "_train_step", lambda *given: pytest.fail("it trains again"))
    run(command)
    assert not changed_files(before, folder) and results_of(folder) == results


@pytest.mark.parametrize("text", ["", "epoch,loss\n1,2\n1,2,3\n", "name\nx\n"])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=r"log\.csv: "):
        fit._draw_log(tmp_path)
