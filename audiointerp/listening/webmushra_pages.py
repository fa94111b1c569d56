"""The pages of a study as webMUSHRA configures them.

Under PHP 8 webMUSHRA loses every session whose first stored page is no likert_single_stimulus, and under any PHP one
with an ampersand in an answer: here the first page is such a page, and nothing is asked as free text but the code.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audiointerp.listening import bs1534
from audiointerp.listening.study import Presentation, Study, Trial
from audiointerp.listening.targets.yamljs import Row

LEVEL_PAGE = "practice"  # id of a first page that sets the level; its answers mean nothing
LEVEL_SOUND = "level"  # what is played there
LEVEL = "Set the volume of your system so that the sounds are comfortable, and leave it there."
OPINIONS = ("1 Bad", "2 Poor", "3 Fair", "4 Good", "5 Excellent")

Page = dict[str, Any]

__all__ = ["LEVEL_PAGE", "LEVEL_SOUND", "Pages"]


@dataclass(frozen=True)
class Pages:
    """Configs of a study whose WAVs lie in `public`; `anchors` as in `webmushra.write_configs`."""

    study: Study
    public: Path
    anchors: bs1534.Anchors

    def configs(self) -> dict[str, Page]:
        """What each config says, by what stands in its name after the test's."""
        found: dict[str, Page] = {}
        if self.study.task != "simulate":  # there, everybody would hear an item under every method
            trials = [trial for trial in self.study.trials if trial.kind != "practice"]
            found[""] = self._config([["random", *(self._page(each, tuple(sorted(each.stimuli))) for each in trials)]])
        if self.study.task in ("rating", "simulate"):
            digits = max(2, len(str(len(self.study.sessions) - 1)))
            for number, session in enumerate(self.study.sessions):
                found[f"_p{number:0{digits}d}"] = self._config(list(self._session(session)))
        return found

    def sounds(self, trial: Trial) -> list[str]:
        """Stimulus ids of all that a trial plays."""
        context = [trial.context] if trial.context and self.study.task != "simulate" else []
        return [*context, *trial.stimuli, *self.anchors.get(trial.trial_id, {}).values()]

    def wav(self, stimulus_id: str) -> Path:
        """The study's file."""
        return self.public / self.study.files[stimulus_id]

    def is_mushra(self) -> bool:
        """Whether every trial has the hidden reference and both anchors."""
        trials = [trial for trial in self.study.trials if trial.kind == "trial"]
        return self.study.task == "rating" and all(bs1534.is_mushra(self._rated[trial.trial_id]) for trial in trials)

    def reference(self, trial: Trial) -> str | None:
        """What the sounds of a rating or an ABX trial are compared with: a catch trial's one sound with itself."""
        alone = trial.kind != "trial" and len(trial.stimuli) == 1
        return trial.stimuli[0] if alone and (trial.kind == "catch" or trial.context is None) else trial.context

    def has_hidden_reference(self, trial: Trial) -> bool:
        """Whether a rating's context is hidden among its sounds, so that it is what they should sound like."""
        hidden = bs1534.hidden_reference(self.study, trial, self.public, self.anchors)
        return trial.trial_id in self.anchors or hidden is not None

    def level_sound(self) -> str | None:
        """What the level is set with, before the first page, unless that is a page of single sounds anyway."""
        first = self.study.trials[0]
        if self.study.task == "simulate" or (self.study.task == "mos" and first.kind == "practice"):
            return None
        return first.context or first.stimuli[0]

    def _config(self, pages: list[Any]) -> Page:
        practice = [each for each in self.study.trials if each.kind == "practice"]
        consent = _head("consent", "Consent", "<p>Answers are stored without your name.</p>", "consent")
        finish = {
            **_head("finish", "Thank you", "<p>Type your code (letters and digits), then press Send.</p>"),
            "popupContent": "Saved. You may close this window.",
            "showResults": False,  # would show the participant what the sounds are called
            "showErrors": True,
            "writeResults": True,
            "questionnaire": [Row(type="text", label="Participant code", name="participant_code")],
        }
        return {
            "testname": self.study.title or "Listening test",
            "testId": self.study.test_id,
            "bufferSize": 2048,
            "stopOnErrors": True,
            "showButtonPreviousPage": False,
            "language": "en",
            "remoteService": "service/write.php",
            "pages": [
                _head("generic", "Welcome", _paragraphs(self.study.introduction or "Wear headphones."), "intro"),
                {**consent, "mustConsent": True},
                *([self._level()] if self.level_sound() else []),
                *(self._page(trial, trial.stimuli) for trial in practice),
                *pages,
                finish,
            ],
        }

    def _session(self, session: Iterable[Presentation]) -> Iterable[Page]:
        for shown in session:
            trial = self.study.trial(shown.trial_id)
            if trial.kind != "practice":
                yield self._page(trial, shown.stimuli)

    def _page(self, trial: Trial, stimuli: tuple[str, ...]) -> Page:
        pages = {"mos": self._opinions, "simulate": self._classes, "rating": self._rating, "abx": self._abx}
        return pages[self.study.task](trial, stimuli)

    def _level(self) -> Page:
        head = _head("likert_single_stimulus", "Level", f"<p>{LEVEL}</p>", LEVEL_PAGE)
        return _likert(head, {LEVEL_SOUND: self._path(LEVEL_SOUND)}, ("The level is comfortable", "I cannot set it"))

    def _opinions(self, trial: Trial, stimuli: tuple[str, ...]) -> Page:
        """All methods beside the mixture on a page; in practice a sound a page."""
        practice = trial.kind == "practice"
        kind = "likert_single_stimulus" if practice else "likert_multi_stimulus"
        play = f"<audio controls src='{self._path(trial.context)}'></audio>" if trial.context else ""
        content = (
            f"<p>{LEVEL}</p>" * practice + _paragraphs(trial.prompt) + f"<p>The whole sound: {play}</p>" * bool(play)
        )
        head = _head(kind, "Practice" if practice else "Rate each sound", content, trial.trial_id)
        return _likert(head, self._paths(stimuli), OPINIONS)

    def _classes(self, trial: Trial, stimuli: tuple[str, ...]) -> Page:
        """The answer is stored as a choice's number: names of classes may hold what the upload would break."""
        practice = trial.kind == "practice"
        title = "Practice" if practice else "Which class is this?"
        content = f"<p>{LEVEL}</p>" * practice + _paragraphs(trial.prompt)
        return _likert(
            _head("likert_single_stimulus", title, content, trial.trial_id), self._paths(stimuli), trial.choices
        )

    def _rating(self, trial: Trial, stimuli: tuple[str, ...]) -> Page:
        rated, reference = self._rated[trial.trial_id], str(self.reference(trial))
        if trial.stimuli == (reference,):
            rated = {reference: reference}
        place = {name: number for number, name in enumerate(stimuli)}
        ordered = sorted(rated.items(), key=lambda item: place.get(item[1], len(place)))
        hidden = "<p>At least one sound is identical to the reference: give it 100.</p>" * (trial.kind != "catch")
        title = "MUSHRA" if bs1534.is_mushra(rated) else "Rate each sound"
        too_much = len(rated) > bs1534.MAX_SOUNDS or self.study.seconds[reference] > bs1534.MAX_SECONDS
        return {
            **_head("mushra", title, _paragraphs(trial.prompt) + hidden, trial.trial_id),
            "showWaveform": False,
            "enableLooping": True,
            "strict": not too_much,  # a pop-up would bar the page
            "randomize": True,  # if not, the hidden reference always comes last
            "showConditionNames": False,
            "reference": self._path(reference),
            "createAnchor35": False,
            "createAnchor70": False,
            "stimuli": {key: self._path(name) for key, name in ordered},
        }

    def _abx(self, trial: Trial, stimuli: tuple[str, ...]) -> Page:
        return {
            **_head(
                "paired_comparison", "Which sound equals the reference?", _paragraphs(trial.prompt), trial.trial_id
            ),
            "showWaveform": False,
            "enableLooping": True,
            "reference": self._path(str(trial.context)),
            "stimuli": self._paths(self._not_x(trial)),
        }

    @cached_property
    def _rated(self) -> dict[str, dict[str, str]]:
        """trial_id -> what is rated beside the hidden reference; read once, as every session has every trial."""
        trials = self.study.trials
        return {each.trial_id: bs1534.conditions(self.study, each, self.public, self.anchors) for each in trials}

    def _not_x(self, trial: Trial) -> list[str]:
        """The one of two sounds that X is not; webMUSHRA plays X itself as the other."""
        if len(trial.stimuli) != 2 or trial.context is None:
            raise ValueError(f"{trial.trial_id}: ABX needs X and two sounds; use --target html")
        x = trial.context
        same = [name for name in trial.stimuli if name == x] or [
            name for name in trial.stimuli if bs1534.same_sound(self.wav(name), self.wav(x))
        ]
        if not same:
            raise ValueError(f"{trial.trial_id}: X is neither of the two sounds; use --target html")
        return [name for name in trial.stimuli if name != same[0]]

    def _paths(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._path(name) for name in names}

    def _path(self, name: str) -> str:
        return f"configs/{self.study.test_id}/{name}.wav"


def _head(kind: str, title: str, content: str, name: str = "") -> Page:
    named = {"id": name} if name else {}
    return {"type": kind, **named, "name": title, "content": content}


def _likert(head: Page, stimuli: dict[str, str], labels: Iterable[str]) -> Page:
    response = [Row(value=number, label=html.escape(label)) for number, label in enumerate(labels, 1)]
    return {**head, "mustRate": True, "mustPlayback": "ended", "stimuli": stimuli, "response": response}


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(line.strip())}</p>" for line in text.splitlines() if line.strip())
