"""Commands killed at each of their writes and started again: they must end as a command that was never interrupted.

A kill is imitated in the process: at the n-th call of `os.replace` or `os.fsync`, with which every writer of the
package ends a write, an exception that nothing catches is raised; from then on nothing is deleted, as after SIGKILL.
Exports of listening tests write by Python alone and are killed at every change of a file or folder, see `kills`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch
from killed_commands import command_of, end_state, files_of, make_root
from kills import Killed as KilledAtChange
from kills import killed_at_change
from listening_runs import make_run

from audiointerp.__main__ import main
from audiointerp.listening.making import blinding
from audiointerp.results import folder as run_folder
from audiointerp.results import tables
from audiointerp.results.tables import Scores
from audiointerp.sound.files import clear_time, write

pytestmark = pytest.mark.slow  # whole commands, many times


class Killed(BaseException):
    """Raised in place of a kill."""


@contextmanager
def killed_at(number: int, after: bool) -> Iterator[list[int]]:
    """Raises `Killed` at the n-th write, before or after it took place; yields the count of writes so far."""
    writes = [0]

    def guarded(real: Callable) -> Callable:
        def call(*given, **named):
            writes[0] += 1
            if writes[0] > number:
                raise Killed
            if writes[0] == number and not after:
                raise Killed
            done = real(*given, **named)
            if writes[0] == number:
                raise Killed
            return done

        return call

    real_unlink = Path.unlink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", guarded(os.replace))
        patch.setattr(os, "fsync", guarded(os.fsync))
        patch.setattr(Path, "unlink", lambda path, **named: None if writes[0] >= number else real_unlink(path, **named))
        yield writes


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_root(tmp_path_factory.mktemp("interrupted"))


def finished(command: list[str]) -> None:
    assert main(command) == 0
    run_folder._LOCKS.clear()


def sweep(name: str, root: Path, tmp_path: Path, step: int) -> int:
    """Kills the command at every `step`-th write and resumes it; returns the number of kills."""
    whole = tmp_path / "out_whole"
    with killed_at(10**9, after=False) as writes:
        finished(command_of(name, root, whole))
    expected = end_state(whole)
    assert writes[0] >= 5 and not [each for each in expected if each.endswith(".part")]
    points = [(number, after) for number in range(1, writes[0] + 1) for after in (False, True)][::step]
    for number, after in points:
        out = tmp_path / f"out_{number:05}_{'b' if after else 'a'}"
        command = command_of(name, root, out)
        with pytest.raises(Killed), killed_at(number, after):
            main(command)
        run_folder._LOCKS.clear()
        if end_state(out) != expected:  # after the very last write nothing is left to do
            finished(command)
        assert end_state(out) == expected, f"{name} killed {'after' if after else 'before'} write {number}"
    return len(points)


@pytest.mark.parametrize("name", ["interpret", "mix", "run", "compare"])
def test_killed_at_every_write_and_started_again(name, root, tmp_path):
    """Runs have the most writes and take longest: a part of their kills, which are before and after in turn."""
    step = int(os.environ.get("AUDIOINTERP_EVERY", {"compare": "9", "run": "3"}.get(name, "1")))  # 1: all
    assert sweep(name, root, tmp_path, step) >= 10


SECRET = bytes(range(32))  # drawn at random otherwise, and with it every blind name
EXPORTS = {
    "html": ["--target", "html"],
    "folder": ["--target", "folder", "--task", "ab", "--participants", "2"],
    "webmushra": ["--target", "webmushra", "--catch", "1"],
}


@pytest.fixture
def one_secret(monkeypatch):
    """Every listening test gets the same secret, so that tests are equal files."""
    monkeypatch.setattr(blinding.secrets, "token_bytes", lambda count: SECRET[:count])


def sweep_export(command: list[str], out: Path, before: Path | None, step: int) -> int:
    """Kills an export into `out`, a copy of `before`, at its changes, also half-way through each file; resumes it."""

    def begin() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if before:
            shutil.copytree(before, out)

    begin()
    with killed_at_change(out, 10**9) as changes:
        finished(command)
    expected, kills = files_of(out), 0
    assert {"public/study.json", "private/key.csv", "private/secret.hex"} < set(expected)
    for number in range(1, changes.count + 1, step):
        for torn in (False, True):
            begin()
            with pytest.raises(KilledAtChange), killed_at_change(out, number) as watched:
                main(command)
            if torn:
                if watched.opened is None or not watched.opened.exists():
                    continue
                os.truncate(watched.opened, watched.opened.stat().st_size // 2)
            kills += 1
            state = f"killed {'in the middle of' if torn else 'before'} change {number} ({watched.opened})"
            assert main(command) == 0, state
            assert files_of(out) == expected, state
    return kills


@pytest.mark.parametrize("target", EXPORTS)
def test_exports_killed_at_every_change_and_started_again(target, one_secret, tmp_path):
    run = make_run(tmp_path / "run", catch=1, seconds=0.1)
    command = ["listen", "export", str(run), "-o", str(tmp_path / "out"), *EXPORTS[target]]
    every = int(os.environ.get("AUDIOINTERP_EVERY", "5"))  # 1: all, as the name says
    assert sweep_export(command, tmp_path / "out", None, step=every) >= 10


def test_exports_over_an_earlier_test_killed_at_every_change(one_secret, tmp_path):
    """The key, study and settings of the earlier test, which may have been answered, are never lost."""
    run, held = make_run(tmp_path / "run", items=1, seconds=0.1), tmp_path / "held"
    finished(["listen", "export", str(run), "-o", str(held), "--title", "Earlier"])
    earlier = {name: data for name, data in files_of(held / "private").items() if name != "secret.hex"}
    out = tmp_path / "out"
    command = ["listen", "export", str(run), "-o", str(out), "--task", "rating", "--force"]
    assert sweep_export(command, out, held, step=1) >= 30
    (kept,) = (each for each in (out / "private").iterdir() if each.is_dir())
    assert files_of(kept) == earlier


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_sounds_lost_or_damaged_since_are_made_again(harm, root, tmp_path, capsys):
    out = tmp_path / "out_harmed"
    command = command_of("interpret", root, out)
    finished(command)
    expected = end_state(out)
    victim = sorted(out.glob("audio/*/piq.wav"))[0]
    if harm == "missing":
        victim.unlink()
    else:
        data = bytearray(victim.read_bytes())
        data[-3] ^= 1
        victim.write_bytes(data)
    capsys.readouterr()
    finished([*command, "--force"])
    error = capsys.readouterr().err
    assert f"{victim}: is {harm}; {victim.parent.name} is explained again" in error
    assert end_state(out) == expected | {
        "scores.csv": end_state(out)["scores.csv"],
        "manifest.csv": end_state(out)["manifest.csv"],
    }
    for name in ("scores.csv", "manifest.csv"):  # the rows of the item made again are last
        assert sorted(end_state(out)[name].splitlines()) == sorted(expected[name].splitlines())


def test_inputs_replaced_since_are_explained_again(root, tmp_path, capsys):
    """Their WAVs, figures, likeliest labels and rows; other recordings keep theirs, and are not read again."""
    sounds, out = tmp_path / "sounds", tmp_path / "out_replaced"
    sounds.mkdir()
    one, *_, other = sorted((root / "data" / "audio").glob("*.wav"))
    shutil.copy(one, sounds / "a.wav")
    soundfile.write(sounds / "b.wav", torch.rand(16000 * 31).numpy() * 0.1, 16000)  # two windows
    command = ["interpret", str(root / "piq"), str(sounds), "-o", str(out)]
    finished(command)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*a_*/*.wav")}
    assert len(list(out.glob("figures/c_b_*.png"))) == 2 and before
    capsys.readouterr()
    finished([*command, "--force"])
    assert "explained again" not in capsys.readouterr().err

    shutil.copy(other, sounds / "b.wav")
    finished(["interpret", str(root / "piq"), str(sounds / "a.wav"), "-o", str(out), "--force"])
    assert "explained again" not in capsys.readouterr().err  # of another command's recording nothing is lost
    assert len(pd.read_csv(out / "scores.csv")) == 3
    finished([*command, "--force"])
    error = [line for line in capsys.readouterr().err.splitlines() if "explained again" in line]
    assert len(error) == 1
    assert error[0].startswith(f"audiointerp: {sounds / 'b.wav'}: was changed since it was explained; c_b_")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*a_*/*.wav")} == before

    fresh = tmp_path / "fresh"
    finished(["interpret", str(root / "piq"), str(sounds), "-o", str(fresh)])
    new, expected = end_state(out), end_state(fresh)
    assert {name for name in new if name != "run.json"} == {name for name in expected if name != "run.json"}
    for name in expected:
        if name.endswith((".wav", ".csv")):
            assert str(new[name]).replace("out_replaced", "fresh") == expected[name], name


def killed_once(command: list[str], rows: int, monkeypatch) -> None:
    """Kills a comparison as soon as its table has so many rows of mixtures."""
    original, written = Scores.add_rows, []

    def add_rows(self: Scores, given: list[dict]) -> None:
        original(self, given)
        written.extend(row for row in given if row["condition"] == "mixtures")
        if len(written) >= rows:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Scores, "add_rows", add_rows)
        main(command)
    run_folder._LOCKS.clear()


@pytest.mark.parametrize("victim", ["m_0000_base.wav", "m_0000_other.wav", "m_0000_mixture.wav", "mixtures.csv"])
def test_mixtures_changed_in_the_middle_of_a_comparison_are_made_again(victim, root, tmp_path, caplog, monkeypatch):
    """Named, and with every row and sound as in a comparison that nobody disturbed, whatever was scored before."""
    whole, out = tmp_path / "out_whole", tmp_path / "out_other"
    finished(command_of("compare", root, whole))
    command = command_of("compare", root, out)
    killed_once(command, 2, monkeypatch)
    (mixtures,) = out.rglob("mixtures/mixtures")
    (path,) = mixtures.rglob(victim)
    if path.suffix == ".csv":
        path.write_text(path.read_text().replace("m_0001_other", "m_0000_other"))
    else:
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, samples[::-1], rate, subtype="FLOAT")
    caplog.clear()
    finished(command)
    lines = [line for line in caplog.messages if "again" in line]
    assert lines[0].startswith(f"{path}: was changed; {'every item' if path.suffix == '.csv' else 'mixtures_m_0000'}")
    new, expected = end_state(out), end_state(whole)
    assert new.keys() == expected.keys()
    for name in expected:
        if name in ("scores.csv", "manifest.csv", "embeddings.csv"):  # the rows made again are last
            assert sorted(new[name].splitlines()) == sorted(expected[name].splitlines()), name
        else:
            assert new[name] == expected[name], name


def test_noise_replaced_in_the_middle_of_a_comparison_is_noticed(root, tmp_path, caplog, monkeypatch):
    """Clips with it are explained again, also those whose sounds are not kept, as by a comparison begun afterwards."""
    noise, recipe = tmp_path / "noise" / "hum.wav", tmp_path / "compare.yaml"
    noise.parent.mkdir()
    samples = torch.rand(20_000, generator=torch.Generator().manual_seed(0)).numpy() - 0.5
    soundfile.write(noise, samples, 16000)
    condition = f"noisy: !new:audiointerp.evaluation.Noise\n            folder: {noise.parent}\n            clips: 2"
    text = (root / "compare.yaml").read_text()
    recipe.write_text(
        text.replace(
            "mixtures: !new:audiointerp.evaluation.Mixtures",
            f"{condition}\n        mixtures: !new:audiointerp.evaluation.Mixtures",
        )
    )
    out, fresh = tmp_path / "out_changed", tmp_path / "out_fresh"
    commands = [
        [word.replace(str(root / "compare.yaml"), str(recipe)) for word in command_of("compare", root, each)]
        for each in (out, fresh)
    ]
    killed_once(commands[0], 1, monkeypatch)
    soundfile.write(noise, samples[::-1], 16000)
    caplog.clear()
    finished(commands[0])
    lines = [line for line in caplog.messages if "explained again" in line]
    assert len(lines) == 2 and all("a file of it was changed since; noisy_000" in line for line in lines)
    finished(commands[1])
    (scores,) = out.rglob("scores.csv")
    new, expected = (end_state(each)[scores.relative_to(out).as_posix()].splitlines() for each in (out, fresh))
    assert sum(",noisy," in line for line in new) >= 4 and sorted(new) == sorted(expected)


def test_stems_of_ones_own_mixtures_replaced_since_are_noticed(root, tmp_path, capsys):
    """`evaluate` of a mixtures.csv: scores depend on the stems, too; the stem is named, its item explained again."""
    finished(command_of("mix", root, tmp_path / "mixed"))
    command = ["evaluate", str(root / "piq"), str(tmp_path / "mixed" / "mixtures.csv"), "-o", str(tmp_path / "out")]
    command += ["--no_figures", "--force"]
    finished(command)
    before = pd.read_csv(tmp_path / "out" / "scores.csv").set_index(["item_id", "method"]).si_sdr
    capsys.readouterr()
    finished(command)
    assert "again" not in capsys.readouterr().err
    stem = tmp_path / "mixed" / "audio" / "m_0001_base.wav"
    samples, rate = soundfile.read(stem, dtype="float32")
    soundfile.write(stem, samples[::-1], rate, subtype="FLOAT")
    finished(command)
    assert f"{stem}: was changed since it was explained; m_0001 is explained again" in capsys.readouterr().err
    after = pd.read_csv(tmp_path / "out" / "scores.csv").set_index(["item_id", "method"]).si_sdr
    assert set(after.index) == set(before.index) and (after["m_0000"] == before["m_0000"]).all()
    assert (after["m_0001"] != before["m_0001"]).any()


def test_inputs_are_hashed_once_per_command(root, tmp_path, monkeypatch):
    sound, out, read = tmp_path / "a.wav", tmp_path / "out", []
    shutil.copy(sorted((root / "data" / "audio").glob("*.wav"))[0], sound)
    real = tables._sha256
    monkeypatch.setattr(tables, "_sha256", lambda path: read.append(path) or real(path))
    command = ["interpret", str(root / "piq"), str(sound), "-o", str(out), "--method", "piq,loudest", "--no_figures"]
    finished(command)
    assert read.count(sound) == 1
    tables._known_hash.cache_clear()  # as in a process of its own
    finished([*command, "--force"])
    assert read.count(sound) == 2


def test_folders_of_earlier_versions_have_no_hashes_of_inputs(root, tmp_path):
    out, sound = tmp_path / "out", tmp_path / "a.wav"
    shutil.copy(sorted((root / "data" / "audio").glob("*.wav"))[0], sound)
    command = ["interpret", str(root / "piq"), str(sound), "-o", str(out), "--no_figures", "--force"]
    finished(command)
    table = pd.read_csv(out / "manifest.csv", keep_default_na=False)
    table.drop(columns="source_sha256").to_csv(out / "manifest.csv", index=False)
    finished(command)
    again = pd.read_csv(out / "manifest.csv", keep_default_na=False)
    assert list(again.columns) == list(table.columns) and set(again.source_sha256) == {""}
    assert (again.sha256 == table.sha256).all() and len(pd.read_csv(out / "scores.csv")) == 1


def test_equal_sounds_are_equal_files_whenever_they_are_written(tmp_path):
    """libsndfile writes the time into the PEAK chunk of float WAVs; all other bytes stay as they are."""
    sound = torch.linspace(-1, 1, 100)
    soundfile.write(tmp_path / "libsndfile.wav", sound.numpy(), 16000, subtype="FLOAT")
    before = (tmp_path / "libsndfile.wav").read_bytes()
    place = before.index(b"PEAK") + 12
    assert before[place : place + 4] != bytes(4)
    write(tmp_path / "ours.wav", sound, 16000)
    assert (tmp_path / "ours.wav").read_bytes() == before[:place] + bytes(4) + before[place + 4 :]
    assert (soundfile.read(tmp_path / "ours.wav", dtype="float32")[0] == sound.numpy()).all()
    (tmp_path / "no_chunk.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    clear_time(tmp_path / "no_chunk.wav")


def test_a_second_writer_is_refused_and_a_dead_one_is_not(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    other = os.fork()
    if other == 0:  # a process that starts a run and dies without ending it
        run_folder.start(folder, "# a\n")
        os._exit(0)
    assert os.waitpid(other, 0)[1] == 0
    reader, writer = os.pipe()
    living = os.fork()
    if living == 0:
        run_folder.start(folder, "# a\n")
        os.write(writer, b"!")
        os.read(reader, 0)
        import time

        time.sleep(60)
        os._exit(0)
    assert os.read(reader, 1) == b"!"
    try:
        with pytest.raises(ValueError, match="another process is writing into it"):
            run_folder.start(folder, "# a\n")
    finally:
        os.kill(living, 9)
        os.waitpid(living, 0)
    info = run_folder.start(folder, "# a\n")
    run_folder.finish(folder, info)
    assert run_folder._LOCKS == {}
