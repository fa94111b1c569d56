"""Writes the two folders of an export: `public/`, which participants may see, and `private/`, which they must not.

`public/` is written under another name and then renamed. In `private/`, the secret and the keys of earlier tests, which
may have been answered already, are never deleted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from audiointerp.listening import levels
from audiointerp.listening.making import blinding
from audiointerp.listening.making.design import Design
from audiointerp.listening.making.manifest import Sound
from audiointerp.listening.making.preparation import Plan
from audiointerp.listening.study import Study
from audiointerp.results.paths import inside
from audiointerp.results.shapes import read_json
from audiointerp.results.writing import write_text

STIMULI = "stimuli"
PAGE = "listening_test.html"
SETTINGS = "settings.json"
PACKAGES = ("audiointerp", "soxr", "pyloudnorm", "numpy", "scipy", "soundfile")

__all__ = ["PAGE", "STIMULI", "Meaning", "Private", "about_run", "held_test", "pack"]


@dataclass(frozen=True)
class Meaning:
    """The sound and role behind a blind name; `copy` distinguishes copies of the same sound."""

    sound: Sound
    role: str
    method: str
    copy: str = ""


@dataclass(frozen=True)
class Private:
    """Data of a test that only the experimenter may see.

    Attributes:
        meant: stimulus id -> its meaning.
        plan, design: how the sounds are prepared; the trials.
        options: options of the export.
        abouts: run.json of each run.
        warnings: one line each.
    """

    meant: Mapping[str, Meaning]
    plan: Plan
    design: Design
    options: Mapping[str, Any]
    abouts: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]


def about_run(folder: Path) -> dict[str, Any]:
    """Contents of run.json, empty if there is none; ValueError if it is not a JSON object."""
    path = folder / "run.json"
    if not path.is_file():
        return {}
    return read_json(path)


def held_test(out: Path, force: bool = False) -> str | None:
    """Name of the test that a folder holds; None if a test may be written into it.

    Raises:
        ValueError: if it is a file, or holds something else and `force` is false.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; name a folder to write")
    if (out / "private" / "study.json").is_file():
        return Study.read(out / "private" / "study.json").test_id
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there - {"private"} and not (out / "private" / "secret.hex").is_file() and not force:
        raise ValueError(f"{out}: is not empty and holds no listening test; choose another folder, or give --force")
    return None


def pack(out: Path, held: str | None, study: Study, private: Private) -> tuple[Path, ...]:
    """Writes `public/` and `private/`; returns the final paths of the files that the target wrote."""
    aside, public = out / ".public.part", out / "public"
    if aside.exists():
        shutil.rmtree(aside)
    try:
        private.plan.write(aside / STIMULI)
        write_text(aside / "study.json", study.to_json())
        files = [path.relative_to(aside) for path in TARGETS[private.options["target"]](study, aside, private)]
        _write_private(out / "private", held, study, private, aside / STIMULI)
        if public.exists():
            shutil.rmtree(public)
        os.replace(aside, public)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return tuple(public / path for path in files)


def _html(study: Study, public: Path, private: Private) -> list[Path]:
    from audiointerp.listening.targets.page import write_page

    return [write_page(study, public, public / PAGE)]


def _webmushra(study: Study, public: Path, private: Private) -> list[Path]:
    from audiointerp.listening.targets.webmushra import write_configs

    return write_configs(study, public, public / "webmushra", private.design.anchors)


def _folder(study: Study, public: Path, private: Private) -> list[Path]:
    from audiointerp.listening.targets.folder import write_folder

    return write_folder(study, public, private.options["participants"])


TARGETS: dict[str, Callable[[Study, Path, Private], list[Path]]] = {
    "html": _html,
    "webmushra": _webmushra,
    "folder": _folder,
}


def _write_private(folder: Path, held: str | None, study: Study, private: Private, stimuli: Path) -> None:
    if held is not None and held != study.test_id:
        before = inside(folder, held)
        before.mkdir(exist_ok=True)
        # study.json last: as long as it is there, the folder is known to hold the earlier test, also after a kill here.
        for name in ("key.csv", SETTINGS, "study.json"):
            if (folder / name).exists():
                os.replace(folder / name, before / name)
    blinding.write_key(folder / "key.csv", _key_rows(private, stimuli))
    text = json.dumps(_settings(private), indent=1, sort_keys=True, ensure_ascii=False)
    write_text(folder / SETTINGS, text)
    # Written last, because this file defines which test the folder holds.
    write_text(folder / "study.json", study.to_json())


def _key_rows(private: Private, stimuli: Path) -> list[dict[str, object]]:
    rows = []
    # In the key, true_class of a catch sound is its expected answer.
    answers = private.design.catch_answers
    expected = {
        trial.stimuli[0]: answers[trial.trial_id] for trial in private.design.catch if trial.trial_id in answers
    }
    for name, meaning in private.meant.items():
        sound, done = meaning.sound, private.plan.prepared[name]
        rows.append(
            {
                "stimulus_id": name,
                "item_id": sound.item_id,
                "role": meaning.role,
                "method": meaning.method,
                "group": sound.group,
                "pred_class": sound.pred_class,
                "true_class": expected.get(name, sound.true_class),
                "source": sound.source,
                "sha256_in": sound.sha256,
                "sha256_out": levels.sha256(stimuli / f"{name}.wav"),
                "gain_db": f"{done.gain_db:.4f}",
                "lufs_in": f"{done.lufs_in:.4f}",
                "lufs_out": f"{done.lufs_out:.4f}",
                "pad_frames": done.pad_frames,
                "silent": str(done.silent).lower(),
            }
        )
    return rows


def _settings(private: Private) -> dict[str, Any]:
    """How the test was made, for the report; equal exports give equal settings."""
    names = ("name", "seed", "recipe_hash", "versions")
    methods = list(dict.fromkeys(each.method for each in private.meant.values() if each.role == "interpretation"))
    runs = [{name: about[name] for name in names if name in about} for about in private.abouts]
    return {
        "options": private.options,
        "runs": runs,
        "target_lufs": private.plan.target_lufs,
        "lowered_db": round(private.plan.lowered_db, 4),
        "items": private.design.items,
        "order": {"items": list(dict.fromkeys(private.design.items.values())), "methods": methods},
        "catch_answers": private.design.catch_answers,
        "gold_answers": private.design.gold_answers,
        "anchors": private.design.anchors,
        "warnings": private.warnings,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
