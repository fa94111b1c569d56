"""A study -> what to copy into a webMUSHRA checkout: configs that its parser reads, and the WAVs.

webMUSHRA itself (Schoeffler et al. 2018, https://doi.org/10.5334/jors.187) is not bundled.
"""

from __future__ import annotations

import logging
import math
import os
import re
import string
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from audiointerp.listening.bs1534 import limits, lowpass, read_pcm
from audiointerp.listening.levels import MTIME
from audiointerp.listening.study import Study, Trial
from audiointerp.listening.targets.yamljs import NOT_WORDS, to_yaml
from audiointerp.listening.webmushra_pages import LEVEL_PAGE, LEVEL_SOUND, Pages

logger = logging.getLogger(__name__)

EDGE_SILENCE = 0.06  # seconds; the Likert player, at a sound's end, repeats up to 2048 samples of its beginning
TEMPLATE = Path(__file__).with_name("webmushra.txt")
# Besides constants: what webMUSHRA and the tools that score it call elements of their own.
RESERVED = NOT_WORDS | {LEVEL_PAGE, LEVEL_SOUND, "reference", "anchor35", "anchor70", "header", "slider"}

__all__ = ["LEVEL_PAGE", "limits", "lowpass", "write_configs"]


def write_configs(study: Study, public: Path, out: Path, anchors: Mapping[str, Mapping[str, str]] = {}) -> list[Path]:
    """Writes `configs/` and README.txt, to be copied into a webMUSHRA checkout.

    `<test_id>.yaml` is for everybody (opinion scores, ratings, ABX): webMUSHRA draws the orders. `<test_id>_p00.yaml`
    and so on, one for each of `study.sessions`, fix the order of the pages (ratings) and which sounds a participant
    hears (simulation). Inside a page the order is always drawn: undrawn, the hidden reference would come last. What
    `limits` finds is logged and said in the README.

    Args:
        study: of opinion scores, ratings against a reference, ABX or simulation. What a simulation's listener chose is
            stored as its place in `Trial.choices`, 1 the first.
        public: the folder that holds the study's WAVs, 16-bit PCM.
        out: where to write; created.
        anchors: trial_id -> the anchors of that page: "anchor35", "anchor70" or another word -> stimulus id.

    Returns:
        The configs, sorted.

    Raises:
        ValueError: for a task that webMUSHRA lacks, a name or a WAV that it cannot take, a rating without a reference,
            an ABX whose X is neither of two sounds.
    """
    pages = Pages(study, public, anchors)
    _check(pages)
    texts = {f"{study.test_id}{suffix}.yaml": to_yaml(config) for suffix, config in pages.configs().items()}
    warned = limits(study, public, anchors)
    configs = out / "configs"
    _write_sounds(pages, configs / study.test_id)
    for name, text in texts.items():
        (configs / name).write_bytes(text.encode())
    (out / "README.txt").write_bytes(_readme(study, sorted(texts), pages.is_mushra(), warned).encode())
    for line in warned:
        logger.warning("%s: %s", study.test_id, line)
    return [configs / name for name in sorted(texts)]


def _check(pages: Pages) -> None:
    """ValueError if webMUSHRA lacks the task or could not take a name or a sound."""
    study = pages.study
    if study.task == "ab":
        raise ValueError(
            "task ab: webMUSHRA's paired_comparison asks which sound equals a reference, it is not a preference test; "
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
            f"{trial.trial_id}: no clean reference among its sounds; webMUSHRA rates from 0 to 100 only against one: "
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
    """Copies the WAVs that the pages play; sounds of Likert pages with silence at head and tail."""
    folder.mkdir(parents=True, exist_ok=True)
    silence = EDGE_SILENCE if pages.study.task in ("mos", "simulate") else 0.0
    for name in sorted({name for trial in pages.study.trials for name in pages.sounds(trial)}):
        _copy_wav(pages.wav(name), folder / f"{name}.wav", silence)
    if level := pages.level_sound():
        _copy_wav(pages.wav(level), folder / f"{LEVEL_SOUND}.wav", EDGE_SILENCE)


def _copy_wav(source: Path, target: Path, silence: float) -> None:
    """The samples of a WAV, with silence in seconds before and after them, and nothing else of it."""
    samples, rate = read_pcm(source)
    frames = math.ceil(silence * rate)
    with wave.open(str(target), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.pad(samples, ((frames, frames), (0, 0))).tobytes())
    os.utime(target, (MTIME, MTIME))


def _readme(study: Study, configs: list[str], mushra: bool, warned: list[str]) -> str:
    kinds = {"mos": "test of opinion scores", "simulate": "test of which class is heard", "abx": "comparison (ABX)"}
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
