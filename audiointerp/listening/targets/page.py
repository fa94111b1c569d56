"""A study -> one HTML file that runs the test from disk, without a server, and saves answers as CSV or JSON."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from audiointerp.listening.study import ANSWER_COLUMNS, NO_PREFERENCE, SCHEMA, Presentation, Study, Trial
from audiointerp.listening.texts import read_texts
from audiointerp.results.paths import inside, why_not_inside
from audiointerp.results.templating import fill
from audiointerp.results.writing import write_text

LEVEL = "level"  # the sound with which listeners set the volume, if the study has no practice trial
_TEMPLATES = Path(__file__).parent
_SCRIPTS = ("session.js", "player.js", "sounds.js", "trials.js", "checks.js", "sending.js", "page.js")
_JUDGED = {"ab": 2, "abx": 2, "simulate": 1}  # judged sounds on a page, for tasks that fix this number

__all__ = ["write_page"]


def write_page(study: Study, public: Path, out_file: Path, embed_limit_mb: float = 50.0) -> Path:
    """Writes one HTML file with its style, its script and, up to a limit, its sounds.

    The same study gives the same bytes. The page contains neither the methods, nor the true classes, nor which trials
    are catch trials.

    Args:
        study: the study to run.
        public: folder to which the paths in `study.files` are relative.
        out_file: path of the page; its folder is created, and an older page is replaced.
        embed_limit_mb: the WAVs are embedded if they have at most this many megabytes (1e6 bytes) in total. Otherwise
            the page reads them from their folder; page and folder must then be moved together, as the page states.

    Returns:
        `out_file`.

    Raises:
        ValueError: if a sound is missing or outside `public`, or a session does not fit the task.
    """
    if not embed_limit_mb >= 0:
        raise ValueError(f"embed_limit_mb is {embed_limit_mb}; give the megabytes to embed at most, or 0 for none")
    public, out_file = Path(public), Path(out_file)
    _check(study)
    sounds = {name: _locate(study, name, public) for name in _sounds(study)}
    embed = sum(path.stat().st_size for path in sounds.values()) <= embed_limit_mb * 1e6
    level = _level_sound(study)
    data = {
        **_for_listeners(study),
        "level": level or LEVEL,
        "sources": {} if embed else {name: _link(path, out_file) for name, path in sounds.items()},
    }
    audio = {name: _base64(path.read_bytes()) for name, path in sounds.items()} if embed else {}
    if level is None:
        audio[LEVEL] = _base64(_tone(study.sample_rate))
    page = _render(study, data, audio, folders=sorted({Path(study.files[name]).parts[0] for name in data["sources"]}))
    return write_text(out_file, page)


def _check(study: Study) -> None:
    """Raises ValueError for a study with a page that a participant could not answer."""
    if not study.sessions or not all(study.sessions):
        raise ValueError(f"{study.test_id}: a session without a page; a study needs sessions, and each at least one")
    trials = {trial.trial_id: trial for trial in study.trials}
    for shown in {shown for session in study.sessions for shown in session}:
        trial = trials.get(shown.trial_id)
        if trial is None:
            raise ValueError(f"{study.test_id}: a session shows {shown.trial_id}, which is no trial of the study")
        _check_shown(study, trial, shown)


def _check_shown(study: Study, trial: Trial, shown: Presentation) -> None:
    strangers = set(shown.stimuli) - set(trial.stimuli)
    if strangers:
        raise ValueError(f"{trial.trial_id}: a session shows {min(strangers)}, which is no stimulus of that trial")
    wanted = _JUDGED.get(study.task, max(1, len(shown.stimuli)))
    if len(shown.stimuli) != wanted:
        raise ValueError(
            f"{trial.trial_id}: a page of task {study.task} needs {wanted} sounds, not {len(shown.stimuli)}"
        )
    if study.task == "simulate" and len(trial.choices) < 2:
        raise ValueError(f"{trial.trial_id}: a page of task simulate needs two choices or more, not {trial.choices}")
    if study.task == "abx" and trial.context is None:
        raise ValueError(f"{trial.trial_id}: a page of task abx needs X as its context")
    if study.task == "ab" and set(trial.choices) - {NO_PREFERENCE}:
        raise ValueError(f"{trial.trial_id}: choices of task ab are none or {NO_PREFERENCE!r}, not {trial.choices}")


def _sounds(study: Study) -> list[str]:
    """Ids of the sounds that the file plays, sorted; in simulate without the mixtures."""
    names = {name for session in study.sessions for shown in session for name in shown.stimuli}
    if study.task != "simulate":
        shown = {shown.trial_id for session in study.sessions for shown in session}
        names |= {trial.context for trial in study.trials if trial.context and trial.trial_id in shown}
    return sorted(names | {name for name in (_level_sound(study),) if name})


def _level_sound(study: Study) -> str | None:
    """The practice sound with which listeners set the volume; None without a practice trial."""
    for trial in study.trials:
        if trial.kind == "practice":
            return trial.context if trial.context and study.task != "simulate" else trial.stimuli[0]
    return None


def _locate(study: Study, name: str, public: Path) -> Path:
    if name not in study.files or name not in study.seconds:
        raise ValueError(f"{study.test_id}: no file or duration is given for the sound {name}; export the study again")
    if reason := why_not_inside(public, study.files[name]):
        raise ValueError(f"{name}: {study.files[name]} {reason}; only files inside {public} can be part of the page")
    path = inside(public, study.files[name])
    if not path.is_file():
        raise ValueError(f"{name}: no file {path}; export the study again")
    return path


def _for_listeners(study: Study) -> dict[str, Any]:
    """The study as the page's script needs it; catch trials are not marked."""
    trials = {
        trial.trial_id: {
            "practice": trial.kind == "practice",
            "prompt": trial.prompt,
            "context": None if study.task == "simulate" else trial.context,
            "context_is": trial.context_is,
            "choices": trial.choices,
        }
        for trial in study.trials
    }
    sessions = [[{"trial_id": shown.trial_id, "stimuli": shown.stimuli} for shown in each] for each in study.sessions]
    return {
        "schema": SCHEMA,
        "columns": ANSWER_COLUMNS,
        "fingerprint": hashlib.sha256(study.to_json().encode()).hexdigest()[:16],
        **{name: getattr(study, name) for name in ("test_id", "task", "title", "seed", "sample_rate")},
        "words": _texts(study)["words"],
        "questions": [question["name"] for question in _texts(study)["questions"]],
        "checks": _texts(study)["checks"],
        "trials": trials,
        "sessions": sessions,
        "seconds": {name: study.seconds[name] for name in _sounds(study)},
    }


