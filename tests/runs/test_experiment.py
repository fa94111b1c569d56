"""Tiny recipes run end to end: what lies in a run folder, what a second run changes, and what the numbers mean."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from memory import peak_of
from safetensors.torch import load_file

import audiointerp
from audiointerp.__main__ import main
from audiointerp.bundles import bundle
from audiointerp.classifiers import VGGSound
from audiointerp.datasets import ClipDataset, read_esc50
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import PIQ
from audiointerp.sound import files as audio
from audiointerp.training.loop import Trainer


def run(*arguments) -> None:
    assert main([str(each) for each in arguments]) == 0


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "best" / "model.safetensors")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def sounds(rng: np.random.Generator, frames: int, channels: int) -> np.ndarray:
    """Noise that fades: no two samples alike, and every part of it heard."""
    return 0.4 * rng.uniform(-1, 1, (frames, channels)) * np.linspace(1, 0.2, frames)[:, None]


# --- run


def test_run_folders(tiny):
    for folder in (tiny.classifier, tiny.piq):
        made = {each.name for each in folder.iterdir()}
        assert {"recipe.yaml", "run.json", "log.csv", "checkpoints", "best", "report.html"} <= made
        assert {each.name for each in (folder / "best").iterdir()} == set(bundle.FILES)
        assert not [each for each in folder.rglob("*") if each.name.endswith((".part", ".old"))]
        info = json.loads((folder / "run.json").read_text())
        assert info["finished"] and info["seed"] == 1234 and info["labels"] == sorted(info["labels"])
        assert torch.__version__.startswith(info["versions"]["torch"]) and set(info["data_hash"]) == {"train", "test"}
        log = pd.read_csv(folder / "log.csv")
        assert list(log.epoch) == [1.0] and np.isfinite(log.loss).all()
    assert (tiny.classifier / "figures" / "confusion.png").is_file()
    scores = pd.read_csv(tiny.piq / "scores.csv")
    asked = scores[~scores.method.str.endswith("_other")]
    assert sorted(asked.groupby("method").size().items()) == [("loudest", 4), ("piq_stems", 4), ("threshold", 4)]
    assert sorted(asked.groupby("condition").size().items()) == [("clean", 6), ("mixture", 6)]
    manifest = pd.read_csv(tiny.piq / "manifest.csv")
    assert set(manifest.role) == {"mixture", "interpretation", "residual", "listening", "reference"}
    for path, frames in zip(manifest.path, manifest.n_frames):
        assert soundfile.info(tiny.piq / path).frames == frames == 16000


def test_rerun_changes_nothing(tiny, monkeypatch):
    before = snapshot(tiny.results)
    monkeypatch.setattr(Trainer, "_train_step", lambda *given: pytest.fail("it trains again"))
    for command in tiny.commands():
        run(*command)
    after = snapshot(tiny.results)
    changed = {name for name in after if after[name] != before.get(name)}
    assert after.keys() == before.keys()
    assert {Path(name).name for name in changed} <= {"run.json", "report.html"}


def test_evaluation_goes_on(tiny):
    """A row that is lost comes back; the others are not touched."""
    path = tiny.piq / "scores.csv"
    before = path.read_bytes()
    *kept, _ = before.splitlines(keepends=True)
    path.write_bytes(b"".join(kept) + b"cut, with no end of li")
    run(*tiny.commands()[1])
    after = path.read_bytes()
    assert after.startswith(b"".join(kept)) and after.count(b"\n") == before.count(b"\n")
    lost, back = (pd.read_csv(each).drop(columns="seconds") for each in (_file(before, path), path))
    pd.testing.assert_frame_equal(lost, back)


def _file(content: bytes, beside: Path) -> Path:
    path = beside.with_name(".before.csv")
    path.write_bytes(content)
    return path


def test_paper_recipe(tiny, tmp_path):
    few = ("--evaluation.clips", "1", "--evaluation.mixtures", "1")
    run(*tiny.recipe("piq", tmp_path, *tiny.interpreter(*few)))
    folder = tmp_path / "piq" / "1234"
    scores = pd.read_csv(folder / "scores.csv")
    for item, method in zip(scores.item_id, scores.method):
        assert (folder / "figures" / f"{item}_{method}.png").is_file()
    page = (folder / "report.html").read_text()
    assert all(f"audio/{item}/" in page for item in scores.item_id)
    # The classifier that the bundle carries is the one it was given.
    carried = {name.removeprefix("classifier."): each for name, each in weights(folder).items()}
    for name, each in weights(tiny.classifier).items():
        assert torch.equal(carried[name.removeprefix("model.")], each)


@pytest.mark.slow
def test_rotated_folds(tiny, tmp_path, capsys):
    run(*tiny.recipe("classifier", tmp_path, "--rotate_folds", "--valid_folds", "5"))
    folder = tmp_path / "classifier" / "1234"
    hashes, accuracies = set(), []
    for fold in range(1, 6):
        info = json.loads((folder / f"fold_{fold}" / "run.json").read_text())
        recipe = (folder / f"fold_{fold}" / "recipe.yaml").read_text().splitlines()
        lines = [line.split(":") for line in recipe if line.split(":")[0].endswith("_folds")]
        split = dict(lines)
        numbers = {name: [int(each) for each in text if each.isdigit()] for name, text in split.items()}
        assert numbers["test_folds"] == [fold] and len(numbers["valid_folds"]) == 1
        assert sorted(itertools.chain(*numbers.values())) == [1, 2, 3, 4, 5]
        hashes.add(info["data_hash"]["test"])
        accuracies.append(info["results"]["test_accuracy"])
        assert info["finished"] and info["results"]["test_clips"] == 10
    assert len(hashes) == 5
    page = (folder / "folds" / "report.html").read_text()
    assert "fold_1" in page and "fold_5" in page
    table = pd.read_csv(folder / "folds" / "summary.csv").set_index("metric")
    assert table.loc["test_accuracy", "mean"] == pytest.approx(np.mean(accuracies))
    assert table.loc["test_accuracy", "sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert str(folder / "folds" / "report.html") in capsys.readouterr().out


def test_select_keeps_the_best_epoch(tiny, tmp_path):
    """The weights kept are those of the epoch with the highest score, here not the last one."""
    # A learning rate so high that the validation score falls after the first epoch.
    more = ("--epochs", "3", "--lr", "0.3", "--valid_folds", "5", "--select", "valid_log_probability")
    options = tiny.recipe("classifier", tmp_path)
    del options[options.index("--epochs") : options.index("--epochs") + 2]
    run(*options, *more)
    folder = tmp_path / "classifier" / "1234"
    log = pd.read_csv(folder / "log.csv")
    best = log.loc[log.valid_log_probability.idxmax()]
    kept = json.loads((folder / "run.json").read_text())["kept"]
    assert kept["epoch"] == best.epoch < 3
    assert json.loads((folder / "best" / "metrics.json").read_text())["epoch"] == best.epoch
    classifier = audiointerp.load(folder)
    valid = ClipDataset([each for each in read_esc50(tiny.data) if each.fold == 5], classifier.labels, seconds=1.0)
    with torch.no_grad():
        probabilities = classifier(valid.batch(range(10)).waveform).probabilities
    own = probabilities[torch.arange(10), valid.labels_of()].log().mean()
    assert float(own) == pytest.approx(best.valid_log_probability, abs=1e-4)


def test_stopped_while_weights_are_replaced(tiny, tmp_path, monkeypatch):
    """Between the two renames there are no best weights; the repeated epoch brings them back and leaves no litter."""
    command, replace, calls = tiny.recipe("classifier", tmp_path), os.replace, []

    def stop_at_the_second(source, target):
        calls.append(Path(target).name)
        if calls.count("best") == 2:
            raise KeyboardInterrupt
        replace(source, target)

    # Without a score to select by, only the last epoch is kept: with one, every epoch that is better.
    command[command.index("--epochs") + 1] = "2"
    command += ["--valid_folds", "5", "--select", "epoch"]
    monkeypatch.setattr("os.replace", stop_at_the_second)
    assert main(command) == 130
    monkeypatch.undo()
    folder = tmp_path / "classifier" / "1234"
    assert not (folder / "best").exists()
    run(*command)
    assert not list(folder.glob(".best*"))
    run(*[each.replace(str(tmp_path), str(tmp_path / "whole")) for each in command])
    whole = weights(tmp_path / "whole" / "classifier" / "1234")
    assert all(torch.equal(whole[name], each) for name, each in weights(folder).items())


def test_pretrained_encoder(tiny, tmp_path, monkeypatch, capsys):
    """Bit for bit before the first step, though the classes differ; another width is refused."""
    torch.manual_seed(7)
    pretrained = VGGSound(("a", "b", "c"), channels=4)
    bundle.save(pretrained, tmp_path / "pretrained")
    seen = {}

    def stop(self, *given, **more):
        seen.update({name: each.clone() for name, each in self.trainable.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", stop)
    command = tiny.recipe("classifier", tmp_path, "--pretrained", str(tmp_path / "pretrained"))
    assert main(command) == 130
    encoder = {name: each for name, each in seen.items() if ".encoder." in name}
    assert len(encoder) == len(pretrained.encoder.state_dict())
    for name, each in pretrained.encoder.state_dict().items():
        assert torch.equal(encoder[f"classifier.encoder.{name}"], each)
    assert seen["classifier.head.4.weight"].shape[0] == 10
    capsys.readouterr()
    command[command.index("--channels") + 1] = "8"
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pretrained" in error and "does not fit" in error


# --- interpret


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    """Files of every format, rate and number of channels."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("recordings")
    files = {}
    for name, rate, channels, frames in (
        ("wav", 44100, 2, 30001),
        ("flac", 8000, 1, 4003),
        ("ogg", 22050, 2, 12345),
        ("mp3", 44100, 1, 20000),
    ):
        files[name] = folder / f"{name}.{name}"
        soundfile.write(files[name], sounds(rng, frames, channels), rate)
    return files


