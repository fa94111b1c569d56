"""The command line under bad input: status 2, one line that names the culprit and says what to do, nothing lost."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from audiointerp import load
from audiointerp.__main__ import main
from audiointerp.sound.recordings import listening_copy

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "esc50"


def status_of(arguments) -> int:
    """Exit status of a command line; argparse leaves by an exception of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audiointerp", *map(str, arguments)])
        try:
            return main()
        except SystemExit as stopped:
            return int(stopped.code or 0)


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; its one line on stderr."""

    def run(*arguments, lines: int = 1) -> str:
        capsys.readouterr()
        status = status_of(arguments)
        error = capsys.readouterr().err
        assert status == 2, error
        assert error.count("\n") == lines and error.endswith("\n"), error
        assert error.startswith("audiointerp"), error
        return error.rstrip("\n")

    return run


def subprocess_of(arguments, **options) -> subprocess.CompletedProcess:
    """The same in a process of its own, as a user would."""
    command = [sys.executable, "-m", "audiointerp", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


def says(line: str, *words: str) -> bool:
    return all(word in line for word in words)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def sine(path: Path, seconds: float = 0.5, rate: int = 16000, **options) -> Path:
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate), rate, **options)
    return path


# --- parsing


def test_help_needs_no_torch():
    code = (
        "import sys; from audiointerp.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False" and "interpret" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND", "--help"]),
        (["explain"], ["'explain'", "interpret", "--help"]),
        (["interpret", "esc10-piq", "a.wav", "--outpu", "out"], ["--outpu", "--help"]),
        (["interpret", "esc10-piq", "a.wav", "-o", "out", "--traget", "dog"], ["--traget", "--help"]),
        (["interpret", "esc10-piq", "a.wav"], ["-o", "--help"]),
        (["mix", "data", "-o", "out", "--items", "many"], ["--items", "'many'"]),
        (["report"], ["RUN"]),
    ],
)
def test_options(refused, arguments, words):
    assert says(refused(*arguments), *words)


# --- recipes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data_folder", "/nowhere/esc"], ["/nowhere/esc", "no such folder"]),
        (["--test_folds", "9"], ["test_folds", "9", "[1, 2, 3, 4, 5]"]),
        (["--test_folds", "1"], ["fold 1", "train_folds", "test_folds"]),
        (["--lrr", "0.1"], ["--lrr", "--lr"]),
        (["--lr", "0.1", "--lr", "0.2"], ["--lr", "twice"]),
        (["--epochs", "many"], ["epochs", "'many'"]),
        (["--epochs", "0"], ["epochs", "0", "at least 1"]),
        (["--batch_size", "0"], ["batch_size", "0", "at least 1"]),
        (["--lr", "-1"], ["lr", "-1", "above 0"]),
        (["--channels", "0"], ["channels", "0", "at least 1"]),
        (["--seconds", "0"], ["seconds", "0"]),
        (["--device", "gpu"], ["device", "'gpu'", "cuda"]),
        (["--device", "cuda:first"], ["device", "'cuda:first'", "cuda:0"]),
        (["--precision", "12-false"], ["precision", "'12-false'", "32-true"]),
        (["--select", "valid_acuracy"], ["select", "'valid_acuracy'", "valid_folds"]),
        (["--select", "valid_acuracy", "--valid_folds", "5"], ["select", "'valid_acuracy'", "valid_accuracy"]),
        (["--loss_weights.entropy", "1"], ["loss_weights", "entropy"]),
        (["--pretrained", "/nowhere/run"], ["/nowhere/run", "does not exist"]),
        (["--output_folder", "/dev/null"], ["/dev/null"]),
    ],
)
def test_recipe_options(tiny, refused, tmp_path, options, words):
    given = tiny.recipe("classifier", tmp_path / "results")
    # An option given twice is a problem of its own: the bad one replaces the tiny one.
    for option in options[::2]:
        if option in given:
            place = given.index(option)
            del given[place : place + 2]
    assert says(refused(*given, *options), *words)
    assert not (tmp_path / "results" / "classifier" / "1234" / "best").exists()


RECIPE = f"""\
<<: !include:{RECIPES / "base.yaml"}
epochs: 1
lr: 0.002
classifier: !name:audiointerp.classifiers.VGGSound
    channels: 4
