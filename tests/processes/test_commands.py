"""Commands in several processes: the folder of one process, kills and other numbers of processes included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from killed_commands import command_of, end_state, make_root
from tiny_runs import RECIPES

from audiointerp.__main__ import main
from audiointerp.processes import launching
from audiointerp.results.parts import merge_parts, part_folder
from audiointerp.results.tables import Manifest, Scores


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_root(tmp_path_factory.mktemp("processes"))


def start(command: list[str], size: int | None) -> subprocess.Popen:
    devices = [] if size is None else ["--devices", str(size)]
    return subprocess.Popen(
        [sys.executable, "-m", "audiointerp", *command, *devices],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A shell starts jobs in the background with Ctrl-C ignored, and what they start ignores it, too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - takes no lock
    )


def finish(command: list[str], size: int | None = None) -> str:
    process = start(command, size)
    said, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return said


def worker(process: subprocess.Popen, rank: int) -> int | None:
    """The id of a process of a command, from /proc."""
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for each in children.read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{each}/environ").read_bytes().split(b"\0"):
                return int(each)
    return None


def kill(command: list[str], size: int, rank: int, when) -> tuple[int, str]:
    """Starts a command, kills one of its processes once `when` is true, and returns how the command ends."""
    process = start(command, size)
    while not when():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    os.kill(worker(process, rank), signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    return process.returncode, error


def rows(path: Path) -> int:
    return max(0, len(path.read_bytes().splitlines()) - 1) if path.is_file() else 0


def unordered(state: dict) -> dict:
    return {name: sorted(each.splitlines()) if name.endswith(".csv") else each for name, each in state.items()}


def clips(root: Path, count: int) -> list[str]:
    return [str(each) for each in sorted((root / "data" / "audio").glob("*.wav"))[:count]]


# --- explaining


@pytest.mark.slow
@pytest.mark.parametrize("name", ["interpret", "compare"])
def test_two_processes_make_the_folder_of_one(name, root, tmp_path):
    """Every table with its rows in their order, every sound, figure and page."""
    said = [finish(command_of(name, root, tmp_path / f"out_{size}"), size) for size in (None, 2)]
    states = [end_state(tmp_path / f"out_{size}") for size in (None, 2)]
    assert states[1] == states[0] and any(key.endswith("scores.csv") for key in states[0])
    assert said[1].replace("out_2", "out") == said[0].replace("out_None", "out")  # said once, not by each process


@pytest.mark.slow
def test_evaluate_in_three_processes(root, tmp_path):
    """Mixtures, whose other class is explained too; more processes than items."""
    finish(["mix", str(root / "data"), "-o", str(tmp_path / "mixed"), "--items", "2", "--seconds", "0.5"])
    command = ["evaluate", str(root / "piq"), str(tmp_path / "mixed" / "mixtures.csv"), "--no_figures", "-o"]
    for size in (None, 3):
        finish([*command, str(tmp_path / f"out_{size}")], size)
    assert end_state(tmp_path / "out_3") == end_state(tmp_path / "out_None")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_reported_and_its_items_are_taken_up_again(rank, root, tmp_path):
    methods = ["--method", "piq,rise", "--no_figures"]
    command = ["interpret", str(root / "piq"), *clips(root, 9), *methods, "-o"]
    finish([*command, str(tmp_path / "out_whole")])
    out = tmp_path / "out_killed"
    part = part_folder(out, rank) / "scores.csv"
    status, error = kill([*command, str(out)], 2, rank, lambda: rows(part) >= 2)
    assert status == 1
    assert error.splitlines()[-1:] == [
        f"audiointerp: process {rank + 1} of 2 was killed (SIGKILL); the same command resumes from here"
    ]
    written = part.read_text().splitlines()[1:]
    finish([*command, str(out)], 3)
    assert unordered(end_state(out)) == unordered(end_state(tmp_path / "out_whole"))
    assert set(written) <= set((out / "scores.csv").read_text().splitlines())  # its times, too: not made again


@pytest.mark.slow
def test_a_killed_command_ends_its_processes_and_one_process_goes_on(root, tmp_path):
    command = ["interpret", str(root / "piq"), *clips(root, 9), "--method", "piq,rise", "--no_figures", "-o"]
    out, whole = tmp_path / "out_killed", tmp_path / "out_whole"
    process = start([*command, str(out)], 2)
    while rows(part_folder(out, 1) / "scores.csv") < 1:
        assert process.poll() is None
        time.sleep(0.002)
    workers = [worker(process, rank) for rank in (0, 1)]
    process.kill()
    process.communicate()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{each}").exists() for each in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{each}").exists() for each in workers)
    finish([*command, str(out)])
    finish([*command, str(whole)])
    assert unordered(end_state(out)) == unordered(end_state(whole))


@pytest.mark.slow
def test_ctrl_c(root, tmp_path):
    out = tmp_path / "out"
    process = start(["interpret", str(root / "piq"), *clips(root, 9), "--method", "rise", "-o", str(out)], 2)
    while rows(part_folder(out, 1) / "scores.csv") < 1:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.endswith("audiointerp: stopped; the same command resumes from here\n")


@pytest.mark.slow
def test_files_that_cannot_be_explained(root, tmp_path):
    """Each is named once, in the order of the files, and in run.json; the others are explained."""
    broken = [tmp_path / name for name in ("broken.wav", "empty.wav")]
    broken[0].write_bytes(b"RIFF nothing")
    broken[1].write_bytes(b"")
    files = [str(broken[0]), *clips(root, 2), str(broken[1])]
    found = []
    for size in (None, 2):
        out = tmp_path / f"out_{size}"
        process = start(["interpret", str(root / "piq"), *files, "-o", str(out)], size)
        said, error = process.communicate(timeout=120)
        assert process.returncode == 0
        found.append((said.splitlines()[-1].split(";")[0], error, end_state(out)))
    assert found[1] == found[0] and found[0][0] == "2 of 4 explained, 2 failed"
    every = start(["interpret", str(root / "piq"), *map(str, broken), "-o", str(tmp_path / "none")], 2)
    assert len(every.communicate(timeout=120)[1].splitlines()) == 2 and every.returncode == 2


# --- training


@pytest.mark.slow
def test_a_recipe_killed_in_training_goes_on_with_another_number(tiny, tmp_path):
    more = ("--lr", "0.001", "--augment", "null")
    commands = {kind: tiny.recipe("classifier", tmp_path / kind, *more) for kind in ("whole", "killed")}
    for command in commands.values():
        command[command.index("--epochs") + 1] = "6"
    whole, killed = (tmp_path / kind / "classifier" / "1234" for kind in commands)
    finish(commands["whole"])
    status, error = kill(commands["killed"], 2, 1, lambda: rows(killed / "log.csv") >= 2)
    assert status == 1 and error.splitlines()[-1].startswith("audiointerp: process 2 of 2 was killed (SIGKILL)")
    finish(commands["killed"], 3)
    logs = [[line.split(",") for line in (each / "log.csv").read_text().splitlines()] for each in (whole, killed)]
    assert logs[1][0] == logs[0][0] and len(logs[1]) == len(logs[0]) == 7
    place = logs[0][0].index("loss")
    for first, second in zip(logs[0][1:], logs[1][1:]):
        assert float(second[place]) == pytest.approx(float(first[place]), rel=1e-3)


@pytest.mark.slow
def test_a_run_that_trains_and_then_explains(root, tmp_path):
    """PIQ's training, its evaluation on clips and mixtures, and its page, by two processes; the same files."""
    for size in (None, 2):
        finish(command_of("run", root, tmp_path / f"out_{size}"), size)
    names = [
        {path.relative_to(tmp_path / f"out_{size}") for path in (tmp_path / f"out_{size}").rglob("*")}
        for size in (None, 2)
    ]
    assert names[1] == names[0]
    finish(command_of("run", root, tmp_path / "out_2"), 2)  # finds everything done