@pytest.mark.parametrize("output_rate", ["model", "input"])
def test_every_format(tiny, recordings, tmp_path, output_rate):
    run("interpret", tiny.piq, *recordings.values(), "-o", tmp_path, "--no_figures", "--output_rate", output_rate)
    manifest = pd.read_csv(tmp_path / "manifest.csv")
    for path in recordings.values():
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        rows = manifest[manifest.source == str(path)]
        assert list(rows.role) == ["mixture", "interpretation", "residual", "listening"]
        expected = len(samples) if output_rate == "input" else math.ceil(len(samples) * 16000 / rate)
        assert set(rows.n_frames) == {expected}
        assert set(rows.sample_rate) == {rate if output_rate == "input" else 16000}
        written = {role: soundfile.read(tmp_path / each)[0] for role, each in zip(rows.role, rows.path)}
        assert all(np.isfinite(each).all() and len(each) == expected for each in written.values())
        if output_rate == "model":
            mono = audio.resample(torch.from_numpy(samples.mean(1))[None], rate, 16000)[0].numpy()
            assert np.abs(written["mixture"] - mono).max() < 1e-4
            assert np.abs(written["listening"]).max() == pytest.approx(1, abs=1e-6)


def test_asked_classes(tiny, recordings, tmp_path):
    run("interpret", tiny.piq, recordings["flac"], "-o", tmp_path, "--no_figures", "--target", "siren, bell")
    assert list(pd.read_csv(tmp_path / "scores.csv").target) == ["bell;siren"]