"""


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (RECIPE, [["base.yaml:4", "data_folder", "not filled in"]]),
        (RECIPE + "data_folder: x\ndownlaod: true\n", [["recipe.yaml:7", "downlaod", "download"]]),
        (RECIPE + "data_folder: x\nepochs: 2\n", [["recipe.yaml:7", "epochs", "recipe.yaml:2"]]),
        (RECIPE + "data_folder: x\nsecond: [x]\n", [["recipe.yaml:7", "second", "seconds"]]),
        (RECIPE + "data_folder: x\nseconds: [x]\n", [["recipe.yaml:7", "seconds", "['x']"]]),
        (RECIPE.replace("VGGSound", "VGSound") + "data_folder: x\n", [["recipe.yaml:4", "VGSound", "VGGSound"]]),
        (RECIPE.replace("classifiers", "clasifiers") + "data_folder: x\n", [["recipe.yaml:4", "clasifiers"]]),
        (RECIPE.replace("epochs: 1\n", "") + "data_folder: x\n", [["recipe.yaml", "epochs"]]),
        (RECIPE + "data_folder: x\nlr: [\n", [["recipe.yaml:8", "YAML"]]),
        (
            RECIPE.replace("lr: 0.002", "lr: fast") + "downlaod: true\n",
            [["data_folder"], ["recipe.yaml:3", "fast"], ["recipe.yaml:6", "downlaod"]],
        ),
    ],
)
def test_recipe_files(refused, tmp_path, command, text, problems):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    lines = refused(command, path, lines=len(problems)).splitlines()
    for words in problems:
        assert any(says(line, *words) for line in lines), (words, lines)


def test_check_passes_good_recipes(tiny, capsys):
    assert status_of(["check", *tiny.recipe("piq", tiny.results, "--classifier", str(tiny.classifier))[1:]]) == 0
    assert "no problems" in capsys.readouterr().out


def test_missing_recipe(refused, tmp_path):
    assert says(refused("run", tmp_path / "none.yaml"), "none.yaml", "there is no file")
    assert says(refused("run", tmp_path), str(tmp_path))


def test_class_absent_from_training(tiny, refused, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny.data, data)
    table = pd.read_csv(data / "meta" / "esc50.csv")
    table[(table.category != "bell") | (table.fold == 4)].to_csv(data / "meta" / "esc50.csv", index=False)
    given = tiny.recipe("classifier", tmp_path / "results")
    given[given.index("--data_folder") + 1] = str(data)
    assert says(refused(*given), "'bell'", "no training clip", "folds")


def test_other_recipe_in_the_same_folder(tiny, refused):
    before = snapshot(tiny.classifier)
    line = refused(*tiny.recipe("classifier", tiny.results, "--batch_size", "8"))
    assert says(line, str(tiny.classifier), "another recipe", "another output folder")
    assert snapshot(tiny.classifier) == before


def test_changed_data(tiny, refused, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    given = tiny.recipe("classifier", tmp_path / "results")
    given[given.index("--data_folder") + 1] = str(data)
    assert status_of(given) == 0
    sine(next((data / "audio").glob("1-*.wav")), 1.0)
    before = snapshot(tmp_path / "results")
    assert says(refused(*given), "data changed", "another output folder")
    assert snapshot(tmp_path / "results") == before


@pytest.mark.parametrize("content", ["garbage", "cut", "empty", "pickle", "other"])
def test_bad_checkpoint(tiny, refused, content):
    path = tiny.classifier / "checkpoints" / "last.ckpt"
    whole, before = path.read_bytes(), snapshot(tiny.classifier / "best")
    if content == "other":
        torch.save(torch.load(path) | {"trainable": {"weight": torch.zeros(3)}}, path)
    elif content == "pickle":
        torch.save({"epoch": Path("x")}, path)
    else:
        path.write_bytes({"garbage": bytes(range(256)) * 9, "cut": whole[:-1000], "empty": b""}[content])
    try:
        assert says(refused(*tiny.recipe("classifier", tiny.results)), str(path), "delete it")
        assert snapshot(tiny.classifier / "best") == before
    finally:
        path.write_bytes(whole)
        assert status_of(tiny.recipe("classifier", tiny.results)) == 0


# --- bundles


def _no_file(folder):
    (folder / "model.safetensors").unlink()


def _no_config(folder):
    (folder / "config.json").unlink()


def _flipped_byte(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def _rehashed(folder, data: bytes):
    (folder / "model.safetensors").write_bytes(data)
    _config(folder, sha256=hashlib.sha256(data).hexdigest())


def _pickle(folder):
    torch.save({"weight": torch.zeros(2)}, folder / "model.safetensors")
    _rehashed(folder, (folder / "model.safetensors").read_bytes())


def _config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_file, ["model.safetensors", "missing"]),
        (_no_config, ["config.json", "finished run"]),
        (_flipped_byte, ["model.safetensors", "changed"]),
        (_pickle, ["model.safetensors", "not a safetensors file"]),
        (lambda folder: _rehashed(folder, b""), ["model.safetensors", "not a safetensors file"]),
        (lambda folder: _config(folder, type="os.system"), ["config.json", "'os.system'"]),
        (lambda folder: _config(folder, type="frozen"), ["config.json", "'frozen'"]),
        (lambda folder: _config(folder, type=["PIQ"]), ["config.json", "type is ['PIQ']", "expected text"]),
        (lambda folder: _config(folder, arguments={"codes": 10}), ["config.json", "fit"]),
        (lambda folder: _config(folder, arguments={"classifier": "x"}), ["config.json", "classifier"]),
        (lambda folder: _config(folder, arguments=7), ["config.json"]),
        (lambda folder: _config(folder, format=2), ["config.json", "format"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json", "not readable"]),
        (lambda folder: (folder / "config.json").write_text("[]"), ["config.json", "format"]),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), ["config.json", "not readable"]),
    ],
)
def test_bad_bundle(tiny, refused, tmp_path, spoil, words):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny.piq / "best", folder)
    spoil(folder)
    line = refused("interpret", folder, sine(tmp_path / "a.wav"), "-o", tmp_path / "out")
    assert says(line, str(folder), *words)
    assert not (tmp_path / "out").exists()


def test_missing_bundle_lists_what_ships(refused, tmp_path, monkeypatch):
    shipped = tmp_path / "bundles" / "esc10-piq"
    shipped.mkdir(parents=True)
    (shipped / "config.json").touch()
    monkeypatch.setattr("audiointerp.bundles.bundle.resources.files", lambda package: tmp_path)
    wav, out = sine(tmp_path / "a.wav"), tmp_path / "out"
    assert says(refused("interpret", "esc10_piq", wav, "-o", out), "esc10_piq", "one of", "esc10-piq")


def test_files_are_looked_for_before_the_model(refused, tmp_path):
    assert says(
        refused("interpret", tmp_path / "no_model", tmp_path / "a.wav", "-o", tmp_path / "out"), "a.wav", "no such"
    )


# --- interpret


def test_bad_requests(tiny, refused, tmp_path):
    wav, out = sine(tmp_path / "a.wav"), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    best = tiny.piq / "best"
    for arguments, words in (
        ([best, wav, "-o", out, "--target", "dog"], ["'dog'", "bell"]),
        ([best, wav, "-o", out, "--target", "bell,"], ["''", "bell"]),
        ([best, wav, "-o", out, "--method", "lime2"], ["'lime2'", "threshold"]),
        ([best, wav, "-o", out, "--method", "frozen"], ["'frozen'", "threshold"]),
        ([tiny.classifier, wav, "-o", out, "--method", "piq"], ["piq", "trained"]),
        ([best, wav, "-o", out, "--device", "tpu"], ["'tpu'", "cpu"]),
        ([best, tmp_path / "none.wav", "-o", out], ["none.wav", "no such file"]),
        ([best, tmp_path / "empty", "-o", out], ["empty", "no audio file", ".wav"]),
        ([best, wav, "-o", wav], ["a.wav", "is a file", "folder"]),
        ([best, wav, "-o", tmp_path], [str(tmp_path), "not empty", "--force"]),
    ):
        assert says(refused("interpret", *arguments), *words), words
        assert not out.exists()


def test_a_classifier_alone_is_explained_by_the_default_method(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert status_of(["interpret", tiny.classifier, sine(tmp_path / "a.wav"), "-o", out, "--no_figures"]) == 0
    assert "explained by lime_nmf" in capsys.readouterr().err
    assert list(out.rglob("*.wav"))


def spoiled(kind: str, path: Path) -> Path:
    """A file that cannot be used as audio."""
    if kind == "text":
        path.write_text("not audio")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no frames":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "truncated":
        whole = sine(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "nan":
        samples = np.zeros(8000, "float32")
        samples[5000] = np.nan
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


KINDS = {"text": "not readable", "empty": "empty", "no frames": "0 frames", "truncated": "truncated", "nan": "NaN"}


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_recording(tiny, refused, tmp_path, kind):
    path = spoiled(kind, tmp_path / "bad.wav")
    out = tmp_path / "out"
    assert says(refused("interpret", tiny.piq, path, "-o", out), "bad.wav", KINDS[kind])
    assert not list(out.rglob("*.wav")) and not list(out.rglob(".*.part"))
    # Mended, the same command works: a failure leaves nothing in the way.
    sine(path)
    assert status_of(["interpret", tiny.piq, path, "-o", out, "--no_figures"]) == 0


def test_bad_recordings_among_good_ones(tiny, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for kind in KINDS:
        spoiled(kind, folder / f"{kind}.wav")
    sine(folder / "good.flac")
    sine(folder / "one_sample.wav", 1 / 16000)
    soundfile.write(folder / "silent.wav", np.zeros(8000), 16000)
    assert status_of(["interpret", tiny.piq, folder, "-o", out, "--no_figures"]) == 0
    captured = capsys.readouterr()
    assert "3 of 8 explained, 5 failed" in captured.out
    assert len(captured.err.splitlines()) == len(KINDS)
    for kind, reason in KINDS.items():
        assert any(says(line, f"{kind}.wav", reason) for line in captured.err.splitlines())
    info = json.loads((out / "run.json").read_text())
    assert info["finished"] and len(info["failed"]) == len(KINDS)
    assert len(pd.read_csv(out / "scores.csv")) == 3 and (out / "report.html").is_file()
    silent = next(out.glob("audio/c_silent_*/piq.wav"))
    assert not np.abs(soundfile.read(silent)[0]).any()


def test_force_adds_and_keeps(tiny, refused, tmp_path):
    out = tmp_path / "out"
    first, second = sine(tmp_path / "a.wav"), sine(tmp_path / "b.wav", 0.3)
    assert status_of(["interpret", tiny.piq, first, "-o", out, "--no_figures"]) == 0
    before = snapshot(out / "audio")
    assert says(refused("interpret", tiny.piq, second, "-o", out), "not empty", "--force")
    assert snapshot(out / "audio") == before
    assert status_of(["interpret", tiny.piq, second, "-o", out, "--no_figures", "--force"]) == 0
    assert before.items() < snapshot(out / "audio").items()
    # Answers to another question would hide behind those that are there.
    line = refused("interpret", tiny.piq, first, "-o", out, "--target", "bell", "--force")
    assert says(line, str(out), "another recipe", "another output folder")


# --- mix, evaluate, report


def table(folder: Path, text: str) -> Path:
    path = folder / "clips.csv"
    path.write_text(text)
    return path


def test_bad_tables(tiny, refused, tmp_path):
    sine(tmp_path / "a.wav")
    sine(tmp_path / "b.wav")
    spoiled("nan", tmp_path / "bad.wav")
    out = tmp_path / "out"
    for text, words in (
        ("path,label\na.wav,dog\n", ["clips.csv", "fold"]),
        ("path,label,fold\na.wav,dog,one\n", ["row 2", "'one'", "whole number"]),
        ("path,label,fold\nc.wav,dog,1\n", ["row 2", "c.wav", "no such file"]),
        ("path,label,fold\na.wav,dog,1\nb.wav,dog,1\n", ["no class"]),
        ("path,label,fold\n", ["no rows"]),
        ("path,label,fold\na.wav,dog,1\nbad.wav,cat,1\n", ["bad.wav", "NaN"]),
    ):
        assert says(refused("mix", table(tmp_path, text), "-o", out), *words), words
    good = table(tmp_path, "path,label,fold\na.wav,dog,1\nb.wav,cat,1\n")
    for more, words in (
        (["--items", "0"], ["items", "0", "1 to"]),
        (["--folds", "3"], ["folds [3]", "clips.csv"]),
        (["--gains", "0", "1"], ["gains", "above 0"]),
        (["--seconds", "0"], ["seconds is 0"]),
    ):
        assert says(refused("mix", good, "-o", out, *more), *words), words
    assert not list(out.rglob("*.wav"))
    # Labels that the classifier does not know.
    assert says(refused("evaluate", tiny.piq, good, "-o", out), "'dog'", "none of the 10 classes")
    assert says(refused("evaluate", tiny.classifier, good, "-o", out), "'dog'", "none of the 10 classes")
    assert says(refused("evaluate", tiny.piq, tmp_path / "none.csv", "-o", out), "none.csv", "does not exist")
    assert says(refused("evaluate", tiny.piq, tmp_path / "none", "-o", out), "none", "does not exist")
    assert not out.exists() or not list(out.iterdir())


def test_report_of_no_run(refused, tmp_path):
    assert says(refused("report", tmp_path), str(tmp_path), "run.json")
    assert says(refused("report", tmp_path / "none"), "none")
    assert says(refused("report", sine(tmp_path / "a.wav")), "a.wav")
    assert says(refused("demo", "-o", tmp_path), str(tmp_path), "not empty", "--force")
    assert says(refused("demo", "-o", tmp_path / "a.wav"), "a.wav", "is a file")
    assert says(refused("report", tmp_path, tmp_path), "-o")


def test_recipe_without_a_run(tiny, refused, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE + f"data_folder: {tiny.data}\noutput_folder: {tmp_path}\n")
    line = refused("interpret", recipe, sine(tmp_path / "a.wav"), "-o", tmp_path / "out")
    assert says(line, "mine.yaml", str(tmp_path / "mine" / "1234"), "audiointerp run")


def test_a_recipe_that_names_a_classifier_is_explained_without_a_run(tiny, refused, tmp_path, capsys):
    recipe, wav, out = tmp_path / "mine.yaml", sine(tmp_path / "a.wav"), tmp_path / "out"
    recipe.write_text(f"classifier: {tiny.classifier}\n")
    command = ["interpret", recipe, wav, "-o", out, "--no_figures"]
    assert status_of(command) == 0
    assert "explained by lime_nmf" in capsys.readouterr().err
    assert list(pd.read_csv(out / "scores.csv")["method"]) == ["lime_nmf"]
    # Rows of a recipe that was changed since are not mixed with those of this one.
    recipe.write_text(f"classifier: {tiny.classifier}\nmethods:\n    loud: !name:audiointerp.interpreters.Loudest\n")
    assert says(refused(*command, "--force"), str(out), "another recipe")
    second = tmp_path / "second"
    assert status_of(["interpret", recipe, wav, "-o", second, "--no_figures"]) == 0
    assert list(pd.read_csv(second / "scores.csv")["method"]) == ["loud"]
    assert "audiointerp.interpreters.Loudest" in (second / "recipe.yaml").read_text()
    third = tmp_path / "third"
    assert status_of(["interpret", recipe, wav, "-o", third, "--no_figures", "--method", "allpass"]) == 0
    assert list(pd.read_csv(third / "scores.csv")["method"]) == ["allpass"]
    recipe.write_text(f"classifier: !PLACEHOLDER\nmethods: {{mine: {tiny.piq}}}\n")
    fourth = tmp_path / "fourth"
    named = ["interpret", recipe, wav, "-o", fourth, "--no_figures", "--classifier", tiny.classifier]
    assert status_of(named) == 0
    assert list(pd.read_csv(fourth / "scores.csv")["method"]) == ["mine"]


def test_recipes_that_cannot_be_explained(tiny, refused, tmp_path):
    recipe, wav, out = tmp_path / "mine.yaml", sine(tmp_path / "a.wav"), tmp_path / "out"
    for text, words in (
        ("classifier: !name:audiointerp.classifiers.VGGSound {channels: 4}\n", ["mine.yaml", "still to be trained"]),
        ("classifier: /nowhere/run\n", ["/nowhere/run", "does not exist"]),
        ("classifier: !new:torch.nn.ReLU\n", ["ReLU", "name a classifier's bundle or run"]),
        (f"classifier: {tiny.classifier}\nmethods: {{mixture: {tiny.piq}}}\n", ["'mixture'", "reserved"]),
        (f"classifier: {tiny.classifier}\nmethods: {{x: {tiny.classifier}}}\n", ["method x", "no interpreter"]),
        (f"classifier: {tiny.classifier}\nfolds: [1]\n", ["unknown key 'folds'"]),
    ):
        recipe.write_text(text)
        assert says(refused("interpret", recipe, wav, "-o", out), *words), text
        assert not out.exists()
    # A recipe that trains something is told each key that its run lacks.
    recipe.write_text(f"classifier: {tiny.classifier}\ninterpreter: !name:audiointerp.interpreters.PIQ\n")
    keys = ("seed", "clips", "train_folds", "output_folder", "batch_size", "epochs", "lr")
    assert says(refused("interpret", recipe, wav, "-o", out, lines=len(keys)), *(f"has no {key};" for key in keys))


# --- in processes of their own


def test_subprocess(tiny, tmp_path):
    """What only a process shows: the status the shell sees, and a stderr that no library writes to."""
    for arguments, words in (
        (["nonsense"], ["'nonsense'"]),
        (
            ["interpret", tiny.piq, spoiled("text", tmp_path / "bad.mp3"), "-o", tmp_path / "out"],
            ["bad.mp3", "not readable"],
        ),
    ):
        done = subprocess_of(arguments)
        assert done.returncode == 2 and done.stdout == "", done
        assert done.stderr.count("\n") == 1 and says(done.stderr, *words), done.stderr


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match=r"run\.json"):
        status_of(["report", tmp_path, "--debug"])


def small_files(kilobytes: int):
    """For a child process: every write beyond so many kilobytes of a file fails, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    return limit