# --- what is refused, by one line and the status 2


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", ""])
def test_numbers_of_processes_that_cannot_be(value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["interpret", "esc10-piq", "x.wav", "-o", "out", f"--devices={value}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--devices: {value!r} is no number of processes; give 1 or more" in line


def test_more_processes_than_a_machine_bears(monkeypatch, capsys):
    """They are refused before one of them is started."""
    monkeypatch.setattr(launching, "_cores", lambda: 2)
    monkeypatch.setattr(launching.subprocess, "Popen", None)
    assert main(["interpret", "esc10-piq", "x.wav", "-o", "out", "--devices", "1000"]) == 2
    assert capsys.readouterr().err == ("audiointerp: --devices 1000 starts 1000 processes on 2 cores; give at most 8\n")


def test_processes_started_twice(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["interpret", "esc10-piq", "x.wav", "-o", "out", "--devices", "2"]) == 2
    assert capsys.readouterr().err == (
        "audiointerp: --devices starts processes, and 2 were started already; leave it out\n"
    )
    assert main(["layers", "esc10-piq"]) == 2
    assert capsys.readouterr().err == "audiointerp: layers runs in one process, and 2 were started; start only one\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, said",
    [
        (["interpret", "esc10-piq", "nothing.wav", "-o", "OUT"], "nothing.wav: no such file or folder"),
        (["run", str(RECIPES / "nmf.yaml"), "--data_folder", "x"], "a run of kind dictionary is made by one process"),
    ],
)
def test_errors_are_told_once(command, said, tmp_path):
    process = start([str(tmp_path / "out") if each == "OUT" else each for each in command], 2)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2 and len(error.splitlines()) == 1 and said in error


# --- merging


def explained(folder: Path, item: str, method: str, seconds: str = "1") -> None:
    """What a process writes of an explanation."""
    path = folder / "audio" / item / f"{method}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{item} {method}")
    row = dict.fromkeys(Manifest(folder).columns, "") | {"item_id": item, "role": "interpretation", "method": method}
    Manifest(folder).add_rows([row | {"path": f"audio/{item}/{method}.wav"}])
    Scores(folder).add_rows([{"item_id": item, "method": method, "seconds": seconds, "source": "=x"}])