def test_other_method(tiny, recordings, tmp_path):
    """A method beside the bundle's own adds rows to the same folder; a binary mask splits the sound without a rest."""
    run("interpret", tiny.piq, recordings["flac"], "-o", tmp_path, "--no_figures")
    run("interpret", tiny.piq, recordings["flac"], "-o", tmp_path, "--no_figures", "--method", "loudest", "--force")
    assert list(pd.read_csv(tmp_path / "scores.csv").method) == ["piq", "loudest"]
    (folder,) = (tmp_path / "audio").iterdir()
    parts = {name: soundfile.read(folder / f"{name}.wav")[0] for name in ("loudest", "loudest_residual", "mixture")}
    assert np.abs(parts["loudest"] + parts["loudest_residual"] - parts["mixture"]).max() < 1e-5


# --- mix and evaluate


def test_mixtures(tiny, tmp_path):
    """The same seed gives the same files; evaluated, the explained class's stem is the reference."""
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        run("mix", tiny.data, "-o", tmp_path / name, "--items", 4, "--seconds", 1, "--seed", seed, "--folds", 4, 5)
    first, again, other = (snapshot(tmp_path / name) for name in ("first", "again", "other"))
    for each in (first, again):  # the time and the command
        assert {each.pop("run.json"), each.pop("recipe.yaml")} and each.pop(".lock") == b""
    assert first == again and len(first) == 1 + 4 * 3
    assert all(first[name] != other[name] for name in first if name.endswith(".wav"))
    table = pd.read_csv(tmp_path / "first" / "mixtures.csv")
    for row in table.itertuples():
        mixture, base, rest = (
            soundfile.read(tmp_path / "first" / each)[0] for each in (row.mixture, row.base_stem, row.other_stem)
        )
        assert np.abs(base + rest - mixture).max() < 1e-6 and row.base_label != row.other_label
        assert abs(10 * np.log10((base**2).sum() / (rest**2).sum()) - row.snr_db) < 1e-3
    out = tmp_path / "out"
    run("evaluate", tiny.piq, tmp_path / "first" / "mixtures.csv", "-o", out, "--no_figures")
    scores = pd.read_csv(out / "scores.csv")
    assert list(scores[scores.method == "piq"].item_id) == list(table.item_id)
    assert set(scores.condition) == {"mixture"}