@pytest.mark.slow
def test_full_disk_while_interpreting(tiny, tmp_path):
    out = tmp_path / "out"
    short, long = sine(tmp_path / "short.wav"), sine(tmp_path / "zlong.wav", 3.0)
    arguments = ["interpret", tiny.piq, short, long, "-o", out, "--no_figures"]
    done = subprocess_of(arguments, preexec_fn=small_files(100))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert says(done.stderr, str(out), "zlong", "disk full"), done.stderr
    assert not list(out.rglob(".*.part"))
    scores = pd.read_csv(out / "scores.csv")
    assert list(scores.source) == [str(short)]
    kept = snapshot(out / "audio")
    assert all(soundfile.info(each).frames == 8000 for each in out.rglob("*.wav"))
    # With room again, the same command goes on.
    assert status_of(arguments) == 0
    assert len(pd.read_csv(out / "scores.csv")) == 2 and kept.items() < snapshot(out / "audio").items()


@pytest.mark.slow
def test_full_disk_while_training(tiny, tmp_path):
    """The checkpoint finds no room; the weights written before it are whole, and the run can be finished later."""
    arguments = tiny.recipe("classifier", tmp_path)
    done = subprocess_of(arguments, preexec_fn=small_files(12))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert says(done.stderr, "File too large", "free some disk space"), done.stderr
    folder = tmp_path / "classifier" / "1234"
    load(folder)
    assert not (folder / "checkpoints" / "last.ckpt").exists()
    assert status_of(arguments) == 0
    same = load_file(folder / "best" / "model.safetensors")
    assert all(
        torch.equal(same[name], each)
        for name, each in load_file(tiny.classifier / "best" / "model.safetensors").items()
    )


