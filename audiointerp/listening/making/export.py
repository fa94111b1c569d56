"""Run folders -> a listening test: `public/` for listeners, `private/` with the key for the experimenter.

The same runs, options and secret (in private/) give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from audiointerp.listening.bs1534 import lowpass
from audiointerp.listening.making import blinding, packing
from audiointerp.listening.making.design import Design, build
from audiointerp.listening.making.groups import Material, gather
from audiointerp.listening.making.manifest import Sound
from audiointerp.listening.making.orders import sessions
from audiointerp.listening.making.preparation import Bandwidth, Loudness, Plan, Settings, Stimulus, prepare
from audiointerp.listening.making.selection import select
from audiointerp.listening.study import Study, Task
from audiointerp.listening.texts import CHECKS, Texts, read_texts
from audiointerp.results.shapes import is_unicode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ExportTarget = Literal["html", "webmushra", "folder"]
# Name, lowest and highest number of an option.
LIMITS = (("practice", 0, 100), ("catch", 0, 1000), ("gold", 0, 1000), ("participants", 1, 10_000))

__all__ = ["ExportTarget", "Options", "Summary", "export_study"]


@dataclass(frozen=True)
class Options:
    """Options of a listening test.

    Attributes:
        target: "html": one page; "webmushra": files to copy into a checkout; "folder": WAVs and tables.
        task: see `study.Study`.
        items, methods: names, or the number of items to draw; None for all.
        question: question of every trial; "{class}" is replaced by the predicted class. None takes the task's own.
        title, introduction: texts of the first page; None takes those of `texts`.
        texts: a YAML file with language, consent, questions and words, see `texts.read_texts`; None for English.
        checks: checks before the first page, "headphones" and "level" (html).
        seed: seed of all random draws.
        rate: sample rate of the sounds written, in Hz.
        loudness, bandwidth, pad: see `preparation.Settings`.
        practice: number of practice trials, unless the run has sounds of role practice; 0 for none, even then.
        practice_repeat: practise on items of the test instead of leaving items out of it.
        catch: number of catch trials, unless the run has sounds of role catch.
        gold: number of gold items (P.808), whose answer is known, see `design.build`.
        anchors: whether ratings against a reference have low-pass anchors and the mixture.
        ties: whether "no preference" is a possible answer (ab).
        participants: number of participants for whom the target "folder" writes orders and answer sheets.

    Raises:
        ValueError: for a value that an option does not accept.
    """

    target: ExportTarget = "html"
    task: Task = "mos"
    items: Sequence[str] | int | None = None
    methods: Sequence[str] | None = None
    question: str | None = None
    title: str | None = None
    introduction: str | None = None
    texts: str | Path | None = None
    checks: Sequence[str] = ()
    seed: int = 0
    rate: int = 48000
    loudness: Loudness = "match"
    bandwidth: Bandwidth = "none"
    pad: bool = False
    practice: int = 1
    practice_repeat: bool = False
    catch: int = 0
    gold: int = 0
    anchors: bool = True
    ties: bool = False
    participants: int = 24

    def __post_init__(self) -> None:
        choices = {"target": ExportTarget, "task": Task, "loudness": Loudness, "bandwidth": Bandwidth}
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(get_args(kind))}")
        for name in ("title", "introduction", "question"):
            if not is_unicode(getattr(self, name)):
                raise ValueError(f"{name} holds bytes that are no UTF-8 text; write it in UTF-8")
        unknown = [name for name in self.checks if name not in CHECKS]
        if unknown or (self.checks and self.target != "html"):
            what = f"checks holds {unknown[0]!r}" if unknown else f"checks with target {self.target}"
            raise ValueError(f"{what}; the page (--target html) has the checks {', '.join(CHECKS)}")
        if self.practice_repeat and self.task == "simulate":
            raise ValueError("practice_repeat with task simulate: practice would give answers of the test away")
        if self.gold and self.target == "webmushra":
            raise ValueError("gold items need the target html or folder; webMUSHRA refuses sounds of unequal length")
        for name, least, most in LIMITS:
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} to {most}")

    def of_sounds(self) -> str:
        """The options that change sounds or trials, as text; target and participants are left out."""
        values = asdict(self)
        left_out = ("target", "participants", "texts")  # of the texts their content counts, not their file's name
        texts = read_texts(self.texts)
        values["wording"] = {**texts.of_page(), "question": texts.question, "classes": texts.classes}
        return json.dumps({name: values[name] for name in values if name not in left_out}, default=str)


@dataclass(frozen=True)
class Summary:
    """Result of an export.

    Attributes:
        public, private: folder for listeners; folder for the experimenter.
        files: files that the target wrote; the first is the one to open.
        stimuli, trials, sessions: numbers of each; practice, catch and gold trials not counted.
        practice, checks: numbers of practice trials, and of catch and gold trials.
        target_lufs: loudness of every sound; None if levels are unchanged.
        lowered_db: amount by which the whole test was lowered because of peaks.
        silent: sounds of the run that are silent.
        warnings: one line each.
    """

    test_id: str
    task: Task
    public: Path
    private: Path
    files: tuple[Path, ...]
    stimuli: int
    trials: int
    sessions: int
    target_lufs: float | None
    lowered_db: float = 0.0
    silent: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    practice: int = 0
    checks: int = 0


@dataclass
class _Names:
    """Blind names given so far; see `design.Named`."""

    secret: bytes
    test_id: str
    clips: dict[str, Stimulus] = field(default_factory=dict)
    meant: dict[str, packing.Meaning] = field(default_factory=dict)

    def __call__(
        self, sound: Sound, *, role: str = "", method: str = "", copy: str = "", cutoff_hz: float = 0.0
    ) -> str:
        meaning = packing.Meaning(sound, role or sound.role, method or sound.method, copy)
        unique = f"{meaning.method}|{copy}" if copy else meaning.method
        name = blinding.stimulus_name(self.secret, self.test_id, sound.item_id, meaning.role, unique)
        if self.meant.setdefault(name, meaning) != meaning:
            raise ValueError("two sounds got the same blind name, which is very rare; choose another seed")
        change = partial(_lowpassed, cutoff_hz=cutoff_hz) if cutoff_hz else None
        self.clips.setdefault(name, Stimulus(name, sound, change, dither=bool(copy)))
        return name


def _lowpassed(waveform: NDArray[np.float32], sample_rate: int, cutoff_hz: float) -> NDArray[np.float32]:
    return lowpass(waveform, sample_rate, cutoff_hz)


def export_study(
    runs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    force: bool = False,
    secret: str | Path | None = None,
    **options: Any,
) -> Summary:
    """Makes a listening test of one run, or of several runs as its groups.

    Args:
        runs: a folder that holds manifest.csv and the WAVs it lists, and optionally run.json, which names the classes.
            For several folders see `groups.gather`.
        out: folder to write. An existing secret in its private/ is reused, so that the same call gives the same bytes.
        secret: secret.hex of another test, whose blind names this one then has, so that the same runs and options give
            the same files; None takes the one in `out`, or draws one. The orders depend on the seed alone.
        force: write into a folder that holds other files. Private files of another test there are moved to
            private/<its test_id>, because its answers cannot be read without them.
        options: fields of `Options`.

    Raises:
        ListeningError: naming every problem of the run, of the selection or of the sounds.
        ValueError: for an invalid option value, or an `out` that holds something else.
    """
    wanted = Options(**options)
    out = Path(out)
    held = packing.held_test(out, force)
    wording = read_texts(wanted.texts)
    material = gather([runs] if isinstance(runs, (str, Path)) else runs, wording.classes)
    own = blinding.load_secret(out / "private" / "secret.hex", secret)
    named = _Names(own, blinding.study_name(own, material.digest, wanted.of_sounds()))
    if held not in (None, named.test_id) and not force:
        raise ValueError(f"{out}: holds {held}, another test or other options; choose another folder, or give --force")
    design = _design(wanted, material, named, wording)
    plan = prepare(list(named.clips.values()), Settings(wanted.rate, wanted.loudness, wanted.bandwidth, wanted.pad))
    study = _study(wanted, named, design, plan, wording)
    warnings = (*design.warnings, *plan.warnings)
    if len(design.trials) == 1:
        warnings += ("the test has one trial, which tells little: export a run of several recordings or methods",)
    given = {**asdict(wanted), "texts": str(wanted.texts) if wanted.texts else None}
    private = packing.Private(named.meant, plan, design, given, material.abouts, warnings)
    files = packing.pack(out, held, study, private)
    silent = tuple(sorted({plan.clips[name].sound.source for name, done in plan.prepared.items() if done.silent}))
    counts = len(study.files), len(design.trials), len(study.sessions)
    folders, level = (out / "public", out / "private"), (plan.target_lufs, plan.lowered_db)
    more = len(design.practice), len(design.catch)
    return Summary(study.test_id, study.task, *folders, files, *counts, *level, silent, warnings, *more)


def _design(options: Options, material: Material, named: _Names, wording: Texts) -> Design:
    selection = select(
        *(material.sounds, options.items, options.methods),
        seed=options.seed,
        practice=options.practice,
        repeat=options.practice_repeat,
        pairs=options.task in ("ab", "abx"),
    )
    names = ("question", "seed", "catch", "gold", "anchors", "ties")
    asked = {name: getattr(options, name) for name in names}
    return build(options.task, selection, named, labels=material.labels, wording=wording, **asked)


def _study(options: Options, named: _Names, design: Design, plan: Plan, wording: Texts) -> Study:
    names, asked = sorted(plan.prepared), (design.trials, design.practice, design.catch)
    methods = {name: meaning.method for name, meaning in named.meant.items()}
    meanings = {
        name: "|".join((each.sound.item_id, each.role, each.method, each.copy)) for name, each in named.meant.items()
    }
    return Study(
        test_id=named.test_id,
        task=options.task,
        title=wording.title if options.title is None else options.title,
        introduction=wording.introduction[options.task] if options.introduction is None else options.introduction,
        seed=options.seed,
        sample_rate=options.rate,
        trials=(*design.practice, *design.trials, *design.catch),
        sessions=sessions(options.task, *asked, seed=options.seed, methods=methods, meanings=meanings),
        files={name: f"{packing.STIMULI}/{name}.wav" for name in names},
        seconds={name: plan.prepared[name].frames / options.rate for name in names},
        texts={**wording.of_page(), "checks": list(options.checks)},
    )
