"""A study -> files to copy into a webMUSHRA checkout: configs that its parser reads, and the WAVs.

webMUSHRA itself (Schoeffler et al. 2018, https://doi.org/10.5334/jors.187) is not bundled. Under PHP 8 it loses every
session whose first stored page is not of type likert_single_stimulus, and under any PHP version every session with an
ampersand in an answer. Therefore the first page here is of that type, and the only free text is the participant code.
"""

from __future__ import annotations

import html
import logging
import math
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from audiointerp.listening import bs1534
from audiointerp.listening.bs1534 import limits, read_pcm
from audiointerp.listening.levels import write_frames
from audiointerp.listening.study import Presentation, Study, Trial
from audiointerp.listening.targets.yamljs import NOT_WORDS, Row, to_yaml
from audiointerp.results.paths import inside
from audiointerp.results.writing import write_text

logger = logging.getLogger(__name__)

EDGE_SILENCE = 0.06  # seconds; at the end of a sound, the Likert player repeats up to 2048 samples of its beginning

TEMPLATE = Path(__file__).with_name("webmushra.txt")

LEVEL_PAGE = "practice"  # id of a first page on which the volume is set; its answers are not analysed
LEVEL_SOUND = "level"  # the sound of that page
# YAML constants, and names that webMUSHRA or its scoring tools use for their own elements.
RESERVED = NOT_WORDS | {LEVEL_PAGE, LEVEL_SOUND, "reference", "anchor35", "anchor70", "header", "slider"}
LEVEL = "Set the volume of your system so that the sounds are comfortable, and leave it there."
OPINIONS = ("1 Bad", "2 Poor", "3 Fair", "4 Good", "5 Excellent")

# webMUSHRA's page of type mushra has no option for playing every sound, unlike its Likert pages. It runs scripts of its
# `content`; this one listens to the page's player and stops a click on Next as long as a sound was never played.
UNHEARD = """<script>
(function () {
  var page = pageManager.getCurrentPage(), player = page.mushraAudioControl, heard = {};
  player.addEventListener(function (event) {
    if (event.name === 'playReferenceTriggered') heard.reference = true;
    if (event.name === 'playConditionTriggered') heard[event.index] = true;
  });
  function look(event) {
    if (pageManager.getCurrentPage() !== page) return document.removeEventListener('click', look, true);
    if (event.target.closest('#__button_next') === null) return;
    if (Object.keys(heard).length > player.getConditions().length) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    alert('Please play the reference and every condition before you go on.');
  }
  document.addEventListener('click', look, true);
})();
</script>"""

PageConfig = dict[str, Any]

__all__ = ["write_configs"]


def write_configs(study: Study, public: Path, out: Path, anchors: Mapping[str, Mapping[str, str]] = {}) -> list[Path]:
    """Writes `configs/` and README.txt, to be copied into a webMUSHRA checkout.

    `<test_id>.yaml` serves all participants (opinion scores, ratings, ABX): webMUSHRA draws the orders.
    `<test_id>_p00.yaml` and so on, one per session of the study, fix the order of the pages (ratings) and the sounds
    that a participant hears (simulation). Within a page webMUSHRA always draws the order, because in a fixed order the
    hidden reference would come last. Warnings of `limits` are logged and written into the README.

    Args:
        study: a study of opinion scores, ratings against a reference, ABX or simulation. The answer to a simulation is
            stored as the number of the choice in `Trial.choices`, starting at 1.
        public: the folder that holds the study's WAVs, 16-bit PCM.
        out: folder to write; created if needed.
        anchors: trial_id -> the anchors of that page: "anchor35", "anchor70" or another word -> stimulus id.

    Returns:
        The configs, sorted.

    Raises:
        ValueError: for a task that webMUSHRA lacks, a name or a WAV that it cannot read, a rating without a reference,
            or an ABX trial whose X is neither of its two sounds.
    """
    pages = Pages(study, public, anchors)
    _check(pages)
    texts = {f"{study.test_id}{suffix}.yaml": to_yaml(config) for suffix, config in pages.configs().items()}
    warned = limits(study, public, anchors)
    configs = out / "configs"
    _write_sounds(pages, inside(configs, study.test_id))
    for name, text in texts.items():
        write_text(configs / name, text)
    write_text(out / "README.txt", _readme(study, sorted(texts), pages.is_mushra(), warned))
    for line in warned:
        logger.warning("%s: %s", study.test_id, line)
    return [configs / name for name in sorted(texts)]