def test_interrupt(tiny, tmp_path, capsys, monkeypatch):
    """Ctrl-C: status 130, one line, and the same command goes on."""
    arguments = [
        "interpret",
        tiny.piq,
        sine(tmp_path / "a.wav"),
        sine(tmp_path / "b.wav"),
        "-o",
        tmp_path / "out",
        "--no_figures",
    ]
    calls = []

    def once_interrupted(*given, **rest):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return listening_copy(*given, **rest)

    monkeypatch.setattr("audiointerp.evaluation.explaining.listening_copy", once_interrupted)
    assert status_of(arguments) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "the same command resumes" in error
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 1
    assert status_of(arguments) == 0 and len(calls) == 3
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 2


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        (["--help"], {"torch", "numpy", "pandas"}),
        (
            ["interpret", "esc10-piq", "one.wav", "-o", "out", "--no_figures"],
            {"matplotlib", "lightning_fabric", "captum"},
        ),
        (["check", str(RECIPES / "piq.yaml"), "--data_folder", "x", "--classifier", "esc10-piq"], {"matplotlib"}),
    ],
    ids=["help", "interpret", "check"],
)
def test_a_command_imports_what_it_uses(tmp_path, command, left_out):
    soundfile.write(tmp_path / "one.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    script = (
        "import sys\nfrom audiointerp.__main__ import main\n"
        "try:\n    status = main(sys.argv[1:])\nexcept SystemExit as stopped:\n    status = stopped.code\n"
        "print(f'\\nLOADED {status}', *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    _, status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    never = {"transformers", "sklearn", "lightning_fabric", *left_out}
    assert not never & set(loaded)
    assert len(loaded) < 2600  # 3,900 when every command imported all that any of them needs