def cells(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["item_id"], row["method"], row["source"]) for row in Scores(folder).rows()]


def test_parts_become_one_folder(tmp_path):
    explained(tmp_path, "c", "piq")
    explained(part_folder(tmp_path, 0), "d", "piq")
    explained(part_folder(tmp_path, 0), "b", "piq")
    explained(part_folder(tmp_path, 1), "a", "piq")
    explained(part_folder(tmp_path, 1), "c", "piq", "2")  # is there already
    (part_folder(tmp_path, 1) / "audio" / "a" / ".lime.wav.part").write_text("unfinished")
    merge_parts(tmp_path, {"a": 0, "b": 1, "c": 2, "d": 3})
    assert cells(tmp_path) == [(each, "piq", "=x") for each in "cabd"]
    assert [row["item_id"] for row in Manifest(tmp_path).rows()] == list("cabd")
    assert sorted(each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*.*")) == [
        *(f"audio/{each}/piq.wav" for each in "abcd"),
        "manifest.csv",
        "scores.csv",
    ]


def test_merging_that_is_killed_at_any_change_goes_on(tmp_path):
    from kills import Killed, killed_at_change

    for number in range(1, 100):
        folder = tmp_path / str(number)
        explained(folder, "z", "piq")
        for rank, item in enumerate("ab"):
            explained(part_folder(folder, rank), item, "piq")
        try:
            with killed_at_change(folder, number):
                merge_parts(folder)
        except Killed:
            merge_parts(folder)
            merge_parts(folder)
        else:
            assert number > 10
            return
        assert cells(folder) == [(each, "piq", "=x") for each in "zab"]
        assert len(list(folder.rglob("*.wav"))) == 3 and not (folder / "parts").exists()
    raise AssertionError("merging makes more changes than are tried")


@pytest.mark.parametrize("where", ["a part", "its sounds", "all parts"])
def test_parts_that_are_links_move_nothing_from_elsewhere(where, tmp_path):
    """No process makes links; a folder from somebody else may hold them."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "run"
    kept = elsewhere / {"all parts": "0/audio", "a part": "audio", "its sounds": "."}[where] / "x" / "piq.wav"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    link = folder / {"all parts": "parts", "a part": "parts/0", "its sounds": "parts/0/audio"}[where]
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere, target_is_directory=True)
    if where == "all parts":
        with pytest.raises(ValueError, match="parts: is a link"):
            merge_parts(folder)
    else:
        merge_parts(folder)
        assert not (folder / "parts").exists()
    assert kept.read_bytes() == b"mine"