def _check(pages: Pages) -> None:
    """Raises ValueError if webMUSHRA lacks the task or cannot use a name or a sound."""
    study = pages.study
    if study.task == "ab":
        raise ValueError(
            "task ab: webMUSHRA's paired_comparison asks which sound equals a reference and is not a preference test; "
            "use --target html"
        )
    trials = {trial.trial_id: trial for trial in study.trials}
    if not trials:
        raise ValueError(f"{study.test_id} has no trials; export a run with sounds")
    if unknown := sorted(set(pages.anchors) - set(trials)):
        raise ValueError(f"anchors for {', '.join(unknown)}: {study.test_id} has no such trials")
    sounds = sorted({name for trial in study.trials for name in pages.sounds(trial)})
    for name in (study.test_id, *trials, *sounds):
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in RESERVED:
            raise ValueError(f"{name!r} cannot name a page or a sound of webMUSHRA; use a-z, then a-z, 0-9 and _")
    if missing := [name for name in sounds if name not in study.files or name not in study.seconds]:
        raise ValueError(f"{', '.join(missing)}: not in study.files and study.seconds; list every sound and anchor")
    for trial in study.trials:
        _check_trial(pages, trial)


def _check_trial(pages: Pages, trial: Trial) -> None:
    task = pages.study.task
    if task == "simulate" and len(trial.choices) < 2:
        raise ValueError(f"{trial.trial_id}: task simulate needs two choices or more, not {list(trial.choices)}")
    if not trial.stimuli:
        raise ValueError(f"{trial.trial_id}: no sounds to judge; leave this trial out")
    reference = pages.reference(trial)
    if task in ("rating", "abx") and reference is None:
        raise ValueError(f"{trial.trial_id}: no reference, which webMUSHRA's page needs; use --target html")
    if task == "rating" and trial.kind == "trial" and not pages.has_hidden_reference(trial):
        raise ValueError(
            f"{trial.trial_id}: no clean reference among its sounds, which webMUSHRA needs for ratings from 0 to 100; "
            "use --target html, or task mos"
        )
    sounds = {name: read_pcm(pages.wav(name)) for name in pages.sounds(trial)}
    shapes = {name: (*samples.shape, rate) for name, (samples, rate) in sounds.items()}
    if task in ("rating", "abx") and (odd := [name for name in shapes if shapes[name] != shapes[str(reference)]]):
        raise ValueError(
            f"{trial.trial_id}: {', '.join(odd)} differ from the reference in length, channels or rate, which "
            "webMUSHRA refuses; export the run again"
        )


def _write_sounds(pages: Pages, folder: Path) -> None:
    """Copies the WAVs that the pages play; sounds of Likert pages get silence before and after them."""
    folder.mkdir(parents=True, exist_ok=True)
    silence = EDGE_SILENCE if pages.study.task in ("mos", "simulate") else 0.0
    for name in sorted({name for trial in pages.study.trials for name in pages.sounds(trial)}):
        _copy_wav(pages.wav(name), folder / f"{name}.wav", silence)
    if level := pages.level_sound():
        _copy_wav(pages.wav(level), folder / f"{LEVEL_SOUND}.wav", EDGE_SILENCE)


def _copy_wav(source: Path, target: Path, silence: float) -> None:
    """Copies the samples of a WAV, without other chunks, with `silence` seconds of silence before and after them."""
    samples, rate = read_pcm(source)
    frames = math.ceil(silence * rate)
    write_frames(target, np.pad(samples, ((frames, frames), (0, 0))), rate)