def _render(study: Study, data: dict[str, Any], audio: dict[str, str], folders: list[str]) -> str:
    script = "\n".join((_TEMPLATES / name).read_text("utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    style = (_TEMPLATES / "page.css").read_text("utf-8")
    session = study.sessions[0]
    texts = _texts(study)
    words = texts["words"]
    practice = sum(study.trial(shown.trial_id).kind == "practice" for shown in session)
    values = {
        "study": study,
        "paragraphs": [part.strip() for part in study.introduction.split("\n\n") if part.strip()],
        "texts": texts,
        "w": words,
        "consent": [part.strip() for part in texts["consent"].split("\n\n") if part.strip()],
        "facts": _facts(words, len(session) - practice, practice, _minutes(study)),
        "folders": folders,
        "script": script,
        "style": style,
        "script_hash": _csp_hash(script),
        "style_hash": _csp_hash(style),
        "data": json.dumps(data, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c"),
        "audio": audio,
    }
    return fill("listening/targets/page.html", values)


def _texts(study: Study) -> dict[str, Any]:
    """The texts of the page; English for studies without texts."""
    return {**read_texts().of_page(), "checks": [], **study.texts}


def _facts(words: Mapping[str, str], pages: int, practice: int, minutes: int) -> list[str]:
    """What listeners should know before they begin: pages, minutes, headphones."""

    def counted(key: str, count: int) -> str:
        return words[key if count == 1 else f"{key}s"].replace("{n}", str(count))

    how_many = counted("fact_page", pages)
    if practice:
        how_many += " " + words["fact_practice"].replace("{n}", str(practice))
    return [how_many, counted("fact_minute", minutes), words["fact_headphones"]]


def _minutes(study: Study) -> int:
    """Estimated minutes of a session, rounded up: 1.5 times the duration of each sound, and 12 s per page to decide."""
    session = study.sessions[0]
    sounds = [name for shown in session for name in shown.stimuli]
    if study.task != "simulate":
        sounds += [context for shown in session if (context := study.trial(shown.trial_id).context)]
    checks = sum({"headphones": 50, "level": 15}[name] for name in study.texts.get("checks", ()))
    return max(1, math.ceil((1.5 * sum(study.seconds[name] for name in sounds) + 12 * len(session) + checks) / 60))


def _tone(sample_rate: int) -> bytes:
    """Two seconds of a soft chord at -23 dB below full scale (root mean square), as a WAV file."""
    time = np.arange(2 * sample_rate) / sample_rate
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (330.0, 440.0, 554.4)) * np.sin(np.pi * time / 2) ** 2
    chord *= 10 ** (-23 / 20) / np.sqrt(np.mean(chord**2))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))
        out.writeframes(np.round(chord * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _link(path: Path, out_file: Path) -> str:
    """Relative URL from the page to a sound."""
    return quote(Path(os.path.relpath(path.resolve(), out_file.parent.resolve())).as_posix())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _csp_hash(text: str) -> str:
    """The hash by which a content security policy allows an inline script or style."""
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"
