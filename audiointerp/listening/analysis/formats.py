"""Result files -> rows of ANSWER_COLUMNS, as text, with the file and line of each row.

Formats: the standalone page's CSV and JSON, the folder target's answer sheet, webMUSHRA's CSVs (mushra, lms, lss,
paired_comparison, bs1116), its session payload as JSON lines, and pymushra's CSV. Answers are not checked here: an
empty or invalid answer becomes a row, too.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from audiointerp.listening.study import ANSWER_COLUMNS, QUESTION
from audiointerp.results.writing import restored

logger = logging.getLogger(__name__)

ROW_COLUMNS = (*ANSWER_COLUMNS, "file", "line", "part", "inferred")
TYPES = {
    "mushra": "rating",
    "likert_multi_stimulus": "mos",
    "likert_single_stimulus": "mos",
    "paired_comparison": "abx",
    "bs1116": "bs1116",
}
_MISSING = re.compile(r"\s*(na|nan|null|none|undefined|n/a|-)?\s*", re.IGNORECASE)

__all__ = ["ROW_COLUMNS", "is_missing", "read_rows"]


def read_rows(path: str | Path) -> pd.DataFrame:
    """Rows of one result file, ROW_COLUMNS, all text; empty if the file has no answers.

    Answers about the listener (`q_hearing`, ...) are in columns of their own, after ROW_COLUMNS.

    `line` is the line number in the file, starting at 1; `part` distinguishes the sessions of one JSON-lines file;
    `inferred` is "yes" if the file names no session and a new session was assumed wherever a question recurs.

    Raises:
        ValueError: if the file cannot be read, has none of the formats, or has rows of different widths.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name a file of answers") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save it again as CSV UTF-8") from None
    start = text.lstrip()[:1]
    rows = _json_rows(path, text) if start in ("{", "[") else _csv_rows(path, text)
    rows = [{**row, "file": path} for row in rows]
    asked = dict.fromkeys(name for row in rows for name in row if name.startswith(QUESTION))
    return pd.DataFrame({name: [str(row.get(name, "")) for row in rows] for name in (*ROW_COLUMNS, *asked)}, dtype=str)


