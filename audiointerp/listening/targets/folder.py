"""A study as plain files: sounds for any player, an order for each participant, and an answer sheet to fill in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from audiointerp.listening.study import ANSWER_COLUMNS, SCHEMA, Study, Trial
from audiointerp.results.writing import csv_text, write_text

_FIRST = ("session_id", "participant_code", "trial_id", "position", "stimulus_id", "answer")
SHEET_COLUMNS = (*_FIRST, *(name for name in ANSWER_COLUMNS if name not in _FIRST))
ORDER_COLUMNS = ("participant", "page", "trial_id", "kind", "question", "first", "position", "stimulus_id", "file")
ONE_ANSWER = ("ab", "abx", "simulate")
HOW = {
    "mos": "1 (Bad), 2 (Poor), 3 (Fair), 4 (Good) or 5 (Excellent) for each sound",
    "rating": "0 to 100 for each sound",
    "ab": "the stimulus_id of the sound preferred",
    "abx": "the stimulus_id of the sound that is X",
    "simulate": "one of the classes below, as it is spelt there",
}

__all__ = ["ORDER_COLUMNS", "SHEET_COLUMNS", "write_folder"]


def write_folder(study: Study, public: Path, participants: int) -> list[Path]:
    """Writes README.txt, orders.csv and answer_sheet.csv into `public`; returns them.

    The sheet has all columns that `audiointerp listen analyse` reads; the columns to fill in come first.
    """
    paths = [public / name for name in ("README.txt", "orders.csv", "answer_sheet.csv")]
    write_text(paths[0], _readme(study, participants))
    _write(paths[1], ORDER_COLUMNS, _orders(study, participants))
    _write(paths[2], SHEET_COLUMNS, _sheet(study, participants))
    return paths


def _write(path: Path, columns: Iterable[str], rows: Iterable[dict[str, object]]) -> None:
    names = list(columns)
    write_text(path, csv_text([names, *([row.get(name, "") for name in names] for row in rows)]))


def _presented(study: Study, participants: int) -> Iterator[tuple[int, int, Trial, tuple[str, ...]]]:
    trials = {trial.trial_id: trial for trial in study.trials}
    for participant in range(participants):
        for page, shown in enumerate(study.sessions[participant % len(study.sessions)], 1):
            yield participant, page, trials[shown.trial_id], shown.stimuli


def _orders(study: Study, participants: int) -> Iterator[dict[str, object]]:
    for participant, page, trial, stimuli in _presented(study, participants):
        for position, name in enumerate(stimuli, 1):
            yield {
                "participant": participant,
                "page": page,
                "trial_id": trial.trial_id,
                "kind": "practice" if trial.kind == "practice" else "trial",
                "question": trial.prompt,
                "first": study.files[trial.context] if trial.context else "",
                "position": position,
                "stimulus_id": name,
                "file": study.files[name],
            }


def _sheet(study: Study, participants: int) -> Iterator[dict[str, object]]:
    for participant, page, trial, stimuli in _presented(study, participants):
        if trial.kind == "practice":
            continue
        asked = stimuli if study.task not in ONE_ANSWER else stimuli[:1]
        for position, name in enumerate(asked, 1):
            chosen_later = study.task in ("ab", "abx")
            yield {
                "session_id": f"participant_{participant:03d}",
                "trial_id": trial.trial_id,
                "position": "" if chosen_later else position,
                "stimulus_id": "" if chosen_later else name,
                "schema_version": SCHEMA,
                "test_id": study.test_id,
                "task": study.task,
                "page_index": page,
                "sample_rate_hz": study.sample_rate,
            }


def _readme(study: Study, participants: int) -> str:
    choices = sorted({choice for trial in study.trials for choice in trial.choices})
    lines = [
        study.title,
        "",
        study.introduction,
        "",
        f"{study.test_id}: {len(study.files)} sounds in stimuli/, {study.sample_rate} Hz, 16 bits.",
        f"orders.csv       pages for each of {participants} participants: play `first`, then the sounds in the order",
        "                 of `position`, and ask `question`; answers to pages of kind practice do not count",
        "answer_sheet.csv the same pages; fill in the column answer:",
        f"                 {HOW[study.task]}",
        *([f"                 also possible: {', '.join(choices)}"] if choices and study.task == "ab" else []),
        *(
            [f"classes: {', '.join(choices)} (study.json lists the classes of each page)"]
            if study.task == "simulate"
            else []
        ),
        "",
        "To analyse filled sheets: audiointerp listen analyse SHEET --key KEY -o OUT",
        "",
    ]
    return "\n".join(lines)