def _readme(study: Study, configs: list[str], mushra: bool, warned: list[str]) -> str:
    kinds = {"mos": "test of opinion scores", "simulate": "test of class recognition", "abx": "comparison (ABX)"}
    urls = f"http://localhost:8000/?config={configs[0]}"
    if len(configs) > 1:
        urls += f"\n   and so on, a file for each participant in turn; the last is {configs[-1]}."
    return string.Template(TEMPLATE.read_text("utf-8")).substitute(
        title=study.title or "Listening test",
        test_id=study.test_id,
        kind=kinds.get(study.task, "MUSHRA test" if mushra else "multi-stimulus rating"),
        urls=urls,
        notes="".join(["\nPlease note\n", *(f"- {line}\n" for line in warned)]) if warned else "",
    )


@dataclass(frozen=True)
class Pages:
    """Builds the configs of a study whose WAVs are in `public`; `anchors` as in `webmushra.write_configs`."""

    study: Study
    public: Path
    anchors: bs1534.Anchors

    def configs(self) -> dict[str, PageConfig]:
        """Suffix of the config's file name -> its content."""
        found: dict[str, PageConfig] = {}
        if self.study.task != "simulate":  # one config for all would present an item under every method
            trials = [trial for trial in self.study.trials if trial.kind != "practice"]
            found[""] = self._config([["random", *(self._page(each, tuple(sorted(each.stimuli))) for each in trials)]])
        if self.study.task in ("rating", "simulate"):
            digits = max(2, len(str(len(self.study.sessions) - 1)))
            for number, session in enumerate(self.study.sessions):
                found[f"_p{number:0{digits}d}"] = self._config(list(self._session(session)))
        return found

    def sounds(self, trial: Trial) -> list[str]:
        """Stimulus ids of all sounds that a trial plays."""
        context = [trial.context] if trial.context and self.study.task != "simulate" else []
        return [*context, *trial.stimuli, *self.anchors.get(trial.trial_id, {}).values()]

    def wav(self, stimulus_id: str) -> Path:
        """Path of a sound's WAV."""
        return inside(self.public, self.study.files[stimulus_id])

    def is_mushra(self) -> bool:
        """Whether every trial has the hidden reference and both anchors."""
        trials = [trial for trial in self.study.trials if trial.kind == "trial"]
        return self.study.task == "rating" and all(bs1534.is_mushra(self._rated[trial.trial_id]) for trial in trials)

    def reference(self, trial: Trial) -> str | None:
        """The sound with which a rating or ABX trial compares its sounds; a catch trial's only sound is its own."""
        alone = trial.kind != "trial" and len(trial.stimuli) == 1
        return trial.stimuli[0] if alone and (trial.kind == "catch" or trial.context is None) else trial.context

    def has_hidden_reference(self, trial: Trial) -> bool:
        """Whether the context of a rating trial is a reference, that is, also hidden among the rated sounds."""
        hidden = bs1534.hidden_reference(self.study, trial, self.public, self.anchors)
        return trial.trial_id in self.anchors or hidden is not None

    def level_sound(self) -> str | None:
        """The sound of a level page before the first trial; None if that trial is a likert_single_stimulus page."""
        first = self.study.trials[0]
        if self.study.task == "simulate" or (self.study.task == "mos" and first.kind == "practice"):
            return None
        return first.context or first.stimuli[0]

    def _config(self, pages: list[Any]) -> PageConfig:
        practice = [each for each in self.study.trials if each.kind == "practice"]
        consent = _head("consent", "Consent", "<p>Answers are stored without your name.</p>", "consent")
        finish = {
            **_head("finish", "Thank you", "<p>Type your code (letters and digits), then press Send.</p>"),
            "popupContent": "Saved. You may close this window.",
            "showResults": False,  # True would show participants the names of the sounds
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

    def _session(self, session: Iterable[Presentation]) -> Iterable[PageConfig]:
        for shown in session:
            trial = self.study.trial(shown.trial_id)
            if trial.kind != "practice":
                yield self._page(trial, shown.stimuli)

    def _page(self, trial: Trial, stimuli: tuple[str, ...]) -> PageConfig:
        pages = {"mos": self._opinions, "simulate": self._classes, "rating": self._rating, "abx": self._abx}
        return pages[self.study.task](trial, stimuli)

    def _level(self) -> PageConfig:
        head = _head("likert_single_stimulus", "Level", f"<p>{LEVEL}</p>", LEVEL_PAGE)
        return _likert(head, {LEVEL_SOUND: self._path(LEVEL_SOUND)}, ("The level is comfortable", "I cannot set it"))

    def _opinions(self, trial: Trial, stimuli: tuple[str, ...]) -> PageConfig:
        """A page with the mixture and all methods; in practice trials a page with one sound."""
        practice = trial.kind == "practice"
        kind = "likert_single_stimulus" if practice else "likert_multi_stimulus"
        play = f"<audio controls src='{self._path(trial.context)}'></audio>" if trial.context else ""
        content = (
            f"<p>{LEVEL}</p>" * practice + _paragraphs(trial.prompt) + f"<p>The whole sound: {play}</p>" * bool(play)
        )
        head = _head(kind, "Practice" if practice else "Rate each sound", content, trial.trial_id)
        return _likert(head, self._paths(stimuli), OPINIONS)

    def _classes(self, trial: Trial, stimuli: tuple[str, ...]) -> PageConfig:
        """A page that asks for the class; answers are numbers, as some characters of class names break the upload."""
        practice = trial.kind == "practice"
        title = "Practice" if practice else "Which class is this?"
        content = f"<p>{LEVEL}</p>" * practice + _paragraphs(trial.prompt)
        return _likert(
            _head("likert_single_stimulus", title, content, trial.trial_id), self._paths(stimuli), trial.choices
        )

    def _rating(self, trial: Trial, stimuli: tuple[str, ...]) -> PageConfig:
        rated, reference = self._rated[trial.trial_id], str(self.reference(trial))
        if trial.stimuli == (reference,):
            rated = {reference: reference}
        place = {name: number for number, name in enumerate(stimuli)}
        ordered = sorted(rated.items(), key=lambda item: place.get(item[1], len(place)))
        hidden = "<p>At least one sound is identical to the reference: give it 100.</p>" * (trial.kind != "catch")
        title = "MUSHRA" if bs1534.is_mushra(rated) else "Rate each sound"
        too_much = len(rated) > bs1534.MAX_SOUNDS or self.study.seconds[reference] > bs1534.MAX_SECONDS
        return {
            **_head("mushra", title, _paragraphs(trial.prompt) + hidden + UNHEARD, trial.trial_id),
            "showWaveform": False,
            "enableLooping": True,
            "strict": not too_much,  # beyond the limits, strict mode blocks the page with a pop-up
            "randomize": True,  # without it, the hidden reference always comes last
            "showConditionNames": False,
            "reference": self._path(reference),
            "createAnchor35": False,
            "createAnchor70": False,
            "stimuli": {key: self._path(name) for key, name in ordered},
        }

    def _abx(self, trial: Trial, stimuli: tuple[str, ...]) -> PageConfig:
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
        """trial_id -> `bs1534.conditions`; cached, because every session has every trial."""
        trials = self.study.trials
        return {each.trial_id: bs1534.conditions(self.study, each, self.public, self.anchors) for each in trials}

    def _not_x(self, trial: Trial) -> list[str]:
        """A list of the sound that differs from X; webMUSHRA adds X itself as the second sound."""
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


def _head(kind: str, title: str, content: str, name: str = "") -> PageConfig:
    named = {"id": name} if name else {}
    return {"type": kind, **named, "name": title, "content": content}


def _likert(head: PageConfig, stimuli: dict[str, str], labels: Iterable[str]) -> PageConfig:
    response = [Row(value=number, label=html.escape(label)) for number, label in enumerate(labels, 1)]
    return {**head, "mustRate": True, "mustPlayback": "ended", "stimuli": stimuli, "response": response}


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(line.strip())}</p>" for line in text.splitlines() if line.strip())