def is_missing(text: str) -> bool:
    """Whether an answer is missing: empty, NA, null and the like.

    >>> is_missing(" NA "), is_missing("3.0")
    (True, False)
    """
    return _MISSING.fullmatch(text) is not None


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        header = [_unquoted(name) for name in next(reader, [])]
        lines = [(reader.line_num, [_unquoted(cell) for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    odd = [str(number) for number, row in lines if len(row) != len(header)]
    if odd:
        raise ValueError(
            f"{path}: the header has {len(header)} columns, but line {', '.join(odd[:8])} {'...' * (len(odd) > 8)} "
            "another number; the questionnaire was changed in between: split the file and give each part its header"
        )
    records = [{**dict(zip(header, row)), "line": number} for number, row in lines]
    try:
        if "session_test_id" in header:
            return _webmushra(path, header, records)
        if {"wm_id", "responses_stimulus"} <= set(header) or {"wm_id", "responses_reference"} <= set(header):
            return list(chain.from_iterable(map(_pymushra, records)))
    except KeyError as error:
        raise ValueError(
            f"{path}: no column {error.args[0]}; give the file as webMUSHRA or pymushra wrote it"
        ) from None
    if {"trial_id", "stimulus_id", "answer"} <= set(header):
        names = (*ANSWER_COLUMNS, "line", *(name for name in header if name.startswith(QUESTION)))
        return [{name: record.get(name, "") for name in names} for record in records]
    found = ", ".join(filter(None, header[:8])) or "none"
    raise ValueError(
        f"{path}: no known format of answers (columns: {found}); docs/listening_tests.md lists the readable formats"
    )


def _unquoted(cell: str) -> str:
    """A cell without surrounding blanks, without Excel's ="..." and without the apostrophe before a formula."""
    cell = restored(cell.strip())
    return cell[2:-1] if cell.startswith('="') and cell.endswith('"') else cell


def _webmushra(path: Path, header: list[str], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the CSVs that webMUSHRA's write.php appends to."""
    if any(re.fullmatch(r"stimuli_rating[2-9]", name) for name in header):
        raise ValueError(f"{path}: several scales per sound (stimuli_rating1, 2...); keep one scale per file")
    rows: list[dict[str, Any]] = []
    for record in records:
        common = {
            "test_id": record["session_test_id"],
            "session_id": record.get("session_uuid", ""),
            "participant_code": record.get("participant_code", ""),
            "trial_id": record.get("trial_id", ""),
            "answer_ms": record.get("rating_time", record.get("choice_time", "")),
            "line": record["line"],
        }
        if "rating_score" in header:
            rows.append(_row(common, "rating", record["rating_stimulus"], record["rating_score"]))
        elif "stimuli" in header:
            score = record.get("stimuli_rating", record.get("stimuli_rating1", ""))
            rows.append(_row(common, "mos", record["stimuli"], score))
        elif "choice_answer" in header:
            rows.append(
                _comparison(common, *(record[f"choice_{name}"] for name in ("reference", "non_reference", "answer")))
            )
        elif "rating_reference_score" in header:
            for name in ("reference", "non_reference"):
                rows.append(_row(common, "bs1116", record[f"rating_{name}"], record[f"rating_{name}_score"]))
        else:
            raise ValueError(f"{path}: a webMUSHRA file of an unknown page type (columns: {', '.join(header)})")
    return _with_sessions(rows)


def _with_sessions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sets the session in rows without one (lms.csv, lss.csv): the participant code, else a new one per repetition."""
    seen: set[tuple[str, str, str]] = set()
    run = 1
    for row in rows:
        if row["session_id"]:
            continue
        if row["participant_code"]:
            row["session_id"] = row["participant_code"]
            continue
        asked = row["test_id"], row["trial_id"], row["stimulus_id"]
        if asked in seen:
            seen, run = set(), run + 1
        seen.add(asked)
        row |= {"session_id": f"inferred_{run}", "inferred": "yes"}
    return rows


def _row(common: dict[str, Any], task: str, stimulus: object, answer: object) -> dict[str, Any]:
    return {**common, "task": task, "stimulus_id": _text(stimulus), "answer": _text(answer)}


def _comparison(common: dict[str, Any], reference: object, other: object, answer: object) -> dict[str, Any]:
    """A row of webMUSHRA's paired comparison, which is an ABX trial; "undecided" counts as no answer."""
    chosen = {"correct": reference, "incorrect": other}.get(_text(answer))
    return _row(common, "abx", chosen, "" if chosen is None else "chosen")


def _json_rows(path: Path, text: str) -> list[dict[str, Any]]:
    """The standalone page's JSON, one session payload, or payloads line by line."""
    try:
        found: list[tuple[int, Any]] = [(1, json.loads(text))]
    except RecursionError:
        raise ValueError(f"{path}: not JSON (nested too deeply)") from None
    except ValueError:
        found = list(_json_lines(path, text))
    rows: list[dict[str, Any]] = []
    for line, data in found:
        for each in data if isinstance(data, list) else [data]:
            rows += _json_object(path, line, each)
    return rows


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines) or number == 1:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
            logger.warning("%s, line %d: incomplete, left out", path, number)


def _json_object(path: Path, line: int, data: Any) -> list[dict[str, Any]]:
    if isinstance(data, dict):
        if isinstance(data.get("session"), dict):  # a collector may wrap the session
            data = data["session"]
        if "testId" in data and isinstance(data.get("trials"), list):
            return _payload(path, line, data)
        rows = next((data[name] for name in ("rows", "answers") if isinstance(data.get(name), list)), None)
        if rows is None and {"trial_id", "stimulus_id", "answer"} <= data.keys():
            rows = [data]
        if rows is not None and all(isinstance(row, dict) for row in rows):
            names = [name for name in ANSWER_COLUMNS if name not in ("position", "page_index")]
            head = {name: data[name] for name in names if name in data}
            said = data.get("questionnaire")
            if isinstance(said, dict):
                head |= {f"{QUESTION}{name}": answer for name, answer in said.items()}
            return [_plain({**head, **row}, line) for row in rows]
    raise ValueError(f"{path}, line {line}: is JSON, but neither answers of a page nor a webMUSHRA session")


def _plain(row: dict[str, Any], line: int) -> dict[str, Any]:
    names = (*ANSWER_COLUMNS, *(name for name in row if name.startswith(QUESTION)))
    return {**{name: _text(row.get(name)) for name in names}, "line": line, "part": str(line)}


def _payload(path: Path, line: int, session: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of webMUSHRA's session payload."""
    try:
        person = session.get("participant") or {}
        asked = dict(zip(person.get("name") or [], person.get("response") or []))
        common = {
            "test_id": _text(session["testId"]),
            "session_id": _text(session.get("uuid")) or _text(asked.get("participant_code")) or f"line_{line}",
            "participant_code": _text(asked.get("participant_code")),
            "line": line,
            "part": str(line),
        }
        rows: list[dict[str, Any]] = []
        for trial in session["trials"]:
            at = {**common, "trial_id": _text(trial["id"])}
            rows += chain.from_iterable(_response(at, trial["type"], each) for each in trial["responses"])
        return rows
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}, line {line}: a webMUSHRA session without {error}") from None


def _response(common: dict[str, Any], kind: str, response: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Rows of one response of webMUSHRA; page types without a judgement of a sound give no rows."""
    common = {**common, "answer_ms": _text(response.get("time"))}
    task = TYPES.get(kind, "")
    if task == "abx":
        return [_comparison(common, *(response[name] for name in ("reference", "nonReference", "answer")))]
    if task == "bs1116":
        names = ("reference", "nonReference")
        return [_row(common, task, response[name], response[f"{name}Score"]) for name in names]
    if task:
        return [_row(common, task, response["stimulus"], response["score" if task == "rating" else "stimulusRating"])]
    return []


def _pymushra(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    response = {name.removeprefix("responses_"): value for name, value in record.items() if name != "line"}
    common = {
        "test_id": record.get("wm_testId", ""),
        "session_id": record.get("questionaire_uuid", ""),
        "participant_code": record.get("questionaire_participant_code", ""),
        "trial_id": record["wm_id"],
        "started_utc": record.get("wm_date", ""),
        "line": record["line"],
    }
    return _response(common, record.get("wm_type", ""), response)


def _text(value: object) -> str:
    """A value as the text of a cell; ratings may be text, numbers or lists with one element."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    # Halves of surrogate pairs, which JSON can hold, cannot be written to a file again; they become "?".
    text = "" if value is None else str(value).strip().encode("utf-8", "replace").decode()
    inside = re.fullmatch(r"\[\s*['\"]?([^,'\"]*)['\"]?\s*\]", text)
    return inside[1].strip() if inside else text
