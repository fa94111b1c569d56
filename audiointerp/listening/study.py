"""A listening test: trials over blind sounds, and the orders in which sessions present them.

A `Study` contains neither the method that made a sound nor the true class, so it may be shown to participants. The key
(`KEY_COLUMNS`) maps blind names to methods and classes and stays with the experimenter.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from audiointerp.results.paths import why_not_inside
from audiointerp.results.shapes import misshapen

Task = Literal["mos", "ab", "abx", "simulate", "rating"]
TrialKind = Literal["trial", "practice", "catch"]
SCHEMA = "audiointerp-listening-1"
SCALES = {"mos": (1.0, 5.0), "rating": (0.0, 100.0)}  # lowest and highest answer of tasks that judge each sound
CANNOT_TELL, NO_PREFERENCE = "cannot tell", "no preference"  # choices of simulate and of ab
KEY_COLUMNS = (
    *("stimulus_id", "item_id", "role", "method", "group", "pred_class", "true_class", "source"),
    *("sha256_in", "sha256_out", "gain_db", "lufs_in", "lufs_out", "pad_frames", "silent"),
)
ANSWER_COLUMNS = (
    *("schema_version", "test_id", "session_id", "participant_code", "task", "trial_id", "stimulus_id", "position"),
    *("page_index", "answer", "answer_ms", "heard_fraction", "n_plays", "started_utc", "submitted_utc"),
    *("user_agent", "sample_rate_hz", "transducer", "n_away", "away_ms", "headphone_check", "level_check"),
)
QUESTION = "q_"  # columns of answers about the listener begin with it: q_hearing

_TRIAL = {
    **dict.fromkeys(("trial_id", "kind", "prompt"), str),
    "context": (str, None),
    "context_is?": str,
    "stimuli": [str],
    "choices": [str],
}
SHAPE = {
    **dict.fromkeys(("schema", "test_id", "task", "title", "introduction"), str),
    **{"seed": int, "sample_rate": int, "files": {str: str}, "seconds": {str: float}},
    "texts?": {
        **{"language?": str, "consent?": str, "consent_tick?": str, "words?": {str: str}, "checks?": [str]},
        "questions?": [{"name": str, "ask": str, "answers": {str: str}}],
    },
    **{"trials": [_TRIAL], "sessions": [[{"trial_id": str, "stimuli": [str]}]]},
}

__all__ = [
    "ANSWER_COLUMNS",
    "CANNOT_TELL",
    "KEY_COLUMNS",
    "NO_PREFERENCE",
    "QUESTION",
    "SCALES",
    "SCHEMA",
    "Presentation",
    "Study",
    "Task",
    "Trial",
    "TrialKind",
]


@dataclass(frozen=True)
class Trial:
    """One page of the test.

    Attributes:
        trial_id: `t_` and a number or word, a letter first; unique in the study.
        kind: "practice" trials are not analysed; a "catch" trial has an answer that any attentive listener gives.
        prompt: the question, such as "How well does each sound explain the decision DOG?".
        context: stimulus id of the sound to hear first (the mixture; for ABX it is X; for "rating" the reference), or
            None.
        stimuli: ids of the sounds judged (mos, rating: all of them; ab, abx: two; simulate: candidates, of which each
            session plays one).
        context_is: role of the context where the page must say it: "mixture" or "reference"; empty in older studies.
        choices: possible answers (simulate: class names and "cannot tell"; ab: may hold "no preference"); empty where
            the task has a scale.
    """

    trial_id: str
    kind: TrialKind
    prompt: str
    context: str | None
    stimuli: tuple[str, ...]
    choices: tuple[str, ...] = ()
    context_is: str = ""


@dataclass(frozen=True)
class Presentation:
    """A trial as one session presents it: its sounds in the order shown."""

    trial_id: str
    stimuli: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A listening test, without its key.

    Attributes:
        test_id: `lt_` and eight characters.
        task: the task of all its trials.
            mos: opinion score 1 to 5 of each sound; rating: 0 to 100 of each; ab: which of two is preferred;
            abx: which of two is X; simulate: which class the sound belongs to.
        title, introduction: texts of the first page.
        seed: seed of the orders.
        sample_rate: sample rate of every sound, in Hz.
        trials: all trials, practice trials first.
        sessions: participant p gets `sessions[p % len(sessions)]`, practice trials first.
        files: stimulus id -> path of its WAV relative to the folder that holds the study.
        seconds: stimulus id -> duration in seconds.
        texts: language, consent, questions, words and checks of the page, see `texts.Texts.of_page`; empty in studies
            of earlier versions, whose page is in English.
    """

    test_id: str
    task: Task
    title: str
    introduction: str
    seed: int
    sample_rate: int
    trials: tuple[Trial, ...]
    sessions: tuple[tuple[Presentation, ...], ...]
    files: dict[str, str]
    seconds: dict[str, float]
    texts: dict[str, Any] = field(default_factory=dict)

    def trial(self, trial_id: str) -> Trial:
        """The trial with that id; KeyError if there is none."""
        return {each.trial_id: each for each in self.trials}[trial_id]

    def takes(self, trial_id: str, stimulus_id: str, answer: Any) -> bool:
        """Whether the page of a trial can give an answer for a sound ("" where no sound is preferred)."""
        trial = self.trial(trial_id)
        if self.task in SCALES:
            low, high = SCALES[self.task]
            is_number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
            return stimulus_id in trial.stimuli and is_number and low <= answer <= high
        if self.task == "ab" and answer == NO_PREFERENCE:
            return stimulus_id == "" and bool(trial.choices)
        answers = {"ab": ("preferred",), "abx": ("A", "B")}.get(self.task, trial.choices)
        return stimulus_id in trial.stimuli and answer in answers

    def to_json(self) -> str:
        """The study as JSON text, deterministic."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Study:
        """Reads a study that `to_json` wrote; ValueError for any other text."""
        try:
            data: dict[str, Any] = json.loads(text)
            if problem := misshapen(data, SHAPE):
                raise ValueError(problem)
            if data.pop("schema") != SCHEMA or data["task"] not in get_args(Task):
                raise ValueError("another schema")
            data["trials"] = tuple(
                Trial(**{**each, "stimuli": tuple(each["stimuli"]), "choices": tuple(each["choices"])})
                for each in data["trials"]
            )
            data["sessions"] = tuple(
                tuple(Presentation(each["trial_id"], tuple(each["stimuli"])) for each in session)
                for session in data["sessions"]
            )
            study = cls(**data)
            for name in (study.test_id, *(name for name in study.files.values() if name != "")):
                if not isinstance(name, str) or why_not_inside(".", name):
                    raise ValueError(f"{name!r} is no name of a test or of a file in its folder")
            return study
        except RecursionError:
            raise ValueError(f"not a study of {SCHEMA} (nested too deeply)") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a study of {SCHEMA} ({' '.join(str(error).split())})") from None

    @classmethod
    def read(cls, path: str | Path) -> Study:
        """Reads study.json; ValueError, naming the file, if it cannot be used."""
        try:
            return cls.from_json(Path(path).read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: {error}") from None
