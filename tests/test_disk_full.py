"""Disks that are full at any moment: status 2 and one line, and the same command afterwards ends as if nothing was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from killed_commands import command_of, end_state, files_of, make_root, prepared, state_of
from kills import killed_at_change, started
from listening_runs import make_run

from audiointerp.__main__ import main
from audiointerp.listening.making import blinding
from audiointerp.results import folder as run_folder

pytestmark = pytest.mark.slow  # whole commands, many times

EVERY = int(os.environ.get("AUDIOINTERP_EVERY", "5"))  # change to a file at which the disk is full; 1 for all


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_root(tmp_path_factory.mktemp("full"))


@pytest.fixture
def one_secret(monkeypatch):
    """Every listening test gets the same secret, so that tests are equal files."""
    monkeypatch.setattr(blinding.secrets, "token_bytes", lambda count: bytes(range(count)))


def finished(command: list[str]) -> None:
    assert main(command) == 0
    run_folder._LOCKS.clear()


def refused(command: list[str], capsys) -> str:
    """The one line of a command that the full disk stops."""
    capsys.readouterr()
    assert main(command) == 2
    run_folder._LOCKS.clear()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left" in error and "free some disk space" in error, error
    return error


def sweep(command: list[str], out: Path, state, step: int, capsys, before: Path | None = None) -> int:
    """Fills the disk at every `step`-th file or folder that the command makes; then there is room again."""
    expected, number = None, 10**9
    for number in [10**9, *range(1, 10**4, step)]:
        shutil.rmtree(out, ignore_errors=True)
        if before:
            shutil.copytree(before, out)
        with killed_at_change(out, number, full=True) as changes:
            if changes.number == 10**9:
                finished(command)
                expected, total = state(out), changes.count
                continue
            refused(command, capsys)
        assert not [each for each in out.rglob("*.part") if each.is_file()], f"change {number}"
        finished(command)
        assert state(out) == expected, f"change {number}"
        if number + step > total:
            break
    return number


def test_full_while_interpreting_and_drawing(root, tmp_path, capsys):
    out = tmp_path / "out"
    command = [each for each in command_of("interpret", root, out) if each != "--no_figures"]
    assert sweep(command, out, end_state, EVERY, capsys) >= 20


@pytest.mark.parametrize("target", ["html", "folder", "webmushra"])
def test_full_while_exporting(target, one_secret, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", catch=1, seconds=0.1), tmp_path / "out"
    command = ["listen", "export", str(run), "-o", str(out), "--target", target]
    assert sweep(command, out, files_of, EVERY, capsys) >= 10


def test_full_while_reporting(root, tmp_path, capsys):
    out = tmp_path / "out"
    finished(command_of("interpret", root, out))
    command = ["report", str(out)]
    sweep(command, out, end_state, 1, capsys, before=shutil.copytree(out, tmp_path / "before"))


def test_full_while_analysing(tmp_path, capsys):
    run, test, out = make_run(tmp_path / "run", seconds=0.1), tmp_path / "test", tmp_path / "out"
    finished(["listen", "export", str(run), "-o", str(test), "--target", "folder", "--participants", "3"])
    sheet = pd.read_csv(test / "public" / "answer_sheet.csv", dtype=str)
    sheet["answer"] = [str(1 + number % 5) for number in range(len(sheet))]
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    command = ["listen", "analyse", str(tmp_path / "sheet.csv"), "--key", str(test / "private" / "key.csv")]
    assert sweep([*command, "-o", str(out)], out, end_state, EVERY, capsys) >= 8


@pytest.mark.parametrize("name", ["interpret", "export", "run"])
def test_full_in_the_middle_of_a_file(name, root, tmp_path):
    """In processes that cannot make a file larger than a limit, for each size of file that the command writes."""
    log, whole = tmp_path / "log.txt", prepared(name, tmp_path / "out_whole")

    def ends(out: Path, status: int, file_bytes: int | None = None) -> str:
        log.write_text("")
        command = [each for each in command_of(name, root, out) if each != "--no_figures"]
        process = started(command, log, file_bytes)
        process.join(300)
        assert process.exitcode == status, log.read_text()
        return log.read_text()

    ends(whole, 0)
    expected = state_of(name, whole)
    # The limit holds for what the command says, too.
    sizes = sorted({size for each in whole.rglob("*") if each.is_file() and (size := each.stat().st_size) > 1000})
    for size in sizes[:: max(1, len(sizes) // 8)]:
        out = prepared(name, tmp_path / f"out_{size:06}"[:11])
        said = ends(out, 2, size - 1).splitlines()
        assert len(said) == 1, said
        assert "free some disk space" in said[0] or "is the disk full" in said[0]
        assert not list(out.rglob("*.part")), size
        ends(out, 0)
        assert state_of(name, out) == expected, size
