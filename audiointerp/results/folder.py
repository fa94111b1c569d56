"""recipe.yaml and run.json of a run folder, and the rules on which command may write into an existing folder."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from audiointerp.results.writing import write_json, write_text

LOCK = ".lock"  # locked by the operating system, which unlocks it when a process ends, however it ends
_LOCKS: dict[Path, BaseFileLock] = {}
PACKAGES = ("audiointerp", "torch", "soundfile", "soxr", "numpy", "scipy", "hyperpyyaml")

__all__ = ["abandon", "describe_results", "finish", "prepare_output", "start", "write_info"]


def start(folder: Path, recipe_text: str, scored: bool = True, **facts: Any) -> dict[str, Any]:
    """Opens a run folder, or resumes in the folder of an earlier run of the same recipe.

    Args:
        folder: the run folder.
        recipe_text: the recipe, resolved.
        scored: whether the run explains clips, so that it is incomplete without scores.csv.
        facts: further entries of run.json.

    Raises:
        ValueError: if the folder holds results of another recipe or of other data, or another command writes into it.
    """
    import torch

    from audiointerp.results.parts import merge_parts  # reads tables with pandas, which a server of tests lacks

    path = folder / "recipe.yaml"
    # A run without results may be restarted with a changed recipe.
    if path.is_file() and not _alike(path.read_text("utf-8"), recipe_text) and _has_results(folder):
        raise ValueError(
            f"{folder}: holds a run of another recipe (its recipe.yaml differs); choose another output folder or seed"
        )
    before = _read_info(folder)
    if before.get("data_hash") != facts.get("data_hash") and _has_results(folder):
        raise ValueError(f"{folder}: the data changed since this run began; choose another output folder or seed")
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    info = {
        **facts,
        "scored": scored,
        "command": _command(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "git": _git_state(),
        "threads": torch.get_num_threads(),
        "recipe_hash": hashlib.sha256(recipe_text.encode()).hexdigest()[:12],
        "start": _now(),
        "end": None,
        "finished": False,
    }
    info["start"] = before.get("start", info["start"])
    # run.json first: with it, the folder of a process that was killed here is known to be of an unfinished run.
    write_info(folder, info)
    write_text(path, recipe_text)
    merge_parts(folder)
    return info


def finish(folder: Path, info: dict[str, Any], **results: Any) -> None:
    """Marks the run as finished and keeps its results."""
    write_info(folder, {**info, **results, "end": _now(), "finished": True})
    if lock := _LOCKS.pop(folder.resolve(), None):
        lock.release()


def abandon(folder: Path) -> None:
    """Removes what `start` wrote, for a command that turns out to have nothing to do, if the folder holds no more."""
    if lock := _LOCKS.pop(folder.resolve(), None):
        lock.release()
    if {each.name for each in folder.iterdir()} <= {"run.json", "recipe.yaml", LOCK}:
        for name in ("run.json", "recipe.yaml", LOCK):
            (folder / name).unlink(missing_ok=True)


def describe_results(folder: Path) -> str:
    """The results in a run's run.json, as one line."""
    results = _read_info(folder).get("results", {})
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in results.items()
    )


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Writes run.json."""
    write_json(folder / "run.json", info)


def prepare_output(folder: Path, force: bool) -> Path:
    """Creates an output folder; a folder that is not empty is refused without force.

    Without force, a command may also resume in the folder of an unfinished run of the same command, or write into the
    folder of an unfinished run without results.

    Raises:
        ValueError: if the path is a file, or the folder is not empty and none of these cases applies.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give a folder for the output")
    if folder.is_dir() and any(map(_counts, folder.iterdir())) and not force and not _may_go_on(folder):
        raise ValueError(f"{folder}: is not empty; choose another folder, or give --force to add to it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _counts(path: Path) -> bool:
    """Whether a file makes its folder count as not empty: not a lock, and not a file that a killed process left."""
    return path.name != LOCK and not (path.name.startswith(".") and path.name.endswith(".part"))


def _lock(folder: Path) -> None:
    """Reserves the folder for this process until `finish` or the end of the process.

    Raises:
        ValueError: if another process has reserved it.
    """
    whole = folder.resolve()
    if whole in _LOCKS:
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{folder}: another process is writing into it; wait for its end or choose another folder"
        ) from None
    _LOCKS[whole] = lock


def _alike(first: str, second: str) -> bool:
    """Whether two recipes are equal except for names that have moved since."""
    if first == second:
        return True
    from audiointerp.recipe.moved import names_of_today

    return names_of_today(first) == names_of_today(second)


def _has_results(folder: Path) -> bool:
    """Whether a run is finished or has scores, a checkpoint or a model, not to be mixed with another recipe's."""
    from audiointerp.results.parts import has_scores

    scored = has_scores(folder) or (folder / "concept.csv").is_file() or any(map(_judges, folder.glob("*.csv")))
    trained = (folder / "checkpoints" / "last.ckpt").is_file() or (folder / "best").is_dir()
    return bool(_read_info(folder).get("finished")) or scored or trained


def _judges(path: Path) -> bool:
    """Whether a table has rows about methods or dictionaries, unlike those of the sounds to explain."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        columns, row = file.readline(1 << 16).strip().split(b","), file.readline(1 << 16)
    return bool({b"method", b"dictionary"} & set(columns)) and bool(row.strip())


def _may_go_on(folder: Path) -> bool:
    """Whether the folder is of an unfinished run: of the same command, or of any command if it has no results.

    A run that explains clips is unfinished until its page is written, which is last.
    """
    info = _read_info(folder)
    done = info.get("finished") and ((folder / "report.html").is_file() or not info.get("scored"))
    return bool(info) and not done and (_same_command(info.get("command")) or not _has_results(folder))


def _read_info(folder: Path) -> dict[str, Any]:
    """run.json; empty if there is none or it cannot be read."""
    try:
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "audiointerp"), *sys.argv[1:]])


def _same_command(before: Any) -> bool:
    """Whether a command is this one; the number of processes may differ."""
    try:
        words = [shlex.split(each) for each in (str(before), _command())]
    except ValueError:  # run.json was changed
        return False
    first, second = (
        [word for place, word in enumerate(each) if "--devices" not in each[max(0, place - 1) : place + 1]]
        for each in words
    )
    without = [[word for word in each if not word.startswith("--devices=")] for each in (first, second)]
    return without[0] == without[1]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _git_state() -> str | None:
    """Commit of the working folder's checkout, with a + if it has changes; None outside one."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")