def test_evaluate_labelled_clips(tiny, tmp_path):
    run("evaluate", tiny.classifier, tiny.data, "-o", tmp_path / "classifier", "--folds", 4, "--seconds", 1)
    results = json.loads((tmp_path / "classifier" / "run.json").read_text())["results"]
    assert results == json.loads((tiny.classifier / "run.json").read_text())["results"]
    run("evaluate", tiny.piq, tiny.data, "-o", tmp_path / "piq", "--folds", 4, "--seconds", 1, "--no_figures")
    scores = pd.read_csv(tmp_path / "piq" / "scores.csv")
    assert sorted(scores.label) == sorted(json.loads((tiny.piq / "run.json").read_text())["labels"])
    assert (scores.predicted == scores.label).mean() == pytest.approx(results["test_accuracy"])


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Le Roux et al. (2019), equation (3), in double precision."""
    target = (estimate @ reference) / (reference @ reference) * reference
    return float(10 * np.log10((target @ target) / ((target - estimate) @ (target - estimate))))


@pytest.mark.parametrize("multilabel", [False, True])
def test_mixture_rows(tmp_path, multilabel):
    """The explained class is scored against its own stem, and the mixture's other class is asked for as well."""
    torch.manual_seed(0)
    labels = ("bell", "chirp", "drum")
    interpreter = PIQ(VGGSound(labels, channels=4, multilabel=multilabel), channels=4, codes=12)
    stems = 0.3 * torch.randn(2, 1, 8000)
    mixture = stems.sum(0)
    heard = labels[int(interpreter.interpret(mixture).prediction.predicted)]
    other = next(each for each in labels if each != heard)
    # The item's own class is the one that the classifier does not name: only a multilabel one is asked for it first.
    item = Item.of_waveform("m", "m", mixture, 16000, label=other, stems={other: stems[0], heard: stems[1]})
    assert evaluate([item], {"piq": interpreter}, tmp_path, Wanted(other_class=("piq",), figures=False)) == 2
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("method")
    first, second = (other, heard) if multilabel else (heard, other)
    assert scores.target.to_dict() == {"piq": first, "piq_other": second}
    for method, row in scores.iterrows():
        written = soundfile.read(tmp_path / "audio" / "m" / f"{method}.wav")[0]
        own, rest = (stems[0], stems[1]) if row.target == other else (stems[1], stems[0])
        whole, own, rest = (each[0].double().numpy() for each in (mixture, own, rest))
        assert row.si_sdr == pytest.approx(si_sdr(written, own), abs=1e-3)
        assert row.other_si_sdr == pytest.approx(si_sdr(written, rest), abs=1e-3)
        assert row.si_sdr_improvement == pytest.approx(si_sdr(written, own) - si_sdr(whole, own), abs=1e-3)


def test_mixture_of_a_class_that_the_classifier_lacks(tmp_path):
    torch.manual_seed(0)
    wanted = Wanted(other_class=("piq",), figures=False)
    labels = ("bell", "chirp", "drum")
    for multilabel in (False, True):
        interpreter = PIQ(VGGSound(labels, channels=4, multilabel=multilabel), channels=4, codes=12)
        stems = 0.3 * torch.randn(2, 1, 8000)
        heard = labels[int(interpreter.interpret(stems.sum(0)).prediction.predicted)]
        item = Item.of_waveform(
            "m", "m", stems.sum(0), 16000, label="whale", stems={"whale": stems[0], heard: stems[1]}
        )
        assert evaluate([item], {"piq": interpreter}, tmp_path / str(multilabel), wanted) == 1


# --- memory


@pytest.mark.slow
def test_ten_minutes(tmp_path):
    """Memory does not grow with the length, and 20 windows become one sound without a seam."""
    torch.manual_seed(0)
    bundle.save(PIQ(VGGSound(("a", "b"), channels=4), channels=4, codes=10, domain="magnitude"), tmp_path / "bundle")
    frames, rng = 10 * 60 * 44100 + 17, np.random.default_rng(0)
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 44100, 2) as file:
        for first in range(0, frames, 441000):
            file.write(sounds(rng, min(441000, frames - first), 2))
    out = tmp_path / "out"
    peak = peak_of(tmp_path, "interpret", tmp_path / "bundle", tmp_path / "long.flac", "-o", out, "--no_figures")
    assert peak < 2048, f"{peak:.0f} MiB"
    (folder,) = (out / "audio").iterdir()
    kept, rest = (soundfile.read(folder / f"{name}.wav", dtype="float32")[0] for name in ("piq", "piq_residual"))
    assert len(kept) == len(rest) == math.ceil(frames * 16000 / 44100)
    whole = audio.read(tmp_path / "long.flac", 16000)[0].numpy()
    assert np.abs(kept + rest - whole).max() < 1e-4
    assert len(pd.read_csv(out / "scores.csv")) == 21
    assert (kept != 0).mean() > 0.9
    shutil.rmtree(out)
